use std::{
    io::{self, ErrorKind, Read, Write},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::Interest,
    task::consume_budget,
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    error::ProtocolError,
    protocol::{Role, WebSocket, WebSocketConfig},
};

use crate::{
    fanout::{
        Config, Inbound,
        connection::{Connection, VANISHED},
        mailbox::Item,
        shard::Shard,
    },
    protocol::CloseCode,
    ring::OpCode,
};

/// Room for the control frames that tungstenite answers with; they are taken from it at once.
const CONTROL_BYTES_MAX: usize = 512;

/// Why reading ended.
enum Ended {
    /// The client closed, or answered our close.
    Closed,
    /// The socket is at its end.
    Gone,
    /// The client broke the protocol in this way.
    Broken(&'static str),
}

/// Reads one connection from its first to its last byte, and takes it away then. Without `inbound` it was turned away,
/// and only its answer to the close is waited for.
pub(super) async fn attend(
    shard: Rc<Shard>,
    connection: Rc<Connection>,
    read_ahead: Bytes,
    mut inbound: Option<Box<dyn Inbound>>,
) {
    if let Some(inbound) = &mut inbound {
        inbound.open(shard.outlet(&connection));
    }

    let ears = Ears { shard: &shard, connection: &connection };
    let config = websocket_config(&shard.config);
    let mut websocket = WebSocket::from_partially_read(ears, read_ahead.into(), Role::Server, Some(config));
    match listen(&mut websocket, &mut inbound).await {
        Ended::Closed => written(&shard, &connection).await,
        Ended::Gone => {}
        Ended::Broken(how) => {
            connection.mailbox.put(Item::Close { code: CloseCode::Protocol, reason: how.to_owned() });
            written(&shard, &connection).await;
            connection.sink.end();
            discard(&connection).await;
        }
    }

    let code = connection.mailbox.ended().unwrap_or(VANISHED);
    shard.remove(&connection, code);
    if let Some(inbound) = &mut inbound {
        inbound.closed(code);
    }
}

fn websocket_config(config: &Config) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(config.read_buffer_bytes)
        .write_buffer_size(0)
        .max_write_buffer_size(CONTROL_BYTES_MAX)
        .max_message_size(Some(config.message_bytes_max))
        .max_frame_size(Some(config.message_bytes_max))
}

async fn listen(websocket: &mut WebSocket<Ears<'_>>, inbound: &mut Option<Box<dyn Inbound>>) -> Ended {
    loop {
        let message = match websocket.read() {
            Ok(message) => message,
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                let stream = websocket.get_ref().connection.sink.stream();
                match stream.ready(Interest::READABLE).await {
                    Ok(_) => continue,
                    Err(_) => return Ended::Gone,
                }
            }
            Err(error) => return ended(&error),
        };

        let Ears { shard, connection } = *websocket.get_ref();
        connection.heard(Instant::now());
        match message {
            Message::Text(text) => {
                shard.counters.messages_in.add(1);
                let is_open = connection.mailbox.ended().is_none();
                if let Some(inbound) = inbound.as_mut().filter(|_| is_open) {
                    inbound.message(text.as_str().to_owned()).await;
                    // A client that sends many at once fills the socket before it fills the mailbox.
                    shard.pump(connection, false, Instant::now());
                }
            }
            Message::Binary(_) => return Ended::Broken("messages are text"),
            Message::Close(frame) => connection.answer_close(shard, frame.map(|frame| frame.code.into())),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        consume_budget().await;
    }
}

fn ended(error: &Error) -> Ended {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Ended::Closed,
        Error::Io(_) | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ended::Gone,
        Error::Capacity(_) => Ended::Broken("a message is too long"),
        Error::Utf8(_) => Ended::Broken("a text is not UTF-8"),
        _ => Ended::Broken("not as RFC 6455 has it"),
    }
}

/// Waits until all that was said is with the kernel.
async fn written(shard: &Rc<Shard>, connection: &Connection) {
    let writing = async {
        loop {
            shard.pump(connection, false, Instant::now());
            if connection.is_written() || connection.sink.stream().ready(Interest::WRITABLE).await.is_err() {
                return;
            }
            consume_budget().await;
        }
    };
    let _ = timeout(Duration::from_secs(shard.config.close_seconds), writing).await;
}

/// Reads on without listening until the client ends too: its unread bytes would reset the connection, and the close
/// would be lost on it. The deadline of the close ends it.
async fn discard(connection: &Connection) {
    // Not in the future itself: every connection would carry it, and few come here.
    let mut unheard = vec![0; 512];
    loop {
        match connection.sink.read(&mut unheard) {
            Ok(0) => return,
            Ok(_) => consume_budget().await,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if connection.sink.stream().ready(Interest::READABLE).await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// A connection as tungstenite sees it: it reads the socket, and what it writes, which are control frames only, is
/// handed to the one writer.
struct Ears<'a> {
    shard: &'a Rc<Shard>,
    connection: &'a Rc<Connection>,
}

impl Read for Ears<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.connection.sink.read(into)
    }
}

impl Write for Ears<'_> {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        let mut left = frames;
        // A control frame of a server: two bytes of header, the second of which is the length.
        while let &[first, len, ref after @ ..] = left {
            let (payload, next) = after.split_at(after.len().min(len as usize));
            if first & 0x0F == OpCode::Pong as u8 {
                self.connection.pong(payload);
            }
            left = next;
        }
        self.shard.pump(self.connection, false, Instant::now());
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
