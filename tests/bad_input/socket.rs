//! The WebSocket.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, http::HeaderValue};

use super::{Counter, ROOM};
use crate::support::{
    server::{Plan, Server},
    shop::{CORAL, SCARF, TAN},
    ws::{SUBPROTOCOL, Ws, upgrade},
};

#[tokio::test]
async fn an_upgrade_without_our_subprotocol_or_room_is_refused_as_a_problem() {
    let counter = Counter::open(Plan::default()).await;
    for (room, protocol, status, code) in [
        (ROOM, None, 400, "malformed"),
        (ROOM, Some("mqtt"), 400, "malformed"),
        (ROOM, Some("maishou.v2.json"), 400, "malformed"),
        ("nowhere", Some(SUBPROTOCOL), 404, "not_found"),
    ] {
        let (found, problem) = refused_upgrade(&counter.server, room, protocol).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{protocol:?}: {problem}");
        assert!(problem["request_id"].is_string(), "{problem}");
    }
    let mut both = upgrade(counter.server.http, ROOM);
    let offered = HeaderValue::from_static("mqtt, maishou.v1.json");
    both.headers_mut().insert("sec-websocket-protocol", offered);
    let mut ws = Ws::open(counter.server.http, both).await.expect("ours is among them");
    ws.join(&counter.viewer).await;
    counter.is_untouched().await;
}

