//! A ledger after a mixed life agrees with itself, and not after a change of any one thing in it.

use std::{fs, path::PathBuf, time::Duration};

use rusqlite::Connection;

use crate::{
    clock::{Clock, UnixMs},
    id::HoldId,
    order::{
        Config, Desk, LedgerFile, StockChange,
        request::RefundLine,
        tests::shop::{Folder, Shop, buyer, merchant, request, terms},
    },
    protocol::{Hold, OrderState},
};

/// Everything that a ledger does, with a checkpoint in the middle and some of it open at the end.
async fn mixed_life(folder: &Folder) {
    let clock = Clock::manual(UnixMs(1_700_000_000_000));
    let shop = Shop::open_at(folder, Config { checkpoint_after: 10, ..Config::default() }, clock.clone());
    goods(&shop).await;
    for n in 0..70 {
        let hold = made(&shop, "ann", &format!("many-{n}"), &[("red", 1)]).await;
        shop.desk.confirm(buyer("ann"), hold.id, Some(format!("pay-{n}"))).await.unwrap();
        clock.advance(Duration::from_millis(7));
    }
    first_half(&shop).await;
    let old = made(&shop, "eve", "old", &[("red", 2), ("blue", 2)]).await;
    shop.desk.confirm(buyer("eve"), old.id, None).await.unwrap();
    let kept = made(&shop, "bob", "kept", &[("blue", 3)]).await;
    let mut in_show = request("dan", "in-show", &[("red", 2)]);
    in_show.show = Some("show-1".to_owned());
    let shown = shop.desk.hold(in_show).await.unwrap().value;
    ended(shop).await;

    let shop = Shop::open_at(folder, Config::default(), clock.clone());
    goods(&shop).await;
    shop.desk.confirm(buyer("dan"), shown.id, None).await.unwrap();
    shop.desk.cancel(buyer("bob"), kept.id).await.unwrap();
    refund(&shop, old.id, "part", Some(("red", 1)), true).await;
    adjust(&shop, "blue", -2).await;
    let new = made(&shop, "zoe", "new", &[("blue", 1), ("red", 1)]).await;
    shop.desk.confirm(merchant("main"), new.id, None).await.unwrap();
    refund(&shop, new.id, "whole", None, true).await;
    made(&shop, "zoe", "open", &[("red", 4)]).await;
    ended(shop).await;
}

async fn goods(shop: &Shop) {
    shop.sells("scarf", None, &[("red", 500), ("blue", 50)]).await;
    shop.desk.define(terms("tea", Some(4), &[("green", 1)])).await.unwrap();
}

async fn first_half(shop: &Shop) {
    let several = made(shop, "bob", "several", &[("red", 3), ("blue", 1)]).await;
    shop.desk.confirm(merchant("main"), several.id, None).await.unwrap();
    refund(shop, several.id, "one", Some(("red", 1)), true).await;
    refund(shop, several.id, "rest", None, false).await;

    let given_up = made(shop, "bob", "given-up", &[("blue", 2)]).await;
    shop.desk.cancel(buyer("bob"), given_up.id).await.unwrap();
    adjust(shop, "red", 30).await;
    adjust(shop, "red", -5).await;

    let slow = made(shop, "eve", "slow", &[("blue", 4)]).await;
    shop.desk.extend(buyer("eve"), slow.id).await.unwrap();
    shop.clock.advance(Duration::from_secs(700));
    shop.until_count("blue", [49, 0, 1]).await;
    let late = shop.desk.confirm(merchant("main"), slow.id, None).await.unwrap().value;
    assert_eq!(late.state, OrderState::Paid);

    let mut in_vain = Vec::new();
    for (n, who) in ["bob", "dan", "zoe"].into_iter().enumerate() {
        let hold = made(shop, who, &format!("tea-{n}"), &[("green", 1)]).await;
        shop.desk.cancel(buyer(who), hold.id).await.unwrap();
        in_vain.push(hold.id);
    }
    made(shop, "eve", "tea", &[("green", 1)]).await;
    for order in &in_vain {
        let due = shop.desk.confirm(merchant("main"), *order, None).await.unwrap().value;
        assert_eq!(due.state, OrderState::RefundDue);
    }
    refund(shop, in_vain[0], "due", None, true).await;
}

