//! A few readers of the store, shared by callers, off the runtime's workers.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::order::{
    config::Config,
    refusal::Refusal,
    store::{Failure, Reader, Store},
};

#[derive(Clone)]
pub struct Readers {
    idle: Arc<Mutex<Vec<Box<dyn Reader>>>>,
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
}

impl Readers {
    pub fn open(store: &dyn Store, config: &Config) -> Result<Self, Failure> {
        let idle = (0..config.readers).map(|_| store.reader()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            permits: Arc::new(Semaphore::new(idle.len())),
            idle: Arc::new(Mutex::new(idle)),
            waiting: Arc::default(),
            waiting_max: config.reads_waiting_max,
        })
    }

    /// Reads that wait for a reader.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Reads with the next free reader. Refused with `busy` when too many wait.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn Reader) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Refusal> {
        let waiting = Waiting::join(self)?;
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| Refusal::BUSY)?;
        drop(waiting);
        let idle = self.idle.clone();
        let done = spawn_blocking(move || {
            let _permit = permit;
            let free = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let mut reader = free().pop().ok_or(Refusal::Failed)?;
            let result = read(reader.as_mut());
            free().push(reader);
            result.map_err(|failure| {
                tracing::error!(%failure, "the order store could not be read");
                Refusal::Failed
            })
        });
        done.await.unwrap_or(Err(Refusal::Failed))
    }
}

/// A place in the queue for a reader.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn join(readers: &Readers) -> Result<Self, Refusal> {
        let place = Self(readers.waiting.clone());
        let before = readers.waiting.fetch_add(1, Relaxed);
        if before < readers.waiting_max { Ok(place) } else { Err(Refusal::BUSY) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
