//! Reading what the ledger needs to go on: the checkpoint, what was open or recent then, and what came after.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Row, Statement};

use super::{
    checkpoint,
    names::Names,
    record::{Facts, MadeFacts, Record, StepFacts},
    rows::{self, Unreadable, bytes, entry_row, number, parsed, time, tx_number},
    take::{Place, each, each_ahead, located, taken},
};
use crate::{
    clock::UnixMs,
    id::{HoldId, Sub},
    order::{
        entry::Digest,
        hold::{State, Step},
        ledger::Known,
        request::Key,
        store::{Checkpoint, Damage, Head, HoldRow, MARK_EVERY, Restore, SkuRow, row_parts},
        tx::OpenedSku,
    },
    protocol::StockCount,
};

pub fn load(db: &mut Connection, recent: UnixMs, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    let mut names = Names::default();
    load_skus(db, &mut names, restore)?;
    check_ends(db)?;
    let ahead = &mut *db;
    each_ahead(move |tell| read(ahead, recent, names, tell), |told| told.to(restore))?;
    let (tx, at) = last(db)?;
    taken(restore.last(tx, at))
}

/// Tells the checkpoint, what was open or recent then, and what came after.
fn read(db: &mut Connection, recent: UnixMs, mut names: Names, tell: Tell<'_>) -> rusqlite::Result<()> {
    let mut person = |no: u64, sub: &Sub| {
        names.meet(sub.clone());
        tell(("checkpoint_person", no), Told::Person(no, sub.clone()))
    };
    let checkpoint = checkpoint::load(db, &mut person).map_err(|error| located("checkpoint", error))?;
    let checkpoint = checkpoint.unwrap_or_default();
    check_checkpoint(db, &checkpoint)?;
    let (base, open) = (checkpoint.tx, checkpoint.open.clone());
    tell(("checkpoint", base), Told::Checkpoint(checkpoint))?;
    let first_recent = first_after(db, recent)?;
    read_open(db, open.iter().filter(|tx| **tx < first_recent), &mut names, tell)?;
    let tail = Tail { base, recent, names, changed: HashSet::new() };
    tail.read(db, first_recent.min(base + 1), tell)
}

/// A row of another transaction that is named by the one being read.
fn named<T>(
    one: &mut Statement<'_>,
    tx: u64,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    one.query_row([tx as i64], read).map_err(|error| located(&format!("transaction {tx}"), error))
}

/// Holds from before all that is read in order and that were open at the checkpoint.
fn read_open<'t>(
    db: &Connection,
    open: impl Iterator<Item = &'t u64>,
    names: &mut Names,
    tell: Tell<'_>,
) -> rusqlite::Result<()> {
    let mut one = db.prepare(&rows::records_with_standing("no = ?1"))?;
    for tx in open {
        let (row, _) = named(&mut one, *tx, |row| rows::made_hold(row, names))?;
        if row.standing.state == State::Held {
            tell((TX, *tx), Told::EarlierHold(row))?;
        }
    }
    Ok(())
}

/// What was read.
enum Told {
    Person(u64, Sub),
    Checkpoint(Checkpoint),
    EarlierHold(HoldRow),
    ChangedHold(HoldRow, Box<[u32]>),
    Hold(HoldRow),
    Message { person: u64, tx: u64, n: u64 },
    Key(Key, Known, UnixMs),
}

impl Told {
    fn to(self, restore: &mut dyn Restore) -> Result<(), Damage> {
        match self {
            Self::Person(no, sub) => restore.person(no, sub),
            Self::Checkpoint(checkpoint) => restore.checkpoint(checkpoint),
            Self::EarlierHold(row) => restore.earlier_hold(row),
            Self::ChangedHold(row, counted) => restore.changed_hold(row, &counted),
            Self::Hold(row) => restore.hold(row),
            Self::Message { person, tx, n } => restore.message(person, tx, n),
            Self::Key(key, known, at) => {
                restore.key(key, known, at);
                Ok(())
            }
        }
    }
}

type Tell<'t> = &'t mut dyn FnMut(Place, Told) -> rusqlite::Result<()>;

/// What a transaction is called in a place.
const TX: &str = "transaction";

/// What comes after the checkpoint of transaction `base`, and before it what is recent.
struct Tail {
    base: u64,
    recent: UnixMs,
    names: Names,
    /// Holds from before the checkpoint that were told as changed.
    changed: HashSet<u64>,
}

