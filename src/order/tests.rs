//! The desk as its callers meet it, on a real store.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::{Receiver, channel};
use uuid::Uuid;

use crate::{
    clock::{Clock, UnixMs},
    id::{Money, SkuId, Sub},
    order::{
        Answered, Config, Desk, Event, HoldRequest, Party, ProductTerms, Refusal, StockChange,
        entry::{Digest, EntryType},
        poison::Poison,
        request::RefundLine,
        store::{Batch, Failure, Reader, Restore, Sqlite, Store},
        verify::verify,
    },
    protocol::{Hold, HoldState, LineRequest, Order, OrderState, PrivateBody, StockCount},
};

/// A folder that goes when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("maishou-order-{}", Uuid::now_v7()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("ledger.db")
    }

    /// The files as they are at this moment, as a crash would leave them.
    fn as_after_a_crash(&self) -> Self {
        let copy = Self::new();
        for name in ["ledger.db", "ledger.db-wal"] {
            fs::copy(self.0.join(name), copy.0.join(name)).unwrap();
        }
        copy
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Opens a store; a desk that was dropped may need a moment to let it go.
fn open_store(path: &Path) -> Sqlite {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Sqlite::open(path) {
            Ok(store) => return store,
            Err(Failure::InUse { .. }) if Instant::now() < deadline => std::thread::yield_now(),
            Err(failure) => panic!("{failure}"),
        }
    }
}

struct Shop {
    desk: Desk,
    clock: Clock,
    events: Receiver<Event>,
}

impl Shop {
    fn open(folder: &Folder, config: Config) -> Self {
        Self::open_at(folder, config, Clock::manual(UnixMs(1_700_000_000_000)))
    }

    fn open_at(folder: &Folder, config: Config, clock: Clock) -> Self {
        let (to, events) = channel(10_000);
        let config = Config { reserve_mb: 0, ..config };
        let desk = Desk::open(config, clock.clone(), Box::new(open_store(&folder.file())), to).unwrap();
        Self { desk, clock, events }
    }

    async fn sells(&self, product: &str, limit_per_user: Option<u32>, skus: &[(&str, u64)]) {
        let terms = terms(product, limit_per_user, skus);
        self.desk.define(terms).await.unwrap();
    }

    fn count(&self, sku: &str) -> [u64; 3] {
        let StockCount { available, held, sold, .. } = self.desk.count(&sku.parse().unwrap()).unwrap();
        [available, held, sold]
    }

    async fn hold(&self, who: &str, key: &str, sku: &str, quantity: u32) -> Result<Answered<Hold>, Refusal> {
        self.desk.hold(request(who, key, &[(sku, quantity)])).await
    }

