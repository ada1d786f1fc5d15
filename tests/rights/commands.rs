//! Every command of the socket with everybody.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    ROOM, SKU, World,
    people::{
        EVERYBODY,
        Person::{self, *},
    },
};
use crate::support::{server::Plan, ws::Ws};

/// One line of the table. Those who are not named are refused with `refusal`; without one, everybody may.
pub struct Rule {
    pub command: &'static str,
    /// What those who may are answered: `None` is `ok`.
    done: Option<&'static str>,
    may: &'static [Person],
    refusal: Option<&'static str>,
}

const fn all(command: &'static str, done: Option<&'static str>) -> Rule {
    Rule { command, done, may: &[], refusal: None }
}

const fn some(command: &'static str, may: &'static [Person], refusal: &'static str) -> Rule {
    Rule { command, done: None, may, refusal: Some(refusal) }
}

const PINNERS: &[Person] = &[Anchor, Assistant, Pinner, Admin];
const MODERATORS: &[Person] = &[Anchor, Assistant, Moderator, Admin];
const BUYER_AND_SHOP: &[Person] = &[Viewer, Owner, Admin];
const BUYER: &[Person] = &[Viewer];

pub const RULES: &[Rule] = &[
    all("comment", None),
    all("like", None),
    all("hold", None),
    some("confirm", BUYER_AND_SHOP, "not_found"),
    some("cancel", BUYER, "not_found"),
    some("extend", BUYER, "not_found"),
    some("pin", PINNERS, "forbidden"),
    some("unpin", PINNERS, "forbidden"),
    some("moderate mute", MODERATORS, "forbidden"),
    some("moderate unmute", MODERATORS, "forbidden"),
    some("moderate kick", MODERATORS, "forbidden"),
    some("moderate delete_comment", MODERATORS, "forbidden"),
    some("moderate pin_comment", MODERATORS, "forbidden"),
    some("moderate slow_mode", MODERATORS, "forbidden"),
    // The offer is none: who may is told so, and everybody else that they may not.
    Rule { command: "publish", done: Some("bad_offer"), may: &[Anchor, Admin], refusal: Some("forbidden") },
    all("watch", Some("bad_offer")),
    some("candidate", &[Viewer, Admin], "not_found"),
    some("view", &[Viewer, Admin], "not_found"),
    some("leave", &[Viewer, Admin], "not_found"),
    // Without a session: the publisher's.
    some("quality", &[Anchor, Assistant, Admin], "forbidden"),
    all("ping", None),
    // Once is enough.
    all("join", Some("conflict")),
];

#[tokio::test]
async fn every_command_is_for_who_may_and_for_nobody_else() {
    let world = World::open(Plan::default()).await;
    let mut wrong = Vec::new();
    for person in EVERYBODY.iter().filter(|person| person.is_in_the_room()) {
        let mut ws = joined(&world, *person).await;
        for rule in RULES {
            let name = rule.command.split(' ').next().expect("a name");
            let answer = ws.command(name, fields(&world, rule.command).await).await;
            let found = answer["error"]["code"].as_str();
            let may = rule.refusal.is_none() || rule.may.contains(person);
            let expected = if may { rule.done } else { rule.refusal };
            if found != expected {
                wrong.push(format!("{} by {person:?}: {found:?}, not {expected:?}", rule.command));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn nobody_joins_without_a_good_token_for_the_room() {
    let world = World::open(Plan::default()).await;
    for person in EVERYBODY.iter().filter(|person| !person.is_in_the_room()) {
        let mut ws = world.server.ws(ROOM).await;
        let token = world.token(*person).unwrap_or_default();
        let expected = if person.is_known() { "forbidden" } else { "unauthorized" };
        assert_eq!(ws.refused("join", json!({ "token": token })).await, expected, "{person:?}");
        assert_eq!(ws.close_code().await, 3500, "{person:?}");
        assert!(ws.heard.iter().all(|said| said.get("snapshot").is_none()), "{person:?} saw nothing");
    }
}

#[tokio::test]
async fn a_session_goes_on_with_its_own_persons_new_token_only() {
    let world = World::open(Plan::default()).await;
    let mut ws = joined(&world, Viewer).await;
    let own = world.server.tokens.viewer(ROOM, "viewer");
    ws.send_text(&json!({ "auth": { "token": own } }).to_string()).await;
    ws.ok("ping", json!({})).await;
    for person in [Neighbour, Admin, Foreigner, Forger, Latecomer] {
        let mut ws = joined(&world, Viewer).await;
        let token = world.token(person).expect("a token");
        ws.send_text(&json!({ "auth": { "token": token } }).to_string()).await;
        assert_eq!(ws.close_code().await, 3500, "{person:?}");
    }
}

/// A command that is new has to say who may.
#[test]
fn the_table_has_every_command_of_the_protocol() {
    let source = include_str!("../../src/protocol/command.rs");
    let names = |from: &str, to: &str| {
        let part = source.split_once(from).and_then(|(_, rest)| rest.split_once(to)).expect("the decoder").0;
        let arms = part.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>"));
        arms.map(|(name, _)| name.to_owned()).collect::<BTreeSet<String>>()
    };
    let mut known = names("Ok(match name {", "_ => return");
    assert!(known.remove("auth") && known.remove("moderate"), "{known:?}");
    known.extend(names("match self.action.as_str() {", "_ => return").iter().map(|name| format!("moderate {name}")));
    let table: BTreeSet<String> = RULES.iter().map(|rule| rule.command.to_owned()).collect();
    assert_eq!(table, known);
}

async fn joined(world: &World, person: Person) -> Ws {
    let mut ws = world.server.ws(ROOM).await;
    ws.join(&world.token(person).expect("a token")).await;
    ws
}

/// What the command is about, new each time.
pub async fn fields(world: &World, command: &str) -> Value {
    // Nobody's public name: who may has something to act on, and no tester is silenced.
    let who = "AAAAAAAAAAAA";
    match command {
        "comment" => json!({ "text": "hello" }),
        "like" => json!({ "count": 1 }),
        "hold" => json!({ "sku": SKU, "quantity": 1, "key": world.fresh("key") }),
        "confirm" | "cancel" | "extend" => json!({ "hold": world.hold().await }),
        "pin" => json!({ "product": "lamp" }),
        "moderate mute" => json!({ "action": "mute", "who": who, "seconds": 1 }),
        "moderate unmute" => json!({ "action": "unmute", "who": who }),
        "moderate kick" => json!({ "action": "kick", "who": who }),
        "moderate delete_comment" => json!({ "action": "delete_comment", "comment": comment(world).await }),
        "moderate pin_comment" => json!({ "action": "pin_comment", "comment": comment(world).await }),
        "moderate slow_mode" => json!({ "action": "slow_mode", "seconds": 0 }),
        "publish" | "watch" => json!({ "sdp": "no offer" }),
        "candidate" => {
            json!({ "session": world.session("whep").await.0, "candidate": "candidate:1 1 udp 1 127.0.0.1 9 typ host" })
        }
        "leave" | "view" => json!({ "session": world.session("whep").await.0 }),
        "join" => json!({ "token": world.server.tokens.admin() }),
        _ => json!({}),
    }
}

async fn comment(world: &World) -> Value {
    let mut ws = joined(world, Neighbour).await;
    ws.ok("comment", json!({ "text": "delete me" })).await["event"]["seq"].clone()
}
