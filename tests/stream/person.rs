//! One person: her private messages, her token, her removal.

use std::time::Duration;

use maishou::client::{self, Watcher};
use serde_json::{Value, json};

use super::{Hall, ROOM};
use crate::support::{
    offer::player,
    server::Plan,
    shop::TAN,
    sse::Sse,
    token::{claims, ending_in},
    wait::{DEADLINE, within},
    ws::Ws,
};

#[tokio::test]
async fn private_messages_go_to_their_person_alone_numbered_and_can_be_read_again() {
    let hall = Hall::open(Plan::default()).await;
    let (mut phone, mut laptop) = (hall.socket("buyer").await, hall.socket("buyer").await);
    let mut stream = hall.listener("buyer").await;
    let mut other = hall.socket("other").await;
    hall.buy("buyer", TAN, "one").await;

    phone.until("her messages", |view| view.private.len() == 2).await;
    laptop.until("her messages", |view| view.private.len() == 2).await;
    stream.until("her messages", |view| view.private.len() == 2).await;
    assert_eq!(phone.view.private, laptop.view.private);
    assert_eq!(phone.view.private, stream.view.private);
    assert_eq!(numbered(&phone.view.private), [(1, "hold.created"), (2, "order.paid")]);

    phone.vanish();
    hall.buy("buyer", TAN, "two").await;
    laptop.until("her messages", |view| view.private.len() == 4).await;
    let token = hall.shop.viewer_token(&hall.server, "buyer");
    let mut back = hall.server.ws(ROOM).await;
    back.ok("join", json!({ "token": token, "you": 2 })).await;
    back.until("what she missed", |view| view.private.len() == 2).await;
    assert_eq!(back.view.private, laptop.view.private[2..]);
    let page = hall.server.rest().get("/v1/me/messages?after=1").token(&token).send().await.ok();
    assert_eq!(page["messages"].as_array().expect("messages")[..], laptop.view.private[1..]);

    other.until("the sale", |view| view.available(TAN) == Some(3)).await;
    other.ok("ping", json!({})).await;
    assert_eq!(other.view.private, Vec::<Value>::new(), "it is nobody else's");
    let text = serde_json::to_string(&other.heard).expect("JSON");
    assert!(!text.contains("\"buyer\":\"buyer\"") && !text.contains("\"sub\""), "no sub is told to others");
    let sold = other.view.events.iter().find(|event| event["type"] == "sold").expect("the room hears of a sale");
    assert!(sold.get("who").is_none() && sold["buyer"] == "B**", "one masked character: {sold}");
}

