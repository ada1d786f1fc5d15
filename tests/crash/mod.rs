//! `kill -9` in the middle of a sale: what was acknowledged is there, once, and nobody saw what is not on the tape.

mod buyer;
mod clerk;
mod witness;

use std::{
    collections::BTreeMap,
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    chain::Chain,
    cli::maishou,
    server::{Plan, Server},
    shop::Shop,
    tape::Tape,
    wait::wait_until,
    ws::Ws,
};
use buyer::Buyer;
use clerk::Clerk;
use witness::Witness;

const ROOM: &str = "storm";
const PLENTY: &str = "plenty";
const SCARCE: &str = "scarce";
/// Of this one a person may have only so many.
const RARE: &str = "rare";
const RARE_LIMIT: u64 = 3;
/// SKUs and their opening stock: one that lasts, one that sells out in the first rounds, one with a limit.
const SKUS: [(&str, u64); 3] = [(PLENTY, 1_000_000), (SCARCE, 60), (RARE, 1_000)];
const BUYERS: usize = 4;
const TALKERS: usize = 3;
const WITNESSES: usize = 3;
/// Acknowledged acts of a round before the plug is pulled.
const ACTS: std::ops::Range<usize> = 20..160;
/// Each so many rounds the server is killed again while it takes up its ledger.
const AGAIN_EVERY: usize = 4;
/// Each so many rounds all that was ever acknowledged is looked at, not only what is new.
const ALL_EVERY: usize = 10;
const ROUND_DEADLINE: Duration = Duration::from_secs(60);

/// Acts that the server has acknowledged in this round.
#[derive(Clone, Default)]
struct Acknowledged(Arc<AtomicUsize>);

