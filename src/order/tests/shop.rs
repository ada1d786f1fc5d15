//! A shop for tests: a desk on a real store, its clock and its events.

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
        Answered, Config, Desk, Event, HoldRequest, Party, ProductTerms, Refusal,
        entry::EntryType,
        store::{Batch, Checkpoint, Failure, Reader, Restore, Sqlite, Store},
        verify::verify,
    },
    protocol::{Hold, LineRequest, StockCount},
};

/// A folder that goes when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("maishou-order-{}", Uuid::now_v7()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("ledger.db")
    }

    /// The files as they are at this moment, as a crash would leave them.
    pub fn as_after_a_crash(&self) -> Self {
        let copy = Self::new();
        // A ledger that was closed has no log beside it.
        let names = ["ledger.db", "ledger.db-wal"];
        for name in names.into_iter().filter(|name| self.0.join(name).exists()) {
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
pub fn open_store(path: &Path) -> Sqlite {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Sqlite::open(path) {
            Ok(store) => return store,
            Err(Failure::InUse { .. }) if Instant::now() < deadline => std::thread::yield_now(),
            Err(failure) => panic!("{failure}"),
        }
    }
}

pub struct Shop {
    pub desk: Desk,
    pub clock: Clock,
    pub events: Receiver<Event>,
}

impl Shop {
    pub fn open(folder: &Folder, config: Config) -> Self {
        Self::open_at(folder, config, Clock::manual(UnixMs(1_700_000_000_000)))
    }

    pub fn open_at(folder: &Folder, config: Config, clock: Clock) -> Self {
        let (to, events) = channel(10_000);
        let config = Config { reserve_mb: 0, ..config };
        let desk = Desk::open(config, clock.clone(), Box::new(open_store(&folder.file())), to).unwrap();
        Self { desk, clock, events }
    }

    pub async fn sells(&self, product: &str, limit_per_user: Option<u32>, skus: &[(&str, u64)]) {
        let terms = terms(product, limit_per_user, skus);
        self.desk.define(terms).await.unwrap();
    }

    pub fn count(&self, sku: &str) -> [u64; 3] {
        let StockCount { available, held, sold, .. } = self.desk.count(&sku.parse().unwrap()).unwrap();
        [available, held, sold]
    }

    pub async fn hold(&self, who: &str, key: &str, sku: &str, quantity: u32) -> Result<Answered<Hold>, Refusal> {
        self.desk.hold(request(who, key, &[(sku, quantity)])).await
    }

    /// Waits until the counts are so. The desk expires holds in its own time.
    pub async fn until_count(&self, sku: &str, counts: [u64; 3]) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.count(sku) != counts {
            assert!(Instant::now() < deadline, "{sku} stays at {:?}", self.count(sku));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The whole chain of a SKU, checked.
    pub async fn check_chain(&self, sku: &str) -> Vec<(EntryType, i64)> {
        let sku: SkuId = sku.parse().unwrap();
        let export = self.desk.ledger(&sku, 0, 1_000).await.unwrap();
        let report = verify(&serde_json::to_string(&export).unwrap(), Some(&self.desk.public_key().key)).unwrap();
        assert_eq!(Some(report.count), self.desk.count(&sku));
        export.entries.iter().map(|entry| (entry.kind, entry.quantity)).collect()
    }
}

pub fn terms(product: &str, limit_per_user: Option<u32>, skus: &[(&str, u64)]) -> ProductTerms {
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

pub fn yuan(yuan: i64) -> Money {
    Money { amount: yuan * 100, currency: "CNY".parse().unwrap() }
}

pub fn sub(who: &str) -> Sub {
    who.parse().unwrap()
}

pub fn buyer(who: &str) -> Party {
    Party::Buyer(sub(who))
}

pub fn merchant(merchant: &str) -> Party {
    Party::Merchant { sub: sub("clerk"), merchant: merchant.parse().unwrap() }
}

pub fn request(who: &str, key: &str, lines: &[(&str, u32)]) -> HoldRequest {
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

pub fn sold_out(sku: &str, available: u64) -> Refusal {
    Refusal::SoldOut { sku: sku.parse().unwrap(), available }
}

/// A store that does as told.
pub struct Moody {
    pub inner: Sqlite,
    pub mood: Arc<dyn Fn() -> Result<(), Failure> + Send + Sync>,
    pub free: Option<u64>,
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
    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        self.inner.checkpoint(checkpoint)
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
