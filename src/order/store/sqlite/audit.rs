//! Reading a whole ledger to an [`Audit`]: all tables side by side, transaction by transaction.

use std::cell::RefCell;

use rusqlite::{Connection, OptionalExtension, Row, Rows, Statement};

use super::{
    checkpoint, load,
    names::Names,
    read,
    record::{self, Facts},
    rows::{self, damaged, entry_row, tx_number},
    take,
};
use crate::{
    id::Sub,
    order::{
        reconcile::{AdjustmentRecord, Audit, EntryRow, HoldRecord, MessageRecord, Record, StepRecord},
        store::{HoldRow, row},
        tx::OpenedSku,
    },
};

const STANDINGS: &str = "SELECT hold FROM standing ORDER BY hold";
const MARKS: &str = "SELECT row, sku FROM mark ORDER BY row";
/// Lines of the file's own check that are passed on.
const DAMAGE_MAX: u32 = 100;

/// Tells everything. What cannot be read because a row does not hold what it must is told as that.
pub fn tell(db: &Connection, audit: &mut Audit) -> rusqlite::Result<()> {
    take::each(db, "integrity_check", &format!("PRAGMA integrity_check({DAMAGE_MAX})"), |row| {
        let said: String = row.get(0)?;
        if said != "ok" {
            audit.damaged(&said);
        }
        Ok(())
    })?;
    let mut skus = db.prepare(load::SKUS)?;
    let mut skus = Cursor::open("sku", &mut skus, load::sku, audit)?;
    let mut names = Names::default();
    while let Some((sku, head)) = skus.take(audit)? {
        names.learn(sku.clone());
        audit.sku(sku, head);
    }
    match checkpoint::load(db, &mut |_, _| Ok(())) {
        Ok(checkpoint) => audit.checkpoint(checkpoint.unwrap_or_default()),
        Err(error) => audit.unreadable("checkpoint", &reason(error)?),
    }
    tell_transactions(db, names, audit)
}

fn tell_transactions(db: &Connection, names: Names, audit: &mut Audit) -> rusqlite::Result<()> {
    let names = RefCell::new(names);
    let read = |row: &Row<'_>| transaction(row, &mut names.borrow_mut());
    let mut transactions = db.prepare(&rows::records_with_standing("true"))?;
    let (mut standings, mut marks) = (db.prepare(STANDINGS)?, db.prepare(MARKS)?);
    let mut tables = Tables {
        transactions: Cursor::open("transaction", &mut transactions, read, audit)?,
        standings: Cursor::open("standing", &mut standings, |row| Ok((tx_number(row, 0)?, ())), audit)?,
        marks: Cursor::open("mark", &mut marks, mark, audit)?,
    };
    let mut earlier = db.prepare(&rows::records_with_standing("no = ?1"))?;
    while let Some(record) = tables.next(audit)? {
        let earlier = match record.step.as_ref().filter(|step| audit.needs(step.hold)) {
            Some(step) => one_hold(&mut earlier, step.hold, &mut names.borrow_mut())?,
            None => None,
        };
        audit.transaction(record, earlier);
    }
    tables.strays(u64::MAX, audit)?;
    while let Some((row, _)) = tables.marks.take(audit)? {
        audit.stray_mark(row);
    }
    Ok(())
}

/// One that cannot be read was told as that when its turn came.
fn one_hold(query: &mut Statement<'_>, tx: u64, names: &mut Names) -> rusqlite::Result<Option<HoldRow>> {
    match query.query_row([tx as i64], |row| hold(row, names)).optional() {
        Ok(found) => Ok(found.flatten().map(|hold| hold.row)),
        Err(error) => reason(error).map(|_| None),
    }
}

/// Why a row could not be read, when it is the row's fault.
fn reason(error: rusqlite::Error) -> rusqlite::Result<String> {
    match error {
        rusqlite::Error::SqliteFailure(..) => Err(error),
        rusqlite::Error::FromSqlConversionFailure(_, _, why) => Ok(why.to_string()),
        other => Ok(other.to_string()),
    }
}

struct Tables<'s> {
    transactions: Cursor<'s, (u64, Record)>,
    standings: Cursor<'s, (u64, ())>,
    marks: Cursor<'s, (u64, u32)>,
}

impl Tables<'_> {
    fn next(&mut self, audit: &mut Audit) -> rusqlite::Result<Option<Record>> {
        let Some((tx, mut record)) = self.transactions.take(audit)? else { return Ok(None) };
        self.strays(tx, audit)?;
        if record.hold.is_some() {
            self.standings.take_of(tx, audit)?;
        }
        for entry in &mut record.entries {
            entry.mark = self.mark(entry.row, audit)?;
        }
        Ok(Some(record))
    }

    /// Standings before `tx` that are left are those of no hold.
    fn strays(&mut self, tx: u64, audit: &mut Audit) -> rusqlite::Result<()> {
        while let Some(stray) = self.standings.number().filter(|hold| *hold < tx) {
            self.standings.take(audit)?;
            audit.stray_standing(stray);
        }
        Ok(())
    }

    /// The SKU that the mark at a row names. Marks of rows before it have no entry.
    fn mark(&mut self, row: u64, audit: &mut Audit) -> rusqlite::Result<Option<u32>> {
        while let Some(stray) = self.marks.number().filter(|marked| *marked < row) {
            self.marks.take(audit)?;
            audit.stray_mark(stray);
        }
        self.marks.take_of(row, audit)
    }
}

