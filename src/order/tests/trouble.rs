//! Crashes, full disks, full queues and the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::channel;

use super::shop::*;
use crate::{
    clock::{Clock, UnixMs},
    id::SkuId,
    order::{
        Config, Desk, Refusal, StockChange,
        entry::Digest,
        poison::Poison,
        store::{Failure, Sqlite},
    },
    protocol::Order,
};

/// What a person and a merchant can see of the shop.
async fn seen(shop: &Shop) -> (Vec<Order>, Vec<Order>, Vec<crate::protocol::Private>, Vec<Digest>) {
    let chain = shop.desk.ledger(&"red".parse().unwrap(), 0, 1_000).await.unwrap();
    (
        shop.desk.orders(buyer("ann"), None, None, 100).await.unwrap().orders,
        shop.desk.orders(merchant("main"), None, None, 100).await.unwrap().orders,
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
    assert!(Sqlite::open(&folder.file()).is_ok(), "the file is free at once");
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
