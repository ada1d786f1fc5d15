//! Every bound, and what is answered when it is reached.

use std::{sync::mpsc::sync_channel, time::Duration};

use tokio::sync::mpsc::channel;

use super::{
    gate::{Gated, until},
    shop::*,
};
use crate::{
    clock::Clock,
    id::SkuId,
    order::{Config, Desk, Party, Refusal, StockChange, entry::EntryType},
};

fn is_busy<T: std::fmt::Debug>(answer: Result<T, Refusal>) -> bool {
    matches!(answer, Err(Refusal::Busy { retry_after_ms: 1.. }))
}

#[tokio::test]
async fn beyond_the_open_holds_of_everybody_it_is_busy_until_one_ends() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config { holds_open_max: 2, ..Config::default() });
    shop.sells("scarf", None, &[("red", 10)]).await;
    let first = shop.hold("ann", "k", "red", 1).await.unwrap().value;
    shop.hold("bob", "k", "red", 1).await.unwrap();
    assert!(is_busy(shop.hold("eve", "k", "red", 1).await));
    assert!(shop.hold("ann", "k", "red", 1).await.unwrap().replayed, "who has hers is answered");
    assert_eq!(shop.count("red"), [8, 2, 0]);
    shop.desk.confirm(buyer("ann"), first.id, None).await.unwrap();
    assert!(!shop.hold("eve", "k", "red", 1).await.unwrap().replayed, "a refused key stored nothing");
}

#[tokio::test]
async fn beyond_the_keys_it_is_busy_until_one_is_forgotten() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config { keys_max: 2, ..Config::default() });
    shop.sells("scarf", None, &[("red", 10)]).await;
    let red: SkuId = "red".parse().unwrap();
    let adjust =
        |key: &str| shop.desk.adjust(merchant("main"), &red, key.to_owned(), StockChange::Delta(1), String::new());
    let hold = shop.hold("ann", "k", "red", 1).await.unwrap().value;
    shop.desk.confirm(buyer("ann"), hold.id, None).await.unwrap();
    adjust("a").await.unwrap();
    assert!(is_busy(shop.hold("bob", "k", "red", 1).await) && is_busy(adjust("b").await));
    let refund = shop.desk.refund(merchant("main"), hold.id, "r".into(), None, true, String::new()).await;
    assert!(is_busy(refund));
    assert!(shop.hold("ann", "k", "red", 1).await.unwrap().replayed && adjust("a").await.unwrap().replayed);
    shop.clock.advance(Duration::from_secs(24 * 3_600 + 1));
    // Keys are forgotten behind the commands of a round: the next one finds room.
    until(|| shop.desk.stats().mailbox == 0).await;
    drop(adjust("b").await);
    assert!(!shop.hold("bob", "k", "red", 1).await.unwrap().replayed);
}

#[tokio::test]
async fn a_hold_of_too_many_lines_or_pieces_is_malformed() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config { lines_per_hold_max: 2, quantity_max: 3, ..Config::default() });
    shop.sells("scarf", None, &[("red", 10), ("blue", 10), ("green", 10)]).await;
    let hold = |key: &str, lines: &[(&str, u32)]| shop.desk.hold(request("ann", key, lines));
    for too_much in [&[("red", 1), ("blue", 1), ("green", 1)][..], &[("red", 4)], &[("red", 2), ("red", 2)]] {
        assert!(matches!(hold("k", too_much).await, Err(Refusal::Malformed { .. })), "{too_much:?}");
    }
    hold("k", &[("red", 3), ("blue", 3)]).await.unwrap();
}

#[tokio::test]
async fn lists_are_cut_at_a_page_and_messages_at_what_is_kept() {
    let folder = Folder::new();
    let config = Config { page_max: 3, messages_kept_per_person: 5, ..Config::default() };
    let shop = Shop::open(&folder, config);
    shop.sells("scarf", None, &[("red", 10)]).await;
    for n in 0..5 {
        let hold = shop.hold("ann", &format!("k{n}"), "red", 1).await.unwrap().value;
        shop.desk.confirm(buyer("ann"), hold.id, None).await.unwrap();
    }
    for by in [buyer("ann"), merchant("main"), Party::Admin { sub: sub("root") }] {
        assert_eq!(shop.desk.orders(by, None, None, usize::MAX).await.unwrap().orders.len(), 3);
    }
    let page = shop.desk.ledger(&"red".parse().unwrap(), 2, usize::MAX).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.n).collect::<Vec<_>>(), [3, 4, 5]);
    let numbers = async |after| -> Vec<u64> {
        shop.desk.messages(&sub("ann"), after, usize::MAX).await.unwrap().iter().map(|message| message.n).collect()
    };
    assert_eq!(numbers(0).await, [6, 7, 8], "of ten messages the last five are kept, and three are a page");
    assert_eq!(numbers(8).await, [9, 10]);
}