type Read<'s, T> = dyn FnMut(&Row<'_>) -> rusqlite::Result<T> + 's;

/// The rows of one table, one read ahead.
struct Cursor<'s, T> {
    table: &'static str,
    rows: Rows<'s>,
    read: Box<Read<'s, T>>,
    head: Option<T>,
}

impl<'s, T> Cursor<'s, T> {
    fn open(
        table: &'static str,
        statement: &'s mut Statement<'_>,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T> + 's,
        audit: &mut Audit,
    ) -> rusqlite::Result<Self> {
        let mut cursor = Self { table, rows: statement.query([])?, read: Box::new(read), head: None };
        cursor.advance(audit)?;
        Ok(cursor)
    }

    /// Rows that cannot be read are told and passed over.
    fn advance(&mut self, audit: &mut Audit) -> rusqlite::Result<()> {
        self.head = None;
        while let Some(row) = self.rows.next()? {
            match (self.read)(row) {
                Ok(read) => {
                    self.head = Some(read);
                    break;
                }
                Err(error) => {
                    let number: i64 = row.get(0).unwrap_or(-1);
                    audit.unreadable(&format!("{} {number}", self.table), &reason(error)?);
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, audit: &mut Audit) -> rusqlite::Result<Option<T>> {
        let taken = self.head.take();
        if taken.is_some() {
            self.advance(audit)?;
        }
        Ok(taken)
    }
}

impl<T> Cursor<'_, (u64, T)> {
    fn number(&self) -> Option<u64> {
        self.head.as_ref().map(|(number, _)| *number)
    }

    fn take_of(&mut self, number: u64, audit: &mut Audit) -> rusqlite::Result<Option<T>> {
        if self.number() != Some(number) {
            return Ok(None);
        }
        Ok(self.take(audit)?.map(|(_, row)| row))
    }
}

/// A transaction with all that is known of it, and its number.
fn transaction(row: &Row<'_>, names: &mut Names) -> rusqlite::Result<(u64, Record)> {
    let (tx, record) = rows::record(row)?;
    let mut found = Record { tx, at: record.at, entries: entries(tx, &record), ..Record::default() };
    match &record.what {
        Facts::Opened(skus) => found.opened = Some(skus.iter().map(opened).collect::<rusqlite::Result<_>>()?),
        Facts::Adjusted(adjusted) => found.adjustment = Some(AdjustmentRecord { count: adjusted.count }),
        Facts::Made(_) => found.hold = hold(row, names)?,
        Facts::Step(facts) => {
            found.step = Some(step(facts));
            found.notice = facts.notice.as_ref().map(notice).transpose()?;
        }
    }
    Ok((tx, found))
}

fn hold(row: &Row<'_>, names: &mut Names) -> rusqlite::Result<Option<HoldRecord>> {
    let (tx, record) = rows::record(row)?;
    let Facts::Made(made) = &record.what else { return Ok(None) };
    let held = rows::held(tx, record.at, made, names)?;
    let standing = rows::recorded_standing(row, &held)?;
    let row = HoldRow { held: held.into(), standing, n: made.n, key: made.key };
    Ok(Some(HoldRecord { row, message_before: made.message_before }))
}

fn entries(tx: u64, record: &record::Record<'_>) -> Vec<EntryRow> {
    let entry = |(index, facts): (usize, &record::EntryFacts)| EntryRow {
        row: row(tx, index),
        sku_no: facts.sku_no,
        entry: read::entry_record(tx, record, facts),
        row_before: facts.row_before,
        mark: None,
    };
    record.entries.iter().enumerate().map(entry).collect()
}

fn opened(facts: &record::OpenedFacts<'_>) -> rusqlite::Result<OpenedSku> {
    Ok(OpenedSku {
        no: facts.no,
        sku: facts.sku.parse().map_err(|error| damaged(1, error))?,
        product: facts.product.parse().map_err(|error| damaged(1, error))?,
        merchant: facts.merchant.parse().map_err(|error| damaged(1, error))?,
    })
}

fn step(facts: &record::StepFacts<'_>) -> StepRecord {
    StepRecord {
        hold: facts.hold,
        step: facts.step,
        message: MessageRecord { person: facts.person, n: facts.n, before: facts.message_before },
        order_before: facts.order_before,
        has_key: facts.key.is_some(),
        counted: facts.counted.as_slice().into(),
        refunded: facts.refunded.as_deref().map(Box::from),
    }
}

fn notice(facts: &record::NoticeFacts<'_>) -> rusqlite::Result<(MessageRecord, Sub)> {
    let message = MessageRecord { person: facts.person, n: facts.n, before: facts.message_before };
    Ok((message, facts.sub.parse().map_err(|error| damaged(1, error))?))
}

fn mark(row: &Row<'_>) -> rusqlite::Result<(u64, u32)> {
    Ok((entry_row(row, 0)?, row.get(1)?))
}
