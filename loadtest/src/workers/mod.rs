//! Several processes or machines as one audience.
//!
//! The coordinator connects to each worker, measures how far its clock is ahead, and gives it its part of the plan.
//! Those who watch the video come when it is there, an equal part at each. Lines of JSON go both ways: orders to the worker, its count every tenth of a second and its seconds back, and in
//! the end all it saw. Latencies travel as `[value, count]`, so that sums are exact. A worker obeys who knows its key,
//! one run at a time; it belongs on a network of one's own.

mod remote;
mod worker;

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use maishou::id::{RoomId, SkuId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    crowd::{Outcome, Plan},
    rtc::{Seen, WatchPlan, Watching},
    scenario::Scenario,
    stamp::Timebase,
    tally::{Second, Tally},
};

pub use remote::Remote;
pub use worker::{Serve, serve};

const VERSION: u32 = 2;
const KEY_VARIABLE: &str = "MAISHOU_WORKER_KEY";
/// The longest line: an outcome of a long run.
const LINE_LEN_MAX: u64 = 1 << 30;
const ANSWERS_IN: Duration = Duration::from_secs(30);

/// What a coordinator says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    Hello {
        version: u32,
        key: String,
    },
    /// Answered with the worker's own time at once.
    Time,
    Start {
        part: Box<Share>,
        ahead_us: i64,
    },
    /// Microseconds since 1970 by the coordinator's clock.
    Begin {
        at_us: i64,
    },
    /// Those come who watch the video.
    Watch {
        plan: Box<WatchPlan>,
    },
    Quiet,
    Stop,
}

/// What a worker says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Welcome,
    Refused { why: String },
    Time { us: i64 },
    Started,
    Now { tally: Box<Tally>, seconds: Vec<Second>, stands: (u64, u64), watching: Watching },
    Done { outcome: Box<Outcome>, seen: Option<Box<Seen>> },
}

/// A plan on the wire: without the clock, which is the worker's own.
#[derive(Serialize, Deserialize)]
struct Share {
    server: SocketAddr,
    room: RoomId,
    scenario: Scenario,
    tokens: Vec<String>,
    websocket: usize,
    share: f64,
    goods: Vec<Vec<SkuId>>,
    run: String,
    server_ahead_us: i64,
    is_alone: bool,
}

impl Share {
    fn of(plan: Plan) -> Self {
        let Plan { server, room, scenario, tokens, websocket, share, goods, run, server_ahead_us, is_alone, .. } = plan;
        Self { server, room, scenario, tokens, websocket, share, goods, run, server_ahead_us, is_alone }
    }

    fn plan(self, base: Timebase) -> Plan {
        let Self { server, room, scenario, tokens, websocket, share, goods, run, server_ahead_us, is_alone } = self;
        Plan { server, room, scenario, tokens, websocket, share, goods, run, base, server_ahead_us, is_alone }
    }
}

/// Lines of JSON over a connection.
struct Wire {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Wire {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream.try_clone()?), writer: stream })
    }

    fn say(&mut self, word: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(word)?;
        line.push(b'\n');
        self.writer.write_all(&line)
    }

    fn hear<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut line = Vec::new();
        let len = io::Read::take(&mut self.reader, LINE_LEN_MAX).read_until(b'\n', &mut line)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}