#[tokio::test]
async fn beyond_the_reads_that_wait_it_is_busy() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config { readers: 1, reads_waiting_max: 2, ..Config::default() });
    shop.sells("scarf", None, &[("red", 10)]).await;
    let hold = shop.hold("ann", "k", "red", 1).await.unwrap().value;
    let (started, starts) = tokio::sync::oneshot::channel();
    let (end, ends) = sync_channel::<()>(1);
    let readers = shop.desk.shared.readers.clone();
    let long = tokio::spawn(async move {
        let read = move |_: &mut dyn crate::order::store::Reader| {
            started.send(()).unwrap();
            ends.recv().ok();
            Ok(())
        };
        readers.read(read).await
    });
    starts.await.unwrap();
    let read = |desk: Desk| async move { desk.hold_of(buyer("ann"), hold.id).await };
    let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(read(shop.desk.clone()))).collect();
    until(|| shop.desk.shared.readers.waiting() == 2).await;
    let refused = tokio::time::timeout(Duration::from_secs(10), read(shop.desk.clone())).await;
    assert!(is_busy(refused.expect("who may not wait is answered at once")));
    assert!(shop.hold("bob", "k", "red", 1).await.is_ok(), "buying needs no reader");
    end.send(()).unwrap();
    long.await.unwrap().unwrap();
    for read in waiting {
        assert_eq!(read.await.unwrap().unwrap().id, hold.id);
    }
    assert!(read(shop.desk.clone()).await.is_ok());
}

#[tokio::test]
async fn with_nobody_to_hear_the_events_buying_goes_on_and_adjustments_are_busy() {
    let folder = Folder::new();
    let (to, mut events) = channel(1);
    let config = Config { events_waiting_max: 3, reserve_mb: 0, ..Config::default() };
    let desk = Desk::open(config, Clock::start(), Box::new(open_store(&folder.file())), to).unwrap();
    desk.define(terms("scarf", None, &[("red", 100)])).await.unwrap();
    let red: SkuId = "red".parse().unwrap();
    let adjust = || desk.adjust(merchant("main"), &red, "a".to_owned(), StockChange::Delta(1), "more".to_owned());
    for n in 0..9 {
        desk.hold(request(&format!("b{n}"), "k", &[("red", 1)])).await.unwrap();
    }
    until(|| desk.stats().events_waiting == 3).await;
    assert!(is_busy(adjust().await));
    until(|| desk.stats().events_left_out > 0).await;
    assert_eq!(desk.messages(&sub("b8"), 0, 10).await.unwrap().len(), 1, "what was left out can be read");
    let heard = tokio::spawn(async move {
        while events.recv().await.is_some_and(|event| !matches!(event, crate::order::Event::Adjusted { .. })) {}
    });
    until(|| desk.stats().events_waiting == 0).await;
    assert!(!adjust().await.unwrap().replayed);
    heard.await.unwrap();
}

#[tokio::test]
async fn a_storm_of_expiries_holds_a_buyer_up_for_no_more_than_a_few_of_them() {
    let folder = Folder::new();
    let config = Config { expire_max: 4, batch_max: 1, ..Config::default() };
    let shop = Gated::open(&folder, config, &[("red", 40), ("blue", 9)]).await;
    for n in 0..40 {
        shop.word.send(()).unwrap();
        shop.desk.hold(request(&format!("b{n}"), "k", &[("red", 1)])).await.unwrap();
    }
    shop.hold_up_the_owner("blue").await;
    shop.clock.advance(Duration::from_secs(3_600));
    let (desk, hold) = (shop.desk.clone(), request("late", "k", &[("blue", 1)]));
    let held = tokio::spawn(async move { desk.hold(hold).await });
    shop.until_waiting(1).await;
    drop(shop.word);
    held.await.unwrap().unwrap();
    until(|| shop.desk.stats().steps.expired == 40).await;
    until(|| shop.desk.count(&"red".parse().unwrap()).unwrap().available == 40).await;
    let entries = async |sku: &str| shop.desk.ledger(&sku.parse().unwrap(), 0, 1_000).await.unwrap().entries;
    let late = entries("blue").await.last().unwrap().tx;
    let red = entries("red").await;
    let before = red.iter().filter(|entry| entry.kind == EntryType::Expired && entry.tx < late).count();
    assert!((1..=4).contains(&before), "{before} expired before her, the rest behind her");
}
