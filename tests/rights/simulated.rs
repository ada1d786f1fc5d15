//! Simulated people and people of a rehearsal: whatever they ask for, nothing real moves; and the other way round.

use serde_json::{Value, json};

use super::{
    ROOM, SKU, World,
    commands::{self, fields},
    routes::{self, call_in},
};
use crate::support::{
    server::Plan,
    token::{claims, with},
};

const ROLES: &[&str] = &["viewer", "anchor", "assistant", "merchant", "promoter", "admin"];
/// Routes by which a simulated person watches, whose sessions are her own.
const WATCHING: &[&str] =
    &["/whep", "get ", "options ", "delete /whip/{room}/{session}", "patch /whip/{room}/{session}", "/v1/dev/token"];

/// Everything real that somebody could touch. Counts are the ledger's: the room hears of them later.
async fn fingerprint(world: &World, room: &str) -> Value {
    let rest = world.rest();
    let admin = world.server.tokens.admin();
    let of = format!("room={room}");
    let snapshot = rest.get(&format!("/v1/rooms/{room}")).send().await.ok();
    let mut all = json!({ "room": room });
    for part in ["show", "shelf", "pinned", "pinned_comment", "slow_mode", "comments", "media", "planned_seconds"] {
        all[part] = snapshot[part].clone();
    }
    all["likes"] = snapshot["tally"]["likes"].clone();
    for sku in [SKU, "tote-tan", "scarf-coral"] {
        let ledger = rest.get(&format!("/v1/skus/{sku}/ledger?limit=1&{of}")).send().await.ok();
        all[sku] = ledger["head"]["hash"].clone();
    }
    for path in ["/v1/products/lamp", "/v1/products/tote"] {
        let product = rest.get(&format!("{path}?{of}")).send().await.ok();
        all[path] = product;
    }
    let orders = rest.get(&format!("/v1/orders?{of}")).token(&admin).send().await.ok();
    all["orders"] = orders["orders"].clone();
    all["rooms"] = rest.get("/v1/rooms").send().await.ok()["rooms"].as_array().map(Vec::len).into();
    all
}

fn token(world: &World, role: &str, room: &str, sim: bool) -> String {
    let sub = match role {
        "anchor" => world.shop.anchor.clone(),
        // The same person as the holds' that are made to be acted on.
        "viewer" => "viewer".to_owned(),
        role => role.to_owned(),
    };
    let mut claims = with(claims(room, role, &sub), json!({ "sim": sim }));
    if role == "merchant" {
        claims = with(claims, json!({ "merchant": "main" }));
    }
    world.server.tokens.mint(&claims)
}

async fn rehearse(world: &World) -> String {
    let body = json!({ "rehearsal_of": ROOM });
    let made = world.rest().post("/v1/rooms").token(&world.server.tokens.admin()).json(&body).send().await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.ok()["id"].as_str().expect("an id").to_owned()
}

