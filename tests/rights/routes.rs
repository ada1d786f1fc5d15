//! Every route of the reference with everybody.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::json;

use super::{
    OTHER_ROOM, ROOM, SKU, World, lamp,
    people::{
        EVERYBODY,
        Person::{self, *},
    },
};
use crate::support::{rest::Call, server::Plan};

/// What somebody gets who is not named in a rule.
#[derive(Clone, Copy)]
pub enum Others {
    /// The token is for the room or not, it does not matter: 403.
    Forbidden,
    /// The thing is not theirs to know of.
    NotFound,
    /// Everybody with a good token may.
    Welcome,
    /// Everybody with a good token for this room may; 403 for the rest.
    WelcomeInTheRoom,
    /// Nobody needs a token.
    Public,
    /// As `Public`, but a wrong token is refused all the same.
    PublicUnlessWrong,
}

/// One line of the table.
pub struct Rule {
    /// As the reference names it.
    pub operation: &'static str,
    /// The status of those who may.
    done: u16,
    may: &'static [Person],
    others: Others,
    /// Who gets something else again.
    except: &'static [(Person, u16)],
}

const HOSTS: &[Person] = &[Anchor, Assistant, Admin];
const HOSTS_WHO_PIN: &[Person] = &[Anchor, Assistant, Pinner, Admin];
const HOSTS_WHO_SHELVE: &[Person] = &[Anchor, Assistant, Shelver, Admin];
const KEEPERS: &[Person] = &[Owner, Admin];
const BUYER_AND_SHOP: &[Person] = &[Viewer, Owner, Admin];
const BUYER: &[Person] = &[Viewer];

const fn rule(operation: &'static str, done: u16, may: &'static [Person], others: Others) -> Rule {
    Rule { operation, done, may, others, except: &[] }
}

const fn open(operation: &'static str, done: u16) -> Rule {
    rule(operation, done, &[], Others::Public)
}

pub const RULES: &[Rule] = &[
    open("get /healthz", 200),
    open("get /readyz", 200),
    open("get /openapi.json", 200),
    rule("get /metrics", 200, &[Admin], Others::Forbidden),
    rule("get /v1/ops", 200, &[Admin], Others::Forbidden),
    rule("post /v1/rooms", 201, &[Owner, OtherMerchant, Admin], Others::Forbidden),
    open("get /v1/rooms", 200),
    open("get /v1/rooms/{room}", 200),
    // A real room stays, whoever asks.
    rule("delete /v1/rooms/{room}", 409, &[Admin], Others::Forbidden),
    rule("post /v1/rooms/{room}/show", 200, HOSTS, Others::Forbidden),
    rule("put /v1/rooms/{room}/shelf", 200, HOSTS_WHO_SHELVE, Others::Forbidden),
    rule("post /v1/rooms/{room}/pin", 200, HOSTS_WHO_PIN, Others::Forbidden),
    rule("delete /v1/rooms/{room}/pin", 200, HOSTS_WHO_PIN, Others::Forbidden),
    // The upgrade asks for no token: a join does.
    open("get /v1/rooms/{room}/ws", 400),
    rule("get /v1/rooms/{room}/events", 200, &[], Others::WelcomeInTheRoom),
    Rule {
        operation: "put /v1/products/{product}",
        done: 200,
        may: KEEPERS,
        others: Others::Forbidden,
        except: &[(OtherMerchant, 404)],
    },
    open("get /v1/products/{product}", 200),
    Rule {
        operation: "post /v1/skus/{sku}/stock",
        done: 200,
        may: &[Owner, Admin, Assistant, Counter],
        others: Others::Forbidden,
        except: &[(OtherMerchant, 404)],
    },
    rule("get /v1/skus/{sku}/ledger", 200, &[], Others::PublicUnlessWrong),
    rule("post /v1/holds", 201, &[], Others::Welcome),
    rule("get /v1/holds/{hold}", 200, BUYER, Others::NotFound),
    rule("post /v1/holds/{hold}/confirm", 200, BUYER_AND_SHOP, Others::NotFound),
    rule("post /v1/holds/{hold}/cancel", 200, BUYER, Others::NotFound),
    rule("post /v1/holds/{hold}/extend", 200, BUYER, Others::NotFound),
    rule("get /v1/orders", 200, &[], Others::Welcome),
    rule("get /v1/orders/{order}", 200, BUYER_AND_SHOP, Others::NotFound),
    Rule {
        operation: "post /v1/orders/{order}/refund",
        done: 200,
        may: KEEPERS,
        others: Others::Forbidden,
        except: &[(OtherMerchant, 404)],
    },
    open("get /v1/keys", 200),
    rule("get /v1/me/messages", 200, &[], Others::Welcome),
    // The offer is none: who may is told so, and everybody else that they may not.
    rule("post /whip/{room}", 400, &[Anchor, Admin], Others::Forbidden),
    open("get /whip/{room}", 204),
    open("options /whip/{room}", 200),
    rule("delete /whip/{room}/{session}", 200, &[Anchor, Admin], Others::NotFound),
    rule("patch /whip/{room}/{session}", 204, &[Anchor, Admin], Others::NotFound),
    open("get /whip/{room}/{session}", 204),
    open("options /whip/{room}/{session}", 200),
    rule("post /whep/{room}", 400, &[], Others::WelcomeInTheRoom),
    open("get /whep/{room}", 204),
    open("options /whep/{room}", 200),
    rule("delete /whep/{room}/{session}", 200, &[Viewer, Admin], Others::NotFound),
    rule("patch /whep/{room}/{session}", 204, &[Viewer, Admin], Others::NotFound),
    open("get /whep/{room}/{session}", 204),
    open("options /whep/{room}/{session}", 200),
    // Only a demo gives tokens away.
    open("post /v1/dev/token", 404),
];

