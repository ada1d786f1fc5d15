//! Sampling: what is left out, and who never is.

use serde_json::json;

use super::Hall;
use crate::support::{
    chain::Chain,
    server::Plan,
    shop::{CORAL, TAN},
    tape::Tape,
};

const TALK: usize = 60;
const HOSTED: usize = 15;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sampling_leaves_some_out_and_says_how_many_but_never_the_anchors() {
    let mut hall = Hall::open(Plan::default().set("ROOM__CHAT_PER_SECOND", "3")).await;
    let mut viewer = hall.socket("viewer").await;
    let (mut talker, mut anchor) = (hall.socket("talker").await, hall.anchor().await);
    let mut said = Vec::new();
    for number in 0..TALK {
        let text = format!("talk {number}");
        let event = talker.ok("comment", json!({ "text": text })).await["event"].clone();
        assert_eq!(event["text"], text, "the author sees her own");
        said.push(event);
        if number % (TALK / HOSTED) == 0 {
            anchor.ok("comment", json!({ "text": format!("host {number}") })).await;
        }
    }
    anchor.ok("pin", json!({ "product": "tote" })).await;
    viewer.until("the end", |view| view.pinned_product() == Some("tote")).await;

    let seen = |prefix: &str| {
        let texts = viewer.view.events.iter().filter_map(|event| event["text"].as_str());
        texts.filter(|text| text.starts_with(prefix)).count()
    };
    assert_eq!(seen("host"), HOSTED, "all of the anchor's");
    assert!(viewer.view.left_out > 0 && seen("talk") > 0, "{} of {TALK} were seen", seen("talk"));
    assert_eq!(seen("talk") + usize::try_from(viewer.view.left_out).expect("few"), TALK, "and it says how many");

    hall.server.kill().await;
    let tape = Tape::read(&hall.server, super::ROOM);
    let taped = tape.comments();
    for event in &said {
        let seq = event["seq"].as_u64().expect("a number");
        assert_eq!(taped.get(&seq).map(String::as_str), event["text"].as_str(), "all of it is on the tape");
    }
    assert_eq!(taped.len(), TALK + HOSTED);
    assert_eq!(tape.events().filter(|(_, left_out)| *left_out).count() as u64, viewer.view.left_out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rush_of_buyers_is_told_in_part_counted_in_full_and_hides_no_comment() {
    let mut hall = Hall::open(Plan::default().set("ROOM__SOLD_PER_SECOND", "1")).await;
    let mut viewer = hall.socket("viewer").await;
    let mut talker = hall.socket("talker").await;
    let pieces = [(CORAL, 20), (TAN, 5)];
    for (sku, count) in pieces {
        for number in 0..count {
            hall.buy(&format!("buyer-{number}"), sku, sku).await;
            talker.ok("comment", json!({ "text": format!("wow {sku} {number}") })).await;
        }
    }
    for (sku, count) in pieces {
        let entries = Chain::read(&hall.server, sku).await.entries.len();
        viewer.until("the last count", |view| view.part("stock")[sku]["entry"] == entries).await;
        assert_eq!(viewer.view.part("stock")[sku]["sold"], count, "the counts have every sale");
    }
    viewer.until("the last words", |view| view.has_comment(&format!("wow {TAN} 4"))).await;

    hall.server.kill().await;
    let tape = Tape::read(&hall.server, super::ROOM);
    let sales = |left_out| {
        let events =
            tape.events().filter(|(event, is_left_out)| event.body.name() == "sold" && *is_left_out == left_out);
        events.map(|(event, _)| event.seq).collect::<Vec<_>>()
    };
    assert_eq!(sales(true).len() + sales(false).len(), 25, "all of it is on the tape");
    let told = viewer.view.events.iter().filter(|event| event["type"] == "sold");
    let told: Vec<u64> = told.map(|event| event["seq"].as_u64().expect("a number")).collect();
    assert_eq!(told, sales(false));
    assert!(!told.is_empty() && told.len() < 25, "{told:?}");
    assert_eq!((viewer.view.sales_left_out, viewer.view.left_out), (sales(true).len() as u64, 0));
    assert_eq!(viewer.view.comments.len(), 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zero_shows_every_comment() {
    let hall = Hall::open(Plan::default().set("ROOM__CHAT_PER_SECOND", "0")).await;
    let mut viewer = hall.socket("viewer").await;
    let mut talker = hall.socket("talker").await;
    for number in 0..100 {
        talker.ok("comment", json!({ "text": format!("talk {number}") })).await;
    }
    viewer.until("the last", |view| view.has_comment("talk 99")).await;
    let seen = viewer.view.events.iter().filter(|event| event["type"] == "comment").count();
    assert_eq!((viewer.view.left_out, seen), (0, 100));
}

#[tokio::test]
async fn a_deleted_comment_is_gone_for_all_and_for_who_comes_later() {
    let hall = Hall::open(Plan::default()).await;
    let mut viewer = hall.socket("viewer").await;
    let (mut talker, mut anchor) = (hall.socket("talker").await, hall.anchor().await);
    let comment = talker.ok("comment", json!({ "text": "buy mine instead" })).await["event"]["seq"].clone();
    viewer.until("it", |view| view.has_comment("buy mine instead")).await;
    anchor.ok("moderate", json!({ "action": "pin_comment", "comment": comment })).await;
    viewer.until("it on top", |view| view.part("pinned_comment")["comment"] == comment).await;
    anchor.ok("moderate", json!({ "action": "delete_comment", "comment": comment })).await;
    viewer.until("it to be gone", |view| !view.has_comment("buy mine instead")).await;
    viewer.until("it to be gone from the top", |view| view.part("pinned_comment").is_null()).await;

    let mut late = hall.socket("late").await;
    let end = hall.seq().await;
    late.until("the end", |view| view.seq >= end).await;
    assert!(!late.view.has_comment("buy mine instead") && late.view.part("pinned_comment").is_null());
}

#[tokio::test]
async fn a_muted_person_and_slow_mode_wait_and_the_anchor_does_not() {
    let hall = Hall::open(Plan::default()).await;
    let mut anchor = hall.anchor().await;
    let mut loud = hall.server.ws(super::ROOM).await;
    let who = loud.join(&hall.shop.viewer_token(&hall.server, "loud")).await["who"].clone();
    anchor.ok("moderate", json!({ "action": "mute", "who": who, "seconds": 60 })).await;
    let answer = loud.command("comment", json!({ "text": "hey" })).await;
    assert_eq!(answer["error"]["code"], "muted");
    assert!(answer["error"]["retry_after_ms"].as_u64().is_some_and(|ms| ms <= 60_000), "{answer}");
    anchor.ok("moderate", json!({ "action": "unmute", "who": who })).await;
    loud.ok("comment", json!({ "text": "sorry" })).await;

    anchor.ok("moderate", json!({ "action": "slow_mode", "seconds": 60 })).await;
    let answer = loud.command("comment", json!({ "text": "and another thing" })).await;
    assert_eq!(answer["error"]["code"], "slow_mode", "{answer}");
    assert!(answer["error"]["retry_after_ms"].as_u64().is_some_and(|ms| ms <= 60_000), "{answer}");
    for number in 0..3 {
        anchor.ok("comment", json!({ "text": format!("host {number}") })).await;
    }
}
