//! The frame rule, over every way to look on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Hall, ROOM};
use crate::support::{
    server::Plan,
    shop::{CORAL, TAN},
    sse::Sse,
    view::{View, state_of},
    wait::{DEADLINE, within},
    ws::Ws,
};

const SOCKETS: usize = 11;
const LISTENERS: usize = 6;
const ACTS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_viewers_end_in_one_state_and_saw_the_chat_in_one_order() {
    let hall = Hall::open(Plan::default()).await;
    let mut sockets = Vec::new();
    for number in 0..SOCKETS {
        sockets.push(hall.socket(&format!("socket-{number}")).await);
    }
    let mut listeners = Vec::new();
    for number in 0..LISTENERS {
        listeners.push(hall.listener(&format!("listener-{number}")).await);
    }
    let (mut lost, mut lost_listener) = (hall.socket("lift").await, hall.listener("tunnel").await);

    busy(&hall, "first half", 0..ACTS / 2).await;
    lost.until("half of it", |view| view.events.len() > 5).await;
    lost_listener.until("half of it", |view| view.events.len() > 5).await;
    let (lost, lost_id, lost_view) = (lost.vanish(), lost_listener.last_id.clone(), lost_listener.view.clone());
    drop(lost_listener);
    busy(&hall, "second half", ACTS / 2..ACTS).await;

    sockets.push(hall.socket("late").await);
    sockets.push(resumed(&hall, lost).await);
    listeners.push(resumed_listener(&hall, lost_view, lost_id.expect("frames have ids")).await);
    hall.shop.stock_settles(&hall.server, CORAL, [20 - ACTS as u64 / 4, 0, ACTS as u64 / 4]).await;
    let end = hall.seq().await;
    for ws in &mut sockets {
        ws.until("the end", |view| view.seq >= end).await;
    }
    for sse in &mut listeners {
        sse.until("the end", |view| view.seq >= end).await;
    }
    let views: Vec<&View> = sockets.iter().map(|ws| &ws.view).chain(listeners.iter().map(|sse| &sse.view)).collect();
    assert_eq!(views.len(), 20);
    agree(&views, &hall.shop.snapshot(&hall.server).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stalls_and_falls_off_the_ring_gets_a_snapshot_and_goes_on() {
    let plan = Plan::default().set("RING__FRAMES_MAX", "16").set("ROOM__CHAT_PER_SECOND", "0");
    let hall = Hall::open(plan.set("FANOUT__SEND_BUFFER_BYTES", "4096")).await;
    let mut stalled = Ws::connect_narrow(hall.server.http, ROOM, 4_096).await;
    stalled.join(&hall.shop.viewer_token(&hall.server, "stalled")).await;

    // Far more than every buffer between the two holds, while she does not read.
    let mut talk = JoinSet::new();
    for number in 0..10 {
        let mut talker = hall.socket(&format!("talker-{number}")).await;
        talk.spawn(async move {
            for count in 0..50 {
                talker.ok("comment", json!({ "text": format!("{number}-{count} {}", "买".repeat(190)) })).await;
            }
        });
    }
    talk.join_all().await;
    hall.shop.pin(&hall.server, "tote").await;
    let end = hall.seq().await;
    stalled.until("the end", |view| view.seq >= end).await;
    assert!(stalled.view.snapshots >= 2, "she fell off and was given the state");
    assert!(stalled.closed.is_none() && !stalled.view.missed);
    agree(&[&stalled.view], &hall.shop.snapshot(&hall.server).await);

    hall.socket("talker").await.ok("comment", json!({ "text": "are you still there?" })).await;
    stalled.until("what comes after", |view| view.has_comment("are you still there?")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_event_arrives_within_a_second_under_a_flood_of_chat() {
    let hall = Hall::open(Plan::default()).await;
    let mut viewer = hall.socket("viewer").await;
    let mut anchor = hall.anchor().await;
    let mut flood = JoinSet::new();
    for number in 0..8 {
        let mut ws = hall.socket(&format!("flood-{number}")).await;
        flood.spawn(async move {
            for count in 0.. {
                ws.ok("comment", json!({ "text": format!("flood {count}") })).await;
            }
        });
    }
    viewer.until("the flood", |view| view.left_out > 50).await;
    for round in 0..10 {
        let product = ["scarf", "tote"][round % 2];
        let asked = Instant::now();
        let pinned = async { anchor.ok("pin", json!({ "product": product })).await };
        let seen = viewer.until("the card", |view| view.pinned_product() == Some(product));
        tokio::join!(pinned, seen);
        assert!(asked.elapsed() < Duration::from_secs(1), "round {round}: {:?}", asked.elapsed());
    }
    let before = viewer.view.left_out;
    viewer.until("the flood to go on", |view| view.left_out > before).await;
    flood.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_room_is_heard_at_least_every_ten_seconds() {
    let hall = Hall::open(Plan::default()).await;
    let (mut ws, mut sse) = (hall.socket("quiet").await, hall.listener("quiet").await);
    let patience = Duration::from_secs(12);
    ws.settle(Duration::from_millis(300)).await;
    let heard = ws.heard.len();
    let (message, ()) = tokio::join!(within("a frame in a quiet room", patience, ws.next()), async {
        let (signs, heard) = (sse.signs, sse.heard.len());
        let _ = tokio::time::timeout(patience, async {
            while sse.signs == signs && sse.heard.len() == heard {
                sse.next().await.expect("the stream goes on");
            }
        })
        .await;
        assert!(sse.signs > signs || sse.heard.len() > heard, "a sign of life on the stream");
    });
    assert!(message.is_some() && ws.heard.len() > heard);
}

/// Cards, comments, moderation and sales, mixed.
async fn busy(hall: &Hall, word: &str, acts: std::ops::Range<usize>) {
    let (mut anchor, mut talker) = (hall.anchor().await, hall.socket("talker").await);
    for number in acts {
        let product = ["scarf", "tote"][number / 4 % 2];
        match number % 4 {
            0 => hall.buy(&format!("buyer-{number}"), CORAL, "k").await,
            1 => drop(anchor.ok("pin", json!({ "product": product })).await),
            2 => drop(anchor.ok("comment", json!({ "text": format!("{word}: {number}") })).await),
            _ => drop(anchor.ok("moderate", json!({ "action": "slow_mode", "seconds": 0 })).await),
        }
        talker.ok("comment", json!({ "text": format!("talk {number}") })).await;
    }
    let last = talker.view.comments.len();
    assert!(last > 0, "somebody talked");
}

async fn resumed(hall: &Hall, view: View) -> Ws {
    let mut ws = hall.server.ws(ROOM).await;
    let before = view.snapshots;
    let joined = ws.resume(&hall.shop.viewer_token(&hall.server, "lift"), view).await;
    assert_eq!(joined["resumed"], true);
    ws.ok("ping", json!({})).await;
    assert_eq!(ws.view.snapshots, before, "what was missed, not a snapshot");
    ws
}

async fn resumed_listener(hall: &Hall, view: View, last: String) -> Sse {
    let token = hall.shop.viewer_token(&hall.server, "tunnel");
    let call = hall.server.rest().get(&format!("/v1/rooms/{ROOM}/events")).token(&token);
    Sse::resume(call.header("last-event-id", &last), view).await
}

/// One state, the room's own; and the chat that each saw has its place in one order.
fn agree(views: &[&View], snapshot: &Value) {
    let mut chat: BTreeMap<u64, &Value> = BTreeMap::new();
    for (number, view) in views.iter().enumerate() {
        assert!(!view.missed, "viewer {number}");
        assert_eq!(view.state(), Value::Object(state_of(snapshot)), "viewer {number}");
        let numbers: Vec<u64> = view.events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "viewer {number}: {numbers:?}");
        for event in view.events.iter().filter(|event| event["type"] == "comment") {
            let seen = chat.entry(event["seq"].as_u64().expect("a number")).or_insert(event);
            assert_eq!(*seen, event, "viewer {number} saw what the others saw");
        }
    }
    assert!(!chat.is_empty(), "somebody said something");
}

#[tokio::test]
async fn last_event_id_resumes_a_stream_and_one_of_another_epoch_does_not() {
    let hall = Hall::open(Plan::default()).await;
    let mut sse = hall.listener("reader").await;
    let mut talker = hall.socket("talker").await;
    talker.ok("comment", json!({ "text": "before" })).await;
    sse.until("a comment", |view| view.has_comment("before")).await;
    hall.buy("reader", TAN, "k").await;
    sse.until("her messages", |view| view.private.len() == 2).await;
    sse.until("the count", |view| view.available(TAN) == Some(4)).await;
    for (id, message) in &sse.heard {
        let is_place = message.get("snapshot").is_some() || message["seq"].as_u64() > message["prev"].as_u64();
        assert_eq!(id.is_some(), is_place, "private and tally lines have no id: {message}");
    }
    let id = sse.last_id.clone().expect("an id");
    assert_eq!(id, format!("{}:{}", sse.view.epoch, sse.view.seq));
    let view = sse.view.clone();
    drop(sse);
    talker.ok("comment", json!({ "text": "meanwhile" })).await;

    let token = hall.shop.viewer_token(&hall.server, "reader");
    let stream = |last: &str| {
        hall.server.rest().get(&format!("/v1/rooms/{ROOM}/events")).token(&token).header("last-event-id", last)
    };
    let mut again = Sse::resume(stream(&id), view).await;
    again.until("what she missed", |view| view.has_comment("meanwhile")).await;
    assert_eq!(again.view.snapshots, 1, "no new snapshot was needed");

    for wrong in ["another-epoch:1", "nonsense", &format!("{}:999999", again.view.epoch)] {
        let mut sse = Sse::open(stream(wrong)).await;
        let first = within("the first message", DEADLINE, sse.next()).await.expect("a message");
        assert!(first.get("snapshot").is_some(), "{wrong}: {first}");
    }
}
