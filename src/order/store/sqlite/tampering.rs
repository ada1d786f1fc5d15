//! What tests do to records.

use rusqlite::{Connection, params};

pub use super::record::{AdjustedFacts, Facts, MadeFacts, NoticeFacts, OpenedFacts, Record, StepFacts};

fn facts(db: &Connection, tx: u64) -> Vec<u8> {
    db.query_row("SELECT facts FROM tx WHERE no = ?1", [tx as i64], |row| row.get(0)).unwrap()
}

fn put(db: &Connection, tx: u64, facts: &[u8]) {
    db.execute("UPDATE tx SET facts = ?2 WHERE no = ?1", params![tx as i64, facts]).unwrap();
}

/// What `read` says of a transaction.
pub fn read<T>(db: &Connection, tx: u64, read: impl FnOnce(&Record<'_>) -> T) -> T {
    read(&Record::unpack(tx, &facts(db, tx)).unwrap())
}

/// The transactions of which `wanted` is true.
pub fn find(db: &Connection, wanted: impl Fn(&Record<'_>) -> bool) -> Vec<u64> {
    let mut query = db.prepare("SELECT no FROM tx ORDER BY no").unwrap();
    let all = query.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    all.map(|no| no.unwrap() as u64).filter(|no| read(db, *no, &wanted)).collect()
}

/// Changes a transaction as one who knows the format would.
pub fn change(db: &Connection, tx: u64, change: impl FnOnce(&mut Record<'_>)) {
    let facts = facts(db, tx);
    let mut record = Record::unpack(tx, &facts).unwrap();
    change(&mut record);
    let mut changed = Vec::new();
    record.pack(tx, &mut changed);
    assert_ne!(facts, changed, "something is changed");
    put(db, tx, &changed);
}

/// Changes the bytes of a transaction that may have been changed before, and makes its sum right again.
pub fn change_bytes(db: &Connection, tx: i64, change: impl FnOnce(&mut Vec<u8>)) {
    let facts = db.query_row("SELECT facts FROM tx WHERE no = ?1", [tx], |row| row.get::<_, Vec<u8>>(0));
    let Ok(mut facts) = facts else { return };
    facts.truncate(facts.len().saturating_sub(4));
    change(&mut facts);
    facts.extend(super::record::check(tx as u64, &facts));
    db.execute("UPDATE tx SET facts = ?2 WHERE no = ?1", params![tx, facts]).unwrap();
}

pub fn made<'r, 'a>(record: &'r mut Record<'a>) -> &'r mut MadeFacts<'a> {
    let Facts::Made(made) = &mut record.what else { panic!("it made no hold") };
    made
}

pub fn step<'r, 'a>(record: &'r mut Record<'a>) -> &'r mut StepFacts<'a> {
    let Facts::Step(step) = &mut record.what else { panic!("it is no step") };
    step
}
