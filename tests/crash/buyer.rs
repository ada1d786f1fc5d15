//! A buyer who remembers every answer, and after a crash asks for all of it again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Acknowledged, PLENTY, RARE, SCARCE};
use crate::support::{
    rest::{Answer, Rest},
    server::Server,
    shop::Shop,
    ws::Ws,
};

/// A purchase as far as its buyer knows.
struct Purchase {
    key: String,
    sku: &'static str,
    quantity: u64,
    /// `None`: the answer to the hold never came.
    hold: Option<String>,
    /// What the server last acknowledged: `held`, `confirmed` or `cancelled`.
    state: &'static str,
    /// What was asked for when the server died.
    asked: Option<&'static str>,
}

pub struct Buyer {
    sub: String,
    pub token: String,
    purchases: Vec<Purchase>,
    /// Purchases up to here were found again after a crash.
    found: usize,
}

impl Buyer {
    pub fn new(server: &Server, shop: &Shop, number: usize) -> Self {
        let sub = format!("buyer-{number}");
        Self { token: shop.viewer_token(server, &sub), sub, purchases: vec![], found: 0 }
    }

    /// Buys by REST and over the socket in turn, until the server is gone.
    pub async fn shop(mut self, rest: Rest, mut ws: Ws, round: usize, acknowledged: Acknowledged) -> Self {
        for number in 0.. {
            let way = if number % 2 == 0 { Way::Rest(rest, &self.token) } else { Way::Socket(&mut ws) };
            let sku = [SCARCE, PLENTY, PLENTY, RARE, PLENTY][number % 5];
            let quantity = if sku == RARE { 1 } else { number as u64 % 2 + 1 };
            let key = format!("{round}-{number}");
            let mut purchase = Purchase { key, sku, quantity, hold: None, state: "held", asked: None };
            match purchase.run(way, number, &acknowledged).await {
                Outcome::Refused => {}
                Outcome::Done => self.purchases.push(purchase),
                Outcome::Gone => {
                    self.purchases.push(purchase);
                    break;
                }
            }
        }
        self
    }

    /// Every purchase since the last crash is there once, as acknowledged; one whose answer was lost is asked for again
    /// with its key. With `all`, those before as well.
    pub async fn finds_everything_again(&mut self, server: &Server, all: bool) {
        let from = if all { 0 } else { self.found };
        for purchase in &mut self.purchases[from..] {
            purchase.settle(server, &self.token).await;
        }
        self.purchases.retain(|purchase| purchase.hold.is_some());
        self.found = self.purchases.len();
        if !all {
            return;
        }

        let known: BTreeSet<&str> = self.purchases.iter().filter_map(|purchase| purchase.hold.as_deref()).collect();
        assert_eq!(known.len(), self.purchases.len(), "each key has a hold of its own");
        let orders = self.all_orders(server).await;
        let confirmed = self.purchases.iter().filter(|purchase| purchase.state == "confirmed");
        let confirmed: BTreeMap<String, u64> =
            confirmed.map(|purchase| (purchase.hold.clone().expect("retained"), purchase.quantity)).collect();
        assert_eq!(orders, confirmed, "{} has exactly the orders that were confirmed", self.sub);
    }

    pub fn pieces(&self, sku: &str, state: &str) -> u64 {
        let these = self.purchases.iter().filter(|purchase| purchase.sku == sku && purchase.state == state);
        these.map(|purchase| purchase.quantity).sum()
    }

    /// Confirmed and cancelled purchases.
    pub fn outcomes(&self) -> (usize, usize) {
        let count = |state: &str| self.purchases.iter().filter(|purchase| purchase.state == state).count();
        (count("confirmed"), count("cancelled"))
    }

    /// Ids and pieces of all orders, page by page; none may come twice.
    async fn all_orders(&self, server: &Server) -> BTreeMap<String, u64> {
        let mut orders = BTreeMap::new();
        let mut after = String::new();
        loop {
            let path = format!("/v1/orders?limit=100{after}");
            let page = server.rest().get(&path).token(&self.token).send().await.ok();
            let page = page["orders"].as_array().expect("a list of orders");
            let Some(last) = page.last() else { return orders };
            after = format!("&after={}", text(&last["id"]));
            for order in page {
                assert_eq!(order["state"], "paid", "{order}");
                let quantity = order["lines"][0]["quantity"].as_u64().expect("a quantity");
                assert_eq!(orders.insert(text(&order["id"]), quantity), None, "{order} is listed once");
            }
        }
    }
}

