//! The SQLite store keeps to the contract, and to what only SQLite must.

use rusqlite::Connection;

use super::{schema, *};
use crate::{
    id::HoldId,
    order::{
        hold::View,
        store::contract::{Scribe, keeps_to_the_contract},
        tests::Folder,
    },
    protocol::HoldLine,
};

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
    db.execute("INSERT INTO checkpoint_person VALUES(1, 'ann', 0, 0, 0)", []).unwrap();
    let version = schema::STEPS.len();
    let step = schema::Step::Sql("ALTER TABLE checkpoint_person ADD COLUMN region TEXT NOT NULL DEFAULT 'north'");
    let steps = [schema::STEPS, &[step]].concat();
    schema::prepare(&mut db, &folder.file(), &steps).unwrap();
    let region: String = db.query_row("SELECT region FROM checkpoint_person", [], |row| row.get(0)).unwrap();
    assert_eq!(region, "north");
    let copy = Connection::open(format!("{}.v{version}", folder.file().display())).unwrap();
    let kept: i64 = copy.query_row("SELECT version FROM schema", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, version as i64);
    assert!(copy.prepare("SELECT region FROM checkpoint_person").is_err(), "the copy is as the file was");
    assert!(schema::prepare(&mut db, &folder.file(), schema::STEPS).is_err(), "there is no way back");
}

#[test]
fn a_step_that_fails_leaves_the_older_file() {
    let folder = Folder::new();
    drop(Sqlite::open(&folder.file()).unwrap());
    let mut db = Connection::open(folder.file()).unwrap();
    let step = schema::Step::Sql("ALTER TABLE checkpoint_person ADD COLUMN region TEXT; nonsense");
    let steps = [schema::STEPS, &[step]].concat();
    assert!(schema::prepare(&mut db, &folder.file(), &steps).is_err());
    assert!(db.prepare("SELECT region FROM checkpoint_person").is_err());
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

/// A ledger after a mixed life, as a program of version 2 left it.
fn version_2(folder: &Folder) -> Connection {
    let db = Connection::open(folder.file()).unwrap();
    db.execute_batch(include_str!("version_2.sql")).unwrap();
    db
}

/// How a hold stood, as version 2 kept it: transaction, id, buyer, lines, state, end, order, payment, refunded.
type HoldThen = (i64, [u8; 16], String, String, String, i64, Option<i64>, Option<String>, Option<String>);

fn holds_then(db: &Connection) -> Vec<HoldThen> {
    let query = "SELECT tx, id, sub, lines, state, expires_at, order_tx, payment, refunded FROM hold JOIN person ON no = \
                 person ORDER BY tx";
    let mut query = db.prepare(query).unwrap();
    let read = |row: &rusqlite::Row<'_>| {
        let (tx, id, sub, lines) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok((tx, id, sub, lines, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?))
    };
    query.query_map([], read).unwrap().map(Result::unwrap).collect()
}

fn hold_now(view: &View) -> HoldThen {
    let View { held, standing } = view;
    let line =
        |line: &HoldLine| format!("[\"{}\",\"{}\",{},{}]", line.sku, line.product, line.quantity, line.price.amount);
    let lines: Vec<_> = held.lines.iter().map(line).collect();
    let placed = standing.placed.as_deref();
    (
        held.tx as i64,
        *held.id.as_bytes(),
        held.sub.as_str().to_owned(),
        format!("[{}]", lines.join(",")),
        standing.state.as_str().to_owned(),
        standing.expires_at.0,
        placed.map(|placed| placed.tx as i64),
        placed.and_then(|placed| placed.payment.as_deref().map(str::to_owned)),
        placed.map(|placed| rows::pieces_text(&placed.refunded)),
    )
}

