//! A ledger after a mixed life agrees with itself, and not after a change of any one thing in it.

use std::{fs, path::PathBuf, time::Duration};

use rusqlite::Connection;
use smallvec::SmallVec;

use crate::{
    clock::{Clock, UnixMs},
    id::HoldId,
    order::{
        Config, Desk, LedgerFile, StockChange,
        entry::{Digest, EntryType},
        hold::Step,
        request::RefundLine,
        store::tampering::{
            AdjustedFacts, Facts, NoticeFacts, OpenedFacts, Record, StepFacts, change, find, made, read, step,
        },
        tests::shop::{Folder, Shop, buyer, merchant, request, terms},
        tx::OrderBefore,
    },
    protocol::{Hold, OrderState},
};

/// Everything that a ledger does, with a checkpoint in the middle and some of it open at the end.
async fn mixed_life(folder: &Folder) {
    let clock = Clock::manual(UnixMs(1_700_000_000_000));
    let shop = Shop::open_at(folder, Config { checkpoint_after: 10, ..Config::default() }, clock.clone());
    goods(&shop).await;
    for n in 0..70 {
        let hold = held(&shop, "ann", &format!("many-{n}"), &[("red", 1)]).await;
        shop.desk.confirm(buyer("ann"), hold.id, Some(format!("pay-{n}"))).await.unwrap();
        clock.advance(Duration::from_millis(7));
    }
    first_half(&shop).await;
    let old = held(&shop, "eve", "old", &[("red", 2), ("blue", 2)]).await;
    shop.desk.confirm(buyer("eve"), old.id, None).await.unwrap();
    let kept = held(&shop, "bob", "kept", &[("blue", 3)]).await;
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
    let new = held(&shop, "zoe", "new", &[("blue", 1), ("red", 1)]).await;
    shop.desk.confirm(merchant("main"), new.id, None).await.unwrap();
    refund(&shop, new.id, "whole", None, true).await;
    held(&shop, "zoe", "open", &[("red", 4)]).await;
    ended(shop).await;
}

async fn goods(shop: &Shop) {
    shop.sells("scarf", None, &[("red", 500), ("blue", 50)]).await;
    shop.desk.define(terms("tea", Some(4), &[("green", 1)])).await.unwrap();
}

async fn first_half(shop: &Shop) {
    let several = held(shop, "bob", "several", &[("red", 3), ("blue", 1)]).await;
    shop.desk.confirm(merchant("main"), several.id, None).await.unwrap();
    refund(shop, several.id, "one", Some(("red", 1)), true).await;
    refund(shop, several.id, "rest", None, false).await;

    let given_up = held(shop, "bob", "given-up", &[("blue", 2)]).await;
    shop.desk.cancel(buyer("bob"), given_up.id).await.unwrap();
    adjust(shop, "red", 30).await;
    adjust(shop, "red", -5).await;

    let slow = held(shop, "eve", "slow", &[("blue", 4)]).await;
    shop.desk.extend(buyer("eve"), slow.id).await.unwrap();
    shop.clock.advance(Duration::from_secs(700));
    shop.until_count("blue", [49, 0, 1]).await;
    let late = shop.desk.confirm(merchant("main"), slow.id, None).await.unwrap().value;
    assert_eq!(late.state, OrderState::Paid);

    let mut in_vain = Vec::new();
    for (n, who) in ["bob", "dan", "zoe"].into_iter().enumerate() {
        let hold = held(shop, who, &format!("tea-{n}"), &[("green", 1)]).await;
        shop.desk.cancel(buyer(who), hold.id).await.unwrap();
        in_vain.push(hold.id);
    }
    held(shop, "eve", "tea", &[("green", 1)]).await;
    for order in &in_vain {
        let due = shop.desk.confirm(merchant("main"), *order, None).await.unwrap().value;
        assert_eq!(due.state, OrderState::RefundDue);
    }
    refund(shop, in_vain[0], "due", None, true).await;
}

