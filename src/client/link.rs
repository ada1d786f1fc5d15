//! The task behind a [`Viewer`](super::Viewer): connects, talks, and comes back after a loss.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, client::IntoClientRequest, protocol::WebSocketConfig},
};
use tokio_util::sync::CancellationToken;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use crate::{
    client::{
        Config, Error, Server,
        conversation::{Conversation, Heard},
        view::{Link, View},
    },
    id::RoomId,
    protocol::{CloseCode, ErrorCode, Fault, SUBPROTOCOL},
};

/// The socket's read buffer: a viewer's messages are short, and a crowd has many sockets.
const READ_BUFFER_LEN: usize = 8 << 10;

/// For a close frame to be sent or to come.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Where sessions are opened.
pub enum Dial {
    WebSocket {
        server: Server,
        room: RoomId,
    },
    /// A data channel that is open already; it is used once.
    Channel(Arc<dyn DataChannel>),
}

/// A command that the handle asks of the task.
pub struct Ask {
    pub name: &'static str,
    pub body: Value,
    pub answer: Answerer,
}

pub type Answerer = oneshot::Sender<Result<Value, Error>>;

/// Why a connection ended.
enum Ending {
    Left,
    /// The join was refused; the close code that followed, if one did.
    Refused {
        fault: Fault,
        code: Option<u16>,
    },
    /// There was a gap in the frames: a new connection resumes before it.
    Missed,
    Closed {
        code: u16,
        reason: String,
    },
    Lost(Error),
}

pub struct LinkTask {
    pub dial: Dial,
    /// A new token is told to the server, and used for the next join.
    pub token: watch::Receiver<String>,
    pub config: Config,
    pub asks: mpsc::Receiver<Ask>,
    pub view: Arc<watch::Sender<View>>,
    pub leave: CancellationToken,
    /// Answered once, when the first join is done or has failed.
    pub first: Option<oneshot::Sender<Result<(), Error>>>,
    pub talk: Conversation<Answerer>,
    /// Connections lost since the last one that went live.
    pub losses: u32,
}

impl LinkTask {
    /// Runs until the viewer leaves, the server says not to come back, or the first attempt fails.
    pub async fn run(mut self) {
        loop {
            let ending = self.connect_and_talk().await;
            for answer in self.talk.abandon() {
                let _ = answer.send(Err(Error::Lost));
            }
            let Some(wait) = self.wait_after(&ending) else {
                return self.end(ending);
            };
            self.view.send_modify(|view| view.link = Link::Waiting);
            tokio::select! {
                () = self.leave.cancelled() => return self.end(Ending::Left),
                () = sleep(wait) => {}
            }
            self.view.send_modify(|view| view.link = Link::Joining);
        }
    }

    async fn connect_and_talk(&mut self) -> Ending {
        let leave = self.leave.clone();
        let opened = tokio::select! {
            () = leave.cancelled() => return Ending::Left,
            opened = self.dial.open(&self.config) => opened,
        };
        match opened {
            Ok(mut wire) => self.talk_over(&mut wire).await.unwrap_or_else(Ending::Lost),
            Err(why) => Ending::Lost(why),
        }
    }

    async fn talk_over(&mut self, wire: &mut Wire) -> Result<Ending, Error> {
        self.join(wire).await?;
        let mut heard_at = Instant::now();
        loop {
            let room_for_more = self.talk.waiting() < self.config.commands_max;
            tokio::select! {
                () = self.leave.cancelled() => {
                    wire.close().await;
                    return Ok(Ending::Left);
                }
                received = wire.receive() => {
                    heard_at = Instant::now();
                    match received? {
                        Received::Text(text) => {
                            if let Some(ending) = self.hear(&text, wire).await? {
                                return Ok(ending);
                            }
                        }
                        Received::Other => {}
                        Received::Closed { code, reason } => return Ok(Ending::Closed { code, reason }),
                    }
                }
                Some(ask) = self.asks.recv(), if room_for_more => self.say(ask, wire).await?,
                Ok(()) = self.token.changed() => self.renew(wire).await?,
                () = tokio::time::sleep_until(heard_at + self.config.silence_max) => return Err(Error::Timeout("silence")),
            }
            if !room_for_more {
                self.talk.forget(oneshot::Sender::is_closed);
            }
        }
    }

