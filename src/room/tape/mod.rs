//! The tape: a room's log on disk, as append-only JSON lines in numbered segments.
//!
//! `tape.path/ROOM/00000012.jsonl`: a `head` line, the state it starts from, then what was logged. A new segment
//! begins when the log is opened, when a show starts or ends, and at `segment_mb`; a closed one is packed with zstd.
//! Every line carries the version, `{"v":1,"kind":...}`. Nothing here is ever changed or deleted by the server: the
//! law asks for three years. The tape knows no rules of the room; it keeps and returns lines.

mod archive;
pub mod line;
mod read;
mod writer;

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

pub use line::Line;
pub use read::{Recording, newest, recording};

use crate::{id::RoomId, room::state::State};

/// Settings of the tape.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder of the tapes; a folder per room is made in it.
    pub path: PathBuf,
    /// A segment is closed and packed at this size, in MiB.
    pub segment_mb: u64,
    /// Ticks that may wait for the writer; beyond this, hubs wait.
    pub mailbox: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { path: "data/tape".into(), segment_mb: 64, mailbox: 4_096 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("tape {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("tape {path}, line {line}: {why}")]
    Unreadable { path: PathBuf, line: usize, why: String },
    #[error("tape {path} has version {found}; this server reads up to {known}")]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("the tape writer has ended")]
    Ended,
}

/// The handle of the one tape writer thread.
#[derive(Clone, Debug)]
pub struct Tape {
    requests: mpsc::Sender<writer::Request>,
    config: Arc<Config>,
}

/// One tick on its way to the disk.
pub struct Append {
    /// Whole lines, each ended by a newline.
    pub lines: Vec<u8>,
    /// Whether somebody waits for the flush.
    pub flush: bool,
    /// A new segment starts after these lines with this head.
    pub roll: Option<Vec<u8>>,
}

/// Resolves twice: when the lines are with the kernel (`kill -9` loses them no more), and when they are on the disk.
pub struct Receipt {
    /// The bytes in the segment now; who appends starts a new one when it is long enough.
    pub written: oneshot::Receiver<Result<u64, Error>>,
    pub flushed: Option<oneshot::Receiver<Result<(), Error>>>,
}

impl Tape {
    pub fn start(config: Config) -> Result<Self, Error> {
        std::fs::create_dir_all(&config.path).map_err(|source| Error::Io { path: config.path.clone(), source })?;
        let (requests, inbox) = mpsc::channel(config.mailbox.max(1));
        let config = Arc::new(config);
        writer::spawn(config.clone(), inbox).map_err(|source| Error::Io { path: config.path.clone(), source })?;
        Ok(Self { requests, config })
    }

    /// The newest state that the room's tape leads to, or `None` for a room without a tape. Reads files: not for a
    /// runtime's worker.
    pub fn last_state(&self, room: &RoomId) -> Result<Option<State>, Error> {
        newest(&self.config.path.join(room.as_str()))
    }

    /// Starts a new segment with `head` (the head line and the state), flushed.
    pub async fn open(&self, room: &RoomId, head: Vec<u8>) -> Result<(), Error> {
        let (done, opened) = oneshot::channel();
        let request = writer::Request::Open { room: room.clone(), head, done };
        self.requests.send(request).await.map_err(|_| Error::Ended)?;
        opened.await.map_err(|_| Error::Ended)?
    }

    pub async fn append(&self, room: &RoomId, append: Append) -> Result<Receipt, Error> {
        let (done, written) = oneshot::channel();
        let (flushed_tx, flushed) = match append.flush {
            true => Some(oneshot::channel()).unzip(),
            false => (None, None),
        };
        let request = writer::Request::Append { room: room.clone(), append, written: done, flushed: flushed_tx };
        self.requests.send(request).await.map_err(|_| Error::Ended)?;
        Ok(Receipt { written, flushed })
    }

    /// Flushes and closes a room's segment; the file stays as it is, to be read on the next start.
    pub async fn close(&self, room: &RoomId) {
        let (done, closed) = oneshot::channel();
        if self.requests.send(writer::Request::Close { room: room.clone(), done }).await.is_ok() {
            let _ = closed.await;
        }
    }

    /// Bytes after which a segment should be followed by the next.
    pub fn segment_len_max(&self) -> u64 {
        self.config.segment_mb.saturating_mul(1024 * 1024)
    }

    /// Requests waiting for the writer.
    pub fn queue_len(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }
}
