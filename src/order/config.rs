//! How the desk is set up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The desk's settings. Every bound has its answer for "full" beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a hold keeps its stock.
    pub hold_seconds: u32,
    /// What one extension adds.
    pub extend_seconds: u32,
    /// How long an accepted idempotency key gives the same answer.
    pub key_hours: u32,
    /// Lines in one hold; more is malformed.
    pub lines_per_hold_max: usize,
    /// Pieces in one line, duplicates summed; more is malformed.
    pub quantity_max: u32,
    /// Open holds of one person; one more is refused with `limit_reached`.
    pub holds_open_per_person_max: u32,
    /// Open holds of everybody; one more is refused with `busy`.
    pub holds_open_max: usize,
    /// Idempotency keys remembered at once; one more is refused with `busy`.
    pub keys_max: usize,
    /// Commands that wait for the owner thread; one more is refused with `busy`.
    pub mailbox_max: usize,
    /// Commands in one commit. The owner thread waits when the next batch is full.
    pub batch_max: usize,
    /// Transactions in one commit beyond which no more holds expire in it, so that a storm of expiries does not make
    /// buyers wait. More that are due expire in the next commits.
    pub expire_max: usize,
    /// The least time between two `stock` events of one SKU.
    pub stock_interval_ms: u32,
    /// Private messages of one person that can be read again; older ones cannot.
    pub messages_kept_per_person: usize,
    /// Events that wait while whoever routes them is slow. Beyond it `sold` and pushed private messages are left out
    /// (the latter can be read again), stock counts wait and merge, and adjustments are refused with `busy`.
    pub events_waiting_max: usize,
    /// Entries, orders or messages in one answer.
    pub page_max: usize,
    /// Orders that one answer looks at when only those in one state are asked for; it then says where to go on.
    pub orders_looked_at_max: usize,
    /// Connections that read the store for orders, messages and exports.
    pub readers: usize,
    /// Reads that wait for such a connection; one more is refused with `busy`.
    pub reads_waiting_max: usize,
    /// Holds for which room in memory is made at the start.
    pub holds_expected: usize,
    /// A start that reads more transactions than this makes a checkpoint, so that the next one reads fewer; a shutdown
    /// makes one for a tenth of it.
    pub checkpoint_after: u64,
    /// Below this much free disk, holds are refused with `busy` and the desk is not ready.
    pub reserve_mb: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hold_seconds: 300,
            extend_seconds: 300,
            key_hours: 24,
            lines_per_hold_max: 20,
            quantity_max: 1_000,
            holds_open_per_person_max: 10,
            holds_open_max: 1_000_000,
            keys_max: 8_000_000,
            mailbox_max: 131_072,
            batch_max: 1_024,
            expire_max: 128,
            stock_interval_ms: 100,
            messages_kept_per_person: 200,
            events_waiting_max: 65_536,
            page_max: 1_000,
            orders_looked_at_max: 2_000,
            readers: 2,
            reads_waiting_max: 1_024,
            holds_expected: 65_536,
            checkpoint_after: 2_000_000,
            reserve_mb: 256,
        }
    }
}

impl Config {
    /// Names the first value that cannot work.
    pub fn check(&self) -> Result<(), &'static str> {
        let at_least_one = [
            (self.hold_seconds as usize, "hold_seconds"),
            (self.key_hours as usize, "key_hours"),
            (self.lines_per_hold_max, "lines_per_hold_max"),
            (self.quantity_max as usize, "quantity_max"),
            (self.mailbox_max, "mailbox_max"),
            (self.batch_max, "batch_max"),
            (self.expire_max, "expire_max"),
            (self.page_max, "page_max"),
            (self.orders_looked_at_max, "orders_looked_at_max"),
            (self.readers, "readers"),
        ];
        at_least_one.iter().find(|(value, _)| *value == 0).map_or(Ok(()), |(_, key)| Err(key))
    }

    pub(super) fn hold_time(&self) -> Duration {
        Duration::from_secs(self.hold_seconds.into())
    }

    pub(super) fn extend_time(&self) -> Duration {
        Duration::from_secs(self.extend_seconds.into())
    }

    pub(super) fn key_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.key_hours) * 3_600)
    }
}
