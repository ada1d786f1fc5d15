//! Reconciling: every counter of a ledger recomputed from its entries, holds and steps, and held against what is kept.
//!
//! [`Audit`] is a fold over the transactions in their order and does no I/O; the store reads them to it. It keeps the
//! ends of the chains, the numbers of each person, what counts against limits, and only those holds whose rows say
//! something that their steps so far have not led to. What cannot be recomputed it takes as it is: names of payments,
//! rooms and shows, reasons, and how much time an extension gave.

mod chains;
mod holds;
mod people;
mod report;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use self::report::{Difference, Report};
use self::{chains::Chains, holds::Followed, people::People, report::Differences};
use crate::{
    clock::UnixMs,
    id::Sub,
    order::{
        entry::{EntryRecord, EntryType},
        hold::Step,
        store::{Checkpoint, Head, HoldRow},
        tx::{OpenedSku, OrderBefore},
    },
    protocol::StockCount,
};

/// One transaction as it is kept. It is one thing: SKUs that were opened, an adjustment, a hold, or a step of one.
#[derive(Debug, Default)]
pub struct Record {
    pub tx: u64,
    pub at: UnixMs,
    pub opened: Option<Vec<OpenedSku>>,
    pub adjustment: Option<AdjustmentRecord>,
    pub hold: Option<HoldRecord>,
    pub step: Option<StepRecord>,
    /// The message about a step to somebody else than its buyer, and who that is.
    pub notice: Option<(MessageRecord, Sub)>,
    pub entries: Vec<EntryRow>,
}

#[derive(Debug)]
pub struct HoldRecord {
    pub row: HoldRow,
    pub message_before: u64,
}

#[derive(Debug)]
pub struct StepRecord {
    /// The transaction that made the hold.
    pub hold: u64,
    pub step: Step,
    pub message: MessageRecord,
    pub order_before: Option<OrderBefore>,
    pub has_key: bool,
    pub counted: Box<[u32]>,
    pub refunded: Option<Box<[u32]>>,
}

/// A private message's place in the list of its person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRecord {
    pub person: u64,
    pub n: u64,
    pub before: u64,
}

#[derive(Debug)]
pub struct AdjustmentRecord {
    pub count: StockCount,
}

#[derive(Debug)]
pub struct EntryRow {
    pub row: u64,
    pub sku_no: u32,
    /// Its `prev` is not read.
    pub entry: EntryRecord,
    pub row_before: u64,
    /// The SKU that a mark at this row names.
    pub mark: Option<u32>,
}

/// The fold. It is given the SKUs and the checkpoint first, then each transaction in order.
#[derive(Debug)]
pub struct Audit {
    differences: Differences,
    chains: Chains,
    people: People,
    /// Holds whose rows say something that their steps so far have not led to.
    followed: HashMap<u64, Followed>,
    last: u64,
    now: UnixMs,
    holds: u64,
}

impl Audit {
    /// Of all differences, `limit` are kept and the others only counted.
    pub fn new(limit: usize) -> Self {
        Self {
            differences: Differences::new(limit),
            chains: Chains::default(),
            people: People::default(),
            followed: HashMap::new(),
            last: 0,
            now: UnixMs(0),
            holds: 0,
        }
    }

    /// What the file's own check says.
    pub fn damaged(&mut self, what: &str) {
        self.differences.add(|| Difference::new("file", "integrity", what, "ok"));
    }

    /// A row that does not hold what it must. It is left out of all that follows.
    pub fn unreadable(&mut self, place: &str, why: &str) {
        self.differences.add(|| Difference::new(place, "content", why, "a readable row"));
    }

    pub fn sku(&mut self, sku: OpenedSku, head: Head) {
        self.chains.expect(sku, head, &mut self.differences);
    }

    pub fn checkpoint(&mut self, checkpoint: Checkpoint) {
        self.people.expect(checkpoint, &mut self.differences);
    }

    pub fn stray_mark(&mut self, row: u64) {
        self.differences.add(|| Difference::new(format!("mark {row}"), "entry", row, "none"));
    }

    pub fn stray_standing(&mut self, hold: u64) {
        self.differences.add(|| Difference::new(format!("standing {hold}"), "hold", hold, "none"));
    }

    /// Whether the hold that transaction `hold` made has to be read again before a step of it is told.
    pub fn needs(&self, hold: u64) -> bool {
        !self.followed.contains_key(&hold)
    }

