//! From hold to order and back: what a buyer and her merchant are promised.

use serde_json::{Value, json};

use crate::support::{
    rest::Answer,
    server::{Plan, Server},
    shop::{CORAL, SCARF, Shop, TAN},
    wait::{DEADLINE, wait_until},
};

const ROOM: &str = "till";

struct Till {
    server: Server,
    shop: Shop,
    buyer: String,
    merchant: String,
}

impl Till {
    async fn open(plan: Plan) -> Self {
        let server = plan.start().await;
        let shop = Shop::open(&server, ROOM).await;
        let (buyer, merchant) = (shop.viewer_token(&server, "buyer"), server.tokens.merchant("main"));
        Self { server, shop, buyer, merchant }
    }

    async fn hold(&self, key: &str, body: Value) -> Answer {
        self.server.rest().post("/v1/holds").token(&self.buyer).key(key).json(&body).send().await
    }

    /// Holds so many tan totes; returns the hold's id.
    async fn hold_totes(&self, key: &str, quantity: u32) -> String {
        let held = self.hold(key, json!({ "sku": TAN, "quantity": quantity })).await.ok();
        held["hold"]["id"].as_str().expect("a hold has an id").to_owned()
    }

    async fn act(&self, token: &str, hold: &str, act: &str) -> Answer {
        self.server.rest().post(&format!("/v1/holds/{hold}/{act}")).token(token).send().await
    }

    async fn refund(&self, order: &str, key: &str, body: Value) -> Answer {
        let path = format!("/v1/orders/{order}/refund");
        self.server.rest().post(&path).token(&self.merchant).key(key).json(&body).send().await
    }

    /// What the merchant was told, and whose money is due back as buyer, merchant and admin see it.
    async fn due_back(&self) -> (Value, [Value; 3]) {
        let rest = self.server.rest();
        let told = rest.get("/v1/me/messages").token(&self.merchant).send().await.ok();
        let mut due = [Value::Null, Value::Null, Value::Null];
        for (due, token) in due.iter_mut().zip([&self.buyer, &self.merchant, &self.server.tokens.admin()]) {
            let page = rest.get("/v1/orders?state=refund_due").token(token).send().await.ok();
            assert_eq!(page.get("next"), None, "{page}");
            *due = page["orders"].as_array().expect("orders").iter().map(|order| order["id"].clone()).collect();
        }
        (told, due)
    }

