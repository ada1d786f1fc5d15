//! Bad networks, and what the server says of them.

use std::{net::IpAddr, sync::Arc, time::Duration};

use maishou::{
    client::{Anchor, AnchorState, AnchorStats, Clip, Config, Error, Viewer, Watcher},
    protocol::{ErrorCode, Quality, QualityReport},
};
use serde_json::Value;

use super::{Studio, clip, room};
use crate::support::{
    relay::{Line, Relay},
    server::Plan,
    shop::Shop,
    wait::{DEADLINE, wait_until},
};

pub(super) const HER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
pub(super) const VIEWER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 3));

/// A studio whose people all come through a relay, the anchor from one address and viewers from another.
pub(super) struct Far {
    pub studio: Studio,
    pub relay: Relay,
}

impl Far {
    pub async fn open(seed: u64) -> Self {
        Self::open_with(Relay::plan(), seed).await
    }

    async fn open_with(plan: Plan, seed: u64) -> Self {
        let server = plan.set("MEDIA__QUALITY_INTERVAL_MS", "0").start().await;
        let shop = Shop::open(&server, super::ROOM).await;
        let relay = Relay::before(&server, seed).await;
        Self { studio: Studio { server, shop }, relay }
    }

    async fn go_live(&self) -> Anchor {
        self.go_live_with(clip()).await
    }

    pub async fn go_live_with(&self, clip: Arc<Clip>) -> Anchor {
        let config = Config { reconnect_base: Duration::from_millis(50), ..from(HER) };
        let token = self.studio.shop.anchor_token(&self.studio.server);
        Anchor::publish(&self.studio.at(), &room(), &token, clip, &config).await.expect("she goes live")
    }

    pub async fn watch(&self) -> Watcher {
        self.watch_as("far").await
    }

    pub async fn watch_as(&self, name: &str) -> Watcher {
        let token = self.studio.shop.viewer_token(&self.studio.server, name);
        Watcher::watch(&self.studio.at(), &room(), &token, false, &from(VIEWER)).await.expect("she watches")
    }

    pub async fn join(&self, token: &str) -> Viewer {
        Viewer::join(&self.studio.at(), &room(), token, &Config::default()).await.expect("she joins")
    }

    pub async fn metrics(&self) -> String {
        let admin = self.studio.server.tokens.admin();
        self.studio.server.rest().get("/metrics").token(&admin).send().await.text()
    }
}

fn from(address: IpAddr) -> Config {
    Config { bind: Some(address), ..Config::default() }
}

/// From a publisher's first packets, which are sound, to her picture at a viewer. (A browser that watches a browser has
/// it in a quarter of a second.)
const PICTURE_BACK: Duration = Duration::from_secs(1);

/// The server's answer; none when it was asked a little too often, or has none.
pub(super) async fn ask(viewer: &Viewer, report: &QualityReport) -> Option<Quality> {
    match viewer.quality(report).await {
        Ok(quality) => quality,
        Err(Error::Refused(fault)) if fault.code == ErrorCode::RateLimited => None,
        Err(error) => panic!("{error}"),
    }
}

