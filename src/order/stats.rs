//! What the desk counts.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use hdrhistogram::Histogram;

use crate::order::refusal::Refusal;

/// Longer commits (a minute, in microseconds) and larger batches count as this.
const VALUE_MAX: u64 = 60_000_000;

/// Requests to hold by how they ended, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldOutcomes {
    /// New holds. Answered after their commit; counted when decided.
    pub accepted: u64,
    /// Answered again by their key.
    pub replayed: u64,
    /// Sold out, told by the owner thread.
    pub sold_out: u64,
    /// Sold out, told without asking the owner thread.
    pub sold_out_fast: u64,
    pub limit_reached: u64,
    pub price_changed: u64,
    pub not_started: u64,
    pub key_reused: u64,
    /// Mailbox, holds or keys full, or the disk nearly.
    pub busy: u64,
    /// Malformed, or of an unknown SKU.
    pub invalid: u64,
}

/// Other commands that were accepted, and expiries, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    pub confirmed: u64,
    pub refund_due: u64,
    pub cancelled: u64,
    pub extended: u64,
    pub expired: u64,
    pub refunded: u64,
    pub adjusted: u64,
}

/// A distribution, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commands that wait for the owner thread, and how many may.
    pub mailbox: usize,
    pub mailbox_max: usize,
    pub holds: HoldOutcomes,
    pub steps: Steps,
    /// Holds that are open now.
    pub open_holds: usize,
    /// Durable commits, in microseconds. Batches without anything to write are not among them.
    pub commit_us: Spread,
    /// Transactions in a commit.
    pub batch: Spread,
    /// Events that wait for whoever routes them, and those that were left out because too many did.
    pub events_waiting: usize,
    pub events_left_out: u64,
    /// Free disk is below the reserve: holds are refused.
    pub disk_low: bool,
}

macro_rules! counters {
    ($name:ident => $snapshot:ident { $($field:ident),* }) => {
        #[derive(Debug, Default)]
        pub struct $name {
            $(pub $field: AtomicU64,)*
        }

        impl $name {
            fn read(&self) -> $snapshot {
                $snapshot { $($field: self.$field.load(Relaxed),)* }
            }
        }
    };
}

counters!(HoldCounters => HoldOutcomes {
    accepted, replayed, sold_out, sold_out_fast, limit_reached, price_changed, not_started, key_reused, busy, invalid
});
counters!(StepCounters => Steps { confirmed, refund_due, cancelled, extended, expired, refunded, adjusted });

/// The counters that owner, journal and callers share.
#[derive(Debug)]
pub struct Counters {
    pub holds: HoldCounters,
    pub steps: StepCounters,
    pub open_holds: AtomicUsize,
    pub events_waiting: AtomicUsize,
    pub events_left_out: AtomicU64,
    pub disk_low: AtomicBool,
    commit_us: Mutex<Histogram<u64>>,
    batch: Mutex<Histogram<u64>>,
}

pub fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Counters {
    pub fn new() -> Self {
        let histogram = || {
            let histogram = Histogram::new_with_bounds(1, VALUE_MAX, 3);
            Mutex::new(histogram.expect("three digits up to this are possible"))
        };
        Self {
            holds: HoldCounters::default(),
            steps: StepCounters::default(),
            open_holds: AtomicUsize::new(0),
            events_waiting: AtomicUsize::new(0),
            events_left_out: AtomicU64::new(0),
            disk_low: AtomicBool::new(false),
            commit_us: histogram(),
            batch: histogram(),
        }
    }

    pub fn committed(&self, us: u64, txs: u64) {
        record(&self.commit_us, us);
        record(&self.batch, txs);
    }

    pub fn refused(&self, refusal: &Refusal) {
        let holds = &self.holds;
        bump(match refusal {
            Refusal::SoldOut { .. } => &holds.sold_out,
            Refusal::LimitReached { .. } => &holds.limit_reached,
            Refusal::PriceChanged { .. } => &holds.price_changed,
            Refusal::NotStarted { .. } => &holds.not_started,
            Refusal::KeyReused => &holds.key_reused,
            Refusal::Busy { .. } => &holds.busy,
            _ => &holds.invalid,
        });
    }

    pub fn read(&self, mailbox: usize, mailbox_max: usize) -> Stats {
        Stats {
            mailbox,
            mailbox_max,
            holds: self.holds.read(),
            steps: self.steps.read(),
            open_holds: self.open_holds.load(Relaxed),
            commit_us: spread(&self.commit_us),
            batch: spread(&self.batch),
            events_waiting: self.events_waiting.load(Relaxed),
            events_left_out: self.events_left_out.load(Relaxed),
            disk_low: self.disk_low.load(Relaxed),
        }
    }
}

fn record(histogram: &Mutex<Histogram<u64>>, value: u64) {
    histogram.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(value);
}

fn spread(histogram: &Mutex<Histogram<u64>>) -> Spread {
    let histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner);
    Spread {
        count: histogram.len(),
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_as_long_as_they_took() {
        let counters = Counters::new();
        for ms in 1..=100 {
            counters.committed(ms * 1_000, ms);
        }
        counters.committed(u64::MAX, 1);
        let stats = counters.read(0, 0);
        assert!((49_000..=51_100).contains(&stats.commit_us.p50), "{:?}", stats.commit_us);
        assert!(stats.commit_us.max >= VALUE_MAX && stats.commit_us.count == 101);
        assert!((49..=51).contains(&stats.batch.p50), "{:?}", stats.batch);
    }
}
