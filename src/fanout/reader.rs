use std::{future::poll_fn, io::ErrorKind, pin::Pin, rc::Rc, time::Duration};

use tokio::{
    io::Interest,
    task::consume_budget,
    time::{Instant, timeout},
};

use crate::{
    fanout::{
        Inbound,
        connection::{Connection, VANISHED},
        incoming::{HEADER_LEN_MAX, Incoming, Said, Terms, Wrong},
        inflate::Inflate,
        mailbox::Item,
        shard::Shard,
    },
    protocol::CloseCode,
};

/// Bytes that a read may bring beyond the longest message.
const READ_BEYOND: usize = 4 << 10;

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
/// and only its answer to the close is waited for. `rest` is what was read of it before.
pub(super) async fn attend(
    shard: Rc<Shard>,
    connection: Rc<Connection>,
    mut rest: Vec<u8>,
    mut inbound: Option<Box<dyn Inbound>>,
) {
    if let Some(inbound) = &mut inbound {
        inbound.open(shard.outlet(&connection));
    }

    match listen(&shard, &connection, &mut rest, &mut inbound).await {
        // Boxed, as is what follows: every connection would carry them in its task, and few come here at a time.
        Ended::Closed => Box::pin(written(&shard, &connection)).await,
        Ended::Gone => {}
        Ended::Broken(how) => {
            connection.mailbox.put(Item::Close { code: CloseCode::Protocol, reason: how.to_owned() });
            Box::pin(written(&shard, &connection)).await;
            connection.sink.end();
            Box::pin(discard(&connection)).await;
        }
    }

    let code = connection.mailbox.ended().unwrap_or(VANISHED);
    shard.remove(&connection, code);
    if let Some(inbound) = &mut inbound {
        inbound.closed(code);
    }
}

/// Listens until the client ends or breaks the protocol. `rest` is what was read of a frame that is not whole yet.
async fn listen(
    shard: &Rc<Shard>,
    connection: &Connection,
    rest: &mut Vec<u8>,
    inbound: &mut Option<Box<dyn Inbound>>,
) -> Ended {
    let (mut incoming, stream) = (Incoming::default(), connection.sink.stream());
    loop {
        let heard = shard.reading.borrow_mut().next(connection, &mut incoming, rest, |said| {
            connection.heard(Instant::now());
            hear(shard, connection, said, inbound)
        });
        match heard {
            // Unlike `readable`, this keeps its place with the socket, not in the task.
            Ok(None) if poll_fn(|context| stream.poll_read_ready(context)).await.is_err() => return Ended::Gone,
            Ok(None | Some(Heard::All)) => {}
            Ok(Some(Heard::Work(work))) => {
                work.await;
                // A client that sends many at once fills the socket before it fills the mailbox.
                shard.pump(connection, false, Instant::now());
            }
            Ok(Some(Heard::Close)) => return Ended::Closed,
            Err(ended) => return ended,
        }
        consume_budget().await;
    }
}

/// What a message leaves to be done, when the buffer it was read from is free again.
enum Heard<'a> {
    All,
    Work(Pin<Box<dyn Future<Output = ()> + Send + 'a>>),
    Close,
}

fn hear<'a>(
    shard: &Rc<Shard>,
    connection: &Connection,
    said: Said<'_>,
    inbound: &'a mut Option<Box<dyn Inbound>>,
) -> Heard<'a> {
    match said {
        Said::Text(text) => {
            shard.counters.messages_in.add(1);
            let is_open = connection.mailbox.ended().is_none();
            match inbound.as_mut().filter(|_| is_open) {
                Some(inbound) => Heard::Work(inbound.message(&text)),
                None => Heard::All,
            }
        }
        Said::Ping(payload) => {
            connection.pong(payload);
            shard.pump(connection, false, Instant::now());
            Heard::All
        }
        Said::Pong => Heard::All,
        Said::Close(code) => {
            connection.answer_close(shard, code);
            Heard::Close
        }
    }
}

/// The one buffer that all connections of a shard are read into. A connection keeps only what is left over of a frame
/// that is not whole yet.
pub(super) struct Reading {
    buffer: Vec<u8>,
    inflate: Inflate,
    message_bytes_max: usize,
}

impl Reading {
    pub(super) fn new(message_bytes_max: usize) -> Self {
        let len = message_bytes_max + HEADER_LEN_MAX + READ_BEYOND;
        Self { buffer: vec![0; len], inflate: Inflate::default(), message_bytes_max }
    }

    /// Has what the client said next heard, if it is whole in `rest` and what has arrived. `None`: more has to come.
    fn next<T>(
        &mut self,
        connection: &Connection,
        incoming: &mut Incoming,
        rest: &mut Vec<u8>,
        hear: impl FnOnce(Said<'_>) -> T,
    ) -> Result<Option<T>, Ended> {
        let Self { buffer, inflate, message_bytes_max } = self;
        let terms = Terms { message_bytes_max: *message_bytes_max, deflates: connection.deflates };
        let (mut from, mut to) = (0, rest.len());
        buffer[..to].copy_from_slice(rest);
        loop {
            match incoming.frame(&mut buffer[from..to], terms, inflate) {
                Err(Wrong(how)) => return Err(Ended::Broken(how)),
                Ok(Some((len, None))) => from += len,
                Ok(Some((len, Some(said)))) => {
                    let heard = hear(said);
                    keep(rest, &buffer[from + len..to]);
                    return Ok(Some(heard));
                }
                Ok(None) => {
                    buffer.copy_within(from..to, 0);
                    (from, to) = (0, to - from);
                    match connection.sink.read(&mut buffer[to..]) {
                        Ok(len @ 1..) => to += len,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            keep(rest, &buffer[..to]);
                            return Ok(None);
                        }
                        _ => return Err(Ended::Gone),
                    }
                }
            }
        }
    }
}

/// Between frames, which is nearly always, nothing is kept and no memory is held.
fn keep(rest: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        *rest = Vec::new();
    } else {
        rest.clear();
        rest.extend_from_slice(bytes);
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
    let mut unheard = [0; 512];
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
