//! Reading orders, messages and entries while the journal writes.

use std::{path::Path, sync::Arc};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use super::{
    load,
    names::Names,
    record::{EntryFacts, Facts, Record, StepFacts},
    rows::{self, Unreadable, damaged},
};
use crate::{
    clock::UnixMs,
    id::{HoldId, Sub},
    order::{
        entry::{Digest, EntryRecord, holder},
        hold::{Placed, Standing, State, Step, View},
        store::{Failure, OrdersAsk, OrdersFound, OrdersOf, Reader, row_parts},
        tx::OrderBefore,
    },
    protocol::Private,
};

pub struct SqliteReader {
    db: Connection,
    names: Names,
}

impl SqliteReader {
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.execute_batch("PRAGMA busy_timeout = 5000; PRAGMA query_only = ON")?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(Self { db, names: Names::default() })
    }

    /// Transaction `tx`, as `read` takes it.
    fn record<T>(&self, tx: u64, read: impl FnOnce(Record<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
        let mut query = self.db.prepare_cached(&rows::records("no = ?1"))?;
        query.query_row([tx as i64], |row| read(rows::record(row)?.1)).optional()
    }

    /// The hold that transaction `tx` made, as it stands.
    fn view(&mut self, tx: u64) -> rusqlite::Result<Option<View>> {
        let Self { db, names } = self;
        let mut query = db.prepare_cached(&rows::records_with_standing("no = ?1"))?;
        query.query_row([tx as i64], |row| view(db, row, names)).optional()
    }

    /// The first transaction numbered `tx` or above with its time, and its hold when it made one.
    fn first_from(&self, tx: u64) -> rusqlite::Result<Option<(u64, UnixMs, Option<HoldId>)>> {
        let mut query = self.db.prepare_cached(&format!("{} LIMIT 1", rows::records("no >= ?1")))?;
        let read = |row: &Row<'_>| {
            let (no, record) = rows::record(row)?;
            let made = match &record.what {
                Facts::Made(made) => Some(HoldId::from_bytes(made.id)),
                _ => None,
            };
            Ok((no, record.at, made))
        };
        query.query_row([tx as i64], read).optional()
    }

    /// Finds a hold by its id without an index: ids begin with the time, and transactions are in its order.
    fn find(&self, id: HoldId) -> rusqlite::Result<Option<u64>> {
        let time = id.as_bytes()[..6].iter().fold(0, |time, byte| time << 8 | i64::from(*byte));
        let newest = "SELECT coalesce(max(no), 0) FROM tx";
        let (mut low, mut high) =
            (0, self.db.prepare_cached(newest)?.query_row([], |row| rows::tx_number(row, 0))? + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_from(middle)? {
                Some((tx, at, _)) if at.0 < time => low = tx + 1,
                _ => high = middle,
            }
        }
        while let Some((tx, at, made)) = self.first_from(low)? {
            if made == Some(id) {
                return Ok(Some(tx));
            }
            if at.0 != time {
                break;
            }
            low = tx + 1;
        }
        Ok(None)
    }

    fn step(&self, tx: u64) -> rusqlite::Result<Option<StepTaken>> {
        let read = |record: Record<'_>| {
            Ok(match record.what {
                Facts::Step(step) => Some(StepTaken::new(record.at, &step)),
                _ => None,
            })
        };
        Ok(self.record(tx, read)?.flatten())
    }

    /// The message to `sub` about transaction `tx`, and the transaction of the one before it.
    fn message(&mut self, tx: u64, sub: &Sub) -> rusqlite::Result<Option<(Private, u64)>> {
        if let Some((n, before)) = self.record(tx, |record| Ok(first_message(&record)))?.flatten() {
            let Some(View { held, .. }) = self.view(tx)? else { return Ok(None) };
            let (at, standing) = (held.made_at, Standing::new(&held));
            let body = Step::Held.told(&View { held, standing });
            return Ok(Some((Private { n, at, body }, before)));
        }
        let Some(step) = self.step(tx)? else { return Ok(None) };
        let Some(view) = self.view(step.hold)? else { return Ok(None) };
        let then = step.then(view);
        if then.held.sub == *sub {
            let body = step.step.told(&then);
            return Ok(Some((Private { n: step.n, at: step.at, body }, step.message_before)));
        }
        Ok(step.notice.map(|(n, before)| (Private { n, at: step.at, body: then.told_confirmer() }, before)))
    }

    /// The entry in `row`, as yet without the hash before it, and the row before it.
    fn entry(&self, row: u64) -> rusqlite::Result<(EntryRecord, u64)> {
        let (tx, index) = row_parts(row);
        let found = self.record(tx, |record| {
            let facts = record.entries.get(index).ok_or_else(|| damaged(0, Unreadable("an entry is missing")))?;
            Ok((entry_record(tx, &record, facts), facts.row_before))
        })?;
        found.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }
}

/// The number of the message about a hold's making, and the transaction of the one before it.
fn first_message(record: &Record<'_>) -> Option<(u64, u64)> {
    match &record.what {
        Facts::Made(made) => Some((made.n, made.message_before)),
        _ => None,
    }
}