enum Way<'a> {
    Rest(Rest, &'a str),
    Socket(&'a mut Ws),
}

enum Outcome {
    Done,
    /// Sold out: a normal answer, and nothing to remember.
    Refused,
    /// The server went away before it answered.
    Gone,
}

impl Purchase {
    /// Holds, and then confirms, cancels or leaves it held.
    async fn run(&mut self, mut way: Way<'_>, number: usize, acknowledged: &Acknowledged) -> Outcome {
        let Some(answer) = way.hold(self).await else { return Outcome::Gone };
        let Ok(held) = answer else { return Outcome::Refused };
        acknowledged.count();
        self.hold = Some(text(&held["hold"]["id"]));
        let (name, state) = match number % 4 {
            0 | 1 => ("confirm", "confirmed"),
            2 => ("cancel", "cancelled"),
            _ => return Outcome::Done,
        };
        self.asked = Some(state);
        let Some(answer) = way.finish(name, &text(&held["hold"]["id"])).await else { return Outcome::Gone };
        answer.unwrap_or_else(|code| panic!("{name}: {code}"));
        acknowledged.count();
        (self.state, self.asked) = (state, None);
        Outcome::Done
    }

    fn body(&self) -> Value {
        json!({ "sku": self.sku, "quantity": self.quantity })
    }

    async fn settle(&mut self, server: &Server, token: &str) {
        let again = server.rest().post("/v1/holds").token(token).key(&self.key).json(&self.body()).send().await;
        let Some(hold) = &self.hold else {
            // Whether it was committed is open; what counts is that it is there at most once, under its key.
            if again.status == 409 {
                assert!(["sold_out", "limit_reached"].contains(&again.problem().as_str()));
            } else {
                self.hold = Some(text(&again.ok()["hold"]["id"]));
            }
            return;
        };
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")), "{}", again.text());
        assert_eq!(text(&again.json()["hold"]["id"]), *hold, "the same key has the same hold");

        let found = server.rest().get(&format!("/v1/holds/{hold}")).token(token).send().await.ok();
        let state = text(&found["hold"]["state"]);
        assert_eq!(found["hold"]["lines"][0]["quantity"], self.quantity, "{found}");
        match self.asked.take() {
            Some(asked) if state == asked => self.state = asked,
            _ => assert_eq!(state, self.state, "hold {hold}"),
        }
    }
}

impl Way<'_> {
    /// `None`: no answer; `Err`: sold out.
    async fn hold(&mut self, purchase: &Purchase) -> Option<Result<Value, String>> {
        let mut body = purchase.body();
        let answer = match self {
            Self::Rest(rest, token) => {
                told(rest.post("/v1/holds").token(token).key(&purchase.key).json(&body).attempt().await?)
            }
            Self::Socket(ws) => {
                body["key"] = purchase.key.clone().into();
                heard(&ws.attempt("hold", body).await?)
            }
        };
        if let Err(code) = &answer {
            let expected = [("sold_out", SCARCE), ("limit_reached", RARE)];
            assert!(expected.contains(&(code.as_str(), purchase.sku)), "{code} for {}", purchase.sku);
        }
        Some(answer)
    }

    async fn finish(&mut self, name: &str, hold: &str) -> Option<Result<Value, String>> {
        Some(match self {
            Self::Rest(rest, token) => {
                told(rest.post(&format!("/v1/holds/{hold}/{name}")).token(token).attempt().await?)
            }
            Self::Socket(ws) => heard(&ws.attempt(name, json!({ "hold": hold })).await?),
        })
    }
}

fn told(answer: Answer) -> Result<Value, String> {
    if answer.status < 300 { Ok(answer.json()) } else { Err(answer.problem()) }
}

fn heard(answer: &Value) -> Result<Value, String> {
    answer.get("ok").cloned().ok_or_else(|| text(&answer["error"]["code"]))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}")).to_owned()
}
