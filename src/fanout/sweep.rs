use std::{rc::Rc, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};

use crate::fanout::{
    batch::Source,
    pace::Pace,
    shard::{CHUNK, Shard},
};

/// A round counts for so much of what rounds are thought to take.
const SMOOTHING: u32 = 4;

/// Visits the connections of a shard round by round, as long as something waits, and out of turn for state events.
pub(super) async fn sweep(shard: Rc<Shard>) {
    let now = Instant::now();
    let mut sweep = Sweep { shard, round_ends: now, early_from: now, busy: Duration::ZERO };
    loop {
        let is_rested = sweep.rest().await;
        sweep.round(is_rested).await;
    }
}

struct Sweep {
    shard: Rc<Shard>,
    /// The next round does not begin before this: nobody is written to twice in a tick.
    round_ends: Instant,
    /// Sweeps out of turn may go on from here without taking more than their part of the core.
    early_from: Instant,
    /// What a round takes: the last ones, smoothed, so that one disturbed round does not stretch the next.
    busy: Duration,
}

impl Sweep {
    /// Waits until a round is due. Whether there was nothing to do when it was.
    async fn rest(&mut self) -> bool {
        self.wait_until(self.round_ends).await;
        let is_rested = !self.shard.is_marked.get();
        while !self.shard.is_marked.get() {
            self.shard.wake.notified().await;
            self.early().await;
        }
        is_rested
    }

    /// Visits everybody once. After a rest nobody has to wait for a slot: the core's time was saved up, and what comes
    /// alone is with the last viewer sooner.
    async fn round(&mut self, is_rested: bool) {
        self.shard.is_marked.set(false);
        let viewers = self.shard.connections.borrow().len();
        let pace = Pace::of(&self.shard.config, viewers, self.busy);
        let begun = Instant::now();
        self.round_ends = begun + pace.tick;
        self.shard.counters.tick_micros.set(u64::try_from(pace.tick.as_micros()).unwrap_or(u64::MAX));
        let mut busy = Duration::ZERO;

        let mut from = 0;
        for slot in 0..pace.slots {
            let due = if is_rested { begun } else { begun + pace.tick * slot / pace.slots };
            self.wait_until(due).await;
            // The share of this slot, also when connections came while the round was on.
            let all = self.shard.connections.borrow().capacity();
            let to = all * (slot as usize + 1) / pace.slots as usize;
            busy += self.visit(from..to).await;
            from = from.max(to);
        }
        self.busy = (self.busy * (SMOOTHING - 1) + busy) / SMOOTHING;
        self.shard.counters.rounds.add(1);
    }

    /// Waits, and goes out of turn when a state event comes meanwhile.
    async fn wait_until(&mut self, then: Instant) {
        loop {
            self.early().await;
            tokio::select! {
                biased;
                () = sleep_until(then) => return,
                () = self.shard.wake.notified() => {}
            }
        }
    }

    /// Brings state events to all who follow their rooms, behind what was pending for them already.
    async fn early(&mut self) {
        let urgent = self.shard.urgent.take();
        for source in urgent {
            source.is_urgent.set(false);
            let now = Instant::now();
            if now < self.early_from {
                self.shard.counters.early_refused.add(1);
                continue;
            }
            let took = self.visit_followers(&source).await;
            self.shard.counters.early_sweeps.add(1);
            self.early_from = now + took * 100 / self.shard.config.early_percent.clamp(1, 100);
        }
    }

    async fn visit_followers(&self, source: &Rc<Source>) -> Duration {
        let followers: Vec<usize> = source.followers.borrow().iter().copied().collect();
        let mut took = Duration::ZERO;
        for chunk in followers.chunks(CHUNK) {
            took += self.visit_chunk(chunk.iter().copied());
            yield_now().await;
        }
        took
    }

    async fn visit(&self, keys: std::ops::Range<usize>) -> Duration {
        let (mut took, mut from) = (Duration::ZERO, keys.start);
        while from < keys.end {
            let to = keys.end.min(from + CHUNK);
            took += self.visit_chunk(from..to);
            from = to;
            yield_now().await;
        }
        took
    }

    /// Gives each of these connections its turn; the time that it took.
    fn visit_chunk(&self, keys: impl Iterator<Item = usize>) -> Duration {
        let begun = Instant::now();
        for key in keys {
            if let Some(connection) = self.shard.get(key) {
                self.shard.pump(&connection, true, begun);
            }
        }
        let took = begun.elapsed();
        self.shard.counters.sweep_nanos.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        took
    }
}
