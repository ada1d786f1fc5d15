//! What a session runs over: a WebSocket, or a data channel; the same texts on both.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, Utf8Bytes, client::IntoClientRequest, http::HeaderValue, protocol::WebSocketConfig},
};
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use crate::{
    client::{Config, Error, Server, http::refusal},
    id::RoomId,
    protocol::SUBPROTOCOL,
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

/// One open connection.
pub enum Wire {
    Socket(Box<WebSocketStream<TcpStream>>),
    Channel(Arc<dyn DataChannel>),
}

/// What came over a connection.
pub enum Received {
    Text(Utf8Bytes),
    /// Anything else that shows the connection to be alive.
    Other,
    Closed {
        code: u16,
        reason: String,
    },
}

impl Dial {
    pub async fn open(&self, config: &Config) -> Result<Wire, Error> {
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
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
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
            refusal(response.status().as_u16(), response.body().as_deref().unwrap_or_default())
        }
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => Error::Lost,
        other => Error::Http(other.into()),
    }
}

impl Wire {
    /// Sends one message; a connection that does not take it in time is lost.
    pub async fn send(&mut self, text: String, deadline: Duration) -> Result<(), Error> {
        let sending = async {
            match self {
                Self::Socket(socket) => socket.send(Message::text(text)).await.map_err(ws_error),
                Self::Channel(channel) => channel.send_text(&text).await.map_err(Error::Webrtc),
            }
        };
        timeout(deadline, sending).await.map_err(|_| Error::Timeout("send"))?
    }

    /// The next message. Dropping the future loses nothing.
    pub async fn receive(&mut self) -> Result<Received, Error> {
        match self {
            Self::Socket(socket) => match socket.next().await {
                Some(Ok(Message::Text(text))) => Ok(Received::Text(text)),
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
    pub async fn closing_code(&mut self) -> Option<u16> {
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
    pub async fn close(&mut self) {
        let closing = async {
            match self {
                Self::Socket(socket) => drop(socket.close().await),
                Self::Channel(channel) => drop(channel.close().await),
            }
        };
        let _ = timeout(CLOSE_WAIT, closing).await;
    }
}

fn into_text(data: BytesMut) -> Result<Utf8Bytes, Error> {
    Utf8Bytes::try_from(data.freeze()).map_err(|_| Error::Protocol("a message that is not UTF-8".into()))
}