#[tokio::test]
async fn what_is_not_a_command_is_answered_once_and_the_session_goes_on() {
    let counter = Counter::open(unhurried()).await;
    let mut ws = counter.server.ws(ROOM).await;
    assert_eq!(ws.refused("comment", json!({ "text": "too early" })).await, "not_joined");
    ws.join(&counter.viewer).await;
    for (text, re, code) in [
        ("{", Value::Null, "malformed"),
        ("", Value::Null, "malformed"),
        ("[]", Value::Null, "malformed"),
        ("\"ping\"", Value::Null, "malformed"),
        (r#"{"ping":{}}"#, Value::Null, "malformed"),
        (r#"{"id":-1,"ping":{}}"#, Value::Null, "malformed"),
        (r#"{"id":"x","ping":{}}"#, Value::Null, "malformed"),
        (r#"{"id":9007}"#, json!(9007), "malformed"),
        (r#"{"id":9008,"ping":{},"like":{}}"#, json!(9008), "malformed"),
        (r#"{"id":9009,"ping":5}"#, json!(9009), "malformed"),
        (r#"{"id":9010,"dance":{}}"#, json!(9010), "unknown_command"),
        (r#"{"id":9011,"JOIN":{}}"#, json!(9011), "unknown_command"),
    ] {
        let heard = ws.heard.len();
        ws.send_text(text).await;
        ws.ok("ping", json!({})).await;
        let answers: Vec<&Value> = ws.heard[heard..].iter().filter(|said| said.get("error").is_some()).collect();
        let [answer] = answers.as_slice() else { panic!("{text}: answered once: {answers:?}") };
        assert_eq!((&answer["re"], &answer["error"]["code"]), (&re, &json!(code)), "{text}: {answer}");
    }
    assert_eq!(ws.refused("join", json!({ "token": counter.viewer })).await, "conflict");
    ws.ok("ping", json!({})).await;
    counter.is_untouched().await;
}

#[tokio::test]
async fn a_command_that_makes_no_sense_is_refused_by_its_code() {
    let counter = Counter::open(unhurried()).await;
    let mut anchor = counter.server.ws(ROOM).await;
    anchor.join(&counter.shop.anchor_token(&counter.server)).await;
    let before = counter.shop.snapshot(&counter.server).await["seq"].clone();
    let hold = |quantity: Value| json!({ "sku": CORAL, "quantity": quantity, "key": "bad" });
    for (name, fields, code) in [
        ("comment", json!({}), "malformed"),
        ("comment", json!({ "text": 5 }), "malformed"),
        ("comment", json!({ "text": "" }), "malformed"),
        ("comment", json!({ "text": " \n\t " }), "malformed"),
        ("comment", json!({ "text": "\u{200b}\u{202e}\u{7}" }), "malformed"),
        ("comment", json!({ "text": "买".repeat(201) }), "malformed"),
        ("like", json!({ "count": 0 }), "malformed"),
        ("like", json!({ "count": 51 }), "malformed"),
        ("like", json!({ "count": -1 }), "malformed"),
        ("like", json!({ "count": "many" }), "malformed"),
        ("hold", hold(json!(0)), "malformed"),
        ("hold", hold(json!(-1)), "malformed"),
        ("hold", hold(json!(1001)), "malformed"),
        ("hold", hold(json!(u64::MAX)), "malformed"),
        ("hold", json!({ "sku": CORAL, "quantity": 1 }), "malformed"),
        ("hold", json!({ "sku": CORAL, "quantity": 1, "key": "" }), "malformed"),
        ("hold", json!({ "sku": "nothing", "quantity": 1, "key": "bad" }), "not_found"),
        ("hold", json!({ "sku": TAN, "quantity": 6, "key": "bad" }), "sold_out"),
        ("confirm", json!({ "hold": "x" }), "malformed"),
        ("confirm", json!({ "hold": uuid::Uuid::now_v7() }), "not_found"),
        ("cancel", json!({ "hold": uuid::Uuid::now_v7() }), "not_found"),
        ("extend", json!({}), "malformed"),
        ("pin", json!({ "product": "nothing" }), "not_found"),
        ("pin", json!({ "product": SCARF, "explain_seconds": 0 }), "malformed"),
        ("moderate", json!({}), "malformed"),
        ("moderate", json!({ "action": "shout" }), "malformed"),
        ("moderate", json!({ "action": "mute" }), "malformed"),
        ("moderate", json!({ "action": "delete_comment", "comment": 1u64 << 40 }), "not_found"),
        ("moderate", json!({ "action": "pin_comment", "comment": 1u64 << 40 }), "not_found"),
        ("moderate", json!({ "action": "slow_mode", "seconds": 601 }), "malformed"),
        ("moderate", json!({ "action": "slow_mode", "seconds": -1 }), "malformed"),
        ("publish", json!({ "sdp": "hello" }), "bad_offer"),
        ("watch", json!({ "sdp": "hello" }), "bad_offer"),
        ("watch", json!({}), "malformed"),
        ("candidate", json!({ "session": uuid::Uuid::now_v7(), "candidate": "x" }), "not_found"),
        ("leave", json!({ "session": uuid::Uuid::now_v7() }), "not_found"),
        ("leave", json!({ "session": "x" }), "malformed"),
    ] {
        let answer = anchor.command(name, fields.clone()).await;
        assert_eq!(answer["error"]["code"], code, "{name} {fields}: {answer}");
    }
    assert_eq!(counter.shop.snapshot(&counter.server).await["seq"], before, "nothing was logged");
    counter.is_untouched().await;
}

#[tokio::test]
async fn a_comment_is_cleaned_and_two_hundred_characters_are_not_too_many() {
    let counter = Counter::open(unhurried()).await;
    let mut ws = counter.server.ws(ROOM).await;
    ws.join(&counter.viewer).await;
    let longest = "买".repeat(200);
    for (raw, shown) in [
        ("  好看\u{202e}!\u{200b}\n多少钱\u{7} ", "好看! 多少钱"),
        ("e\u{301}", "é"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
        (longest.as_str(), longest.as_str()),
    ] {
        let event = ws.ok("comment", json!({ "text": raw })).await["event"].clone();
        assert_eq!(event["text"], shown, "the author sees hers in the answer");
        ws.until("the comment to be shown", |view| view.has_comment(shown)).await;
    }
    counter.is_untouched().await;
}

#[tokio::test]
async fn twenty_likes_a_second_are_counted_and_not_more() {
    let counter = Counter::open(unhurried()).await;
    let mut ws = counter.server.ws(ROOM).await;
    ws.join(&counter.viewer).await;
    assert_eq!(ws.ok("like", json!({ "count": 50 })).await["counted"], 20);
    // At once again is in the same second, or at most one later.
    let mut counted = 20;
    for _ in 0..50 {
        let answer = ws.command("like", json!({ "count": 50 })).await;
        match answer.get("ok") {
            Some(ok) => counted += ok["counted"].as_u64().expect("a count"),
            None => assert_eq!(answer["error"]["code"], "rate_limited", "{answer}"),
        }
    }
    ws.until("the tally to say so", |view| view.likes == counted).await;
    assert!(counted < 51 * 20, "{counted} of {} likes are counted", 51 * 50);
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_with_3502() {
    let counter = Counter::open(Plan::default().set("FANOUT__JOIN_SECONDS", "1")).await;
    let long = json!({ "id": 2, "comment": { "text": "x".repeat(70_000) } }).to_string();
    let wrong = [Message::text(long), Message::binary(Bytes::from_static(b"{\"id\":2,\"ping\":{}}"))];
    for message in wrong {
        let mut ws = counter.server.ws(ROOM).await;
        ws.join(&counter.viewer).await;
        ws.send(message).await;
        assert_eq!(ws.close_code().await, 3502);
    }
    let mut silent = counter.server.ws(ROOM).await;
    assert_eq!(silent.close_code().await, 3502, "somebody who does not join");
    counter.is_untouched().await;
}

#[tokio::test]
async fn a_token_for_another_room_is_refused_with_3500() {
    let counter = Counter::open(Plan::default()).await;
    let mut ws = counter.server.ws(ROOM).await;
    let elsewhere = counter.server.tokens.viewer("elsewhere", "eve");
    assert_eq!(ws.refused("join", json!({ "token": elsewhere })).await, "forbidden");
    assert_eq!(ws.close_code().await, 3500);
    counter.is_untouched().await;
}

async fn refused_upgrade(server: &Server, room: &str, protocol: Option<&'static str>) -> (u16, Value) {
    let mut request = upgrade(server.http, room);
    if let Some(protocol) = protocol {
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
    }
    match Ws::open(server.http, request).await {
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            (response.status().as_u16(), serde_json::from_slice(body).unwrap_or_default())
        }
        Err(error) => panic!("refused, but not as a problem: {error}"),
        Ok(_) => panic!("an upgrade to {room} with {protocol:?} was not refused"),
    }
}

fn unhurried() -> Plan {
    let rates = ["COMMANDS", "COMMENTS", "HOLDS"];
    rates.iter().fold(Plan::default(), |plan, what| plan.set(&format!("LIMITS__{what}_PER_SECOND"), "1000"))
}
