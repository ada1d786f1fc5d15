//! When the ledger in memory may be ahead of the one on disk, nothing continues.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

/// What ends the process after a failed commit or a bug; tests put in something milder.
pub struct Poison {
    poisoned: AtomicBool,
    then: Box<dyn Fn() + Send + Sync>,
}

impl Poison {
    pub fn new(then: impl Fn() + Send + Sync + 'static) -> Self {
        Self { poisoned: AtomicBool::new(false), then: Box::new(then) }
    }

    /// A failed flush must not be tried again: what it was to write may be gone from memory. The next start reads what
    /// is on disk.
    pub fn abort() -> Self {
        Self::new(|| std::process::abort())
    }

    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Relaxed)
    }

    pub fn now(&self, why: &dyn fmt::Display) {
        self.poisoned.store(true, Relaxed);
        tracing::error!(%why, "the ledger cannot go on; the process ends");
        eprintln!("maishou: the ledger cannot go on: {why}");
        (self.then)();
    }
}

impl fmt::Debug for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poison").field("poisoned", &self.poisoned).finish_non_exhaustive()
    }
}
