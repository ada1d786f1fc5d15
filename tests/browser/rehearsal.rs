//! The studio's way into a rehearsal and out of it, and what everybody there is told.

use serde_json::Value;

use super::stage::{ROOM, Stage, hook, on_shelf, shows_card, state_is};
use crate::support::{page::quoted, shop::TOTE};

/// A condition: the page says that this is a rehearsal.
fn says_so() -> String {
    format!("document.querySelector({}).checkVisibility()", quoted(&hook("rehearsal")))
}

#[tokio::test]
async fn the_studio_goes_into_a_rehearsal_and_out_of_it_and_every_page_says_where_one_is() {
    let stage = Stage::open().await;
    let studio = stage.studio().await;
    studio.wait_for(&state_is("status", "live")).await;
    assert!(!studio.eval::<bool>(&says_so()).await, "the room itself is none");

    studio.click(&hook("rehearse")).await;
    studio.wait_for("location.pathname.startsWith('/studio/rehearsal.')").await;
    studio.wait_for(&state_is("status", "live")).await;
    studio.wait_visible(&hook("rehearsal")).await;
    assert_eq!(studio.eval::<String>("location.hash").await, "", "the token does not stay in the address");
    let id: String = studio.eval("location.pathname.split('/').pop()").await;

    let visitor = stage.chrome.blank().await;
    visitor.resize(390, 844).await;
    let token = stage.server.tokens.viewer(&id, "visitor");
    visitor.goto(&stage.server.page(&format!("/watch/{id}"), &token)).await;
    visitor.wait_for(&state_is("status", "live")).await;
    visitor.wait_visible(&hook("rehearsal")).await;
    let alice = stage.watch("alice").await;
    assert!(!alice.eval::<bool>(&says_so()).await, "real viewers are told nothing of it");

    studio.click(&on_shelf(TOTE, "pin")).await;
    visitor.wait_for(&shows_card("Leather tote")).await;
    assert_eq!(stage.shop.snapshot(&stage.server).await["pinned"], Value::Null, "it was pinned in the twin");

    studio.click(&hook("end-rehearsal")).await;
    studio.wait_for(&format!("location.pathname === '/studio/{ROOM}'")).await;
    studio.wait_for(&state_is("status", "live")).await;
    assert!(!studio.eval::<bool>(&says_so()).await, "back in the room itself");
    let gone = stage.server.rest().get(&format!("/v1/rooms/{id}")).send().await;
    assert_eq!(gone.status, 404);
}