impl Acknowledged {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    async fn reach(&self, wanted: usize) {
        wait_until("the storm to rage", ROUND_DEADLINE, async || {
            (self.0.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }
}

/// A comment that its author was told the number of.
struct Said {
    seq: u64,
    text: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_survives_kill_9_once_and_no_viewer_saw_what_is_not_on_the_tape() {
    let rounds: usize = env::var("MAISHOU_TEST_CRASHES").map_or(30, |count| count.parse().expect("a number of rounds"));
    let mut server = plan().start().await;
    let shop = open(&server).await;
    let mut buyers: Vec<Buyer> = (0..BUYERS).map(|number| Buyer::new(&server, &shop, number)).collect();
    let mut clerk = Clerk::new(&server, &shop);
    let mut said: Vec<Said> = Vec::new();

    for round in 0..rounds {
        let witnesses = storm(&mut server, &shop, round, &mut buyers, &mut clerk, &mut said).await;
        let tape = Tape::read(&server, ROOM);
        said.iter().for_each(|comment| is_taped(&tape, comment));
        witnesses.iter().for_each(|witness| witness.agrees_with(&tape));

        if round % AGAIN_EVERY == 1 {
            server.kill_while_starting("ledger.db").await;
        }
        server.restart().await;
        let chains = chains(&server).await;
        witnesses.iter().for_each(|witness| witness.was_told_true_counts(&chains));
        let all = round % ALL_EVERY == ALL_EVERY - 1 || round + 1 == rounds;
        join_all(buyers.iter_mut().map(|buyer| buyer.finds_everything_again(&server, all))).await;
        clerk.finds_everything_again(&server, all).await;
        adds_up(&server, &shop, &buyers, &clerk).await;
        reconciles(&server).await;
    }
    assert!(said.len() >= rounds && clerk.refunds() >= rounds, "people talked, the clerk worked");
    let (orders, cancelled) = buyers.iter().map(Buyer::outcomes).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert!(orders >= rounds && cancelled >= rounds, "{orders} orders, {cancelled} cancelled");
}

fn plan() -> Plan {
    let plan = Plan::default().set("LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#).set("ROOM__CHAT_PER_SECOND", "40");
    let plan = ["COMMANDS", "COMMENTS", "HOLDS"]
        .iter()
        .fold(plan, |plan, what| plan.set(&format!("LIMITS__{what}_PER_SECOND"), "10000"));
    plan.set("ORDER__HOLDS_OPEN_PER_PERSON_MAX", "1000000").set("ORDER__HOLD_SECONDS", "36000")
}

async fn open(server: &Server) -> Shop {
    let shop = Shop::open(server, ROOM).await;
    let admin = server.tokens.admin();
    let skus: Vec<Value> = SKUS.iter().map(|(id, stock)| json!({ "id": id, "title": id, "stock": stock })).collect();
    let price = json!({ "amount": 5, "currency": "CNY" });
    let product = json!({ "title": "Umbrella 雨伞", "price": price, "skus": skus[..2] });
    server.rest().put("/v1/products/umbrella").token(&admin).json(&product).send().await.ok();
    let limited = json!({ "title": "Fan 折扇", "price": price, "skus": skus[2..], "limit_per_user": RARE_LIMIT });
    server.rest().put("/v1/products/fan").token(&admin).json(&limited).send().await.ok();
    let shelf = json!({ "products": ["umbrella", "fan", "scarf"] });
    server.rest().put(&format!("/v1/rooms/{ROOM}/shelf")).token(&admin).json(&shelf).send().await.ok();
    shop.start_show(server).await;
    shop
}

/// Everybody at once, until the process is killed under them.
async fn storm(
    server: &mut Server,
    shop: &Shop,
    round: usize,
    buyers: &mut Vec<Buyer>,
    clerk: &mut Clerk,
    said: &mut Vec<Said>,
) -> Vec<Witness> {
    let acknowledged = Acknowledged::default();
    let mut witnessing = JoinSet::new();
    for number in 0..WITNESSES {
        let witness = Witness::join(server, shop, number).await;
        witnessing.spawn(witness.follow());
    }
    let mut hosting = JoinSet::new();
    hosting.spawn(host(joined(server, &shop.anchor_token(server)).await, acknowledged.clone()));
    let mut buying = JoinSet::new();
    for buyer in buyers.drain(..) {
        let socket = joined(server, &buyer.token).await;
        buying.spawn(buyer.shop(server.rest(), socket, round, acknowledged.clone()));
    }
    let clerks_work =
        std::mem::replace(clerk, Clerk::new(server, shop)).work(server.rest(), round, acknowledged.clone());
    let mut working = JoinSet::new();
    working.spawn(clerks_work);
    let mut talking = JoinSet::new();
    for number in 0..TALKERS {
        let socket = joined(server, &shop.viewer_token(server, &format!("talker-{number}"))).await;
        talking.spawn(talk(socket, format!("{round}-{number}"), acknowledged.clone()));
    }

    acknowledged.reach(rand::random_range(ACTS)).await;
    server.kill().await;

    hosting.join_all().await;
    buyers.extend(buying.join_all().await);
    *clerk = working.join_all().await.remove(0);
    said.extend(talking.join_all().await.into_iter().flatten());
    witnessing.join_all().await
}

async fn joined(server: &Server, token: &str) -> Ws {
    let mut ws = server.ws(ROOM).await;
    ws.join(token).await;
    ws
}

/// The anchor pins, unpins, slows and mutes, one after another.
async fn host(mut ws: Ws, acknowledged: Acknowledged) {
    let acts = [
        ("pin", json!({ "product": "umbrella", "explain_seconds": 30 })),
        ("moderate", json!({ "action": "mute", "who": "AAAAAAAAAAAA", "seconds": 60 })),
        ("pin", json!({ "product": "scarf" })),
        ("moderate", json!({ "action": "slow_mode", "seconds": 0 })),
        ("unpin", json!({})),
        ("moderate", json!({ "action": "unmute", "who": "AAAAAAAAAAAA" })),
    ];
    for (name, fields) in acts.into_iter().cycle() {
        match ws.attempt(name, fields).await {
            Some(answer) => assert!(answer.get("ok").is_some(), "{name}: {answer}"),
            None => return,
        }
        acknowledged.count();
    }
}

async fn talk(mut ws: Ws, name: String, acknowledged: Acknowledged) -> Vec<Said> {
    let mut said = Vec::new();
    for number in 0.. {
        let text = format!("comment {name}-{number}");
        let Some(answer) = ws.attempt("comment", json!({ "text": text })).await else { break };
        let event = &answer["ok"]["event"];
        assert_eq!(event["text"], text, "{answer}");
        said.push(Said { seq: event["seq"].as_u64().expect("a number"), text });
        acknowledged.count();
    }
    said
}

fn is_taped(tape: &Tape, said: &Said) {
    let taped = tape.comments();
    assert_eq!(taped.get(&said.seq), Some(&said.text), "comment {} was acknowledged", said.seq);
}

/// Every counter in the file comes to what its entries, holds and steps come to.
async fn reconciles(server: &Server) {
    let config = server.data("server.toml");
    let said = maishou(&["reconcile", "--config", config.to_str().expect("a readable path")], &[]).await;
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
}

/// Every chain, checked.
async fn chains(server: &Server) -> BTreeMap<&'static str, Chain> {
    let mut chains = BTreeMap::new();
    for (sku, _) in SKUS {
        chains.insert(sku, Chain::read(server, sku).await);
    }
    chains
}

/// Stock, orders and chain say the same, and nothing is sold twice.
async fn adds_up(server: &Server, shop: &Shop, buyers: &[Buyer], clerk: &Clerk) {
    for (sku, chain) in chains(server).await {
        let opening = SKUS.iter().find(|(name, _)| *name == sku).expect("a SKU").1;
        let adjusted = if sku == PLENTY { clerk.adjusted() } else { 0 };
        let stock = opening.checked_add_signed(adjusted).expect("small");
        assert_eq!(chain.stock, i64::try_from(stock).expect("small"), "{sku}");
        let pieces = |state: &str| buyers.iter().map(|buyer| buyer.pieces(sku, state)).sum::<u64>();
        let (held, sold) = (pieces("held"), pieces("confirmed"));
        assert_eq!(chain.counts(), [stock - held - sold, held, sold], "{sku}");
        shop.stock_settles(server, sku, chain.counts()).await;
    }
    let rare = |buyer: &Buyer| buyer.pieces(RARE, "held") + buyer.pieces(RARE, "confirmed");
    assert!(buyers.iter().all(|buyer| rare(buyer) <= RARE_LIMIT), "nobody passed the limit");
}
