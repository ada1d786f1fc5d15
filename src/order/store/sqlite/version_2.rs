//! From version 2, in which a transaction was rows in several tables, to one packed record for each.
//!
//! What a record says once, version 2 said several times: each must say the same, else the file is damaged. Everything
//! else is taken over as it is, for `maishou reconcile` to judge.

use std::{borrow::Cow, collections::HashMap};

use rusqlite::{OptionalExtension, Row, Rows, Transaction, params};
use serde::Deserialize;
use smallvec::SmallVec;

use super::{
    record::{AdjustedFacts, EntryFacts, Facts, LineFacts, MadeFacts, NoticeFacts, OpenedFacts, Record, StepFacts},
    rows::{Unreadable, bytes, damaged, number, pieces, time, tx_number},
    take::{each, located},
};
use crate::{
    clock::UnixMs,
    id::HoldId,
    order::{
        entry::{Digest, holder},
        hold::Step,
        request::{Key, KeyId},
        store::{MARK_EVERY, row},
        tx::OrderBefore,
    },
    protocol::StockCount,
};

const TABLES: &str = "
    CREATE TABLE tx(no INTEGER PRIMARY KEY, facts BLOB NOT NULL);
    CREATE TABLE standing(
        hold INTEGER PRIMARY KEY, state TEXT NOT NULL, expires_at INTEGER NOT NULL,
        order_tx INTEGER, order_at INTEGER, payment TEXT, refunded TEXT);
    INSERT INTO standing SELECT tx, state, expires_at, order_tx, order_at, payment, refunded FROM hold
        WHERE state <> 'held' OR expires_at <> held_until OR order_tx IS NOT NULL OR refunded IS NOT NULL ORDER BY tx;

    ALTER TABLE checkpoint_person RENAME TO checkpoint_person_2;
    CREATE TABLE checkpoint_person(
        person INTEGER PRIMARY KEY, sub TEXT NOT NULL,
        n INTEGER NOT NULL, message_tx INTEGER NOT NULL, order_tx INTEGER NOT NULL);
    INSERT INTO checkpoint_person SELECT person, coalesce(sub, ''), n, message_tx, order_tx
        FROM checkpoint_person_2 LEFT JOIN person ON no = person ORDER BY person;

    ALTER TABLE checkpoint RENAME TO checkpoint_2;
    CREATE TABLE checkpoint(tx INTEGER NOT NULL, people INTEGER NOT NULL);
    INSERT INTO checkpoint SELECT tx, (SELECT count(*) FROM checkpoint_person) FROM checkpoint_2;

    ALTER TABLE mark RENAME TO mark_2;
    CREATE TABLE mark(row INTEGER PRIMARY KEY, sku INTEGER NOT NULL);
";

const DROP: &str = "
    DROP TABLE checkpoint_2; DROP TABLE checkpoint_person_2; DROP TABLE mark_2; DROP TABLE person; DROP TABLE hold; DROP TABLE step;
    DROP TABLE adjustment; DROP TABLE notice; DROP TABLE entry;
";

const HOLD: &str = "SELECT id, person, sub, merchant, room, show, shown_as, lines, total, currency, made_at, held_until, \
                    nonce, key, key_body, n, message_before FROM hold LEFT JOIN person ON no = person WHERE tx = ?1";
const STEP: &str = "SELECT at, hold, step, person, n, message_before, before_of_buyer, before_of_merchant, \
                    before_of_all, key, key_body, counted, refunded FROM step WHERE tx = ?1";
const NOTICE: &str = "SELECT person, sub, n, message_before FROM notice LEFT JOIN person ON no = person WHERE tx = ?1";
const ADJUSTMENT: &str = "SELECT at, key, key_body, available, held, sold, entry FROM adjustment WHERE tx = ?1";
const ENTRIES: &str = "SELECT entry.row, entry.sku, n, at, type, quantity, tx, holder, reason, row_before, hash, mark_2.sku \
                       FROM entry LEFT JOIN mark_2 ON mark_2.row = entry.row ORDER BY entry.row";

/// One line of a hold: SKU, product, quantity, price in the hold's currency.
#[derive(Deserialize)]
struct LineRow<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>, u32, i64);

/// An entry as it was kept, with what its record says for all of them.
struct EntryRow {
    tx: u64,
    at: UnixMs,
    holder: Option<[u8; 32]>,
    reason: Option<String>,
    facts: EntryFacts,
}

/// A SKU, and how far its chain has been followed.
struct Chain {
    sku: String,
    product: String,
    merchant: String,
    old_row: u64,
    row: u64,
}

