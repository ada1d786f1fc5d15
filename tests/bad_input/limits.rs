//! Every limit has an answer for "full".

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::assert_refused;
use crate::support::{
    offer::player,
    rest::Answer,
    server::{Plan, Server},
    shop::{CORAL, SCARF, Shop, TAN, TOTE},
    wait::{DEADLINE, wait_until, within},
    ws::Ws,
};

const ROOM: &str = "narrow";

#[tokio::test]
async fn an_address_that_asks_too_fast_waits_as_long_as_it_is_told() {
    let server = Plan::default().set("LIMITS__REQUESTS_PER_SECOND", "1").start().await;
    let refused = wait_until("a refusal", DEADLINE, async || {
        let answer = server.rest().get("/v1/rooms").send().await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    is_rate_limited(&refused);
    wait_until("to be let in again", DEADLINE, async || {
        (server.rest().get("/v1/rooms").send().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_person_who_holds_too_fast_is_told_when_to_come_back() {
    let (server, shop) = open(&[("LIMITS__HOLDS_PER_SECOND", "1")]).await;
    let mut number = 0_u64;
    let refused = wait_until("a refusal", DEADLINE, async || {
        number += 1;
        let answer = hold(&server, &shop, &format!("k{number}"), json!({ "sku": CORAL, "quantity": 1 })).await;
        (answer.status == 429).then_some(answer)
    })
    .await;
    is_rate_limited(&refused);
    let held = number - 1;
    shop.stock_settles(&server, CORAL, [20 - held, held, 0]).await;
}

#[tokio::test]
async fn somebody_who_talks_too_fast_is_told_and_stays() {
    let (server, shop) = open(&[("LIMITS__COMMENTS_PER_SECOND", "1"), ("LIMITS__COMMANDS_PER_SECOND", "1000")]).await;
    let mut ws = server.ws(ROOM).await;
    ws.join(&shop.viewer_token(&server, "chatty")).await;
    let mut answers = Vec::new();
    for number in 0..20 {
        answers.push(ws.command("comment", json!({ "text": format!("and {number}") })).await);
    }
    let refused: Vec<&Value> = answers.iter().filter_map(|answer| answer.get("error")).collect();
    assert!(refused.len() > 10, "{answers:?}");
    for error in refused {
        assert_eq!(error["code"], "rate_limited");
        assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| (1..=1_000).contains(&ms)), "{error}");
    }
    ws.ok("ping", json!({})).await;
}

#[tokio::test]
async fn commands_that_come_too_fast_are_each_answered() {
    let (server, shop) = open(&[("LIMITS__COMMANDS_PER_SECOND", "2")]).await;
    let mut ws = server.ws(ROOM).await;
    ws.join(&shop.viewer_token(&server, "busy")).await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(ws.send_command("ping", json!({})).await);
    }
    let mut refused = 0;
    for id in ids {
        let answer = ws.answer(id).await;
        if let Some(error) = answer.get("error") {
            assert_eq!(error["code"], "rate_limited", "{answer}");
            refused += 1;
        }
    }
    assert!(refused > 10, "{refused} of 30 were refused");
}

#[tokio::test]
async fn one_person_has_so_many_connections_and_a_place_is_given_back() {
    let (server, shop) = open(&[("LIMITS__CONNECTIONS_PER_PERSON", "2")]).await;
    let token = shop.viewer_token(&server, "tabs");
    let (mut first, mut second) = (server.ws(ROOM).await, server.ws(ROOM).await);
    first.join(&token).await;
    second.join(&token).await;

    let mut third = server.ws(ROOM).await;
    assert_eq!(third.refused("join", json!({ "token": token })).await, "limit_reached");
    assert_eq!(third.close_code().await, 3503);
    let events = server.rest().get(&format!("/v1/rooms/{ROOM}/events")).token(&token).send().await;
    is_rate_limited(&events);
    let mut other = server.ws(ROOM).await;
    other.join(&shop.viewer_token(&server, "somebody-else")).await;

    first.vanish();
    wait_until("the place to be free", DEADLINE, async || {
        let mut again = server.ws(ROOM).await;
        again.command("join", json!({ "token": token })).await.get("ok").map(drop)
    })
    .await;
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let (server, shop) = open(&[("LIMITS__CONNECTIONS_PER_ADDRESS", "1")]).await;
    let mut only = server.ws(ROOM).await;
    only.join(&shop.viewer_token(&server, "first")).await;
    let token = shop.viewer_token(&server, "second");
    let events = server.rest().get(&format!("/v1/rooms/{ROOM}/events")).token(&token).send().await;
    is_rate_limited(&events);
    only.ok("ping", json!({})).await;
}

#[tokio::test]
async fn an_exempt_address_has_as_many_connections_as_it_likes() {
    let (server, shop) =
        open(&[("LIMITS__CONNECTIONS_PER_ADDRESS", "1"), ("LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#)]).await;
    let (mut one, mut other) = (server.ws(ROOM).await, server.ws(ROOM).await);
    one.join(&shop.viewer_token(&server, "one")).await;
    other.join(&shop.viewer_token(&server, "other")).await;
}

#[tokio::test]
async fn one_person_has_so_many_video_sessions_and_a_place_is_given_back() {
    let (server, shop) = open(&[("LIMITS__CONNECTIONS_PER_PERSON", "1")]).await;
    let offer = |sub: &str| {
        let token = shop.viewer_token(&server, sub);
        server.rest().post(&format!("/whep/{ROOM}")).token(&token).body("application/sdp", player()).send()
    };
    let first = offer("alice").await;
    assert_eq!(first.status, 201, "{}", first.text());
    is_rate_limited(&offer("alice").await);
    assert_eq!(offer("bob").await.status, 201);
    let session = first.header("location").expect("a session").to_owned();
    server.rest().delete(&session).token(&shop.viewer_token(&server, "alice")).send().await.ok();
    assert_eq!(offer("alice").await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_newcomers_is_let_in_at_a_rate_and_each_of_the_others_is_told_when_to_come_again() {
    let (server, shop) = open(&[("LIMITS__ARRIVALS_PER_SECOND", "5")]).await;
    let mut waits = Vec::new();
    let mut inside = Vec::new();
    for number in 0..40 {
        let mut ws = server.ws(ROOM).await;
        let token = shop.viewer_token(&server, &format!("viewer-{number}"));
        match ws.attempt("join", json!({ "token": token })).await {
            Some(answer) => {
                assert!(answer.get("ok").is_some(), "{answer}");
                inside.push(ws);
            }
            None => {
                let (code, reason) = ws.closed.expect("told why");
                assert_eq!(code, 3000);
                waits.push(reason.parse::<u64>().expect("milliseconds"));
            }
        }
    }
    assert!(inside.len() >= 5 && waits.len() >= 20, "{} let in, {waits:?}", inside.len());
    assert!(waits.iter().all(|wait| (500..=60_000).contains(wait)), "{waits:?}");
    assert!(
        waits.windows(2).filter(|pair| pair[0] < pair[1]).count() > waits.len() / 2,
        "one behind the other: {waits:?}"
    );
    let path = format!("/v1/rooms/{ROOM}/events");
    let token = shop.viewer_token(&server, "listener");
    let refused = wait_until("a stream to be turned away", DEADLINE, async || {
        let mut ws = server.ws(ROOM).await;
        let _ = ws.attempt("ping", json!({})).await;
        let call = || server.rest().get(&path).token(&token);
        (call().status().await == 503).then_some(call().send())
    })
    .await
    .await;
    if refused.status == 503 {
        assert_eq!(refused.problem(), "busy");
        assert!(refused.header("retry-after").is_some());
    }
    let metrics = server.rest().get("/metrics").token(&server.tokens.admin()).send().await.text();
    let turned_away =
        metrics.lines().find_map(|line| line.strip_prefix("maishou_turned_away_total ")).expect("a count");
    assert!(turned_away.parse::<f64>().expect("a number") >= waits.len() as f64);

    wait_until("somebody to be let in again", DEADLINE, async || {
        let mut ws = server.ws(ROOM).await;
        ws.attempt("join", json!({ "token": token })).await.map(drop)
    })
    .await;
    inside[0].ok("ping", json!({})).await;
}

#[tokio::test]
async fn what_nests_too_deep_is_refused_over_socket_and_rest() {
    let (server, shop) = open(&[("LIMITS__JSON_DEPTH_MAX", "4")]).await;
    let mut ws = server.ws(ROOM).await;
    ws.join(&shop.viewer_token(&server, "deep")).await;
    let nested = |depth: usize| -> Value {
        serde_json::from_str(&("[".repeat(depth) + &"]".repeat(depth))).expect("brackets that match")
    };
    ws.ok("comment", json!({ "text": "flat", "more": nested(2) })).await;
    let heard = ws.heard.len();
    ws.send_command("comment", json!({ "text": "deep", "more": nested(3) })).await;
    ws.ok("ping", json!({})).await;
    let refusal = ws.heard[heard..].iter().find_map(|said| said.get("error")).expect("a refusal");
    assert_eq!(refusal["code"], "malformed", "{refusal}");
    ws.send_text(&"[".repeat(60_000)).await;
    ws.ok("ping", json!({})).await;
    let deep = json!({ "products": [SCARF], "more": nested(4) });
    let call = server.rest().put(&format!("/v1/rooms/{ROOM}/shelf")).token(&server.tokens.admin());
    assert_refused(&call.json(&deep).send().await, 400, "malformed", "a deep body");
}

#[tokio::test]
async fn likes_beyond_the_rate_are_not_counted() {
    let (server, shop) = open(&[("LIMITS__LIKES_PER_SECOND", "3")]).await;
    let mut ws = server.ws(ROOM).await;
    ws.join(&shop.viewer_token(&server, "fan")).await;
    assert_eq!(ws.ok("like", json!({ "count": 50 })).await["counted"], 3);
}

#[tokio::test]
async fn who_sends_a_head_or_a_body_too_slowly_is_given_up() {
    let (server, _shop) = open(&[("HTTP__HEAD_SECONDS", "1"), ("HTTP__BODY_SECONDS", "1")]).await;
    let token = server.tokens.admin();
    let head = format!(
        "POST /v1/rooms HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: 90\r\n\r\n{{\"id\":"
    );
    for (sent, answered) in [("GET /healthz HTTP/1.1\r\nhost:", false), (head.as_str(), true)] {
        let mut slow = TcpStream::connect(server.http).await.expect("a connection");
        slow.write_all(sent.as_bytes()).await.expect("it is taken");
        let mut answer = String::new();
        let read = slow.read_to_string(&mut answer);
        within("to be given up", DEADLINE, read).await.expect("an end");
        assert_eq!(answer.contains("\"code\":\"malformed\""), answered, "{answer}");
        assert!(!answer.contains("201"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_answers_no_ping_is_closed_as_silent_and_who_does_stays() {
    let (server, shop) = open(&[("FANOUT__PING_SECONDS", "1"), ("FANOUT__SILENT_SECONDS", "3")]).await;
    let mut silent = server.ws(ROOM).await;
    silent.join(&shop.viewer_token(&server, "silent")).await;
    let mut awake = server.ws(ROOM).await;
    awake.join(&shop.viewer_token(&server, "awake")).await;
    // She says nothing herself, but her machine answers pings.
    let listening = tokio::spawn(async move { while awake.next().await.is_some() {} });
    closed_with(&server, 3002).await;
    within("the end of her connection", DEADLINE, async { while silent.next().await.is_some() {} }).await;
    assert!(!listening.is_finished(), "who answers stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_nothing_for_too_long_is_given_up_as_slow() {
    let (server, shop) = open(&[
        ("FANOUT__STALL_SECONDS", "2"),
        ("FANOUT__SEND_BUFFER_BYTES", "4096"),
        ("ROOM__CHAT_PER_SECOND", "0"),
        ("LIMITS__COMMENTS_PER_SECOND", "100000"),
        ("LIMITS__COMMANDS_PER_SECOND", "100000"),
    ])
    .await;
    let mut stalled = Ws::connect_narrow(server.http, ROOM, 4_096).await;
    stalled.join(&shop.viewer_token(&server, "stalled")).await;
    let mut talker = server.ws(ROOM).await;
    talker.join(&shop.viewer_token(&server, "talker")).await;
    for number in 0..300 {
        talker.ok("comment", json!({ "text": format!("{number} {}", "买".repeat(190)) })).await;
    }
    closed_with(&server, 3001).await;
    within("the end of her connection", DEADLINE, async { while stalled.next().await.is_some() {} }).await;
    assert!(stalled.view.comments.len() < 300, "she has not read it all");
    talker.ok("ping", json!({})).await;
}

/// Waits until the server has ended a connection with this code.
async fn closed_with(server: &Server, code: u16) {
    let line = format!("maishou_closed_total{{code=\"{code}\"}} 1");
    wait_until(&line, DEADLINE, async || {
        let metrics = server.rest().get("/metrics").token(&server.tokens.admin()).send().await.text();
        metrics.lines().any(|said| said == line).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_server_and_a_hold_may_have_at_most_is_as_configured() {
    let (server, shop) = open(&[
        ("ORDER__LINES_PER_HOLD_MAX", "1"),
        ("ORDER__QUANTITY_MAX", "2"),
        ("ROOM__SHELF_MAX", "2"),
        ("ROOM__ROOMS_MAX", "1"),
        ("ROOM__PRODUCTS_MAX", "2"),
        ("ROOM__SKUS_PER_PRODUCT_MAX", "2"),
        ("HTTP__BODY_BYTES_MAX", "1000"),
        ("MEDIA__OFFER_BYTES_MAX", "100"),
    ])
    .await;
    let two = json!({ "lines": [{ "sku": CORAL, "quantity": 1 }, { "sku": TAN, "quantity": 1 }] });
    assert_refused(&hold(&server, &shop, "a", two).await, 400, "malformed", "two lines");
    let three = json!({ "sku": CORAL, "quantity": 3 });
    assert_refused(&hold(&server, &shop, "b", three).await, 400, "malformed", "three pieces");

    let (rest, admin) = (server.rest(), server.tokens.admin());
    let room = json!({ "id": "another", "title": "Another", "anchor": "a" });
    let answer = rest.post("/v1/rooms").token(&admin).json(&room).send().await;
    assert_refused(&answer, 409, "limit_reached", "another room");
    let hat = json!({ "title": "Hat", "price": { "amount": 1, "currency": "CNY" }, "skus": [{ "id": "hat" }] });
    let answer = rest.put("/v1/products/hat").token(&admin).json(&hat).send().await;
    assert_refused(&answer, 409, "limit_reached", "another product");
    let skus: Vec<Value> = ["a", "b", "c"].map(|id| json!({ "id": id })).into();
    let cups = json!({ "title": "Cups", "price": { "amount": 1, "currency": "CNY" }, "skus": skus });
    let answer = rest.put(&format!("/v1/products/{SCARF}")).token(&admin).json(&cups).send().await;
    assert_refused(&answer, 400, "malformed", "three SKUs");
    let shelf = json!({ "products": [SCARF, TOTE, SCARF] });
    let answer = rest.put(&format!("/v1/rooms/{ROOM}/shelf")).token(&admin).json(&shelf).send().await;
    assert_refused(&answer, 400, "malformed", "three on the shelf");
    let long = json!({ "products": [], "more": "x".repeat(1_000) });
    let answer = rest.put(&format!("/v1/rooms/{ROOM}/shelf")).token(&admin).json(&long).send().await;
    assert_refused(&answer, 413, "too_large", "a long body");
    let offer = "v=0\r\n".repeat(30);
    let answer = rest.post(&format!("/whep/{ROOM}")).token(&admin).body("application/sdp", offer).send().await;
    assert_refused(&answer, 413, "too_large", "a long offer");
    assert_eq!(shop.snapshot(&server).await["shelf"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn open_holds_are_bounded_for_one_person_and_for_all() {
    let (server, shop) = open(&[("ORDER__HOLDS_OPEN_PER_PERSON_MAX", "1"), ("ORDER__HOLDS_OPEN_MAX", "2")]).await;
    let one = json!({ "sku": CORAL, "quantity": 1 });
    let first = hold(&server, &shop, "a", one.clone()).await.ok();
    assert_refused(&hold(&server, &shop, "b", one.clone()).await, 409, "limit_reached", "a second of hers");

    let by = |sub: &str| {
        let token = shop.viewer_token(&server, sub);
        server.rest().post("/v1/holds").token(&token).key("k").json(&one).send()
    };
    by("second").await.ok();
    let full = by("third").await;
    assert_refused(&full, 503, "busy", "a third of all");
    assert!(full.header("retry-after").is_some() && full.json()["retry_after_ms"].is_u64(), "{}", full.text());

    let path = format!("/v1/holds/{}/cancel", first["hold"]["id"].as_str().expect("a hold"));
    server.rest().post(&path).token(&shop.viewer_token(&server, "buyer")).send().await.ok();
    by("third").await.ok();
    shop.stock_settles(&server, CORAL, [18, 2, 0]).await;
}

#[tokio::test]
async fn a_full_server_turns_sockets_away_with_3503() {
    let (server, shop) = open(&[("FANOUT__CONNECTIONS_MAX", "1")]).await;
    let mut only = server.ws(ROOM).await;
    only.join(&shop.viewer_token(&server, "first")).await;
    let mut second = server.ws(ROOM).await;
    assert_eq!(second.close_code().await, 3503);
    only.ok("ping", json!({})).await;
}

#[tokio::test]
async fn who_asks_and_never_reads_the_answers_is_closed_as_slow() {
    let (server, shop) = open(&[
        ("FANOUT__REPLIES_MAX", "8"),
        ("FANOUT__SEND_BUFFER_BYTES", "4096"),
        ("LIMITS__COMMANDS_PER_SECOND", "100000"),
    ])
    .await;
    let mut ws = Ws::connect_narrow(server.http, ROOM, 4_096).await;
    ws.join(&shop.viewer_token(&server, "deaf")).await;
    for _ in 0..3_000 {
        ws.send_command("ping", json!({})).await;
    }
    assert_eq!(ws.close_code().await, 3001);
}

async fn open(settings: &[(&str, &str)]) -> (Server, Shop) {
    let plan = settings.iter().fold(Plan::default(), |plan, (key, value)| plan.set(key, value));
    let server = plan.start().await;
    let shop = Shop::open(&server, ROOM).await;
    (server, shop)
}

async fn hold(server: &Server, shop: &Shop, key: &str, body: Value) -> Answer {
    let token = shop.viewer_token(server, "buyer");
    server.rest().post("/v1/holds").token(&token).key(key).json(&body).send().await
}

#[track_caller]
fn is_rate_limited(answer: &Answer) {
    assert_refused(answer, 429, "rate_limited", "too fast");
    let seconds: u64 = answer.header("retry-after").and_then(|s| s.parse().ok()).expect("Retry-After in seconds");
    let ms = answer.json()["retry_after_ms"].as_u64().expect("retry_after_ms");
    assert!(seconds >= 1 && ms >= 1 && ms <= seconds * 1_000, "{ms} ms, {seconds} s");
}