    /// Waits until the counts are so. The desk expires holds in its own time.
    async fn until_count(&self, sku: &str, counts: [u64; 3]) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.count(sku) != counts {
            assert!(Instant::now() < deadline, "{sku} stays at {:?}", self.count(sku));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The whole chain of a SKU, checked.
    async fn check_chain(&self, sku: &str) -> Vec<(EntryType, i64)> {
        let sku: SkuId = sku.parse().unwrap();
        let export = self.desk.ledger(&sku, 0, 1_000).await.unwrap();
        let report = verify(&serde_json::to_string(&export).unwrap(), Some(&self.desk.public_key().key)).unwrap();
        assert_eq!(Some(report.count), self.desk.count(&sku));
        export.entries.iter().map(|entry| (entry.kind, entry.quantity)).collect()
    }
}

fn terms(product: &str, limit_per_user: Option<u32>, skus: &[(&str, u64)]) -> ProductTerms {
    ProductTerms {
        product: product.parse().unwrap(),
        merchant: "main".parse().unwrap(),
        price: yuan(100),
        limit_per_user,
        limit_per_order: None,
        on_sale_at: None,
        skus: skus.iter().map(|(sku, stock)| (sku.parse().unwrap(), *stock)).collect(),
    }
}

fn yuan(yuan: i64) -> Money {
    Money { amount: yuan * 100, currency: "CNY".parse().unwrap() }
}

fn sub(who: &str) -> Sub {
    who.parse().unwrap()
}

fn buyer(who: &str) -> Party {
    Party::Buyer(sub(who))
}

fn merchant(merchant: &str) -> Party {
    Party::Merchant { sub: sub("clerk"), merchant: merchant.parse().unwrap() }
}

fn request(who: &str, key: &str, lines: &[(&str, u32)]) -> HoldRequest {
    let line =
        |(sku, quantity): &(&str, u32)| LineRequest { sku: sku.parse().unwrap(), quantity: *quantity, price: None };
    HoldRequest {
        sub: sub(who),
        key: key.to_owned(),
        room: Some("hall".parse().unwrap()),
        show: None,
        shown_as: Some("A".to_owned()),
        lines: lines.iter().map(line).collect(),
    }
}

#[tokio::test]
async fn a_hold_becomes_an_order_and_everybody_concerned_hears_of_it() {
    let folder = Folder::new();
    let mut shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 5)]).await;
    let hold = shop.hold("ann", "k1", "red", 2).await.unwrap().value;
    assert_eq!((hold.state, hold.total, hold.expires_at), (HoldState::Held, yuan(200), UnixMs(1_700_000_300_000)));
    assert_eq!(shop.count("red"), [3, 2, 0]);

    let order = shop.desk.confirm(buyer("ann"), hold.id, Some("pay-1".to_owned())).await.unwrap().value;
    assert_eq!((order.state, order.payment.as_deref(), order.buyer), (OrderState::Paid, Some("pay-1"), None));
    assert_eq!(shop.count("red"), [3, 0, 2]);

    let mut heard = Vec::new();
    while heard.len() < 4 {
        heard.push(shop.events.recv().await.unwrap());
    }
    let private: Vec<_> = heard
        .iter()
        .filter_map(|event| match event {
            Event::Private { sub: to, message } if *to == sub("ann") => Some(message.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(private.iter().map(|message| message.n).collect::<Vec<_>>(), [1, 2]);
    assert!(matches!(&private[1].body, PrivateBody::OrderPaid { order } if order.id == hold.id));
    assert_eq!(shop.desk.messages(&sub("ann"), 0, 10).await.unwrap(), private);
    let sold = Event::Sold {
        room: Some("hall".parse().unwrap()),
        sku: "red".parse().unwrap(),
        quantity: 2,
        shown_as: Some("A".to_owned()),
    };
    assert!(heard.contains(&sold));
    let chain = shop.check_chain("red").await;
    assert_eq!(chain, [(EntryType::Opened, 5), (EntryType::Held, 2), (EntryType::Confirmed, 2)]);
}

#[tokio::test]
async fn the_public_holder_is_who_knows_the_nonce() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 5)]).await;
    let hold = shop.hold("ann", "k1", "red", 2).await.unwrap().value;
    let export = shop.desk.ledger(&"red".parse().unwrap(), 1, 10).await.unwrap();
    let expected = Digest::of(format!("{}{}", hold.id, hold.nonce).as_bytes());
    assert_eq!(export.entries[0].holder, Some(expected));
    let seen = shop.desk.hold_of(merchant("main"), hold.id).await.unwrap();
    assert_eq!((seen.id, seen.nonce.as_str()), (hold.id, ""));
}

#[tokio::test]
async fn a_hold_expires_in_time_and_gives_its_stock_back() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", Some(1), &[("red", 1)]).await;
    let hold = shop.hold("ann", "k1", "red", 1).await.unwrap().value;
    let extended = shop.desk.extend(buyer("ann"), hold.id).await.unwrap();
    assert_eq!((extended.value.expires_at.0 - hold.expires_at.0, extended.replayed), (300_000, false));
    let again = shop.desk.extend(buyer("ann"), hold.id).await.unwrap();
    assert_eq!((again.value, again.replayed), (extended.value, true));

    shop.clock.advance(Duration::from_secs(599));
    assert_eq!(shop.hold("bob", "k2", "red", 1).await.unwrap_err(), sold_out("red", 0));
    shop.clock.advance(Duration::from_secs(1));
    let late = shop.desk.confirm(buyer("ann"), hold.id, None).await;
    assert_eq!(late.unwrap_err(), Refusal::HoldExpired);
    shop.until_count("red", [1, 0, 0]).await;
    assert_eq!(shop.desk.hold_of(buyer("ann"), hold.id).await.unwrap().state, HoldState::Expired);
    assert!(shop.hold("ann", "k3", "red", 1).await.is_ok(), "the limit was given back");
    assert_eq!(shop.check_chain("red").await[2], (EntryType::Expired, 1));
}

fn sold_out(sku: &str, available: u64) -> Refusal {
    Refusal::SoldOut { sku: sku.parse().unwrap(), available }
}

