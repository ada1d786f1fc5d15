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
        entry::Digest,
        ledger::{Ledger, Restorer},
        request::{AdjustAsk, HoldAsk, Key, KeyId, RefundAsk, Seed},
        start::Error,
        store::{
            Failure, OrdersAsk, OrdersOf, Reader, Sqlite, Store,
            tampering::{Facts, Record, change, change_bytes, find, made, read, step},
        },
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
    let (open, after, last) = places(&Connection::open(folder.file()).unwrap());
    let standing =
        |state: &str| format!("INSERT OR REPLACE INTO standing VALUES({open}, '{state}', 0, NULL, NULL, NULL, NULL)");
    let head = |sku: u64| format!("SELECT head_row >> 20 FROM sku WHERE no = {sku}");
    let cases: &[(String, &str)] = &[
        ("DELETE FROM checkpoint_person WHERE person = 2".into(), "checkpoint: it is of"),
        ("UPDATE checkpoint_person SET person = 4000000000000 WHERE person = 2".into(), "person 4000000000000"),
        ("UPDATE checkpoint_person SET sub = 'ann'".into(), "person 2"),
        ("UPDATE checkpoint_person SET sub = '' WHERE person = 2".into(), "person 2"),
        ("UPDATE checkpoint_person SET sub = 'eve' WHERE person = 2".into(), "its buyer is another"),
        ("UPDATE sku SET held = held + 1, stock = stock + 1 WHERE no = 1".into(), "sku 1"),
        ("UPDATE sku SET available = available + 5 WHERE no = 0".into(), "sku 0"),
        ("UPDATE sku SET sold = -1 WHERE no = 0".into(), "sku 0"),
        ("UPDATE sku SET entry = 9007199254740993 WHERE no = 0".into(), "sku 0"),
        ("UPDATE sku SET entry = entry - 1 WHERE no = 0".into(), "sku 0"),
        ("UPDATE sku SET head_row = 1 WHERE no = 1".into(), "sku 1"),
        ("UPDATE sku SET head_row = -1 WHERE no = 1".into(), "sku 1"),
        ("UPDATE sku SET head_row = 9223372036854775807 WHERE no = 1".into(), "sku 1"),
        ("UPDATE sku SET no = 7 WHERE no = 1".into(), "sku 7"),
        ("UPDATE sku SET sku = 'red' WHERE no = 1".into(), "sku 1"),
        ("UPDATE sku SET merchant = 'other' WHERE no = 1".into(), "sku 1"),
        (format!("DELETE FROM tx WHERE no = {last}"), "sku 0"),
        (format!("DELETE FROM tx WHERE no = ({})", head(1)), "sku 1"),
        ("INSERT INTO mark VALUES(1, 0)".into(), "sku 0"),
        ("UPDATE checkpoint SET tx = 1000000".into(), "checkpoint of transaction 1000000"),
        ("UPDATE checkpoint SET tx = tx - 2".into(), "the checkpoint"),
        ("UPDATE checkpoint SET tx = tx + 1".into(), "the checkpoint"),
        ("UPDATE checkpoint SET tx = -1".into(), "checkpoint"),
        ("UPDATE checkpoint SET people = people + 1".into(), "checkpoint: it is of"),
        ("DELETE FROM checkpoint_open".into(), "sku 0"),
        ("INSERT INTO checkpoint_open VALUES(1)".into(), "transaction 1: it made no hold"),
        ("INSERT INTO checkpoint_open VALUES(0)".into(), "transaction 0 is missing"),
        ("UPDATE checkpoint_person SET person = 7 WHERE person = 2".into(), "person 7"),
        ("INSERT INTO checkpoint_person VALUES(3, 'eve', 1, 1, 1)".into(), "checkpoint: it is of"),
        ("UPDATE checkpoint_pieces SET pieces = 0".into(), "limit"),
        ("UPDATE checkpoint_pieces SET pieces = -1".into(), "checkpoint_pieces 1"),
        ("UPDATE checkpoint_pieces SET person = 99".into(), "person 99"),
        ("UPDATE checkpoint_pieces SET product = 'nothing'".into(), "nothing"),
        (format!("DELETE FROM tx WHERE no = {open}"), "is missing"),
        (standing("eaten"), "no such state"),
        (standing("paid"), "a state that does not go"),
        (standing("cancelled"), "sku 0"),
        (format!("UPDATE tx SET no = 90000 WHERE no = {last}"), "a record that was changed"),
        (format!("UPDATE tx SET no = 9007199254740000 WHERE no = {last}"), "the last transaction"),
        (format!("UPDATE tx SET facts = x'' WHERE no = {last}"), "the last transaction"),
        (format!("UPDATE tx SET facts = 7 WHERE no = {open}"), "transaction"),
        (format!("UPDATE tx SET facts = zeroblob(90) WHERE no = {after} + 2"), "transaction"),
        ("UPDATE standing SET refunded = '[9, 9]' WHERE refunded IS NOT NULL".into(), "refunded pieces"),
        ("UPDATE standing SET refunded = '[]' WHERE refunded IS NOT NULL".into(), "refunded pieces"),
        ("UPDATE signing_key SET seed = x'00'".into(), "signing_key"),
    ];
    let db = Connection::open(folder.file()).unwrap();
    let steps = find(&db, |record| matches!(record.what, Facts::Step(_)));
    let cancelled = steps.into_iter().find(|tx| *tx > after).unwrap();
    let later = find(&db, |record| matches!(record.what, Facts::Made(_))).pop().unwrap();
    let opens_id = read(&db, open, |record| match &record.what {
        Facts::Made(made) => made.id,
        _ => unreachable!("it made a hold"),
    });
    let head_tx = db.query_row(&head(1), [], |row| row.get::<_, i64>(0)).unwrap() as u64;
    drop(db);
    let forgeries: &[(u64, &Forge<'_>, &str)] = &[
        (head_tx, &|r| r.entries.iter_mut().for_each(|entry| entry.hash = Digest::ZERO), "sku 1"),
        (open, &|r| made(r).lines.clear(), "a hold without lines"),
        (open, &|r| made(r).lines[0].sku_no = 1, "lines that no hold has"),
        (open, &|r| made(r).lines[0].sku_no = 77, "a SKU that is not there"),
        (open, &|r| made(r).lines[0].quantity = 3, "sku 0"),
        (open, &|r| made(r).lines[0].quantity = 0, "lines that no hold has"),
        (open, &|r| made(r).person = 77, "transaction"),
        (open, &|r| made(r).sub = "", "transaction"),
        (open, &|r| made(r).sub = "bobby", "its buyer is another"),
        (open, &|r| made(r).currency = "yuan", "transaction"),
        (open, &|r| made(r).room = Some("../hall"), "transaction"),
        (later, &|r| made(r).id = opens_id, "twice"),
        (later, &|r| made(r).person = 4, "one before is missing"),
        (cancelled, &|r| step(r).counted.clear(), "counted pieces"),
        (cancelled, &|r| step(r).counted.iter_mut().for_each(|pieces| *pieces = 3), "counted pieces"),
        (cancelled, &|r| step(r).hold = 4_000, "a step of a later hold"),
        (cancelled, &|r| step(r).hold = 1, "transaction 1: it made no hold"),
        (cancelled, &|r| step(r).person = 4_000, "person 4000"),
    ];
    let mut wrong = Vec::new();
    let mut expect = |what: &str, place: &str, tamper: &dyn Fn(&Connection)| {
        let changed = tampered(&folder, tamper);
        let (to, _events) = channel(100);
        let clock = Clock::manual(UnixMs(1_700_000_000_000));
        let opened = Desk::open(Config::default(), clock, Box::new(open_store(&changed.file())), to);
        match opened {
            Err(Error::Store(Failure::Damaged { what, .. })) if what.contains(place) => {}
            Err(other) => wrong.push(format!("{what}: {other}")),
            Ok(_) => wrong.push(format!("{what}: it was believed")),
        }
    };
    for (sql, place) in cases {
        expect(sql, place, &|db| assert!(db.execute(sql, []).expect(sql) > 0, "{sql} changes something"));
    }
    for (index, (tx, forge, place)) in forgeries.iter().enumerate() {
        expect(&format!("forgery {index}, {place}"), place, &|db| change(db, *tx, forge));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

type Forge<'f> = dyn Fn(&mut Record<'_>) + 'f;

/// The first hold that is open, the last transaction of the checkpoint, and the last of all.
fn places(db: &Connection) -> (u64, u64, u64) {
    let number = |query: &str| db.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap() as u64;
    let ended = |tx: u64| number(&format!("SELECT count(*) FROM standing WHERE hold = {tx} AND state <> 'held'")) > 0;
    let made = find(db, |record| matches!(record.what, Facts::Made(_)));
    let open = made.into_iter().find(|tx| !ended(*tx)).unwrap();
    (open, number("SELECT tx FROM checkpoint"), number("SELECT max(no) FROM tx"))
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

/// Puts a value that may mean anything into one place of one row, or of one record.
fn change_a_value(db: &Connection, chance: &mut StdRng) -> String {
    if chance.random_bool(0.5) {
        return change_a_record(db, chance);
    }
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

/// Changes some bytes of a record, and makes its sum right again.
fn change_a_record(db: &Connection, chance: &mut StdRng) -> String {
    let (skip, mut at) = (chance.random_range(0..30), 0);
    let tx = db
        .query_row("SELECT no FROM tx LIMIT 1 OFFSET ?1 % (SELECT count(*) FROM tx)", [skip], |row| {
            row.get::<_, i64>(0)
        })
        .unwrap();
    change_bytes(db, tx, |bytes| {
        at = chance.random_range(0..bytes.len().max(1));
        match chance.random_range(0..6) {
            _ if bytes.is_empty() => {}
            0 => bytes.truncate(at),
            1 => bytes.insert(at, chance.random()),
            2 => drop(bytes.remove(at)),
            3 => bytes[at] ^= 1 << chance.random_range(0..8),
            _ => bytes[at] = chance.random(),
        }
    });
    format!("transaction {tx}, byte {at}")
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
    for tx in 0..60 {
        drop(reader.entries(tx << 20, 30, 0));
        drop(reader.entries(tx << 20 | tx, 30, 0));
    }
}
