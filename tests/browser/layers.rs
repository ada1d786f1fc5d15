//! A browser's picture in two sizes: sent by the studio, one of them to each viewer, by what she chose.

use std::time::Duration;

use super::stage::{Stage, go_live, hook, picture_runs};
use crate::support::page::Page;

/// Browsers begin the sizes one after another, as their estimate of the link grows.
const PATIENCE: Duration = Duration::from_secs(60);

/// Chooses in the menu beside the picture, and waits until the picture has another height.
async fn choose_layer(viewer: &Page, layer: &str, height: &str) {
    viewer.choose(&hook("layer"), layer).await;
    let shown = format!("document.querySelector('{}').videoHeight {height}", hook("video"));
    viewer.wait_for_at_most(&shown, PATIENCE).await;
    picture_runs(viewer, 30).await;
}

#[tokio::test]
async fn the_studio_sends_two_sizes_and_a_viewer_gets_the_one_she_chose_without_a_reload() {
    let stage = Stage::open().await;
    let studio = stage.studio().await;
    studio.choose(&hook("source"), "test").await;
    studio.wait_for(&format!("document.querySelector('{}').videoHeight === 1280", hook("preview"))).await;
    go_live(&studio).await;

    let viewer = stage.watch("alice").await;
    picture_runs(&viewer, 30).await;
    viewer.eval::<bool>("(window.stayed = true)").await;

    choose_layer(&viewer, "high", "=== 1280").await;
    choose_layer(&viewer, "low", "=== 640").await;
    choose_layer(&viewer, "high", "=== 1280").await;
    choose_layer(&viewer, "auto", "> 0").await;
    assert!(viewer.eval::<bool>("window.stayed === true").await, "nobody reloaded");
}
