//! A server with a room, a browser, and what people do on the pages.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::support::{
    chrome::{Chrome, Habits, Turn},
    page::{Page, quoted},
    server::{Plan, Server},
    shop::Shop,
};

pub const ROOM: &str = "show1";

/// The fields are dropped from top to bottom: pages before browsers, browsers before the server.
pub struct Stage {
    /// The viewers' browser.
    pub chrome: Chrome,
    pub server: Server,
    pub shop: Shop,
    turn: Turn,
}

impl Stage {
    pub async fn open() -> Self {
        Self::open_with(Habits::default(), Plan::default()).await
    }

    pub async fn open_with(habits: Habits, plan: Plan) -> Self {
        let turn = Turn::wait().await;
        let server = plan.start().await;
        let shop = Shop::open(&server, ROOM).await;
        let chrome = Chrome::launch(&turn, habits).await;
        Self { chrome, server, shop, turn }
    }

    /// Another browser process, such as the anchor's own machine.
    pub async fn another_chrome(&self, habits: Habits) -> Chrome {
        Chrome::launch(&self.turn, habits).await
    }

    /// Opens the studio in `chrome`, on a desk-sized window.
    pub async fn studio_in(&self, chrome: &Chrome) -> Page {
        let page = chrome.blank().await;
        page.resize(1440, 900).await;
        page.goto(&self.server.page(&format!("/studio/{ROOM}"), &self.shop.anchor_token(&self.server))).await;
        page
    }

    pub async fn studio(&self) -> Page {
        self.studio_in(&self.chrome).await
    }

    /// Opens the room as viewer `sub` on a phone-sized window and waits until she has joined.
    pub async fn watch(&self, sub: &str) -> Page {
        self.watch_prepared(sub, "").await
    }

    /// As [`Stage::watch`], in a browser that `script` has changed before the page loads.
    pub async fn watch_prepared(&self, sub: &str, script: &str) -> Page {
        let page = self.chrome.blank().await;
        page.resize(390, 844).await;
        if !script.is_empty() {
            page.before_load(script).await;
        }
        page.goto(&self.server.page(&format!("/watch/{ROOM}"), &self.shop.viewer_token(&self.server, sub))).await;
        page.wait_for(&state_is("status", "live")).await;
        page
    }
}

/// The selector of a test hook.
pub fn hook(name: &str) -> String {
    format!("[data-test=\"{name}\"]")
}

/// A condition: the element of this hook has this `data-state`.
pub fn state_is(name: &str, state: &str) -> String {
    format!("document.querySelector({})?.dataset.state === {}", quoted(&hook(name)), quoted(state))
}

/// A condition: what is shown for this SKU starts with this count.
pub fn shows_stock(sku: &str, available: u64) -> String {
    let selector = quoted(&format!("[data-stock=\"{sku}\"]"));
    format!("[...document.querySelectorAll({selector})].some((shown) => parseInt(shown.textContent) === {available})")
}

/// A condition: a comment with this text is in the list.
pub fn shows_comment(text: &str) -> String {
    let selector = quoted(&format!("{} {}", hook("comments"), hook("comment")));
    format!("[...document.querySelectorAll({selector})].some((shown) => shown.textContent.includes({}))", quoted(text))
}

/// A condition: the pinned card is visible and about `title`.
pub fn shows_card(title: &str) -> String {
    let (card, name) = (quoted(&hook("card")), quoted(&hook("card-title")));
    format!(
        "document.querySelector({card})?.checkVisibility() \
         && document.querySelector({name}).textContent.includes({})",
        quoted(title)
    )
}

/// Clicks the button of this hook on the studio's shelf entry of `product`.
pub fn on_shelf(product: &str, button: &str) -> String {
    format!("[data-test=\"shelf-item\"][data-product=\"{product}\"] [data-test=\"{button}\"]")
}

