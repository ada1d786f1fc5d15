//! What nobody should send: each has its code, nothing is lost, and the server still serves.

mod limits;
mod rest;
mod socket;
mod tokens;

use serde_json::{Value, json};

use crate::support::{
    chain::Chain,
    rest::Answer,
    server::{Plan, Server},
    shop::{CORAL, SCARF, Shop, TAN},
};

const ROOM: &str = "counter";

/// A server with one honest purchase in it, and how it all was before anything wrong was sent.
struct Counter {
    server: Server,
    shop: Shop,
    viewer: String,
    before: Value,
}

impl Counter {
    async fn open(plan: Plan) -> Self {
        let server = plan.start().await;
        let shop = Shop::open(&server, ROOM).await;
        let viewer = shop.viewer_token(&server, "honest");
        let body = json!({ "sku": CORAL, "quantity": 1 });
        let held = server.rest().post("/v1/holds").token(&viewer).key("first").json(&body).send().await.ok();
        let path = format!("/v1/holds/{}/confirm", held["hold"]["id"].as_str().expect("a hold"));
        server.rest().post(&path).token(&viewer).send().await.ok();
        shop.stock_settles(&server, CORAL, [19, 0, 1]).await;
        let mut counter = Self { server, shop, viewer, before: Value::Null };
        counter.before = counter.books().await;
        counter
    }

    /// Stock, chains, orders, shelf and card: everything that bad input must leave as it is.
    async fn books(&self) -> Value {
        let mut chains = Vec::new();
        for sku in [CORAL, "scarf-sea", TAN] {
            let chain = Chain::read(&self.server, sku).await;
            chains.push(json!({ "sku": sku, "entries": chain.entries, "counts": chain.counts() }));
        }
        let snapshot = self.shop.snapshot(&self.server).await;
        let rooms = self.server.rest().get("/v1/rooms").send().await.ok()["rooms"].as_array().map(Vec::len);
        json!({
            "chains": chains,
            "orders": self.shop.orders(&self.server, "honest").await,
            "scarf": self.server.rest().get(&format!("/v1/products/{SCARF}")).send().await.ok(),
            "shelf": snapshot["shelf"], "pinned": snapshot["pinned"], "show": snapshot["show"], "rooms": rooms,
        })
    }

    /// Nothing changed, and an honest person is still served.
    async fn is_untouched(&self) {
        assert_eq!(self.books().await, self.before);
        let body = json!({ "sku": CORAL, "quantity": 1 });
        let hold = self.server.rest().post("/v1/holds").token(&self.viewer).key("last").json(&body).send().await;
        assert_eq!(hold.status, 201, "{}", hold.text());
        let mut ws = self.server.ws(ROOM).await;
        ws.join(&self.viewer).await;
        ws.ok("ping", json!({})).await;
    }
}

/// The answer is a whole problem with this status and code.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str, what: &str) {
    assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{what}: {}", answer.text());
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{what}");
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"), "{what}");
}