pub(super) fn figure(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_percent_of_loss_cost_hardly_a_picture() {
    let far = Far::open(5).await;
    let anchor = far.go_live().await;
    let watcher = far.watch().await;
    watcher.wait_for(DEADLINE, |stats| stats.pictures.shown > 50).await.expect("it plays");
    let before = watcher.stats();

    let lossy = Line::losing(0.05).with_delay(Duration::from_millis(20)).in_disorder(0.02, Duration::from_millis(15));
    far.relay.both(VIEWER, lossy);
    let after = watcher.wait_for(Duration::from_secs(60), |stats| stats.pictures.shown > before.pictures.shown + 500);
    let after = after.await.expect("it goes on");
    let (shown, lost) = (after.pictures.shown - before.pictures.shown, after.pictures.lost - before.pictures.lost);
    println!("5 % loss: {shown} shown, {lost} lost, longest {:?}, {after:?}", after.pictures.longest);
    assert!(lost * 100 <= shown, "{lost} lost of {shown}: {after:?}");
    assert!(after.pictures.longest <= Duration::from_secs(1), "{after:?}");

    // The relay did what it was asked to.
    let metrics = far.metrics().await;
    let resent = figure(&metrics, "maishou_retransmissions_total").expect("a counter");
    let all = figure(&metrics, "maishou_rtp_packets_total{way=\"out\"}").expect("a counter");
    println!("5 % loss: {resent} of {all} packets were sent again");
    assert!(resent > 20.0 && resent < all * 0.25, "what was lost, and not much more: {resent} of {all}");
    anchor.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewers_link_is_seen_as_it_is() {
    let far = Far::open(7).await;
    let anchor = far.go_live().await;
    let token = far.studio.shop.viewer_token(&far.studio.server, "far");
    far.relay.to_client(VIEWER, Line::losing(0.1).with_delay(Duration::from_millis(40)));
    far.relay.to_server(VIEWER, Line::default().with_delay(Duration::from_millis(40)));
    let (watcher, viewer) = (far.watch().await, far.join(&token).await);
    watcher.wait_for(DEADLINE, |stats| stats.pictures.shown > 100).await.expect("it plays");

    let seen = wait_until("loss and round trip to be seen", DEADLINE, async || {
        let seen = ask(&viewer, &watcher.quality()).await?;
        let is_like_the_link = seen.loss.is_some_and(|loss| (0.05..0.2).contains(&loss))
            && seen.round_trip_ms.is_some_and(|ms| (75.0..140.0).contains(&ms))
            && seen.bits.is_some_and(|bits| (150_000..2_000_000).contains(&bits));
        is_like_the_link.then_some(seen)
    })
    .await;
    println!("10 % loss, 80 ms: {seen:?}");

    let metrics = far.metrics().await;
    let of_room = |name: &str, labels: &str| figure(&metrics, &format!("{name}{{{labels}}}"));
    assert_eq!(figure(&metrics, "maishou_first_frame_seconds_count"), Some(1.0), "told once, counted once");
    assert!(
        of_room("maishou_room_loss", "room=\"studio\",quantile=\"0.5\"").is_some_and(|loss| loss > 0.04),
        "{metrics}"
    );
    let round_trip = of_room("maishou_room_round_trip_seconds", "room=\"studio\",quantile=\"0.95\"");
    assert!(round_trip.is_some_and(|seconds| (0.07..0.15).contains(&seconds)), "{metrics}");
    assert!(of_room("maishou_room_bits_in", "room=\"studio\"").is_some_and(|bits| bits > 100_000.0), "{metrics}");

    let admin = far.studio.server.tokens.admin();
    let ops = far.studio.server.rest().get("/v1/ops").token(&admin).send().await.ok();
    let pictures = &ops["quality"][0];
    assert_eq!((&pictures["room"], &pictures["watching"]), (&Value::from("studio"), &Value::from(1)), "{ops}");
    assert_eq!(pictures["worst"].as_array().map(Vec::len), Some(1), "she is the worst: {ops}");
    anchor.stop().await;
}

/// Whatever part of the handshake is lost, one side says it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_kept_out_by_a_line_that_loses_one_datagram_in_ten() {
    let far = Far::open(13).await;
    let anchor = far.go_live().await;
    far.relay.both(VIEWER, Line::losing(0.1).with_delay(Duration::from_millis(40)));
    let names: Vec<String> = (0..24).map(|number| format!("far-{number}")).collect();
    for some in names.chunks(6) {
        futures_util::future::join_all(some.iter().map(|name| far.watch_as(name))).await;
    }
    anchor.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_anchor_is_told_of_her_uplink_and_nobody_else_is() {
    let far = Far::open(9).await;
    far.relay.to_server(HER, Line::losing(0.1));
    let anchor = far.go_live().await;
    let her = far.join(&far.studio.shop.anchor_token(&far.studio.server)).await;
    let uplink = wait_until("her loss to be seen", DEADLINE, async || {
        let uplink = ask(&her, &QualityReport::default()).await?;
        uplink.loss.is_some_and(|loss| (0.05..0.2).contains(&loss)).then_some(uplink)
    })
    .await;
    println!("uplink with 10 % loss: {uplink:?}");
    assert!(uplink.frames.is_some_and(|frames| (15.0..30.0).contains(&frames)), "{uplink:?}");
    assert!(uplink.bits.is_some_and(|bits| bits > 150_000), "{uplink:?}");

    let viewer = far.join(&far.studio.shop.viewer_token(&far.studio.server, "curious")).await;
    assert!(viewer.quality(&QualityReport::default()).await.is_err(), "not a viewer's business");
    anchor.stop().await;
    wait_until("nothing to be told", DEADLINE, async || {
        let answer = her.quality(&QualityReport::default()).await;
        matches!(answer, Ok(None)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_anchor_whose_network_is_gone_is_missed_soon_and_her_picture_is_back_at_once() {
    let far = Far::open(11).await;
    let anchor = far.go_live().await;
    let watcher = far.watch().await;
    watcher.wait_for(DEADLINE, |stats| stats.pictures.shown > 50).await.expect("it plays");
    let mut ws = far.studio.server.ws(super::ROOM).await;
    ws.join(&far.studio.shop.viewer_token(&far.studio.server, "reader")).await;
    ws.until("the room to be live", |view| view.part("media")["live"] == true).await;

    let cut_at = std::time::Instant::now();
    far.relay.both(HER, Line::CUT);
    ws.until("the viewers to be told", |view| view.part("media")["live"] == false).await;
    let told = cut_at.elapsed();
    assert!(told < Duration::from_secs(3), "told after {told:?}");

    let lost = |stats: &AnchorStats| stats.state == AnchorState::Retrying;
    anchor.wait_for(DEADLINE, lost).await.expect("she notices too");
    far.relay.both(HER, Line::default());
    let shown = watcher.stats().pictures.shown;
    anchor.wait_for(Duration::from_secs(30), |stats| stats.sessions == 2).await.expect("she comes back by herself");
    let sent = anchor.stats().packets;
    anchor.wait_for(DEADLINE, |stats| stats.packets > sent).await.expect("she sends");
    let sends_at = std::time::Instant::now();
    let after = watcher.wait_for(DEADLINE, |stats| stats.pictures.shown > shown + 1).await.expect("it goes on");
    println!("anchor lost: told after {told:?}, picture {:?} after her first packets", sends_at.elapsed());
    assert!(sends_at.elapsed() < PICTURE_BACK, "{after:?}");
    assert!(!after.gone, "without joining again");
    anchor.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_whose_data_channel_stood_still_goes_on_from_a_snapshot_and_takes_little_meanwhile() {
    let plan = Relay::plan().set("MEDIA__CHANNEL_BACKLOG_BYTES_MAX", "16384").set("RING__FRAMES_MAX", "64");
    let plan = plan.set("ROOM__CHAT_PER_SECOND", "0").set("LIMITS__COMMENTS_PER_SECOND", "1000");
    let far = Far::open_with(plan.set("LIMITS__COMMANDS_PER_SECOND", "1000"), 29).await;
    let token = far.studio.shop.viewer_token(&far.studio.server, "far");
    let watcher = Watcher::watch(&far.studio.at(), &room(), &token, true, &from(VIEWER)).await.expect("she watches");
    let viewer = watcher.join_room(&token).await.expect("she joins over the channel");
    let talker = far.join(&far.studio.shop.viewer_token(&far.studio.server, "talker")).await;
    talker.comment("before").await.expect("a comment");
    viewer.wait_for(DEADLINE, |view| view.texts().any(|text| text == "before")).await.expect("it arrives");
    let before = viewer.look(|view| view.counters.snapshots);

    far.relay.both(VIEWER, Line::CUT);
    let long = "long ".repeat(39);
    for tens in 0..30 {
        let texts: Vec<String> = (0..10).map(|ones| format!("{long}{}", tens * 10 + ones)).collect();
        let said = futures_util::future::join_all(texts.iter().map(|text| talker.comment(text))).await;
        assert!(said.iter().all(Result::is_ok), "the room goes on: {said:?}");
    }
    far.relay.both(VIEWER, Line::default());
    talker.comment("after").await.expect("a comment");
    viewer.wait_for(DEADLINE, |view| view.texts().any(|text| text == "after")).await.expect("she is there again");
    let snapshots = viewer.look(|view| view.counters.snapshots) - before;
    assert!(snapshots >= 1, "sixteen kilobytes and sixty-four frames were kept for her, and no more");
    assert!(!watcher.stats().gone, "in the same session");
}