    async fn join(&mut self, wire: &mut Wire) -> Result<(), Error> {
        let text = self.talk.join(&self.token.borrow_and_update(), &self.view.borrow());
        wire.send(text, self.config.request_timeout).await
    }

    async fn say(&mut self, ask: Ask, wire: &mut Wire) -> Result<(), Error> {
        if ask.answer.is_closed() {
            return Ok(());
        }
        let text = self.talk.ask(ask.name, ask.body, ask.answer);
        wire.send(text, self.config.request_timeout).await
    }

    async fn renew(&mut self, wire: &mut Wire) -> Result<(), Error> {
        self.view.send_modify(|view| view.token_expiring = false);
        let text = serde_json::json!({"auth": {"token": *self.token.borrow_and_update()}}).to_string();
        wire.send(text, self.config.request_timeout).await
    }

    async fn hear(&mut self, text: &str, wire: &mut Wire) -> Result<Option<Ending>, Error> {
        let mut heard = Heard::Nothing;
        self.view.send_modify(|view| heard = self.talk.hear(text, view));
        match heard {
            Heard::Nothing | Heard::TokenWanted => {}
            Heard::Answer(answer, result) => {
                let _ = answer.send(result.map_err(Error::Refused));
            }
            Heard::Live => {
                self.losses = 0;
                self.tell_first(Ok(()));
            }
            Heard::JoinRefused(fault) => {
                let code = wire.closing_code().await;
                return Ok(Some(Ending::Refused { fault, code }));
            }
            Heard::Missed => return Ok(Some(Ending::Missed)),
            Heard::Closed { code, reason } => return Ok(Some(Ending::Closed { code, reason })),
        }
        Ok(None)
    }

    /// How long to wait before the next attempt; `None` when there shall be none.
    fn wait_after(&mut self, ending: &Ending) -> Option<Duration> {
        let again = self.config.reconnect && self.first.is_none() && matches!(self.dial, Dial::WebSocket { .. });
        let backoff = full_jitter(self.config.reconnect_base, self.config.reconnect_max, self.losses);
        let wait = match ending {
            Ending::Left => None,
            Ending::Refused { code: Some(code), .. } if !CloseCode::reconnects(*code) => None,
            Ending::Refused { fault, .. } => {
                let wait = fault.retry_after_ms.map_or(backoff, Duration::from_millis);
                is_passing(fault).then_some(wait)
            }
            Ending::Missed => Some(full_jitter(self.config.reconnect_base, self.config.reconnect_base, 0)),
            Ending::Closed { code, .. } if !CloseCode::reconnects(*code) => None,
            // The server spreads the returns of a drain itself.
            Ending::Closed { code, reason } if *code == CloseCode::Bye.number() => {
                Some(reason.parse().map_or(backoff, Duration::from_millis))
            }
            Ending::Closed { .. } => Some(backoff),
            Ending::Lost(why) => why.is_passing().then_some(backoff),
        };
        self.losses = self.losses.saturating_add(1);
        wait.filter(|_| again)
    }

    fn end(mut self, ending: Ending) {
        let (code, reason) = match &ending {
            Ending::Closed { code, reason } => (Some(*code), reason.clone()),
            Ending::Refused { fault, code } => (*code, fault.message.to_string()),
            Ending::Missed => (None, "a gap in the frames".to_owned()),
            Ending::Lost(why) => (None, why.to_string()),
            Ending::Left => (None, String::new()),
        };
        let why = match ending {
            Ending::Refused { fault, .. } => Error::Refused(fault),
            Ending::Lost(why) => why,
            Ending::Missed => Error::Lost,
            Ending::Closed { .. } | Ending::Left => Error::Ended { code },
        };
        self.view.send_modify(|view| view.link = Link::Ended { code, reason });
        self.tell_first(Err(why));
    }

    fn tell_first(&mut self, outcome: Result<(), Error>) {
        if let Some(first) = self.first.take() {
            let _ = first.send(outcome);
        }
    }
}

