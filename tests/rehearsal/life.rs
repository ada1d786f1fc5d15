//! How a rehearsal begins, lasts and ends.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::json;

use super::{ROOM, World};
use crate::support::{
    server::{Plan, Server},
    shop::{CORAL, TAN},
    wait::{DEADLINE, wait_until},
};

/// Every file and folder of a rehearsal.
fn files(server: &Server) -> Vec<PathBuf> {
    let folders = [server.data("store"), server.data("tape")];
    let all = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder").filter_map(Result::ok));
    all.map(|file| file.path()).filter(|path| path.to_string_lossy().contains("rehearsal.")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_lives_on_over_a_crash_of_the_server() {
    let mut world = World::open(Plan::default()).await;
    let robot = world.simulated("robot");
    let hold = world.hold(&robot, TAN, "key").await.ok()["hold"]["id"].clone();
    let mut ws = world.server.ws(&world.id).await;
    ws.join(&robot).await;
    let said = ws.ok("comment", json!({ "text": "still there?" })).await;
    assert_eq!(files(&world.server).len(), 2, "a store and a tape");

    world.server.kill().await;
    world.server.restart().await;
    let again = world.hold(&robot, TAN, "key").await;
    assert_eq!((again.status, again.ok()["hold"]["id"].clone()), (200, hold));
    let snapshot = world.snapshot().await;
    assert_eq!((&snapshot["rehearsal_of"], &snapshot["stock"][TAN]["held"]), (&json!(ROOM), &json!(1)));
    assert_eq!(snapshot["comments"][0]["text"], said["event"]["text"]);
    assert_eq!(snapshot["ends_at"], world.made["ends_at"]);
    let lobby = world.server.rest().get("/v1/rooms").send().await.ok();
    assert_eq!(lobby["rooms"].as_array().map(Vec::len), Some(1));
    assert_eq!(world.shop.snapshot(&world.server).await["stock"][TAN]["held"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_rehearsal_leaves_nothing_and_its_tokens_open_nothing() {
    let mut world = World::open(Plan::default()).await;
    let robot = world.simulated("robot");
    let mut ws = world.server.ws(&world.id).await;
    ws.join(&robot).await;
    let keeper = world.server.tokens.mint(&crate::support::token::with(
        crate::support::token::claims(&world.id, "merchant", "keeper"),
        json!({ "merchant": "main" }),
    ));

    for stranger in [robot.clone(), world.server.tokens.viewer(ROOM, "viewer"), world.server.tokens.merchant("main")] {
        assert_eq!(world.end(&stranger).await.status, 403);
    }
    world.end(&world.shop.anchor_token(&world.server)).await.ok();
    assert_eq!(ws.close_code().await, 3500, "who was there is sent away for good");
    assert_eq!(files(&world.server), Vec::<PathBuf>::new());

    let real = world.entries(ROOM, CORAL).await;
    assert_eq!(world.hold(&robot, CORAL, "k").await.status, 404);
    let body = json!({ "delta": 5, "reason": "found" });
    let stock = world.server.rest().post(&format!("/v1/skus/{CORAL}/stock")).token(&keeper).key("k").json(&body);
    assert_eq!(stock.send().await.status, 404, "her token means nothing real");
    assert_eq!(world.entries(ROOM, CORAL).await, real);
    assert_eq!(world.server.rest().get(&format!("/v1/rooms/{}", world.id)).send().await.status, 404);

    world.server.stop().await;
    world.server.restart().await;
    assert_eq!(world.server.rest().get(&format!("/v1/rooms/{}", world.id)).send().await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_made_it_goes_into_it_with_the_token_of_the_answer() {
    let world = World::open(Plan::default()).await;
    let token = world.made["token"].as_str().expect("a token");
    let path = format!("/v1/rooms/{}/show", world.id);
    world.server.rest().post(&path).token(token).json(&json!({ "action": "start" })).send().await.ok();
    let real = format!("/v1/rooms/{ROOM}/show");
    let refused = world.server.rest().post(&real).token(token).json(&json!({ "action": "start" })).send().await;
    assert_eq!(refused.status, 403);
    assert_eq!(world.snapshot().await["show"]["running"], true);
    assert_eq!(world.shop.snapshot(&world.server).await["show"]["running"], false);
    world.end(token).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_that_was_cut_short_or_is_too_old_is_gone() {
    let mut world = World::open(Plan::default()).await;
    world.server.stop().await;
    let half = world.server.data("store").join("rehearsal.half");
    fs::create_dir(&half).expect("a folder");
    fs::write(half.join("ledger.db"), "not yet").expect("a file");
    fs::create_dir(world.server.data("tape").join("rehearsal.half")).expect("a folder");
    let catalogue = world.server.data("store").join(&world.id).join("catalogue.db");
    let file = rusqlite::Connection::open(catalogue).expect("its catalogue");
    let old = "UPDATE room SET facts = json_set(facts, '$.created_at', 1000)";
    assert_eq!(file.execute(old, []).expect("an update"), 1);
    drop(file);

    world.server.restart().await;
    wait_until("nothing to be left of them", DEADLINE, async || files(&world.server).is_empty().then_some(())).await;
    assert_eq!(world.server.rest().get(&format!("/v1/rooms/{}", world.id)).send().await.status, 404);
    assert_eq!(world.shop.snapshot(&world.server).await["room"], ROOM);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_rehearsals_holds_run_out_sooner() {
    let world = World::open_with(Plan::default(), json!({ "speed": 100 })).await;
    let robot = world.simulated("robot");
    let began = std::time::Instant::now();
    world.hold(&robot, TAN, "key").await.ok();
    let what = "five minutes of the rehearsal to be over";
    wait_until(what, DEADLINE, async || (world.snapshot().await["stock"][TAN]["available"] == 5).then_some(())).await;
    assert!(began.elapsed() > Duration::from_millis(2_900), "not before its time: {:?}", began.elapsed());
    let entries = world.entries(&world.id, TAN).await;
    assert_eq!(entries, 3, "opened, held, expired");
}
