//! What people see of the picture's quality: the operator, the anchor, and the viewer who loses the anchor.

use std::{net::IpAddr, time::Duration};

use maishou::client::{self, Anchor, Config};

use super::stage::{ROOM, Stage, go_live, hook, note_when, noted, picture_runs};
use crate::{
    media::clip,
    support::{
        chrome::{Chrome, Habits},
        page::Page,
        relay::{ANYBODY_ELSE, Line, Relay},
    },
};

const ENCODER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

#[tokio::test]
async fn what_viewers_see_is_on_the_operators_page() {
    let stage = Stage::open().await;
    let studio = stage.studio().await;
    go_live(&studio).await;
    let alice = stage.watch("alice").await;
    picture_runs(&alice, 30).await;

    let ops = stage.chrome.blank().await;
    ops.resize(1440, 900).await;
    ops.goto(&stage.server.page("/ops", &stage.server.tokens.admin())).await;
    let of_room = format!("{} [data-room=\"{ROOM}\"]", hook("pictures"));
    // Her time to the first picture, told by her own page.
    let first = format!("/First picture\\d+ ms/.test(document.querySelector('{of_room}')?.textContent)");
    ops.wait_for_at_most(&first, Duration::from_secs(30)).await;
    let round_trip = format!("/Round trip\\d+ ms/.test(document.querySelector('{of_room}').textContent)");
    ops.wait_for(&round_trip).await;
    let coming_in = format!("/In[0-9.]+ [kM]b.s/.test(document.querySelector('{of_room}').textContent)");
    ops.wait_for(&coming_in).await;
}

#[tokio::test]
async fn the_studio_says_when_the_anchors_network_loses_her_picture_and_when_it_is_well_again() {
    let stage = Stage::open_with(Habits::default(), Relay::plan()).await;
    let relay = Relay::before(&stage.server, 3).await;
    let studio = stage.chrome.blank().await;
    studio.resize(1440, 900).await;
    let token = stage.shop.anchor_token(&stage.server);
    studio.goto(&stage.server.page(&format!("/studio/{ROOM}?lang=zh"), &token)).await;
    go_live(&studio).await;
    let trouble =
        |names: &str| format!("/^({names})$/.test(document.querySelector('{}').dataset.trouble)", hook("health"));
    studio.wait_for(&trouble("")).await;

    relay.to_server(ANYBODY_ELSE, Line::losing(0.2));
    studio.wait_for(&trouble("loss|loss_bad")).await;
    let words: String = studio.eval(&format!("document.querySelector('{}').innerText", hook("health"))).await;
    assert!(words.starts_with("上行网络丢包") && words.contains('%'), "{words}");
    screenshot(&studio, "studio-loss-1440x900.png").await;
    studio.resize(390, 844).await;
    screenshot(&studio, "studio-loss-390x844.png").await;

    relay.to_server(ANYBODY_ELSE, Line::default());
    studio.wait_for_at_most(&trouble("|bandwidth|cpu"), Duration::from_secs(40)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_sees_the_anchors_end_and_her_return_with_another_codec_and_stays_where_she_is() {
    let stage = Stage::open_with(Habits::default(), Relay::plan()).await;
    stage.shop.start_show(&stage.server).await;
    let relay = Relay::before(&stage.server, 4).await;
    let never = Duration::from_secs(24 * 3600);
    let config = Config { bind: Some(ENCODER), reconnect_base: never, reconnect_max: never, ..Config::default() };
    let (at, token) = (client::Server::at(stage.server.http), stage.shop.anchor_token(&stage.server));
    let room = ROOM.parse().expect("a room's id");
    let anchor = Anchor::publish(&at, &room, &token, clip(), &config).await.expect("she goes live");
    let alice = stage.watch("alice").await;
    picture_runs(&alice, 30).await;
    alice.eval::<bool>("(window.stayed = true)").await;
    note_when(&alice, "away", "!window.maishou.room.state.media.live").await;
    let codec = "(async () => { const all = [...(await window.maishou.pc.getStats()).values()];
        const video = all.find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'video');
        return all.find((entry) => entry.id === video.codecId).mimeType; })()";
    assert_eq!(alice.eval::<String>(codec).await, "video/VP8");

    let cut_at = now_ms(&alice).await;
    relay.both(ENCODER, Line::CUT);
    let told_after = noted(&alice, "away").await - cut_at;
    assert!(told_after < 3_000.0, "told after {told_after} ms");
    alice.wait_for("document.getElementById('poster').checkVisibility()").await;
    drop(anchor);

    // When the room says that it is live, her first keyframe has come to the server.
    alice
        .eval::<bool>(
            "(() => {
            const video = document.querySelector('[data-test=\"video\"]');
            const room = window.maishou.room;
            room.addEventListener('event', ({ detail }) => {
                if (detail.type === 'media' && detail.live) window.liveAt ??= performance.now();
            });
            video.requestVideoFrameCallback(function seen(now) {
                if (room.state.media.live) window.seenAt ??= now;
                else video.requestVideoFrameCallback(seen);
            });
            return true;
        })()",
        )
        .await;
    let hers = stage.another_chrome(Habits::default()).await;
    let studio = stage.studio_in(&hers).await;
    go_live(&studio).await;
    alice.wait_for("window.seenAt && window.liveAt").await;
    let shown_after: f64 = alice.eval("window.seenAt - window.liveAt").await;
    println!("anchor lost: told after {told_after:.0} ms; new picture {shown_after:.0} ms after the room was live");
    assert!(shown_after < 1_000.0, "shown {shown_after} ms after");
    picture_runs(&alice, 30).await;
    assert_eq!(alice.eval::<String>(codec).await, "video/H264", "the studio prefers it");
    assert!(alice.eval::<bool>("window.stayed === true").await, "nobody reloaded");
}

