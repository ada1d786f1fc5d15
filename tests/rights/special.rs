//! Rights that depend on more than who somebody is.

use maishou::client;
use serde_json::json;

use super::{
    ROOM, SKU, World, lamp,
    people::{
        EVERYBODY,
        Person::{
            Admin, Anchor, Assistant, Counter, Idle, Moderator, Neighbour, OtherMerchant, Owner, Pinner, Rival,
            Shelver, Viewer,
        },
    },
};
use crate::{
    media::clip,
    support::{offer::encoder, server::Plan, wait::DEADLINE},
};

#[tokio::test]
async fn with_payment_outside_only_the_shop_confirms() {
    let world = World::open(Plan::default().set("PAYMENT__PROVIDER", "external")).await;
    for person in EVERYBODY.iter().filter(|person| person.is_known()) {
        let path = format!("/v1/holds/{}/confirm", world.hold().await);
        let token = world.token(*person).expect("a token");
        let expected = match person {
            Owner | Admin => 200,
            Viewer => 403,
            _ => 404,
        };
        assert_eq!(world.rest().post(&path).token(&token).send().await.status, expected, "{person:?}");
    }
}

#[tokio::test]
async fn a_private_ledger_is_for_who_keeps_the_goods() {
    let world = World::open(Plan::default().set("LEDGER__PUBLIC", "false")).await;
    for person in EVERYBODY {
        let call = world.rest().get(&format!("/v1/skus/{SKU}/ledger"));
        let call = match world.token(*person) {
            Some(token) => call.token(&token),
            None => call,
        };
        let expected = match person {
            Owner | Admin => 200,
            OtherMerchant => 404,
            _ if !person.is_known() => 401,
            _ => 403,
        };
        assert_eq!(call.send().await.status, expected, "{person:?}");
    }
}

#[tokio::test]
async fn a_merchant_makes_products_and_rooms_of_their_own_only() {
    let world = World::open(Plan::default()).await;
    let (rest, other) = (world.rest(), world.token(OtherMerchant).expect("a token"));
    let mut mine = lamp();
    mine["skus"][0]["id"] = "candle".into();
    let made = rest.put("/v1/products/candle").token(&other).json(&mine).send().await.ok();
    assert_eq!(made["merchant"], "other", "a product belongs to the merchant of its first PUT");
    mine["merchant"] = "main".into();
    mine["skus"][0]["id"] = "torch".into();
    assert_eq!(rest.put("/v1/products/torch").token(&other).json(&mine).send().await.status, 403);

    let room = json!({ "id": "theirs", "title": "Theirs", "anchor": "a", "merchants": ["main"] });
    assert_eq!(rest.post("/v1/rooms").token(&other).json(&room).send().await.status, 403);
    let shelf = json!({ "products": ["candle"] });
    let anchor = world.token(Anchor).expect("a token");
    let path = format!("/v1/rooms/{ROOM}/shelf");
    assert_eq!(rest.put(&path).token(&anchor).json(&shelf).send().await.status, 403, "a shelf takes its merchants'");

    let by_admin = json!({ "title": "T", "price": { "amount": 1, "currency": "CNY" }, "skus": [{ "id": "t" }] });
    let made = rest.put("/v1/products/t").token(&world.server.tokens.admin()).json(&by_admin).send().await.ok();
    assert_eq!(made["merchant"], "main", "an admin's is main's");
}

#[tokio::test]
async fn people_see_their_own_orders_and_merchants_those_of_their_products() {
    let world = World::open(Plan::default()).await;
    let order = world.order().await;
    for (person, sees) in [(Viewer, 1), (Owner, 1), (Admin, 1), (Neighbour, 0), (OtherMerchant, 0), (Anchor, 0)] {
        let token = world.token(person).expect("a token");
        let orders = world.rest().get("/v1/orders").token(&token).send().await.ok();
        let orders = orders["orders"].as_array().expect("orders").clone();
        assert_eq!(orders.len(), sees, "{person:?}: {orders:?}");
        for seen in orders {
            assert_eq!(seen["id"], order.as_str());
            let buyer = (person != Viewer).then_some("viewer");
            assert_eq!(seen["buyer"].as_str(), buyer, "a sub goes to the merchant and to admins: {person:?}");
        }
    }
}

#[tokio::test]
async fn an_assistant_counts_only_what_is_on_the_shelf_of_her_room() {
    let world = World::open(Plan::default()).await;
    let body = json!({ "delta": 1, "reason": "found" });
    for (sku, expected) in [("tote-tan", 200), ("scarf-coral", 403)] {
        let token = world.token(Counter).expect("a token");
        let path = format!("/v1/skus/{sku}/stock");
        let answer = world.rest().post(&path).token(&token).key(sku).json(&body).send().await;
        assert_eq!(answer.status, expected, "{sku}: {}", answer.text());
    }
}

#[tokio::test]
async fn the_anchor_cannot_be_silenced_in_her_own_room() {
    let world = World::open(Plan::default()).await;
    let mut anchor = world.server.ws(ROOM).await;
    let who = anchor.join(&world.token(Anchor).expect("a token")).await["who"].clone();
    let mut assistant = world.server.ws(ROOM).await;
    assistant.join(&world.token(Assistant).expect("a token")).await;
    for action in ["mute", "kick"] {
        let fields = json!({ "action": action, "who": who });
        assert_eq!(assistant.refused("moderate", fields).await, "forbidden", "{action}");
    }
    anchor.ok("comment", json!({ "text": "still here" })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_anchor_is_live_nobody_else_takes_her_room() {
    let world = World::open(Plan::default()).await;
    let (server, room) = (client::Server::at(world.server.http), ROOM.parse().expect("a room's id"));
    let token = world.token(Anchor).expect("a token");
    let live = client::Anchor::publish(&server, &room, &token, clip(), &client::Config::default()).await;
    let live = live.expect("she goes live");
    live.wait_for(DEADLINE, |stats| stats.packets > 10).await.expect("she sends");

    for person in EVERYBODY.iter().filter(|person| **person != Anchor) {
        let call = world.rest().post(&format!("/whip/{ROOM}")).body("application/sdp", encoder());
        let call = match world.token(*person) {
            Some(token) => call.token(&token),
            None => call,
        };
        let answer = call.send().await;
        let expected = match person {
            Rival | Assistant | Idle | Pinner | Moderator | Shelver | Counter | Admin => (409, "already_live"),
            _ if !person.is_known() => (401, "unauthorized"),
            _ => (403, "forbidden"),
        };
        assert_eq!((answer.status, answer.problem().as_str()), expected, "{person:?}");
    }
    let sent = live.stats();
    assert_eq!(sent.sessions, 1, "she was not disturbed");
    live.wait_for(DEADLINE, |stats| stats.packets > sent.packets + 50).await.expect("and goes on");
    live.stop().await;
}
