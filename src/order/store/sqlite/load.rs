//! Reading what the ledger needs to go on: the checkpoint, what was open or recent then, and what came after.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Row};

use super::{
    checkpoint,
    rows::{self, bytes, number, parsed, time},
};
use crate::{
    clock::UnixMs,
    id::HoldId,
    order::{
        entry::Digest,
        hold::{State, Step},
        ledger::Known,
        store::{Head, HoldRow, Restore, SkuRow},
        tx::OpenedSku,
    },
    protocol::StockCount,
};

pub fn load(db: &Connection, recent: UnixMs, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    each(db, "SELECT no, sub FROM person ORDER BY no", |row| {
        restore.person(number(row, 0)?, parsed(row, 1)?);
        Ok(())
    })?;
    load_skus(db, restore)?;
    let checkpoint = checkpoint::load(db)?.unwrap_or_default();
    let (base, open) = (checkpoint.tx, checkpoint.open.clone());
    restore.checkpoint(checkpoint);
    load_earlier_holds(db, base, recent, &open, restore)?;
    load_holds(db, base, recent, restore)?;
    load_steps(db, base, recent, restore)?;
    load_notices(db, base, restore)?;
    load_adjustments(db, restore)?;
    let (tx, at) = last(db)?;
    restore.last(tx, at);
    Ok(())
}

pub fn each(
    db: &Connection,
    query: &str,
    mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut query = db.prepare(query)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        take(row)?;
    }
    Ok(())
}

fn load_skus(db: &Connection, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    let mut marks: HashMap<u32, Vec<u64>> = HashMap::new();
    each(db, "SELECT row, sku FROM mark ORDER BY row", |row| {
        marks.entry(row.get(1)?).or_default().push(number(row, 0)?);
        Ok(())
    })?;
    each(db, SKUS, |row| {
        let (sku, head) = sku(row)?;
        let marks = marks.remove(&sku.no).unwrap_or_default();
        restore.sku(SkuRow { sku, head, marks });
        Ok(())
    })
}

/// What [`sku`] reads.
pub const SKUS: &str = "SELECT no, sku, product, merchant, stock, available, held, sold, entry, head_row, head_at, \
                        head_hash FROM sku ORDER BY no";

pub fn sku(row: &Row<'_>) -> rusqlite::Result<(OpenedSku, Head)> {
    let (no, sku) = (row.get(0)?, parsed(row, 1)?);
    let sku = OpenedSku { no, sku, product: parsed(row, 2)?, merchant: parsed(row, 3)? };
    let head = Head {
        sku_no: no,
        stock: number(row, 4)?,
        count: counts(row, 5)?,
        row: number(row, 9)?,
        at: time(row, 10)?,
        hash: Digest(bytes(row, 11)?),
    };
    Ok((sku, head))
}

pub fn counts(row: &Row<'_>, column: usize) -> rusqlite::Result<StockCount> {
    Ok(StockCount {
        available: number(row, column)?,
        held: number(row, column + 1)?,
        sold: number(row, column + 2)?,
        entry: number(row, column + 3)?,
    })
}

pub fn holds_where(condition: &str) -> String {
    let columns = rows::HOLD_COLUMNS;
    format!("SELECT {columns} FROM hold JOIN person ON person.no = hold.person WHERE {condition} ORDER BY hold.tx")
}

pub fn hold_row(row: &Row<'_>) -> rusqlite::Result<HoldRow> {
    Ok(HoldRow {
        held: rows::hold(row)?,
        standing: rows::standing(row)?,
        n: rows::first_message(row)?,
        key: rows::hold_key(row)?,
    })
}

/// Holds up to the checkpoint that are still open, or recent.
fn load_earlier_holds(
    db: &Connection,
    base: u64,
    recent: UnixMs,
    open: &[u64],
    restore: &mut dyn Restore,
) -> rusqlite::Result<()> {
    let first_recent = first_after(db, "hold", "made_at", recent)?;
    let mut one = db.prepare(&holds_where("hold.tx = ?1"))?;
    for tx in open.iter().filter(|tx| **tx < first_recent) {
        let row = one.query_row([*tx as i64], hold_row)?;
        if row.standing.state == State::Held {
            restore.earlier_hold(row);
        }
    }
    each(db, &holds_where(&format!("hold.tx >= {first_recent} AND hold.tx <= {base}")), |row| {
        restore.earlier_hold(hold_row(row)?);
        Ok(())
    })
}