#[tokio::test]
async fn money_taken_late_gets_stock_or_a_refund_due() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 1)]).await;
    let late = shop.hold("ann", "k1", "red", 1).await.unwrap().value;
    shop.desk.cancel(buyer("ann"), late.id).await.unwrap();
    assert_eq!(shop.desk.confirm(buyer("ann"), late.id, None).await.unwrap_err(), Refusal::HoldExpired);
    assert_eq!(shop.desk.confirm(merchant("other"), late.id, None).await.unwrap_err(), Refusal::UnknownHold);
    let paid = shop.desk.confirm(merchant("main"), late.id, None).await.unwrap().value;
    assert_eq!((paid.state, paid.buyer.as_deref()), (OrderState::Paid, Some("ann")));
    assert_eq!(shop.count("red"), [0, 0, 1]);

    shop.desk
        .adjust(merchant("main"), &"red".parse().unwrap(), "a".into(), StockChange::Delta(1), "more".into())
        .await
        .unwrap();
    let later = shop.hold("bob", "k2", "red", 1).await.unwrap().value;
    shop.desk.cancel(buyer("bob"), later.id).await.unwrap();
    shop.hold("eve", "k3", "red", 1).await.unwrap();
    let due = shop.desk.confirm(merchant("main"), later.id, None).await.unwrap();
    assert_eq!((due.value.state, due.replayed), (OrderState::RefundDue, false));
    let again = shop.desk.confirm(merchant("main"), later.id, None).await.unwrap();
    assert_eq!((again.value, again.replayed), (due.value, true));
    let told = shop.desk.messages(&sub("bob"), 2, 10).await.unwrap();
    assert!(matches!(told[0].body, PrivateBody::OrderRefundDue { .. }));
    let back = shop.desk.refund(merchant("main"), later.id, "r".into(), None, true, "no stock".into()).await.unwrap();
    assert_eq!(back.value.state, OrderState::Refunded);
    assert_eq!(shop.count("red"), [0, 1, 1], "no stock moves for an order that had none");
    shop.check_chain("red").await;
}

#[tokio::test]
async fn an_accepted_key_gives_the_same_answer_and_a_refused_one_stores_nothing() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 2)]).await;
    assert_eq!(shop.hold("ann", "k1", "red", 3).await.unwrap_err(), sold_out("red", 2));
    let first = shop.hold("ann", "k1", "red", 2).await.unwrap();
    assert!(!first.replayed);
    assert_eq!(shop.hold("bob", "k1", "red", 1).await.unwrap_err(), sold_out("red", 0));
    for _ in 0..2 {
        let again = shop.hold("ann", "k1", "red", 2).await.unwrap();
        assert_eq!((&again.value, again.replayed), (&first.value, true));
        assert_eq!(shop.hold("ann", "k1", "red", 1).await.unwrap_err(), Refusal::KeyReused);
        shop.desk.cancel(buyer("ann"), first.value.id).await.unwrap();
    }
    shop.clock.advance(Duration::from_secs(24 * 3_600 + 1));
    let deadline = Instant::now() + Duration::from_secs(10);
    while shop.hold("ann", "k1", "red", 1).await.is_err() {
        assert!(Instant::now() < deadline, "a key is remembered for 24 hours, not longer");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn two_hundred_callers_for_ten_pieces_are_ten_winners() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 10)]).await;
    let attempt = |n: usize| {
        let desk = shop.desk.clone();
        tokio::spawn(async move { desk.hold(request(&format!("buyer-{n}"), "k", &[("red", 1)])).await })
    };
    let mut winners = Vec::new();
    for (n, task) in (0..200).map(attempt).collect::<Vec<_>>().into_iter().enumerate() {
        match task.await.unwrap() {
            Ok(answer) => winners.push((n, answer.value)),
            Err(refusal) => assert_eq!(refusal, sold_out("red", 0)),
        }
    }
    assert_eq!(winners.len(), 10);
    assert_eq!(shop.count("red"), [0, 10, 0]);
    for (n, hold) in winners {
        let again = attempt(n).await.unwrap().unwrap();
        assert_eq!((again.value, again.replayed), (hold, true), "a winner's retry passes the sold-out path");
    }
    assert_eq!(shop.desk.stats().holds.accepted, 10);
}

