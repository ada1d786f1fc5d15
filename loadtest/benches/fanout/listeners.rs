//! Thousands of listeners on the calling thread, and what they say and hear.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use maishou_loadtest::{
    crowd::connect,
    cursor::{Cursor, Heard as Rule},
    frames::{CLOSE, Frames, PING, PONG, TEXT, client_frame},
};
use memchr::memmem;
use mio::{Events, Interest, Poll, Token};

use crate::{
    dialect::{Dialect, Publisher, STAMP},
    link::{Link, Trust},
};

/// One listener in so many has its messages counted and timed.
const SAMPLE: usize = 8;
/// Listeners that are on their way in at one time.
const ARRIVING_MAX: usize = 256;
const ARRIVAL_TIME: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 256 << 10;
/// A poll that finds less than this is followed by a nap: a client that wakes for each message makes the server pay
/// for the waking.
const BUSY_EVENTS: usize = 256;
const NAP: Duration = Duration::from_micros(300);

pub struct Listeners {
    dialect: Dialect,
    poll: Poll,
    all: Vec<Listener>,
    publisher: Option<Publisher>,
    trust: Option<Trust>,
    farewells: Vec<Farewell>,
    buffer: Vec<u8>,
    /// Messages said so far, and the listener who says the next one.
    said: u64,
    heard: Heard,
}

/// The server closed a connection.
#[derive(Clone, Copy)]
pub struct Farewell {
    pub listener: usize,
    pub at: Instant,
    pub code: u16,
    /// The time to wait that its reason names.
    pub wait: Duration,
}

struct Listener {
    link: Link,
    stage: Stage,
    frames: Frames,
    cursor: Cursor,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Greeting,
    In,
    Gone,
}

/// What is said to everybody while listening.
#[derive(Clone, Copy)]
pub struct Talk {
    pub per_second: f64,
    /// Of a text, stamp included.
    pub text_len: usize,
    /// Listeners that speak in turn, where there is no publisher.
    pub speakers: usize,
}

pub const SILENCE: Talk = Talk { per_second: 0.0, text_len: 0, speakers: 0 };

/// What came of it.
#[derive(Clone)]
pub struct Heard {
    pub said: u64,
    /// Stamped messages, of all listeners, reckoned from the sampled ones.
    pub deliveries: u64,
    /// Bytes of all listeners.
    pub bytes: u64,
    /// Reads that brought something.
    pub reads: u64,
    /// Frames against the rules, and connections lost.
    pub broken: u64,
    /// In microseconds from the time at which a message was to be sent.
    pub latency: Histogram<u64>,
    /// In microseconds from the time in a stock event, where there are any.
    pub stock: Histogram<u64>,
}

impl Default for Heard {
    fn default() -> Self {
        let hist = || Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are right");
        let (latency, stock) = (hist(), hist());
        Self { said: 0, deliveries: 0, bytes: 0, reads: 0, broken: 0, latency, stock }
    }
}

impl Listeners {
    /// Lets `count` in, as fast as the server takes them, and waits until all are.
    pub fn arrive(dialect: Dialect, address: SocketAddr, count: usize) -> anyhow::Result<Self> {
        Self::arrive_over(dialect, address, count, None)
    }

    /// The same over TLS.
    pub fn arrive_over(
        dialect: Dialect,
        address: SocketAddr,
        count: usize,
        trust: Option<Trust>,
    ) -> anyhow::Result<Self> {
        let mut listeners = Self {
            dialect,
            poll: Poll::new()?,
            all: Vec::with_capacity(count),
            publisher: None,
            trust,
            farewells: Vec::new(),
            buffer: vec![0; READ_BYTES],
            said: 0,
            heard: Heard::default(),
        };
        let mut events = Events::with_capacity(2_048);
        let (began, mut in_already) = (Instant::now(), 0);
        while in_already < count {
            while listeners.all.len() < count && listeners.all.len() - in_already < ARRIVING_MAX {
                listeners.let_in(address)?;
            }
            listeners.poll.poll(&mut events, Some(Duration::from_millis(1)))?;
            for event in &events {
                let number = event.token().0;
                let was = listeners.all[number].stage;
                listeners.look(number);
                let is = listeners.all[number].stage;
                in_already += usize::from(was != Stage::In && is == Stage::In);
                if is == Stage::Gone {
                    bail!("listener {number} was not let in");
                }
            }
            if began.elapsed() > ARRIVAL_TIME {
                bail!("only {in_already} of {count} are in after {ARRIVAL_TIME:?}");
            }
        }
        Ok(listeners)
    }