/// Holds made after the checkpoint.
fn load_holds(db: &Connection, base: u64, recent: UnixMs, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    each(db, &holds_where(&format!("hold.tx > {base}")), |row| {
        let over = matches!(rows::state(row)?, State::Cancelled | State::Expired);
        if over && time(row, 11)? <= recent {
            restore.message(number(row, 2)?, number(row, 0)?, rows::first_message(row)?);
        } else {
            restore.hold(hold_row(row)?);
        }
        Ok(())
    })
}

/// Steps after the checkpoint, and recent ones for their keys.
fn load_steps(db: &Connection, base: u64, recent: UnixMs, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    let first = first_after(db, "step", "at", recent)?.min(base + 1);
    let query = format!(
        "SELECT tx, at, person, n, step, key, key_body, refunded, hold, counted FROM step WHERE tx >= {first} \
         ORDER BY tx"
    );
    let mut hold_id = db.prepare("SELECT id FROM hold WHERE tx = ?1")?;
    let mut one = db.prepare(&holds_where("hold.tx = ?1"))?;
    let mut changed = HashSet::new();
    each(db, &query, |row| {
        let (tx, hold) = (number(row, 0)?, number(row, 8)?);
        if tx > base {
            restore.message(number(row, 2)?, tx, number(row, 3)?);
            if hold <= base && changed.insert(hold) {
                restore.changed_hold(one.query_row([hold as i64], hold_row)?, &rows::pieces(row, 9)?);
            }
        }
        if Step::parse(row.get_ref(4)?.as_str()?) == Some(Step::Refunded) {
            let id = HoldId::from_bytes(hold_id.query_row([hold as i64], |row| bytes(row, 0))?);
            restore.key(rows::key(row, 5)?, Known::Refund(id, rows::pieces(row, 7)?), time(row, 1)?);
        }
        Ok(())
    })
}

/// Messages after the checkpoint to others than buyers.
fn load_notices(db: &Connection, base: u64, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    each(db, &format!("SELECT tx, person, n FROM notice WHERE tx > {base} ORDER BY tx"), |row| {
        restore.message(number(row, 1)?, number(row, 0)?, number(row, 2)?);
        Ok(())
    })
}

fn load_adjustments(db: &Connection, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    let query = "SELECT at, key, key_body, available, held, sold, entry FROM adjustment ORDER BY tx";
    each(db, query, |row| {
        restore.key(rows::key(row, 1)?, Known::Adjust(counts(row, 3)?), time(row, 0)?);
        Ok(())
    })
}

/// The first transaction of a table that is later than `at`, found by halving: times rise with transactions.
pub fn first_after(db: &Connection, table: &str, column: &str, at: UnixMs) -> rusqlite::Result<u64> {
    let next = format!("SELECT tx, {column} FROM {table} WHERE tx >= ?1 ORDER BY tx LIMIT 1");
    let mut next = db.prepare(&next)?;
    let newest = format!("SELECT coalesce(max(tx), 0) FROM {table}");
    let (mut low, mut high) = (0, db.query_row(&newest, [], |row| number(row, 0))? + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let found = next.query_row([middle as i64], |row| Ok((number(row, 0)?, time(row, 1)?))).optional()?;
        match found {
            Some((tx, time)) if time <= at => low = tx + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The last transaction and its time. Openings have no table of their own, but entries.
pub fn last(db: &Connection) -> rusqlite::Result<(u64, UnixMs)> {
    let mut last = (0, UnixMs(0));
    for query in [
        "SELECT tx, made_at FROM hold ORDER BY tx DESC LIMIT 1",
        "SELECT tx, at FROM step ORDER BY tx DESC LIMIT 1",
        "SELECT tx, at FROM adjustment ORDER BY tx DESC LIMIT 1",
        "SELECT tx, at FROM entry ORDER BY row DESC LIMIT 1",
    ] {
        each(db, query, |row| {
            last = last.max((number(row, 0)?, time(row, 1)?));
            Ok(())
        })?;
    }
    Ok(last)
}