#[tokio::test]
async fn a_double_tap_is_one_hold() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 10)]).await;
    let taps: Vec<_> = (0..50)
        .map(|_| {
            let desk = shop.desk.clone();
            tokio::spawn(async move { desk.hold(request("ann", "k", &[("red", 1)])).await })
        })
        .collect();
    let mut anew = 0;
    let mut ids = Vec::new();
    for tap in taps {
        let answer = tap.await.unwrap().unwrap();
        anew += usize::from(!answer.replayed);
        ids.push(answer.value.id);
    }
    ids.dedup();
    assert_eq!((anew, ids.len(), shop.count("red")), (1, 1, [9, 1, 0]));
}

#[tokio::test]
async fn fifty_sockets_of_one_person_do_not_pass_a_limit_of_two() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", Some(2), &[("red", 100), ("blue", 100)]).await;
    let attempts: Vec<_> = (0..50)
        .map(|n| {
            let (desk, sku) = (shop.desk.clone(), if n % 2 == 0 { "red" } else { "blue" });
            tokio::spawn(async move { desk.hold(request("ann", &format!("k{n}"), &[(sku, 1)])).await })
        })
        .collect();
    let mut won = Vec::new();
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(answer) => won.push(answer.value),
            Err(refusal) => assert_eq!(refusal, Refusal::LimitReached { limit: 2, have: 2 }),
        }
    }
    assert_eq!(won.len(), 2);
    shop.desk.confirm(buyer("ann"), won[0].id, None).await.unwrap();
    assert!(shop.hold("ann", "l", "red", 1).await.is_err(), "orders count too");
    shop.desk.refund(merchant("main"), won[0].id, "r".into(), None, true, "back".into()).await.unwrap();
    assert!(shop.hold("ann", "l", "red", 1).await.is_ok(), "a refund gives the limit back");
    let mut in_show = request("ann", "s", &[("red", 2)]);
    in_show.show = Some("show-1".to_owned());
    assert!(shop.desk.hold(in_show).await.is_ok(), "a show has its own count");
}

#[tokio::test]
async fn several_lines_are_all_or_nothing() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 5), ("blue", 1)]).await;
    shop.desk
        .define(ProductTerms { merchant: "wang".parse().unwrap(), ..terms("tea", None, &[("green", 9)]) })
        .await
        .unwrap();
    let lines = |lines: &[(&str, u32)]| shop.desk.hold(request("ann", "k", lines));
    assert_eq!(lines(&[("red", 1), ("blue", 2)]).await.unwrap_err(), sold_out("blue", 1));
    assert_eq!(lines(&[("red", 3), ("blue", 1), ("red", 3)]).await.unwrap_err(), sold_out("red", 5));
    assert_eq!(lines(&[("red", 1), ("none", 1)]).await.unwrap_err(), Refusal::UnknownSku);
    assert!(matches!(lines(&[("red", 1), ("green", 1)]).await.unwrap_err(), Refusal::Malformed { .. }));
    assert_eq!((shop.count("red"), shop.count("blue")), ([5, 0, 0], [1, 0, 0]));
    let hold = lines(&[("red", 1), ("blue", 1), ("red", 1)]).await.unwrap().value;
    assert_eq!(hold.lines.iter().map(|line| line.quantity).collect::<Vec<_>>(), [2, 1]);
    assert_eq!((shop.count("red"), shop.count("blue")), ([3, 2, 0], [0, 1, 0]));
    let of = |sku: &str| {
        let (desk, sku) = (shop.desk.clone(), sku.parse().unwrap());
        async move { desk.ledger(&sku, 1, 10).await.unwrap().entries[0].tx }
    };
    assert_eq!(of("red").await, of("blue").await, "the entries of one command have one tx");
}

#[tokio::test]
async fn refusals_are_looked_at_in_the_order_of_the_contract() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    let start = shop.clock.now().plus(Duration::from_secs(60));
    let terms = ProductTerms { on_sale_at: Some(start), ..terms("scarf", Some(1), &[("red", 1)]) };
    shop.desk.define(terms.clone()).await.unwrap();
    let ask = |key: &str, price: i64, quantity: u32| {
        let mut request = request("ann", key, &[("red", quantity)]);
        request.lines[0].price = Some(yuan(price));
        shop.desk.hold(request)
    };
    assert!(matches!(ask("", 1, 0).await.unwrap_err(), Refusal::Malformed { .. }));
    assert_eq!(ask("k", 1, 9).await.unwrap_err(), Refusal::NotStarted { at: start });
    shop.clock.advance(Duration::from_secs(60));
    let now = Refusal::PriceChanged { sku: "red".parse().unwrap(), price: yuan(100) };
    assert_eq!(ask("k", 1, 1).await.unwrap_err(), now);
    ask("k", 100, 1).await.unwrap();
    assert_eq!(ask("k", 1, 1).await.unwrap_err(), Refusal::KeyReused);
    assert_eq!(ask("l", 1, 1).await.unwrap_err(), now, "also when it is sold out");
    assert!(matches!(ask("l", 100, 1).await.unwrap_err(), Refusal::SoldOut { .. } | Refusal::LimitReached { .. }));
}