fn is_passing(fault: &Fault) -> bool {
    matches!(fault.code, ErrorCode::Busy | ErrorCode::RateLimited | ErrorCode::Internal)
}

/// A random wait up to an exponentially growing limit, so that a crowd does not come back in step.
pub fn full_jitter(base: Duration, max: Duration, attempt: u32) -> Duration {
    let limit = base.saturating_mul(1 << attempt.min(16)).min(max);
    limit.mul_f64(rand::random::<f64>())
}

/// One open connection.
enum Wire {
    Socket(Box<WebSocketStream<TcpStream>>),
    Channel(Arc<dyn DataChannel>),
}

enum Received {
    Text(String),
    Other,
    Closed { code: u16, reason: String },
}

impl Dial {
    async fn open(&self, config: &Config) -> Result<Wire, Error> {
        match self {
            Self::WebSocket { server, room } => {
                let opening = open_socket(server, room, config);
                let opened = timeout(config.connect_timeout, opening).await;
                opened.map_err(|_| Error::Timeout("WebSocket handshake"))?
            }
            Self::Channel(channel) => Ok(Wire::Channel(Arc::clone(channel))),
        }
    }
}

async fn open_socket(server: &Server, room: &RoomId, config: &Config) -> Result<Wire, Error> {
    let stream = server.connect(config).await?;
    let mut request = server.socket_url(room).into_client_request().map_err(ws_error)?;
    request.headers_mut().insert("sec-websocket-protocol", tungstenite::http::HeaderValue::from_static(SUBPROTOCOL));
    let limits = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_LEN)
        .max_message_size(Some(config.message_len_max))
        .max_frame_size(Some(config.message_len_max));
    let (socket, _) = client_async_with_config(request, stream, Some(limits)).await.map_err(ws_error)?;
    Ok(Wire::Socket(Box::new(socket)))
}

fn ws_error(error: tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::Io(why) => Error::Connect(why),
        tungstenite::Error::Http(response) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            Error::Status { status: response.status().as_u16(), body }
        }
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => Error::Lost,
        other => Error::Http(other.into()),
    }
}

impl Wire {
    async fn send(&mut self, text: String, deadline: Duration) -> Result<(), Error> {
        let sending = async {
            match self {
                Self::Socket(socket) => socket.send(Message::text(text)).await.map_err(ws_error),
                Self::Channel(channel) => channel.send_text(&text).await.map_err(Error::Webrtc),
            }
        };
        timeout(deadline, sending).await.map_err(|_| Error::Timeout("send"))?
    }

    /// The next message. Dropping the future loses nothing.
    async fn receive(&mut self) -> Result<Received, Error> {
        match self {
            Self::Socket(socket) => match socket.next().await {
                Some(Ok(Message::Text(text))) => Ok(Received::Text(text.as_str().to_owned())),
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    Ok(Received::Closed { code, reason })
                }
                Some(Ok(_)) => Ok(Received::Other),
                Some(Err(why)) => Err(ws_error(why)),
                None => Err(Error::Lost),
            },
            Self::Channel(channel) => match channel.poll().await {
                Some(DataChannelEvent::OnMessage(message)) => Ok(Received::Text(into_text(message.data)?)),
                Some(DataChannelEvent::OnClose | DataChannelEvent::OnError) | None => Err(Error::Lost),
                Some(_) => Ok(Received::Other),
            },
        }
    }

    /// What the server closes with, when it does so soon.
    async fn closing_code(&mut self) -> Option<u16> {
        let closing = async {
            loop {
                match self.receive().await {
                    Ok(Received::Closed { code, .. }) => return Some(code),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        timeout(CLOSE_WAIT, closing).await.ok().flatten()
    }

    /// Says goodbye; nobody waits for the answer.
    async fn close(&mut self) {
        let closing = async {
            match self {
                Self::Socket(socket) => drop(socket.close().await),
                Self::Channel(channel) => drop(channel.close().await),
            }
        };
        let _ = timeout(CLOSE_WAIT, closing).await;
    }
}

fn into_text(data: BytesMut) -> Result<String, Error> {
    String::from_utf8(data.to_vec()).map_err(|_| Error::Protocol("a message that is not UTF-8".into()))
}