impl Rule {
    fn expected(&self, person: Person) -> u16 {
        if let Some((_, status)) = self.except.iter().find(|(who, _)| *who == person) {
            return *status;
        }
        if self.may.contains(&person) {
            return self.done;
        }
        let elsewhere = !person.is_in_the_room();
        match self.others {
            Others::Public => self.done,
            Others::PublicUnlessWrong if person == Nobody => self.done,
            _ if !person.is_known() => 401,
            Others::Forbidden => 403,
            Others::NotFound => 404,
            Others::WelcomeInTheRoom if elsewhere => 403,
            Others::Welcome | Others::WelcomeInTheRoom | Others::PublicUnlessWrong => self.done,
        }
    }
}

#[tokio::test]
async fn every_route_lets_in_who_may_and_nobody_else() {
    let world = World::open(Plan::default()).await;
    let mut wrong = Vec::new();
    let mut asked = 0;
    for rule in RULES {
        for person in EVERYBODY {
            let call = call(&world, rule.operation).await;
            let call = match world.token(*person) {
                Some(token) => call.token(&token),
                None => call,
            };
            let (found, expected) = (call.status().await, rule.expected(*person));
            asked += 1;
            if found != expected {
                wrong.push(format!("{} by {person:?}: {found}, not {expected}", rule.operation));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn the_table_has_every_route_of_the_reference_and_no_other() {
    let world = World::open(Plan::default()).await;
    let reference = world.rest().get("/openapi.json").send().await.ok();
    let paths = reference["paths"].as_object().expect("a reference has paths");
    let operations = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().expect("a path has methods").keys().map(move |method| format!("{method} {path}"))
    });
    let (reference, table): (BTreeSet<String>, BTreeSet<String>) =
        (operations.collect(), RULES.iter().map(|rule| rule.operation.to_owned()).collect());
    assert_eq!(table, reference);
    assert_eq!(RULES.len(), table.len(), "each once");
}

/// The operation, on things that are there, with a body that nobody could take offence at.
pub async fn call(world: &World, operation: &str) -> Call {
    call_in(world, operation, ROOM, "").await
}

/// The same, with this room in the path and this at its end.
pub async fn call_in(world: &World, operation: &str, room: &str, end: &str) -> Call {
    let (method, path) = operation.split_once(' ').expect("a method and a path");
    let mut path = path.replace("{room}", room).replace("{product}", "lamp").replace("{sku}", SKU);
    if path.contains("{hold}") {
        path = path.replace("{hold}", &world.hold().await);
    }
    if path.contains("{order}") {
        path = path.replace("{order}", &world.order().await);
    }
    let mut etag = String::new();
    if path.contains("{session}") {
        let (session, tag) = world.session(&path[1..5]).await;
        path = path.replace("{session}", &session);
        etag = tag;
    }
    path.push_str(end);
    let method: Method = method.to_uppercase().parse().expect("a method");
    let call = world.rest().call(method, &path);
    body(world, operation, call, &etag)
}

fn body(world: &World, operation: &str, call: Call, etag: &str) -> Call {
    match operation {
        "post /v1/rooms" => call.json(&json!({ "id": world.fresh("room"), "title": "A room", "anchor": "somebody" })),
        "post /v1/rooms/{room}/show" => call.json(&json!({ "action": "start" })),
        "put /v1/rooms/{room}/shelf" => call.json(&json!({ "products": ["lamp", "tote"] })),
        "post /v1/rooms/{room}/pin" => call.json(&json!({ "product": "lamp" })),
        "put /v1/products/{product}" => call.json(&lamp()),
        "post /v1/skus/{sku}/stock" => {
            call.key(&world.fresh("key")).json(&json!({ "delta": 1, "reason": "found one more" }))
        }
        "post /v1/holds" => call.key(&world.fresh("key")).json(&json!({ "sku": SKU, "quantity": 1 })),
        "post /v1/orders/{order}/refund" => {
            call.key(&world.fresh("key")).json(&json!({ "restock": true, "reason": "broken" }))
        }
        "post /whip/{room}" | "post /whep/{room}" => call.body("application/sdp", "no offer"),
        "patch /whip/{room}/{session}" | "patch /whep/{room}/{session}" => call
            .header("if-match", etag)
            .body("application/trickle-ice-sdpfrag", "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijklmn\r\n"),
        "post /v1/dev/token" => call.json(&json!({ "room": OTHER_ROOM, "role": "admin", "user": "me" })),
        _ => call,
    }
}
