//! Reading orders, messages and entries while the journal writes.

use std::{path::Path, sync::Arc};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::{
    names::Names,
    rows::{self, Unreadable, bytes, damaged, number, time},
};
use crate::{
    clock::UnixMs,
    id::{HoldId, Sub},
    order::{
        entry::{Digest, EntryRecord},
        hold::{Placed, Standing, State, Step, View},
        store::{Failure, OrdersAsk, OrdersFound, OrdersOf, Reader},
    },
    protocol::Private,
};

pub struct SqliteReader {
    db: Connection,
}

impl SqliteReader {
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.execute_batch("PRAGMA busy_timeout = 5000; PRAGMA query_only = ON")?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(Self { db })
    }

    /// The hold made by transaction `tx`, with what else its row says.
    fn hold_row<T>(&self, tx: u64, read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
        let mut query = self.db.prepare_cached(&rows::named_holds("hold.tx = ?1"))?;
        query.query_row([tx as i64], read).optional()
    }

    /// The first hold of a transaction numbered `tx` or above: its number and id.
    fn hold_from(&self, tx: u64) -> rusqlite::Result<Option<(u64, HoldId)>> {
        let mut query = self.db.prepare_cached("SELECT tx, id FROM hold WHERE tx >= ?1 ORDER BY tx LIMIT 1")?;
        query.query_row([tx as i64], |row| Ok((number(row, 0)?, HoldId::from_bytes(bytes(row, 1)?)))).optional()
    }

    /// Finds a hold by its id without an index: ids begin with the time, and transactions are in its order.
    fn find(&self, id: HoldId) -> rusqlite::Result<Option<u64>> {
        let time = |id: &HoldId| -> [u8; 6] { id.as_bytes()[..6].try_into().expect("an id has 16 bytes") };
        let newest = "SELECT coalesce(max(tx), 0) FROM hold";
        let (mut low, mut high) = (0, self.db.prepare_cached(newest)?.query_row([], |row| number(row, 0))? + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.hold_from(middle)? {
                Some((tx, found)) if time(&found) < time(&id) => low = tx + 1,
                _ => high = middle,
            }
        }
        while let Some((tx, found)) = self.hold_from(low)? {
            if found == id {
                return Ok(Some(tx));
            }
            if time(&found) != time(&id) {
                break;
            }
            low = tx + 1;
        }
        Ok(None)
    }

    fn step(&self, tx: u64) -> rusqlite::Result<Option<StepRow>> {
        let mut query = self.db.prepare_cached(
            "SELECT at, hold, step, n, message_before, before_of_buyer, before_of_merchant, before_of_all, refunded \
             FROM step WHERE tx = ?1",
        )?;
        query.query_row([tx as i64], StepRow::read).optional()
    }

    /// The number of the notice of transaction `tx`, and the transaction of the message before it.
    fn notice(&self, tx: u64) -> rusqlite::Result<Option<(u64, u64)>> {
        let mut query = self.db.prepare_cached("SELECT n, message_before FROM notice WHERE tx = ?1")?;
        query.query_row([tx as i64], |row| Ok((number(row, 0)?, number(row, 1)?))).optional()
    }

    /// The message to `sub` about transaction `tx`, and the transaction of the one before it.
    fn message(&self, tx: u64, sub: &Sub) -> rusqlite::Result<Option<(Private, u64)>> {
        let made = self.hold_row(tx, |row| {
            let held = Arc::new(rows::hold(row, &mut Names::default())?);
            let (at, standing) = (held.made_at, Standing::new(&held));
            let body = Step::Held.told(&View { held, standing });
            Ok((Private { n: rows::first_message(row)?, at, body }, rows::message_before(row)?))
        })?;
        if made.is_some() {
            return Ok(made);
        }
        let Some(step) = self.step(tx)? else { return Ok(None) };
        let Some(view) = self.hold_row(step.hold, view)? else { return Ok(None) };
        let then = step.then(view);
        if then.held.sub == *sub {
            let body = step.step.told(&then);
            return Ok(Some((Private { n: step.n, at: step.at, body }, step.message_before)));
        }
        let notice = self.notice(tx)?;
        Ok(notice.map(|(n, before)| (Private { n, at: step.at, body: then.told_confirmer() }, before)))
    }
}

pub fn view(row: &Row<'_>) -> rusqlite::Result<View> {
    let held = rows::hold(row, &mut Names::default())?;
    Ok(View { standing: rows::standing(row, &held)?, held: Arc::new(held) })
}

struct StepRow {
    at: UnixMs,
    hold: u64,
    step: Step,
    n: u64,
    message_before: u64,
    orders_before: [Option<i64>; 3],
    refunded: Option<Box<[u32]>>,
}

impl StepRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let step = Step::parse(row.get_ref(2)?.as_str()?);
        Ok(Self {
            at: time(row, 0)?,
            hold: number(row, 1)?,
            step: step.ok_or_else(|| damaged(2, Unreadable("no such step of a hold")))?,
            n: number(row, 3)?,
            message_before: number(row, 4)?,
            orders_before: [row.get(5)?, row.get(6)?, row.get(7)?],
            refunded: row.get_ref(8)?.as_str_or_null()?.map(|_| rows::pieces(row, 8)).transpose()?,
        })
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
        let [of_buyer, of_merchant, of_all] = self.orders_before;
        let before = match of {
            OrdersOf::Buyer => of_buyer,
            OrdersOf::Merchant => of_merchant,
            OrdersOf::All => of_all,
        };
        before.map_or(0, |tx| tx as u64)
    }
}

impl Reader for SqliteReader {
    fn hold(&mut self, id: HoldId) -> Result<Option<View>, Failure> {
        match self.find(id)? {
            None => Ok(None),
            Some(tx) => Ok(self.hold_row(tx, view)?),
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
            let Some(view) = self.hold_row(step.hold, view)? else { break };
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
        let mut query = self.db.prepare_cached(
            "SELECT n, at, type, quantity, tx, holder, reason, row_before, hash FROM entry WHERE row = ?1",
        )?;
        while row != 0 {
            let (entry, before) = query.query_row(params![row as i64], entry)?;
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

fn entry(row: &Row<'_>) -> rusqlite::Result<(EntryRecord, u64)> {
    entry_at(row, 0)
}

/// An entry whose columns begin at `first`, as yet without the hash before it, and the row before it.
pub fn entry_at(row: &Row<'_>, first: usize) -> rusqlite::Result<(EntryRecord, u64)> {
    let kind = row.get_ref(first + 2)?.as_str()?.parse();
    let holder = row.get_ref(first + 5)?.as_blob_or_null()?.map(|_| bytes(row, first + 5)).transpose()?;
    let entry = EntryRecord {
        n: number(row, first)?,
        at: time(row, first + 1)?,
        kind: kind.map_err(|()| damaged(first + 2, Unreadable("no such type of entry")))?,
        quantity: row.get(first + 3)?,
        tx: number(row, first + 4)?,
        holder: holder.map(Digest),
        reason: row.get(first + 6)?,
        prev: Digest::ZERO,
        hash: Digest(bytes(row, first + 8)?),
    };
    Ok((entry, number(row, first + 7)?))
}
