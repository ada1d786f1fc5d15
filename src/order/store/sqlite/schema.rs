//! The tables, their version, and how an older file becomes a newer one.
//!
//! # The layout
//!
//! | table | what is in it |
//! |---|---|
//! | `tx` | every transaction by its number, as one packed record (`record.rs`): a hold as it was made, a step of one, an adjustment, SKUs that were opened, with the entries of the chains and the private messages that belong to it |
//! | `standing` | how a hold stands, once something happened to it; it is named by the transaction that made it |
//! | `sku` | what a SKU is, its counts, and where its chain ends |
//! | `mark` | the rows of each 128th entry of a chain; a row is the entry's transaction * 2^20 + its place there |
//! | `checkpoint`, `checkpoint_*` | what a start needs of all transactions up to one: persons, pieces that count against limits, the newest orders, open holds |
//! | `signing_key` | the seed of the key that signs heads |
//!
//! Every table is in the order of its row number and is only appended to (counts, and how a hold stands, change in
//! place): there is no index on anything random, which is what makes a commit cheap. What would need one is a linked
//! list instead: a record names the transaction before it of the same person, merchant or SKU.
//!
//! How orders stand is there to be read with `sqlite3`; what was ordered is told by `maishou orders export`, and
//! whether everything agrees by `maishou reconcile`.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::{unreadable, version_2};
use crate::order::store::Failure;

