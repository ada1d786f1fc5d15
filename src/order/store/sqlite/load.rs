//! Reading what the ledger needs to go on: the checkpoint, what was open or recent then, and what came after.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Row, Statement};

use super::{
    checkpoint,
    names::Names,
    rows::{self, Unreadable, bytes, number, parsed, time},
    take::{each, each_hold, located, taken},
};
use crate::{
    clock::UnixMs,
    id::{HoldId, Sub},
    order::{
        entry::Digest,
        hold::{State, Step},
        ledger::Known,
        store::{Checkpoint, Damage, Head, HoldRow, Restore, SkuRow},
        tx::OpenedSku,
    },
    protocol::StockCount,
};

pub fn load(db: &mut Connection, recent: UnixMs, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    let mut names = Names::default();
    each(db, "person", "SELECT no, sub FROM person ORDER BY no", |row| {
        let sub: Sub = parsed(row, 1)?;
        names.subs.push(sub.clone());
        taken(restore.person(number(row, 0)?, sub))
    })?;
    load_skus(db, restore)?;
    check_chains(db)?;
    let checkpoint = checkpoint::load(db).map_err(|error| located("checkpoint", error))?.unwrap_or_default();
    check_checkpoint(db, &checkpoint)?;
    let (base, open) = (checkpoint.tx, checkpoint.open.clone());
    taken(restore.checkpoint(checkpoint))?;
    load_earlier_holds(db, base, recent, &open, &mut names, restore)?;
    load_holds(db, base, recent, &mut names, restore)?;
    load_steps(db, base, recent, &mut names, restore)?;
    load_notices(db, base, restore)?;
    load_adjustments(db, restore)?;
    let (tx, at) = last(db)?;
    taken(restore.last(tx, at))
}

/// The hold made by transaction `tx`, which another row names.
fn named_hold<T>(
    one: &mut Statement<'_>,
    tx: u64,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    one.query_row([tx as i64], read).map_err(|error| located(&format!("hold {tx}"), error))
}

/// Each chain ends with the entry that its SKU names, and no entry comes after the last of all chains.
fn check_chains(db: &Connection) -> rusqlite::Result<()> {
    let wrong = [
        (
            "sku",
            "SELECT no FROM sku LEFT JOIN entry ON row = head_row WHERE entry.sku IS NOT no OR n IS NOT sku.entry \
          OR hash IS NOT head_hash OR at IS NOT head_at LIMIT 1",
        ),
        (
            "mark",
            "SELECT mark.row FROM mark LEFT JOIN entry ON entry.row = mark.row \
          WHERE entry.sku IS NOT mark.sku OR n % 128 IS NOT 0 LIMIT 1",
        ),
        ("entry", "SELECT row FROM entry WHERE row > (SELECT coalesce(max(head_row), 0) FROM sku) LIMIT 1"),
    ];
    for (table, query) in wrong {
        each(db, table, query, |_| Err(rows::damaged(0, Unreadable("it is not where its chain ends or is marked"))))?;
    }
    Ok(())
}

/// The newest message of a checkpoint is about the last step before it.
fn check_checkpoint(db: &Connection, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    let newest = "SELECT max(coalesce((SELECT max(tx) FROM hold WHERE tx <= ?1), 0), \
                  coalesce((SELECT max(tx) FROM step WHERE tx <= ?1), 0))";
    let newest = db.query_row(newest, [checkpoint.tx as i64], |row| number(row, 0))?;
    let told = checkpoint.people.iter().map(|then| then.message_tx).max().unwrap_or(0);
    if told == newest {
        return Ok(());
    }
    let what = format!("the checkpoint of transaction {} ends with {told}, not {newest}", checkpoint.tx);
    Err(rows::damaged(0, Damage(what)))
}