async fn now_ms(page: &Page) -> f64 {
    page.eval("Date.now()").await
}

/// For people to look at, when `MAISHOU_SCREENSHOTS` names a folder.
async fn screenshot(page: &Page, name: &str) {
    if let Some(folder) = super::pictures::folder() {
        page.screenshot(&folder.join(name)).await;
    }
}

/// How old a picture is when it is on the screen, by a clock in the picture: over the server, and beside it between two
/// connections of the same page.
#[tokio::test]
async fn the_way_over_the_server_makes_a_picture_hardly_older() {
    let stage = Stage::open().await;
    let page = page_of(&stage.chrome, &stage).await;
    let (hers, viewers) = (stage.shop.anchor_token(&stage.server), stage.shop.viewer_token(&stage.server, "clock"));
    let script = include_str!("picture_age.js");
    page.eval::<bool>(&format!("({script})({ROOM:?}, {hers:?}, {viewers:?})")).await;
    page.wait_for_at_most(
        "window.ages?.served.length >= 150 && window.ages.direct.length >= 150",
        Duration::from_secs(40),
    )
    .await;
    let middle = async |name: &str| -> f64 {
        let middle = format!("window.ages.{name}.slice(-100).sort((a, b) => a - b)[50]");
        page.eval(&middle).await
    };
    let (served, direct) = (middle("served").await, middle("direct").await);
    println!("picture age: {served:.0} ms over the server, {direct:.0} ms without, {:.0} more", served - direct);
    assert!(direct > 0.0 && direct < 2_000.0, "the clock is read: {direct}");
    // Generous: the browser encodes twice and decodes twice, and the machine may do other things besides.
    assert!(served - direct < 150.0, "{served} ms over the server, {direct} ms without");
}

async fn page_of(chrome: &Chrome, stage: &Stage) -> Page {
    let page = chrome.blank().await;
    page.resize(800, 600).await;
    page.goto(&format!("http://{}/", stage.server.http)).await;
    page
}
