//! What a rehearsal takes over, and what stays apart.

use serde_json::json;

use super::{ROOM, World, make, simulated};
use crate::support::{
    server::Plan,
    shop::{CORAL, TAN},
    token::{claims, with},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_has_the_goods_of_its_room_as_they_are_available() {
    let server = Plan::default().start().await;
    let shop = crate::support::shop::Shop::open(&server, ROOM).await;
    let buyer = shop.viewer_token(&server, "buyer");
    let body = json!({ "sku": TAN, "quantity": 2 });
    server.rest().post("/v1/holds").token(&buyer).key("k").json(&body).send().await.ok();
    shop.stock_settles(&server, TAN, [3, 2, 0]).await;

    let made = make(&server, &shop.anchor_token(&server), &json!({ "rehearsal_of": ROOM })).await.ok();
    assert_eq!(made["rehearsal_of"], ROOM);
    let id = made["id"].as_str().expect("an id");
    let (twin, real) = (server.rest().get(&format!("/v1/rooms/{id}")).send().await.ok(), shop.snapshot(&server).await);
    assert_eq!(twin["rehearsal_of"], ROOM);
    assert!(real.get("rehearsal_of").is_none() && real.get("state_hash").is_none());
    assert_eq!(twin["shelf"], real["shelf"]);
    assert_eq!(twin["stock"][TAN]["available"], 3);
    assert_eq!((&twin["stock"][TAN]["held"], &twin["stock"][CORAL]["available"]), (&json!(0), &json!(20)));
    let (twin_key, real_key) = (
        server.rest().get(&format!("/v1/keys?room={id}")).send().await.ok(),
        server.rest().get("/v1/keys").send().await.ok(),
    );
    assert_ne!(twin_key, real_key, "its ledger is signed with a key of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulated_people_buy_comment_and_like_there_and_are_counted_there() {
    let world = World::open(Plan::default()).await;
    let token = world.simulated("robot");
    let (real_coral, real_seq) =
        (world.entries(ROOM, CORAL).await, world.shop.snapshot(&world.server).await["seq"].clone());
    let mut ws = world.server.ws(&world.id).await;
    assert_eq!(ws.join(&token).await["rehearsal_of"], ROOM);
    ws.ok("comment", json!({ "text": "first!" })).await;
    assert_eq!(ws.ok("like", json!({ "count": 5 })).await["counted"], 5);
    let held = ws.ok("hold", json!({ "sku": CORAL, "quantity": 2, "key": "k" })).await;
    let paid = ws.ok("confirm", json!({ "hold": held["hold"]["id"] })).await;
    assert_eq!(paid["order"]["state"], "paid", "nobody pays in a rehearsal");
    ws.until("her likes, herself and her purchase", |view| view.likes == 5 && view.viewers == 1).await;
    let orders = world.server.rest().get("/v1/orders").token(&token).send().await.ok();
    assert_eq!(orders["orders"].as_array().map(Vec::len), Some(1));

    assert_eq!(world.entries(ROOM, CORAL).await, real_coral, "the real ledger knows nothing");
    let real = world.shop.snapshot(&world.server).await;
    assert_eq!((&real["seq"], &real["tally"]["likes"], &real["tally"]["viewers"]), (&real_seq, &json!(0), &json!(0)));
    let lobby = world.server.rest().get("/v1/rooms").send().await.ok();
    assert_eq!(lobby["rooms"].as_array().map(Vec::len), Some(1), "{lobby}");
    let everything = world.server.rest().get("/v1/orders").token(&world.server.tokens.admin()).send().await.ok();
    assert_eq!(everything["orders"].as_array().map(Vec::len), Some(0));
    let there = format!("/v1/orders?room={}", world.id);
    let there = world.server.rest().get(&there).token(&world.server.tokens.admin()).send().await.ok();
    assert_eq!(there["orders"].as_array().map(Vec::len), Some(1), "who names it sees it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_goes_to_the_desk_of_the_tokens_room() {
    let world = World::open(Plan::default()).await;
    let (real, twin) = (world.shop.viewer_token(&world.server, "ann"), world.server.tokens.viewer(&world.id, "ann"));
    let before = (world.entries(ROOM, TAN).await, world.entries(&world.id, TAN).await);
    // The same person, the same SKU, the same key.
    let one = world.hold(&real, TAN, "key").await.ok()["hold"]["id"].clone();
    let other = world.hold(&twin, TAN, "key").await;
    assert_eq!((other.status, other.header("idempotent-replayed")), (201, None));
    let other = other.ok()["hold"]["id"].clone();
    assert_ne!(one, other);
    let step = |n: &serde_json::Value| n.as_u64().map(|n| n + 1);
    assert_eq!(world.entries(ROOM, TAN).await.as_u64(), step(&before.0));
    assert_eq!(world.entries(&world.id, TAN).await.as_u64(), step(&before.1));
    for (token, theirs, not) in [(&real, &one, &other), (&twin, &other, &one)] {
        let path = |hold: &serde_json::Value| format!("/v1/holds/{}", hold.as_str().expect("an id"));
        world.server.rest().get(&path(theirs)).token(token).send().await.ok();
        assert_eq!(world.server.rest().get(&path(not)).token(token).send().await.status, 404);
    }
    // One for every room says which it means.
    let admin = world.server.tokens.admin();
    let body = json!({ "sku": TAN, "quantity": 1, "room": world.id });
    world.server.rest().post("/v1/holds").token(&admin).key("a").json(&body).send().await.ok();
    assert_eq!(world.entries(ROOM, TAN).await.as_u64(), step(&before.0));
    assert_eq!(world.entries(&world.id, TAN).await.as_u64(), before.1.as_u64().map(|n| n + 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_messages_stay_on_their_side() {
    let world = World::open(Plan::default()).await;
    let (real, twin) = (world.shop.viewer_token(&world.server, "ann"), world.server.tokens.viewer(&world.id, "ann"));
    let mut ws = world.server.ws(ROOM).await;
    ws.join(&real).await;
    world.hold(&twin, TAN, "key").await.ok();
    world.hold(&real, CORAL, "key").await.ok();
    let messages = async |token: String| {
        let told = world.server.rest().get("/v1/me/messages").token(&token).send().await.ok();
        told["messages"]
            .as_array()
            .expect("messages")
            .iter()
            .map(|m| m["hold"]["lines"][0]["sku"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(messages(real).await, [CORAL]);
    ws.ok("ping", json!({})).await;
    ws.until("her hold in the real room", |view| view.private.len() == 1).await;
    let heard: Vec<_> = ws.heard.iter().filter(|said| said.get("you").is_some()).collect();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["you"]["hold"]["lines"][0]["sku"], CORAL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_is_rehearsed_by_its_own_people_only() {
    let server = Plan::default().set("REHEARSAL__MAX", "3").start().await;
    let shop = crate::support::shop::Shop::open(&server, ROOM).await;
    let tokens = &server.tokens;
    let robot = tokens.mint(&with(claims("*", "admin", "robot"), json!({ "sim": true })));
    let body = json!({ "rehearsal_of": ROOM });
    let asked = [
        (tokens.viewer(ROOM, "viewer"), 403),
        (tokens.anchor(ROOM, "rival"), 403),
        (tokens.anchor("other", &shop.anchor), 403),
        (tokens.assistant(ROOM, "assistant", &["pin"]), 403),
        (tokens.merchant("other"), 403),
        (robot, 403),
        (tokens.merchant("main"), 201),
        (shop.anchor_token(&server), 201),
        (tokens.admin(), 201),
    ];
    for (number, (token, expected)) in asked.iter().enumerate() {
        let made = make(&server, token, &body).await;
        assert_eq!(made.status, *expected, "{number}: {}", made.text());
    }
    let one_more = make(&server, &tokens.admin(), &body).await;
    assert_eq!((one_more.status, one_more.problem().as_str()), (409, "limit_reached"));
    for wrong in
        [json!({ "id": "show" }), json!({ "id": "rehearsal." }), json!({ "speed": 0 }), json!({ "speed": 101 })]
    {
        let refused = make(&server, &tokens.admin(), &with(body.clone(), wrong.clone())).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "malformed"), "{wrong}");
    }
    let unknown = make(&server, &tokens.admin(), &json!({ "rehearsal_of": "nowhere" })).await;
    assert_eq!(unknown.status, 404);
    let pretends = json!({ "id": "rehearsal.real", "title": "T", "anchor": "a" });
    assert_eq!(make(&server, &tokens.admin(), &pretends).await.status, 400, "no real room has such an id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_loadtest_allowed_simulated_people_act_in_real_rooms_and_are_still_not_counted() {
    let server = Plan::default().set("LOADTEST__ALLOW", "true").start().await;
    let shop = crate::support::shop::Shop::open(&server, ROOM).await;
    let mut ws = server.ws(ROOM).await;
    ws.join(&simulated(&server, ROOM, "robot")).await;
    ws.ok("hold", json!({ "sku": TAN, "quantity": 1, "key": "k" })).await;
    ws.ok("comment", json!({ "text": "hello" })).await;
    ws.ok("like", json!({ "count": 5 })).await;
    shop.stock_settles(&server, TAN, [4, 1, 0]).await;
    let tally = shop.snapshot(&server).await["tally"].clone();
    assert_eq!(tally, json!({ "viewers": 0, "likes": 0 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulated_namesake_hears_no_private_messages_of_a_real_person() {
    let world = World::open(Plan::default()).await;
    let mut ws = world.server.ws(ROOM).await;
    ws.join(&simulated(&world.server, ROOM, "ann")).await;
    let mut own = world.server.ws(ROOM).await;
    let real = world.shop.viewer_token(&world.server, "ann");
    own.join(&real).await;
    world.hold(&real, TAN, "key").await.ok();
    own.until("her own message", |view| view.private.len() == 1).await;
    ws.until("the stock of her hold", |view| view.events.iter().any(|event| event["sku"] == TAN)).await;
    ws.ok("ping", json!({})).await;
    assert!(ws.view.private.is_empty(), "{:?}", ws.view.private);
    let told = world.server.rest().get("/v1/me/messages").token(&simulated(&world.server, ROOM, "ann")).send().await;
    assert_eq!(told.problem(), "rehearsal_only");
}
