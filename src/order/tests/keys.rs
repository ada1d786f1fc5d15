//! Idempotency keys: the same answer, whatever happens between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::channel;

use super::{
    gate::{Gated, until},
    shop::*,
};
use crate::{
    clock::Clock,
    order::{Config, Desk, Refusal, StockChange, owner::ROUND_MAX},
    protocol::OrderState,
};

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
async fn a_retry_waits_for_its_first_that_is_being_committed() {
    let folder = Folder::new();
    let (resume, wait) = std::sync::mpsc::sync_channel::<()>(10);
    let wait = std::sync::Mutex::new(wait);
    let mood = Arc::new(move || {
        wait.lock().unwrap().recv().ok();
        Ok(())
    });
    let store = Moody { inner: open_store(&folder.file()), mood, free: None };
    let (to, _events) = channel(100);
    let config = Config { reserve_mb: 0, ..Config::default() };
    let desk = Desk::open(config, Clock::start(), Box::new(store), to).unwrap();
    resume.send(()).unwrap();
    desk.define(terms("scarf", None, &[("red", 1)])).await.unwrap();
    let ask = || {
        let desk = desk.clone();
        tokio::spawn(async move { desk.hold(request("ann", "k", &[("red", 1)])).await })
    };
    let first = ask();
    let deadline = Instant::now() + Duration::from_secs(10);
    while desk.stats().holds.accepted == 0 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let retry = ask();
    let other = desk.hold(request("bob", "k", &[("red", 1)])).await;
    assert_eq!(other.unwrap_err(), sold_out("red", 0), "others hear at once that it is sold out");
    while desk.stats().holds.replayed == 0 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert!(!first.is_finished() && !retry.is_finished(), "nobody is told before the commit");
    drop(resume);
    let (first, retry) = (first.await.unwrap().unwrap(), retry.await.unwrap().unwrap());
    assert_eq!((retry.value, first.replayed, retry.replayed), (first.value, false, true));
}

#[tokio::test]
async fn a_retry_is_not_told_sold_out_while_its_first_may_still_win() {
    let folder = Folder::new();
    let config = Config { batch_max: 1, ..Config::default() };
    let shop = Gated::open(&folder, config, &[("red", 1), ("blue", 1)]).await;
    shop.hold_up_the_owner("blue").await;
    let hold = |who: &str, key: &str, sku: &str| {
        let (desk, request) = (shop.desk.clone(), request(who, key, &[(sku, 1)]));
        tokio::spawn(async move { desk.hold(request).await })
    };
    // In the mailbox: who takes the last piece and as many others as are decided at once with her; then one more piece,
    // and ann. She asks while there is one.
    let last = hold("bob", "k", "red");
    shop.until_waiting(1).await;
    let others: Vec<_> = (1..ROUND_MAX).map(|n| hold("bob", &format!("none-{n}"), "none")).collect();
    shop.until_waiting(ROUND_MAX).await;
    let (desk, red) = (shop.desk.clone(), "red".parse().unwrap());
    let more = tokio::spawn(async move {
        desk.adjust(merchant("main"), &red, "a".into(), StockChange::Delta(1), String::new()).await
    });
    shop.until_waiting(ROUND_MAX + 1).await;
    let first = hold("ann", "k", "red");
    shop.until_waiting(ROUND_MAX + 2).await;

    // One commit goes through: the first of them are decided, and the owner waits again.
    shop.word.send(()).unwrap();
    until(|| shop.desk.stats().open_holds == 1).await;
    shop.until_waiting(2).await;
    assert_eq!(hold("eve", "k", "red").await.unwrap().unwrap_err(), sold_out("red", 0));
    let retry = hold("ann", "k", "red");
    shop.until_waiting(3).await;

    drop(shop.word);
    let (first, retry) = (first.await.unwrap().unwrap(), retry.await.unwrap().unwrap());
    assert_eq!((&retry.value, first.replayed, retry.replayed), (&first.value, false, true));
    assert!(last.await.unwrap().is_ok() && more.await.unwrap().is_ok());
    for other in others {
        assert_eq!(other.await.unwrap().unwrap_err(), Refusal::UnknownSku);
    }
}

#[tokio::test]
async fn a_winners_key_is_known_after_a_restart_of_a_sold_out_shop() {
    let folder = Folder::new();
    let shop = Shop::open(&folder, Config::default());
    shop.sells("scarf", None, &[("red", 1)]).await;
    let won = shop.hold("ann", "k", "red", 1).await.unwrap().value;
    let crashed = folder.as_after_a_crash();
    let shop = Shop::open_at(&crashed, Config::default(), shop.clock.clone());
    shop.sells("scarf", None, &[("red", 1)]).await;
    assert_eq!(shop.hold("bob", "k", "red", 1).await.unwrap_err(), sold_out("red", 0));
    assert_eq!(shop.desk.stats().holds.sold_out_fast, 1, "told without the owner");
    let again = shop.hold("ann", "k", "red", 1).await.unwrap();
    assert_eq!((again.value, again.replayed), (won, true));
    assert_eq!(shop.hold("ann", "other", "red", 1).await.unwrap_err(), sold_out("red", 0));
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
