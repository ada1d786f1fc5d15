//! Pictures of the pages for people to look at, when `MAISHOU_SCREENSHOTS` names a folder.

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use maishou::client::{self, Anchor, Config, Watcher};

use super::{
    newcomer::Demo,
    stage::{ROOM, Stage, comment, go_live, hook, on_shelf, picture_runs, reserve_pinned, shows_card, shows_comment},
};
use crate::{
    media::layered_clip,
    support::{
        chrome::{Chrome, Habits, Turn},
        page::Page,
        relay::{ANYBODY_ELSE, Line, Relay},
        shop::TOTE,
    },
};

pub const PHONE: (u32, u32) = (390, 844);
pub const DESK: (u32, u32) = (1440, 900);

pub fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(env::var_os("MAISHOU_SCREENSHOTS")?);
    fs::create_dir_all(&folder).expect("the folder can be made");
    Some(folder)
}

async fn open(chrome: &Chrome, url: &str, (width, height): (u32, u32)) -> Page {
    let page = chrome.blank().await;
    page.resize(width, height).await;
    page.goto(url).await;
    page
}

#[tokio::test]
async fn the_demo_can_be_looked_at() {
    let Some(folder) = folder() else { return };
    let turn = Turn::wait().await;
    let demo = Demo::start().await;
    let chrome = Chrome::launch(&turn, Habits::default()).await;

    let phone = open(&chrome, &demo.viewer, PHONE).await;
    picture_runs(&phone, 50).await;
    phone.wait_for("document.querySelectorAll('[data-test=\"comment\"]').length >= 5").await;
    phone.wait_for("document.querySelector('[data-test=\"card\"]').checkVisibility()").await;
    phone.screenshot(&folder.join("viewer-390x844.png")).await;
    reserve_pinned(&phone).await;
    phone.screenshot(&folder.join("hold-390x844.png")).await;
    phone.close().await;

    let shelf = open(&chrome, &demo.viewer, PHONE).await;
    shelf.click(&hook("shelf-open")).await;
    picture_runs(&shelf, 25).await;
    shelf.screenshot(&folder.join("shelf-390x844.png")).await;
    shelf.close().await;

    let desk = open(&chrome, &demo.viewer, DESK).await;
    picture_runs(&desk, 50).await;
    desk.wait_for("document.querySelectorAll('[data-test=\"comment\"]').length >= 8").await;
    desk.screenshot(&folder.join("viewer-1440x900.png")).await;
    desk.close().await;

    let studio = open(&chrome, &demo.studio, DESK).await;
    studio.choose(&hook("source"), "test").await;
    studio.wait_for("document.querySelectorAll('[data-test=\"comment\"]').length >= 5").await;
    studio.screenshot(&folder.join("studio-1440x900.png")).await;
    go_live(&studio).await;
    studio.click(&on_shelf("teapot", "pin")).await;
    studio.wait_for("document.querySelector('[data-test=\"explain\"]').innerText.includes('Celadon')").await;
    studio.wait_for("/[1-9][0-9.]* [kM]b.s/.test(document.body.innerText)").await;
    studio.screenshot(&folder.join("studio-live-1440x900.png")).await;
    studio.resize(PHONE.0, PHONE.1).await;
    studio.screenshot(&folder.join("studio-390x844.png")).await;

    let ops = open(&chrome, &demo.ops, DESK).await;
    ops.wait_for("document.querySelector('[data-test=\"rooms\"]')?.innerText.includes('demo')").await;
    ops.wait_for("/[1-9]/.test(document.querySelector('[data-test=\"rates\"]')?.innerText)").await;
    ops.wait_for("/In[0-9.]+ .b/.test(document.querySelector('[data-test=\"pictures\"]')?.textContent)").await;
    ops.screenshot(&folder.join("ops-1440x900.png")).await;
}

/// With the browser's own camera in place of the clip.
#[tokio::test]
async fn a_real_show_can_be_looked_at() {
    let Some(folder) = folder() else { return };
    let stage = Stage::open().await;
    let studio = stage.studio().await;
    go_live(&studio).await;
    let alice = stage.watch("alice").await;
    picture_runs(&alice, 30).await;
    studio.click(&on_shelf(TOTE, "pin")).await;
    alice.wait_for(&shows_card("Leather tote")).await;
    for text in ["Good evening!", "一米六五穿 M 可以吗", "Does it fit a laptop?"] {
        comment(&alice, text).await;
        studio.wait_for(&shows_comment(text)).await;
    }
    alice.screenshot(&folder.join("camera-viewer-390x844.png")).await;
    studio.screenshot(&folder.join("camera-studio-1440x900.png")).await;
}

/// Three sizes to choose from, and viewers whose lines are as bad as lines are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poor_lines_can_be_looked_at() {
    let Some(folder) = folder() else { return };
    let stage = Stage::open_with(Habits::default(), Relay::plan()).await;
    stage.shop.start_show(&stage.server).await;
    let relay = Relay::before(&stage.server, 6).await;
    let (at, room) = (client::Server::at(stage.server.http), ROOM.parse().expect("a room's id"));
    let from = |last| Config { bind: Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))), ..Config::default() };
    let hers = stage.shop.anchor_token(&stage.server);
    let anchor = Anchor::publish(&at, &room, &hers, layered_clip(), &from(2)).await.expect("she goes live");
    let lines =
        [("lin", 0.01, 60), ("chen-mei", 0.06, 240), ("wang", 0.15, 90), ("zhao", 0.02, 600), ("liu", 0.3, 120)];
    let mut watchers = Vec::new();
    for (last, (name, loss, delay_ms)) in (3..).zip(lines) {
        let token = stage.shop.viewer_token(&stage.server, name);
        watchers.push(Watcher::watch(&at, &room, &token, false, &from(last)).await.expect("she watches"));
        let line = Line::losing(loss).with_delay(Duration::from_millis(delay_ms / 2));
        relay.both(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), line);
    }
    let alice = stage.watch("alice").await;
    relay.both(ANYBODY_ELSE, Line::losing(0.08).with_delay(Duration::from_millis(40)));
    picture_runs(&alice, 50).await;
    alice.wait_visible(&hook("layer")).await;
    for (size, lang) in [(PHONE, "en"), (DESK, "en"), (PHONE, "zh")] {
        let token = stage.shop.viewer_token(&stage.server, "bob");
        let page = stage.server.page(&format!("/watch/{ROOM}?lang={lang}"), &token);
        let bob = open(&stage.chrome, &page, size).await;
        picture_runs(&bob, 25).await;
        bob.choose(&hook("layer"), "low").await;
        bob.eval::<bool>(&format!("(document.querySelector('{}').focus(), true)", hook("layer"))).await;
        bob.screenshot(&folder.join(format!("layer-{lang}-{}x{}.png", size.0, size.1))).await;
        bob.close().await;
    }

    let ops = open(&stage.chrome, &stage.server.page("/ops", &stage.server.tokens.admin()), DESK).await;
    let rows = format!("document.querySelectorAll('{} .worst tbody tr').length >= 4", hook("pictures"));
    ops.wait_for_at_most(&rows, Duration::from_secs(60)).await;
    for (width, height) in [DESK, PHONE] {
        ops.resize(width, height).await;
        let to_table = "(document.querySelector('.worst').scrollIntoView({ block: 'center' }), true)";
        ops.eval::<bool>(to_table).await;
        ops.screenshot(&folder.join(format!("ops-worst-{width}x{height}.png"))).await;
    }
    anchor.stop().await;
}
