//! A merchant's clerk: changes stock, and sells to herself what she then takes back; each act with a key of its own.

use serde_json::{Value, json};

use super::{Acknowledged, PLENTY};
use crate::support::{
    rest::{Answer, Rest},
    server::Server,
    shop::Shop,
};

/// One act as far as she knows.
struct Act {
    key: String,
    what: What,
    /// What she was answered; `None`: the server went away first.
    answers: Vec<Value>,
}

enum What {
    Adjust(i64),
    /// Hold, confirm, refund: one answer each.
    TakeBack,
}

pub struct Clerk {
    admin: String,
    /// As a buyer.
    token: String,
    acts: Vec<Act>,
    /// Acts up to here were found again after a crash.
    found: usize,
}

impl Clerk {
    pub fn new(server: &Server, shop: &Shop) -> Self {
        let (admin, token) = (server.tokens.admin(), shop.viewer_token(server, "clerk"));
        Self { admin, token, acts: vec![], found: 0 }
    }

    /// Works until the server is gone.
    pub async fn work(mut self, rest: Rest, round: usize, acknowledged: Acknowledged) -> Self {
        for number in 0i64.. {
            let what = if number % 2 == 0 { What::Adjust(number % 7 + 1) } else { What::TakeBack };
            let mut act = Act { key: format!("clerk-{round}-{number}"), what, answers: vec![] };
            let steps = act.steps();
            for step in 0..steps {
                let Some(answer) = act.take(step, rest, &self.admin, &self.token).await else { break };
                act.answers.push(answer.ok());
                acknowledged.count();
            }
            let gone = act.answers.len() < steps;
            self.acts.push(act);
            if gone {
                break;
            }
        }
        self
    }

    /// Every act since the last crash is asked for again: what was answered has the same answer, what was not is done now.
    /// With `all`, those before as well.
    pub async fn finds_everything_again(&mut self, server: &Server, all: bool) {
        let (admin, token) = (self.admin.clone(), self.token.clone());
        let from = if all { 0 } else { self.found };
        for act in &mut self.acts[from..] {
            for step in 0..act.steps() {
                let again = act.take(step, server.rest(), &admin, &token).await.expect("an answer");
                let told = again.ok();
                match act.answers.get(step) {
                    None => act.answers.push(told),
                    Some(before) => {
                        assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")), "{told}");
                        assert_eq!(act.essence(step, &told), act.essence(step, before), "{}, step {step}", act.key);
                    }
                }
            }
        }
        self.found = self.acts.len();
    }

    /// What all adjustments changed. What was sold and taken back is on sale again.
    pub fn adjusted(&self) -> i64 {
        self.acts.iter().map(|act| if let What::Adjust(delta) = act.what { delta } else { 0 }).sum()
    }

    pub fn refunds(&self) -> usize {
        self.acts.iter().filter(|act| matches!(act.what, What::TakeBack)).count()
    }
}

impl Act {
    fn steps(&self) -> usize {
        if let What::Adjust(_) = self.what { 1 } else { 3 }
    }

    async fn take(&self, step: usize, rest: Rest, admin: &str, token: &str) -> Option<Answer> {
        let hold = || self.answers[0]["hold"]["id"].as_str().expect("a hold has an id");
        let call = match (&self.what, step) {
            (What::Adjust(delta), _) => {
                let body = json!({ "delta": delta, "reason": "count" });
                rest.post(&format!("/v1/skus/{PLENTY}/stock")).token(admin).key(&self.key).json(&body)
            }
            (What::TakeBack, 0) => {
                let body = json!({ "sku": PLENTY, "quantity": 1 });
                rest.post("/v1/holds").token(token).key(&self.key).json(&body)
            }
            (What::TakeBack, 1) => rest.post(&format!("/v1/holds/{}/confirm", hold())).token(token),
            (What::TakeBack, _) => {
                let body = json!({ "restock": true, "reason": "back" });
                rest.post(&format!("/v1/orders/{}/refund", hold())).token(admin).key(&self.key).json(&body)
            }
        };
        call.attempt().await
    }

    /// What must be the same in an answer given again. An order that was paid may be refunded by now.
    fn essence(&self, step: usize, answer: &Value) -> Value {
        match (&self.what, step) {
            (What::Adjust(_), _) => answer.clone(),
            (What::TakeBack, 0) => json!([answer["hold"]["id"], answer["hold"]["total"], answer["hold"]["expires_at"]]),
            (What::TakeBack, 1) => json!([answer["order"]["id"], answer["order"]["at"]]),
            (What::TakeBack, _) => json!([answer["order"]["id"], answer["order"]["state"]]),
        }
    }
}
