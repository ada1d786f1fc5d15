//! Opening a desk: the ledger is taken up from its store, and its two threads are started.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use tokio::sync::mpsc;

use crate::{
    clock::{Clock, UnixMs},
    order::{
        chain::{Chains, Committed},
        config::Config,
        desk::{Desk, Shared},
        fast::{Face, Fast},
        handover::{Decisions, Handover},
        journal::Journal,
        ledger::{Ledger, Restored, Restorer},
        mailbox::Mailbox,
        owner::Owner,
        poison::Poison,
        publish::{Event, Publisher},
        readers::Readers,
        signer::Signer,
        stats::Counters,
        store::{Failure, SkuRow, Store},
    },
};

/// Why a desk could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("order.{0} must be at least 1")]
    Config(&'static str),
    #[error(transparent)]
    Store(#[from] Failure),
    #[error("a thread could not be started: {0}")]
    Thread(std::io::Error),
}

impl Desk {
    /// Opens the ledger in `store`, takes it up where it ended and starts its threads. Blocks while it reads.
    ///
    /// What is committed is told to `events`. A failed commit ends the process.
    pub fn open(
        config: Config,
        clock: Clock,
        store: Box<dyn Store>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, Error> {
        Self::open_with(config, clock, store, events, Poison::abort())
    }

    /// As [`Desk::open`], with something else than the end of the process after a failed commit.
    pub(super) fn open_with(
        config: Config,
        clock: Clock,
        mut store: Box<dyn Store>,
        events: mpsc::Sender<Event>,
        poison: Poison,
    ) -> Result<Self, Error> {
        config.check().map_err(Error::Config)?;
        let Restored { ledger, skus, tail } = take_up(&config, &clock, store.as_mut())?;
        let signer = Signer::new(&store.signing_seed()?);
        let readers = Readers::open(store.as_ref(), &config)?;
        let (fast, counters) = (Arc::new(Fast::new(config.keys_max)), Arc::new(Counters::new()));
        let handover = Arc::new(Handover::new(config.batch_max));
        let mailbox = Arc::new(Mailbox::new(config.mailbox_max));
        let mut journal = Journal {
            clock: clock.clone(),
            store,
            fast: fast.clone(),
            handover: handover.clone(),
            publisher: Publisher::new(&config, events, counters.clone()),
            counters: counters.clone(),
            batch: Decisions::default(),
            reserve_bytes: config.reserve_mb.saturating_mul(1 << 20),
        };
        let chains = Chains::restore(&skus);
        let faces = show(&fast, &ledger, skus);
        let owner = Owner {
            config: config.clone(),
            clock: clock.clone(),
            checkpoint_tx: ledger.last_tx() - tail,
            ledger,
            chains,
            more_are_due: false,
            mailbox: mailbox.clone(),
            faces,
            fast: fast.clone(),
            handover: handover.clone(),
            counters: counters.clone(),
            decided: Decisions::default(),
        };
        let poison = Arc::new(poison);
        let threads = vec![
            // The journal lives on until the poison has worked: nobody hears of an answer dropped before.
            spawn("ledger-journal", &handover, &poison, move |poison| {
                if let Err(failure) = journal.run() {
                    poison.now(&failure);
                }
            })?,
            spawn("ledger-owner", &handover, &poison, move |_| owner.run())?,
        ];
        let threads = Mutex::new(threads);
        let shared = Shared { config, clock, mailbox, fast, readers, signer, counters, poison, threads };
        Ok(Self { shared: Arc::new(shared) })
    }
}

/// Reads the ledger out of its store.
fn take_up(config: &Config, clock: &Clock, store: &mut dyn Store) -> Result<Restored, Error> {
    clock.not_before(store.newest()?);
    let key_ms = i64::try_from(config.key_time().as_millis()).unwrap_or(i64::MAX);
    let recent = UnixMs(clock.now().0.saturating_sub(key_ms));
    let mut restorer = Restorer::new(config.clone(), recent);
    store.load(recent, &mut restorer)?;
    let mut restored = restorer.finish();
    if restored.tail > config.checkpoint_after {
        store.checkpoint(&restored.ledger.checkpoint())?;
        restored.tail = 0;
    }
    Ok(restored)
}

/// Shows callers what was taken up. Returns the faces of the SKUs by their number.
fn show(fast: &Fast, ledger: &Ledger, skus: Vec<SkuRow>) -> Vec<Arc<Face>> {
    for key in ledger.hold_keys() {
        fast.accepted(key);
    }
    fast.restored(skus.into_iter().map(|row| {
        let (count, hash) = (row.head.count, row.head.hash);
        (row.sku, Committed { count, hash, row: row.head.row, marks: row.marks })
    }))
}

/// Starts a thread of the ledger. A panic in it poisons the ledger; its end ends the other.
fn spawn(
    name: &str,
    handover: &Arc<Handover>,
    poison: &Arc<Poison>,
    run: impl FnOnce(&Poison) + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    let (handover, poison) = (handover.clone(), poison.clone());
    let body = move || {
        if catch_unwind(AssertUnwindSafe(|| run(&poison))).is_err() {
            poison.now(&"a bug was found");
        }
        if poison.is_poisoned() { handover.abandon() } else { handover.close() }
    };
    thread::Builder::new().name(name.to_owned()).spawn(body).map_err(Error::Thread)
}