#[tokio::test]
async fn stock_is_changed_by_its_merchant_down_to_what_is_held_and_sold() {
    let folder = Folder::new();
    let mut shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 5)]).await;
    shop.hold("ann", "k", "red", 2).await.unwrap();
    let red: SkuId = "red".parse().unwrap();
    let adjust = |by: Party, key: &str, change| shop.desk.adjust(by, &red, key.to_owned(), change, "盘点".to_owned());
    assert_eq!(adjust(buyer("ann"), "a", StockChange::Delta(1)).await.unwrap_err(), Refusal::UnknownSku);
    assert_eq!(adjust(merchant("other"), "a", StockChange::Delta(1)).await.unwrap_err(), Refusal::UnknownSku);
    let below = Refusal::StockBelowHeld { held: 2, sold: 0 };
    assert_eq!(adjust(merchant("main"), "a", StockChange::Delta(-4)).await.unwrap_err(), below);
    assert_eq!(adjust(merchant("main"), "a", StockChange::Set(1)).await.unwrap_err(), below);
    let set = adjust(merchant("main"), "a", StockChange::Set(12)).await.unwrap();
    assert_eq!((set.value.available, set.replayed), (10, false));
    assert_eq!(adjust(merchant("main"), "a", StockChange::Set(12)).await.unwrap(), Answered { replayed: true, ..set });
    assert_eq!(adjust(merchant("main"), "a", StockChange::Set(13)).await.unwrap_err(), Refusal::KeyReused);
    assert!(adjust(merchant("main"), "b", StockChange::Delta(i64::MAX)).await.is_err());
    assert_eq!(shop.check_chain("red").await[2], (EntryType::Adjusted, 7));
    let told = Event::Adjusted { sku: red.clone(), delta: 7, reason: "盘点".to_owned(), entry: 3 };
    while shop.events.recv().await.unwrap() != told {}
    let other = shop.desk.define(terms("tea", None, &[("red", 1)])).await;
    assert_eq!(other.unwrap_err(), Refusal::Taken { sku: red }, "a SKU is not taken over");
    let again = shop.desk.define(terms("scarf", None, &[("red", 99)])).await.unwrap();
    assert_eq!(again[0].1.available, 10, "opening stock counts once");
}

#[tokio::test]
async fn a_refund_in_parts_gives_back_what_was_asked() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 5), ("blue", 5)]).await;
    let hold = shop.desk.hold(request("ann", "k", &[("red", 3), ("blue", 1)])).await.unwrap().value;
    shop.desk.confirm(buyer("ann"), hold.id, None).await.unwrap();
    let refund = |key: &str, lines: Option<&[(&str, u32)]>, restock| {
        let line = |(sku, quantity): &(&str, u32)| RefundLine { sku: sku.parse().unwrap(), quantity: *quantity };
        let lines = lines.map(|lines| lines.iter().map(line).collect());
        shop.desk.refund(merchant("main"), hold.id, key.to_owned(), lines, restock, "return".to_owned())
    };
    let part = refund("r1", Some(&[("red", 1)]), true).await.unwrap();
    assert_eq!((part.value.state, shop.count("red")), (OrderState::Paid, [3, 0, 2]));
    assert_eq!(refund("r2", Some(&[("red", 3)]), true).await.unwrap_err(), Refusal::RefundTooLarge);
    let rest = refund("r3", None, false).await.unwrap();
    assert_eq!((rest.value.state, shop.count("red")), (OrderState::Refunded, [3, 0, 2]));
    assert_eq!(refund("r4", None, true).await.unwrap_err(), Refusal::RefundTooLarge);
    assert_eq!(refund("r1", Some(&[("red", 1)]), true).await.unwrap(), Answered { replayed: true, ..part });
    assert_eq!(refund("r1", None, true).await.unwrap_err(), Refusal::KeyReused);
    let by_buyer = shop.desk.refund(buyer("ann"), hold.id, "r5".into(), None, true, String::new()).await;
    assert_eq!(by_buyer.unwrap_err(), Refusal::UnknownOrder);
    let chain = shop.check_chain("red").await;
    assert_eq!(chain[3..], [(EntryType::Refunded, 1), (EntryType::Refunded, 0)]);
}

