//! A ledger file that others changed, or a failing disk did: said to be damaged and where, never believed and never a
//! reason to fall over.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rusqlite::{Connection, types::Value};
use tokio::sync::mpsc::channel;

use super::shop::*;
use crate::{
    clock::{Clock, UnixMs},
    id::HoldId,
    order::{
        Config, Desk, Party, StockChange,
        ledger::{Ledger, Restorer},
        request::{AdjustAsk, HoldAsk, Key, KeyId, RefundAsk, Seed},
        start::Error,
        store::{Failure, OrdersAsk, OrdersOf, Reader, Sqlite, Store},
    },
};

/// A ledger with something of everything, before its checkpoint and after.
async fn eventful(folder: &Folder) -> Vec<HoldId> {
    let config = Config { hold_seconds: 30 * 24 * 3_600, ..Config::default() };
    let shop = Shop::open(folder, config.clone());
    let mut ids = some_of_everything(&shop, 0).await;
    // What is open now is by the next start older than the keys that are remembered.
    shop.clock.advance(Duration::from_secs(48 * 3_600));
    let clock = shop.clock.clone();
    tokio::task::spawn_blocking(|| shop.desk.shutdown()).await.unwrap();
    // Opening makes a checkpoint of more transactions than none.
    let shop = Shop::open_at(folder, Config { checkpoint_after: 0, ..config.clone() }, clock.clone());
    tokio::task::spawn_blocking(|| shop.desk.shutdown()).await.unwrap();
    let shop = Shop::open_at(folder, config, clock);
    let changed = shop.desk.cancel(buyer("ann"), ids[4]).await.unwrap();
    assert!(!changed.replayed);
    ids.extend(some_of_everything(&shop, 1).await);
    tokio::task::spawn_blocking(|| shop.desk.shutdown()).await.unwrap();
    ids
}

async fn some_of_everything(shop: &Shop, round: usize) -> Vec<HoldId> {
    shop.sells("scarf", Some(50), &[("red", 200), ("blue", 200)]).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        let who = if n % 2 == 0 { "ann" } else { "bob" };
        let request = request(who, &format!("{round}-{n}"), &[("red", 2), ("blue", 1)]);
        ids.push(shop.desk.hold(request).await.unwrap().value.id);
        shop.clock.advance(Duration::from_millis(10));
    }
    shop.desk.confirm(buyer("ann"), ids[0], Some("p".into())).await.unwrap();
    shop.desk.confirm(buyer("bob"), ids[1], None).await.unwrap();
    shop.desk.cancel(buyer("ann"), ids[2]).await.unwrap();
    shop.desk.extend(buyer("bob"), ids[3]).await.unwrap();
    shop.desk.refund(merchant("main"), ids[0], format!("r{round}"), None, true, "back".into()).await.unwrap();
    let (key, red) = (format!("a{round}"), "red".parse().unwrap());
    shop.desk.adjust(merchant("main"), &red, key, StockChange::Delta(5), "more".into()).await.unwrap();
    ids
}

/// A copy of the ledger with something done to it.
fn tampered(folder: &Folder, tamper: impl FnOnce(&Connection)) -> Folder {
    let copy = folder.as_after_a_crash();
    let db = Connection::open(copy.file()).unwrap();
    db.execute_batch("PRAGMA ignore_check_constraints = ON; PRAGMA synchronous = OFF").unwrap();
    tamper(&db);
    drop(db);
    copy
}