async fn made(shop: &Shop, who: &str, key: &str, lines: &[(&str, u32)]) -> Hold {
    shop.clock.advance(Duration::from_millis(3));
    shop.desk.hold(request(who, key, lines)).await.unwrap().value
}

async fn refund(shop: &Shop, order: HoldId, key: &str, pieces: Option<(&str, u32)>, restock: bool) {
    let line = |(sku, quantity): (&str, u32)| vec![RefundLine { sku: sku.parse().unwrap(), quantity }];
    let asked = shop.desk.refund(merchant("main"), order, key.into(), pieces.map(line), restock, "退".into());
    asked.await.unwrap();
}

async fn adjust(shop: &Shop, sku: &str, delta: i64) {
    let key = format!("{sku} {delta}");
    let change = StockChange::Delta(delta);
    shop.desk.adjust(merchant("main"), &sku.parse().unwrap(), key, change, "盘点".into()).await.unwrap();
}

async fn ended(shop: Shop) {
    let desk: Desk = shop.desk;
    tokio::task::spawn_blocking(|| desk.shutdown()).await.unwrap();
}

/// The file alone, with all of its log in it.
fn settled(folder: &Folder) -> PathBuf {
    let db = Connection::open(folder.file()).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    folder.file()
}

/// One change, in words of SQL, and what a difference must say about its place. `PAID`, `TEA`, `OPEN` are transactions
/// that made holds; their ids stand for them in what is expected.
const TAMPERINGS: &[(&str, &str)] = &[
    ("UPDATE sku SET available = available - 1, sold = sold + 1 WHERE sku = 'red'", "sku red: sold recorded"),
    ("UPDATE sku SET available = available - 1, held = held + 1 WHERE sku = 'red'", "sku red: held recorded"),
    ("UPDATE sku SET available = available + 1, stock = stock + 1 WHERE sku = 'blue'", "sku blue: stock recorded"),
    ("UPDATE sku SET entry = entry - 1 WHERE sku = 'blue'", "sku blue: last entry recorded"),
    ("UPDATE sku SET head_row = head_row - 1 WHERE sku = 'blue'", "sku blue: row of the last entry"),
    ("UPDATE sku SET head_at = head_at - 1 WHERE sku = 'blue'", "sku blue: time of the last entry"),
    ("UPDATE sku SET head_hash = zeroblob(32) WHERE sku = 'green'", "sku green: hash of the last entry"),
    ("UPDATE sku SET merchant = 'wang' WHERE sku = 'green'", "line recorded green of tea by main"),
    ("UPDATE sku SET product = 'scarf' WHERE sku = 'green'", "line recorded green of tea by main"),
    ("UPDATE sku SET sku = 'yellow' WHERE sku = 'green'", "sku yellow"),
    ("UPDATE sku SET no = 9 WHERE sku = 'green'", "sku green: number recorded 9"),
    ("DELETE FROM sku WHERE sku = 'blue'", "no such SKU"),
    ("UPDATE entry SET quantity = quantity + 1 WHERE row = 9", "(row 9): hash recorded"),
    ("UPDATE entry SET quantity = 1000000 WHERE row = 9", "(row 9): pieces recorded 1000000"),
    ("UPDATE entry SET type = 'sold' WHERE row = 9", "entry 9: content recorded no such type"),
    ("UPDATE entry SET type = 'expired' WHERE row = 9", "(row 9): hash recorded"),
    ("UPDATE entry SET at = at + 1 WHERE row = 9", "(row 9): time recorded"),
    ("UPDATE entry SET tx = tx + 1 WHERE row = 9", "(row 9): hash recorded"),
    ("UPDATE entry SET holder = zeroblob(32) WHERE row = 9", "(row 9): holder recorded"),
    ("UPDATE entry SET holder = zeroblob(3) WHERE row = 9", "entry 9: content recorded"),
    ("UPDATE entry SET reason = 'gift' WHERE type = 'adjusted' AND quantity = 30", "hash recorded"),
    ("UPDATE entry SET row_before = 1 WHERE row = 9", "(row 9): row before recorded 1"),
    ("UPDATE entry SET hash = zeroblob(32) WHERE row = 9", "(row 9): hash recorded 0000"),
    ("UPDATE entry SET sku = 1 WHERE row = 9", "sku blue, entry"),
    ("UPDATE entry SET sku = 77 WHERE row = 9", "row 9: sku recorded 77"),
    ("UPDATE entry SET n = n + 1 WHERE row = 9", "(row 9): number recorded"),
    ("DELETE FROM entry WHERE row = 9", "(row 10): row recorded 10, recomputed 9"),
    ("DELETE FROM entry WHERE row = (SELECT max(row) FROM entry)", "sku red: last entry recorded"),
    ("UPDATE entry SET row = 9000 WHERE row = 9", "row recorded 9000"),
    ("UPDATE hold SET state = 'cancelled' WHERE tx = PAID", "hold PAID: state recorded cancelled, recomputed paid"),
    ("UPDATE hold SET state = 'refunded' WHERE tx = PAID", "hold PAID: state recorded refunded, recomputed paid"),
    ("UPDATE hold SET state = 'cancelled' WHERE tx = OPEN", "sku red: pieces in open holds"),
    ("UPDATE hold SET state = 'cancelled' WHERE tx = OPEN", "hold OPEN: state recorded cancelled, recomputed held"),
    ("UPDATE hold SET state = 'gone' WHERE tx = PAID", "content recorded no such state"),
    ("UPDATE hold SET state = 'paid' WHERE tx = TEA", "hold TEA: state recorded paid, recomputed refund_due"),
    ("UPDATE hold SET state = 'paid' WHERE tx = TEA", "sku green: pieces in orders"),
    ("UPDATE hold SET refunded = '[1]' WHERE tx = PAID", "hold PAID: pieces refunded recorded [1], recomputed [0]"),
    ("UPDATE hold SET refunded = '[1]' WHERE tx = PAID", "person 1, product scarf: pieces against limits"),
    ("UPDATE hold SET refunded = '[7]' WHERE tx = PAID", "content recorded the pieces refunded"),
    ("UPDATE hold SET refunded = '[]' WHERE tx = PAID", "content recorded the pieces refunded"),
    ("UPDATE hold SET refunded = NULL WHERE tx = PAID", "content recorded"),
    ("UPDATE hold SET expires_at = expires_at + 5 WHERE tx = PAID", "hold PAID: end recorded"),
    ("UPDATE hold SET order_tx = order_tx - 1 WHERE tx = PAID", "hold PAID: transaction of the order"),
    ("UPDATE hold SET order_tx = NULL WHERE tx = PAID", "hold PAID: transaction of the order recorded 0"),
    ("UPDATE hold SET order_at = order_at - 1 WHERE tx = PAID", "hold PAID: time of the order"),
    (
        "UPDATE hold SET lines = replace(lines, '\"red\",\"scarf\",1', '\"red\",\"scarf\",2') WHERE tx = PAID",
        "hold PAID: total",
    ),
    ("UPDATE hold SET lines = replace(lines, 'red', 'blue') WHERE tx = PAID", "hold PAID: entries recorded"),
    ("UPDATE hold SET lines = replace(lines, 'red', 'pink') WHERE tx = PAID", "hold PAID: line recorded pink"),
    ("UPDATE hold SET lines = 'x' WHERE tx = PAID", "content recorded"),
    ("UPDATE hold SET total = total + 1 WHERE tx = PAID", "hold PAID: total recorded 10001, recomputed 10000"),
    ("UPDATE hold SET nonce = zeroblob(16) WHERE tx = PAID", "holder recorded another, recomputed of hold PAID"),
    ("UPDATE hold SET id = randomblob(16) WHERE tx = PAID", "time in the id recorded"),
    ("UPDATE hold SET made_at = made_at - 1 WHERE tx = PAID", "hold PAID: time in the id"),
    ("UPDATE hold SET person = 2 WHERE tx = PAID", "hold PAID: person recorded 1, recomputed 2"),
    ("UPDATE hold SET merchant = 'wang' WHERE tx = PAID", "hold PAID: line recorded red of scarf by wang"),
    ("UPDATE hold SET show = 'show-9' WHERE tx = PAID", "person 1, product scarf, show show-9: pieces against limits"),
    ("UPDATE hold SET n = n + 1 WHERE tx = PAID", "transaction PAID, person 1: number of the message"),
    ("UPDATE hold SET message_before = 0 WHERE tx = PAID", "transaction PAID, person 1: message before recorded 0"),
    ("DELETE FROM hold WHERE tx = PAID", "transaction PAID: things that it is recorded 0"),
    ("DELETE FROM hold WHERE tx = OPEN", "transaction OPEN"),
    ("DELETE FROM person WHERE no = 3", "things that it is recorded 0"),
    ("DELETE FROM step WHERE hold = PAID", "things that it is recorded 0"),
    ("DELETE FROM step WHERE hold = PAID", "hold PAID: state recorded paid, recomputed held"),
    ("DELETE FROM step WHERE step = 'extended'", "rows recorded none, recomputed some"),
    ("UPDATE step SET step = 'cancelled' WHERE hold = PAID", "hold PAID: state recorded paid, recomputed cancelled"),
    ("UPDATE step SET step = 'expired' WHERE hold = PAID", "hold PAID: step recorded expired, recomputed not possible"),
    ("UPDATE step SET step = 'lost' WHERE hold = PAID", "content recorded no such step"),
    ("UPDATE step SET hold = hold - 2 WHERE hold = PAID", "step recorded paid, recomputed not possible"),
    ("UPDATE step SET hold = 100000 WHERE hold = PAID", "hold recorded 100000, recomputed none before it"),
    ("UPDATE step SET at = at + 1000000 WHERE hold = PAID", "time recorded"),
    ("UPDATE step SET person = 2 WHERE hold = PAID", "hold PAID: person recorded 2, recomputed 1"),
    ("UPDATE step SET n = n + 1 WHERE hold = PAID", "person 1: number of the message"),
    ("UPDATE step SET message_before = message_before - 1 WHERE hold = PAID", "person 1: message before"),
    ("UPDATE step SET before_of_buyer = 0 WHERE hold = PAID", "hold PAID: order of the buyer before recorded 0"),
    ("UPDATE step SET before_of_merchant = 0 WHERE hold = PAID", "hold PAID: order of the merchant before"),
    ("UPDATE step SET before_of_all = 0 WHERE hold = PAID", "hold PAID: order before recorded 0"),
    ("UPDATE step SET before_of_buyer = NULL WHERE hold = PAID", "hold PAID: order before recorded none"),
    ("UPDATE step SET key = NULL WHERE step = 'refunded'", "key recorded none, recomputed one"),
    (
        "UPDATE step SET counted = '[0]' WHERE hold = PAID",
        "hold PAID: pieces that counted recorded [0], recomputed [1]",
    ),
    ("UPDATE step SET refunded = '[1]' WHERE hold = PAID", "hold PAID: pieces refunded recorded [1], recomputed [0]"),
    ("UPDATE step SET refunded = '[9,9]' WHERE refunded = '[1,0]'", "step recorded refunded, recomputed not possible"),
    ("DELETE FROM adjustment WHERE available > 0", "things that it is recorded 0"),
    ("UPDATE adjustment SET available = available + 1", "counts after the adjustment"),
    ("DELETE FROM notice WHERE tx = (SELECT min(tx) FROM notice)", "number of the message recorded 2, recomputed 1"),
    ("DELETE FROM notice WHERE tx = (SELECT max(tx) FROM notice)", "checkpoint, person"),
    ("UPDATE notice SET message_before = 1", "message before recorded 1"),
    ("UPDATE notice SET tx = tx - 1 WHERE tx = (SELECT min(tx) FROM notice)", "notice recorded one"),
    ("DELETE FROM mark", "mark recorded none, recomputed of sku 0"),
    ("INSERT INTO mark VALUES(9, 0)", "(row 9): mark recorded of sku 0, recomputed none"),
    ("INSERT INTO mark VALUES(9000, 0)", "mark 9000"),
    ("UPDATE mark SET sku = 1", "mark recorded of sku 1, recomputed of sku 0"),
    ("UPDATE checkpoint_person SET n = n + 1 WHERE person = 1", "checkpoint, person 1: messages"),
    ("UPDATE checkpoint_person SET message_tx = 1 WHERE person = 1", "checkpoint, person 1: newest message recorded 1"),
    ("UPDATE checkpoint_person SET order_tx = 1 WHERE person = 1", "checkpoint, person 1: newest order recorded 1"),
    ("DELETE FROM checkpoint_person WHERE person = 1", "checkpoint, person 1: messages recorded 0"),
    (
        "UPDATE checkpoint_pieces SET pieces = pieces - 1 WHERE person = 1",
        "person 1, product scarf: pieces against limits",
    ),
    ("DELETE FROM checkpoint_pieces WHERE show = 'show-1'", "product scarf, show show-1: pieces against limits"),
    ("DELETE FROM checkpoint_sale", "checkpoint, merchant main: newest order recorded 0"),
    ("UPDATE checkpoint_sale SET order_tx = 3", "checkpoint, merchant main: newest order recorded 3"),
    ("DELETE FROM checkpoint_open", "state recorded not open, recomputed open"),
    ("INSERT INTO checkpoint_open VALUES(PAID)", "hold of transaction PAID: state recorded open, recomputed not open"),
    ("UPDATE checkpoint SET tx = tx - 1", "checkpoint"),
    ("UPDATE checkpoint SET tx = tx + 1", "checkpoint"),
    ("UPDATE checkpoint SET tx = 100000", "checkpoint: transaction recorded 100000"),
    ("UPDATE checkpoint SET tx = 'x'", "checkpoint: content"),
];

