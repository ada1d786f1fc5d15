//! The journal thread: commits a batch, then answers and publishes.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::{
    clock::Clock,
    order::{
        fast::Fast,
        handover::{Decisions, Handover, Taken},
        publish::Publisher,
        stats::Counters,
        store::{Batch, Failure, Head, Store},
    },
};

/// How long to wait for a batch when events wait to be sent, and when nothing does.
const SOON: Duration = Duration::from_millis(5);
const LATER: Duration = Duration::from_millis(500);
/// Nothing to do for so long is idle.
const IDLE: Duration = Duration::from_millis(500);
const DISK_EVERY: Duration = Duration::from_secs(1);

pub struct Journal {
    pub clock: Clock,
    pub store: Box<dyn Store>,
    pub fast: Arc<Fast>,
    pub handover: Arc<Handover>,
    pub publisher: Publisher,
    pub counters: Arc<Counters>,
    /// What is being committed.
    pub batch: Decisions,
    pub reserve_bytes: u64,
}

impl Journal {
    /// Until the owner has ended and all is committed. After a failure it ends at once, and nothing is answered.
    pub fn run(&mut self) -> Result<(), Failure> {
        let (mut busy_at, mut disk_at) = (Instant::now(), None::<Instant>);
        loop {
            let wait = if self.publisher.has_more() { SOON } else { LATER };
            match self.handover.take(&mut self.batch, wait) {
                Taken::Batch => {
                    self.commit()?;
                    busy_at = Instant::now();
                    self.store.tidy(false)?;
                }
                Taken::Nothing => self.publisher.send(self.clock.now()),
                Taken::Closed => break,
            }
            if busy_at.elapsed() >= IDLE {
                self.store.tidy(true)?;
                busy_at = Instant::now();
            }
            if disk_at.is_none_or(|at| at.elapsed() >= DISK_EVERY) {
                self.look_at_disk();
                disk_at = Some(Instant::now());
            }
        }
        self.publisher.send(self.clock.now());
        if let Some(checkpoint) = self.handover.take_checkpoint() {
            self.store.checkpoint(&checkpoint)?;
        }
        self.store.tidy(true)
    }

    fn commit(&mut self) -> Result<(), Failure> {
        let Decisions { txs, seals, grown, .. } = &self.batch;
        if !txs.is_empty() {
            let started = Instant::now();
            let heads: Vec<Head> = grown.values().map(|grown| grown.head.clone()).collect();
            self.store.commit(&Batch { txs, seals, heads: &heads })?;
            self.counters.committed(started.elapsed().as_micros() as u64, txs.len() as u64);
        }
        self.publish();
        Ok(())
    }

    /// Answers come before events: who bought hears of it first.
    fn publish(&mut self) {
        let Decisions { txs, seals, grown, answers } = &mut self.batch;
        for grown in grown.values() {
            self.fast.committed_now(grown);
        }
        for answer in answers.drain(..) {
            answer.tell();
        }
        self.publisher.committed(txs, grown.values(), self.clock.now());
        txs.clear();
        seals.clear();
        grown.clear();
    }

    fn look_at_disk(&self) {
        let low = self.store.free_bytes().is_some_and(|free| free < self.reserve_bytes);
        if self.counters.disk_low.swap(low, Relaxed) != low {
            tracing::warn!(low, "free disk crossed the reserve");
        }
    }
}
