//! A broadcast and those who watch it.

use maishou::client::{AnchorState, WatcherStats};
use serde_json::{Value, json};

use super::Studio;
use crate::support::{
    shop::TAN,
    wait::{DEADLINE, wait_until},
};

/// Enough of both that it plays.
fn plays(stats: &WatcherStats) -> bool {
    stats.video.frames > 25 && stats.video.keyframes > 0 && stats.audio.packets > 50
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_before_the_show_is_live_waits_and_then_receives() {
    let studio = Studio::open().await;
    let watcher = studio.watch("early", false).await;
    assert_eq!(watcher.stats().video.packets + watcher.stats().audio.packets, 0);
    let mut ws = studio.server.ws(super::ROOM).await;
    ws.join(&studio.shop.viewer_token(&studio.server, "reader")).await;
    assert_eq!(ws.view.part("media")["live"], false);

    let anchor = studio.go_live().await;
    let stats = watcher.wait_for(DEADLINE, plays).await.expect("video and sound arrive");
    assert_eq!((stats.video.missing, stats.audio.missing), (0, 0), "{stats:?}");
    ws.until("the room to say that it is live", |view| view.part("media")["live"] == true).await;
    let mut kinds: Vec<&str> = ws.view.part("media")["tracks"]
        .as_array()
        .expect("tracks")
        .iter()
        .filter_map(|track| track["kind"].as_str())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["audio", "video"]);

    studio.shop.pin(&studio.server, "tote").await;
    ws.until("the card", |view| view.pinned_product() == Some("tote")).await;
    let pinned = ws.view.events.iter().find(|event| event["type"] == "card.pinned").expect("the event");
    assert!(pinned["media"].is_u64(), "a state event carries the media time while live: {pinned}");
    assert_eq!(ws.view.part("pinned")["media"], pinned["media"]);

    anchor.stop().await;
    ws.until("the room to say that it is over", |view| view.part("media")["live"] == false).await;
    watcher.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_late_starts_with_a_keyframe() {
    let studio = Studio::open().await;
    let anchor = studio.go_live().await;
    anchor.wait_for(DEADLINE, |stats| stats.packets > 100).await.expect("she sends");
    let watcher = studio.watch("late", false).await;
    let stats = watcher.wait_for(DEADLINE, plays).await.expect("video and sound arrive");
    let (first, key) = (stats.video.first_packet.expect("a packet"), stats.video.first_keyframe.expect("a keyframe"));
    assert_eq!(first, key, "nothing that cannot be decoded is sent first");
    anchor.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_anchors_second_post_replaces_her_first_and_viewers_go_on_in_one_sequence() {
    let studio = Studio::open().await;
    let first = studio.go_live_once().await;
    let watcher = studio.watch("viewer", false).await;
    let before = watcher.wait_for(DEADLINE, plays).await.expect("it plays");
    let mut reader = studio.server.ws(super::ROOM).await;
    reader.join(&studio.shop.viewer_token(&studio.server, "reader")).await;
    reader.until("the room to be live", |view| view.part("media")["live"] == true).await;

    let second = studio.go_live().await;
    let after = watcher
        .wait_for(DEADLINE, |stats| {
            stats.video.frames > before.video.frames + 50
                && stats.video.keyframes > before.video.keyframes
                && stats.audio.packets > before.audio.packets + 50
        })
        .await
        .expect("it goes on");
    assert_eq!((after.video.ssrc, after.audio.ssrc), (before.video.ssrc, before.audio.ssrc), "the same streams");
    assert_eq!((after.video.missing, after.audio.missing), (0, 0), "no number is left out: {after:?}");
    assert!(!after.gone);
    second.wait_for(DEADLINE, |stats| stats.packets > 100).await.expect("the second sends");
    first.wait_for(DEADLINE, |stats| stats.state != AnchorState::Publishing).await.expect("the first has ended");

    let snapshot = studio.shop.snapshot(&studio.server).await;
    assert_eq!(snapshot["media"]["live"], true, "the end of the first says nothing about the second");
    reader.command("comment", json!({ "text": "a new picture" })).await;
    reader.until("what came before the comment", |view| view.has_comment("a new picture")).await;
    let dark = |event: &&Value| event["type"] == "media" && event["live"] == false;
    assert_eq!(reader.view.events.iter().find(dark), None, "nobody was told that the picture is gone");
    drop(first);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_channel_is_a_whole_session() {
    let studio = Studio::open().await;
    let anchor = studio.go_live().await;
    let token = studio.shop.viewer_token(&studio.server, "buyer");
    let watcher = studio.watch("buyer", true).await;
    let viewer = watcher.join_room(&token).await.expect("she joins over the channel");
    watcher.wait_for(DEADLINE, plays).await.expect("it plays beside it");

    let said = viewer.comment("over the channel").await.expect("a comment");
    let mut ws = studio.server.ws(super::ROOM).await;
    ws.join(&studio.shop.viewer_token(&studio.server, "reader")).await;
    ws.until("her comment", |view| view.has_comment("over the channel")).await;
    ws.ok("comment", json!({ "text": "over the socket" })).await;
    viewer.wait_for(DEADLINE, |view| view.texts().any(|text| text == "over the socket")).await.expect("his comment");
    assert!(viewer.view().seq > said.seq);

    let held = viewer.hold_one(&TAN.parse().expect("a SKU"), 2, "one-key").await.expect("a hold").hold;
    let again = viewer.hold_one(&TAN.parse().expect("a SKU"), 2, "one-key").await.expect("the same hold").hold;
    assert_eq!(held.id, again.id);
    let order = viewer.confirm(held.id, None).await.expect("an order");
    let told = |view: &maishou::client::View| view.private.len() >= 2;
    viewer.wait_for(DEADLINE, told).await.expect("she is told in private");
    studio.shop.stock_settles(&studio.server, TAN, [3, 0, 2]).await;
    let orders = studio.shop.orders(&studio.server, "buyer").await;
    assert_eq!(orders[0]["id"], json!(order.id));

    watcher.leave().await;
    anchor.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_ends_the_broadcast_and_the_anchor_and_the_room_know_it() {
    let mut studio = Studio::open().await;
    let anchor = studio.go_live().await;
    anchor.wait_for(DEADLINE, |stats| stats.packets > 50).await.expect("she sends");
    wait_until("the room to be live", DEADLINE, async || {
        (studio.shop.snapshot(&studio.server).await["media"]["live"] == true).then_some(())
    })
    .await;
    studio.server.kill().await;
    studio.server.restart().await;
    anchor.wait_for(DEADLINE, |stats| stats.sessions == 2).await.expect("she comes back by herself");
    wait_until("the room to be live again", DEADLINE, async || {
        (studio.shop.snapshot(&studio.server).await["media"]["live"] == true).then_some(())
    })
    .await;
    anchor.stop().await;
}
