use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    rc::Rc,
    time::{Duration, Instant},
};

use maishou::{
    id::HoldId,
    protocol::{CloseCode, SUBPROTOCOL},
};
use memchr::memmem;
use mio::net::TcpStream;
use serde::Deserialize;
use serde_json::json;

use super::{
    Plan,
    deeds::{Answer, Deeds, Fate, Next, Pending, Unanswered, What},
    sse::Lines,
};
use crate::{
    cursor::{Cursor, Heard, epoch, fingerprint, frame_span},
    frames::{CLOSE, Frames, PING, PONG, TEXT, client_frame},
    hist::Class,
    stamp,
    tally::Notes,
    witness::{Batch, Likes, Witness},
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

#[derive(Deserialize)]
struct Refusal {
    error: RefusalBody,
}

#[derive(Deserialize)]
struct RefusalBody {
    code: String,
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct You {
    you: Private,
}

#[derive(Deserialize)]
struct Private {
    n: u64,
    at: i64,
    #[serde(rename = "type")]
    kind: String,
    hold: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: HoldId,
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

    /// Most bytes were read by somebody before who stood at the same place: then what they are is known.
    fn read(&mut self, bytes: &[u8], around: &mut Around<'_>) -> Heeded {
        let mark = self.cursor.mark().filter(|_| self.is_in() && self.frames.is_empty());
        let mark = mark.filter(|_| self.kind == Kind::WebSocket).map(|mark| (mark, fingerprint(bytes)));
        if let Some(piece) = mark.and_then(|(mark, print)| around.witness.piece(mark, print)) {
            self.cursor.skip_to(piece.to);
            self.count(&piece.batch, around);
            return Ok(());
        }
        drop(around.witness.batch());
        let heeded = match self.kind {
            Kind::WebSocket => self.read_frames(bytes, around),
            Kind::Sse => self.read_lines(bytes, around),
        };
        let batch = around.witness.batch();
        self.count(&batch, around);
        if let Some(((mark, print), to)) = mark.zip(self.cursor.seq)
            && heeded.is_ok()
            && !batch.is_mixed
            && self.frames.is_empty()
        {
            around.witness.remember(mark, print, to, batch);
        }
        heeded
    }

    fn read_lines(&mut self, bytes: &[u8], around: &mut Around<'_>) -> Heeded {
        let (mut heeded, mut lines) = (Ok(()), std::mem::take(&mut self.lines));
        lines.feed(bytes, |data| {
            if heeded.is_ok() {
                heeded = self.hear(data, around);
            }
        });
        self.lines = lines;
        heeded
    }

    fn read_frames(&mut self, bytes: &[u8], around: &mut Around<'_>) -> Heeded {
        let (mut heeded, mut frames) = (Ok(()), std::mem::take(&mut self.frames));
        frames.feed(bytes, |opcode, payload| {
            if heeded.is_ok() {
                if opcode != TEXT {
                    around.witness.other();
                }
                heeded = match opcode {
                    TEXT => self.hear(payload, around),
                    PING => self.pong(payload),
                    CLOSE => Err(closing(payload)),
                    _ => Ok(()),
                };
            }
        });
        self.frames = frames;
        heeded
    }

    fn pong(&mut self, payload: &[u8]) -> Heeded {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        Ok(stream.write_all(&client_frame(PONG, payload))?)
    }

    fn hear(&mut self, text: &[u8], around: &mut Around<'_>) -> Heeded {
        let heard = self.cursor.hear(text);
        if !matches!(heard, Heard::Frame | Heard::Known) {
            around.witness.other();
        }
        match heard {
            Heard::Frame => self.hear_frame(text, around),
            Heard::Known => around.witness.tally(text),
            Heard::Snapshot => self.hear_snapshot(text, around),
            Heard::Joined => {
                if memmem::find(text, b"\"resumed\":true").is_some() {
                    around.notes.tally.resumed += 1;
                    self.come_in(around);
                }
            }
            Heard::Refused => return Err(refused(text, around.notes)),
            Heard::Answer => self.hear_answer(text, around),
            Heard::Other => self.hear_private(text, around),
            Heard::Gap => {
                around.notes.tally.gaps += 1;
                let what =
                    format!("viewer {} stands at {:?} and got a frame after a gap", self.number, self.cursor.seq);
                around.notes.tally.example(&what, text);
                self.cursor.forget();
                return Err(End::Lost);
            }
            Heard::Repeat => {
                around.notes.tally.repeats += 1;
                around.notes.tally.example(&format!("viewer {} got a frame twice", self.number), text);
            }
            Heard::Strange => around.notes.strange(&format!("viewer {} got no message of ours", self.number), text),
        }
        Ok(())
    }

    fn hear_frame(&mut self, text: &[u8], around: &mut Around<'_>) {
        let (prev, seq) = frame_span(text).expect("the cursor has read it");
        if self.stage == Stage::Joining && self.kind == Kind::Sse {
            // A stream that resumes says nothing but what was missed.
            around.notes.tally.resumed += 1;
            self.come_in(around);
        }
        around.witness.frame(prev, seq, text);
    }

    /// Counts what was read at one time.
    fn count(&mut self, batch: &Batch, around: &mut Around<'_>) {
        self.sum = self.sum.wrapping_add(batch.sum);
        if let Some(likes) = batch.likes {
            self.hear_likes(likes, around.notes);
        }
        if !around.notes.is_measuring() || batch.frames == 0 {
            return;
        }
        let tally = &mut around.notes.tally;
        tally.frames += batch.frames;
        tally.bytes += batch.bytes;
        tally.events += batch.times.len() as u64;
        if !self.is_sampled {
            return;
        }
        let now_us = around.plan.base.now_us();
        for (class, at_us) in &batch.times {
            // What was said while one was away is not late.
            if *at_us >= self.live_since_us {
                around.notes.latency(*class, u64::try_from(now_us - at_us).unwrap_or(0));
            }
        }
        if batch.likes.is_some() {
            self.time_tally(now_us, around.notes);
        }
    }

    fn hear_likes(&mut self, likes: Likes, notes: &mut Notes) {
        if likes.fell || likes.first < self.likes {
            let what = format!("viewer {} was told of fewer likes than the {} before", self.number, self.likes);
            notes.strange(&what, format!("{likes:?}").as_bytes());
        }
        self.likes = likes.last;
    }

    fn time_tally(&mut self, now_us: i64, notes: &mut Notes) {
        if self.tally_at_us >= self.live_since_us {
            notes.latency(Class::Tally, u64::try_from(now_us - self.tally_at_us).unwrap_or(0));
        }
        self.tally_at_us = now_us;
    }

    fn hear_snapshot(&mut self, text: &[u8], around: &mut Around<'_>) {
        around.notes.tally.snapshots += 1;
        let seq = self.cursor.seq.unwrap_or(0);
        around.witness.snapshot(seq, text);
        (self.from, self.sum) = (seq, 0);
        let name = epoch(text).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        if self.epoch.as_deref() != Some(name) {
            self.epoch = Some(Rc::from(name));
        }
        if self.stage == Stage::Joining {
            self.come_in(around);
        }
    }

    fn come_in(&mut self, around: &mut Around<'_>) {
        let tally = &mut around.notes.tally;
        tally.joined += u64::from(!self.has_been_in);
        tally.returned += u64::from(self.has_been_in);
        self.has_been_in = true;
        self.stage = Stage::Watching;
        self.live_since_us = around.plan.base.now_us();
        if self.network != Network::Slow {
            let took = self.since.elapsed();
            around.notes.arrived(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    fn hear_answer(&mut self, text: &[u8], around: &mut Around<'_>) {
        let answer: Answer = match serde_json::from_slice(text) {
            Ok(answer) => answer,
            Err(_) => return around.notes.strange("an answer cannot be read", text),
        };
        let Some(at) = self.pending.iter().position(|asked| asked.id == answer.re) else {
            return around.notes.strange("an answer to what nobody asked, or a second one", text);
        };
        let asked = self.pending.swap_remove(at);
        match around.deeds.answered(self.number, &asked, answer, around.notes) {
            Ok(Next::Nothing) => {}
            Ok(Next::Decide(hold)) => around.follow_ups.push((self.number, FollowUp::Decide(hold))),
            Ok(Next::Again(wait)) => around.follow_ups.push((self.number, FollowUp::Again(asked.what.clone(), wait))),
            Err(why) => around.notes.strange(&why, text),
        }
        let is_told = memmem::find(text, b"\"ok\":").is_some();
        self.you_due += u64::from(is_told && !matches!(asked.what, What::Comment | What::Like));
    }

    fn hear_private(&mut self, text: &[u8], around: &mut Around<'_>) {
        // The other thing said is that the token ends, which those of a run do not.
        let Ok(You { you }) = serde_json::from_slice(text) else { return };
        let notes = &mut *around.notes;
        notes.tally.private += 1;
        if around.plan.is_alone && you.n != self.you + 1 {
            notes.tally.private_gaps += 1;
            notes.tally.example(&format!("viewer {} had private message {}", self.number, self.you), text);
        }
        self.you = self.you.max(you.n);
        if you.kind == "hold.expired"
            && let Some(hold) = you.hold
        {
            self.you_due += 1;
            around.deeds.came_to(hold.id, Fate::Expired);
        }
        let at_us = you.at * 1_000 - around.plan.server_ahead_us;
        if at_us >= self.live_since_us && self.network == Network::Good {
            notes.latency(Class::Private, u64::try_from(around.plan.base.now_us() - at_us).unwrap_or(0));
        }
    }
}

fn closing(payload: &[u8]) -> End {
    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
    if code != CloseCode::Bye.number() {
        return End::Closed(code);
    }
    let reason = payload.get(2..).and_then(|reason| std::str::from_utf8(reason).ok());
    End::PutOff(Duration::from_millis(reason.and_then(|reason| reason.parse().ok()).unwrap_or(1_000)))
}

fn refused(text: &[u8], notes: &mut Notes) -> End {
    match serde_json::from_slice::<Refusal>(text) {
        Ok(Refusal { error }) if matches!(&*error.code, "busy" | "rate_limited") => {
            End::PutOff(Duration::from_millis(error.retry_after_ms.unwrap_or(1_000)))
        }
        _ => {
            notes.tally.example("a join was refused", text);
            End::Refused
        }
    }
}

fn retry_after(head: &[u8]) -> Duration {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let seconds = head.lines().find_map(|line| line.strip_prefix("retry-after:")?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

/// The comment of an audience, with the time at which it was to be said.
pub fn comment(number: u64, us: i64) -> String {
    const WORDS: [&str; 6] = [
        "好看！",
        "How much is the blue one?",
        "主播试一下这个颜色",
        "Just ordered two",
        "有没有大一号的？",
        "哈哈哈哈",
    ];
    stamp::write(WORDS[(number % 6) as usize], us)
}
