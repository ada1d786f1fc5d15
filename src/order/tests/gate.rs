//! A desk whose commits wait for a word, so that a test can look at what happens meanwhile.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc::{Receiver, channel};

use super::shop::*;
use crate::{
    clock::{Clock, UnixMs},
    order::{Config, Desk, Event, StockChange},
};

pub struct Gated {
    pub desk: Desk,
    pub clock: Clock,
    /// Each word lets one commit through; once it is gone all go through.
    pub word: SyncSender<()>,
    _events: Receiver<Event>,
}

impl Gated {
    /// Sells `skus` of one product; those commits went through.
    pub async fn open(folder: &Folder, config: Config, skus: &[(&str, u64)]) -> Self {
        let (word, wait) = sync_channel::<()>(1_000);
        let wait = Mutex::new(wait);
        let mood = Arc::new(move || {
            wait.lock().unwrap().recv().ok();
            Ok(())
        });
        let store = Moody { inner: open_store(&folder.file()), mood, free: None };
        let (to, events) = channel(10_000);
        let clock = Clock::manual(UnixMs(1_700_000_000_000));
        let config = Config { reserve_mb: 0, ..config };
        let desk = Desk::open(config, clock.clone(), Box::new(store), to).unwrap();
        word.send(()).unwrap();
        desk.define(terms("scarf", None, skus)).await.unwrap();
        Self { desk, clock, word, _events: events }
    }

    /// With a batch of one, the owner thread waits after this until one commit goes through: one is being committed,
    /// one is the next, and it has one in hand. What is sent from now on stays in the mailbox.
    pub async fn hold_up_the_owner(&self, sku: &str) {
        for n in 0..3 {
            let (desk, sku) = (self.desk.clone(), sku.parse().unwrap());
            tokio::spawn(async move {
                desk.adjust(merchant("main"), &sku, format!("gate-{n}"), StockChange::Delta(1), String::new()).await
            });
            until(|| self.desk.stats().steps.adjusted == n + 1).await;
        }
    }

    /// Waits until so many commands wait for the owner.
    pub async fn until_waiting(&self, commands: usize) {
        until(|| self.desk.stats().mailbox == commands).await;
    }
}

pub async fn until(reached: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !reached() {
        assert!(Instant::now() < deadline, "what was waited for does not come");
        tokio::task::yield_now().await;
    }
}
