//! Moving the write-ahead log into the file, beside the commits.
//!
//! Copying pages and flushing the file takes milliseconds for each megabyte. A thread with a connection of its own does
//! the most of it while commits go on; the short rest, after which the log can begin anew, is done between two commits.
//! (Before SQLite 3.51.3 a commit could be lost when two connections did this; older ones are refused.)

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, ErrorCode};

/// The log, in pages of 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub pages: i64,
    pub moved: i64,
}

impl Log {
    pub fn look(db: &Connection) -> rusqlite::Result<Self> {
        db.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| Ok(Self { pages: row.get(1)?, moved: row.get(2)? }))
    }

    pub fn left(self) -> i64 {
        self.pages - self.moved
    }
}

/// Moves what can be moved without waiting for anybody. A full disk only puts it off: the log still has every commit.
pub fn move_pages(db: &Connection) -> rusqlite::Result<()> {
    match db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == ErrorCode::DiskFull => {
            tracing::warn!("no room to move the write-ahead log into the ledger file");
            Ok(())
        }
        other => other,
    }
}

/// The thread that moves pages.
#[derive(Debug)]
pub struct Mover {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    busy: bool,
    stopped: bool,
    failure: Option<rusqlite::Error>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, db: &Connection) {
        loop {
            let idle = |state: &mut State| !state.busy && !state.stopped;
            let state = self.changed.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
            if state.stopped {
                return;
            }
            drop(state);
            let moved = move_pages(db);
            let mut state = self.state();
            state.busy = false;
            state.failure = moved.err();
        }
    }
}

impl Mover {
    pub fn start(db: Connection) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let its = shared.clone();
        let thread = thread::Builder::new().name("ledger-wal".to_owned()).spawn(move || its.run(&db))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Nothing is being moved now. Says so with the failure of the last time, when it failed.
    pub fn is_idle(&self) -> rusqlite::Result<bool> {
        let mut state = self.shared.state();
        match state.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(!state.busy),
        }
    }

    pub fn begin(&self) {
        self.shared.state().busy = true;
        self.shared.changed.notify_one();
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
