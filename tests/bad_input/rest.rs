//! REST, WHIP and WHEP.

use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Counter, ROOM, assert_refused};
use crate::support::{
    rest::{Answer, Call},
    server::Plan,
    shop::{CORAL, SCARF, TAN, TOTE},
};

#[tokio::test]
async fn a_hold_that_makes_no_sense_is_refused_by_its_code() {
    let counter = Counter::open(unhurried()).await;
    let lines = |count: usize| json!({ "lines": vec![json!({ "sku": CORAL, "quantity": 1 }); count] });
    let cases = [
        (json!(null), 400, "malformed"),
        (json!("scarf"), 400, "malformed"),
        (json!([]), 400, "malformed"),
        (json!({}), 400, "malformed"),
        (json!({ "sku": CORAL }), 400, "malformed"),
        (json!({ "sku": CORAL, "quantity": 0 }), 400, "malformed"),
        (json!({ "sku": CORAL, "quantity": -1 }), 400, "malformed"),
        (json!({ "sku": CORAL, "quantity": 1.5 }), 400, "malformed"),
        (json!({ "sku": CORAL, "quantity": "1" }), 400, "malformed"),
        (json!({ "sku": CORAL, "quantity": 1001 }), 400, "malformed"),
        (json!({ "sku": CORAL, "quantity": u64::from(u32::MAX) + 1 }), 400, "malformed"),
        (json!({ "sku": CORAL, "quantity": u64::MAX }), 400, "malformed"),
        (json!({ "sku": CORAL, "quantity": 1e300 }), 400, "malformed"),
        (json!({ "sku": "../etc/passwd", "quantity": 1 }), 400, "malformed"),
        (json!({ "sku": "", "quantity": 1 }), 400, "malformed"),
        (json!({ "sku": "no-such-sku", "quantity": 1 }), 404, "not_found"),
        (json!({ "sku": CORAL, "quantity": 1, "lines": [] }), 400, "malformed"),
        (json!({ "lines": [] }), 400, "malformed"),
        (json!({ "lines": [{ "sku": CORAL, "quantity": 1 }, { "sku": TAN, "quantity": 0 }] }), 400, "malformed"),
        (json!({ "lines": [{ "sku": CORAL, "quantity": 600 }, { "sku": CORAL, "quantity": 600 }] }), 400, "malformed"),
        (json!({ "lines": [{ "sku": CORAL, "quantity": 1 }, { "sku": "gone", "quantity": 1 }] }), 404, "not_found"),
        (lines(21), 400, "malformed"),
        (json!({ "sku": CORAL, "quantity": 1, "price": { "amount": 1, "currency": "CNY" } }), 409, "price_changed"),
        (json!({ "sku": CORAL, "quantity": 1, "price": { "amount": 26900 } }), 400, "malformed"),
        (json!({ "sku": CORAL, "quantity": 5 }), 409, "limit_reached"),
        (json!({ "sku": TAN, "quantity": 6 }), 409, "sold_out"),
        (json!({ "lines": [{ "sku": CORAL, "quantity": 1 }, { "sku": TAN, "quantity": 6 }] }), 409, "sold_out"),
        (json!({ "sku": CORAL, "quantity": 1, "room": "elsewhere" }), 403, "forbidden"),
    ];
    for (body, status, code) in &cases {
        let answer = holds(&counter).key("bad").json(body).send().await;
        assert_refused(&answer, *status, code, &body.to_string());
    }
    let changed = holds(&counter).key("bad").json(&cases[22].0).send().await.json();
    assert_eq!(changed["price"]["amount"], 26900, "the price as it is: {changed}");
    counter.is_untouched().await;
}