    /// These and those together; none of those is heard of twice.
    pub fn and(mut self, others: Self) -> anyhow::Result<Self> {
        for mut listener in others.all {
            others.poll.registry().deregister(&mut listener.link.stream)?;
            let token = Token(self.all.len());
            self.poll.registry().register(&mut listener.link.stream, token, Interest::READABLE | Interest::WRITABLE)?;
            self.all.push(listener);
        }
        Ok(self)
    }

    /// What is said goes over a connection of its own.
    pub fn publish_at(&mut self, address: SocketAddr, publish_at: SocketAddr) -> anyhow::Result<()> {
        self.publisher = Some(Publisher::connect(&self.dialect, address, publish_at)?);
        Ok(())
    }

    fn let_in(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let number = self.all.len();
        let link = self.link(address, number)?;
        let (frames, cursor) = Default::default();
        self.all.push(Listener { link, stage: Stage::Connecting, frames, cursor });
        Ok(())
    }

    fn link(&self, address: SocketAddr, number: usize) -> anyhow::Result<Link> {
        let mut stream = connect(address, number).context("a listener cannot connect")?;
        self.poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        Link::new(stream, self.trust.as_ref())
    }

    /// One that was sent away comes back, and says where it stood.
    pub fn come_back(&mut self, number: usize, address: SocketAddr) -> anyhow::Result<()> {
        let link = self.link(address, number)?;
        let listener = &mut self.all[number];
        (listener.link, listener.stage, listener.frames) = (link, Stage::Connecting, Frames::default());
        Ok(())
    }

    /// Who comes back says where it stood in the log of this epoch.
    pub fn remember(&mut self, log: String) {
        if let Dialect::Maishou { epoch, .. } = &mut self.dialect {
            *epoch = Some(log);
        }
    }

    /// Connections that the server has closed since this was asked last.
    pub fn farewells(&mut self) -> Vec<Farewell> {
        std::mem::take(&mut self.farewells)
    }

    /// How many are in, and at which event they stand, from the first to the last.
    pub fn standing(&self) -> (usize, Option<u64>, Option<u64>) {
        let here = || self.all.iter().filter(|listener| listener.stage == Stage::In);
        let seqs = || here().filter_map(|listener| listener.cursor.seq);
        (here().count(), seqs().min(), seqs().max())
    }

    /// The last `count` listeners read nothing any more.
    pub fn stall(&mut self, count: usize) -> anyhow::Result<()> {
        let from = self.all.len() - count;
        for listener in &mut self.all[from..] {
            self.poll.registry().deregister(&mut listener.link.stream)?;
        }
        Ok(())
    }

    /// Listens for so long, while `talk` goes on and `aside` is done now and then.
    pub fn listen(
        &mut self,
        time: Duration,
        talk: Talk,
        mut aside: impl FnMut(Duration) -> anyhow::Result<()>,
    ) -> anyhow::Result<Heard> {
        self.heard = Heard::default();
        let mut events = Events::with_capacity(2_048);
        let (began, began_us) = (Instant::now(), now_us());
        while began.elapsed() < time {
            let due = (began.elapsed().as_secs_f64() * talk.per_second) as u64;
            while self.heard.said < due {
                let intended = began_us + ((self.heard.said + 1) as f64 * 1e6 / talk.per_second) as u64;
                self.say(intended, talk)?;
            }
            aside(began.elapsed())?;
            self.poll.poll(&mut events, Some(Duration::from_millis(1)))?;
            for event in &events {
                self.look(event.token().0);
            }
            if events.iter().count() < BUSY_EVENTS {
                thread::park_timeout(NAP);
            }
        }
        Ok(self.heard.clone())
    }

    fn say(&mut self, intended_us: u64, talk: Talk) -> anyhow::Result<()> {
        let stamp = format!("stamp={intended_us};{}", self.said);
        let text = format!("{stamp:x<len$}", len = talk.text_len);
        match &mut self.publisher {
            Some(publisher) => publisher.publish(&text)?,
            None => {
                let speaker = self.said as usize % talk.speakers.max(1);
                let comment = serde_json::json!({"id": 2, "comment": {"text": text}}).to_string();
                self.all[speaker].link.say(&client_frame(TEXT, comment.as_bytes()))?;
            }
        }
        self.said += 1;
        self.heard.said += 1;
        Ok(())
    }

