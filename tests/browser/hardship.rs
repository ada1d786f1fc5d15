//! Pages when something is wrong: the server is killed, the network is gone, the token is no good.

use super::stage::{ROOM, Stage, comment, hook, reserve_pinned, shows_card, shows_comment, shows_stock, state_is};
use crate::support::shop::{TAN, TOTE};

#[tokio::test]
async fn pages_find_their_way_back_after_the_server_was_killed() {
    let mut stage = Stage::open().await;
    stage.shop.start_show(&stage.server).await;
    stage.shop.pin(&stage.server, TOTE).await;
    let (alice, bob) = (stage.watch("alice").await, stage.watch("bob").await);
    alice.wait_for(&shows_card("Leather tote")).await;
    reserve_pinned(&alice).await;
    bob.wait_for(&shows_stock(TAN, 4)).await;
    alice.eval::<bool>("(window.stayed = true)").await;
    let epoch: String = alice.eval("window.maishou.room.state.epoch").await;

    stage.server.kill().await;
    alice.wait_for(&format!("!({})", state_is("status", "live"))).await;
    let disabled = "document.querySelector('[data-test=\"sheet-pay\"]').disabled";
    alice.wait_for(disabled).await;

    stage.server.restart().await;
    alice.wait_for(&state_is("status", "live")).await;
    bob.wait_for(&state_is("status", "live")).await;
    let later: String = alice.eval("window.maishou.room.state.epoch").await;
    assert_ne!(epoch, later, "a new epoch after a restart");
    assert!(alice.eval::<bool>("window.stayed === true").await, "nobody reloaded");
    super::stage::pay(&alice).await;
    bob.wait_for(&shows_stock(TAN, 4)).await;
    comment(&bob, "and we are back").await;
    alice.wait_for(&shows_comment("and we are back")).await;
}

#[tokio::test]
async fn a_page_with_a_bad_token_says_so_and_stops_trying() {
    let stage = Stage::open().await;
    let page = stage.chrome.blank().await;
    page.resize(390, 844).await;
    let forged = stage.server.tokens.forged(ROOM, "mallory");
    page.goto(&stage.server.page(&format!("/watch/{ROOM}"), &forged)).await;

    page.wait_for("document.body.innerText.trim().length > 20").await;
    page.wait_for(&format!("!document.querySelector('{}')?.checkVisibility()", hook("video"))).await;
    assert_eq!(page.eval::<String>("location.hash").await, "", "the token does not stay in the address");
}

#[tokio::test]
async fn the_list_of_rooms_and_the_ops_page_show_the_room() {
    let stage = Stage::open().await;
    stage.shop.start_show(&stage.server).await;
    let _alice = stage.watch("alice").await;

    let list = stage.chrome.open(&format!("http://{}/", stage.server.http)).await;
    list.wait_for("document.body.innerText.includes('Autumn edit')").await;

    let ops = stage.chrome.blank().await;
    ops.resize(1440, 900).await;
    ops.goto(&stage.server.page("/ops", &stage.server.tokens.admin())).await;
    ops.wait_for(&format!("document.querySelector('{}')?.innerText.includes('{ROOM}')", hook("rooms"))).await;
    ops.wait_visible(&hook("connections")).await;
    ops.wait_visible(&hook("rates")).await;
}
