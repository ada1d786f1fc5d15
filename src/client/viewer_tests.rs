//! A viewer against a server that plays a script: what it says on each connection, and what it does after a loss.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::*;
use crate::protocol::ErrorCode;

const SOON: Duration = Duration::from_secs(10);

/// The server's side: it accepts one connection after another and a test plays them.
struct Stage {
    listener: TcpListener,
    server: Server,
}

/// One connection as the server sees it.
struct Seat(WebSocketStream<TcpStream>);

impl Stage {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::at(listener.local_addr().unwrap());
        Self { listener, server }
    }

    async fn seat(&self) -> Seat {
        let (stream, _) = timeout(SOON, self.listener.accept()).await.expect("a connection in time").unwrap();
        #[expect(clippy::result_large_err, reason = "the library's own type")]
        let with_protocol = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            assert_eq!(request.uri().path(), "/v1/rooms/r/ws");
            let wanted = request.headers()["sec-websocket-protocol"].clone();
            response.headers_mut().insert("sec-websocket-protocol", wanted);
            Ok(response)
        };
        Seat(accept_hdr_async(stream, with_protocol).await.unwrap())
    }

    fn join(&self, config: Config) -> tokio::task::JoinHandle<Result<Viewer, Error>> {
        let server = self.server.clone();
        tokio::spawn(async move { Viewer::join(&server, &"r".parse().unwrap(), "T", &config).await })
    }

    /// A viewer who was let in at sequence number 5.
    async fn joined(&self, config: Config) -> (Viewer, Seat) {
        let joining = self.join(config);
        let mut seat = self.seat().await;
        seat.let_in().await;
        (joining.await.unwrap().unwrap(), seat)
    }
}

impl Seat {
    async fn hear(&mut self) -> Value {
        loop {
            match timeout(SOON, self.0.next()).await.expect("a message in time").unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(_) => panic!("the viewer closed"),
                _ => {}
            }
        }
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn let_in(&mut self) {
        let join = self.hear().await;
        assert_eq!(join["join"], json!({"token": "T"}));
        self.say(json!({"re": join["id"], "ok": {"resumed": false, "server_time": 1}})).await;
        self.say(json!({"snapshot": {
            "room": "r", "epoch": "e", "seq": 5, "show": {"running": true, "started_at": 1, "title": "t"},
            "shelf": [], "stock": {}, "pinned": null, "pinned_comment": null, "media": {"live": false, "tracks": []},
            "slow_mode": 0, "tally": {"viewers": 1, "likes": 0}, "comments": []
        }}))
        .await;
    }

    async fn resume(&mut self, seq: u64) {
        let join = self.hear().await;
        assert_eq!(join["join"], json!({"token": "T", "epoch": "e", "seq": seq, "you": 0}));
        self.say(json!({"re": join["id"], "ok": {"resumed": true, "server_time": 1}})).await;
    }

    async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.to_owned().into() };
        self.0.close(Some(frame)).await.unwrap();
        while let Some(Ok(_)) = self.0.next().await {}
    }
}

fn config() -> Config {
    Config { reconnect_base: Duration::from_millis(10), ..Config::default() }
}

#[tokio::test]
async fn a_lost_viewer_comes_back_to_where_she_was() {
    let stage = Stage::open().await;
    let (viewer, mut seat) = stage.joined(config()).await;
    seat.say(json!({"prev": 5, "seq": 8, "tally": {"viewers": 2, "likes": 1}})).await;
    viewer.wait_for(SOON, |view| view.seq == 8).await.unwrap();

    drop(seat);
    let mut seat = stage.seat().await;
    seat.resume(8).await;
    seat.say(json!({"prev": 8, "seq": 9})).await;
    viewer.wait_for(SOON, |view| view.seq == 9 && view.link == Link::Live).await.unwrap();
    assert_eq!(viewer.view().counters.resumes, 1);
}

#[tokio::test]
async fn a_gap_makes_her_join_again_from_before_it() {
    let stage = Stage::open().await;
    let (viewer, mut seat) = stage.joined(config()).await;
    seat.say(json!({"prev": 7, "seq": 9})).await;
    let mut seat = stage.seat().await;
    seat.resume(5).await;
    seat.say(json!({"prev": 4, "seq": 9})).await;
    viewer.wait_for(SOON, |view| view.seq == 9).await.unwrap();
    assert_eq!(viewer.view().counters.gaps, 1);
}

