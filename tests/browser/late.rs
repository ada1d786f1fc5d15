//! Pages that come late, and pages that hear nothing.

use std::time::Duration;

use serde_json::json;

use super::stage::{ROOM, Stage, hook, shows_card, state_is};
use crate::support::{
    chrome::Habits,
    server::Plan,
    shop::{SCARF, TOTE},
};

const NO_WEBRTC: &str = "delete window.RTCPeerConnection; delete window.webkitRTCPeerConnection;";

#[tokio::test]
async fn who_comes_late_sees_what_was_explained_and_what_comes_next() {
    let stage = Stage::open().await;
    let anchor = stage.shop.anchor_token(&stage.server);
    let plan = json!({ "products": [SCARF, TOTE], "planned_seconds": { SCARF: 180, TOTE: 120 } });
    let shelf = format!("/v1/rooms/{ROOM}/shelf");
    stage.server.rest().put(&shelf).token(&anchor).json(&plan).send().await.ok();
    stage.shop.start_show(&stage.server).await;
    let pin = json!({ "product": SCARF });
    stage.server.rest().post(&format!("/v1/rooms/{ROOM}/pin")).token(&anchor).json(&pin).send().await.ok();

    let early = stage.watch_prepared("early", NO_WEBRTC).await;
    early.wait_for(&shows_card("Silk scarf")).await;
    early.wait_visible(&hook("next")).await;
    assert_eq!(early.text(&hook("next")).await, "Next: Leather tote 真皮托特包 in about 3 min");
    assert!(!early.eval::<bool>(&visible("explained")).await, "nothing is past yet");

    stage.shop.pin(&stage.server, TOTE).await;
    let mut scarf = stage.server.rest().get(&format!("/v1/products/{SCARF}")).send().await.ok();
    scarf["price"]["amount"] = 19_900.into();
    let admin = stage.server.tokens.admin();
    stage.server.rest().put(&format!("/v1/products/{SCARF}")).token(&admin).json(&scarf).send().await.ok();

    let late = stage.watch_prepared("late", NO_WEBRTC).await;
    for page in [&early, &late] {
        page.wait_for(&shows_card("Leather tote")).await;
        page.click(&hook("shelf-open")).await;
        page.wait_for(&visible("explained")).await;
        page.click("#explained-head").await;
        let item = "document.querySelector('[data-test=\"explained-item\"][data-product=\"scarf\"]')";
        page.wait_for(&format!("{item}?.checkVisibility() && {item}.textContent.includes('269')")).await;
        page.wait_for(&format!("{item}.textContent.includes('199')")).await;
        page.wait_for(&format!("{item}.textContent.includes('30 left')")).await;
        page.wait_for("!document.querySelector('[data-test=\"next\"]').checkVisibility()").await;
    }
}

/// As long as it takes: a page trusts what it shows for 25 seconds.
#[tokio::test]
async fn a_page_that_hears_nothing_for_25_seconds_greys_its_prices_until_it_has_caught_up() {
    let stage = Stage::open().await;
    stage.shop.start_show(&stage.server).await;
    stage.shop.pin(&stage.server, TOTE).await;
    let alice = stage.watch_prepared("alice", NO_WEBRTC).await;
    alice.wait_for(&shows_card("Leather tote")).await;
    let disabled = "document.querySelector('[data-test=\"card-buy\"]').disabled";
    alice.wait_for(&format!("!{disabled}")).await;

    stage.server.pause();
    let stale = format!("document.body.classList.contains('stale') && {disabled}");
    alice.eval::<bool>("(window.pausedAt = Date.now(), true)").await;
    alice.wait_for_at_most(&stale, Duration::from_secs(32)).await;
    let silent: f64 = alice.eval("Date.now() - window.pausedAt").await;
    // Up to a frame's pause is older than this moment.
    assert!((14_000.0..28_000.0).contains(&silent), "greyed after {silent} ms");
    let price = "getComputedStyle(document.querySelector('[data-test=\"card-price\"]')).color";
    assert_eq!(alice.eval::<String>(price).await, "rgb(163, 155, 148)");

    stage.server.go_on();
    alice.wait_for(&state_is("status", "live")).await;
    alice.wait_for(&format!("!{disabled} && !document.body.classList.contains('stale')")).await;
}

#[tokio::test]
async fn a_page_says_how_many_comments_it_does_not_show() {
    let stage = Stage::open_with(Habits::default(), Plan::default().set("ROOM__CHAT_PER_SECOND", "1")).await;
    stage.shop.start_show(&stage.server).await;
    let alice = stage.watch_prepared("alice", NO_WEBRTC).await;
    assert!(!alice.eval::<bool>(&visible("left-out")).await);
    for number in 0..10 {
        let mut ws = stage.server.ws(ROOM).await;
        ws.join(&stage.shop.viewer_token(&stage.server, &format!("talker-{number}"))).await;
        ws.ok("comment", json!({ "text": format!("talk {number}") })).await;
    }
    alice.wait_for(&visible("left-out")).await;
    assert!(alice.text(&hook("left-out")).await.ends_with("more comments than anybody could read"));
}

fn visible(name: &str) -> String {
    format!("document.querySelector('{}').checkVisibility()", hook(name))
}
