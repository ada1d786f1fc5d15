//! How one listens to a server, and how one speaks to all who listen.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use maishou::{id::RoomId, protocol::SUBPROTOCOL};
use maishou_loadtest::frames::{TEXT, client_frame};
use serde_json::json;

/// The mark before the time, in microseconds since 1970, at which a message was to be sent.
pub const STAMP: &[u8] = b"stamp=";

/// What a listener says to get in, and how it knows that it is.
#[derive(Clone)]
pub enum Dialect {
    /// A room of ours; a token for each listener. Without tokens nobody joins: the upgrade is all. With the epoch of
    /// its log, who comes back goes on from where it stood.
    Maishou {
        room: RoomId,
        tokens: Arc<Vec<String>>,
        epoch: Option<String>,
    },
    /// Whoever is connected hears everything.
    Plain,
    Nchan,
    Nats,
}

impl Dialect {
    /// The upgrade's request.
    pub fn request(&self, host: SocketAddr) -> String {
        let (path, protocol) = match self {
            Self::Maishou { room, .. } => {
                (format!("/v1/rooms/{room}/ws"), format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"))
            }
            Self::Plain | Self::Nats => ("/".to_owned(), String::new()),
            Self::Nchan => ("/ws".to_owned(), String::new()),
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: bWFpc2hvdS1sb2FkdGVzdA==\r\nSec-WebSocket-Version: 13\r\n{protocol}\r\n"
        )
    }

    /// What is said after it, by one that stood at `seq` before. `None`: the upgrade was all.
    pub fn greeting(&self, number: usize, seq: Option<u64>) -> Option<Vec<u8>> {
        match self {
            Self::Maishou { tokens, epoch, .. } => tokens.get(number).map(|token| {
                let join = match (epoch, seq) {
                    (Some(epoch), Some(seq)) => json!({"token": token, "epoch": epoch, "seq": seq}),
                    _ => json!({"token": token}),
                };
                let join = json!({"id": 1, "join": join}).to_string();
                client_frame(TEXT, join.as_bytes())
            }),
            Self::Nats => Some(client_frame(2, b"CONNECT {\"verbose\":false}\r\nSUB room 1\r\nPING\r\n")),
            Self::Plain | Self::Nchan => None,
        }
    }

    /// Whether this message is the last of the way in.
    pub fn is_welcome(&self, message: &[u8]) -> bool {
        match self {
            Self::Maishou { .. } => {
                message.starts_with(b"{\"snapshot\":")
                    || message.starts_with(b"{\"re\":1,\"ok\":{") && is_resumed(message)
            }
            Self::Nats => message.starts_with(b"PONG"),
            Self::Plain | Self::Nchan => true,
        }
    }
}

fn is_resumed(answer: &[u8]) -> bool {
    memchr::memmem::find(answer, b"\"resumed\":true").is_some()
}

/// A connection of its own over which the messages to everybody go, where the listeners do not say them.
pub struct Publisher {
    stream: TcpStream,
    dialect: Dialect,
    host: SocketAddr,
}

impl Publisher {
    pub fn connect(dialect: &Dialect, address: SocketAddr, publish_at: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(publish_at)?;
        stream.set_nodelay(true)?;
        match dialect {
            Dialect::Plain => {
                stream.write_all(dialect.request(address).replace("GET / ", "GET /publish ").as_bytes())?;
                let read = stream.read(&mut [0; 1_024])?;
                anyhow::ensure!(read > 0, "the publisher was not let in");
            }
            Dialect::Nats => stream.write_all(b"CONNECT {\"verbose\":false}\r\n")?,
            Dialect::Nchan | Dialect::Maishou { .. } => {}
        }
        stream.set_nonblocking(true)?;
        Ok(Self { stream, dialect: dialect.clone(), host: address })
    }

    pub fn publish(&mut self, text: &str) -> anyhow::Result<()> {
        let len = text.len();
        let bytes = match self.dialect {
            Dialect::Plain | Dialect::Maishou { .. } => client_frame(TEXT, text.as_bytes()),
            Dialect::Nats => format!("PUB room {len}\r\n{text}\r\n").into_bytes(),
            Dialect::Nchan => {
                format!("POST /pub HTTP/1.1\r\nHost: {}\r\nContent-Length: {len}\r\n\r\n{text}", self.host).into_bytes()
            }
        };
        self.stream.write_all(&bytes)?;
        // Answers are of no interest, but must not pile up.
        let mut answers = [0; 16 << 10];
        while matches!(self.stream.read(&mut answers), Ok(len) if len > 0) {}
        Ok(())
    }
}
