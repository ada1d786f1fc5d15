//! A disk that fills up during a show.

mod small_disk;

use std::os::unix::process::ExitStatusExt;

use serde_json::{Value, json};

use crate::support::{
    rest::Answer,
    server::{Plan, Server},
    shop::{CORAL, SCARF, Shop, TAN},
    wait::{DEADLINE, wait_until},
};
use small_disk::SmallDisk;

const DISK_MIB: u64 = 96;
const RESERVE_MIB: u64 = 32;
/// More than any disk has: with this reserve every disk is nearly full.
const ENDLESS_MIB: &str = "1000000000000";

/// Where the free space goes, and comes back from.
enum Space {
    /// A disk of its own, and a file that fills it.
    Disk(SmallDisk),
    /// Where no disk may be mounted, a reserve that none can have, told at a restart.
    Reserve,
}

impl Space {
    fn new() -> Self {
        match SmallDisk::mount(DISK_MIB) {
            Ok(disk) => Self::Disk(disk),
            Err(why) => {
                eprintln!("no disk can be mounted here ({why}): the reserve is raised instead");
                Self::Reserve
            }
        }
    }

    fn plan(&self) -> Plan {
        let plan = Plan::default().set("LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#);
        match self {
            Self::Disk(disk) => disk.plan(plan).set("ORDER__RESERVE_MB", &RESERVE_MIB.to_string()),
            Self::Reserve => plan,
        }
    }

    async fn runs_out(&self, server: &mut Server) {
        match self {
            Self::Disk(disk) => disk.fill_up_to(RESERVE_MIB / 2 * 1024),
            Self::Reserve => Self::restart_with(server, ENDLESS_MIB).await,
        }
        until_ready_is(server, 503).await;
    }

    async fn is_back(&self, server: &mut Server) {
        match self {
            Self::Disk(disk) => disk.make_room(),
            Self::Reserve => Self::restart_with(server, "1").await,
        }
        until_ready_is(server, 200).await;
    }

    async fn restart_with(server: &mut Server, reserve_mib: &str) {
        server.stop().await;
        server.set("ORDER__RESERVE_MB", reserve_mib);
        server.restart().await;
    }
}

async fn until_ready_is(server: &Server, status: u16) {
    wait_until("the server to see how much room there is", DEADLINE, async || {
        (server.rest().get("/readyz").send().await.status == status).then_some(())
    })
    .await;
}

async fn hold(server: &Server, token: &str, key: &str) -> Option<Answer> {
    let body = json!({ "sku": CORAL, "quantity": 1 });
    server.rest().post("/v1/holds").token(token).key(key).json(&body).attempt().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_disk_nearly_full_holds_are_busy_and_the_show_goes_on() {
    let space = Space::new();
    let mut server = space.plan().start().await;
    let shop = Shop::open(&server, "tight").await;
    shop.start_show(&server).await;
    let ann = shop.viewer_token(&server, "ann");
    let mut held = Vec::new();
    for key in ["one", "two"] {
        held.push(
            hold(&server, &ann, key).await.expect("an answer").ok()["hold"]["id"].as_str().expect("id").to_owned(),
        );
    }

    space.runs_out(&mut server).await;
    let ready = server.rest().get("/readyz").send().await.json();
    assert_eq!((&ready["ready"], &ready["reasons"]), (&json!(false), &json!(["disk_nearly_full"])), "{ready}");
    let refused = hold(&server, &ann, "three").await.expect("an answer");
    assert_eq!((refused.status, refused.problem().as_str()), (503, "busy"));
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|s| s > 0)));
    assert_eq!(hold(&server, &ann, "one").await.expect("an answer").status, 200, "who has hers is answered");

    let mut viewer = server.ws(&shop.room).await;
    viewer.join(&ann).await;
    let mut talker = server.ws(&shop.room).await;
    talker.join(&shop.viewer_token(&server, "bob")).await;
    talker.ok("comment", json!({ "text": "still here" })).await;
    shop.pin(&server, SCARF).await;
    let is_told = |events: &[Value], kind: &str| events.iter().any(|event| event["type"] == kind);
    viewer
        .until("comment and pin", |view| is_told(&view.events, "comment") && is_told(&view.events, "card.pinned"))
        .await;

    let rest = server.rest();
    rest.post(&format!("/v1/holds/{}/confirm", held[0])).token(&ann).send().await.ok();
    rest.post(&format!("/v1/holds/{}/cancel", held[1])).token(&ann).send().await.ok();
    shop.stock_settles(&server, CORAL, [19, 0, 1]).await;

    space.is_back(&mut server).await;
    assert_eq!(hold(&server, &ann, "three").await.expect("an answer").status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_the_process_and_takes_no_answer_back() {
    let disk = match SmallDisk::mount(DISK_MIB) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("SKIPPED: a full disk cannot be tried, no disk can be mounted here: {why}"),
    };
    let plan = Plan::default().set("LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#).set("LIMITS__HOLDS_PER_SECOND", "100000");
    let mut server = disk.plan(plan).set("ORDER__RESERVE_MB", "0").start().await;
    let shop = Shop::open(&server, "full").await;
    let admin = server.tokens.admin();
    let more = json!({ "delta": 1_000_000, "reason": "a big delivery" });
    server.rest().post(&format!("/v1/skus/{TAN}/stock")).token(&admin).key("more").json(&more).send().await.ok();

    disk.fill_up_to(128);
    let mut answered = Vec::new();
    for number in 0.. {
        let token = shop.viewer_token(&server, &format!("buyer-{number}"));
        let body = json!({ "sku": TAN, "quantity": 1 });
        let call = server.rest().post("/v1/holds").token(&token).key("k").json(&body);
        let Some(answer) = call.attempt().await.filter(|answer| answer.status == 201) else { break };
        answered.push((token, body, answer.json()["hold"]["id"].clone()));
        assert!(number < 10_000, "the disk does not get full");
    }
    let ended = server.ended().await;
    assert_eq!(ended.signal(), Some(libc::SIGABRT), "a failed commit ends the process: {ended}");
    assert!(server.log().contains("the ledger cannot go on"), "the log says why");

    disk.make_room();
    server.restart().await;
    assert!(!answered.is_empty(), "something was acknowledged before");
    for (token, body, id) in &answered {
        let again = server.rest().post("/v1/holds").token(token).key("k").json(body).send().await;
        assert_eq!((again.status, &again.json()["hold"]["id"]), (200, id), "what was acknowledged is there");
    }
    let counted = server.rest().get(&format!("/v1/skus/{TAN}/ledger?limit=1")).send().await.ok();
    assert!(counted["head"]["n"].as_u64() >= Some(answered.len() as u64 + 2), "{counted}");
}