#[test]
fn a_file_of_version_2_goes_on_with_everything_that_was_in_it() {
    let folder = Folder::new();
    drop(version_2(&folder));
    let mut store = Sqlite::open(&folder.file()).unwrap();
    let report = LedgerFile::open(&folder.file()).unwrap().reconcile(10).unwrap();
    assert!(report.agrees(), "{report}");
    assert_eq!((report.holds, report.entries, report.skus, report.transactions), (82, 182, 3, 177));

    let copy = Connection::open(format!("{}.v2", folder.file().display())).unwrap();
    let then = holds_then(&copy);
    assert_eq!(then.len(), 82);
    let mut reader = store.reader().unwrap();
    for hold in then {
        let view = reader.hold(HoldId::from_bytes(hold.1)).unwrap().expect("every hold is there");
        assert_eq!(hold_now(&view), hold);
    }
    let scribe = Scribe::take_up(&mut store).unwrap();
    let number = |query: &str| copy.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap() as u64;
    assert_eq!(scribe.ledger.open_holds() as u64, number("SELECT count(*) FROM hold WHERE state = 'held'"));
    let mut messages = 0;
    for sub in ["ann", "bob", "dan", "eve", "zoe", "clerk"] {
        let sub = sub.parse().unwrap();
        let newest = scribe.ledger.newest_message(&sub);
        messages += reader.messages(&sub, newest, 0, 1_000, 1_000).unwrap().len() as u64;
    }
    let told = "SELECT (SELECT count(*) FROM hold) + (SELECT count(*) FROM step) + (SELECT count(*) FROM notice)";
    assert_eq!(messages, number(told));
    let seed = copy.query_row("SELECT seed FROM signing_key", [], |row| rows::bytes(row, 0)).unwrap();
    assert_eq!(store.signing_seed().unwrap(), seed);
}

#[test]
fn a_file_of_version_1_is_brought_up_to_date_too() {
    let folder = Folder::new();
    let mut db = Connection::open(folder.file()).unwrap();
    schema::prepare(&mut db, &folder.file(), &schema::STEPS[..1]).unwrap();
    drop(db);
    drop(Sqlite::open(&folder.file()).unwrap());
    assert!(LedgerFile::open(&folder.file()).unwrap().reconcile(10).unwrap().agrees());
    let copy = Connection::open(format!("{}.v1", folder.file().display())).unwrap();
    assert!(copy.prepare("SELECT * FROM notice").is_err(), "the copy is as the file was");
}

