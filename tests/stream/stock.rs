//! Counts: seldom enough for everybody, and the last one true.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Hall;
use crate::support::{
    chain::Chain,
    server::Plan,
    shop::{CORAL, Shop},
};

const BURST: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_of_a_sku_come_at_most_each_100_ms_and_the_last_is_the_ledgers() {
    let hall = Hall::open(Plan::default()).await;
    let mut viewer = hall.socket("viewer").await;
    let before = viewer.view.events.len();
    let mut buyers = JoinSet::new();
    for number in 0..4 {
        let (rest, token) = (hall.server.rest(), hall.shop.viewer_token(&hall.server, &format!("buyer-{number}")));
        buyers.spawn(async move {
            for count in 0..BURST / 4 {
                let body = json!({ "sku": CORAL, "quantity": 1 });
                let held = rest.post("/v1/holds").token(&token).key(&format!("k{count}")).json(&body).send().await.ok();
                let path = format!("/v1/holds/{}/cancel", held["hold"]["id"].as_str().expect("a hold"));
                rest.post(&path).token(&token).send().await.ok();
            }
        });
    }
    buyers.join_all().await;
    let chain = Chain::read(&hall.server, CORAL).await;
    assert_eq!(chain.entries.len(), 2 * BURST + 1);
    viewer.until("the last count", |view| view.part("stock")[CORAL]["entry"] == chain.entries.len()).await;

    let counts: Vec<&Value> = viewer.view.events[before..].iter().filter(|event| event["sku"] == CORAL).collect();
    let (first, last) = (counts[0], *counts.last().expect("counts"));
    let took = last["at"].as_i64().expect("a time") - first["at"].as_i64().expect("a time");
    let most = usize::try_from(took / 100 + 2).expect("few");
    assert!(counts.len() <= most, "{} counts in {took} ms", counts.len());
    assert_eq!(["available", "held", "sold"].map(|name| last[name].as_u64().expect("a count")), chain.counts());
    for count in counts {
        let entry = usize::try_from(count["entry"].as_u64().expect("an entry")).expect("few");
        assert_eq!(count["hash"], chain.entries[entry - 1]["hash"], "a count names its place in the public chain");
    }
}

#[tokio::test]
async fn every_adjustment_is_told_with_its_reason() {
    let hall = Hall::open(Plan::default()).await;
    let mut viewer = hall.socket("viewer").await;
    let admin = hall.server.tokens.admin();
    for number in 0..5 {
        let body = json!({ "delta": 1, "reason": format!("box {number}") });
        let path = format!("/v1/skus/{CORAL}/stock");
        hall.server.rest().post(&path).token(&admin).key(&format!("k{number}")).json(&body).send().await.ok();
    }
    let is_told = |event: &&Value| event["type"] == "stock.adjusted";
    viewer.until("all of them", |view| view.events.iter().filter(is_told).count() == 5).await;
    let told: Vec<&Value> = viewer.view.events.iter().filter(is_told).collect();
    for (number, event) in told.iter().enumerate() {
        assert_eq!((&event["delta"], &event["reason"]), (&json!(1), &json!(format!("box {number}"))), "{event}");
    }
    viewer.until("the count", |view| view.available(CORAL) == Some(25)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_rooms_with_the_same_goods_are_both_told_the_truth() {
    let hall = Hall::open(Plan::default()).await;
    let annex = Shop::open(&hall.server, "annex").await;
    annex.start_show(&hall.server).await;
    let mut in_annex = hall.server.ws("annex").await;
    in_annex.join(&annex.viewer_token(&hall.server, "there")).await;
    let mut viewers = [hall.socket("here").await, in_annex];
    let admin = hall.server.tokens.admin();

    for number in 0..BURST / 2 {
        hall.buy(&format!("buyer-{number}"), CORAL, "k").await;
        let (body, path) = (json!({ "delta": 2, "reason": "more" }), format!("/v1/skus/{CORAL}/stock"));
        let call = hall.server.rest().post(&path).token(&admin).key(&format!("more-{number}"));
        call.json(&body).send().await.ok();
    }

    let chain = Chain::read(&hall.server, CORAL).await;
    for viewer in &mut viewers {
        viewer.until("the last count", |view| view.part("stock")[CORAL]["entry"] == chain.entries.len()).await;
        let is_count = |event: &&Value| event["type"] == "stock" && event["sku"] == CORAL;
        let counts: Vec<&Value> = viewer.view.events.iter().filter(is_count).collect();
        assert!(counts.len() > 1, "there was something to see");
        for count in &counts {
            let n = count["entry"].as_u64().expect("an entry");
            let shown = ["available", "held", "sold"].map(|name| count[name].as_u64().expect("a count"));
            assert_eq!(
                (shown, &count["hash"]),
                (chain.counts_at(n), &chain.entries[n as usize - 1]["hash"]),
                "{count}"
            );
        }
        let at = |count: &Value| count["at"].as_i64().expect("a time");
        let took = usize::try_from(at(counts[counts.len() - 1]) - at(counts[0])).expect("time goes on");
        assert!(counts.len() <= took / 100 + 2, "{} counts in {took} ms", counts.len());
        let told = viewer.view.events.iter().filter(|event| event["type"] == "stock.adjusted").count();
        assert_eq!(told, BURST / 2, "each adjustment is told in each room");
    }
}