/// What makes one version of the one before.
#[derive(Clone, Copy)]
pub enum Step {
    Sql(&'static str),
    Code(fn(&Transaction<'_>) -> rusqlite::Result<()>),
}

impl Step {
    fn run(self, change: &Transaction<'_>) -> rusqlite::Result<()> {
        match self {
            Self::Sql(sql) => change.execute_batch(sql),
            Self::Code(run) => run(change),
        }
    }
}

/// What makes version 1, then what makes each next version of the one before.
pub const STEPS: &[Step] = &[
    Step::Sql(
        "
    CREATE TABLE signing_key(no INTEGER PRIMARY KEY, seed BLOB NOT NULL);

    CREATE TABLE person(no INTEGER PRIMARY KEY, sub TEXT NOT NULL);

    CREATE TABLE sku(
        no INTEGER PRIMARY KEY, sku TEXT NOT NULL, product TEXT NOT NULL, merchant TEXT NOT NULL,
        stock INTEGER NOT NULL,
        available INTEGER NOT NULL CHECK(available >= 0),
        held INTEGER NOT NULL CHECK(held >= 0),
        sold INTEGER NOT NULL CHECK(sold >= 0),
        entry INTEGER NOT NULL, head_row INTEGER NOT NULL, head_at INTEGER NOT NULL, head_hash BLOB NOT NULL,
        CHECK(available + held + sold = stock));

    -- Named by the transaction that made it. lines: [[sku, product, quantity, price], ...]
    CREATE TABLE hold(
        tx INTEGER PRIMARY KEY, id BLOB NOT NULL, person INTEGER NOT NULL, merchant TEXT NOT NULL,
        room TEXT, show TEXT, shown_as TEXT,
        lines TEXT NOT NULL, total INTEGER NOT NULL, currency TEXT NOT NULL,
        made_at INTEGER NOT NULL, held_until INTEGER NOT NULL, nonce BLOB NOT NULL,
        key BLOB NOT NULL, key_body BLOB NOT NULL,
        n INTEGER NOT NULL, message_before INTEGER NOT NULL,
        state TEXT NOT NULL, expires_at INTEGER NOT NULL,
        order_tx INTEGER, order_at INTEGER, payment TEXT, refunded TEXT);

    -- What happened to a hold after it was made. For each of its lines, counted: pieces that counted against the
    -- buyer's limits before this step; refunded: pieces refunded, after it.
    CREATE TABLE step(
        tx INTEGER PRIMARY KEY, at INTEGER NOT NULL, hold INTEGER NOT NULL, step TEXT NOT NULL,
        person INTEGER NOT NULL, n INTEGER NOT NULL, message_before INTEGER NOT NULL,
        before_of_buyer INTEGER, before_of_merchant INTEGER, before_of_all INTEGER,
        key BLOB, key_body BLOB, counted TEXT NOT NULL, refunded TEXT);

    -- The counts that the adjustment was answered with.
    CREATE TABLE adjustment(
        tx INTEGER PRIMARY KEY, at INTEGER NOT NULL, key BLOB NOT NULL, key_body BLOB NOT NULL,
        available INTEGER NOT NULL, held INTEGER NOT NULL, sold INTEGER NOT NULL, entry INTEGER NOT NULL);

    -- The public chains of all SKUs. row_before: the entry before it in its chain.
    CREATE TABLE entry(
        row INTEGER PRIMARY KEY, sku INTEGER NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL, type TEXT NOT NULL,
        quantity INTEGER NOT NULL, tx INTEGER NOT NULL, holder BLOB, reason TEXT,
        row_before INTEGER NOT NULL, hash BLOB NOT NULL);

    -- Rows of each 128th entry of a chain.
    CREATE TABLE mark(row INTEGER PRIMARY KEY, sku INTEGER NOT NULL);

    -- What a start needs of all transactions up to tx, so that it reads only those after.
    CREATE TABLE checkpoint(tx INTEGER NOT NULL);
    CREATE TABLE checkpoint_person(
        person INTEGER PRIMARY KEY, n INTEGER NOT NULL, message_tx INTEGER NOT NULL, order_tx INTEGER NOT NULL);
    CREATE TABLE checkpoint_pieces(
        row INTEGER PRIMARY KEY, person INTEGER NOT NULL, product TEXT NOT NULL, merchant TEXT NOT NULL, show TEXT,
        pieces INTEGER NOT NULL);
    CREATE TABLE checkpoint_sale(row INTEGER PRIMARY KEY, merchant TEXT NOT NULL, order_tx INTEGER NOT NULL);
    CREATE TABLE checkpoint_open(hold INTEGER PRIMARY KEY);
",
    ),
    Step::Sql(
        "
    -- The message about a step to somebody else than its buyer: who confirmed an order for which no stock was left.
    CREATE TABLE notice(
        tx INTEGER PRIMARY KEY, person INTEGER NOT NULL, n INTEGER NOT NULL, message_before INTEGER NOT NULL);
",
    ),
    Step::Code(version_2::pack),
];

/// Brings the file to the version that `steps` make: a new one at once, an older one after a copy of it was made beside
/// it. A newer one is refused.
pub fn prepare(db: &mut Connection, path: &Path, steps: &[Step]) -> Result<(), Failure> {
    let known = steps.len() as i64;
    let found = version(db)?;
    let name = path.display().to_string();
    if found > known {
        return Err(Failure::Newer { path: name, found, known });
    }
    if found < 0 {
        return Err(Failure::Damaged { path: name, what: format!("version {found}") });
    }
    if found == known {
        return Ok(());
    }
    if found > 0 {
        copy(db, path, found)?;
    }
    let change = db.transaction()?;
    if found == 0 {
        change.execute_batch("CREATE TABLE schema(version INTEGER NOT NULL); INSERT INTO schema VALUES(0)")?;
    }
    for step in &steps[found as usize..] {
        step.run(&change).map_err(|error| unreadable(path, error))?;
    }
    change.execute("UPDATE schema SET version = ?1", [known])?;
    change.commit()?;
    tracing::info!(path = name, from = found, to = known, "the ledger file was brought up to date");
    Ok(())
}

/// Refuses a file that is not of the version that [`STEPS`] make.
pub fn require(db: &Connection, path: &Path) -> Result<(), Failure> {
    let (known, path) = (STEPS.len() as i64, path.display().to_string());
    match version(db)? {
        0 => Err(Failure::NoLedger { path }),
        found if found > known => Err(Failure::Newer { path, found, known }),
        found if found < known => Err(Failure::Older { path, found, known }),
        _ => Ok(()),
    }
}

fn version(db: &Connection) -> Result<i64, Failure> {
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'schema'", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(0);
    }
    Ok(db.query_row("SELECT version FROM schema", [], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Copies the file to `<path>.v<version>`. A copy that is there already is from an attempt that did not get further:
/// it is made anew.
fn copy(db: &Connection, path: &Path, version: i64) -> Result<(), Failure> {
    let copy = format!("{}.v{version}", path.display());
    match std::fs::remove_file(&copy) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::Io { path: copy, error });
        }
        _ => {}
    }
    db.execute("VACUUM INTO ?1", [&copy])?;
    tracing::info!(copy, "the older ledger file was copied");
    Ok(())
}