    fn look(&mut self, number: usize) {
        let Self { dialect, all, buffer, heard, farewells, .. } = self;
        let listener = &mut all[number];
        let known = farewells.len();
        if listener.stage != Stage::Gone && listener.look(dialect, number, buffer, heard, farewells).is_err() {
            listener.stage = Stage::Gone;
            heard.broken += u64::from(farewells.len() == known);
        }
    }
}

impl Listener {
    fn look(
        &mut self,
        dialect: &Dialect,
        number: usize,
        buffer: &mut [u8],
        heard: &mut Heard,
        farewells: &mut Vec<Farewell>,
    ) -> io::Result<()> {
        if self.stage == Stage::Connecting {
            match self.link.stream.peer_addr() {
                Ok(peer) => self.link.say(dialect.request(peer).as_bytes())?,
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error),
            }
            self.stage = Stage::Upgrading;
        }
        loop {
            match self.link.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(len) => {
                    heard.reads += 1;
                    heard.bytes += len as u64;
                    self.hear(dialect, number, &buffer[..len], heard, farewells)?;
                    if len < buffer.len() && self.link.short_is_empty() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn hear(
        &mut self,
        dialect: &Dialect,
        number: usize,
        mut bytes: &[u8],
        heard: &mut Heard,
        farewells: &mut Vec<Farewell>,
    ) -> io::Result<()> {
        if self.stage == Stage::Upgrading {
            let end = memmem::find(bytes, b"\r\n\r\n").filter(|_| bytes.starts_with(b"HTTP/1.1 101 "));
            let Some(end) = end else { return Err(ErrorKind::ConnectionRefused.into()) };
            bytes = &bytes[end + 4..];
            self.stage = match dialect.greeting(number, self.cursor.seq) {
                Some(greeting) => {
                    self.link.say(&greeting)?;
                    Stage::Greeting
                }
                None => Stage::In,
            };
        }
        let Self { link, stage, frames, cursor } = self;
        let (is_sampled, mut outcome) = (number.is_multiple_of(SAMPLE), Ok(()));
        frames.feed(bytes, |opcode, payload| match opcode {
            PING => outcome = link.say(&client_frame(PONG, payload)),
            CLOSE => {
                let (code, reason) = payload.split_at(payload.len().min(2));
                let code = code.try_into().map_or(1005, u16::from_be_bytes);
                let wait = Duration::from_millis(number_of(reason));
                farewells.push(Farewell { listener: number, at: Instant::now(), code, wait });
                drop(link.say(&client_frame(CLOSE, payload)));
                outcome = Err(ErrorKind::ConnectionAborted.into());
            }
            _ => {
                if *stage == Stage::Greeting && dialect.is_welcome(payload) {
                    *stage = Stage::In;
                }
                if matches!(dialect, Dialect::Maishou { .. }) {
                    heard.broken += u64::from(matches!(cursor.hear(payload), Rule::Gap | Rule::Strange));
                }
                if is_sampled {
                    heard.message(payload);
                }
            }
        });
        outcome
    }
}

impl Heard {
    fn message(&mut self, payload: &[u8]) {
        let now = now_us();
        for at in memmem::find_iter(payload, STAMP) {
            self.deliveries += SAMPLE as u64;
            self.latency.saturating_record(now.saturating_sub(number_of(&payload[at + STAMP.len()..])).max(1));
        }
        for stock in memmem::find_iter(payload, br#""type":"stock""#) {
            if let Some(at) = memmem::rfind(&payload[..stock], br#""at":"#) {
                let at_us = number_of(&payload[at + 5..]) * 1_000;
                self.stock.saturating_record(now.saturating_sub(at_us).max(1));
            }
        }
    }
}

fn number_of(digits: &[u8]) -> u64 {
    digits.iter().take_while(|b| b.is_ascii_digit()).fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

#[expect(clippy::disallowed_methods, reason = "two processes compare times to the microsecond")]
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(since.as_micros()).expect("it is before the year 500,000")
}
