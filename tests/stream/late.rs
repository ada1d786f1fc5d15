//! Who comes late.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{Hall, ROOM};
use crate::support::{
    server::Plan,
    shop::{CORAL, SCARF, TAN, TOTE},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_late_is_told_what_was_explained_and_what_comes_next_as_who_was_there_all_along() {
    let hall = Hall::open(Plan::default()).await;
    let (mut early, mut anchor) = (hall.socket("early").await, hall.anchor().await);
    let plan = json!({ "products": [SCARF, TOTE], "planned_seconds": { SCARF: 120, TOTE: 60 } });
    hall.put_shelf(&plan).await;
    let began = anchor.ok("pin", json!({ "product": SCARF })).await["event"]["at"].as_i64().expect("a time");

    let mut late = hall.socket("late").await;
    let next = hall.shop.snapshot(&hall.server).await["next"].clone();
    assert_eq!(next, json!([{ "product": TOTE, "at": began + 120_000 }]), "by the run sheet");

    // The price falls while she explains, and again when she has gone on.
    hall.reprice(SCARF, 19_900).await;
    early.until("the price", |view| view.part("explained")[0]["price"]["amount"] == 19_900).await;
    anchor.ok("pin", json!({ "product": TOTE, "explain_seconds": 30 })).await;
    hall.reprice(SCARF, 9_900).await;
    hall.buy("buyer", TAN, "k").await;
    hall.buy("buyer", CORAL, "l").await;
    hall.shop.stock_settles(&hall.server, CORAL, [19, 0, 1]).await;

    let mut later = hall.socket("later").await;
    let mut stream = hall.listener("stream").await;
    let snapshot = hall.shop.snapshot(&hall.server).await;
    let explained = snapshot["explained"].as_array().expect("a list");
    let seen: Vec<(&str, i64)> = explained
        .iter()
        .map(|seen| (seen["product"].as_str().expect("an id"), seen["price"]["amount"].as_i64().expect("a price")))
        .collect();
    assert_eq!(seen, [(SCARF, 19_900), (TOTE, 89_900)], "with the price that was seen");
    assert_eq!(snapshot["stock"][CORAL]["available"], 19, "and what is left");
    assert_eq!(snapshot["next"], json!([]), "nothing more is on the run sheet");
    let end = hall.seq().await;
    for ws in [&mut early, &mut late, &mut later] {
        ws.until("the end", |view| view.seq >= end).await;
        assert_eq!(ws.view.part("explained"), &snapshot["explained"]);
        assert_eq!(ws.view.part("planned_seconds"), &plan["planned_seconds"]);
    }
    stream.until("the end", |view| view.seq >= end).await;
    assert_eq!(stream.view.part("explained"), &snapshot["explained"]);

    // Gone from the shelf, it takes its title along; and a new show begins with the card that is up.
    hall.put_shelf(&json!({ "products": [TOTE] })).await;
    early.until("the shelf", |view| view.shelf() == [TOTE]).await;
    assert_eq!(early.view.part("explained")[0]["title"], "Silk scarf 真丝围巾");
    assert_eq!(early.view.part("planned_seconds"), &json!({}));
    hall.shop.end_show(&hall.server).await;
    anchor.ok("pin", json!({ "product": TOTE })).await;
    hall.shop.start_show(&hall.server).await;
    early.until("the new show", |view| view.part("explained").as_array().is_some_and(|all| all.len() == 1)).await;
    let snapshot = hall.shop.snapshot(&hall.server).await;
    assert_eq!(early.view.part("explained"), &snapshot["explained"]);
    assert_eq!(snapshot["explained"][0]["at"], snapshot["show"]["started_at"]);
}

/// Minute 90: fifty products with two SKUs each, thirty of them explained, and the last thirty comments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_at_minute_ninety_of_fifty_products_knows_it_all_within_a_moment() {
    let hall = Hall::open(Plan::default().set("ROOM__CHAT_PER_SECOND", "0")).await;
    let mut planned = Map::new();
    for number in 0..50 {
        let id = format!("autumn-{number:02}");
        hall.put_product(&id, 26_900 + number).await;
        planned.insert(id, 180.into());
    }
    let products: Vec<&String> = planned.keys().collect();
    hall.put_shelf(&json!({ "products": products, "planned_seconds": planned })).await;
    let mut anchor = hall.anchor().await;
    for id in &products[..30] {
        anchor.ok("pin", json!({ "product": id })).await;
        anchor.ok("comment", json!({ "text": format!("这是今晚的{id}，喜欢的朋友可以看看下方的卡片") })).await;
    }

    let mut took = Vec::new();
    for number in 0..9 {
        let token = hall.shop.viewer_token(&hall.server, &format!("late-{number}"));
        let came = Instant::now();
        let mut ws = hall.server.ws(ROOM).await;
        ws.join(&token).await;
        ws.until("the last card", |view| view.pinned_product() == Some(products[29].as_str())).await;
        took.push(came.elapsed());
        assert_eq!(ws.view.part("explained").as_array().map(Vec::len), Some(30));
        assert_eq!(ws.view.part("stock").as_object().map(Map::len), Some(100));
    }
    took.sort_unstable();
    assert!(took[took.len() / 2] < Duration::from_millis(100), "from the upgrade to knowing it all: {took:?}");
    let snapshot = hall.shop.snapshot(&hall.server).await;
    let catch_up = ["explained", "planned_seconds", "next"].map(|part| snapshot[part].to_string().len());
    assert!(catch_up.iter().sum::<usize>() < 8 << 10, "{catch_up:?} bytes");
}

#[tokio::test]
async fn a_run_sheet_that_makes_no_sense_is_refused() {
    let hall = Hall::open(Plan::default()).await;
    let before = hall.seq().await;
    for planned in
        [json!({ SCARF: 0 }), json!({ SCARF: 14_401 }), json!({ "nothing": 60 }), json!({ SCARF: -1 }), json!([60])]
    {
        let body = json!({ "products": [SCARF, TOTE], "planned_seconds": planned });
        let path = format!("/v1/rooms/{ROOM}/shelf");
        let call = hall.server.rest().put(&path).token(&hall.shop.anchor_token(&hall.server));
        let answer = call.json(&body).send().await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"), "{planned}");
    }
    assert_eq!(hall.seq().await, before);
}

impl Hall {
    async fn put_shelf(&self, body: &Value) {
        let token = self.shop.anchor_token(&self.server);
        self.server.rest().put(&format!("/v1/rooms/{ROOM}/shelf")).token(&token).json(body).send().await.ok();
    }

    async fn put_product(&self, id: &str, amount: u64) {
        let skus =
            ["coral", "sea"].map(|colour| json!({ "id": format!("{id}-{colour}"), "title": colour, "stock": 20 }));
        let price = json!({ "amount": amount, "currency": "CNY" });
        let body = json!({ "title": format!("Silk scarf {id} 真丝围巾"), "price": price, "skus": skus });
        let path = format!("/v1/products/{id}");
        self.server.rest().put(&path).token(&self.server.tokens.admin()).json(&body).send().await.ok();
    }

    async fn reprice(&self, product: &str, amount: u64) {
        let path = format!("/v1/products/{product}");
        let mut body = self.server.rest().get(&path).send().await.ok();
        body["price"]["amount"] = amount.into();
        self.server.rest().put(&path).token(&self.server.tokens.admin()).json(&body).send().await.ok();
    }
}
