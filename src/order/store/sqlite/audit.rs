//! Reading a whole ledger to an [`Audit`]: all tables side by side, transaction by transaction.

use rusqlite::{Connection, OptionalExtension, Row, Rows, Statement};

use super::{
    checkpoint, load,
    names::Names,
    read, rows,
    rows::{Unreadable, damaged, number, time},
    take,
};
use crate::order::{
    hold::Step,
    reconcile::{AdjustmentRecord, Audit, EntryRow, HoldRecord, MessageRecord, Record, StepRecord},
    store::HoldRow,
    tx::OrderBefore,
};

const STEPS: &str = "SELECT tx, at, hold, step, person, n, message_before, before_of_buyer, before_of_merchant, \
                     before_of_all, key, counted, refunded FROM step ORDER BY tx";
const ADJUSTMENTS: &str = "SELECT tx, at, available, held, sold, entry FROM adjustment ORDER BY tx";
const NOTICES: &str = "SELECT tx, person, n, message_before FROM notice ORDER BY tx";
const ENTRIES: &str =
    "SELECT row, sku, n, at, type, quantity, tx, holder, reason, row_before, hash FROM entry ORDER BY row";
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
    while let Some((sku, head)) = skus.take(audit)? {
        audit.sku(sku, head);
    }
    match checkpoint::load(db) {
        Ok(checkpoint) => audit.checkpoint(checkpoint.unwrap_or_default()),
        Err(error) => audit.unreadable("checkpoint", &reason(error)?),
    }
    tell_transactions(db, audit)
}

fn tell_transactions(db: &Connection, audit: &mut Audit) -> rusqlite::Result<()> {
    let (mut holds, mut steps) = (db.prepare(&rows::named_holds("true"))?, db.prepare(STEPS)?);
    let (mut adjustments, mut notices) = (db.prepare(ADJUSTMENTS)?, db.prepare(NOTICES)?);
    let (mut entries, mut marks) = (db.prepare(ENTRIES)?, db.prepare(MARKS)?);
    let mut tables = Tables {
        holds: Cursor::open("hold", &mut holds, hold, audit)?,
        steps: Cursor::open("step", &mut steps, step, audit)?,
        adjustments: Cursor::open("adjustment", &mut adjustments, adjustment, audit)?,
        notices: Cursor::open("notice", &mut notices, notice, audit)?,
        entries: Cursor::open("entry", &mut entries, entry, audit)?,
        marks: Cursor::open("mark", &mut marks, mark, audit)?,
    };
    let mut earlier = db.prepare(&rows::named_holds("hold.tx = ?1"))?;
    while let Some(record) = tables.next(audit)? {
        let earlier = match record.step.as_ref().filter(|step| audit.needs(step.hold)) {
            Some(step) => one_hold(&mut earlier, step.hold)?,
            None => None,
        };
        audit.transaction(record, earlier);
    }
    while let Some((row, _)) = tables.marks.take(audit)? {
        audit.stray_mark(row);
    }
    Ok(())
}

