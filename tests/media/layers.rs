//! One picture in three sizes: sent by the anchor, one of them to each viewer.

use std::time::{Duration, Instant};

use maishou::{
    client::{Anchor, Config, Server, Watcher},
    protocol::QualityReport,
};

use super::{
    ROOM, layered_clip,
    network::{Far, HER, VIEWER, ask, figure},
    room,
};
use crate::support::{
    namespace::Namespace,
    relay::Line,
    server::Plan,
    shop::Shop,
    wait::{DEADLINE, wait_until},
};

/// What the layers are encoded with, together.
const ALL_LAYERS_BITS: u64 = 1_950_000;
const LARGE_BITS: u64 = 1_300_000;

/// The heights of the layers' pictures.
const LARGE: u16 = 1_280;

/// Waits until the viewer's picture is of a height as told; returns how long that took.
async fn on_layer(watcher: &Watcher, deadline: Duration, is_meant: impl Fn(u16) -> bool) -> Duration {
    let started = Instant::now();
    let changed = watcher.wait_for(deadline, |stats| stats.video.height > 0 && is_meant(stats.video.height)).await;
    changed.unwrap_or_else(|error| panic!("{error}: {:?}", watcher.stats()));
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_layers_arrive_and_a_viewer_gets_the_large_one() {
    let far = Far::open(13).await;
    let anchor = far.go_live_with(layered_clip()).await;
    let watcher = far.watch().await;
    let her = far.join(&far.studio.shop.anchor_token(&far.studio.server)).await;
    watcher.wait_for(DEADLINE, |stats| stats.pictures.shown > 50).await.expect("it plays");
    let viewer = far.join(&far.studio.shop.viewer_token(&far.studio.server, "far")).await;
    on_layer(&watcher, Duration::from_secs(30), |height| height == LARGE).await;
    let shown =
        wait_until("the server to say so", DEADLINE, async || ask(&viewer, &watcher.quality()).await?.layer).await;
    assert_eq!(shown, 2);

    let uplink = wait_until("all three to arrive", DEADLINE, async || {
        let uplink = ask(&her, &QualityReport::default()).await?;
        uplink.bits.is_some_and(|bits| bits > ALL_LAYERS_BITS * 7 / 10).then_some(uplink)
    })
    .await;
    assert!(uplink.frames.is_some_and(|frames| (20.0..30.0).contains(&frames)), "one picture, not three: {uplink:?}");

    let (before, started) = (watcher.stats(), Instant::now());
    let after = watcher.wait_for(DEADLINE, |stats| stats.pictures.shown > before.pictures.shown + 100).await;
    let after = after.expect("it goes on");
    let bits = (after.video.bytes - before.video.bytes) as f64 * 8.0 / started.elapsed().as_secs_f64();
    println!("three layers: {bits:.0} b/s to the viewer, {uplink:?} from the anchor");
    assert!(bits > LARGE_BITS as f64 * 0.6 && bits < LARGE_BITS as f64 * 1.4, "the large one and no other: {bits}");
    assert_eq!((after.pictures.lost, after.video.missing), (0, 0), "{after:?}");
    anchor.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_of_a_layer_on_its_way_in_is_sent_again_under_its_name() {
    let far = Far::open(17).await;
    far.relay.both(HER, Line::losing(0.05).with_delay(Duration::from_millis(10)));
    let anchor = far.go_live_with(layered_clip()).await;
    let watcher = far.watch().await;
    watcher.wait_for(DEADLINE, |stats| stats.pictures.shown > 50).await.expect("it plays");
    let before = watcher.stats().pictures;
    // One packet that is lost three times costs several pictures where a keyframe follows: of so many, a few such ones.
    let after = watcher.wait_for(Duration::from_secs(90), |stats| stats.pictures.shown > before.shown + 750).await;
    let after = after.expect("it goes on").pictures;
    println!("5 % loss on three layers coming in: {after:?}");
    assert!((after.lost - before.lost) * 100 <= after.shown - before.shown, "{after:?}");
    assert!(after.longest <= Duration::from_secs(1), "{after:?}");
    anchor.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyframe_request_for_one_layer_brings_it() {
    let far = Far::open(19).await;
    let anchor = far.go_live_with(layered_clip()).await;
    let watcher = far.watch().await;
    // No newcomer any more, whom the keyframe that is there would help: she began with two seconds' pictures at most.
    watcher.wait_for(DEADLINE, |stats| stats.pictures.shown > 120).await.expect("it plays");
    let before = anchor.stats();
    watcher.request_keyframe().await.expect("she may ask");
    let after = anchor.wait_for(DEADLINE, |stats| stats.keyframe_skips > before.keyframe_skips).await;
    after.expect("the anchor hears it");
    let keyframes = watcher.stats().video.keyframes;
    watcher.wait_for(Duration::from_secs(1), |stats| stats.video.keyframes > keyframes).await.expect("a keyframe");
    anchor.stop().await;
}

/// From 600 kb/s, where the middle layer fits, back to a line on which all do.
async fn narrows_and_widens(watcher: &Watcher, narrow: impl FnOnce(), widen: impl FnOnce()) {
    on_layer(watcher, Duration::from_secs(30), |height| height == LARGE).await;
    narrow();
    let down = on_layer(watcher, Duration::from_secs(20), |height| height < LARGE).await;
    let before = watcher.stats().pictures;
    let plays = watcher.wait_for(DEADLINE, |stats| stats.pictures.shown > before.shown + 200).await;
    let settled = plays.expect("it plays").pictures;
    println!("narrowed: a layer that fits after {down:?}, then {} freezes", settled.freezes - before.freezes);
    assert!(down <= Duration::from_secs(5), "{down:?}");

    widen();
    let up = on_layer(watcher, Duration::from_secs(30), |height| height == LARGE).await;
    println!("widened: the large layer after {up:?}; {:?}", watcher.stats().pictures);
    assert!(up <= Duration::from_secs(15), "{up:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "times of a second or two want a machine with nothing else to do: run with --ignored"]
async fn a_narrow_link_has_a_layer_that_fits_and_gets_the_large_one_back() {
    let far = Far::open(23).await;
    let anchor = far.go_live_with(layered_clip()).await;
    let watcher = far.watch().await;
    let away = Duration::from_millis(20);
    narrows_and_widens(
        &watcher,
        || far.relay.to_client(VIEWER, Line::narrow(600_000).with_delay(away)),
        || far.relay.to_client(VIEWER, Line::default().with_delay(away)),
    )
    .await;
    let metrics = far.metrics().await;
    assert!(figure(&metrics, "maishou_peers").is_some_and(|peers| peers == 2.0), "nobody joined again");
    anchor.stop().await;
}

/// The same by the kernel's own token bucket, where a namespace can be made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "times of a second or two want a machine with nothing else to do: run with --ignored"]
async fn a_line_narrowed_by_the_kernel_has_a_layer_that_fits_too() {
    let Some(namespace) = Namespace::make() else { return println!("skipped: no namespace can be made here") };
    let server = Plan::default().inside(&namespace).set("MEDIA__QUALITY_INTERVAL_MS", "0").start().await;
    let (shop, at) = (Shop::open(&server, ROOM).await, Server::at(server.http));
    let (hers, viewers) = (shop.anchor_token(&server), shop.viewer_token(&server, "far"));
    let config = Config { bind: Some(namespace.here), ..Config::default() };
    let anchor = Anchor::publish(&at, &room(), &hers, layered_clip(), &config).await.expect("she goes live");
    let watcher = Watcher::watch(&at, &room(), &viewers, false, &config).await.expect("she watches");
    narrows_and_widens(&watcher, || namespace.narrow(600), || namespace.widen()).await;
    anchor.stop().await;
}