#[tokio::test]
async fn commands_wait_for_the_connection_but_not_forever() {
    let stage = Stage::open().await;
    let config = Config { request_timeout: Duration::from_millis(300), ..config() };
    let (viewer, seat) = stage.joined(config).await;
    drop(seat);
    assert!(matches!(viewer.like(1).await, Err(Error::Lost | Error::Timeout(_))));

    let mut seat = stage.seat().await;
    seat.resume(5).await;
    let asker = viewer.clone();
    let asking = tokio::spawn(async move { asker.ping().await });
    let ping = loop {
        // The like that nobody waits for any more may still come first.
        let message = seat.hear().await;
        if message.get("ping").is_some() {
            break message;
        }
    };
    seat.say(json!({"re": ping["id"], "ok": {"server_time": 42}})).await;
    assert_eq!(asking.await.unwrap().unwrap().0.0, 42);
}

#[tokio::test]
async fn an_answer_that_is_lost_with_the_connection_is_told_so() {
    let stage = Stage::open().await;
    let (viewer, mut seat) = stage.joined(config()).await;
    let asker = viewer.clone();
    let asking = tokio::spawn(async move { asker.comment("hello").await });
    assert_eq!(seat.hear().await["comment"]["text"], "hello");
    drop(seat);
    assert!(matches!(asking.await.unwrap(), Err(Error::Lost)));
}

#[tokio::test]
async fn a_refused_command_leaves_the_session_as_it_is() {
    let stage = Stage::open().await;
    let (viewer, mut seat) = stage.joined(config()).await;
    let asker = viewer.clone();
    let asking = tokio::spawn(async move { asker.hold_one(&"scarf".parse().unwrap(), 1, "k").await });
    let hold = seat.hear().await;
    assert_eq!(hold["hold"], json!({"sku": "scarf", "quantity": 1, "key": "k"}));
    seat.say(json!({"re": hold["id"], "error": {"code": "sold_out", "message": "gone"}})).await;
    assert_eq!(asking.await.unwrap().unwrap_err().code(), Some(ErrorCode::SoldOut));
    assert_eq!(viewer.view().link, Link::Live);
}

#[tokio::test]
async fn a_draining_server_says_when_to_come_back() {
    let stage = Stage::open().await;
    let (_viewer, seat) = stage.joined(config()).await;
    let closed_at = Instant::now();
    seat.close(3000, "400").await;
    stage.seat().await.resume(5).await;
    assert!(closed_at.elapsed() >= Duration::from_millis(350), "{:?}", closed_at.elapsed());
}

#[tokio::test]
async fn a_kicked_viewer_stays_away() {
    let stage = Stage::open().await;
    let (viewer, seat) = stage.joined(config()).await;
    seat.close(3501, "kicked").await;
    viewer.wait_for(SOON, |view| matches!(view.link, Link::Ended { code: Some(3501), .. })).await.unwrap();
    assert!(matches!(viewer.like(1).await, Err(Error::Ended { code: Some(3501) })));
    let again = timeout(Duration::from_millis(200), stage.listener.accept()).await;
    assert!(again.is_err(), "no other connection");
}

#[tokio::test]
async fn a_refused_join_is_an_error_with_its_close_code() {
    let stage = Stage::open().await;
    let joining = stage.join(config());
    let mut seat = stage.seat().await;
    let join = seat.hear().await;
    seat.say(json!({"re": join["id"], "error": {"code": "unauthorized", "message": "no"}})).await;
    seat.close(3500, "bad_token").await;
    assert_eq!(joining.await.unwrap().err().and_then(|e| e.code()), Some(ErrorCode::Unauthorized));
}

#[tokio::test]
async fn silence_counts_as_loss() {
    let stage = Stage::open().await;
    let config = Config { silence_max: Duration::from_millis(200), ..config() };
    let (_viewer, _mute_seat) = stage.joined(config).await;
    stage.seat().await.resume(5).await;
}

#[tokio::test]
async fn an_expiring_token_is_renewed_and_used_from_then_on() {
    let stage = Stage::open().await;
    let (viewer, mut seat) = stage.joined(config()).await;
    seat.say(json!({"auth": "expiring"})).await;
    viewer.wait_for(SOON, |view| view.token_expiring).await.unwrap();
    viewer.renew("T2");
    assert_eq!(seat.hear().await, json!({"auth": {"token": "T2"}}));
    drop(seat);
    assert_eq!(stage.seat().await.hear().await["join"]["token"], "T2");
}

#[tokio::test]
async fn the_last_handle_ends_the_session() {
    let stage = Stage::open().await;
    let (viewer, mut seat) = stage.joined(config()).await;
    let other = Arc::new(Mutex::new(Some(viewer.clone())));
    drop(viewer);
    other.lock().await.as_ref().unwrap().wait_for(SOON, |view| view.link == Link::Live).await.unwrap();
    other.lock().await.take();
    let goodbye = timeout(SOON, seat.0.next()).await.unwrap();
    assert!(matches!(goodbye, Some(Ok(Message::Close(_))) | None));
}
