//! An anchor with an encoder that sends its parameter sets once, and people who come later.

use std::{fs, path::Path, sync::Arc, time::Duration};

use maishou::client::{self, Anchor, Clip, Config};

use super::{
    layers::choose_layer,
    stage::{ROOM, Stage, picture_runs},
};

/// Two sizes, of which the large one takes fewer bits; see `make-clips`.
fn clip() -> Arc<Clip> {
    let read = |name: &str| fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a part of the clip");
    let sizes = ["tests/media/h264/small.ivf", "tests/media/h264/large.ivf"].map(|name| read(name).into());
    Arc::new(Clip::layered(sizes.into(), Some(read("config/demo/clip.ogg").into())).expect("a clip"))
}

const CODEC: &str = "(async () => { const all = [...(await window.maishou.pc.getStats()).values()];
    const video = all.find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'video');
    return all.find((entry) => entry.id === video.codecId).mimeType; })()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_late_to_h264_sees_the_picture_and_every_size_that_she_chooses() {
    let stage = Stage::open().await;
    stage.shop.start_show(&stage.server).await;
    let (at, token) = (client::Server::at(stage.server.http), stage.shop.anchor_token(&stage.server));
    let room = ROOM.parse().expect("a room's id");
    let anchor = Anchor::publish(&at, &room, &token, clip(), &Config::default()).await.expect("she goes live");
    // Some keyframes after the first one, with which the sets came.
    anchor.wait_for(Duration::from_secs(30), |stats| stats.bytes > 100_000).await.expect("she is on the air");

    let viewer = stage.watch("late").await;
    picture_runs(&viewer, 30).await;
    assert_eq!(viewer.eval::<String>(CODEC).await, "video/H264");
    viewer.eval::<bool>("(window.stayed = true)").await;
    choose_layer(&viewer, "high", "=== 360").await;
    choose_layer(&viewer, "low", "=== 180").await;
    choose_layer(&viewer, "high", "=== 360").await;
    assert!(viewer.eval::<bool>("window.stayed === true").await, "nobody reloaded");
    anchor.stop().await;
}
