//! Who is counted, and what is liked.

use serde_json::{Value, json};

use super::{Hall, ROOM};
use crate::support::{
    server::Plan,
    sse::Sse,
    token::{claims, with},
    wait::{DEADLINE, wait_until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_counted_once_and_simulated_ones_are_shown_to_operators_only() {
    let hall = Hall::open(Plan::default()).await;
    let (phone, mut laptop) = (hall.socket("alice").await, hall.socket("alice").await);
    let stream = hall.listener("alice").await;
    let bob = hall.listener("bob").await;
    let _anchor = hall.anchor().await;
    let mut robots = Vec::new();
    for number in 0..3 {
        let token =
            hall.server.tokens.mint(&with(claims(ROOM, "viewer", &format!("sim-{number}")), json!({ "sim": true })));
        let mut ws = hall.server.ws(ROOM).await;
        ws.join(&token).await;
        assert_eq!(ws.refused("like", json!({ "count": 10 })).await, "rehearsal_only");
        robots.push(ws);
    }
    let robot_stream = with(claims(ROOM, "viewer", "sim-9"), json!({ "sim": true }));
    let call =
        hall.server.rest().get(&format!("/v1/rooms/{ROOM}/events")).token(&hall.server.tokens.mint(&robot_stream));
    let _robot_stream = Sse::open(call).await;

    laptop.until("the two of them", |view| view.viewers == 2).await;
    let row = ops_row(&hall).await;
    assert_eq!((&row["viewers"], &row["simulated"], &row["connections"]), (&json!(2), &json!(4), &json!(9)), "{row}");
    let rooms = hall.server.rest().get("/v1/rooms").send().await.ok();
    assert_eq!(rooms["rooms"][0]["viewers"], 2, "{rooms}");
    assert!(rooms["rooms"][0].get("simulated").is_none());
    assert_eq!(laptop.view.likes, 0, "what robots like is not told");

    phone.vanish();
    drop((stream, bob));
    laptop.until("bob to be gone", |view| view.viewers == 1).await;
    assert_eq!(ops_row(&hall).await["simulated"], 4);
    drop(robots);
    wait_until("the robots to be gone", DEADLINE, async || (ops_row(&hall).await["simulated"] == 1).then_some(()))
        .await;
    assert_eq!(hall.shop.snapshot(&hall.server).await["tally"]["viewers"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_are_summed_and_told_by_the_sum() {
    let hall = Hall::open(Plan::default().set("LIMITS__LIKES_PER_SECOND", "1000")).await;
    let mut viewer = hall.socket("viewer").await;
    let mut fans = Vec::new();
    for number in 0..5 {
        fans.push(hall.socket(&format!("fan-{number}")).await);
    }
    for _ in 0..20 {
        for fan in &mut fans {
            assert_eq!(fan.ok("like", json!({ "count": 3 })).await["counted"], 3);
        }
    }
    viewer.until("all of them", |view| view.likes == 300).await;
    let tallies: Vec<&Value> = viewer.heard.iter().filter(|said| said["tally"]["likes"].as_u64() > Some(0)).collect();
    assert!(tallies.len() <= 20, "{} tallies for a hundred likes", tallies.len());
    let sums = tallies.iter().map(|said| said["tally"]["likes"].as_u64().expect("a sum"));
    assert!(sums.is_sorted(), "a sum only rises");
    let mut late = hall.socket("late").await;
    late.until("the sum", |view| view.likes == 300).await;
}

async fn ops_row(hall: &Hall) -> Value {
    let ops = hall.server.rest().get("/v1/ops").token(&hall.server.tokens.admin()).send().await.ok();
    ops["rooms"][0].clone()
}
