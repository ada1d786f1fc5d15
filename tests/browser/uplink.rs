//! The studio in a browser behind a line that is too narrow for what it sends.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, interval};

use super::{
    pictures::{DESK, PHONE, folder},
    stage::{Stage, go_live, hook, picture_runs},
};
use crate::support::{chrome::Habits, namespace::Namespace, page::Page, server::Plan};

/// One look at both ends, a second after the last.
#[derive(Debug, Deserialize)]
struct Look {
    /// Pictures decoded since the start, and the height of the last.
    frames: u64,
    height: u32,
}

async fn look(viewer: &Page) -> Look {
    viewer
        .eval(
            "(async () => {
                const all = [...(await window.maishou?.pc?.getStats() ?? new Map()).values()];
                const video = all.find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'video');
                return { frames: video?.framesDecoded ?? 0, height: video?.frameHeight ?? 0 };
            })()",
        )
        .await
}

/// What the studio sends and says, in a line for people to read.
async fn said(studio: &Page) -> String {
    let health = hook("health");
    studio
        .eval(&format!(
            "(async () => {{
                const pc = window.uplinkOfTest;
                const all = [...(await pc.getStats()).values()];
                const sent = all.filter((entry) => entry.type === 'outbound-rtp' && entry.kind === 'video')
                    .map((entry) => `${{entry.rid}} ${{entry.active ? 'on' : 'off'}} ${{entry.framesSent ?? 0}}f ${{entry.frameHeight}}p ${{Math.round((entry.targetBitrate ?? 0) / 1000)}}k ${{entry.qualityLimitationReason}}`);
                const pair = all.find((entry) => entry.type === 'candidate-pair' && entry.nominated);
                return `${{sent.sort().join(' | ')}} | uplink ${{Math.round((pair?.availableOutgoingBitrate ?? 0) / 1000)}}k | `
                    + document.querySelector('{health}').dataset.trouble;
            }})()"
        ))
        .await
}

/// Keeps the connection by which the page publishes where a test finds it.
const KEEP_CONNECTION: &str = "(() => {
    const Original = RTCPeerConnection;
    window.RTCPeerConnection = function (...given) { return (window.uplinkOfTest = new Original(...given)); };
    window.RTCPeerConnection.prototype = Original.prototype;
})()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "two minutes of a browser that encodes, and times that want a machine with nothing else to do: run with --ignored"]
async fn viewers_keep_a_moving_picture_when_the_anchors_uplink_is_narrowed() {
    let Some(namespace) = Namespace::make() else { return println!("skipped: no namespace can be made here") };
    let stage = Stage::open_with(Habits::default(), Plan::default().inside(&namespace)).await;
    let studio = stage.chrome.blank().await;
    studio.resize(DESK.0, DESK.1).await;
    studio.before_load(KEEP_CONNECTION).await;
    studio.goto(&stage.server.page("/studio/show1", &stage.shop.anchor_token(&stage.server))).await;
    studio.choose(&hook("source"), "test").await;
    go_live(&studio).await;
    let viewer = stage.watch("alice").await;
    picture_runs(&viewer, 50).await;

    let mut runs = Vec::new();
    for (name, kbit, seconds) in [("wide", None, 15), ("narrow", Some(500), 60), ("wide again", None, 30)] {
        match kbit {
            Some(kbit) => namespace.narrow_uplink(kbit),
            None if runs.is_empty() => {}
            None => namespace.widen_uplink(),
        }
        let (start, mut every) = (Instant::now(), interval(Duration::from_secs(1)));
        let mut looks = vec![look(&viewer).await];
        while start.elapsed() < Duration::from_secs(seconds) {
            every.tick().await;
            let now = look(&viewer).await;
            let last = &looks[looks.len() - 1];
            println!(
                "{name} {:>2}: {:>2} pictures of {:>4} | {}",
                start.elapsed().as_secs(),
                now.frames - last.frames,
                now.height,
                said(&studio).await
            );
            looks.push(now);
        }
        if let (Some(folder), Some(_)) = (folder(), kbit) {
            studio.screenshot(&folder.join("studio-narrow-1440x900.png")).await;
            studio.resize(PHONE.0, PHONE.1).await;
            studio.screenshot(&folder.join("studio-narrow-390x844.png")).await;
            studio.resize(DESK.0, DESK.1).await;
        }
        runs.push(looks);
    }
    // The first two looks of a phase are of the same moment.
    let seconds =
        |looks: &[Look]| looks.windows(2).skip(1).map(|pair| pair[1].frames - pair[0].frames).collect::<Vec<_>>();
    let standing = |looks: &[Look]| seconds(looks).into_iter().filter(|frames| *frames < 5).count();
    let (narrow, wide) = (standing(&runs[1]), standing(&runs[2]));
    println!("seconds in which the picture stood: {narrow} behind the narrow line, {wide} after it");
    assert!(narrow <= 6 && wide == 0, "it stands while what queued drains, and never again: {narrow}, {wide}");
    assert_eq!(runs[2].last().map(|look| look.height), runs[0].last().map(|look| look.height), "the large one again");
    let frames_late = |looks: &[Look]| looks[looks.len() - 1].frames - looks[looks.len() - 21].frames;
    assert!(frames_late(&runs[1]) > 20 * 20, "in the last 20 s behind the narrow line");
    assert!(frames_late(&runs[2]) > 20 * 20, "and after it");
}
