//! What an operator does with the ledger of a running server: reconcile it, copy it, export orders.

mod backup;
mod export;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{
    cli::{Said, maishou},
    server::{Plan, Server},
    shop::Shop,
    wait::{DEADLINE, wait_until},
};

const ROOM: &str = "market";
const PLENTY: &str = "plenty";
const BUYERS: usize = 8;

/// Buyers who buy one thing after another, and what was acknowledged to them.
struct Market {
    bought: Arc<Mutex<Vec<String>>>,
    buyers: JoinSet<()>,
}

impl Market {
    async fn open(server: &Server) -> Self {
        let shop = Shop::open(server, ROOM).await;
        let product = json!({
            "title": "Umbrella 雨伞", "price": { "amount": 5, "currency": "CNY" },
            "skus": [{ "id": PLENTY, "title": "any", "stock": 1_000_000 }],
        });
        let admin = server.tokens.admin();
        server.rest().put("/v1/products/umbrella").token(&admin).json(&product).send().await.ok();
        let bought = Arc::new(Mutex::new(Vec::new()));
        let mut buyers = JoinSet::new();
        for number in 0..BUYERS {
            let token = shop.viewer_token(server, &format!("buyer-{number}"));
            buyers.spawn(buy_on(server.rest(), token, bought.clone()));
        }
        Self { bought, buyers }
    }

    fn bought(&self) -> Vec<String> {
        self.bought.lock().expect("nobody panicked").clone()
    }

    async fn has_sold(&self, more: usize) {
        let wanted = self.bought().len() + more;
        wait_until("orders to be acknowledged", DEADLINE, async || (self.bought().len() >= wanted).then_some(())).await;
    }

    async fn close(mut self) -> Vec<String> {
        self.buyers.shutdown().await;
        self.bought()
    }
}

async fn buy_on(rest: crate::support::rest::Rest, token: String, bought: Arc<Mutex<Vec<String>>>) {
    for number in 0.. {
        let body = json!({ "sku": PLENTY, "quantity": 1 });
        let held = rest.post("/v1/holds").token(&token).key(&format!("k{number}")).json(&body).send().await.ok();
        let hold = held["hold"]["id"].as_str().expect("an id").to_owned();
        rest.post(&format!("/v1/holds/{hold}/confirm")).token(&token).send().await.ok();
        bought.lock().expect("nobody panicked").push(hold);
    }
}

fn busy() -> Plan {
    let plan = Plan::default().set("LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#);
    ["COMMANDS", "HOLDS"].iter().fold(plan, |plan, what| plan.set(&format!("LIMITS__{what}_PER_SECOND"), "10000"))
}

/// Runs a command with the server's own configuration.
async fn with_config(server: &Server, args: &[&str]) -> Said {
    let config = server.data("server.toml");
    maishou(&[args, &["--config", text(&config)]].concat(), &[]).await
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a readable path")
}