#[tokio::test]
async fn a_body_that_is_not_what_it_says_is_refused() {
    let counter = Counter::open(unhurried()).await;
    let good = json!({ "sku": CORAL, "quantity": 1 }).to_string();
    for half in [&good[..good.len() - 1], "{", "", "\u{feff}{}", "nil", "{\"sku\":\"\\ud800\",\"quantity\":1}"] {
        let answer = holds(&counter).key("bad").body("application/json", half.to_owned()).send().await;
        assert_refused(&answer, 400, "malformed", half);
    }
    let nested = "[".repeat(20_000);
    let answer = holds(&counter).key("bad").body("application/json", nested).send().await;
    assert_refused(&answer, 400, "malformed", "a deep body");
    let not_text = vec![b'{', 0xff, 0xfe];
    let answer = holds(&counter).key("bad").body("application/json", not_text).send().await;
    assert_refused(&answer, 400, "malformed", "not UTF-8");
    for kind in ["text/plain", "application/sdp", "application/x-www-form-urlencoded", "json", ""] {
        let answer = holds(&counter).key("bad").body(kind, good.clone()).send().await;
        assert_refused(&answer, 415, "unsupported_media_type", kind);
    }
    let long = format!("{{\"sku\":\"{}\"}}", "x".repeat(256 * 1024));
    let answer = holds(&counter).key("bad").body("application/json", long).send().await;
    assert_refused(&answer, 413, "too_large", "a long body");
    counter.is_untouched().await;
}

#[tokio::test]
async fn a_key_is_needed_is_bounded_and_means_one_body() {
    let counter = Counter::open(unhurried()).await;
    let one = json!({ "sku": CORAL, "quantity": 1 });
    assert_refused(&holds(&counter).json(&one).send().await, 400, "malformed", "no key");
    for key in ["", "two words", &"k".repeat(129)] {
        assert_refused(&holds(&counter).key(key).json(&one).send().await, 400, "malformed", key);
    }
    let other = json!({ "sku": CORAL, "quantity": 2 });
    let answer = holds(&counter).key("first").json(&other).send().await;
    assert_refused(&answer, 422, "key_reused", "the key of another body");

    // A refused key stores nothing: it may succeed later.
    let answer = holds(&counter).key("again").json(&json!({ "sku": TAN, "quantity": 6 })).send().await;
    assert_refused(&answer, 409, "sold_out", "too many");
    counter.is_untouched().await;
    let answer = holds(&counter).key("again").json(&json!({ "sku": TAN, "quantity": 5 })).send().await;
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (201, None), "{}", answer.text());
    let answer = holds(&counter).key("again").json(&json!({ "sku": TAN, "quantity": 5 })).send().await;
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, Some("true")), "{}", answer.text());
}

