mod hear;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    rc::Rc,
    time::{Duration, Instant},
};

use maishou::{id::HoldId, protocol::SUBPROTOCOL};
use memchr::memmem;
use mio::net::TcpStream;
use serde_json::json;

use super::{
    Plan,
    deeds::{Deeds, Pending, Unanswered, What},
    sse::Lines,
};
use crate::{
    cursor::Cursor,
    frames::{CLOSE, Frames, TEXT, client_frame},
    tally::Notes,
    witness::Witness,
};

/// The longest head of an answer that is read.
const HEAD_LEN_MAX: usize = 8 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    WebSocket,
    Sse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Good,
    /// Reads only so much in a second.
    Slow,
    /// Breaks now and then.
    Flaky,
}

/// One cheap viewer: a socket, the number it stands at, and half a frame now and then.
pub struct Viewer {
    pub number: usize,
    pub kind: Kind,
    pub network: Network,
    stream: Option<TcpStream>,
    stage: Stage,
    head: Vec<u8>,
    frames: Frames,
    lines: Lines,
    cursor: Cursor,
    epoch: Option<Rc<str>>,
    /// The event of the last snapshot, and the sum of the prints of all frames heard since.
    from: u64,
    sum: u64,
    /// When this connection was to begin, and since when it is complete.
    since: Instant,
    live_since_us: i64,
    tally_at_us: i64,
    /// The likes that were told last over this connection.
    likes: u64,
    is_sampled: bool,
    pub has_been_in: bool,
    /// Grows with every connection, so that what was meant for an old one is not done to a new one.
    pub connection: u32,
    next_id: u64,
    pending: Vec<Pending>,
    /// The last private message, and how many there must be at least.
    pub you: u64,
    pub you_due: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Away,
    Connecting,
    Upgrading,
    Joining,
    Watching,
}

/// What a viewer needs of the crowd to look at her socket.
pub struct Around<'a> {
    pub plan: &'a Plan,
    pub notes: &'a mut Notes,
    pub witness: &'a mut Witness,
    pub deeds: &'a mut Deeds,
    /// Holds to decide on, and things to do again.
    pub follow_ups: &'a mut Vec<(usize, FollowUp)>,
}

pub enum FollowUp {
    Decide(HoldId),
    Again(What, Duration),
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Lost,
    /// Told to come again not before this.
    PutOff(Duration),
    Closed(u16),
    Refused,
}

type Heeded = Result<(), End>;

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

impl Viewer {
    pub fn new(number: usize, kind: Kind, network: Network, is_sampled: bool) -> Self {
        Self {
            number,
            kind,
            network,
            stream: None,
            stage: Stage::Away,
            head: Vec::new(),
            frames: Frames::default(),
            lines: Lines::default(),
            cursor: Cursor::default(),
            epoch: None,
            from: 0,
            sum: 0,
            since: Instant::now(),
            live_since_us: i64::MAX,
            tally_at_us: 0,
            likes: 0,
            is_sampled: is_sampled && network != Network::Slow,
            has_been_in: false,
            connection: 0,
            next_id: 2,
            pending: Vec::new(),
            you: 0,
            you_due: 0,
        }
    }

    pub fn is_in(&self) -> bool {
        self.stage == Stage::Watching
    }

    pub fn is_away(&self) -> bool {
        self.stage == Stage::Away
    }

    pub fn open(&self) -> usize {
        self.pending.len()
    }

    /// From which snapshot to which event, and the sum of what was heard between.
    pub fn stands(&self) -> Option<(u64, u64, u64)> {
        Some((self.from, self.cursor.seq.filter(|_| self.is_in())?, self.sum))
    }

    /// Takes a fresh connection, which was to begin at `since`.
    pub fn connect(&mut self, stream: TcpStream, since: Instant) {
        (self.stream, self.since, self.stage) = (Some(stream), since, Stage::Connecting);
        (self.frames, self.lines) = Default::default();
        self.head.clear();
        self.cursor.reconnect();
        (self.next_id, self.likes) = (2, 0);
        self.connection = self.connection.wrapping_add(1);
    }

