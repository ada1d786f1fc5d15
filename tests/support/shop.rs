//! A room with goods on its shelf, made over REST by an admin as a shop would.

use serde_json::{Value, json};

use super::{
    server::Server,
    wait::{DEADLINE, poll},
};

/// A room, its anchor and two products: a scarf in two colours and the last five bags.
#[derive(Clone)]
pub struct Shop {
    pub room: String,
    pub anchor: String,
}

/// A product with two SKUs, 20 and 10 in stock, at most four to a person.
pub const SCARF: &str = "scarf";
pub const CORAL: &str = "scarf-coral";
/// A product with one SKU, of which there are five.
pub const TOTE: &str = "tote";
pub const TAN: &str = "tote-tan";

impl Shop {
    pub async fn open(server: &Server, room: &str) -> Self {
        let shop = Self { room: room.to_owned(), anchor: format!("{room}-anchor") };
        let admin = server.tokens.admin();
        for product in [scarf(), tote()] {
            let path = format!("/v1/products/{}", product["id"].as_str().expect("a product has an id"));
            server.rest().put(&path).token(&admin).json(&product).send().await.ok();
        }
        let made = json!({ "id": room, "title": "Autumn edit 秋日好物", "anchor": shop.anchor });
        server.rest().post("/v1/rooms").token(&admin).json(&made).send().await.ok();
        let shelf = json!({ "products": [SCARF, TOTE] });
        server.rest().put(&format!("/v1/rooms/{room}/shelf")).token(&admin).json(&shelf).send().await.ok();
        shop
    }

    pub fn anchor_token(&self, server: &Server) -> String {
        server.tokens.anchor(&self.room, &self.anchor)
    }

    pub fn viewer_token(&self, server: &Server, sub: &str) -> String {
        server.tokens.viewer(&self.room, sub)
    }

    /// The public snapshot.
    pub async fn snapshot(&self, server: &Server) -> Value {
        server.rest().get(&format!("/v1/rooms/{}", self.room)).send().await.ok()
    }

    /// `available`, `held` and `sold` of a SKU as the room shows them, which hears of stock in steps.
    pub async fn stock(&self, server: &Server, sku: &str) -> [u64; 3] {
        let snapshot = self.snapshot(server).await;
        let stock = &snapshot["stock"][sku];
        ["available", "held", "sold"]
            .map(|count| stock[count].as_u64().unwrap_or_else(|| panic!("{sku} in {snapshot}")))
    }

    /// Waits until the room shows these counts and nothing comes after them: they are those of the ledger's last entry.
    pub async fn stock_settles(&self, server: &Server, sku: &str, expected: [u64; 3]) {
        let mut shown = Value::Null;
        let settled = poll(DEADLINE, async || {
            shown = self.snapshot(server).await["stock"][sku].clone();
            let counts = ["available", "held", "sold"].map(|count| shown[count].as_u64());
            let ledger = server.rest().get(&format!("/v1/skus/{sku}/ledger?limit=1")).send().await.ok();
            (counts == expected.map(Some) && shown["entry"] == ledger["head"]["n"]).then_some(())
        })
        .await;
        assert!(settled.is_some(), "{sku} did not settle at {expected:?}: {shown}");
    }

    /// The orders of one buyer, as she sees them.
    pub async fn orders(&self, server: &Server, sub: &str) -> Vec<Value> {
        let token = self.viewer_token(server, sub);
        let orders = server.rest().get("/v1/orders").token(&token).send().await.ok();
        orders["orders"].as_array().unwrap_or_else(|| panic!("orders in {orders}")).clone()
    }

    /// The types of all ledger entries of a SKU, in order, behind its opening: `held`, `confirmed`, ...
    pub async fn ledger(&self, server: &Server, sku: &str) -> Vec<String> {
        let ledger = server.rest().get(&format!("/v1/skus/{sku}/ledger?limit=1000")).send().await.ok();
        let entries = ledger["entries"].as_array().unwrap_or_else(|| panic!("entries in {ledger}"));
        entries.iter().skip(1).filter_map(|entry| entry["type"].as_str()).map(str::to_owned).collect()
    }

    pub async fn start_show(&self, server: &Server) {
        self.show(server, "start").await;
    }

    pub async fn end_show(&self, server: &Server) {
        self.show(server, "end").await;
    }

    pub async fn pin(&self, server: &Server, product: &str) {
        let body = json!({ "product": product, "explain_seconds": 60 });
        let path = format!("/v1/rooms/{}/pin", self.room);
        server.rest().post(&path).token(&self.anchor_token(server)).json(&body).send().await.ok();
    }

    async fn show(&self, server: &Server, action: &str) {
        let path = format!("/v1/rooms/{}/show", self.room);
        let body = json!({ "action": action });
        server.rest().post(&path).token(&self.anchor_token(server)).json(&body).send().await.ok();
    }
}

fn scarf() -> Value {
    json!({
        "id": SCARF, "title": "Silk scarf 真丝围巾", "price": { "amount": 26900, "currency": "CNY" },
        "skus": [
            { "id": CORAL, "title": "Coral 珊瑚红", "stock": 20 },
            { "id": "scarf-sea", "title": "Sea blue 海水蓝", "stock": 10 },
        ],
        "limit_per_user": 4,
    })
}

fn tote() -> Value {
    json!({
        "id": TOTE, "title": "Leather tote 真皮托特包", "price": { "amount": 89900, "currency": "CNY" },
        "skus": [{ "id": TAN, "title": "Tan 焦糖色", "stock": 5 }],
    })
}