#[tokio::test]
async fn a_double_tap_with_one_key_is_one_hold() {
    let counter = Counter::open(unhurried()).await;
    let body = json!({ "sku": TAN, "quantity": 1 });
    let mut taps = JoinSet::new();
    for _ in 0..8 {
        taps.spawn(holds(&counter).key("tap").json(&body).send());
    }
    let answers = taps.join_all().await;
    let mut ws = counter.server.ws(ROOM).await;
    ws.join(&counter.viewer).await;
    let by_socket = json!({ "sku": TAN, "quantity": 1, "key": "tap" });
    let (first, second) = (ws.send_command("hold", by_socket.clone()).await, ws.send_command("hold", by_socket).await);
    let by_socket = [ws.answer(first).await, ws.answer(second).await];

    let made: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
    let [made] = made.as_slice() else { panic!("one tap makes the hold: {answers:?}") };
    let id = &made.json()["hold"]["id"];
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, Some("true")), "{}", answer.text());
        assert_eq!(answer.json()["hold"]["id"], *id);
    }
    for answer in by_socket {
        assert_eq!((&answer["ok"]["hold"]["id"], &answer["ok"]["replayed"]), (id, &json!(true)), "{answer}");
    }
    counter.shop.stock_settles(&counter.server, TAN, [4, 1, 0]).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found_whatever_it_is_called() {
    let counter = Counter::open(unhurried()).await;
    let (rest, admin) = (counter.server.rest(), counter.server.tokens.admin());
    let unknown = Uuid::now_v7();
    let mut paths = vec![
        (Method::GET, "/v1/rooms/nowhere".to_owned()),
        (Method::GET, "/v1/rooms/..".to_owned()),
        (Method::GET, format!("/v1/rooms/{}", "r".repeat(65))),
        (Method::GET, "/v1/rooms/%FF".to_owned()),
        (Method::GET, "/v1/rooms/nowhere/events".to_owned()),
        (Method::DELETE, "/v1/rooms/nowhere/pin".to_owned()),
        (Method::GET, "/v1/products/nothing".to_owned()),
        (Method::GET, "/v1/products/a%2Fb".to_owned()),
        (Method::GET, "/v1/skus/nothing/ledger".to_owned()),
        (Method::GET, "/v1/nothing".to_owned()),
    ];
    for id in [unknown.to_string(), "not-a-uuid".to_owned()] {
        paths.extend([
            (Method::GET, format!("/v1/holds/{id}")),
            (Method::POST, format!("/v1/holds/{id}/confirm")),
            (Method::POST, format!("/v1/holds/{id}/cancel")),
            (Method::POST, format!("/v1/holds/{id}/extend")),
            (Method::GET, format!("/v1/orders/{id}")),
            (Method::DELETE, format!("/whip/{ROOM}/{id}")),
            (Method::DELETE, format!("/whep/{ROOM}/{id}")),
        ]);
    }
    for (method, path) in paths {
        let answer = rest.call(method.clone(), &path).token(&admin).send().await;
        assert_refused(&answer, 404, "not_found", &format!("{method} {path}"));
    }
    for path in ["/v1/rooms/nowhere/show", "/v1/rooms/nowhere/pin"] {
        let body = json!({ "action": "start", "product": SCARF });
        assert_refused(&rest.post(path).token(&admin).json(&body).send().await, 404, "not_found", path);
    }
    let answer = rest.delete("/v1/holds").token(&admin).send().await;
    assert_refused(&answer, 405, "method_not_allowed", "DELETE /v1/holds");
    counter.is_untouched().await;
}

#[tokio::test]
async fn stock_that_makes_no_sense_is_refused() {
    let counter = Counter::open(unhurried()).await;
    let admin = counter.server.tokens.admin();
    let stock = |sku: &str| counter.server.rest().post(&format!("/v1/skus/{sku}/stock")).token(&admin);
    let cases = [
        (json!({ "delta": 1 }), 400, "malformed"),
        (json!({ "reason": "why" }), 400, "malformed"),
        (json!({ "delta": 1, "set": 1, "reason": "why" }), 400, "malformed"),
        (json!({ "set": -1, "reason": "why" }), 400, "malformed"),
        (json!({ "set": 1.5, "reason": "why" }), 400, "malformed"),
        (json!({ "delta": "1", "reason": "why" }), 400, "malformed"),
        (json!({ "delta": i64::MAX, "reason": "why" }), 400, "malformed"),
        (json!({ "delta": u64::MAX, "reason": "why" }), 400, "malformed"),
        (json!({ "set": u64::MAX, "reason": "why" }), 400, "malformed"),
        (json!({ "delta": 1, "reason": "" }), 400, "malformed"),
        (json!({ "delta": 1, "reason": "r".repeat(201) }), 400, "malformed"),
        (json!({ "delta": 1, "reason": "bell \u{7}" }), 400, "malformed"),
        (json!({ "delta": -20, "reason": "one of twenty is sold" }), 409, "stock_below_held"),
        (json!({ "set": 0, "reason": "one is sold" }), 409, "stock_below_held"),
    ];
    for (body, status, code) in cases {
        let answer = stock(CORAL).key("bad").json(&body).send().await;
        assert_refused(&answer, status, code, &body.to_string());
    }
    let good = json!({ "delta": 1, "reason": "why" });
    assert_refused(&stock("nothing").key("bad").json(&good).send().await, 404, "not_found", "no such SKU");
    assert_refused(&stock(CORAL).json(&good).send().await, 400, "malformed", "no key");
    counter.is_untouched().await;
}