/// Packs every transaction.
pub fn pack(db: &Transaction<'_>) -> rusqlite::Result<()> {
    db.execute_batch(TABLES)?;
    let mut packing = Packing { db, chains: chains(db)?, marks: 0, packed: Vec::new() };
    packing.transactions()?;
    packing.ends()?;
    drop(packing);
    db.execute_batch(DROP)
}

fn chains(db: &Transaction<'_>) -> rusqlite::Result<HashMap<u32, Chain>> {
    let mut chains = HashMap::new();
    each(db, "sku", "SELECT no, sku, product, merchant FROM sku", |row| {
        let (sku, product, merchant) = (row.get(1)?, row.get(2)?, row.get(3)?);
        chains.insert(row.get(0)?, Chain { sku, product, merchant, old_row: 0, row: 0 });
        Ok(())
    })?;
    Ok(chains)
}

fn wrong(what: &'static str) -> rusqlite::Error {
    damaged(0, Unreadable(what))
}

struct Packing<'db> {
    db: &'db Transaction<'db>,
    chains: HashMap<u32, Chain>,
    /// Entries with a mark.
    marks: i64,
    packed: Vec<u8>,
}

impl Packing<'_> {
    fn transactions(&mut self) -> rusqlite::Result<()> {
        let db = self.db;
        let last = "SELECT max(coalesce((SELECT max(tx) FROM hold), 0), coalesce((SELECT max(tx) FROM step), 0), \
                    coalesce((SELECT max(tx) FROM adjustment), 0), coalesce((SELECT max(tx) FROM entry), 0))";
        let last =
            db.query_row(last, [], |row| tx_number(row, 0)).map_err(|error| located("the last transaction", error))?;
        let mut query = db.prepare(ENTRIES)?;
        let mut entries = Entries { rows: query.query([])?, head: None, last: 0 };
        entries.advance()?;
        for tx in 1..=last {
            let packed = self.transaction(tx, &mut entries);
            packed.map_err(|error| located(&format!("transaction {tx}"), error))?;
        }
        if let Some((entry, _)) = entries.head {
            return Err(located(&format!("transaction {}", entry.tx), wrong("an entry out of order")));
        }
        let marks: i64 = db.query_row("SELECT count(*) FROM mark_2", [], |row| row.get(0))?;
        if marks == self.marks { Ok(()) } else { Err(located("mark", wrong("one that is of no entry"))) }
    }

    fn transaction(&mut self, tx: u64, entries: &mut Entries<'_>) -> rusqlite::Result<()> {
        let db = self.db;
        let mut found = Vec::new();
        while let Some((mut entry, old)) = entries.take_of(tx)? {
            entry.facts.row_before = self.follow(&entry, &old, row(tx, found.len()))?;
            found.push(entry);
        }
        let (hold, step) = (exists(db, "hold", tx)?, exists(db, "step", tx)?);
        let notice = db.prepare_cached("SELECT 1 FROM notice WHERE tx = ?1")?.exists([tx as i64])?;
        if notice && !step {
            return Err(wrong("a notice of no step"));
        }
        match (hold, step, exists(db, "adjustment", tx)?) {
            (true, false, false) => db.prepare_cached(HOLD)?.query_row([tx as i64], |row| self.made(tx, row, &found)),
            (false, true, false) => {
                db.prepare_cached(STEP)?.query_row([tx as i64], |row| self.stepped(tx, row, &found))
            }
            (false, false, true) => {
                db.prepare_cached(ADJUSTMENT)?.query_row([tx as i64], |row| self.adjusted(tx, row, &found))
            }
            (false, false, false) if !found.is_empty() => self.opened(tx, &found),
            (false, false, false) => Err(wrong("it is missing")),
            _ => Err(wrong("it is several things")),
        }
    }

    /// Follows a chain by one entry, which is then in `row`; returns the row of the one before.
    fn follow(&mut self, entry: &EntryRow, old: &OldRow, row: u64) -> rusqlite::Result<u64> {
        let chain = self.chains.get_mut(&entry.facts.sku_no).ok_or_else(|| wrong("an entry of no SKU"))?;
        let marked = entry.facts.n.is_multiple_of(MARK_EVERY).then_some(entry.facts.sku_no);
        if old.mark != marked {
            return Err(wrong("an entry with a mark that is not its own, or without one"));
        }
        if old.before != chain.old_row {
            return Err(wrong("an entry that does not follow the one before it in its chain"));
        }
        if marked.is_some() {
            self.marks += 1;
            self.db
                .prepare_cached("INSERT INTO mark VALUES(?1, ?2)")?
                .execute(params![row as i64, entry.facts.sku_no])?;
        }
        chain.old_row = old.row;
        Ok(std::mem::replace(&mut chain.row, row))
    }

    /// Writes a record. What its entries say of time, reason and holder is what it says.
    fn write(
        &mut self,
        tx: u64,
        at: UnixMs,
        holder: Option<Digest>,
        entries: &[EntryRow],
        what: Facts<'_>,
    ) -> rusqlite::Result<()> {
        let reason = entries.first().and_then(|entry| entry.reason.as_deref());
        let same = |entry: &EntryRow| {
            entry.at == at && entry.holder == holder.map(|holder| holder.0) && entry.reason.as_deref() == reason
        };
        if !entries.iter().all(same) {
            return Err(wrong("an entry of another time, holder or reason"));
        }
        let record = Record { at, reason, entries: entries.iter().map(|entry| entry.facts.clone()).collect(), what };
        record.pack(tx, &mut self.packed);
        let mut insert = self.db.prepare_cached("INSERT INTO tx VALUES(?1, ?2)")?;
        insert.execute(params![tx as i64, &self.packed[..]]).map(drop)
    }

    fn opened(&mut self, tx: u64, entries: &[EntryRow]) -> rusqlite::Result<()> {
        let chains = std::mem::take(&mut self.chains);
        let opened = |entry: &EntryRow| {
            let no = entry.facts.sku_no;
            let Chain { sku, product, merchant, .. } = &chains[&no];
            OpenedFacts { no, sku, product, merchant }
        };
        let facts = Facts::Opened(entries.iter().map(opened).collect());
        let written = self.write(tx, entries[0].at, None, entries, facts);
        self.chains = chains;
        written
    }

    fn adjusted(&mut self, tx: u64, row: &Row<'_>, entries: &[EntryRow]) -> rusqlite::Result<()> {
        let count = StockCount {
            available: number(row, 3)?,
            held: number(row, 4)?,
            sold: number(row, 5)?,
            entry: number(row, 6)?,
        };
        let facts = Facts::Adjusted(AdjustedFacts { key: key(row, 1)?, count });
        self.write(tx, time(row, 0)?, None, entries, facts)
    }

    fn made(&mut self, tx: u64, row: &Row<'_>, entries: &[EntryRow]) -> rusqlite::Result<()> {
        let (id, nonce): ([u8; 16], _) = (bytes(row, 0)?, bytes(row, 12)?);
        let holder = holder(&HoldId::from_bytes(id), &nonce);
        let made = MadeFacts {
            id,
            person: number(row, 1)?,
            sub: row.get_ref(2)?.as_str().map_err(|_| wrong("its buyer is missing"))?,
            room: row.get_ref(4)?.as_str_or_null()?,
            show: row.get_ref(5)?.as_str_or_null()?,
            shown_as: row.get_ref(6)?.as_str_or_null()?,
            lines: self.lines(row, entries)?,
            total: row.get(8)?,
            currency: row.get_ref(9)?.as_str()?,
            held_until: time(row, 11)?,
            nonce,
            key: key(row, 13)?,
            n: number(row, 15)?,
            message_before: number(row, 16)?,
        };
        self.write(tx, time(row, 10)?, Some(holder), entries, Facts::Made(made))
    }

    fn lines(&self, row: &Row<'_>, entries: &[EntryRow]) -> rusqlite::Result<SmallVec<[LineFacts; 1]>> {
        let (merchant, lines) = (row.get_ref(3)?.as_str()?, row.get_ref(7)?.as_str()?);
        let lines: Vec<LineRow<'_>> = serde_json::from_str(lines).map_err(|error| damaged(7, error))?;
        if lines.len() != entries.len() {
            return Err(wrong("as many entries as lines are missing"));
        }
        let line = |(LineRow(sku, product, quantity, price), entry): (LineRow<'_>, &EntryRow)| {
            let sku_no = entry.facts.sku_no;
            let chain = self.chains.get(&sku_no).ok_or_else(|| wrong("a line of no SKU"))?;
            if (&*sku, &*product, merchant) != (&*chain.sku, &*chain.product, &*chain.merchant) {
                return Err(wrong("a line that is not of its entry's SKU"));
            }
            Ok(LineFacts { sku_no, quantity, price })
        };
        lines.into_iter().zip(entries).map(line).collect()
    }

    fn stepped(&mut self, tx: u64, row: &Row<'_>, entries: &[EntryRow]) -> rusqlite::Result<()> {
        let some = |column| row.get_ref(column).map(|value| value != rusqlite::types::ValueRef::Null);
        let order_before = if some(6)? {
            Some(OrderBefore { of_buyer: number(row, 6)?, of_merchant: number(row, 7)?, of_all: number(row, 8)? })
        } else {
            None
        };
        let notice = self.db.prepare_cached(NOTICE)?.query_row([tx as i64], notice).optional()?;
        let notice = notice.as_ref().map(|(person, sub, n, message_before)| NoticeFacts {
            person: *person,
            sub,
            n: *n,
            message_before: *message_before,
        });
        let holder = entries.first().and_then(|entry| entry.holder).map(Digest);
        let step = StepFacts {
            step: Step::parse(row.get_ref(2)?.as_str()?).ok_or_else(|| wrong("no such step of a hold"))?,
            hold: number(row, 1)?,
            holder,
            person: number(row, 3)?,
            n: number(row, 4)?,
            message_before: number(row, 5)?,
            counted: pieces(row, 11)?.iter().copied().collect(),
            refunded: if some(12)? { Some(pieces(row, 12)?.iter().copied().collect()) } else { None },
            order_before,
            key: if some(9)? { Some(key(row, 9)?) } else { None },
            notice,
        };
        self.write(tx, time(row, 0)?, holder, entries, Facts::Step(step))
    }

    /// Where each chain ends now. Its SKU named its last entry.
    fn ends(&self) -> rusqlite::Result<()> {
        for (no, chain) in &self.chains {
            let set = "UPDATE sku SET head_row = ?2 WHERE no = ?1 AND head_row = ?3";
            let set = self.db.prepare_cached(set)?.execute(params![no, chain.row as i64, chain.old_row as i64])?;
            if set != 1 {
                return Err(located(&format!("sku {no}"), wrong("it is not where its chain ends")));
            }
        }
        Ok(())
    }
}