/// The hold that a row of [`rows::records_with_standing`] made. SKUs that are not known yet are looked up.
pub fn view(db: &Connection, row: &Row<'_>, names: &mut Names) -> rusqlite::Result<View> {
    let (_, record) = rows::record(row)?;
    if let Facts::Made(made) = &record.what {
        for line in &made.lines {
            if names.knows(line.sku_no) {
                continue;
            }
            let mut query = db.prepare_cached(load::SKU)?;
            if let Some((sku, _)) = query.query_row([line.sku_no], load::sku).optional()? {
                names.learn(sku);
            }
        }
    }
    let (found, _) = rows::made_hold(row, names)?;
    Ok(View { held: found.held, standing: found.standing })
}

/// What a step says.
struct StepTaken {
    at: UnixMs,
    hold: u64,
    step: Step,
    n: u64,
    message_before: u64,
    order_before: Option<OrderBefore>,
    refunded: Option<Box<[u32]>>,
    /// The number of the notice, and the transaction of the message before it.
    notice: Option<(u64, u64)>,
}

impl StepTaken {
    fn new(at: UnixMs, facts: &StepFacts<'_>) -> Self {
        let StepFacts { step, hold, n, message_before, order_before, .. } = *facts;
        let refunded = facts.refunded.as_deref().map(Box::from);
        let notice = facts.notice.as_ref().map(|notice| (notice.n, notice.message_before));
        Self { at, hold, step, n, message_before, order_before, refunded, notice }
    }

    /// The hold as it stood right after this step.
    fn then(&self, now: View) -> View {
        let state = match self.step {
            Step::Held | Step::Extended => State::Held,
            Step::Cancelled => State::Cancelled,
            Step::Expired => State::Expired,
            Step::Paid => State::Paid,
            Step::RefundDue => State::RefundDue,
            Step::Refunded => {
                let refunded = self.refunded.as_deref().unwrap_or_default();
                let whole = now.held.lines.iter().zip(refunded).all(|(line, gone)| line.quantity == *gone);
                if whole { State::Refunded } else { State::Paid }
            }
        };
        let placed = now.standing.placed.filter(|_| !matches!(state, State::Held | State::Cancelled | State::Expired));
        let placed = placed.map(|placed| {
            let refunded = self.refunded.clone().unwrap_or_else(|| placed.refunded.clone());
            Arc::new(Placed { refunded, ..Placed::clone(&placed) })
        });
        View { standing: Standing { state, expires_at: now.standing.expires_at, placed }, held: now.held }
    }

    fn order_before(&self, of: OrdersOf) -> u64 {
        self.order_before.map_or(0, |before| match of {
            OrdersOf::Buyer => before.of_buyer,
            OrdersOf::Merchant => before.of_merchant,
            OrdersOf::All => before.of_all,
        })
    }
}

impl Reader for SqliteReader {
    fn hold(&mut self, id: HoldId) -> Result<Option<View>, Failure> {
        match self.find(id)? {
            None => Ok(None),
            Some(tx) => Ok(self.view(tx)?),
        }
    }

    fn orders(&mut self, ask: &OrdersAsk) -> Result<OrdersFound, Failure> {
        let (mut tx, mut found) = (ask.newest, OrdersFound::default());
        if let Some(after) = ask.after {
            let placed = self.hold(after)?.and_then(|view| view.standing.placed);
            let Some(placed) = placed else { return Ok(found) };
            tx = self.step(placed.tx)?.map_or(0, |step| step.order_before(ask.of));
        }
        for _ in 0..ask.look_max {
            if tx == 0 || found.views.len() == ask.limit {
                break;
            }
            let Some(step) = self.step(tx)? else { break };
            let Some(view) = self.view(step.hold)? else { break };
            tx = step.order_before(ask.of);
            found.next = (tx != 0).then_some(view.held.id);
            if ask.state.is_none_or(|state| state == view.standing.state) {
                found.views.push(view);
            }
        }
        Ok(found)
    }

    fn messages(
        &mut self,
        sub: &Sub,
        newest: u64,
        after: u64,
        limit: usize,
        kept: usize,
    ) -> Result<Vec<Private>, Failure> {
        let (mut tx, mut messages) = (newest, Vec::new());
        while tx != 0 && messages.len() < kept {
            let Some((message, before)) = self.message(tx, sub)? else { break };
            if message.n <= after {
                break;
            }
            messages.push(message);
            tx = before;
        }
        messages.reverse();
        messages.truncate(limit);
        Ok(messages)
    }

    fn entries(&mut self, row: u64, last: u64, after: u64) -> Result<Vec<EntryRecord>, Failure> {
        let (mut row, mut n, mut entries) = (row, last, Vec::<EntryRecord>::new());
        while row != 0 {
            let (entry, before) = self.entry(row)?;
            if let Some(next) = entries.last_mut() {
                next.prev = entry.hash;
            }
            if n <= after {
                break;
            }
            entries.push(entry);
            (row, n) = (before, n - 1);
        }
        entries.reverse();
        Ok(entries)
    }
}

/// An entry as it is exported, as yet without the hash before it.
pub fn entry_record(tx: u64, record: &Record<'_>, facts: &EntryFacts) -> EntryRecord {
    let EntryFacts { kind, quantity, n, hash, .. } = *facts;
    let holder = match &record.what {
        Facts::Made(made) => Some(holder(&HoldId::from_bytes(made.id), &made.nonce)),
        Facts::Step(step) => step.holder,
        Facts::Opened(_) | Facts::Adjusted(_) => None,
    };
    let reason = record.reason.map(str::to_owned);
    EntryRecord { n, at: record.at, kind, quantity, tx, holder, reason, prev: Digest::ZERO, hash }
}
