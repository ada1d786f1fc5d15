use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Close codes that are counted one by one; all others count as 0.
const CODES: [u16; 13] = [1000, 1001, 1005, 1006, 3000, 3001, 3002, 3500, 3501, 3502, 3503, 1002, 0];

/// What the shards have done since the start, summed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections now, without and with TLS.
    pub plain: u64,
    pub tls: u64,
    /// Frames given to viewers, snapshots and replies not counted.
    pub deliveries: u64,
    /// Bytes written to sockets, TLS's own not counted.
    pub bytes_out: u64,
    /// Messages of clients.
    pub messages_in: u64,
    /// Replies and private messages written.
    pub replies: u64,
    /// Viewers that were too slow for the ring and took a snapshot.
    pub overruns: u64,
    /// Frames that they did not get for it.
    pub skipped: u64,
    /// Sweeps out of turn for a state event, and those that had to wait for their slots instead.
    pub early_sweeps: u64,
    pub early_refused: u64,
    /// The longest tick of a shard now: how often a viewer is written to at most, state events apart.
    pub tick: Duration,
    /// Rounds over all connections, and the time that all sweeping took.
    pub rounds: u64,
    pub sweep_time: Duration,
    /// Connections refused because the server was full.
    pub refused: u64,
    /// Connections ended, by close code; 0 stands for all codes not named.
    pub closed: Vec<(u16, u64)>,
    /// Replies and private messages waiting now.
    pub queued: u64,
}

/// The counters of one shard.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) plain: Count,
    pub(super) tls: Count,
    pub(super) deliveries: Count,
    pub(super) bytes_out: Count,
    pub(super) messages_in: Count,
    pub(super) replies: Count,
    pub(super) overruns: Count,
    pub(super) skipped: Count,
    pub(super) early_sweeps: Count,
    pub(super) early_refused: Count,
    pub(super) tick_micros: Count,
    pub(super) rounds: Count,
    pub(super) sweep_nanos: Count,
    pub(super) refused: Count,
    /// Measured once a second.
    pub(super) queued: Count,
    closed: [Count; CODES.len()],
}

#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    pub(super) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn closed(&self, code: u16) {
        let place = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len() - 1);
        self.closed[place].add(1);
    }

    pub(super) fn add_to(&self, stats: &mut Stats) {
        stats.plain += self.plain.get();
        stats.tls += self.tls.get();
        stats.deliveries += self.deliveries.get();
        stats.bytes_out += self.bytes_out.get();
        stats.messages_in += self.messages_in.get();
        stats.replies += self.replies.get();
        stats.overruns += self.overruns.get();
        stats.skipped += self.skipped.get();
        stats.early_sweeps += self.early_sweeps.get();
        stats.early_refused += self.early_refused.get();
        stats.tick = stats.tick.max(Duration::from_micros(self.tick_micros.get()));
        stats.rounds += self.rounds.get();
        stats.sweep_time += Duration::from_nanos(self.sweep_nanos.get());
        stats.refused += self.refused.get();
        stats.queued += self.queued.get();
        stats.closed.resize(CODES.len(), (0, 0));
        for (place, sum) in stats.closed.iter_mut().enumerate() {
            *sum = (CODES[place], sum.1 + self.closed[place].get());
        }
    }
}
