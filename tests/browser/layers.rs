//! A browser's picture in two sizes: sent by the studio, one of them to each viewer, by what she chose.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{Stage, go_live, hook, picture_runs};
use crate::support::page::Page;

/// Browsers begin the sizes one after another, as their estimate of the link grows.
const PATIENCE: Duration = Duration::from_secs(60);

/// Chooses in the menu beside the picture, and waits until the picture has another height.
pub async fn choose_layer(viewer: &Page, layer: &str, height: &str) {
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

/// Statistics in which the small picture, the large one, both or none are sent, look by look.
const UPLINKS: &str = "(async () => {
    const { Layers } = await import('/assets/publish-layers.js');
    const told = [], frames = { small: 0, large: 0 };
    let look, uplink = 500_000;
    const sent = (rid) => ({ type: 'outbound-rtp', kind: 'video', rid, framesSent: frames[rid] });
    const encodings = [{ rid: 'small', active: true }, { rid: 'large', active: true }];
    const sender = {
        track: { kind: 'video' },
        getParameters: () => structuredClone({ encodings }),
        setParameters: async ({ encodings }) => told.push(encodings.map(({ active }) => active)),
    };
    const everySecond = window.setInterval;
    window.setInterval = (each) => { look = each; };
    new Layers({
        connectionState: 'connected',
        getSenders: () => [sender],
        getStats: async () => new Map([sent('small'), sent('large'),
            { type: 'candidate-pair', availableOutgoingBitrate: uplink }].map((entry, key) => [key, entry])),
    });
    window.setInterval = everySecond;
    const after = async (looks, small, large) => {
        for (; looks > 0; looks -= 1) {
            frames.small += small;
            frames.large += large;
            look();
            await new Promise((done) => setTimeout(done));
        }
        return told.length;
    };
    const both = await after(20, 25, 25);
    const hiccup = await after(7, 25, 0) + await after(1, 25, 25);
    const nothing = await after(9, 0, 0);
    const leftOut = await after(8, 25, 0);
    const narrow = await after(100, 0, 25);
    uplink = 2_000_000;
    const triedAgain = await after(1, 0, 25);
    const leftOutAgain = await after(9, 25, 0);
    const notYet = await after(59, 0, 25);
    const later = await after(1, 0, 25);
    return { told, counts: [both, hiccup, nothing, leftOut, narrow, triedAgain, leftOutAgain, notYet, later] };
})()";

/// Where the uplink carries one size only, it carries the large one.
#[tokio::test]
async fn the_small_size_is_left_out_while_the_uplink_carries_only_one() {
    let stage = Stage::open().await;
    let studio = stage.studio().await;
    let seen: Value = studio.eval(UPLINKS).await;
    assert_eq!(seen["counts"], json!([0, 0, 0, 1, 1, 2, 3, 3, 4]), "{seen}");
    let (alone, together) = (json!([false, true]), json!([true, true]));
    assert_eq!(seen["told"], json!([alone, together, alone, together]));
}
