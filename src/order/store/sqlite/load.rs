//! Reading what the ledger needs to go on.

use std::{collections::HashMap, str::FromStr};

use rusqlite::{Connection, Row};

use super::rows::{self, bytes, number, parsed, time};
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
    load_holds(db, recent, restore)?;
    load_steps(db, restore)?;
    load_adjustments(db, restore)?;
    let (tx, at) = last(db)?;
    restore.last(tx, at);
    Ok(())
}

fn each(db: &Connection, query: &str, mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<()>) -> rusqlite::Result<()> {
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
    let query = "SELECT no, sku, product, merchant, stock, available, held, sold, entry, head_row, head_at, head_hash \
                 FROM sku ORDER BY no";
    each(db, query, |row| {
        let sku =
            OpenedSku { no: row.get(0)?, sku: parsed(row, 1)?, product: parsed(row, 2)?, merchant: parsed(row, 3)? };
        let head = Head {
            sku_no: sku.no,
            stock: number(row, 4)?,
            count: counts(row, 5)?,
            row: number(row, 9)?,
            at: time(row, 10)?,
            hash: Digest(bytes(row, 11)?),
        };
        let marks = marks.remove(&sku.no).unwrap_or_default();
        restore.sku(SkuRow { sku, head, marks });
        Ok(())
    })
}

fn counts(row: &Row<'_>, column: usize) -> rusqlite::Result<StockCount> {
    Ok(StockCount {
        available: number(row, column)?,
        held: number(row, column + 1)?,
        sold: number(row, column + 2)?,
        entry: number(row, column + 3)?,
    })
}

fn load_holds(db: &Connection, recent: UnixMs, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    let query =
        format!("SELECT {} FROM hold JOIN person ON person.no = hold.person ORDER BY hold.tx", rows::HOLD_COLUMNS);
    each(db, &query, |row| {
        let over = matches!(rows::state(row)?, State::Cancelled | State::Expired);
        if over && time(row, 11)? <= recent {
            restore.message(number(row, 2)?, number(row, 0)?, rows::first_message(row)?);
            return Ok(());
        }
        restore.hold(HoldRow {
            held: rows::hold(row)?,
            standing: rows::standing(row)?,
            n: rows::first_message(row)?,
            key: rows::hold_key(row)?,
        });
        Ok(())
    })
}

fn load_steps(db: &Connection, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    let query = "SELECT tx, at, person, n, step, key, key_body, refunded, hold FROM step ORDER BY tx";
    let mut hold_id = db.prepare("SELECT id FROM hold WHERE tx = ?1")?;
    each(db, query, |row| {
        restore.message(number(row, 2)?, number(row, 0)?, number(row, 3)?);
        if Step::parse(row.get_ref(4)?.as_str()?) == Some(Step::Refunded) {
            let hold: i64 = row.get(8)?;
            let id = HoldId::from_bytes(hold_id.query_row([hold], |row| bytes(row, 0))?);
            restore.key(rows::key(row, 5)?, Known::Refund(id, rows::refunded(row, 7)?), time(row, 1)?);
        }
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

/// The version of a dotted text, for comparing.
pub fn version_number(text: &str) -> Vec<u32> {
    text.split('.').filter_map(|part| u32::from_str(part).ok()).collect()
}