    /// Takes the next transaction; `earlier` is the hold of its step, when that was needed and is there.
    pub fn transaction(&mut self, mut record: Record, earlier: Option<HoldRow>) {
        self.number(record.tx);
        self.people.reach(record.tx, &mut self.differences);
        self.time(&record);
        self.chains.extend(&mut record.entries, &mut self.differences);
        self.notice_due(&record);
        if let Some(opened) = &record.opened {
            self.opened(record.tx, opened, &record.entries);
        }
        if let Some(adjustment) = &record.adjustment {
            self.adjusted(record.tx, adjustment, &record.entries);
        }
        if let Some(hold) = record.hold {
            self.made(record.tx, hold, &record.entries);
        }
        if let Some(step) = &record.step {
            self.stepped((record.tx, record.at), step, earlier, &record.entries);
        }
        if let Some((notice, sub)) = record.notice {
            self.people.named(record.tx, notice.person, &sub, &mut self.differences);
            self.people.message(record.tx, &notice, &mut self.differences);
        }
    }

    /// Compares what was recomputed with all that was kept.
    pub fn finish(mut self) -> Report {
        self.people.end(self.last, &mut self.differences);
        let mut left: Vec<_> = self.followed.into_values().collect();
        left.sort_unstable_by_key(|followed| followed.tx());
        for followed in left {
            followed.compare(&mut self.differences);
        }
        self.chains.end(&mut self.differences);
        let (entries, skus) = self.chains.size();
        Report::new(self.differences, entries, skus, self.holds, self.last)
    }

    /// Transactions are numbered from 1 without gaps.
    fn number(&mut self, tx: u64) {
        let next = self.last + 1;
        if tx > next {
            let place = if tx == next + 1 {
                format!("transaction {next}")
            } else {
                format!("transactions {next} to {}", tx - 1)
            };
            self.differences.add(|| Difference::new(place, "rows", "none", "some"));
        } else if tx < next {
            self.differences
                .add(|| Difference::new(format!("transaction {tx}"), "order", "behind a later one", "rising"));
        }
        self.last = self.last.max(tx);
    }

    fn time(&mut self, record: &Record) {
        let at = record.at;
        if at < self.now {
            let place = format!("transaction {}", record.tx);
            self.differences.add(|| Difference::new(place, "time", at.0, format!("{} or later", self.now.0)));
        }
        self.now = self.now.max(at);
    }

    fn notice_due(&mut self, record: &Record) {
        let due = record.step.as_ref().is_some_and(|step| step.step == Step::RefundDue);
        if record.notice.is_some() && !due {
            let place = format!("transaction {}", record.tx);
            self.differences.add(|| Difference::new(place, "notice", "one", "none"));
        }
    }

    /// Each SKU is what it was opened as, and begins with its opening.
    fn opened(&mut self, tx: u64, opened: &[OpenedSku], entries: &[EntryRow]) {
        let same =
            |(new, entry): (&OpenedSku, &EntryRow)| entry.sku_no == new.no && entry.entry.kind == EntryType::Opened;
        if opened.len() != entries.len() || !opened.iter().zip(entries).all(same) {
            let (said, due) = (entries.len(), format!("the openings of {} SKUs", opened.len()));
            self.differences.add(|| Difference::new(format!("transaction {tx}"), "entries", said, due));
        }
        for new in opened {
            self.chains.opened(tx, new, &mut self.differences);
        }
    }

    fn adjusted(&mut self, tx: u64, adjustment: &AdjustmentRecord, entries: &[EntryRow]) {
        let place = || format!("transaction {tx}");
        let [entry] = entries else {
            self.differences.add(|| Difference::new(place(), "entries of an adjustment", entries.len(), 1));
            return;
        };
        if entry.entry.kind != EntryType::Adjusted {
            self.differences.add(|| Difference::new(place(), "type", entry.entry.kind.as_str(), "adjusted"));
        }
        let count = self.chains.count(entry.sku_no);
        if count.is_some_and(|count| count != adjustment.count) {
            let (said, found) = (shown(Some(adjustment.count)), shown(count));
            self.differences.add(|| Difference::new(place(), "counts after the adjustment", said, found));
        }
    }
}

fn shown(count: Option<StockCount>) -> String {
    let Some(StockCount { available, held, sold, entry }) = count else { return "none".to_owned() };
    format!("{available} available, {held} held, {sold} sold at entry {entry}")
}