async fn held(shop: &Shop, who: &str, key: &str, lines: &[(&str, u32)]) -> Hold {
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

/// A change in words of SQL, and what a difference must say about its place. `PAID`, `TEA` and `OPEN` are transactions
/// that made holds; their ids stand for them in what is expected. `CONFIRM` is the step that made `PAID` an order.
const TAMPERINGS: &[(&str, &str)] = &[
    ("UPDATE sku SET available = available - 1, sold = sold + 1 WHERE sku = 'red'", "sku red: sold recorded"),
    ("UPDATE sku SET available = available - 1, held = held + 1 WHERE sku = 'red'", "sku red: held recorded"),
    ("UPDATE sku SET available = available + 1, stock = stock + 1 WHERE sku = 'blue'", "sku blue: stock recorded"),
    ("UPDATE sku SET entry = entry - 1 WHERE sku = 'blue'", "sku blue: last entry recorded"),
    ("UPDATE sku SET head_row = head_row - 1 WHERE sku = 'blue'", "sku blue: row of the last entry"),
    ("UPDATE sku SET head_at = head_at - 1 WHERE sku = 'blue'", "sku blue: time of the last entry"),
    ("UPDATE sku SET head_hash = zeroblob(32) WHERE sku = 'green'", "sku green: hash of the last entry"),
    ("UPDATE sku SET merchant = 'wang' WHERE sku = 'green'", "sku green: merchant recorded wang, recomputed main"),
    ("UPDATE sku SET product = 'scarf' WHERE sku = 'green'", "sku green: product recorded scarf, recomputed tea"),
    ("UPDATE sku SET sku = 'yellow' WHERE sku = 'green'", "sku yellow: name recorded yellow, recomputed green"),
    ("UPDATE sku SET sku = 'yellow' WHERE sku = 'green'", "sku yellow, entry 1 (transaction 2): hash recorded"),
    ("UPDATE sku SET no = 9 WHERE sku = 'green'", "sku green: number recorded 9"),
    ("DELETE FROM sku WHERE sku = 'blue'", "sku opened recorded blue, recomputed no such SKU"),
    ("DELETE FROM tx WHERE no = PAID", "transaction PAID: rows recorded none"),
    ("DELETE FROM tx WHERE no = OPEN", "sku red: last entry recorded"),
    ("DELETE FROM tx WHERE no = CONFIRM", "transaction CONFIRM: rows recorded none"),
    ("DELETE FROM tx WHERE no = CONFIRM", "hold PAID: state recorded paid, recomputed held"),
    ("UPDATE tx SET no = 9000 WHERE no = PAID", "transaction 9000: content recorded a record that was changed"),
    ("UPDATE tx SET facts = x'' WHERE no = PAID", "transaction PAID: content recorded too short"),
    ("UPDATE tx SET facts = 'text' WHERE no = PAID", "transaction PAID: content"),
    ("UPDATE tx SET facts = facts || x'00' WHERE no = PAID", "transaction PAID: content"),
    (
        "UPDATE tx SET facts = (SELECT facts FROM tx WHERE no = OPEN) WHERE no = PAID",
        "transaction PAID: content recorded a record that was changed",
    ),
    (
        "UPDATE standing SET state = 'cancelled' WHERE hold = PAID",
        "hold PAID: state recorded cancelled, recomputed paid",
    ),
    ("UPDATE standing SET state = 'refunded' WHERE hold = PAID", "hold PAID: state recorded refunded, recomputed paid"),
    ("INSERT INTO standing VALUES(OPEN, 'cancelled', 0, NULL, NULL, NULL, NULL)", "sku red: pieces in open holds"),
    (
        "INSERT INTO standing VALUES(OPEN, 'cancelled', 0, NULL, NULL, NULL, NULL)",
        "hold OPEN: state recorded cancelled, recomputed held",
    ),
    ("DELETE FROM standing WHERE hold = PAID", "hold PAID: state recorded held, recomputed paid"),
    ("INSERT INTO standing VALUES(CONFIRM, 'held', 0, NULL, NULL, NULL, NULL)", "standing CONFIRM: hold"),
    ("INSERT INTO standing VALUES(90000, 'held', 0, NULL, NULL, NULL, NULL)", "standing 90000: hold"),
    ("UPDATE standing SET state = 'gone' WHERE hold = PAID", "content recorded no such state"),
    ("UPDATE standing SET state = 'paid' WHERE hold = TEA", "hold TEA: state recorded paid, recomputed refund_due"),
    ("UPDATE standing SET state = 'paid' WHERE hold = TEA", "sku green: pieces in orders"),
    (
        "UPDATE standing SET refunded = '[1]' WHERE hold = PAID",
        "hold PAID: pieces refunded recorded [1], recomputed [0]",
    ),
    ("UPDATE standing SET refunded = '[1]' WHERE hold = PAID", "person 1, product scarf: pieces against limits"),
    ("UPDATE standing SET refunded = '[7]' WHERE hold = PAID", "content recorded the refunded pieces"),
    ("UPDATE standing SET refunded = '[]' WHERE hold = PAID", "content recorded the refunded pieces"),
    ("UPDATE standing SET refunded = NULL WHERE hold = PAID", "content recorded"),
    ("UPDATE standing SET expires_at = expires_at + 5 WHERE hold = PAID", "hold PAID: end recorded"),
    ("UPDATE standing SET order_tx = order_tx - 1 WHERE hold = PAID", "hold PAID: transaction of the order"),
    ("UPDATE standing SET order_tx = NULL WHERE hold = PAID", "hold PAID: transaction of the order recorded 0"),
    ("UPDATE standing SET order_at = order_at - 1 WHERE hold = PAID", "hold PAID: time of the order"),
    ("DELETE FROM mark", "mark recorded none, recomputed of sku 0"),
    ("INSERT INTO mark VALUES(PAID << 20, 0)", "(transaction PAID): mark recorded of sku 0, recomputed none"),
    ("INSERT INTO mark VALUES(9000, 0)", "mark 9000"),
    ("UPDATE mark SET sku = 1", "mark recorded of sku 1, recomputed of sku 0"),
    ("UPDATE checkpoint_person SET n = n + 1 WHERE person = 1", "checkpoint, person 1: messages"),
    ("UPDATE checkpoint_person SET message_tx = 1 WHERE person = 1", "checkpoint, person 1: newest message recorded 1"),
    ("UPDATE checkpoint_person SET order_tx = 1 WHERE person = 1", "checkpoint, person 1: newest order recorded 1"),
    ("UPDATE checkpoint_person SET sub = 'mallory' WHERE person = 1", "checkpoint, person 1: name recorded another"),
    ("DELETE FROM checkpoint_person WHERE person = 1", "checkpoint: content recorded it is of"),
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
    ("UPDATE checkpoint SET people = people + 1", "checkpoint: content recorded it is of"),
];

type Forge = fn(&mut Record<'_>);

/// The same of a record, changed by one who makes its sum right again: which, how, and what must be said. `REFUND` gives
/// back one piece of two lines; `DUE` and `LAST DUE` tell a confirmer that a refund is due; `MORE` is an adjustment by 30.
const FORGERIES: &[(&str, Forge, &str)] = &[
    ("PAID", |r| r.entries[0].quantity += 1, "(transaction PAID): hash recorded"),
    ("PAID", |r| r.entries[0].quantity = 1_000_000, "(transaction PAID): pieces recorded 1000000"),
    ("PAID", |r| r.entries[0].kind = EntryType::Expired, "(transaction PAID): hash recorded"),
    ("PAID", |r| r.entries[0].row_before = 1, "(transaction PAID): row before recorded 1"),
    ("PAID", |r| r.entries[0].hash = Digest::ZERO, "(transaction PAID): hash recorded 0000"),
    ("PAID", |r| r.entries[0].sku_no = 1, "sku blue, entry"),
    ("PAID", |r| r.entries[0].sku_no = 77, "transaction PAID, entry"),
    ("PAID", |r| r.entries[0].n += 1, "(transaction PAID): number recorded"),
    ("PAID", |r| r.entries.clear(), "hold PAID: entries recorded none"),
    ("PAID", |r| r.entries.push(r.entries[0].clone()), "hold PAID: entries recorded"),
    ("PAID", |r| r.at = UnixMs(r.at.0 + 1), "(transaction PAID): hash recorded"),
    ("PAID", |r| r.at = UnixMs(r.at.0 - 1), "hold PAID: time in the id"),
    ("PAID", |r| made(r).lines[0].quantity = 2, "hold PAID: total"),
    ("PAID", |r| made(r).lines[0].sku_no = 1, "hold PAID: entries recorded"),
    ("PAID", |r| made(r).lines[0].sku_no = 77, "transaction PAID: content recorded a SKU that is not there"),
    ("PAID", |r| made(r).lines[0].price += 1, "hold PAID: total recorded 10000, recomputed 10001"),
    ("PAID", |r| made(r).lines.clear(), "transaction PAID: content recorded a hold without lines"),
    ("PAID", |r| made(r).total += 1, "hold PAID: total recorded 10001, recomputed 10000"),
    ("PAID", |r| made(r).nonce = [0; 16], "holder recorded another, recomputed of hold PAID"),
    ("PAID", |r| made(r).nonce = [0; 16], "(transaction PAID): hash recorded"),
    ("PAID", |r| made(r).id = [9; 16], "time in the id recorded"),
    ("PAID", |r| made(r).person = 2, "hold PAID: person recorded 1, recomputed 2"),
    ("PAID", |r| made(r).sub = "eve", "transaction PAID, person 1: name recorded another"),
    ("PAID", |r| made(r).show = Some("show-9"), "person 1, product scarf, show show-9: pieces against limits"),
    ("PAID", |r| made(r).n += 1, "transaction PAID, person 1: number of the message"),
    ("PAID", |r| made(r).message_before = 0, "transaction PAID, person 1: message before recorded 0"),
    ("PAID", |r| made(r).held_until = UnixMs(1), "hold PAID: end recorded"),
    ("CONFIRM", |r| r.entries[0].quantity += 1, "(transaction CONFIRM): hash recorded"),
    ("CONFIRM", |r| r.entries.clear(), "hold PAID: entries recorded none"),
    ("CONFIRM", |r| r.at = UnixMs(r.at.0 + 1), "(transaction CONFIRM): hash recorded"),
    ("CONFIRM", |r| r.at = UnixMs(r.at.0 + 1_000_000), "time recorded"),
    ("CONFIRM", |r| step(r).holder = Some(Digest::ZERO), "holder recorded another, recomputed of hold PAID"),
    ("CONFIRM", |r| step(r).holder = None, "holder recorded another, recomputed of hold PAID"),
    ("CONFIRM", |r| step(r).step = Step::Cancelled, "hold PAID: state recorded paid, recomputed cancelled"),
    ("CONFIRM", |r| step(r).step = Step::Expired, "hold PAID: step recorded expired, recomputed not possible"),
    ("CONFIRM", |r| step(r).hold -= 2, "step recorded paid, recomputed not possible"),
    ("CONFIRM", |r| step(r).hold = 100_000, "hold recorded 100000, recomputed none before it"),
    ("CONFIRM", |r| step(r).person = 2, "hold PAID: person recorded 2, recomputed 1"),
    ("CONFIRM", |r| step(r).n += 1, "person 1: number of the message"),
    ("CONFIRM", |r| step(r).message_before -= 1, "person 1: message before"),
    ("CONFIRM", |r| before(r).of_buyer = 0, "hold PAID: order of the buyer before recorded 0"),
    ("CONFIRM", |r| before(r).of_merchant = 0, "hold PAID: order of the merchant before"),
    ("CONFIRM", |r| before(r).of_all = 0, "hold PAID: order before recorded 0"),
    ("CONFIRM", |r| step(r).order_before = None, "hold PAID: order before recorded none"),
    ("CONFIRM", |r| step(r).counted[0] = 0, "hold PAID: pieces that counted recorded [0], recomputed [1]"),
    (
        "CONFIRM",
        |r| step(r).refunded = Some(SmallVec::from_slice(&[1])),
        "hold PAID: pieces refunded recorded [1], recomputed [0]",
    ),
    ("REFUND", |r| step(r).key = None, "key recorded none, recomputed one"),
    (
        "REFUND",
        |r| step(r).refunded = Some(SmallVec::from_slice(&[9, 9])),
        "step recorded refunded, recomputed not possible",
    ),
    ("REFUND", |r| r.reason = Some("gift"), "(transaction REFUND): hash recorded"),
    ("MORE", |r| r.reason = Some("gift"), "(transaction MORE): hash recorded"),
    ("MORE", |r| adjusted(r).count.available += 1, "counts after the adjustment"),
    ("MORE", |r| r.entries.clear(), "transaction MORE: entries of an adjustment recorded 0"),
    ("DUE", |r| step(r).notice = None, "number of the message recorded 2, recomputed 1"),
    ("LAST DUE", |r| step(r).notice = None, "checkpoint, person"),
    ("DUE", |r| notice(r).message_before = 1, "message before recorded 1"),
    ("DUE", |r| notice(r).sub = "mallory", "name recorded another"),
    ("DUE", |r| notice(r).person += 1, "number of the message"),
    ("DUE", |r| step(r).step = Step::Paid, "notice recorded one"),
    ("OPENED", |r| opened(r).merchant = "wang", "sku red: merchant recorded main, recomputed wang"),
    ("OPENED", |r| opened(r).product = "tea", "sku red: product recorded scarf, recomputed tea"),
    ("OPENED", |r| opened(r).sku = "pink", "sku red: name recorded red, recomputed pink"),
    ("OPENED", |r| r.entries[0].quantity += 1, "(transaction OPENED): hash recorded"),
    ("OPENED", |r| r.entries.truncate(1), "transaction OPENED: entries recorded 1"),
];

fn before<'r>(record: &'r mut Record<'_>) -> &'r mut OrderBefore {
    step(record).order_before.as_mut().expect("it placed an order")
}

fn notice<'r, 'a>(record: &'r mut Record<'a>) -> &'r mut NoticeFacts<'a> {
    step(record).notice.as_mut().expect("it has a notice")
}

fn adjusted<'r>(record: &'r mut Record<'_>) -> &'r mut AdjustedFacts {
    let Facts::Adjusted(adjusted) = &mut record.what else { panic!("it is no adjustment") };
    adjusted
}

fn opened<'r, 'a>(record: &'r mut Record<'a>) -> &'r mut OpenedFacts<'a> {
    let Facts::Opened(opened) = &mut record.what else { panic!("it opened nothing") };
    &mut opened[0]
}

/// The transactions that changes name, and the ids of the holds that they made.
fn named(db: &Connection) -> Vec<(&'static str, u64, Option<String>)> {
    let number = |query: &str| db.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap() as u64;
    let open = find(db, |r| matches!(&r.what, Facts::Made(made) if made.sub == "zoe")).pop().unwrap();
    let one_red = |r: &Record<'_>| matches!(&r.what, Facts::Made(m) if m.lines.len() == 1 && m.lines[0].sku_no == 0);
    let paid = find(db, one_red)[20];
    let steps =
        |wanted: &dyn Fn(&StepFacts<'_>) -> bool| find(db, |r| matches!(&r.what, Facts::Step(step) if wanted(step)));
    let due = steps(&|step| step.notice.is_some());
    let made = [
        ("PAID", paid),
        ("TEA", number("SELECT hold FROM standing WHERE state = 'refund_due' LIMIT 1")),
        ("OPEN", open),
    ];
    let id = |tx| read(db, tx, |r| HoldId::from_bytes(made_id(r)).to_string());
    let others = [
        ("CONFIRM", steps(&|step| step.hold == paid)[0]),
        ("REFUND", steps(&|step| step.refunded.as_deref() == Some(&[1, 0]))[0]),
        ("LAST DUE", due[due.len() - 1]),
        ("DUE", due[0]),
        ("MORE", find(db, |r| r.entries.iter().any(|e| e.kind == EntryType::Adjusted && e.quantity == 30))[0]),
        ("OPENED", 1),
    ];
    let holds = made.into_iter().map(|(name, tx)| (name, tx, Some(id(tx))));
    others.into_iter().map(|(name, tx)| (name, tx, None)).chain(holds).collect()
}

fn made_id(record: &Record<'_>) -> [u8; 16] {
    let Facts::Made(made) = &record.what else { panic!("it made no hold") };
    made.id
}

#[tokio::test]
async fn a_mixed_life_agrees_and_any_one_change_is_found_where_it_is() {
    let folder = Folder::new();
    mixed_life(&folder).await;
    let whole = settled(&folder);
    let report = LedgerFile::open(&whole).unwrap().reconcile(100).unwrap();
    assert!(report.agrees(), "{report}");
    assert_eq!((report.skus, report.holds), (3, 82), "{report}");

    let names = named(&Connection::open(&whole).unwrap());
    let with_names = |words: &str| {
        names.iter().fold(words.to_owned(), |words, (name, tx, id)| {
            let words = match id {
                Some(id) => words.replace(&format!("hold {name}"), &format!("hold {id}")),
                None => words,
            };
            words.replace(name, &tx.to_string())
        })
    };
    let mut missed = Vec::new();
    let mut expect = |what: &str, place: &str, tamper: &dyn Fn(&Connection)| {
        let (expected, report) = (with_names(place), tampered(&whole, tamper));
        if !report.differences.iter().any(|difference| difference.to_string().contains(&expected)) {
            missed.push(format!("{what}\n  expected {expected:?} in\n{report}"));
        }
    };
    for (change, place) in TAMPERINGS {
        let sql = with_names(change);
        expect(&sql, place, &|db| assert!(db.execute(&sql, []).unwrap() > 0, "{sql} changes nothing"));
    }
    for (index, (on, forge, place)) in FORGERIES.iter().enumerate() {
        let (_, tx, _) = names.iter().find(|(name, _, _)| name == on).unwrap();
        expect(&format!("forgery {index} of {on}"), place, &|db| change(db, *tx, forge));
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

fn tampered(whole: &PathBuf, tamper: &dyn Fn(&Connection)) -> super::Report {
    let folder = Folder::new();
    fs::copy(whole, folder.file()).unwrap();
    tamper(&Connection::open(folder.file()).unwrap());
    LedgerFile::open(&folder.file()).unwrap().reconcile(1_000).unwrap()
}

#[tokio::test]
async fn differences_beyond_the_limit_are_counted() {
    let folder = Folder::new();
    mixed_life(&folder).await;
    let whole = settled(&folder);
    let db = Connection::open(&whole).unwrap();
    for tx in find(&db, |_| true) {
        change(&db, tx, |record| record.at = UnixMs(record.at.0 + 1));
    }
    drop(db);
    let reconciled = |limit| LedgerFile::open(&whole).unwrap().reconcile(limit).unwrap();
    let (all, few) = (reconciled(10_000), reconciled(3));
    assert!(all.total > 100 && all.differences.len() as u64 == all.total);
    assert_eq!((&few.differences[..], few.total), (&all.differences[..3], all.total));
    let said = few.to_string();
    assert!(said.contains(&format!("and {} more", few.total - 3)) && said.lines().count() == 5, "{said}");
}