/// She comes back again and again while messages to her are made without a pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_message_does_not_overtake_those_that_she_missed() {
    let hall = Hall::open(Plan::default()).await;
    let token = hall.shop.viewer_token(&hall.server, "buyer");
    let (rest, buyer) = (hall.server.rest(), token.clone());
    let buying = tokio::spawn(async move {
        for number in 0.. {
            let body = json!({ "sku": TAN, "quantity": 1 });
            let held = rest.post("/v1/holds").token(&buyer).key(&format!("k{number}")).json(&body).send().await.ok();
            let path = format!("/v1/holds/{}/cancel", held["hold"]["id"].as_str().expect("a hold"));
            rest.post(&path).token(&buyer).send().await.ok();
        }
    });
    let (mut seen, mut at_once) = (0, 0);
    for _ in 0..60 {
        let mut ws = hall.server.ws(ROOM).await;
        ws.ok("join", json!({ "token": token, "you": seen })).await;
        ws.until("a few messages", |view| view.private.len() >= 8).await;
        let mut new: Vec<u64> = Vec::new();
        for (n, _) in numbered(&ws.view.private) {
            // As every client does: what she has already is no news.
            if n > new.last().copied().unwrap_or(seen) {
                new.push(n);
            }
        }
        at_once += new.iter().filter(|n| **n > seen + 1).count();
        let expected: Vec<u64> = (seen + 1..).take(new.len()).collect();
        assert_eq!(new, expected, "in order, without a gap");
        seen += new.len() as u64;
    }
    buying.abort();
    assert!(at_once > 100, "she missed some each time: {at_once}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kick_ends_everything_of_that_person_and_holds_until_the_show_ends() {
    let hall = Hall::open(Plan::default()).await;
    let token = hall.shop.viewer_token(&hall.server, "rude");
    let mut first = hall.server.ws(ROOM).await;
    let who = first.join(&token).await["who"].clone();
    let (mut second, mut stream) = (hall.socket("rude").await, hall.listener("rude").await);
    let (at, room) = (client::Server::at(hall.server.http), ROOM.parse().expect("a room's id"));
    let video = Watcher::watch(&at, &room, &token, false, &client::Config::default()).await.expect("she watches");
    let mut neighbour = hall.socket("neighbour").await;

    let mut anchor = hall.anchor().await;
    anchor.ok("moderate", json!({ "action": "kick", "who": who })).await;
    assert_eq!((first.close_code().await, second.close_code().await), (3501, 3501));
    stream.end().await;
    let (_, last) = stream.heard.last().expect("a last word");
    assert_eq!(last["close"]["code"], 3501, "{last}");
    video.wait_for(DEADLINE, |stats| stats.gone).await.expect("her picture ends");

    let mut again = hall.server.ws(ROOM).await;
    assert_eq!(again.refused("join", json!({ "token": token })).await, "kicked");
    assert_eq!(again.close_code().await, 3501);
    let events = hall.server.rest().get(&format!("/v1/rooms/{ROOM}/events")).token(&token).send().await;
    assert_eq!((events.status, events.problem().as_str()), (403, "kicked"));
    let offer = || hall.server.rest().post(&format!("/whep/{ROOM}")).token(&token).body("application/sdp", player());
    let refused = offer().send().await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "kicked"));
    neighbour.ok("ping", json!({})).await;

    hall.shop.end_show(&hall.server).await;
    hall.socket("rude").await.ok("ping", json!({})).await;
    assert_eq!(offer().send().await.status, 201);
}

#[tokio::test]
async fn a_token_that_ends_soon_is_asked_for_and_a_new_one_is_taken() {
    let hall = Hall::open(Plan::default()).await;
    let ending =
        |left| hall.server.tokens.mint(&ending_in(claims(ROOM, "viewer", "stayer"), Duration::from_secs(left)));
    let mut ws = hall.server.ws(ROOM).await;
    ws.join(&ending(30)).await;
    is_asked(&mut ws).await;
    ws.send_text(&json!({ "auth": { "token": ending(3_600) } }).to_string()).await;
    ws.ok("comment", json!({ "text": "still me" })).await;

    // One that ends soon again is asked for again.
    ws.send_text(&json!({ "auth": { "token": ending(40) } }).to_string()).await;
    is_asked(&mut ws).await;
    ws.ok("ping", json!({})).await;
}

/// The longest test: a minute is what a client has.
#[tokio::test]
async fn who_brings_no_new_token_is_closed_with_3500() {
    let hall = Hall::open(Plan::default()).await;
    let ending = ending_in(claims(ROOM, "viewer", "leaver"), Duration::from_secs(20));
    let token = hall.server.tokens.mint(&ending);
    let mut ws = hall.server.ws(ROOM).await;
    ws.join(&token).await;
    let call = hall.server.rest().get(&format!("/v1/rooms/{ROOM}/events")).token(&token);
    let mut stream = Sse::open(call).await;
    is_asked(&mut ws).await;

    let patience = Duration::from_secs(75);
    let ended = async {
        tokio::join!(async { while ws.next().await.is_some() {} }, async { while stream.next().await.is_some() {} })
    };
    within("both to be closed", patience, ended).await;
    assert_eq!(ws.closed.as_ref().map(|(code, _)| *code), Some(3500));
    assert_eq!(stream.heard.last().expect("a last word").1["close"]["code"], 3500);
}

async fn is_asked(ws: &mut Ws) {
    let asked = within("to be asked for a new token", DEADLINE, async {
        loop {
            let message = ws.next().await.expect("the session goes on");
            if message.get("auth").is_some() {
                return message;
            }
        }
    })
    .await;
    assert_eq!(asked, json!({ "auth": "expiring" }));
}

fn numbered(messages: &[Value]) -> Vec<(u64, &str)> {
    let numbered = messages.iter().map(|message| (message["n"].as_u64(), message["type"].as_str()));
    numbered.map(|(n, kind)| (n.expect("a number"), kind.expect("a type"))).collect()
}
