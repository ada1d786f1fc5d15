//! Thousands of viewers on one thread, none of whom costs a task or a message parsed for her alone.
//!
//! The crowd owns its sockets, what its viewers stand at and what they asked for; it acts at times that the scenario
//! fixed beforehand, whatever the server does. It knows nothing of targets, proofs and reports: it tells what it saw.

mod address;
pub mod deeds;
pub mod director;
mod sse;
mod stand;
mod timers;
mod viewer;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use maishou::id::{RoomId, SkuId};
use serde::{Deserialize, Serialize};

pub use address::connect;

use crate::{
    hist::Latencies,
    scenario::Scenario,
    stamp::Timebase,
    tally::{OwnPace, Second, Tally},
    witness::Testimony,
};
use deeds::Deeds;

/// Seconds of a crowd that wait to be read; a run that nobody watches keeps the latest.
const SECONDS_MAX: usize = 7_200;

/// Who comes, where to, and what they do there.
#[derive(Clone, Debug)]
pub struct Plan {
    pub server: SocketAddr,
    pub room: RoomId,
    pub scenario: Scenario,
    /// One for each viewer: those over WebSockets first, then those of server-sent events.
    pub tokens: Vec<String>,
    pub websocket: usize,
    /// The part of the scenario's acts that is ours.
    pub share: f64,
    /// The SKUs of each product.
    pub goods: Vec<Vec<SkuId>>,
    /// What makes the keys of this crowd its own.
    pub run: String,
    pub base: Timebase,
    /// How far the server's clock is ahead of `base`.
    pub server_ahead_us: i64,
    /// Every token is of one connection only, and its person is new.
    pub is_alone: bool,
}

impl Plan {
    /// The parts of several crowds, each with the numbers that its people have in the whole.
    pub fn split(self, parts: usize) -> Vec<(Self, Vec<usize>)> {
        let all = self.tokens.len();
        let part = |part: usize| {
            let people: Vec<usize> = (part..all).step_by(parts).collect();
            let plan = Self {
                tokens: people.iter().map(|number| self.tokens[*number].clone()).collect(),
                websocket: people.iter().filter(|number| **number < self.websocket).count(),
                share: self.share / parts as f64,
                run: format!("{}-{part}", self.run),
                ..self.clone()
            };
            (plan, people)
        };
        (0..parts).map(part).collect()
    }
}

/// All that a crowd has to say in the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub tally: Tally,
    pub phases: Vec<Latencies>,
    pub pace: OwnPace,
    pub standings: Vec<Standing>,
    pub testimony: Testimony,
    pub deeds: Deeds,
    /// Of those who had private messages: who, the last number, and how many there must be.
    pub private: Vec<(usize, u64, u64)>,
}

/// Viewers who read on from the same snapshot to the same event and heard the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub from: u64,
    pub to: u64,
    pub sum: u64,
    pub viewers: u64,
    /// One of them.
    pub who: usize,
}

/// The handle of a crowd's thread.
pub struct Crowd {
    thread: JoinHandle<io::Result<Outcome>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    begin: Mutex<Option<Instant>>,
    quiet: AtomicBool,
    stop: AtomicBool,
    tally: Mutex<Tally>,
    seconds: Mutex<Vec<Second>>,
    /// The events between which all who are in stand.
    slowest: AtomicU64,
    fastest: AtomicU64,
}

impl Crowd {
    pub fn start(plan: Plan) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let thread = thread::Builder::new().name("crowd".to_owned());
        let thread = thread.spawn(move || stand::Stand::new(plan, seen)?.run())?;
        Ok(Self { thread, shared })
    }

    /// The measured time begins at `at`.
    pub fn begin(&self, at: Instant) {
        *self.shared.begin.lock().expect("nobody panics with it") = Some(at);
    }

    /// Nothing new is begun; what was begun is brought to its end.
    pub fn quiet(&self) {
        self.shared.quiet.store(true, Ordering::Relaxed);
    }

    /// A recent count.
    pub fn tally(&self) -> Tally {
        self.shared.tally.lock().expect("nobody panics with it").clone()
    }

    /// The seconds that have passed since this was asked last.
    pub fn seconds(&self) -> Vec<Second> {
        std::mem::take(&mut *self.shared.seconds.lock().expect("nobody panics with it"))
    }

    /// The events between which all who are in stood a moment ago.
    pub fn stands(&self) -> (u64, u64) {
        (self.shared.slowest.load(Ordering::Relaxed), self.shared.fastest.load(Ordering::Relaxed))
    }

    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Leaves, and tells everything.
    pub fn stop(self) -> io::Result<Outcome> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the crowd does not panic")
    }
}

/// Viewers who heard the same, as one line.
fn standings(viewers: impl Iterator<Item = (usize, (u64, u64, u64))>) -> Vec<Standing> {
    let mut groups: BTreeMap<(u64, u64, u64), (u64, usize)> = BTreeMap::new();
    for (who, stands) in viewers {
        groups.entry(stands).or_insert((0, who)).0 += 1;
    }
    let groups = groups.into_iter();
    groups.map(|((from, to, sum), (viewers, who))| Standing { from, to, sum, viewers, who }).collect()
}
