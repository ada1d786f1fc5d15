//! Tokens that nobody should accept.

use serde_json::json;

use super::{Counter, ROOM, assert_refused};
use crate::support::{
    server::Plan,
    token::{claims, with},
};

#[tokio::test]
async fn a_token_that_is_not_ours_or_not_good_any_more_opens_nothing() {
    let counter = Counter::open(Plan::default()).await;
    for (what, token) in wrong(&counter) {
        let answer = counter.server.rest().get("/v1/orders").token(&token).send().await;
        assert_refused(&answer, 401, "unauthorized", what);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");

        // The upgrade succeeds, so that a browser learns why it is turned away.
        let mut ws = counter.server.ws(ROOM).await;
        assert_eq!(ws.refused("join", json!({ "token": token })).await, "unauthorized", "{what}");
        assert_eq!(ws.close_code().await, 3500, "{what}");
        assert_eq!(ws.view.snapshots, 0, "{what}");

        let events = format!("/v1/rooms/{ROOM}/events?token={token}");
        assert_refused(&counter.server.rest().get(&events).send().await, 401, "unauthorized", what);
    }
    counter.is_untouched().await;
}

#[tokio::test]
async fn a_bad_token_is_worse_than_none_even_where_none_is_needed() {
    let counter = Counter::open(Plan::default()).await;
    let path = "/v1/skus/scarf-coral/ledger";
    counter.server.rest().get(path).send().await.ok();
    let forged = counter.server.tokens.forged(ROOM, "mallory");
    assert_refused(&counter.server.rest().get(path).token(&forged).send().await, 401, "unauthorized", "forged");
}

#[tokio::test]
async fn what_is_not_a_bearer_token_is_not_one() {
    let counter = Counter::open(Plan::default()).await;
    for header in ["Basic aGVsbG86d29ybGQ=", "Bearer", "Bearer ", &counter.viewer] {
        let answer = counter.server.rest().get("/v1/orders").header("authorization", header).send().await;
        assert_refused(&answer, 401, "unauthorized", header);
    }
    assert_refused(&counter.server.rest().get("/v1/orders").send().await, 401, "unauthorized", "none");
    counter.is_untouched().await;
}

fn wrong(counter: &Counter) -> Vec<(&'static str, String)> {
    let tokens = &counter.server.tokens;
    let good = tokens.viewer(ROOM, "mallory");
    let (body, signature) = good.rsplit_once('.').expect("a token has three parts");
    let strange = |more| tokens.mint(&with(claims(ROOM, "viewer", "mallory"), more));
    vec![
        ("no token", "x".to_owned()),
        ("forged", tokens.forged(ROOM, "mallory")),
        ("expired", tokens.expired(ROOM, "mallory")),
        ("endless", tokens.without_end(ROOM, "mallory")),
        ("of another algorithm", tokens.other_algorithm(ROOM, "mallory")),
        ("unsigned", tokens.unsigned(ROOM, "mallory")),
        ("with its signature cut off", format!("{body}.")),
        ("with another's signature", format!("{body}.{}", signature.chars().rev().collect::<String>())),
        ("with a role that there is not", strange(json!({ "role": "king" }))),
        ("with a sub that is too long", strange(json!({ "sub": "s".repeat(129) }))),
        ("of a merchant without a name", strange(json!({ "role": "merchant" }))),
        ("for a room that cannot be", strange(json!({ "room": "a b" }))),
        ("too long to look at", strange(json!({ "name": "n".repeat(9_000) }))),
    ]
}