/// One that cannot be read was told as that when its turn came.
fn one_hold(query: &mut Statement<'_>, tx: u64) -> rusqlite::Result<Option<HoldRow>> {
    match query.query_row([tx as i64], hold).optional() {
        Ok(found) => Ok(found.map(|(_, hold)| hold.row)),
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
    holds: Cursor<'s, (u64, HoldRecord)>,
    steps: Cursor<'s, (u64, StepRecord)>,
    adjustments: Cursor<'s, (u64, AdjustmentRecord)>,
    notices: Cursor<'s, (u64, MessageRecord)>,
    entries: Cursor<'s, (u64, EntryRow)>,
    marks: Cursor<'s, (u64, u32)>,
}

impl Tables<'_> {
    /// All that bears the next number.
    fn next(&mut self, audit: &mut Audit) -> rusqlite::Result<Option<Record>> {
        let numbers = [
            self.holds.number(),
            self.steps.number(),
            self.adjustments.number(),
            self.notices.number(),
            self.entries.number(),
        ];
        let Some(tx) = numbers.into_iter().flatten().min() else { return Ok(None) };
        let mut record = Record {
            tx,
            hold: self.holds.take_of(tx, audit)?,
            step: self.steps.take_of(tx, audit)?,
            adjustment: self.adjustments.take_of(tx, audit)?,
            notice: self.notices.take_of(tx, audit)?,
            entries: Vec::new(),
        };
        while let Some(mut entry) = self.entries.take_of(tx, audit)? {
            entry.mark = self.mark(entry.row, audit)?;
            record.entries.push(entry);
        }
        Ok(Some(record))
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

/// The rows of one table, one read ahead.
struct Cursor<'s, T> {
    table: &'static str,
    rows: Rows<'s>,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
    head: Option<T>,
}

impl<'s, T> Cursor<'s, T> {
    fn open(
        table: &'static str,
        statement: &'s mut Statement<'_>,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
        audit: &mut Audit,
    ) -> rusqlite::Result<Self> {
        let mut cursor = Self { table, rows: statement.query([])?, read, head: None };
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

fn hold(row: &Row<'_>) -> rusqlite::Result<(u64, HoldRecord)> {
    let (held, standing) = (rows::hold(row, &mut Names::default())?, rows::recorded_standing(row)?);
    let found = HoldRow { held, standing, n: rows::first_message(row)?, key: rows::hold_key(row)? };
    let message_before = rows::message_before(row)?;
    let lines = &found.held.lines;
    if let Some(placed) = &found.standing.placed {
        let fits = lines.iter().zip(&placed.refunded).all(|(line, refunded)| *refunded <= line.quantity);
        if placed.refunded.len() != lines.len() || !fits {
            return Err(damaged(0, Unreadable("the pieces refunded do not fit the lines")));
        }
    }
    Ok((found.held.tx, HoldRecord { row: found, message_before }))
}

fn step(row: &Row<'_>) -> rusqlite::Result<(u64, StepRecord)> {
    let step = Step::parse(row.get_ref(3)?.as_str()?);
    let before: Option<i64> = row.get(7)?;
    let order_before = match before {
        None => None,
        Some(_) => {
            Some(OrderBefore { of_buyer: number(row, 7)?, of_merchant: number(row, 8)?, of_all: number(row, 9)? })
        }
    };
    let step = StepRecord {
        at: time(row, 1)?,
        hold: number(row, 2)?,
        step: step.ok_or_else(|| damaged(3, Unreadable("no such step of a hold")))?,
        message: MessageRecord { person: number(row, 4)?, n: number(row, 5)?, before: number(row, 6)? },
        order_before,
        has_key: row.get_ref(10)?.as_blob_or_null()?.is_some(),
        counted: rows::pieces(row, 11)?,
        refunded: row.get_ref(12)?.as_str_or_null()?.map(|_| rows::pieces(row, 12)).transpose()?,
    };
    Ok((number(row, 0)?, step))
}

fn adjustment(row: &Row<'_>) -> rusqlite::Result<(u64, AdjustmentRecord)> {
    Ok((number(row, 0)?, AdjustmentRecord { at: time(row, 1)?, count: load::counts(row, 2)? }))
}

fn notice(row: &Row<'_>) -> rusqlite::Result<(u64, MessageRecord)> {
    Ok((number(row, 0)?, MessageRecord { person: number(row, 1)?, n: number(row, 2)?, before: number(row, 3)? }))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<(u64, EntryRow)> {
    let (entry, row_before) = read::entry_at(row, 2)?;
    let found = EntryRow { row: number(row, 0)?, sku_no: row.get(1)?, row_before, mark: None, entry };
    Ok((found.entry.tx, found))
}

fn mark(row: &Row<'_>) -> rusqlite::Result<(u64, u32)> {
    Ok((number(row, 0)?, row.get(1)?))
}