/// What version 2 said twice must agree before one of both goes.
#[test]
fn a_changed_file_of_version_2_is_refused_or_the_change_is_still_found() {
    let refused = [
        ("UPDATE entry SET at = at + 1 WHERE row = 9", "another time"),
        ("UPDATE entry SET holder = zeroblob(3) WHERE row = 9", "entry 9"),
        ("UPDATE entry SET type = 'sold' WHERE row = 9", "entry 9: no such type"),
        ("UPDATE entry SET row_before = 1 WHERE row = 9", "does not follow"),
        ("UPDATE entry SET sku = 77 WHERE row = 9", "no SKU"),
        ("UPDATE entry SET row = 9000 WHERE row = 9", "entry 9: one before it is missing"),
        ("UPDATE entry SET tx = tx + 100 WHERE row = 9", "transaction"),
        ("DELETE FROM entry WHERE row = 9", "one before it is missing"),
        ("DELETE FROM entry WHERE row = (SELECT max(row) FROM entry)", "transaction 177"),
        ("DELETE FROM mark", "with a mark that is not its own"),
        ("INSERT INTO mark VALUES(9, 0)", "with a mark that is not its own"),
        ("INSERT INTO mark VALUES(9000, 0)", "mark"),
        ("UPDATE sku SET head_row = head_row - 1 WHERE no = 1", "sku 1"),
        ("UPDATE sku SET merchant = 'wang' WHERE sku = 'green'", "not of its entry's SKU"),
        ("UPDATE hold SET merchant = 'wang' WHERE tx = 19", "transaction 19: a line that is not"),
        ("UPDATE hold SET lines = replace(lines, 'red', 'blue') WHERE tx = 19", "transaction 19: a line that is not"),
        ("UPDATE hold SET lines = '[]' WHERE tx = 19", "transaction 19"),
        ("UPDATE hold SET lines = 'x' WHERE tx = 19", "transaction 19"),
        ("UPDATE hold SET nonce = zeroblob(16) WHERE tx = 19", "another time, holder or reason"),
        ("UPDATE hold SET id = randomblob(16) WHERE tx = 19", "another time, holder or reason"),
        ("UPDATE hold SET made_at = made_at - 1 WHERE tx = 19", "another time"),
        ("DELETE FROM hold WHERE tx = 19", "transaction 19"),
        ("DELETE FROM person WHERE no = 3", "its buyer is missing"),
        ("UPDATE step SET step = 'lost' WHERE tx = 20", "no such step"),
        ("DELETE FROM step WHERE tx = 20", "transaction 20"),
        ("UPDATE notice SET tx = tx - 1 WHERE tx = (SELECT min(tx) FROM notice)", "a notice of no step"),
        ("INSERT INTO adjustment SELECT 19, at, key, key_body, 1, 1, 1, 1 FROM adjustment LIMIT 1", "several things"),
        ("UPDATE hold SET n = -1 WHERE tx = 19", "transaction 19"),
    ];
    let found = [
        ("UPDATE entry SET holder = zeroblob(32) WHERE row = 9", "holder recorded another"),
        ("UPDATE entry SET hash = zeroblob(32) WHERE row = 9", "hash recorded 0000"),
        ("UPDATE entry SET quantity = quantity + 1 WHERE row = 9", "hash recorded"),
        ("UPDATE entry SET n = n + 1 WHERE row = 9", "number recorded"),
        ("UPDATE entry SET type = 'expired' WHERE row = 9", "hash recorded"),
        ("UPDATE sku SET available = available - 1, sold = sold + 1 WHERE sku = 'red'", "sku red: sold recorded"),
        ("UPDATE hold SET state = 'gone' WHERE tx = 19", "no such state"),
        ("UPDATE hold SET state = 'cancelled' WHERE tx = 19", "state recorded cancelled, recomputed paid"),
        ("UPDATE hold SET refunded = '[1]' WHERE tx = 19", "pieces refunded recorded [1], recomputed [0]"),
        ("UPDATE hold SET total = total + 1 WHERE tx = 19", "total recorded"),
        ("UPDATE hold SET message_before = 0 WHERE tx = 19", "message before recorded 0"),
        ("UPDATE step SET before_of_all = 0 WHERE tx = 20", "order before recorded 0"),
        ("UPDATE step SET person = 2 WHERE tx = 20", "person recorded 2"),
        ("UPDATE adjustment SET available = available + 1", "counts after the adjustment"),
        ("UPDATE notice SET message_before = 1", "message before recorded 1"),
        ("UPDATE checkpoint_person SET n = n + 1 WHERE person = 1", "checkpoint, person 1: messages"),
    ];
    let mut wrong = Vec::new();
    for (sql, place) in refused.into_iter().chain(found) {
        let folder = Folder::new();
        let changed = version_2(&folder).execute(sql, []).unwrap();
        assert!(changed > 0, "{sql} changes nothing");
        let is_found = match Sqlite::open(&folder.file()) {
            Err(Failure::Damaged { what, .. }) if what.contains(place) => continue,
            Err(other) => Err(other.to_string()),
            Ok(_) => Ok(LedgerFile::open(&folder.file()).unwrap().reconcile(1_000).unwrap().to_string()),
        };
        let expected = found.iter().any(|(change, _)| *change == sql);
        match is_found {
            Ok(report) if expected && report.contains(place) => {}
            Ok(said) | Err(said) => wrong.push(format!("{sql}\n  expected {place:?} in\n{said}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