fn load_skus(db: &Connection, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    let mut marks: HashMap<u32, Vec<u64>> = HashMap::new();
    each(db, "mark", "SELECT row, sku FROM mark ORDER BY row", |row| {
        marks.entry(row.get(1)?).or_default().push(number(row, 0)?);
        Ok(())
    })?;
    each(db, "sku", SKUS, |row| {
        let (sku, head) = sku(row)?;
        let marks = marks.remove(&sku.no).unwrap_or_default();
        taken(restore.sku(SkuRow { sku, head, marks }))
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

fn hold_row(row: &Row<'_>, names: &mut Names) -> rusqlite::Result<HoldRow> {
    let held = rows::hold(row, names)?;
    let standing = rows::standing(row, &held)?;
    Ok(HoldRow { held, standing, n: rows::first_message(row)?, key: rows::hold_key(row)? })
}

/// Holds up to the checkpoint that are still open, or recent.
fn load_earlier_holds(
    db: &mut Connection,
    base: u64,
    recent: UnixMs,
    open: &[u64],
    names: &mut Names,
    restore: &mut dyn Restore,
) -> rusqlite::Result<()> {
    let first_recent = first_after(db, "hold", "made_at", recent)?;
    let mut one = db.prepare(&rows::numbered_holds("hold.tx = ?1"))?;
    for tx in open.iter().filter(|tx| **tx < first_recent) {
        let row = named_hold(&mut one, *tx, |row| hold_row(row, names))?;
        if row.standing.state == State::Held {
            taken(restore.earlier_hold(row)).map_err(|error| located(&format!("hold {tx}"), error))?;
        }
    }
    drop(one);
    let condition = format!("hold.tx >= {first_recent} AND hold.tx <= {base}");
    each_hold(db, &condition, names, hold_row, |row| restore.earlier_hold(row))
}

/// A hold made after the checkpoint, or of one that is long over only the message about it: to whom, its transaction
/// and number.
enum Later {
    Hold(Box<HoldRow>),
    Message(u64, u64, u64),
}

/// Holds made after the checkpoint.
fn load_holds(
    db: &mut Connection,
    base: u64,
    recent: UnixMs,
    names: &mut Names,
    restore: &mut dyn Restore,
) -> rusqlite::Result<()> {
    let read = move |row: &Row<'_>, names: &mut Names| {
        let over = matches!(rows::state(row)?, State::Cancelled | State::Expired);
        Ok(if over && time(row, 11)? <= recent {
            Later::Message(number(row, 2)?, number(row, 0)?, rows::first_message(row)?)
        } else {
            Later::Hold(Box::new(hold_row(row, names)?))
        })
    };
    each_hold(db, &format!("hold.tx > {base}"), names, read, |later| match later {
        Later::Hold(row) => restore.hold(*row),
        Later::Message(person, tx, n) => restore.message(person, tx, n),
    })
}

/// Steps after the checkpoint, and recent ones for their keys.
fn load_steps(
    db: &Connection,
    base: u64,
    recent: UnixMs,
    names: &mut Names,
    restore: &mut dyn Restore,
) -> rusqlite::Result<()> {
    let first = first_after(db, "step", "at", recent)?.min(base + 1);
    let query = format!(
        "SELECT tx, at, person, n, step, key, key_body, refunded, hold, counted FROM step WHERE tx >= {first} \
         ORDER BY tx"
    );
    let mut hold_id = db.prepare("SELECT id FROM hold WHERE tx = ?1")?;
    let mut one = db.prepare(&rows::numbered_holds("hold.tx = ?1"))?;
    let mut changed = HashSet::new();
    each(db, "step", &query, |row| {
        let (tx, hold) = (number(row, 0)?, number(row, 8)?);
        if tx > base {
            taken(restore.message(number(row, 2)?, tx, number(row, 3)?))?;
            if hold <= base && changed.insert(hold) {
                taken(
                    restore
                        .changed_hold(named_hold(&mut one, hold, |row| hold_row(row, names))?, &rows::pieces(row, 9)?),
                )?;
            }
        }
        let step = Step::parse(row.get_ref(4)?.as_str()?);
        let step = step.ok_or_else(|| rows::damaged(4, Unreadable("no such step of a hold")))?;
        if step == Step::Refunded {
            let id = HoldId::from_bytes(named_hold(&mut hold_id, hold, |row| bytes(row, 0))?);
            restore.key(rows::key(row, 5)?, Known::Refund(id, rows::pieces(row, 7)?), time(row, 1)?);
        }
        Ok(())
    })
}

/// Messages after the checkpoint to others than buyers.
fn load_notices(db: &Connection, base: u64, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    each(db, "notice", &format!("SELECT tx, person, n FROM notice WHERE tx > {base} ORDER BY tx"), |row| {
        taken(restore.message(number(row, 1)?, number(row, 0)?, number(row, 2)?))
    })
}

fn load_adjustments(db: &Connection, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    let query = "SELECT tx, at, key, key_body, available, held, sold, entry FROM adjustment ORDER BY tx";
    each(db, "adjustment", query, |row| {
        restore.key(rows::key(row, 2)?, Known::Adjust(counts(row, 4)?), time(row, 1)?);
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
        each(db, "the last transaction", query, |row| {
            last = last.max((number(row, 0)?, time(row, 1)?));
            Ok(())
        })?;
    }
    Ok(last)
}
