//! The SQLite store keeps to the contract, and to what only SQLite must.

use rusqlite::Connection;

use super::{schema, *};
use crate::order::{store::contract::keeps_to_the_contract, tests::Folder};

#[test]
fn it_keeps_to_the_contract() {
    let folder = Folder::new();
    keeps_to_the_contract(|| Box::new(Sqlite::open(&folder.file()).unwrap()));
}

#[test]
fn a_newer_file_is_refused_with_both_numbers() {
    let folder = Folder::new();
    drop(Sqlite::open(&folder.file()).unwrap());
    let db = Connection::open(folder.file()).unwrap();
    db.execute("UPDATE schema SET version = 99", []).unwrap();
    drop(db);
    let Err(Failure::Newer { found, known, .. }) = Sqlite::open(&folder.file()) else {
        panic!("a newer file was opened");
    };
    assert_eq!((found, known), (99, schema::STEPS.len() as i64));
}

#[test]
fn an_older_file_is_brought_up_to_date_after_a_copy() {
    let folder = Folder::new();
    drop(Sqlite::open(&folder.file()).unwrap());
    let mut db = Connection::open(folder.file()).unwrap();
    db.execute("INSERT INTO person VALUES(1, 'ann')", []).unwrap();
    let version = schema::STEPS.len();
    let steps = [schema::STEPS, &["ALTER TABLE person ADD COLUMN region TEXT NOT NULL DEFAULT 'north'"]].concat();
    schema::prepare(&mut db, &folder.file(), &steps).unwrap();
    let region: String = db.query_row("SELECT region FROM person", [], |row| row.get(0)).unwrap();
    assert_eq!(region, "north");
    let copy = Connection::open(format!("{}.v{version}", folder.file().display())).unwrap();
    let kept: i64 = copy.query_row("SELECT version FROM schema", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, version as i64);
    assert!(copy.prepare("SELECT region FROM person").is_err(), "the copy is as the file was");
    assert!(schema::prepare(&mut db, &folder.file(), schema::STEPS).is_err(), "there is no way back");
}

#[test]
fn a_step_that_fails_leaves_the_older_file() {
    let folder = Folder::new();
    drop(Sqlite::open(&folder.file()).unwrap());
    let mut db = Connection::open(folder.file()).unwrap();
    let steps = [schema::STEPS, &["ALTER TABLE person ADD COLUMN region TEXT; nonsense"]].concat();
    assert!(schema::prepare(&mut db, &folder.file(), &steps).is_err());
    assert!(db.prepare("SELECT region FROM person").is_err());
    assert!(Sqlite::open(&folder.file()).is_ok());
}

#[test]
fn commits_are_flushed_and_no_table_has_an_index() {
    let folder = Folder::new();
    let store = Sqlite::open(&folder.file()).unwrap();
    let of = |pragma: &str| -> String {
        let value: rusqlite::types::Value = store.db.query_row(pragma, [], |row| row.get(0)).unwrap();
        format!("{value:?}")
    };
    assert_eq!(of("PRAGMA journal_mode"), "Text(\"wal\")");
    assert_eq!(of("PRAGMA synchronous"), "Integer(2)");
    assert_eq!(of("PRAGMA wal_autocheckpoint"), "Integer(0)");
    assert_eq!(of("SELECT count(*) FROM sqlite_schema WHERE type = 'index'"), "Integer(0)");
    assert!(store.free_bytes().is_some_and(|free| free > 0));
    assert!(compiled_for_fdatasync());
}

#[test]
fn an_idle_store_moves_its_log_into_the_file() {
    let folder = Folder::new();
    let mut store = Sqlite::open(&folder.file()).unwrap();
    store.signing_seed().unwrap();
    assert!(Log::look(&store.db).unwrap().left() > 0);
    store.tidy(true).unwrap();
    assert_eq!(Log::look(&store.db).unwrap().left(), 0);
}

#[test]
fn a_file_of_version_1_goes_on_with_everything_that_was_told() {
    let folder = Folder::new();
    let mut db = Connection::open(folder.file()).unwrap();
    schema::prepare(&mut db, &folder.file(), &schema::STEPS[..1]).unwrap();
    db.execute_batch("INSERT INTO person VALUES(1, 'ann')").unwrap();
    drop(db);
    let mut store = Sqlite::open(&folder.file()).unwrap();
    let mut restorer = crate::order::ledger::Restorer::new(crate::order::Config::default(), UnixMs(0));
    store.load(UnixMs(0), &mut restorer).unwrap();
    assert_eq!(restorer.finish().ledger.newest_message(&"ann".parse().unwrap()), 0);
    let notices: i64 = store.db.query_row("SELECT count(*) FROM notice", [], |row| row.get(0)).unwrap();
    assert_eq!(notices, 0);
    let copy = Connection::open(format!("{}.v1", folder.file().display())).unwrap();
    let kept: String = copy.query_row("SELECT sub FROM person", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, "ann");
    assert!(copy.prepare("SELECT * FROM notice").is_err(), "the copy is as the file was");
}

#[test]
fn a_copy_is_new_private_whole_and_can_be_opened() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let mut store = Sqlite::open(&folder.file()).unwrap();
    let seed = store.signing_seed().unwrap();
    let ledger = LedgerFile::open(&folder.file()).unwrap();
    let other = Folder::new();
    let copied = ledger.copy_to(&other.file()).unwrap();
    let facts = std::fs::metadata(other.file()).unwrap();
    assert_eq!((copied.tx, copied.bytes, facts.permissions().mode() & 0o777), (0, facts.len(), 0o600));
    assert_eq!(std::fs::read_dir(other.file().parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    let refused = ledger.copy_to(&other.file());
    assert!(matches!(&refused, Err(Failure::Io { error, .. }) if error.kind() == std::io::ErrorKind::AlreadyExists));
    assert_eq!(std::fs::metadata(other.file()).unwrap().len(), copied.bytes, "nothing is overwritten");
    assert_eq!(Sqlite::open(&other.file()).unwrap().signing_seed().unwrap(), seed);
    let nowhere = ledger.copy_to(&other.file().with_file_name("no").join("copy.db"));
    assert!(matches!(nowhere, Err(Failure::Io { .. })));
}

#[test]
fn a_ledger_of_another_version_is_only_read_by_its_own_program() {
    let folder = Folder::new();
    drop(Sqlite::open(&folder.file()).unwrap());
    let db = Connection::open(folder.file()).unwrap();
    for (version, says) in [(1, "has version 1; a server"), (99, "has version 99; this program")] {
        db.execute("UPDATE schema SET version = ?1", [version]).unwrap();
        let Err(failure) = LedgerFile::open(&folder.file()) else { panic!("version {version} was read") };
        assert!(failure.to_string().contains(says), "{failure}");
    }
    db.execute("DROP TABLE schema", []).unwrap();
    assert!(matches!(LedgerFile::open(&folder.file()), Err(Failure::NoLedger { .. })));
}