#[tokio::test]
async fn a_changed_file_is_refused_with_the_place_of_the_damage() {
    let folder = Folder::new();
    eventful(&folder).await;
    let open = "(SELECT min(tx) FROM hold WHERE state = 'held')";
    let after = "(SELECT tx FROM checkpoint)";
    let cases: &[(String, &str)] = &[
        ("DELETE FROM person WHERE no = 1".into(), "person 2"),
        ("UPDATE person SET no = 4000000000000 WHERE no = 2".into(), "person 4000000000000"),
        ("UPDATE person SET sub = 'ann'".into(), "person 2"),
        ("UPDATE person SET sub = '' WHERE no = 2".into(), "person 2"),
        ("UPDATE sku SET held = held + 1, stock = stock + 1 WHERE no = 1".into(), "sku 1"),
        ("UPDATE sku SET available = available + 5 WHERE no = 0".into(), "sku 0"),
        ("UPDATE sku SET sold = -1 WHERE no = 0".into(), "sku 0"),
        ("UPDATE sku SET entry = 9007199254740993 WHERE no = 0".into(), "sku 0"),
        ("UPDATE sku SET entry = entry - 1 WHERE no = 0".into(), "sku 0"),
        ("UPDATE sku SET head_row = 1 WHERE no = 1".into(), "sku 1"),
        ("UPDATE sku SET no = 7 WHERE no = 1".into(), "sku 7"),
        ("UPDATE sku SET sku = 'red' WHERE no = 1".into(), "sku 1"),
        ("UPDATE sku SET merchant = 'other' WHERE no = 1".into(), "sku 1"),
        ("DELETE FROM entry WHERE row = (SELECT max(row) FROM entry)".into(), "sku 0"),
        ("UPDATE entry SET hash = zeroblob(32) WHERE row = (SELECT head_row FROM sku WHERE no = 1)".into(), "sku 1"),
        ("INSERT INTO mark VALUES(1, 0)".into(), "sku 0"),
        ("UPDATE checkpoint SET tx = 1000000".into(), "checkpoint of transaction 1000000"),
        ("UPDATE checkpoint SET tx = tx - 2".into(), "the checkpoint"),
        ("UPDATE checkpoint SET tx = tx + 1".into(), "the checkpoint"),
        ("UPDATE checkpoint SET tx = -1".into(), "checkpoint"),
        ("DELETE FROM checkpoint_open".into(), "sku 0"),
        ("INSERT INTO checkpoint_open VALUES(1)".into(), "hold 1 is missing"),
        ("DELETE FROM checkpoint_person WHERE person = 1".into(), "the checkpoint"),
        ("UPDATE checkpoint_person SET person = 7 WHERE person = 2".into(), "person 2"),
        ("INSERT INTO checkpoint_person VALUES(3, 1, 1, 1)".into(), "person 3"),
        ("UPDATE checkpoint_pieces SET pieces = 0".into(), "limit"),
        ("UPDATE checkpoint_pieces SET pieces = -1".into(), "checkpoint_pieces 1"),
        ("UPDATE checkpoint_pieces SET person = 99".into(), "person 99"),
        ("UPDATE checkpoint_pieces SET product = 'nothing'".into(), "nothing"),
        (format!("DELETE FROM hold WHERE tx = {open}"), "is missing"),
        (format!("UPDATE hold SET state = 'eaten' WHERE tx = {open}"), "no such state"),
        (format!("UPDATE hold SET state = 'paid' WHERE tx = {open}"), "hold"),
        (format!("UPDATE hold SET state = 'cancelled' WHERE tx = {open}"), "sku 0"),
        (format!("UPDATE hold SET lines = '[]' WHERE tx = {open}"), "hold"),
        (format!("UPDATE hold SET lines = replace(lines, 'red', 'blue') WHERE tx = {open}"), "hold"),
        (format!("UPDATE hold SET lines = replace(lines, 'red', 'none') WHERE tx = {open}"), "not on sale"),
        (format!("UPDATE hold SET lines = replace(lines, ',2,', ',3,') WHERE tx = {open}"), "sku 0"),
        (format!("UPDATE hold SET person = 77 WHERE tx = {open}"), "hold"),
        (format!("UPDATE hold SET made_at = -5 WHERE tx > {after}"), "the last transaction"),
        (format!("UPDATE hold SET id = (SELECT id FROM hold WHERE tx = {open}) WHERE tx > {after}"), "twice"),
        ("UPDATE hold SET refunded = '[9, 9]' WHERE refunded IS NOT NULL".into(), "refunded pieces"),
        ("UPDATE hold SET refunded = '[]' WHERE refunded IS NOT NULL".into(), "refunded pieces"),
        (format!("UPDATE step SET counted = '[]' WHERE tx > {after}"), "step"),
        (format!("UPDATE step SET counted = '[3, 3]' WHERE tx > {after}"), "step"),
        (format!("UPDATE step SET hold = 4000 WHERE tx > {after}"), "hold 4000"),
        (format!("UPDATE step SET step = 'eaten' WHERE tx > {after}"), "no such step"),
        (format!("UPDATE step SET person = 4000 WHERE tx > {after}"), "person 4000"),
        ("UPDATE adjustment SET key = x'00'".into(), "adjustment"),
        ("UPDATE signing_key SET seed = x'00'".into(), "signing_key"),
    ];
    let mut wrong = Vec::new();
    for (sql, place) in cases {
        let changed = tampered(&folder, |db| assert!(db.execute(sql, []).expect(sql) > 0, "{sql} changes something"));
        let (to, _events) = channel(100);
        let clock = Clock::manual(UnixMs(1_700_000_000_000));
        let opened = Desk::open(Config::default(), clock, Box::new(open_store(&changed.file())), to);
        match opened {
            Err(Error::Store(Failure::Damaged { what, .. })) if what.contains(place) => {}
            Err(other) => wrong.push(format!("{sql}: {other}")),
            Ok(_) => wrong.push(format!("{sql}: it was believed")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_no_ledger_at_all_is_refused() {
    let folder = Folder::new();
    eventful(&folder).await;
    let whole = std::fs::read(folder.file()).unwrap();
    for bytes in [&b"not a database, but long enough to be taken for one"[..], &whole[..whole.len() / 3]] {
        let bad = Folder::new();
        std::fs::write(bad.file(), bytes).unwrap();
        let opened = Sqlite::open(&bad.file()).map(|mut store| take_up(&mut store, UnixMs(0)).err());
        assert!(!matches!(opened, Ok(None)), "it was believed");
    }
}

fn take_up(store: &mut Sqlite, recent: UnixMs) -> Result<Ledger, Failure> {
    store.newest()?;
    let mut restorer = Restorer::new(Config::default(), recent);
    store.load(recent, &mut restorer)?;
    store.signing_seed()?;
    Ok(restorer.finish().ledger)
}

#[tokio::test]
async fn any_value_in_any_column_is_an_error_or_works_and_nothing_falls_over() {
    let cases: u64 = env::var("LEDGER_DAMAGE_CASES").map_or(200, |cases| cases.parse().expect("a number of cases"));
    let folder = Folder::new();
    let ids = eventful(&folder).await;
    let (mut refused, mut believed, mut fell_over) = (0, 0, Vec::new());
    for seed in 0..cases {
        let mut chance = StdRng::seed_from_u64(seed);
        let (changes, recent) = (chance.random_range(1..=2), UnixMs([0, 1_700_000_090_000][chance.random_range(0..2)]));
        let mut done = Vec::new();
        let changed = tampered(&folder, |db| done.extend((0..changes).map(|_| change_a_value(db, &mut chance))));
        let started = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| open_and_use(&changed.file(), &ids, recent))) {
            Ok(Ok(())) => believed += 1,
            Ok(Err(_)) => refused += 1,
            Err(_) => fell_over.push(format!("seed {seed}: {done:?}")),
        }
        assert!(started.elapsed() < Duration::from_secs(10), "seed {seed}: {done:?}");
    }
    assert!(fell_over.is_empty(), "{}", fell_over.join("\n"));
    assert!(refused > cases / 4 && believed > cases / 20, "{refused} refused, {believed} believed");
}

/// Puts a value that may mean anything into one place of one row.
fn change_a_value(db: &Connection, chance: &mut StdRng) -> String {
    let names = |sql: &str| -> Vec<String> {
        let mut query = db.prepare(sql).unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let tables = names("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'");
    let table = &tables[chance.random_range(0..tables.len())];
    let columns = names(&format!("SELECT name FROM pragma_table_info('{table}')"));
    let column = &columns[chance.random_range(0..columns.len())];
    let value = match chance.random_range(0..12) {
        0 => Value::Integer(i64::MAX),
        1 => Value::Integer(i64::MIN),
        2 => Value::Integer((1 << 53) - 1),
        3 => Value::Integer(-1),
        4..7 => Value::Integer(chance.random_range(0..40)),
        7 => Value::Text("held".to_owned()),
        8 => Value::Text("[1,1]".to_owned()),
        9 => Value::Blob(vec![0; 16]),
        10 => Value::Real(0.5),
        _ => Value::Null,
    };
    let (skip, said) = (chance.random_range(0..30), format!("{table}.{column} = {value:?}"));
    let sql = format!(
        "UPDATE OR IGNORE {table} SET {column} = ?1 WHERE rowid = (SELECT rowid FROM {table} LIMIT 1 OFFSET \
         {skip} % max(1, (SELECT count(*) FROM {table})))"
    );
    // What a constraint keeps out, nobody has to bear.
    drop(db.execute(&sql, [value]));
    said
}

/// Takes the ledger up and has it do something of everything.
fn open_and_use(file: &Path, ids: &[HoldId], recent: UnixMs) -> Result<(), Failure> {
    let mut store = Sqlite::open(file)?;
    let mut ledger = take_up(&mut store, recent)?;
    let now = UnixMs(1_700_000_001_000).plus(Duration::from_secs(48 * 3_600));
    let (admin, shop) = (Party::Admin { sub: sub("root") }, merchant("main"));
    let key = |n: u8| Key { id: KeyId([n; 16]), body: [0; 16] };
    drop(ledger.define(&terms("scarf", Some(50), &[("red", 200), ("blue", 200), ("new", 5)]), now));
    let hold = |n: u8| HoldAsk {
        sub: sub(["ann", "bob", "eve"][usize::from(n) % 3]),
        key: key(n),
        room: None,
        show: None,
        shown_as: None,
        lines: request("ann", "k", &[("red", 1), ("blue", 1)]).lines,
        seed: Seed { id: [n; 10], nonce: [n; 16] },
    };
    for n in 0..6 {
        drop(ledger.hold(&hold(n), now));
    }
    let mut reader = store.reader()?;
    for (n, id) in (20..).zip(ids.iter().copied()) {
        if let Ok(Some(view)) = reader.hold(id) {
            ledger.invite(view, now, now);
        }
        let refund =
            |key, restock| RefundAsk { by: admin.clone(), order: id, key, lines: None, restock, reason: "back".into() };
        match n % 4 {
            0 => drop(ledger.confirm(&shop, id, None, now)),
            1 => drop(ledger.cancel(&admin, id, now)),
            2 => drop(ledger.extend(&buyer("ann"), id, now)),
            _ => {}
        }
        drop(ledger.refund(&refund(key(n), n % 2 == 0), now));
        ledger.check();
    }
    let (sku, change) = ("red".parse().unwrap(), StockChange::Set(300));
    drop(ledger.adjust(&AdjustAsk { by: shop.clone(), sku, key: key(9), change, reason: "set".into() }, now));
    read_everything(&ledger, reader.as_mut());
    let later = now.plus(Duration::from_secs(50 * 24 * 3_600));
    while ledger.expire_next(later).is_some() {}
    while !ledger.forget(later, 1_000).is_empty() {}
    ledger.check();
    store.checkpoint(&ledger.checkpoint())
}

fn orders(of: OrdersOf, newest: u64) -> OrdersAsk {
    OrdersAsk { of, newest, after: None, state: None, limit: 100, look_max: 100 }
}

fn read_everything(ledger: &Ledger, reader: &mut dyn Reader) {
    for who in ["ann", "bob"] {
        drop(reader.messages(&sub(who), ledger.newest_message(&sub(who)), 0, 100, 100));
        drop(reader.orders(&orders(OrdersOf::Buyer, ledger.newest_order(&buyer(who)))));
    }
    drop(reader.orders(&orders(OrdersOf::All, ledger.newest_order(&Party::Admin { sub: sub("root") }))));
    for row in 0..60 {
        drop(reader.entries(row, 30, 0));
    }
}
