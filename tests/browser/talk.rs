//! Talking and buying without a picture: over the WebSocket alone, and over the data channel alone.

use super::stage::{
    Stage, buy_pinned, comment, hook, order_in, reserve_pinned, shows_card, shows_comment, shows_stock, state_is,
};
use crate::support::{
    server::Plan,
    shop::{SCARF, TAN, TOTE},
};

const NO_WEBRTC: &str = "delete window.RTCPeerConnection; delete window.webkitRTCPeerConnection;";

/// A network that lets no WebSocket through: each one fails as a blocked one does.
pub const NO_WEBSOCKET: &str = "window.WebSocket = class extends EventTarget {
    static CONNECTING = 0; static OPEN = 1; static CLOSING = 2; static CLOSED = 3;
    readyState = 0; bufferedAmount = 0; protocol = '';
    constructor(url) {
        super();
        this.url = String(url);
        window.socketsTried = (window.socketsTried ?? 0) + 1;
        setTimeout(() => {
            this.readyState = 3;
            for (const event of [new Event('error'), new CloseEvent('close', { code: 1006 })]) {
                this['on' + event.type]?.(event);
                this.dispatchEvent(event);
            }
        });
    }
    send() { throw new DOMException('not open', 'InvalidStateError'); }
    close() {}
};";

#[tokio::test]
async fn a_viewer_without_webrtc_talks_and_buys_over_the_websocket() {
    let stage = Stage::open().await;
    stage.shop.start_show(&stage.server).await;

    let alice = stage.watch_prepared("alice", NO_WEBRTC).await;
    assert_eq!(alice.eval::<String>("typeof RTCPeerConnection").await, "undefined");
    alice.wait_for(&state_is("transport", "websocket")).await;
    a_whole_visit(&stage, alice).await;
}

#[tokio::test]
async fn a_viewer_whose_websocket_is_blocked_has_a_full_session_on_the_data_channel() {
    let stage = Stage::open().await;
    stage.shop.start_show(&stage.server).await;

    let alice = stage.watch_prepared("alice", NO_WEBSOCKET).await;
    alice.wait_for(&state_is("transport", "channel")).await;
    assert!(alice.eval::<u32>("window.socketsTried").await > 0, "the WebSocket was tried first");
    a_whole_visit(&stage, alice).await;
}

/// All that a session is for: hear, talk, like, buy, and hear of the own order.
async fn a_whole_visit(stage: &Stage, alice: crate::support::page::Page) {
    let bob = stage.watch("bob").await;
    comment(&bob, "hello from the metro").await;
    alice.wait_for(&shows_comment("hello from the metro")).await;
    comment(&alice, "晚上好").await;
    bob.wait_for(&shows_comment("晚上好")).await;

    alice.click(&hook("like")).await;
    bob.wait_for("parseInt(document.querySelector('[data-test=\"likes\"]').textContent) >= 1").await;
    bob.wait_for("parseInt(document.querySelector('[data-test=\"online\"]').textContent) === 2").await;

    stage.shop.pin(&stage.server, TOTE).await;
    alice.wait_for(&shows_card("Leather tote")).await;
    bob.click(&hook("shelf-open")).await;
    buy_pinned(&alice).await;
    bob.wait_for(&shows_stock(TAN, 4)).await;
    stage.shop.stock_settles(&stage.server, TAN, [4, 0, 1]).await;
}

/// Two taps in one moment, as impatient thumbs do.
#[tokio::test]
async fn a_double_tap_on_buy_makes_one_hold_and_pays_nothing() {
    let stage = Stage::open().await;
    stage.shop.pin(&stage.server, TOTE).await;
    let alice = stage.watch_prepared("alice", NO_WEBRTC).await;
    alice.wait_for(&shows_card("Leather tote")).await;
    alice.click(&hook("card-buy")).await;
    alice.wait_visible(&hook("sheet-buy")).await;
    alice.eval::<bool>("(window.taps = 0, addEventListener('pointerdown', () => window.taps++, true), true)").await;

    alice.double_click(&hook("sheet-buy")).await;
    alice.wait_visible(&hook("sheet-countdown")).await;
    assert_eq!(alice.eval::<u32>("window.taps").await, 2, "both taps reached the page");

    assert_eq!(stage.shop.ledger(&stage.server, TAN).await, ["held"]);
    stage.shop.stock_settles(&stage.server, TAN, [4, 1, 0]).await;

    // Giving it back is a command behind whatever the second tap may have sent.
    alice.click(&hook("sheet-cancel")).await;
    alice.wait_for(&order_in("cancelled")).await;
    assert_eq!(stage.shop.ledger(&stage.server, TAN).await, ["held", "cancelled"]);
    stage.shop.stock_settles(&stage.server, TAN, [5, 0, 0]).await;
}

/// The second tap of a slow thumb lands after the answer, on whatever has taken the button's place.
#[tokio::test]
async fn a_tap_meant_for_buy_that_comes_late_does_not_pay() {
    let stage = Stage::open().await;
    stage.shop.pin(&stage.server, TOTE).await;
    let alice = stage.watch_prepared("alice", NO_WEBRTC).await;
    alice.wait_for(&shows_card("Leather tote")).await;
    alice.click(&hook("card-buy")).await;

    let place = alice.click(&hook("sheet-buy")).await;
    alice.wait_for("document.querySelector('[data-test=\"sheet-countdown\"]')?.checkVisibility()").await;
    alice.click_at(place).await;

    // A command sent behind it is answered behind it.
    alice.eval::<bool>("window.maishou.room.comment('behind the tap').then(() => true)").await;
    assert_eq!(stage.shop.ledger(&stage.server, TAN).await, ["held"]);
}

#[tokio::test]
async fn a_hold_that_ran_out_is_told_and_its_stock_is_back() {
    let stage = Stage::open_with(Default::default(), Plan::default().set("ORDER__HOLD_SECONDS", "3")).await;
    stage.shop.pin(&stage.server, TOTE).await;
    let alice = stage.watch_prepared("alice", NO_WEBRTC).await;
    alice.wait_for(&shows_card("Leather tote")).await;

    reserve_pinned(&alice).await;
    stage.shop.stock_settles(&stage.server, TAN, [4, 1, 0]).await;
    alice.wait_for(&order_in("expired")).await;
    alice.wait_visible(&hook("sheet-error")).await;
    alice.wait_for(&shows_stock(TAN, 5)).await;
    stage.shop.stock_settles(&stage.server, TAN, [5, 0, 0]).await;
}

#[tokio::test]
async fn what_people_write_is_shown_as_text() {
    let stage = Stage::open().await;
    let (alice, bob) = (stage.watch_prepared("alice", NO_WEBRTC).await, stage.watch_prepared("bob", NO_WEBRTC).await);
    let studio = stage.studio().await;
    let hostile = "<img src=x onerror=alert(1)><b>bold</b>";

    comment(&bob, hostile).await;
    for page in [&alice, &bob, &studio] {
        page.wait_for(&shows_comment(hostile)).await;
        let elements: u32 = page.eval("document.querySelectorAll('img[src=x]').length").await;
        assert_eq!(elements, 0, "markup of a comment became elements");
    }

    stage.shop.pin(&stage.server, SCARF).await;
    alice.wait_for(&shows_card("Silk scarf 真丝围巾")).await;
}
