//! The part of a run's audience that watches the video: here, or at a worker.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use maishou::id::RoomId;
use serde::{Deserialize, Serialize};

use super::{Audience, Plan, Tally, Whep};

/// Who watches, and how they come. It can be split, and said to a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WatchPlan {
    pub server: SocketAddr,
    pub room: RoomId,
    /// One for each viewer.
    pub tokens: Vec<String>,
    /// None: all at once.
    pub arrivals_per_second: Option<f64>,
}

/// How many there are now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watching {
    pub inside: u64,
    /// Those who have had a picture.
    pub watching: u64,
    pub refused: u64,
    pub failed: u64,
    pub examples: Vec<String>,
}

/// What they saw until the measured time began, and in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub before: Tally,
    pub measured: Tally,
}

pub struct Watchers {
    audience: Audience,
    before: Tally,
    measured: Option<Tally>,
}

impl WatchPlan {
    /// The parts of several workers.
    pub fn split(self, parts: usize) -> Vec<Self> {
        let part = |part: usize| Self {
            tokens: self.tokens.iter().skip(part).step_by(parts).cloned().collect(),
            arrivals_per_second: self.arrivals_per_second.map(|rate| rate / parts as f64),
            ..self.clone()
        };
        (0..parts).map(part).collect()
    }
}

impl Watchers {
    /// Lets everybody come. `clock_ahead_us`: how far this machine's clock is ahead of the anchor's.
    pub fn start(plan: WatchPlan, clock_ahead_us: i64) -> Result<Self> {
        let WatchPlan { server, room, tokens, arrivals_per_second } = plan;
        let viewers = tokens.len();
        let mut audience = Plan::new(Arc::new(Whep::new(server, &room, tokens)), server.ip(), viewers);
        audience.arrivals_per_second = arrivals_per_second.unwrap_or(f64::INFINITY);
        audience.clock_ahead_us = clock_ahead_us;
        Ok(Self { audience: Audience::start(audience)?, before: Tally::default(), measured: None })
    }

    /// From here on it is measured.
    pub fn begin(&mut self) -> Result<()> {
        self.before = self.audience.take()?;
        Ok(())
    }

    /// Up to here it was.
    pub fn quiet(&mut self) -> Result<()> {
        self.measured = Some(self.audience.tally()?);
        Ok(())
    }

    pub fn now(&self) -> Result<Watching> {
        let Tally { inside, watching, refused, failed, examples, .. } = self.audience.tally()?;
        let (refused, failed) = (refused + self.before.refused, failed + self.before.failed);
        Ok(Watching { inside, watching, refused, failed, examples })
    }

    /// Everybody leaves, and tells what was seen.
    pub fn stop(self) -> Result<Seen> {
        let last = self.audience.stop()?;
        Ok(Seen { before: self.before, measured: self.measured.unwrap_or(last) })
    }
}

impl Watching {
    pub fn add(&mut self, other: &Self) {
        self.inside += other.inside;
        self.watching += other.watching;
        self.refused += other.refused;
        self.failed += other.failed;
        self.examples.extend(other.examples.iter().cloned());
    }
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.before.add(&other.before);
        self.measured.add(&other.measured);
    }
}