#[tokio::test]
async fn products_and_rooms_that_make_no_sense_are_refused() {
    let counter = Counter::open(unhurried()).await;
    let (rest, admin) = (counter.server.rest(), counter.server.tokens.admin());
    let product = |change: Value| {
        let mut product = json!({
            "title": "Hat", "price": { "amount": 1, "currency": "CNY" }, "skus": [{ "id": "hat", "stock": 1 }],
        });
        product.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        product
    };
    for (change, status, code) in [
        (json!({ "title": "" }), 400, "malformed"),
        (json!({ "title": "t".repeat(201) }), 400, "malformed"),
        (json!({ "title": 5 }), 400, "malformed"),
        (json!({ "price": { "amount": -1, "currency": "CNY" } }), 400, "malformed"),
        (json!({ "price": { "amount": 1.5, "currency": "CNY" } }), 400, "malformed"),
        (json!({ "price": { "amount": i64::MAX, "currency": "CNY" } }), 400, "malformed"),
        (json!({ "price": { "amount": 1, "currency": "money" } }), 400, "malformed"),
        (json!({ "price": 1 }), 400, "malformed"),
        (json!({ "skus": [] }), 400, "malformed"),
        (json!({ "skus": [{ "id": "a b" }] }), 400, "malformed"),
        (json!({ "skus": [{ "id": "hat", "stock": -1 }] }), 400, "malformed"),
        (json!({ "skus": [{ "id": "hat", "stock": u64::MAX }] }), 400, "malformed"),
        (json!({ "skus": [{ "id": "hat" }, { "id": "hat" }] }), 400, "malformed"),
        (json!({ "skus": [{ "id": CORAL }] }), 409, "conflict"),
        (json!({ "limit_per_user": 0 }), 400, "malformed"),
        (json!({ "limit_per_order": -1 }), 400, "malformed"),
        (json!({ "image": "javascript:alert(1)" }), 400, "malformed"),
        (json!({ "image": "//elsewhere.example/x.png" }), 400, "malformed"),
        (json!({ "merchant": "no merchant" }), 400, "malformed"),
    ] {
        let answer = rest.put("/v1/products/hat").token(&admin).json(&product(change.clone())).send().await;
        assert_refused(&answer, status, code, &change.to_string());
    }
    assert_eq!(rest.get("/v1/products/hat").send().await.status, 404, "no hat was made");
    let moved = product(json!({ "merchant": "other", "skus": [{ "id": CORAL }] }));
    let answer = rest.put(&format!("/v1/products/{SCARF}")).token(&admin).json(&moved).send().await;
    assert_refused(&answer, 409, "conflict", "a product stays with its merchant");

    for (method, path, body, status, code) in rooms() {
        let answer = rest.call(method, &path).token(&admin).json(&body).send().await;
        assert_refused(&answer, status, code, &format!("{path} {body}"));
    }
    counter.is_untouched().await;
}

