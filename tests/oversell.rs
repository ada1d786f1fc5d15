//! Many people after few pieces.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};

use crate::support::{
    chain::Chain,
    rest::Rest,
    server::{Plan, Server},
    shop::Shop,
    ws::Ws,
};

const PEOPLE: usize = 60;
const PIECES: u64 = 10;
const LIMIT: usize = 2;
const TRIES: usize = 3;
const LAST: &str = "last-ten";

/// What one person was told, in her own words: the codes of her refusals and the orders that she got.
struct Told {
    sub: String,
    refusals: Vec<String>,
    orders: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_people_after_ten_pieces_buy_exactly_ten_and_nobody_more_than_two() {
    let server = Plan::default().set("LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#).start().await;
    let shop = Shop::open(&server, "rush").await;
    shelve_the_last_ten(&server, &shop).await;
    shop.start_show(&server).await;

    let told = race(&server, &shop).await;

    let bought: usize = told.iter().map(|person| person.orders.len()).sum();
    assert_eq!(bought as u64, PIECES);
    shop.stock_settles(&server, LAST, [0, 0, PIECES]).await;
    let mut refusals = BTreeMap::<&str, usize>::new();
    for person in &told {
        assert!(person.orders.len() <= LIMIT, "{} bought {:?}", person.sub, person.orders);
        assert_eq!(person.orders.len() + person.refusals.len(), TRIES, "{} was answered each time", person.sub);
        person.refusals.iter().for_each(|code| *refusals.entry(code).or_default() += 1);
        let listed = shop.orders(&server, &person.sub).await;
        assert_eq!(listed.len(), person.orders.len(), "{}: {listed:?}", person.sub);
    }
    assert!(refusals.keys().all(|code| ["sold_out", "limit_reached"].contains(code)), "{refusals:?}");
    assert!(refusals["sold_out"] > 0, "{refusals:?}");

    let chain = Chain::read(&server, LAST).await;
    assert_eq!(chain.counts(), [0, 0, PIECES]);
    assert_eq!((chain.number_of("held"), chain.number_of("confirmed")), (10, 10));
}

#[tokio::test]
async fn a_limit_counts_what_is_held_and_what_was_bought_together() {
    let server = Server::start().await;
    let shop = Shop::open(&server, "limits").await;
    shelve_the_last_ten(&server, &shop).await;
    let greedy = shop.viewer_token(&server, "greedy");
    let hold = |quantity: usize, key: &str| {
        let body = json!({ "sku": LAST, "quantity": quantity });
        server.rest().post("/v1/holds").token(&greedy).key(key).json(&body).send()
    };

    assert_eq!(hold(LIMIT + 1, "three").await.problem(), "limit_reached");
    let first = hold(1, "one").await.ok();
    let id = first["hold"]["id"].as_str().expect("a hold has an id").to_owned();
    server.rest().post(&format!("/v1/holds/{id}/confirm")).token(&greedy).send().await.ok();
    assert_eq!(hold(LIMIT, "two more").await.status, 400, "a key has no spaces");
    assert_eq!(hold(LIMIT, "two-more").await.problem(), "limit_reached");
    hold(1, "one-more").await.ok();
    assert_eq!(hold(1, "yet-another").await.problem(), "limit_reached");
    shop.stock_settles(&server, LAST, [PIECES - 2, 1, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sockets_of_one_person_do_not_pass_a_limit_of_two() {
    const SOCKETS: usize = 50;
    let plan = Plan::default().set("LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#).set("LIMITS__HOLDS_PER_SECOND", "10000");
    let server = plan.set("LIMITS__CONNECTIONS_PER_PERSON", "100").start().await;
    let shop = Shop::open(&server, "many").await;
    shelve_the_last_ten(&server, &shop).await;
    let token = shop.viewer_token(&server, "greedy");
    let start = Arc::new(Barrier::new(SOCKETS));
    let mut sockets = JoinSet::new();
    for number in 0..SOCKETS {
        let (mut ws, start) = (server.ws(&shop.room).await, Arc::clone(&start));
        ws.join(&token).await;
        sockets.spawn(async move {
            start.wait().await;
            ws.command("hold", json!({ "sku": LAST, "quantity": 1, "key": format!("socket-{number}") })).await
        });
    }
    let answers = sockets.join_all().await;
    let codes: Vec<&str> = answers.iter().filter_map(|answer| answer["error"]["code"].as_str()).collect();
    assert!(codes.iter().all(|code| *code == "limit_reached"), "{codes:?}");
    assert_eq!((answers.len(), codes.len()), (SOCKETS, SOCKETS - LIMIT));
    shop.stock_settles(&server, LAST, [PIECES - LIMIT as u64, LIMIT as u64, 0]).await;
    assert_eq!(Chain::read(&server, LAST).await.number_of("held"), LIMIT);
}

async fn shelve_the_last_ten(server: &Server, shop: &Shop) {
    let admin = server.tokens.admin();
    let product = json!({
        "title": "The last ten 最后十件", "price": { "amount": 100, "currency": "CNY" }, "limit_per_user": LIMIT,
        "skus": [{ "id": LAST, "title": "One size", "stock": PIECES }],
    });
    server.rest().put("/v1/products/last").token(&admin).json(&product).send().await.ok();
    let path = format!("/v1/rooms/{}/shelf", shop.room);
    server.rest().put(&path).token(&admin).json(&json!({ "products": ["last"] })).send().await.ok();
}

/// Half of the people by REST and half over sockets; nobody starts before everybody is there.
async fn race(server: &Server, shop: &Shop) -> Vec<Told> {
    let start = Arc::new(Barrier::new(PEOPLE));
    let mut people = JoinSet::new();
    for number in 0..PEOPLE {
        let sub = format!("person-{number}");
        let token = shop.viewer_token(server, &sub);
        let start = Arc::clone(&start);
        if number % 2 == 0 {
            people.spawn(by_rest(server.rest(), sub, token, start));
        } else {
            let mut ws = server.ws(&shop.room).await;
            ws.join(&token).await;
            people.spawn(by_socket(ws, sub, start));
        }
    }
    people.join_all().await
}

async fn by_rest(rest: Rest, sub: String, token: String, start: Arc<Barrier>) -> Told {
    let mut told = Told { sub, refusals: vec![], orders: vec![] };
    start.wait().await;
    for number in 0..TRIES {
        let wanted = json!({ "sku": LAST, "quantity": 1 });
        let held = rest.post("/v1/holds").token(&token).key(&format!("try-{number}")).json(&wanted).send().await;
        if held.status != 201 {
            assert_eq!(held.status, 409, "{}", held.text());
            told.refusals.push(held.problem());
            continue;
        }
        let id = text(&held.json()["hold"]["id"]);
        let order = rest.post(&format!("/v1/holds/{id}/confirm")).token(&token).send().await.ok();
        told.orders.push(text(&order["order"]["id"]));
    }
    told
}

async fn by_socket(mut ws: Ws, sub: String, start: Arc<Barrier>) -> Told {
    let mut told = Told { sub, refusals: vec![], orders: vec![] };
    start.wait().await;
    for number in 0..TRIES {
        let wanted = json!({ "sku": LAST, "quantity": 1, "key": format!("try-{number}") });
        let held = ws.command("hold", wanted).await;
        match held["error"]["code"].as_str() {
            Some(code) => told.refusals.push(code.to_owned()),
            None => {
                let order = ws.ok("confirm", json!({ "hold": held["ok"]["hold"]["id"] })).await;
                told.orders.push(text(&order["order"]["id"]));
            }
        }
    }
    told
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}