/// What a person and a merchant can see of the shop.
async fn seen(shop: &Shop) -> (Vec<Order>, Vec<Order>, Vec<crate::protocol::Private>, Vec<Digest>) {
    let chain = shop.desk.ledger(&"red".parse().unwrap(), 0, 1_000).await.unwrap();
    (
        shop.desk.orders(buyer("ann"), None, 100).await.unwrap(),
        shop.desk.orders(merchant("main"), None, 100).await.unwrap(),
        shop.desk.messages(&sub("ann"), 0, 100).await.unwrap(),
        chain.entries.iter().map(|entry| entry.hash).collect(),
    )
}

#[tokio::test]
async fn a_crash_loses_nothing_that_was_answered() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", Some(5), &[("red", 9)]).await;
    let mut holds = Vec::new();
    for n in 0..4 {
        holds.push(shop.hold("ann", &format!("k{n}"), "red", 1).await.unwrap().value);
        shop.clock.advance(Duration::from_millis(1));
    }
    shop.desk.confirm(buyer("ann"), holds[0].id, Some("p".into())).await.unwrap();
    shop.desk.cancel(buyer("ann"), holds[1].id).await.unwrap();
    shop.desk.extend(buyer("ann"), holds[2].id).await.unwrap();
    shop.desk.confirm(buyer("ann"), holds[3].id, None).await.unwrap();
    shop.desk.refund(merchant("main"), holds[3].id, "r".into(), None, true, String::new()).await.unwrap();
    let before = (seen(&shop).await, shop.count("red"), shop.desk.public_key());

    let crashed = folder.as_after_a_crash();
    let shop = Shop::open_at(&crashed, Config::default(), shop.clock.clone());
    assert_eq!((seen(&shop).await, shop.count("red"), shop.desk.public_key()), before);
    let untold = shop.hold("ann", "new", "red", 1).await;
    assert_eq!(untold.unwrap_err(), Refusal::UnknownSku, "terms are told at each start");
    shop.sells("scarf", Some(5), &[("red", 9)]).await;
    for (n, hold) in holds.iter().enumerate() {
        let again = shop.hold("ann", &format!("k{n}"), "red", 1).await.unwrap();
        assert_eq!((&again.value, again.replayed), (hold, true));
    }
    let refund = shop.desk.refund(merchant("main"), holds[3].id, "r".into(), None, true, String::new()).await;
    assert!(refund.unwrap().replayed);
    assert_eq!(shop.hold("ann", "more", "red", 4).await.unwrap_err(), Refusal::LimitReached { limit: 5, have: 2 });
    shop.hold("ann", "rest", "red", 3).await.unwrap();
    shop.clock.advance(Duration::from_secs(600));
    shop.until_count("red", [8, 0, 1]).await;
    shop.check_chain("red").await;
}

