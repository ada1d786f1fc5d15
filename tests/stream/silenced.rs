//! Moderation holds: on every transport, on the tape and over a restart.

use maishou::client::{self, Watcher};
use serde_json::{Value, json};

use super::{Hall, ROOM};
use crate::support::{server::Plan, tape::Tape, ws::Ws};

const UNSAID: &str = "unsaid and never told";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_muted_person_says_never_leaves_the_server() {
    let mut hall = Hall::open(Plan::default().set("LOG__LEVEL", "debug")).await;
    let (mut socket, mut stream) = (hall.socket("viewer").await, hall.listener("viewer").await);
    let (at, room) = (client::Server::at(hall.server.http), ROOM.parse().expect("a room's id"));
    let token = hall.shop.viewer_token(&hall.server, "channel");
    let watcher = Watcher::watch(&at, &room, &token, true, &client::Config::default()).await.expect("she watches");
    let channel = watcher.join_room(&token).await.expect("she joins over the channel");

    let mut loud = hall.server.ws(ROOM).await;
    let who = loud.join(&hall.shop.viewer_token(&hall.server, "loud")).await["who"].clone();
    let mute = json!({ "action": "mute", "who": who, "seconds": 3_600 });
    hall.anchor().await.ok("moderate", mute).await;
    is_muted(&mut loud).await;

    hall.server.kill().await;
    hall.server.restart().await;
    let mut loud = hall.socket("loud").await;
    is_muted(&mut loud).await;
    let mut after = hall.socket("after").await;
    let (mut anchor, mut after_stream) = (hall.anchor().await, hall.listener("after").await);
    anchor.ok("comment", json!({ "text": "and now something said" })).await;
    after.until("what is said", |view| view.has_comment("and now something said")).await;
    after_stream.until("what is said", |view| view.has_comment("and now something said")).await;
    while socket.next().await.is_some() {}
    while stream.next().await.is_some() {}

    let is_told = |heard: &[Value]| heard.iter().any(|said| said.to_string().contains(UNSAID));
    assert!(!is_told(&socket.heard) && !is_told(&after.heard) && !is_told(&anchor.heard), "over a socket");
    assert!(!is_told(&loud.heard), "not even to herself");
    for listener in [&stream, &after_stream] {
        assert!(listener.heard.iter().all(|(_, said)| !said.to_string().contains(UNSAID)), "over a stream");
    }
    assert!(channel.look(|view| view.texts().all(|text| !text.contains(UNSAID))), "over a data channel");
    assert!(!hall.shop.snapshot(&hall.server).await.to_string().contains(UNSAID), "in the snapshot");

    hall.server.kill().await;
    let tape = Tape::read(&hall.server, ROOM);
    assert!(tape.comments().values().all(|text| !text.contains(UNSAID)), "on the tape");
    assert!(tape.comments().values().any(|text| text == "and now something said"), "which was read");
    assert!(!hall.server.log().contains(UNSAID), "in the log");
}

#[tokio::test]
async fn only_so_many_people_are_silenced_at_a_time() {
    let hall = Hall::open(Plan::default().set("ROOM__SILENCED_MAX", "1")).await;
    let mut anchor = hall.anchor().await;
    let act = |action: &str, who: &str| json!({ "action": action, "who": who, "seconds": 60 });
    anchor.ok("moderate", act("mute", "AAAAAAAAAAAA")).await;
    anchor.ok("moderate", act("mute", "AAAAAAAAAAAA")).await;
    assert_eq!(anchor.refused("moderate", act("mute", "BBBBBBBBBBBB")).await, "limit_reached");
    anchor.ok("moderate", act("unmute", "AAAAAAAAAAAA")).await;
    anchor.ok("moderate", act("mute", "BBBBBBBBBBBB")).await;
    anchor.ok("moderate", act("kick", "AAAAAAAAAAAA")).await;
    assert_eq!(anchor.refused("moderate", act("kick", "BBBBBBBBBBBB")).await, "limit_reached");
    hall.shop.end_show(&hall.server).await;
    anchor.ok("moderate", act("kick", "BBBBBBBBBBBB")).await;
}

async fn is_muted(loud: &mut Ws) {
    for number in 0..10 {
        let answer = loud.command("comment", json!({ "text": format!("{UNSAID} {number}") })).await;
        assert_eq!(answer["error"]["code"], "muted", "{answer}");
        assert!(!answer.to_string().contains(UNSAID), "{answer}");
    }
}