fn exists(db: &Transaction<'_>, table: &str, tx: u64) -> rusqlite::Result<bool> {
    db.prepare_cached(&format!("SELECT 1 FROM {table} WHERE tx = ?1"))?.exists([tx as i64])
}

fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<Key> {
    Ok(Key { id: KeyId(bytes(row, column)?), body: bytes(row, column + 1)? })
}

fn notice(row: &Row<'_>) -> rusqlite::Result<(u64, String, u64, u64)> {
    Ok((number(row, 0)?, row.get(1)?, number(row, 2)?, number(row, 3)?))
}

/// Where an entry was, and what pointed at it.
struct OldRow {
    row: u64,
    before: u64,
    mark: Option<u32>,
}

/// The entries, one read ahead. They were numbered together from 1 without gaps.
struct Entries<'s> {
    rows: Rows<'s>,
    head: Option<(EntryRow, OldRow)>,
    last: u64,
}

impl Entries<'_> {
    fn advance(&mut self) -> rusqlite::Result<()> {
        self.head = None;
        if let Some(row) = self.rows.next()? {
            self.last += 1;
            let read = entry(row).and_then(|read| {
                if read.1.row == self.last { Ok(read) } else { Err(wrong("one before it is missing")) }
            });
            self.head = Some(read.map_err(|error| located(&format!("entry {}", self.last), error))?);
        }
        Ok(())
    }

    fn take_of(&mut self, tx: u64) -> rusqlite::Result<Option<(EntryRow, OldRow)>> {
        if self.head.as_ref().is_none_or(|(entry, _)| entry.tx != tx) {
            return Ok(None);
        }
        let taken = self.head.take();
        self.advance()?;
        Ok(taken)
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<(EntryRow, OldRow)> {
    let kind = row.get_ref(4)?.as_str()?.parse().map_err(|()| wrong("no such type of entry"))?;
    let facts = EntryFacts {
        sku_no: row.get(1)?,
        kind,
        quantity: row.get(5)?,
        n: number(row, 2)?,
        row_before: 0,
        hash: Digest(bytes(row, 10)?),
    };
    let holder = row.get_ref(7)?.as_blob_or_null()?.map(|_| bytes(row, 7)).transpose()?;
    let entry = EntryRow { tx: number(row, 6)?, at: time(row, 3)?, holder, reason: row.get(8)?, facts };
    Ok((entry, OldRow { row: number(row, 0)?, before: number(row, 9)?, mark: row.get(11)? }))
}