#[tokio::test]
async fn a_shutdown_commits_what_was_asked_and_frees_the_file() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 100)]).await;
    let asked: Vec<_> = (0..50)
        .map(|n| {
            let desk = shop.desk.clone();
            tokio::spawn(async move { desk.hold(request(&format!("b{n}"), "k", &[("red", 1)])).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let (desk, other) = (shop.desk.clone(), shop.desk.clone());
    tokio::task::spawn_blocking(|| desk.shutdown()).await.unwrap();
    let mut answered = 0;
    for asked in asked {
        answered += u64::from(asked.await.unwrap().is_ok());
    }
    assert!(!other.ready());
    assert!(matches!(other.hold(request("z", "k", &[("red", 1)])).await, Err(Refusal::Busy { .. })));
    assert!(matches!(Sqlite::open(&folder.file()), Ok(_)), "the file is free at once");
    let shop = Shop::open(&folder, Config::default());
    assert_eq!(shop.count("red")[1], answered);
}

#[tokio::test]
async fn a_file_has_one_owner() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    assert!(matches!(Sqlite::open(&folder.file()), Err(Failure::InUse { .. })));
    drop(shop);
    drop(open_store(&folder.file()));
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 1_000), ("blue", 1_000)]).await;
    let mut orders = Vec::new();
    for n in 0..150 {
        let who = if n % 3 == 0 { "ann" } else { "bob" };
        let sku = if n % 2 == 0 { "red" } else { "blue" };
        let hold = shop.hold(who, &format!("k{n}"), sku, 1).await.unwrap().value;
        shop.desk.confirm(buyer(who), hold.id, None).await.unwrap();
        orders.push((who, hold.id));
    }
    orders.reverse();
    for (by, whose) in
        [(buyer("ann"), Some("ann")), (merchant("main"), None), (Party::Admin { sub: sub("root") }, None)]
    {
        let expected: Vec<_> = orders.iter().filter(|(who, _)| whose.is_none_or(|w| w == *who)).map(|o| o.1).collect();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = shop.desk.orders(by.clone(), after, 7).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            found.extend(page.iter().map(|order| order.id));
        }
        assert_eq!(found, expected);
    }
    let foreign = shop.desk.orders(buyer("ann"), Some(orders.iter().find(|o| o.0 == "bob").unwrap().1), 7).await;
    assert_eq!(foreign.unwrap_err(), Refusal::UnknownOrder);
    let unknown = shop.desk.order(buyer("ann"), crate::id::HoldId::make()).await;
    assert_eq!(unknown.unwrap_err(), Refusal::UnknownOrder);

    let red: SkuId = "red".parse().unwrap();
    let whole: Vec<_> = shop.desk.ledger(&red, 0, 1_000).await.unwrap().entries;
    assert_eq!(whole.len(), 151);
    for after in [0, 1, 100, 126, 127, 128, 129, 149, 150, 151, 500] {
        for limit in [1, 20, 128, 1_000] {
            let page = shop.desk.ledger(&red, after, limit).await.unwrap().entries;
            let from = (after as usize).min(whole.len());
            assert_eq!(page, whole[from..(from + limit).min(whole.len())], "{limit} after {after}");
        }
    }
    let messages = shop.desk.messages(&sub("ann"), 90, 4).await.unwrap();
    assert_eq!(messages.iter().map(|message| message.n).collect::<Vec<_>>(), [91, 92, 93, 94]);
}

/// A store that does as told.
struct Moody {
    inner: Sqlite,
    mood: Arc<dyn Fn() -> Result<(), Failure> + Send + Sync>,
    free: Option<u64>,
}

impl Store for Moody {
    fn newest(&mut self) -> Result<UnixMs, Failure> {
        self.inner.newest()
    }
    fn load(&mut self, recent: UnixMs, restore: &mut dyn Restore) -> Result<(), Failure> {
        self.inner.load(recent, restore)
    }
    fn commit(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        (self.mood)()?;
        self.inner.commit(batch)
    }
    fn signing_seed(&mut self) -> Result<[u8; 32], Failure> {
        self.inner.signing_seed()
    }
    fn reader(&self) -> Result<Box<dyn Reader>, Failure> {
        self.inner.reader()
    }
    fn tidy(&mut self, idle: bool) -> Result<(), Failure> {
        self.inner.tidy(idle)
    }
    fn free_bytes(&self) -> Option<u64> {
        self.free.or_else(|| self.inner.free_bytes())
    }
}

