//! Who may do what: every route and every command with every kind of person, as the contract words it.

mod commands;
mod people;
mod routes;
mod simulated;
mod special;

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::support::{
    offer::{encoder, player},
    rest::Rest,
    server::{Plan, Server},
    shop::Shop,
};
use people::Person;

const ROOM: &str = "stage";
const OTHER_ROOM: &str = "other-stage";
const SKU: &str = "lamp-oak";

/// A server with a room, goods of two merchants, and somebody of every kind.
struct World {
    server: Server,
    shop: Shop,
    made: AtomicU32,
}

impl World {
    async fn open(plan: Plan) -> Self {
        let plan = plan.set("LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#).set("ORDER__HOLDS_OPEN_PER_PERSON_MAX", "10000");
        // The same person makes session after session.
        let plan = plan.set("LIMITS__CONNECTIONS_PER_PERSON", "10000");
        let plan = ["COMMANDS", "COMMENTS", "HOLDS"]
            .iter()
            .fold(plan, |plan, what| plan.set(&format!("LIMITS__{what}_PER_SECOND"), "10000"));
        let server = plan.start().await;
        let shop = Shop::open(&server, ROOM).await;
        let world = Self { server, shop, made: AtomicU32::new(0) };
        world.stock_shelves().await;
        world
    }

    async fn stock_shelves(&self) {
        let (rest, admin) = (self.rest(), self.server.tokens.admin());
        let room = json!({ "id": OTHER_ROOM, "title": "Other", "anchor": "other-anchor" });
        rest.post("/v1/rooms").token(&admin).json(&room).send().await.ok();
        rest.put("/v1/products/lamp").token(&admin).json(&lamp()).send().await.ok();
        let shelf = json!({ "products": ["lamp", "tote"] });
        rest.put(&format!("/v1/rooms/{ROOM}/shelf")).token(&admin).json(&shelf).send().await.ok();
    }

    fn rest(&self) -> Rest {
        self.server.rest()
    }

    fn token(&self, person: Person) -> Option<String> {
        person.token(&self.server.tokens, &self.shop.anchor)
    }

    /// A name that nothing else has.
    fn fresh(&self, kind: &str) -> String {
        format!("{kind}-{}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// A new hold of the viewer's.
    async fn hold(&self) -> String {
        let viewer = self.token(Person::Viewer).expect("a viewer has a token");
        let body = json!({ "sku": SKU, "quantity": 1 });
        let held = self.rest().post("/v1/holds").token(&viewer).key(&self.fresh("key")).json(&body).send().await;
        text(&held.ok()["hold"]["id"])
    }

    /// A new order of the viewer's.
    async fn order(&self) -> String {
        let hold = self.hold().await;
        let path = format!("/v1/holds/{hold}/confirm");
        self.rest().post(&path).token(&self.server.tokens.admin()).send().await.ok();
        hold
    }

    /// A new session of the anchor's (`whip`) or the viewer's (`whep`): its name and ETag.
    async fn session(&self, kind: &str) -> (String, String) {
        let (person, offer) = if kind == "whip" { (Person::Anchor, encoder()) } else { (Person::Viewer, player()) };
        let token = self.token(person).expect("a token");
        let call = self.rest().post(&format!("/{kind}/{ROOM}")).token(&token);
        let made = call.body("application/sdp", offer).send().await;
        assert_eq!(made.status, 201, "{}", made.text());
        let header = |name: &str| made.header(name).expect("a session has it").to_owned();
        (header("location").rsplit('/').next().expect("a path has parts").to_owned(), header("etag"))
    }
}

fn lamp() -> Value {
    json!({
        "title": "Lamp 台灯", "price": { "amount": 100, "currency": "CNY" },
        "skus": [{ "id": SKU, "title": "Oak", "stock": 1_000_000 }],
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}
