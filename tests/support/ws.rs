//! A WebSocket client that speaks the protocol and folds what it hears into a [`View`].

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Map, Value, json};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, handshake::client::Request, http::HeaderValue},
};

use super::{
    view::View,
    wait::{DEADLINE, within},
};

pub const SUBPROTOCOL: &str = "maishou.v1.json";

pub struct Ws {
    socket: WebSocketStream<TcpStream>,
    next_id: u64,
    /// What this client knows of the room.
    pub view: View,
    /// Close code and reason, when the server closed.
    pub closed: Option<(u16, String)>,
    /// Every message as it came.
    pub heard: Vec<Value>,
}

impl Ws {
    pub async fn connect(server: SocketAddr, room: &str) -> Self {
        let mut request = upgrade(server, room);
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        Self::open(server, request).await.expect("the server upgrades")
    }

    /// As [`Ws::connect`], of somebody whose machine takes in little before it is read.
    pub async fn connect_narrow(server: SocketAddr, room: &str, receive_buffer_bytes: u32) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(receive_buffer_bytes).expect("a small buffer");
        let stream = socket.connect(server).await.expect("the server accepts connections");
        let mut request = upgrade(server, room);
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        Self::open_on(stream, request).await.expect("the server upgrades")
    }

    /// Tries an upgrade that may be refused.
    pub async fn open(server: SocketAddr, request: Request) -> Result<Self, Error> {
        let stream = TcpStream::connect(server).await.expect("the server accepts connections");
        Self::open_on(stream, request).await
    }

    async fn open_on(stream: TcpStream, request: Request) -> Result<Self, Error> {
        let (socket, _) = within("the upgrade", DEADLINE, client_async(request, stream)).await?;
        Ok(Self { socket, next_id: 1, view: View::default(), closed: None, heard: vec![] })
    }

    /// Joins for the first time and waits for the snapshot.
    pub async fn join(&mut self, token: &str) -> Value {
        let joined = self.command("join", json!({ "token": token })).await;
        let ok = joined.get("ok").unwrap_or_else(|| panic!("join: {joined}")).clone();
        self.until("the snapshot", |view| view.snapshots > 0).await;
        ok
    }

    /// Joins from where an earlier connection stood, and takes over its view.
    pub async fn resume(&mut self, token: &str, view: View) -> Value {
        let from = json!({ "token": token, "epoch": view.epoch, "seq": view.seq });
        self.view = view;
        let joined = self.command("join", from).await;
        joined.get("ok").unwrap_or_else(|| panic!("join: {joined}")).clone()
    }

    /// Sends a command and returns the whole answer, `ok` or `error`.
    pub async fn command(&mut self, name: &str, fields: Value) -> Value {
        let id = self.send_command(name, fields).await;
        self.answer(id).await
    }

    /// As [`Ws::command`], of a server that may be gone before it has answered.
    pub async fn attempt(&mut self, name: &str, fields: Value) -> Option<Value> {
        let id = self.send_command(name, fields).await;
        within("an answer or the end", DEADLINE, async {
            loop {
                let message = self.next().await?;
                if message["re"] == id {
                    return Some(message);
                }
            }
        })
        .await
    }

    /// The `ok` of a command; panics on a refusal.
    pub async fn ok(&mut self, name: &str, fields: Value) -> Value {
        let answer = self.command(name, fields).await;
        answer.get("ok").unwrap_or_else(|| panic!("{name}: {answer}")).clone()
    }

    /// The error code of a command; panics when it was accepted.
    pub async fn refused(&mut self, name: &str, fields: Value) -> String {
        let answer = self.command(name, fields).await;
        answer["error"]["code"].as_str().unwrap_or_else(|| panic!("{name} was not refused: {answer}")).to_owned()
    }

    /// Sends a command without waiting; its answer is found by the returned id.
    pub async fn send_command(&mut self, name: &str, fields: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let mut message = Map::from_iter([("id".to_owned(), json!(id))]);
        message.insert(name.to_owned(), fields);
        self.send_text(&Value::Object(message).to_string()).await;
        id
    }

    /// Waits for the answer to command `id`, folding all that comes before it.
    pub async fn answer(&mut self, id: u64) -> Value {
        let what = format!("the answer to command {id}");
        let seen = self.heard.iter().find(|message| message["re"] == id).cloned();
        if let Some(answer) = seen {
            return answer;
        }
        within(&what, DEADLINE, async {
            loop {
                match self.next().await {
                    Some(message) if message["re"] == id => return message,
                    Some(_) => {}
                    None => panic!("closed ({:?}) before {what}", self.closed),
                }
            }
        })
        .await
    }

    /// Reads on until the view is as wanted.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&View) -> bool) {
        within(what, DEADLINE, async {
            while !wanted(&self.view) {
                if self.next().await.is_none() {
                    panic!("closed ({:?}) while waiting for {what}", self.closed);
                }
            }
        })
        .await;
    }

    /// Reads for as long as something comes within `quiet`.
    pub async fn settle(&mut self, quiet: Duration) {
        while let Ok(Some(_)) = timeout(quiet, self.next()).await {}
    }

    /// The code with which the server closes this connection.
    pub async fn close_code(&mut self) -> u16 {
        within("the server to close", DEADLINE, async { while self.next().await.is_some() {} }).await;
        self.closed.as_ref().map(|(code, _)| *code).expect("closed with a code")
    }

    /// Sends text as it is, well formed or not.
    pub async fn send_text(&mut self, text: &str) {
        // The server may have closed already; the reader finds out.
        let _ = self.socket.send(Message::text(text)).await;
    }

    pub async fn send(&mut self, message: Message) {
        let _ = self.socket.send(message).await;
    }

    /// The next JSON message, already folded into the view; `None` once closed.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(text.as_str()).expect("the server sends JSON");
                    self.view.take(&message);
                    self.heard.push(message.clone());
                    return Some(message);
                }
                Some(Ok(Message::Close(frame))) => {
                    self.closed = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(Message::Binary(_))) => panic!("the server sends text only"),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Breaks the connection without a word, as a phone in a lift does.
    pub fn vanish(self) -> View {
        self.view
    }
}

/// A plain upgrade request, without a subprotocol.
pub fn upgrade(server: SocketAddr, room: &str) -> Request {
    let url = format!("ws://{server}/v1/rooms/{room}/ws");
    url.into_client_request().expect("a WebSocket address")
}