fn rooms() -> Vec<(Method, String, Value, u16, &'static str)> {
    let of = |part: &str| format!("/v1/rooms/{ROOM}/{part}");
    let room = |body: Value, status, code| (Method::POST, "/v1/rooms".to_owned(), body, status, code);
    vec![
        room(json!({ "id": "new", "title": "New" }), 400, "malformed"),
        room(json!({ "id": "a/b", "title": "New", "anchor": "a" }), 400, "malformed"),
        room(json!({ "id": "a..b", "title": "New", "anchor": "a" }), 400, "malformed"),
        room(json!({ "id": "new", "title": "", "anchor": "a" }), 400, "malformed"),
        room(json!({ "id": "new", "title": "New", "anchor": "a".repeat(129) }), 400, "malformed"),
        room(json!({ "id": "new", "title": "New", "anchor": "a", "merchants": [] }), 400, "malformed"),
        room(json!({ "id": ROOM, "title": "New", "anchor": "a" }), 409, "already_exists"),
        (Method::POST, of("show"), json!({ "action": "pause" }), 400, "malformed"),
        (Method::POST, of("show"), json!({}), 400, "malformed"),
        (Method::PUT, of("shelf"), json!({ "products": [SCARF, SCARF] }), 400, "malformed"),
        (Method::PUT, of("shelf"), json!({ "products": ["nothing"] }), 404, "not_found"),
        (Method::PUT, of("shelf"), json!({ "products": SCARF }), 400, "malformed"),
        (Method::POST, of("pin"), json!({ "product": "nothing" }), 404, "not_found"),
        (Method::POST, of("pin"), json!({ "product": TOTE, "explain_seconds": 0 }), 400, "malformed"),
        (Method::POST, of("pin"), json!({ "product": TOTE, "explain_seconds": -1 }), 400, "malformed"),
        (Method::POST, of("pin"), json!({ "product": TOTE, "explain_seconds": u64::MAX }), 400, "malformed"),
    ]
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_refused() {
    let counter = Counter::open(unhurried()).await;
    for path in [
        "/v1/orders?limit=many".to_owned(),
        "/v1/orders?limit=-1".to_owned(),
        "/v1/orders?state=lost".to_owned(),
        "/v1/orders?after=yesterday".to_owned(),
        "/v1/me/messages?after=-1".to_owned(),
        format!("/v1/skus/{CORAL}/ledger?after=x"),
        format!("/v1/skus/{CORAL}/ledger?limit=99999999999999999999999"),
    ] {
        let answer = counter.server.rest().get(&path).token(&counter.viewer).send().await;
        assert_refused(&answer, 400, "malformed", &path);
    }
    // Too many and none are answered with as many as there may be.
    for limit in ["0", "18446744073709551615"] {
        let path = format!("/v1/orders?limit={limit}");
        counter.server.rest().get(&path).token(&counter.viewer).send().await.ok();
        counter.server.rest().get(&format!("/v1/skus/{CORAL}/ledger?limit={limit}")).send().await.ok();
    }
    counter.is_untouched().await;
}

#[tokio::test]
async fn an_offer_that_is_none_is_refused() {
    let counter = Counter::open(unhurried()).await;
    let anchor = counter.shop.anchor_token(&counter.server);
    for path in [format!("/whip/{ROOM}"), format!("/whep/{ROOM}")] {
        let post = |kind: &str, body: Vec<u8>| counter.server.rest().post(&path).token(&anchor).body(kind, body).send();
        for sdp in ["", "hello", "v=0\r\n", "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", "{\"sdp\":1}"] {
            let answer = post("application/sdp", sdp.into()).await;
            assert_refused(&answer, 400, "bad_offer", &format!("{path} {sdp:?}"));
        }
        let answer = post("application/sdp", vec![0xff, 0xfe]).await;
        assert_refused(&answer, 400, "bad_offer", &format!("{path} not UTF-8"));
        let answer = post("application/json", b"v=0\r\n".to_vec()).await;
        assert_refused(&answer, 415, "unsupported_media_type", &path);
        let long = "a=x\r\n".repeat(20_000).into_bytes();
        assert_refused(&post("application/sdp", long).await, 413, "too_large", &path);
    }
    assert_eq!(counter.shop.snapshot(&counter.server).await["media"]["live"], false);
    counter.is_untouched().await;
}

fn holds(counter: &Counter) -> Call {
    counter.server.rest().post("/v1/holds").token(&counter.viewer)
}

fn unhurried() -> Plan {
    Plan::default().set("LIMITS__HOLDS_PER_SECOND", "1000").set("LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#)
}