    /// Says something that was to be said at `since`.
    pub fn ask(&mut self, what: What, text: &str, since: Instant) -> io::Result<()> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.stage == Stage::Watching) else {
            return Err(ErrorKind::NotConnected.into());
        };
        let command = what.command(self.next_id, text);
        stream.write_all(&client_frame(TEXT, command.as_bytes()))?;
        let is_timed = self.network != Network::Slow;
        self.pending.push(Pending { id: self.next_id, since, what, is_timed });
        self.next_id += 1;
        Ok(())
    }

    /// Ends the connection, with a farewell or without. What was asked over it stays without an answer.
    pub fn end(&mut self, is_polite: bool, notes: &mut Notes, deeds: &mut Deeds) {
        if let Some(mut stream) = self.stream.take() {
            if is_polite && self.kind == Kind::WebSocket && self.stage == Stage::Watching {
                let _ = stream.write_all(&client_frame(CLOSE, &1000u16.to_be_bytes()));
            }
            let _ = stream.shutdown(Shutdown::Both);
        }
        for asked in self.pending.drain(..) {
            notes.tally.outcome(asked.what.class(), "no_answer");
            deeds.unanswered.push(Unanswered { who: self.number, what: asked.what });
        }
        self.stage = Stage::Away;
    }

    /// Reads at most what `buffer` takes; an ordinary viewer reads until nothing is there.
    pub fn look(&mut self, around: &mut Around<'_>, buffer: &mut [u8]) -> Heeded {
        if self.stage == Stage::Connecting && !self.connected(around.plan)? {
            return Ok(());
        }
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            match stream.read(buffer) {
                Ok(0) => return Err(End::Lost),
                Ok(len) => {
                    self.receive(&buffer[..len], around)?;
                    if len < buffer.len() || self.network == Network::Slow {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks for the room once the connection is there.
    fn connected(&mut self, plan: &Plan) -> Result<bool, End> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        if stream.take_error()?.is_some() {
            return Err(End::Lost);
        }
        match stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let (room, host, token) = (&plan.room, plan.server, &plan.tokens[self.number]);
        let request = match (self.kind, &self.epoch, self.cursor.seq) {
            (Kind::WebSocket, ..) => format!(
                "GET /v1/rooms/{room}/ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: bWFpc2hvdS1sb2FkdGVzdA==\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
            ),
            // By HTTP/1.0 the stream comes without chunks.
            (Kind::Sse, Some(epoch), Some(seq)) => format!(
                "GET /v1/rooms/{room}/events HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
                 Last-Event-ID: {epoch}:{seq}\r\n\r\n"
            ),
            (Kind::Sse, ..) => {
                format!("GET /v1/rooms/{room}/events HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n")
            }
        };
        stream.write_all(request.as_bytes())?;
        self.stage = Stage::Upgrading;
        Ok(true)
    }

    fn receive(&mut self, bytes: &[u8], around: &mut Around<'_>) -> Heeded {
        if self.stage != Stage::Upgrading {
            return self.read(bytes, around);
        }
        self.head.extend_from_slice(bytes);
        let Some(end) = memmem::find(&self.head, b"\r\n\r\n") else {
            return if self.head.len() > HEAD_LEN_MAX { Err(End::Lost) } else { Ok(()) };
        };
        let head = std::mem::take(&mut self.head);
        let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        match (self.kind, status) {
            (Kind::WebSocket, b"101") => self.join(&around.plan.tokens[self.number])?,
            (Kind::Sse, b"200") => self.stage = Stage::Joining,
            (_, b"429" | b"503") => return Err(End::PutOff(retry_after(&head))),
            _ => {
                around.notes.tally.example("an upgrade was refused", &head);
                return Err(End::Refused);
            }
        }
        self.read(&head[end + 4..], around)
    }

    fn join(&mut self, token: &str) -> io::Result<()> {
        let join = match (&self.epoch, self.cursor.seq) {
            (Some(epoch), Some(seq)) => json!({"token": token, "epoch": &**epoch, "seq": seq, "you": self.you}),
            _ => json!({"token": token}),
        };
        let join = json!({"id": 1, "join": join}).to_string();
        self.stage = Stage::Joining;
        self.stream.as_mut().map_or(Ok(()), |stream| stream.write_all(&client_frame(TEXT, join.as_bytes())))
    }
}

fn retry_after(head: &[u8]) -> Duration {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let seconds = head.lines().find_map(|line| line.strip_prefix("retry-after:")?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}
