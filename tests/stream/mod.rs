//! What a room tells its audience: one order for all, state that everybody comes to agree on, and words for one alone.

mod audience;
mod chat;
mod frames;
mod late;
mod person;
mod silenced;
mod stock;

use serde_json::json;

use crate::support::{
    server::{Plan, Server},
    shop::Shop,
    sse::Sse,
    ws::Ws,
};

const ROOM: &str = "hall";

/// A server with a running show.
struct Hall {
    server: Server,
    shop: Shop,
}

impl Hall {
    async fn open(plan: Plan) -> Self {
        let plan = ["COMMANDS", "COMMENTS", "HOLDS"]
            .iter()
            .fold(plan, |plan, what| plan.set(&format!("LIMITS__{what}_PER_SECOND"), "10000"));
        let server = plan.set("LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#).start().await;
        let shop = Shop::open(&server, ROOM).await;
        shop.start_show(&server).await;
        Self { server, shop }
    }

    async fn socket(&self, sub: &str) -> Ws {
        let mut ws = self.server.ws(ROOM).await;
        ws.join(&self.shop.viewer_token(&self.server, sub)).await;
        ws
    }

    async fn anchor(&self) -> Ws {
        let mut ws = self.server.ws(ROOM).await;
        ws.join(&self.shop.anchor_token(&self.server)).await;
        ws
    }

    async fn listener(&self, sub: &str) -> Sse {
        let token = self.shop.viewer_token(&self.server, sub);
        let call = self.server.rest().get(&format!("/v1/rooms/{ROOM}/events?token={token}"));
        let mut sse = Sse::open(call).await;
        sse.until("the snapshot", |view| view.snapshots == 1).await;
        sse
    }

    /// Where the log ends now.
    async fn seq(&self) -> u64 {
        self.shop.snapshot(&self.server).await["seq"].as_u64().expect("a number")
    }

    /// Buys one piece, from hold to order.
    async fn buy(&self, sub: &str, sku: &str, key: &str) {
        let token = self.shop.viewer_token(&self.server, sub);
        let body = json!({ "sku": sku, "quantity": 1 });
        let held = self.server.rest().post("/v1/holds").token(&token).key(key).json(&body).send().await.ok();
        let path = format!("/v1/holds/{}/confirm", held["hold"]["id"].as_str().expect("a hold"));
        self.server.rest().post(&path).token(&token).send().await.ok();
    }
}