    async fn has_expired(&self, hold: &str) {
        let path = format!("/v1/holds/{hold}");
        wait_until("the hold to run out", DEADLINE, async || {
            let found = self.server.rest().get(&path).token(&self.buyer).send().await.ok();
            (found["hold"]["state"] == "expired").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn several_lines_are_held_together_or_not_at_all_and_the_same_sku_is_summed() {
    let till = Till::open(Plan::default()).await;
    let line = |sku: &str, quantity: u32| json!({ "sku": sku, "quantity": quantity });
    let lines = json!({ "lines": [line(CORAL, 1), line(TAN, 2), line(CORAL, 2)] });
    let answer = till.hold("cart", lines).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let (body, hold) = (answer.json(), answer.json()["hold"].clone());
    let mut held: Vec<(&str, u64)> = hold["lines"]
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| (line["sku"].as_str().expect("a SKU"), line["quantity"].as_u64().expect("a quantity")))
        .collect();
    held.sort_unstable();
    assert_eq!(held, [(CORAL, 3), (TAN, 2)]);
    assert_eq!(hold["total"], json!({ "amount": 3 * 26_900 + 2 * 89_900, "currency": "CNY" }));
    let lasts = hold["expires_at"].as_i64().expect("a time") - body["server_time"].as_i64().expect("a time");
    assert!((295_000..=300_000).contains(&lasts), "{lasts} ms");

    let refused = till.hold("more", json!({ "lines": [line("scarf-sea", 1), line(TAN, 4)] })).await;
    assert_eq!((refused.status, refused.problem().as_str()), (409, "sold_out"));
    assert_eq!((&refused.json()["sku"], &refused.json()["available"]), (&json!(TAN), &json!(3)), "what is left");
    till.shop.stock_settles(&till.server, "scarf-sea", [10, 0, 0]).await;
    till.shop.stock_settles(&till.server, CORAL, [17, 3, 0]).await;
    till.shop.stock_settles(&till.server, TAN, [3, 2, 0]).await;
}

#[tokio::test]
async fn a_confirm_or_cancel_that_is_repeated_has_the_same_answer() {
    let till = Till::open(Plan::default()).await;
    let (bought, left) = (till.hold_totes("a", 1).await, till.hold_totes("b", 2).await);
    for (hold, act, part, other) in [(&bought, "confirm", "order", "cancel"), (&left, "cancel", "hold", "extend")] {
        let first = till.act(&till.buyer, hold, act).await.ok();
        let again = till.act(&till.buyer, hold, act).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")), "{}", again.text());
        assert_eq!(again.json()[part], first[part]);
        assert_eq!(till.act(&till.buyer, hold, other).await.status, 409, "{other} after {act}");
    }
    till.shop.stock_settles(&till.server, TAN, [4, 0, 1]).await;
    assert_eq!(till.shop.ledger(&till.server, TAN).await, ["held", "held", "confirmed", "cancelled"]);
}

#[tokio::test]
async fn money_that_comes_after_the_hold_buys_what_is_left_or_is_due_back() {
    let till = Till::open(Plan::default().set("ORDER__HOLD_SECONDS", "1")).await;
    let (first, second) = (till.hold_totes("a", 2).await, till.hold_totes("b", 3).await);
    till.has_expired(&first).await;
    till.has_expired(&second).await;
    for act in ["confirm", "cancel", "extend"] {
        let late = till.act(&till.buyer, &first, act).await;
        assert_eq!((late.status, late.problem().as_str()), (409, "hold_expired"), "{act} by the buyer");
    }
    till.shop.stock_settles(&till.server, TAN, [5, 0, 0]).await;

    let paid = till.act(&till.merchant, &second, "confirm").await.ok();
    assert_eq!(paid["order"]["state"], "paid");
    till.shop.stock_settles(&till.server, TAN, [2, 0, 3]).await;
    let gone = json!({ "set": 3, "reason": "two are damaged" });
    let path = format!("/v1/skus/{TAN}/stock");
    till.server.rest().post(&path).token(&till.merchant).key("damaged").json(&gone).send().await.ok();

    let due = till.act(&till.merchant, &first, "confirm").await.ok();
    assert_eq!(due["order"]["state"], "refund_due", "nothing is oversold, and the money is not forgotten");
    till.shop.stock_settles(&till.server, TAN, [0, 0, 3]).await;
    let messages = till.server.rest().get("/v1/me/messages").token(&till.buyer).send().await.ok();
    let told: Vec<&str> =
        messages["messages"].as_array().expect("messages").iter().filter_map(|one| one["type"].as_str()).collect();
    assert_eq!(
        told,
        ["hold.created", "hold.created", "hold.expired", "hold.expired", "order.paid", "order.refund_due"]
    );
}

#[tokio::test]
async fn a_merchant_hears_of_money_to_give_back_and_finds_it_also_after_kill_9() {
    let mut till = Till::open(Plan::default().set("ORDER__HOLD_SECONDS", "1")).await;
    let mut clerk = till.server.ws(ROOM).await;
    clerk.join(&till.server.tokens.merchant("main")).await;
    let (late, other) = (till.hold_totes("a", 3).await, till.hold_totes("b", 1).await);
    till.has_expired(&late).await;
    till.has_expired(&other).await;
    till.act(&till.merchant, &other, "confirm").await.ok();
    let less = json!({ "set": 1, "reason": "the rest is damaged" });
    let path = format!("/v1/skus/{TAN}/stock");
    till.server.rest().post(&path).token(&till.merchant).key("damaged").json(&less).send().await.ok();
    till.act(&till.merchant, &late, "confirm").await.ok();

    clerk.until("the notice", |view| !view.private.is_empty()).await;
    let pushed = clerk.view.private.clone();
    assert_eq!((&pushed[0]["n"], &pushed[0]["type"]), (&json!(1), &json!("order.refund_due")));
    assert_eq!((&pushed[0]["order"]["id"], &pushed[0]["order"]["buyer"]), (&json!(late), &json!("buyer")));
    let before = till.due_back().await;
    till.server.kill().await;
    till.server.restart().await;
    assert_eq!(till.due_back().await, before);
    let (messages, due) = before;
    assert_eq!(messages["messages"], json!(pushed), "the message that was pushed, once");
    assert_eq!(
        due,
        [&late, &late, &late].map(|id| json!([id])),
        "buyer, merchant and admin find it, and not the other"
    );

    till.refund(&late, "back", json!({ "restock": false, "reason": "no stock" })).await.ok();
    assert_eq!(till.due_back().await.1, [json!([]), json!([]), json!([])]);
}

#[tokio::test]
async fn a_hold_is_extended_once() {
    let till = Till::open(Plan::default().set("ORDER__EXTEND_SECONDS", "60")).await;
    let held = till.hold("a", json!({ "sku": TAN, "quantity": 1 })).await.ok();
    let hold = held["hold"]["id"].as_str().expect("an id");
    let until = held["hold"]["expires_at"].as_i64().expect("a time") + 60_000;
    for time in ["first", "second"] {
        let extended = till.act(&till.buyer, hold, "extend").await.ok();
        assert_eq!(extended["hold"]["expires_at"], until, "the {time} time");
    }
}

#[tokio::test]
async fn a_refund_gives_back_what_it_names_and_never_more_than_was_bought() {
    let till = Till::open(Plan::default()).await;
    let order = till.hold_totes("a", 4).await;
    till.act(&till.buyer, &order, "confirm").await.ok();
    let one = |restock: bool| json!({ "lines": [{ "sku": TAN, "quantity": 1 }], "restock": restock, "reason": "torn" });

    till.refund(&order, "torn", one(false)).await.ok();
    till.shop.stock_settles(&till.server, TAN, [1, 0, 4]).await;
    let again = till.refund(&order, "torn", one(false)).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")), "{}", again.text());
    assert_eq!(till.refund(&order, "torn", one(true)).await.problem(), "key_reused");
    till.refund(&order, "returned", one(true)).await.ok();
    till.shop.stock_settles(&till.server, TAN, [2, 0, 3]).await;

    let three = json!({ "lines": [{ "sku": TAN, "quantity": 3 }], "restock": true, "reason": "all of it" });
    assert_eq!(till.refund(&order, "too-much", three).await.problem(), "conflict");
    let rest = till.refund(&order, "rest", json!({ "restock": true, "reason": "all of it" })).await.ok();
    assert_eq!(rest["order"]["state"], "refunded");
    till.shop.stock_settles(&till.server, TAN, [4, 0, 1]).await;
}

#[tokio::test]
async fn the_price_is_that_of_the_hold_and_a_change_is_told_at_once() {
    let till = Till::open(Plan::default()).await;
    let mut ws = till.server.ws(ROOM).await;
    ws.join(&till.buyer).await;
    let old = json!({ "amount": 26_900, "currency": "CNY" });
    let asked = |price: &Value| json!({ "sku": CORAL, "quantity": 1, "price": price });
    let held = till.hold("before", asked(&old)).await.ok();

    let mut product = till.server.rest().get(&format!("/v1/products/{SCARF}")).send().await.ok();
    product["price"]["amount"] = 19_900.into();
    till.server.rest().put(&format!("/v1/products/{SCARF}")).token(&till.merchant).json(&product).send().await.ok();
    ws.until("the new price", |view| view.part("shelf")[0]["price"]["amount"] == 19_900).await;
    assert!(ws.view.events.iter().any(|event| event["type"] == "price" && event["product"] == SCARF));
    assert_eq!(till.hold("after", asked(&old)).await.problem(), "price_changed");

    let path = held["hold"]["id"].as_str().expect("an id");
    let order = till.act(&till.buyer, path, "confirm").await.ok();
    assert_eq!((&order["order"]["total"], &order["order"]["lines"][0]["price"]), (&old, &old));
}

#[tokio::test]
async fn of_several_reasons_to_refuse_the_first_in_the_contracts_order_is_given() {
    let till = Till::open(Plan::default().set("LIMITS__HOLDS_PER_SECOND", "100")).await;
    till.hold("used", json!({ "sku": CORAL, "quantity": 1 })).await.ok();
    let wrong = json!({ "amount": 1, "currency": "CNY" });
    for (key, body, code) in [
        ("used", json!({ "sku": "nothing", "quantity": 0 }), "malformed"),
        ("used", json!({ "sku": "nothing", "quantity": 1, "price": wrong }), "not_found"),
        ("used", json!({ "sku": CORAL, "quantity": 1, "price": wrong }), "key_reused"),
        ("new", json!({ "sku": CORAL, "quantity": 999, "price": wrong }), "price_changed"),
        ("new", json!({ "sku": CORAL, "quantity": 4 }), "limit_reached"),
        ("new", json!({ "sku": TAN, "quantity": 999 }), "sold_out"),
    ] {
        assert_eq!(till.hold(key, body.clone()).await.problem(), code, "{key} {body}");
    }
    till.shop.stock_settles(&till.server, CORAL, [19, 1, 0]).await;
}
