//! `maishou demo` as a stranger meets it: one command, the printed addresses, a browser.

use std::fs;

use super::stage::{hook, picture_runs, received, reserve_pinned, state_is};
use crate::support::{
    chrome::{Chrome, Habits, Turn},
    page::Page,
    process::Process,
    scratch::Scratch,
    wait::{poll, wait_until},
};

/// The clip is fourteen seconds long, at 25 pictures a second.
const MORE_THAN_THE_CLIP: u64 = 14 * 25 + 25;

/// A running demo and the addresses that it printed.
pub struct Demo {
    process: Process,
    pub viewer: String,
    pub studio: String,
    pub ops: String,
    temporary: Scratch,
}

impl Demo {
    pub async fn start() -> Self {
        let folder = Scratch::new("demo");
        let temporary = Scratch::new("demo-tmp");
        let env = [("TMPDIR".to_owned(), temporary.path().display().to_string())];
        let args = ["demo", "--listen", "127.0.0.1:0", "--media-listen", "127.0.0.1:0"];
        let mut process = Process::start(&args, &env, folder.path(), temporary.join("demo.log"));
        let mut address = async |name: &str| {
            let line = process.says(&format!("{name} ")).await;
            line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address").to_owned()
        };
        let (viewer, studio, ops) = (address("viewer").await, address("studio").await, address("ops").await);
        Self { process, viewer, studio, ops, temporary }
    }
}

#[tokio::test]
async fn one_command_shows_a_running_show_in_which_one_can_buy() {
    let turn = Turn::wait().await;
    let demo = Demo::start().await;
    let chrome = Chrome::launch(&turn, Habits::default()).await;
    let page = chrome.blank().await;
    page.resize(390, 844).await;
    page.goto(&demo.viewer).await;

    page.wait_for(&state_is("status", "live")).await;
    picture_runs(&page, 25).await;
    page.wait_for("document.querySelector('[data-test=\"video\"]').videoWidth === 720").await;
    page.wait_for("document.querySelector('[data-test=\"video\"]').videoHeight === 1280").await;
    assert!(colours(&page).await > 100, "the picture is one colour");
    page.wait_for("document.querySelectorAll('[data-test=\"comment\"]').length >= 3").await;

    page.wait_for("document.querySelector('[data-test=\"card\"]')?.checkVisibility()").await;
    reserve_pinned(&page).await;
    super::stage::pay(&page).await;

    let shelf = chrome.blank().await;
    shelf.resize(1440, 900).await;
    shelf.goto(&demo.viewer).await;
    shelf.wait_for("document.querySelectorAll('[data-test=\"shelf-item\"]').length >= 8").await;
    shelf
        .wait_for(
            "[...document.querySelectorAll('[data-test=\"shelf-item\"] img')].length >= 8
             && [...document.querySelectorAll('[data-test=\"shelf-item\"] img')].every((picture) => {
                 picture.scrollIntoView();
                 return picture.complete && picture.naturalWidth > 0;
             })",
        )
        .await;
    drop((page, shelf));

    let studio = chrome.open(&demo.studio).await;
    studio.wait_visible(&hook("go-live")).await;
    let ops = chrome.open(&demo.ops).await;
    ops.wait_for("document.querySelector('[data-test=\"rooms\"]')?.innerText.includes('demo')").await;
    drop((studio, ops));

    demo.process.signal(libc::SIGINT);
    let temporary = demo.temporary;
    assert_eq!(demo.process.ended().await.code(), Some(0));
    let left: Vec<_> =
        fs::read_dir(temporary.path()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["demo.log"], "the demo takes its world with it");
}

/// The clip begins again with timestamps that go on: nobody's decoder stops there.
#[tokio::test]
async fn the_clip_of_the_demo_goes_round_without_a_stop() {
    let turn = Turn::wait().await;
    let demo = Demo::start().await;
    let chrome = Chrome::launch(&turn, Habits::default()).await;
    let page = chrome.open(&demo.viewer).await;
    picture_runs(&page, 10).await;
    page.eval::<bool>("(window.firstConnection = window.maishou.pc, true)").await;

    let around = std::time::Duration::from_secs(60);
    wait_until("more pictures than the clip has", around, async || {
        (received(&page).await.frames > MORE_THAN_THE_CLIP).then_some(())
    })
    .await;
    picture_runs(&page, 25).await;
    assert!(page.eval::<bool>("window.firstConnection === window.maishou.pc").await, "one connection all along");
    let stood_still: f64 = page.eval(STOOD_STILL).await;
    assert!(stood_still < 2.0, "the picture stood still for {stood_still} s");
}

/// Seconds that the picture stood still in all.
const STOOD_STILL: &str = "(async () => {
    for (const report of (await window.maishou.pc.getStats()).values())
        if (report.type === 'inbound-rtp' && report.kind === 'video') return report.totalFreezesDuration ?? 0;
    return 99;
})()";

/// How many different colours a small copy of the picture has.
async fn colours(page: &Page) -> usize {
    const COUNT: &str = "(() => {
        const video = document.querySelector('[data-test=\"video\"]');
        const canvas = new OffscreenCanvas(72, 128);
        const pen = canvas.getContext('2d');
        pen.drawImage(video, 0, 0, 72, 128);
        const { data } = pen.getImageData(0, 0, 72, 128);
        return new Set(new Uint32Array(data.buffer)).size;
    })()";
    let deadline = std::time::Duration::from_secs(5);
    let many = poll(deadline, async || Some(page.eval::<usize>(COUNT).await).filter(|count| *count > 100)).await;
    many.unwrap_or_default()
}
