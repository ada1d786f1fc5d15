//! A store on a slower disk: every commit, which is one flush, takes longer.

use std::{thread, time::Duration};

use maishou::{
    clock::UnixMs,
    order::store::{Batch, Checkpoint, Failure, Reader, Restore, Store},
};

pub struct SlowStore<S> {
    pub store: S,
    pub delay: Duration,
}

/// What a slower disk adds to a flush.
pub fn flush_longer(delay: Duration) {
    if !delay.is_zero() {
        #[expect(clippy::disallowed_methods, reason = "the delay is what is measured")]
        thread::sleep(delay);
    }
}

impl<S: Store> Store for SlowStore<S> {
    fn newest(&mut self) -> Result<UnixMs, Failure> {
        self.store.newest()
    }

    fn load(&mut self, recent: UnixMs, restore: &mut dyn Restore) -> Result<(), Failure> {
        self.store.load(recent, restore)
    }

    fn commit(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        self.store.commit(batch)?;
        flush_longer(self.delay);
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        self.store.checkpoint(checkpoint)
    }

    fn signing_seed(&mut self) -> Result<[u8; 32], Failure> {
        self.store.signing_seed()
    }

    fn reader(&self) -> Result<Box<dyn Reader>, Failure> {
        self.store.reader()
    }

    fn tidy(&mut self, idle: bool) -> Result<(), Failure> {
        self.store.tidy(idle)
    }

    fn free_bytes(&self) -> Option<u64> {
        self.store.free_bytes()
    }
}
