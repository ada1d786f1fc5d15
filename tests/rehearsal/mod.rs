//! Rehearsals: twins of rooms that take nothing from them.

mod life;
mod twin;

use serde_json::{Value, json};

use crate::support::{
    rest::Answer,
    server::{Plan, Server},
    shop::Shop,
    token::{claims, with},
};

const ROOM: &str = "stage";

/// A server with a room and a rehearsal of it.
struct World {
    server: Server,
    shop: Shop,
    id: String,
    made: Value,
}

impl World {
    async fn open(plan: Plan) -> Self {
        Self::open_with(plan, json!({})).await
    }

    /// As [`World::open`], with more in the body that asks for the rehearsal.
    async fn open_with(plan: Plan, more: Value) -> Self {
        let server = plan.start().await;
        let shop = Shop::open(&server, ROOM).await;
        let body = with(json!({ "rehearsal_of": ROOM }), more);
        let made = make(&server, &shop.anchor_token(&server), &body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let made = made.ok();
        let id = made["id"].as_str().expect("an id").to_owned();
        Self { server, shop, id, made }
    }

    /// Of a simulated viewer of the rehearsal.
    fn simulated(&self, sub: &str) -> String {
        simulated(&self.server, &self.id, sub)
    }

    async fn snapshot(&self) -> Value {
        self.server.rest().get(&format!("/v1/rooms/{}", self.id)).send().await.ok()
    }

    async fn hold(&self, token: &str, sku: &str, key: &str) -> Answer {
        let body = json!({ "sku": sku, "quantity": 1 });
        self.server.rest().post("/v1/holds").token(token).key(key).json(&body).send().await
    }

    /// Its last entry's number, in the shop that the room is in.
    async fn entries(&self, room: &str, sku: &str) -> Value {
        let path = format!("/v1/skus/{sku}/ledger?limit=1&room={room}");
        self.server.rest().get(&path).send().await.ok()["head"]["n"].clone()
    }

    async fn end(&self, token: &str) -> Answer {
        self.server.rest().delete(&format!("/v1/rooms/{}", self.id)).token(token).send().await
    }
}

fn simulated(server: &Server, room: &str, sub: &str) -> String {
    server.tokens.mint(&with(claims(room, "viewer", sub), json!({ "sim": true })))
}

async fn make(server: &Server, token: &str, body: &Value) -> Answer {
    server.rest().post("/v1/rooms").token(token).json(body).send().await
}