#[tokio::test]
async fn after_a_failed_commit_nothing_is_answered_and_nothing_goes_on() {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let folder = Folder::new();
    let (fails, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (mood, end) = (fails.clone(), ended.clone());
    let mood = Arc::new(move || if mood.load(SeqCst) { Err(Failure::Other("no".into())) } else { Ok(()) });
    let store = Moody { inner: open_store(&folder.file()), mood, free: None };
    let clock = Clock::manual(UnixMs(1_700_000_000_000));
    let poison = Poison::new(move || end.store(true, SeqCst));
    let (to, _events) = channel(100);
    let config = Config { reserve_mb: 0, ..Config::default() };
    let desk = Desk::open_with(config, clock.clone(), Box::new(store), to, poison).unwrap();
    desk.define(terms("scarf", None, &[("red", 5)])).await.unwrap();
    fails.store(true, SeqCst);
    let lost = desk.hold(request("ann", "k", &[("red", 1)])).await;
    assert!(matches!(lost, Err(Refusal::Busy { .. })));
    assert!(ended.load(SeqCst) && !desk.ready());
    fails.store(false, SeqCst);
    let lost = desk.hold(request("bob", "k", &[("red", 1)])).await;
    assert!(matches!(lost, Err(Refusal::Busy { .. })), "a failed flush is not tried again");
    drop(desk);
    let shop = Shop::open_at(&folder, Config::default(), clock);
    assert_eq!(shop.count("red"), [5, 0, 0]);
}

#[tokio::test]
async fn with_a_full_disk_holds_are_busy_and_the_rest_goes_on() {
    let folder = Folder::new();
    let store = Moody { inner: open_store(&folder.file()), mood: Arc::new(|| Ok(())), free: Some(10 << 20) };
    let (to, _events) = channel(100);
    let clock = Clock::manual(UnixMs(1_700_000_000_000));
    let desk = Desk::open(Config::default(), clock, Box::new(store), to).unwrap();
    desk.define(terms("scarf", None, &[("red", 5)])).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut n = 0;
    while desk.hold(request("ann", &format!("k{n}"), &[("red", 1)])).await.is_ok() {
        assert!(Instant::now() < deadline && n < 4);
        n += 1;
    }
    assert!(!desk.ready() && desk.stats().disk_low);
    let red: SkuId = "red".parse().unwrap();
    desk.adjust(merchant("main"), &red, "a".into(), StockChange::Delta(1), String::new()).await.unwrap();
    for n in 0..n {
        let hold = desk.hold(request("ann", &format!("k{n}"), &[("red", 1)])).await.unwrap();
        assert!(hold.replayed);
        desk.confirm(buyer("ann"), hold.value.id, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_full_mailbox_says_busy_and_everything_accepted_is_answered() {
    let folder = Folder::new();
    let (resume, wait) = std::sync::mpsc::sync_channel::<()>(1_000);
    let wait = std::sync::Mutex::new(wait);
    let mood = Arc::new(move || {
        // Each commit waits for a word, and for none any more once nobody can give it.
        wait.lock().unwrap().recv().ok();
        Ok(())
    });
    let store = Moody { inner: open_store(&folder.file()), mood, free: None };
    let (to, _events) = channel(100);
    let config = Config { reserve_mb: 0, mailbox_max: 4, batch_max: 2, ..Config::default() };
    let desk = Desk::open(config, Clock::start(), Box::new(store), to).unwrap();
    resume.send(()).unwrap();
    desk.define(terms("scarf", None, &[("red", 1_000)])).await.unwrap();
    let ask = |n: usize| {
        let desk = desk.clone();
        tokio::spawn(async move { desk.hold(request(&format!("b{n}"), "k", &[("red", 1)])).await })
    };
    let (mut asked, mut n) = (Vec::new(), 0);
    let deadline = Instant::now() + Duration::from_secs(10);
    while desk.stats().holds.busy == 0 {
        assert!(Instant::now() < deadline);
        asked.push(ask(n));
        n += 1;
        tokio::task::yield_now().await;
    }
    drop(resume);
    let (mut held, mut busy) = (0, 0);
    for asked in asked {
        match asked.await.unwrap() {
            Ok(_) => held += 1,
            Err(Refusal::Busy { .. }) => busy += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(busy > 0 && held > 0);
    let red: SkuId = "red".parse().unwrap();
    assert_eq!(desk.count(&red).unwrap().held, held, "busy means nothing was done");
}

#[tokio::test]
async fn an_order_older_than_its_key_can_still_be_confirmed_again_and_refunded() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 5)]).await;
    let hold = shop.hold("ann", "k", "red", 2).await.unwrap().value;
    let order = shop.desk.confirm(buyer("ann"), hold.id, None).await.unwrap().value;
    let expired = shop.hold("bob", "k", "red", 2).await.unwrap().value;
    shop.clock.advance(Duration::from_secs(400));
    shop.until_count("red", [3, 0, 2]).await;
    // Far enough that nothing of them is left in memory, and once more after a start that did not read them.
    shop.clock.advance(Duration::from_secs(72 * 3_600));
    let again = shop.desk.confirm(buyer("ann"), hold.id, None).await.unwrap();
    assert_eq!((again.value, again.replayed), (order, true));
    assert_eq!(shop.desk.confirm(buyer("bob"), hold.id, None).await.unwrap_err(), Refusal::UnknownHold);
    let crashed = folder.as_after_a_crash();
    let shop = Shop::open_at(&crashed, Config::default(), shop.clock.clone());
    shop.sells("scarf", None, &[("red", 5)]).await;
    let late = shop.desk.confirm(merchant("main"), expired.id, None).await.unwrap().value;
    assert_eq!(late.state, OrderState::Paid);
    shop.desk.refund(merchant("main"), hold.id, "r".into(), None, true, String::new()).await.unwrap();
    assert_eq!(shop.count("red"), [3, 0, 2]);
    shop.check_chain("red").await;
}