#[tokio::test]
async fn a_mixed_life_agrees_and_any_one_change_is_found_where_it_is() {
    let folder = Folder::new();
    mixed_life(&folder).await;
    let whole = settled(&folder);
    let report = LedgerFile::open(&whole).unwrap().reconcile(100).unwrap();
    assert!(report.agrees(), "{report}");
    assert_eq!((report.skus, report.holds), (3, 82), "{report}");

    let db = Connection::open(&whole).unwrap();
    let number = |query: &str| db.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    let named = [
        ("PAID", number("SELECT tx FROM hold WHERE state = 'paid' AND lines LIKE '%red%' LIMIT 1 OFFSET 20")),
        ("TEA", number("SELECT tx FROM hold WHERE state = 'refund_due' LIMIT 1")),
        ("OPEN", number("SELECT max(tx) FROM hold WHERE state = 'held'")),
    ];
    let id = |tx: i64| {
        let id = db.query_row("SELECT id FROM hold WHERE tx = ?1", [tx], |row| row.get::<_, [u8; 16]>(0)).unwrap();
        HoldId::from_bytes(id).to_string()
    };
    let mut missed = Vec::new();
    for (change, place) in TAMPERINGS {
        let (mut sql, mut expected) = ((*change).to_owned(), (*place).to_owned());
        for (name, tx) in named {
            sql = sql.replace(name, &tx.to_string());
            expected = expected.replace(&format!("hold {name}"), &format!("hold {}", id(tx)));
            expected = expected.replace(name, &tx.to_string());
        }
        let report = tampered(&whole, &sql);
        if !report.differences.iter().any(|difference| difference.to_string().contains(&expected)) {
            missed.push(format!("{sql}\n  expected {expected:?} in\n{report}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

fn tampered(whole: &PathBuf, sql: &str) -> super::Report {
    let folder = Folder::new();
    fs::copy(whole, folder.file()).unwrap();
    let db = Connection::open(folder.file()).unwrap();
    let changed = db.execute(sql, []).unwrap();
    assert!(changed > 0, "{sql} changes nothing");
    drop(db);
    LedgerFile::open(&folder.file()).unwrap().reconcile(1_000).unwrap()
}

#[tokio::test]
async fn differences_beyond_the_limit_are_counted() {
    let folder = Folder::new();
    mixed_life(&folder).await;
    let whole = settled(&folder);
    Connection::open(&whole).unwrap().execute("UPDATE entry SET at = at + 1", []).unwrap();
    let reconciled = |limit| LedgerFile::open(&whole).unwrap().reconcile(limit).unwrap();
    let (all, few) = (reconciled(10_000), reconciled(3));
    assert!(all.total > 100 && all.differences.len() as u64 == all.total);
    assert_eq!((&few.differences[..], few.total), (&all.differences[..3], all.total));
    let said = few.to_string();
    assert!(said.contains(&format!("and {} more", few.total - 3)) && said.lines().count() == 5, "{said}");
}
