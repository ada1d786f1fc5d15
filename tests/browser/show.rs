//! The main job: an anchor goes live in one browser, people in another watch, talk and buy.

use super::stage::{
    Stage, buy_pinned, clicked_at, comment, go_live, hook, note_clicks, note_when, noted, on_shelf, picture_runs,
    shows_card, shows_comment, shows_stock, state_is,
};
use crate::support::{
    chrome::Habits,
    page::Page,
    server::Plan,
    shop::{TAN, TOTE},
};

/// From the click to the other person's screen.
const SOON_MS: f64 = 1_000.0;

#[tokio::test]
async fn an_anchor_goes_live_and_people_watch_talk_and_buy() {
    let stage = Stage::open().await;
    let anchors_chrome = stage.another_chrome(Habits::default()).await;
    let studio = stage.studio_in(&anchors_chrome).await;
    go_live(&studio).await;

    let alice = stage.watch("alice").await;
    let third = stage.watch("bob").await;
    let seen = picture_runs(&alice, 30).await;
    let sent: u32 = studio.eval("document.querySelector('[data-test=\"preview\"]').videoWidth").await;
    alice.wait_for(&format!("document.querySelector('[data-test=\"video\"]').videoWidth === {sent}")).await;
    assert!(seen.width > 0 && seen.height > 0 && seen.audio_packets > 10, "{seen:?}");
    alice.wait_for("!document.querySelector('[data-test=\"video\"]').paused").await;

    a_pin_is_seen_soon(&studio, &alice).await;
    a_comment_is_seen_soon(&third, &alice, "Is the tan one real leather? 真皮吗").await;
    studio.wait_for(&shows_comment("Is the tan one real leather? 真皮吗")).await;

    third.click(&hook("shelf-open")).await;
    third.wait_for(&shows_stock(TAN, 5)).await;
    buy_pinned(&alice).await;
    third.wait_for(&shows_stock(TAN, 4)).await;
    studio.wait_for(&shows_stock(TAN, 4)).await;
    stage.shop.stock_settles(&stage.server, TAN, [4, 0, 1]).await;
    assert_eq!(stage.shop.orders(&stage.server, "alice").await.len(), 1);

    end_show(&studio).await;
}

/// Unpinning and ending reach the viewers too.
#[tokio::test]
async fn a_card_that_is_unpinned_and_a_show_that_ends_leave_the_viewers_page() {
    let stage = Stage::open().await;
    let studio = stage.studio().await;
    go_live(&studio).await;
    let alice = stage.watch("alice").await;
    picture_runs(&alice, 5).await;

    studio.click(&on_shelf(TOTE, "pin")).await;
    alice.wait_for(&shows_card("Leather tote")).await;
    studio.wait_visible(&hook("explain")).await;
    studio.click(&on_shelf(TOTE, "unpin")).await;
    alice.wait_for("!document.querySelector('[data-test=\"card\"]').checkVisibility()").await;

    end_show(&studio).await;
    alice.wait_for("window.maishou.room.state.show.running === false").await;
}

/// The anchor's browser broke down and came back: nobody has to touch anything.
#[tokio::test]
async fn the_anchor_reloads_and_goes_live_again_and_viewers_go_on() {
    let stage = Stage::open().await;
    let anchors_chrome = stage.another_chrome(Habits::default()).await;
    let studio = stage.studio_in(&anchors_chrome).await;
    go_live(&studio).await;
    let alice = stage.watch("alice").await;
    picture_runs(&alice, 20).await;
    alice.eval::<bool>("(window.firstConnection = window.maishou.pc, window.stayed = true)").await;

    studio.reload().await;
    go_live(&studio).await;

    picture_runs(&alice, 60).await;
    assert!(alice.eval::<bool>("window.stayed === true").await, "the page was not reloaded");
    assert!(alice.eval::<bool>("window.firstConnection === window.maishou.pc").await, "one connection all along");
    let paused: bool = alice.eval("document.querySelector('[data-test=\"video\"]').paused").await;
    assert!(!paused, "the picture is shown, not only received");
}

#[tokio::test]
async fn with_the_autoplay_policy_of_every_browser_the_picture_starts_muted_and_a_tap_brings_the_sound() {
    let stage = Stage::open_with(Habits { autoplay: false, ..Habits::default() }, Plan::default()).await;
    let studio = stage.studio().await;
    go_live(&studio).await;

    let alice = stage.watch("alice").await;
    picture_runs(&alice, 20).await;
    let video = "document.querySelector('[data-test=\"video\"]')";
    alice.wait_for(&format!("!{video}.paused && {video}.muted && {video}.currentTime > 0.5")).await;

    alice.click(&hook("sound")).await;
    alice.wait_for(&format!("!{video}.paused && !{video}.muted && {video}.volume > 0")).await;
    let before: f64 = alice.eval(&format!("{video}.currentTime")).await;
    alice.wait_for(&format!("{video}.currentTime > {before} + 1 && !{video}.paused")).await;
    let heard = super::stage::received(&alice).await;
    assert!(heard.audio_energy > 0.0, "silence: {heard:?}");
}

#[tokio::test]
async fn without_a_camera_the_test_picture_goes_live() {
    let stage = Stage::open_with(Habits { camera: false, ..Habits::default() }, Plan::default()).await;
    let studio = stage.studio().await;
    studio.wait_visible(&hook("camera-error")).await;

    studio.choose(&hook("source"), "test").await;
    go_live(&studio).await;

    let alice = stage.watch("alice").await;
    picture_runs(&alice, 20).await;
}

async fn a_pin_is_seen_soon(studio: &Page, viewer: &Page) {
    note_clicks(studio).await;
    note_when(viewer, "cardAt", &shows_card("Leather tote")).await;
    studio.click(&on_shelf(TOTE, "pin")).await;
    let took = noted(viewer, "cardAt").await - clicked_at(studio).await;
    assert!((0.0..SOON_MS).contains(&took), "the card was there after {took} ms");
}

async fn a_comment_is_seen_soon(from: &Page, to: &Page, text: &str) {
    note_clicks(from).await;
    note_when(to, "commentAt", &shows_comment(text)).await;
    comment(from, text).await;
    from.wait_for(&shows_comment(text)).await;
    let took = noted(to, "commentAt").await - clicked_at(from).await;
    assert!((0.0..SOON_MS).contains(&took), "the comment was there after {took} ms");
}

/// Ends the show, saying yes when asked.
async fn end_show(studio: &Page) {
    studio.click(&hook("end-show")).await;
    studio.click(&hook("end-confirm")).await;
    studio.wait_for(&state_is("live-state", "ended")).await;
}