/// Presses "Go live" and waits until the studio says that it is on the air.
pub async fn go_live(studio: &Page) {
    studio.wait_for("document.querySelector('[data-test=\"preview\"]').videoWidth > 0").await;
    studio.click(&hook("go-live")).await;
    studio.wait_for(&state_is("live-state", "live")).await;
}

pub async fn comment(viewer: &Page, text: &str) {
    viewer.type_text(&hook("comment-input"), text).await;
    viewer.click(&hook("comment-send")).await;
}

/// Opens the sheet of the pinned card, reserves and pays.
pub async fn buy_pinned(viewer: &Page) {
    reserve_pinned(viewer).await;
    pay(viewer).await;
}

pub async fn reserve_pinned(viewer: &Page) {
    viewer.click(&hook("card-buy")).await;
    viewer.click(&hook("sheet-buy")).await;
    viewer.wait_visible(&hook("sheet-countdown")).await;
}

pub async fn pay(viewer: &Page) {
    viewer.click(&hook("sheet-pay")).await;
    viewer.wait_for(&order_in("paid")).await;
}

/// A condition: the list of own orders has one in this state.
pub fn order_in(state: &str) -> String {
    let selector = quoted(&format!("{} {}[data-state=\"{state}\"]", hook("orders"), hook("order")));
    format!("document.querySelector({selector})")
}

/// What WebRTC says about the picture and sound that arrive.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Received {
    pub frames: u64,
    pub width: u32,
    pub height: u32,
    pub audio_packets: u64,
    pub audio_energy: f64,
}

pub async fn received(page: &Page) -> Received {
    const STATS: &str = "(async () => {
        const by = {};
        for (const report of (await window.maishou?.pc?.getStats() ?? new Map()).values())
            if (report.type === 'inbound-rtp') by[report.kind] = report;
        return {
            frames: by.video?.framesDecoded ?? 0, width: by.video?.frameWidth ?? 0, height: by.video?.frameHeight ?? 0,
            audio_packets: by.audio?.packetsReceived ?? 0, audio_energy: by.audio?.totalAudioEnergy ?? 0,
        };
    })()";
    serde_json::from_value(page.eval::<Value>(STATS).await).expect("statistics")
}

/// Waits until the picture runs: `more` further frames decoded and shown, further sound received.
pub async fn picture_runs(page: &Page, more: u64) -> Received {
    let before = received(page).await;
    let deadline = Duration::from_secs(30);
    crate::support::wait::wait_until("frames and sound to arrive", deadline, async || {
        let now = received(page).await;
        // A new connection counts from zero again.
        let frames = now.frames.checked_sub(before.frames).unwrap_or(now.frames);
        let sound = now.audio_packets.checked_sub(before.audio_packets).unwrap_or(now.audio_packets);
        (frames >= more && sound > 10).then_some(now)
    })
    .await
}

/// From now on the page notes when `condition` first holds, in milliseconds since 1970.
pub async fn note_when(page: &Page, name: &str, condition: &str) {
    let script = format!(
        "(() => {{
            const look = () => {{ if (!window[{name}] && ({condition})) window[{name}] = Date.now(); }};
            new MutationObserver(look).observe(document, {{
                subtree: true, childList: true, attributes: true, characterData: true,
            }});
            look();
            return true;
        }})()",
        name = quoted(name),
    );
    page.eval::<bool>(&script).await;
}

/// When the noted condition first held.
pub async fn noted(page: &Page, name: &str) -> f64 {
    let name = quoted(name);
    page.wait_for(&format!("window[{name}]")).await;
    page.eval(&format!("window[{name}]")).await
}

/// From now on the page notes when it was last clicked, before anything else hears of the click.
pub async fn note_clicks(page: &Page) {
    page.eval::<bool>("(addEventListener('click', () => { window.clickedAt = Date.now(); }, true), true)").await;
}

pub async fn clicked_at(page: &Page) -> f64 {
    page.eval("window.clickedAt").await
}
