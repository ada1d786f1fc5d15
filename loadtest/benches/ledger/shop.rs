//! A desk with goods to sell, and the requests that buyers make.

use std::{
    path::Path,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use maishou::{
    clock::Clock,
    id::{Money, RoomId},
    order::{Config, Desk, Event, HoldRequest, ProductTerms, store::Sqlite},
    protocol::LineRequest,
};
use tokio::{runtime::Runtime, sync::mpsc};

use crate::slow_store::SlowStore;

/// People who may buy: in a flash sale nearly every buyer is new.
const PEOPLE: u64 = 1_000_000;
/// Room in memory, so that nothing grows while it is measured.
const HOLDS_EXPECTED: usize = 1 << 20;
pub const SKU: &str = "scarf-red";

pub fn config() -> Config {
    Config { reserve_mb: 0, holds_expected: HOLDS_EXPECTED, holds_open_max: 8_000_000, ..Config::default() }
}

/// Opens a desk that sells `stock` pieces; a limit of ten a person is looked at. Its events are taken and dropped.
pub fn open(runtime: &Runtime, file: &Path, config: Config, delay: Duration, stock: u64) -> anyhow::Result<Desk> {
    let (to, mut events) = mpsc::channel(65_536);
    runtime.spawn(async move { while events.recv().await.is_some() {} });
    let desk = open_told(file, config, delay, Clock::start(), to)?;
    sell(runtime, &desk, SKU, stock)?;
    Ok(desk)
}

/// Opens a desk whose events go to `events`.
pub fn open_told(
    file: &Path,
    config: Config,
    delay: Duration,
    clock: Clock,
    events: mpsc::Sender<Event>,
) -> anyhow::Result<Desk> {
    let store = Box::new(SlowStore { store: Sqlite::open(file)?, delay });
    Ok(Desk::open(config, clock, store, events)?)
}

/// Puts `stock` pieces of a SKU on sale.
pub fn sell(runtime: &Runtime, desk: &Desk, sku: &str, stock: u64) -> anyhow::Result<()> {
    let terms = ProductTerms {
        product: format!("of-{sku}").parse()?,
        merchant: "main".parse()?,
        price: Money { amount: 19_900, currency: "CNY".parse()? },
        limit_per_user: Some(10),
        limit_per_order: Some(2),
        on_sale_at: None,
        skus: vec![(sku.parse()?, stock)],
    };
    runtime.block_on(desk.define(terms)).map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
    Ok(())
}

/// A request that nobody made before, by a random person.
pub fn request() -> HoldRequest {
    request_of(SKU)
}

pub fn request_of(sku: &str) -> HoldRequest {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // A session has its room's name once.
    static ROOM: LazyLock<RoomId> = LazyLock::new(|| "hall".parse().expect("a room's id"));
    let person = rand::random::<u64>() % PEOPLE;
    HoldRequest {
        sub: format!("buyer-{person:07}").parse().expect("a person's id"),
        key: format!("tap-{:016x}-{:08x}", rand::random::<u64>(), NEXT.fetch_add(1, Relaxed)),
        room: Some(ROOM.clone()),
        show: Some("show-20261111".to_owned()),
        shown_as: Some("买".to_owned()),
        lines: vec![LineRequest { sku: sku.parse().expect("a SKU"), quantity: 1, price: None }],
    }
}