impl Tail {
    fn read(mut self, db: &Connection, first: u64, tell: Tell<'_>) -> rusqlite::Result<()> {
        let mut one = db.prepare(&rows::records_with_standing("no = ?1"))?;
        let query = rows::records_with_standing(&format!("no >= {first}"));
        each(db, TX, &query, |row| {
            let (tx, record) = rows::record(row)?;
            match &record.what {
                Facts::Opened(_) => Ok(()),
                Facts::Adjusted(facts) => tell((TX, tx), Told::Key(facts.key, Known::Adjust(facts.count), record.at)),
                Facts::Made(made) => self.made(row, (tx, &record), made, tell),
                Facts::Step(step) => self.stepped(&mut one, (tx, &record), step, tell),
            }
        })
    }

    fn made(
        &mut self,
        row: &Row<'_>,
        (tx, record): (u64, &Record<'_>),
        made: &MadeFacts<'_>,
        tell: Tell<'_>,
    ) -> rusqlite::Result<()> {
        if tx <= self.base {
            return tell((TX, tx), Told::EarlierHold(self.hold(row, (tx, record), made)?));
        }
        self.meet(tx, made.person, made.sub, tell)?;
        // Of a hold that is long over only the message about it counts.
        let over = record.at <= self.recent && matches!(rows::state(row)?, State::Cancelled | State::Expired);
        tell(
            (TX, tx),
            if over {
                Told::Message { person: made.person, tx, n: made.n }
            } else {
                Told::Hold(self.hold(row, (tx, record), made)?)
            },
        )
    }

    fn hold(
        &mut self,
        row: &Row<'_>,
        (tx, record): (u64, &Record<'_>),
        made: &MadeFacts<'_>,
    ) -> rusqlite::Result<HoldRow> {
        let held = rows::held(tx, record.at, made, &mut self.names)?;
        let standing = rows::standing(row, &held)?;
        Ok(HoldRow { held: held.into(), standing, n: made.n, key: made.key })
    }

    /// Tells of a person with whom something begins.
    fn meet(&mut self, tx: u64, person: u64, sub: &str, tell: Tell<'_>) -> rusqlite::Result<()> {
        if self.names.has_met(person) {
            return Ok(());
        }
        let sub = self.names.sub(person, sub)?;
        self.names.meet(sub.clone());
        tell((TX, tx), Told::Person(person, sub))
    }

    fn stepped(
        &mut self,
        one: &mut Statement<'_>,
        (tx, record): (u64, &Record<'_>),
        step: &StepFacts<'_>,
        tell: Tell<'_>,
    ) -> rusqlite::Result<()> {
        if step.hold >= tx {
            return Err(rows::damaged(1, Unreadable("a step of a later hold")));
        }
        if tx > self.base {
            tell((TX, tx), Told::Message { person: step.person, tx, n: step.n })?;
            if step.hold <= self.base && self.changed.insert(step.hold) {
                let (row, _) = named(one, step.hold, |row| rows::made_hold(row, &mut self.names))?;
                tell((TX, tx), Told::ChangedHold(row, step.counted.as_slice().into()))?;
            }
            if let Some(notice) = &step.notice {
                self.meet(tx, notice.person, notice.sub, tell)?;
                tell((TX, tx), Told::Message { person: notice.person, tx, n: notice.n })?;
            }
        }
        if let (Step::Refunded, Some(key)) = (step.step, step.key) {
            let refunded =
                step.refunded.as_deref().ok_or_else(|| rows::damaged(1, Unreadable("a refund of nothing")))?;
            let id = named(one, step.hold, |row| match rows::record(row)?.1.what {
                Facts::Made(made) => Ok(HoldId::from_bytes(made.id)),
                _ => Err(rows::damaged(0, Unreadable("it made no hold"))),
            })?;
            tell((TX, tx), Told::Key(key, Known::Refund(id, refunded.into()), record.at))?;
        }
        Ok(())
    }
}

/// Each chain ends with the entry that its SKU names, its marks are where they must be, and no entry comes after the
/// last of all chains.
fn check_ends(db: &Connection) -> rusqlite::Result<()> {
    let mut one = db.prepare(&rows::records("no = ?1"))?;
    let mut last_row = 0;
    let wrong = || rows::damaged(0, Unreadable("it is not where its chain ends or is marked"));
    let mut entry = |row: u64| {
        let (tx, index) = row_parts(row);
        let read = |row: &Row<'_>| rows::record(row).map(|(_, record)| (record.at, record.entries.get(index).cloned()));
        one.query_row([tx as i64], read).optional()
    };
    each(db, "sku", SKUS, |row| {
        let (sku, head) = sku(row)?;
        let Some((at, Some(entry))) = entry(head.row)? else { return Err(wrong()) };
        last_row = last_row.max(head.row);
        let said = (sku.no, head.count.entry, head.hash, head.at);
        if said == (entry.sku_no, entry.n, entry.hash, at) { Ok(()) } else { Err(wrong()) }
    })?;
    each(db, "mark", "SELECT row, sku FROM mark ORDER BY row", |row| {
        let sku: u32 = row.get(1)?;
        match entry(entry_row(row, 0)?)? {
            Some((_, Some(entry))) if entry.sku_no == sku && entry.n.is_multiple_of(MARK_EVERY) => Ok(()),
            _ => Err(wrong()),
        }
    })?;
    let (last_tx, index) = row_parts(last_row);
    each(db, TX, &rows::records(&format!("no >= {last_tx}")), |row| {
        let (no, record) = rows::record(row)?;
        let entries = if no == last_tx { index + 1 } else { 0 };
        if last_tx == 0 || record.entries.len() == entries { Ok(()) } else { Err(wrong()) }
    })
}

/// The newest message of a checkpoint is about the last step before it.
fn check_checkpoint(db: &Connection, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    let newest = newest_told(db, checkpoint.tx)?;
    let told = checkpoint.people.iter().map(|then| then.message_tx).max().unwrap_or(0);
    if told == newest {
        return Ok(());
    }
    let what = format!("the checkpoint of transaction {} ends with {told}, not {newest}", checkpoint.tx);
    Err(rows::damaged(0, Damage(what)))
}

/// The last transaction up to `tx` that made a hold or was a step of one; 0 is none.
fn newest_told(db: &Connection, tx: u64) -> rusqlite::Result<u64> {
    let mut query = db.prepare("SELECT no, facts FROM tx WHERE no <= ?1 ORDER BY no DESC")?;
    let mut rows = query.query([tx as i64])?;
    while let Some(row) = rows.next()? {
        let (no, record) = rows::record(row).map_err(|error| located("the last transaction", error))?;
        if matches!(record.what, Facts::Made(_) | Facts::Step(_)) {
            return Ok(no);
        }
    }
    Ok(0)
}

fn load_skus(db: &Connection, names: &mut Names, restore: &mut dyn Restore) -> rusqlite::Result<()> {
    let mut marks: HashMap<u32, Vec<u64>> = HashMap::new();
    each(db, "mark", "SELECT row, sku FROM mark ORDER BY row", |row| {
        marks.entry(row.get(1)?).or_default().push(entry_row(row, 0)?);
        Ok(())
    })?;
    each(db, "sku", SKUS, |row| {
        let (sku, head) = sku(row)?;
        names.learn(sku.clone());
        let marks = marks.remove(&sku.no).unwrap_or_default();
        taken(restore.sku(SkuRow { sku, head, marks }))
    })
}

/// What [`sku`] reads.
pub const SKUS: &str = "SELECT no, sku, product, merchant, stock, available, held, sold, entry, head_row, head_at, \
                        head_hash FROM sku ORDER BY no";

/// One SKU by its number.
pub const SKU: &str = "SELECT no, sku, product, merchant, stock, available, held, sold, entry, head_row, head_at, \
                       head_hash FROM sku WHERE no = ?1";

pub fn sku(row: &Row<'_>) -> rusqlite::Result<(OpenedSku, Head)> {
    let (no, sku) = (row.get(0)?, parsed(row, 1)?);
    let sku = OpenedSku { no, sku, product: parsed(row, 2)?, merchant: parsed(row, 3)? };
    let head = Head {
        sku_no: no,
        stock: number(row, 4)?,
        count: counts(row, 5)?,
        row: entry_row(row, 9)?,
        at: time(row, 10)?,
        hash: Digest(bytes(row, 11)?),
    };
    Ok((sku, head))
}

fn counts(row: &Row<'_>, column: usize) -> rusqlite::Result<StockCount> {
    Ok(StockCount {
        available: number(row, column)?,
        held: number(row, column + 1)?,
        sold: number(row, column + 2)?,
        entry: number(row, column + 3)?,
    })
}

/// The first transaction that is later than `at`, found by halving: times rise with transactions.
pub fn first_after(db: &Connection, at: UnixMs) -> rusqlite::Result<u64> {
    let mut next = db.prepare(&format!("{} LIMIT 1", rows::records("no >= ?1")))?;
    let (mut low, mut high) = (0, last(db)?.0 + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let read = |row: &Row<'_>| rows::record(row).map(|(no, record)| (no, record.at));
        let found = next.query_row([middle as i64], read).optional();
        match found.map_err(|error| located(&format!("transaction {middle} or after"), error))? {
            Some((tx, time)) if time <= at => low = tx + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The last transaction and its time.
pub fn last(db: &Connection) -> rusqlite::Result<(u64, UnixMs)> {
    let mut last = (0, UnixMs(0));
    each(db, "the last transaction", "SELECT no, facts FROM tx ORDER BY no DESC LIMIT 1", |row| {
        let no = tx_number(row, 0)?;
        last = (no, rows::record(row)?.1.at);
        Ok(())
    })?;
    Ok(last)
}