/// Sends an operation and says what it moved in `watched`, and its status.
async fn moved(world: &World, operation: &str, path: (&str, &str), token: &str, watched: &str) -> (bool, u16, String) {
    let (room, end) = path;
    let call = call_in(world, operation, room, end).await.token(token);
    let before = fingerprint(world, watched).await;
    let status = match operation.ends_with("/events") {
        true => (call.status().await, String::new()),
        false => {
            let answer = call.send().await;
            (answer.status, answer.text())
        }
    };
    (fingerprint(world, watched).await != before, status.0, status.1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulated_person_moves_nothing_in_a_real_room() {
    let world = World::open(Plan::default()).await;
    let mut wrong = Vec::new();
    let mut refused = 0;
    for rule in routes::RULES {
        let watches = WATCHING.iter().any(|part| rule.operation.contains(part));
        for role in ROLES {
            for scope in [ROOM, "*"] {
                let token = token(&world, role, scope, true);
                let (moved, status, text) = moved(&world, rule.operation, (ROOM, ""), &token, ROOM).await;
                refused += u32::from(text.contains("rehearsal_only"));
                // A room is not ended by anybody.
                let deletes = rule.operation == "delete /v1/rooms/{room}";
                if moved || (!watches && !deletes && (status != 403 || !text.contains("rehearsal_only"))) {
                    wrong.push(format!("{} by {role} of {scope}: {status} {text}, moved: {moved}", rule.operation));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused > 150, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulated_person_commands_nothing_in_a_real_room() {
    let world = World::open(Plan::default()).await;
    for role in ROLES {
        let mut ws = world.server.ws(ROOM).await;
        ws.join(&token(&world, role, ROOM, true)).await;
        for rule in commands::RULES {
            let name = rule.command.split(' ').next().expect("a name");
            let fields = fields(&world, rule.command).await;
            let before = fingerprint(&world, ROOM).await;
            let answer = ws.command(name, fields).await;
            let expected = match name {
                "watch" => Some("bad_offer"),
                // The sessions are another viewer's, or her own for who has her name, or anybody's for an admin.
                "candidate" | "view" | "leave" => match *role {
                    "viewer" | "admin" => None,
                    _ => Some("not_found"),
                },
                "quality" => match *role {
                    "anchor" | "assistant" | "admin" => None,
                    _ => Some("forbidden"),
                },
                "ping" => None,
                "join" => Some("conflict"),
                _ => Some("rehearsal_only"),
            };
            assert_eq!(answer["error"]["code"].as_str(), expected, "{} by {role}", rule.command);
            assert_eq!(fingerprint(&world, ROOM).await, before, "{} by {role}", rule.command);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_of_a_rehearsal_moves_anything_real() {
    let world = World::open(Plan::default()).await;
    let rehearsal = rehearse(&world).await;
    let (mut wrong, mut done) = (Vec::new(), 0);
    for rule in routes::RULES {
        for role in ROLES {
            for sim in [false, true] {
                let token = token(&world, role, &rehearsal, sim);
                let real = format!("?room={ROOM}");
                // Her own rehearsal in the path, the real room in the path, and the real room asked for.
                for path in [(rehearsal.as_str(), ""), (ROOM, ""), (ROOM, real.as_str())] {
                    let ends_it = rule.operation == "delete /v1/rooms/{room}" && path.0 == rehearsal;
                    if ends_it {
                        continue;
                    }
                    let (moved, status, _) = moved(&world, rule.operation, path, &token, ROOM).await;
                    done += u32::from(status < 300);
                    if moved {
                        wrong.push(format!("{} by {role} (sim: {sim}) at {path:?}: {status}", rule.operation));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(done > 200, "{done}: these tokens are good for something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_of_a_real_room_moves_anything_in_its_rehearsal() {
    let world = World::open(Plan::default()).await;
    let rehearsal = rehearse(&world).await;
    let mut wrong = Vec::new();
    let asks = format!("?room={rehearsal}");
    for rule in routes::RULES {
        for role in ROLES {
            let token = token(&world, role, ROOM, false);
            for path in [(ROOM, ""), (rehearsal.as_str(), ""), (ROOM, asks.as_str())] {
                // Admins and the room's anchor end and make rehearsals; nothing in one moves by that.
                if rule.operation == "delete /v1/rooms/{room}" {
                    continue;
                }
                let (moved, status, _) = moved(&world, rule.operation, path, &token, &rehearsal).await;
                if moved && rule.operation != "post /v1/rooms" {
                    wrong.push(format!("{} by {role} at {path:?}: {status}", rule.operation));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));

    let own = token(&world, "admin", &rehearsal, true);
    let mut moves = 0;
    for operation in ["post /v1/skus/{sku}/stock", "post /v1/holds", "post /v1/rooms/{room}/show"] {
        moves += u32::from(moved(&world, operation, (&rehearsal, ""), &own, &rehearsal).await.0);
    }
    assert_eq!(moves, 3, "what is watched can move");
}
