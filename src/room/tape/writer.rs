//! The tape writer: one thread, one write per tick, one flush for all who wait.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::{Append, Config, Error, archive::Archiver, read};
use crate::id::RoomId;

/// Chat that nobody waits for is on the disk after this long.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Requests that are taken as one batch.
const BATCH_MAX: usize = 1_024;

type Done = oneshot::Sender<Result<(), Error>>;

pub(super) enum Request {
    Open { room: RoomId, head: Vec<u8>, done: Done },
    Append { room: RoomId, append: Append, written: oneshot::Sender<Result<u64, Error>>, flushed: Option<Done> },
    Close { room: RoomId, done: Done },
}

struct Segment {
    number: u64,
    path: PathBuf,
    file: File,
    len: u64,
    dirty: bool,
}

struct Writer {
    config: Arc<Config>,
    segments: HashMap<RoomId, Segment>,
    archiver: Archiver,
    waiting: Vec<(RoomId, Done)>,
    flushed_at: Instant,
}

pub(super) fn spawn(config: Arc<Config>, mut inbox: mpsc::Receiver<Request>) -> io::Result<()> {
    let archiver = Archiver::start()?;
    let mut writer =
        Writer { config, segments: HashMap::new(), archiver, waiting: Vec::new(), flushed_at: Instant::now() };
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("tape".into()).spawn(move || {
        let mut batch = Vec::new();
        loop {
            let wait = FLUSH_EVERY.saturating_sub(writer.flushed_at.elapsed());
            let taken =
                clock.block_on(async { tokio::time::timeout(wait, inbox.recv_many(&mut batch, BATCH_MAX)).await });
            for request in batch.drain(..) {
                writer.take(request);
            }
            let ended = taken == Ok(0);
            if ended || !writer.waiting.is_empty() || writer.flushed_at.elapsed() >= FLUSH_EVERY {
                writer.flush();
            }
            if ended {
                return;
            }
        }
    })?;
    Ok(())
}

impl Writer {
    fn take(&mut self, request: Request) {
        match request {
            Request::Open { room, head, done } => {
                let opened = self.start_segment(&room, &head);
                if let Err(e) = &opened {
                    error!(error = %e, "a tape does not open");
                }
                let _ = done.send(opened);
            }
            Request::Append { room, append, written, flushed } => {
                let outcome = self.append(&room, append);
                if let Err(e) = &outcome {
                    error!(error = %e, "a tape does not take what happened");
                }
                if let (Ok(_), Some(flushed)) = (&outcome, flushed) {
                    self.waiting.push((room, flushed));
                }
                let _ = written.send(outcome);
            }
            Request::Close { room, done } => {
                self.flush();
                self.segments.remove(&room);
                let _ = done.send(Ok(()));
            }
        }
    }

    /// All or nothing: a tick whose new segment does not start is taken off the old one again, because nobody will be
    /// shown it and its numbers will be used for other events.
    fn append(&mut self, room: &RoomId, append: Append) -> Result<u64, Error> {
        let segment = self.segments.get_mut(room).ok_or(Error::Ended)?;
        let before = segment.len;
        segment.write(&append.lines)?;
        let Some(head) = append.roll else { return Ok(segment.len) };
        match self.start_segment(room, &head) {
            Ok(()) => Ok(0),
            Err(e) => {
                if let Some(segment) = self.segments.get_mut(room) {
                    segment.cut_off(before);
                }
                Err(e)
            }
        }
    }

    fn start_segment(&mut self, room: &RoomId, head: &[u8]) -> Result<(), Error> {
        let folder = self.config.path.join(room.as_str());
        fs::create_dir_all(&folder).map_err(|source| Error::Io { path: folder.clone(), source })?;
        let numbers = read::numbers(&folder)?;
        let next = numbers.last().map_or(1, |(n, _)| n + 1);
        let segment = Segment::create(&folder, next, head)?;
        if let Some(old) = self.segments.insert(room.clone(), segment)
            && let Err(source) = old.file.sync_data()
        {
            warn!(path = %old.path.display(), error = %source, "a closed segment may not be on the disk");
        }
        for (number, path) in numbers {
            if number < next && path.extension().is_some_and(|e| e == "jsonl") {
                self.archiver.pack(path);
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.flushed_at = Instant::now();
        let mut failed: HashMap<RoomId, String> = HashMap::new();
        for (room, segment) in self.segments.iter_mut().filter(|(_, s)| s.dirty) {
            match segment.file.sync_data() {
                Ok(()) => segment.dirty = false,
                Err(e) => {
                    error!(path = %segment.path.display(), error = %e, "a tape is not flushed");
                    failed.insert(room.clone(), e.to_string());
                }
            }
        }
        for (room, done) in self.waiting.drain(..) {
            let outcome = match failed.get(&room) {
                None => Ok(()),
                Some(why) => {
                    Err(Error::Io { path: PathBuf::from(room.as_str()), source: io::Error::other(why.clone()) })
                }
            };
            let _ = done.send(outcome);
        }
    }
}

impl Segment {
    /// A segment that does not start whole is taken away again: the next start would believe it.
    fn create(folder: &Path, number: u64, head: &[u8]) -> Result<Self, Error> {
        let path = folder.join(format!("{number:08}.jsonl"));
        let at = |source| Error::Io { path: path.clone(), source };
        let file = OpenOptions::new().create_new(true).append(true).open(&path).map_err(at)?;
        let mut segment = Self { number, path: path.clone(), file, len: 0, dirty: false };
        let started = segment.write(head).and_then(|()| {
            segment.file.sync_data().map_err(at)?;
            File::open(folder).and_then(|f| f.sync_all()).map_err(at)
        });
        if let Err(e) = started {
            let _ = fs::remove_file(&path);
            return Err(e);
        }
        segment.dirty = false;
        tracing::debug!(segment = segment.number, "a tape segment starts");
        Ok(segment)
    }

    /// Writes whole lines or none: what a full disk took in part is cut off again.
    fn write(&mut self, lines: &[u8]) -> Result<(), Error> {
        self.dirty = true;
        match self.file.write_all(lines) {
            Ok(()) => {
                self.len += lines.len() as u64;
                Ok(())
            }
            Err(source) => {
                self.cut_off(self.len);
                Err(Error::Io { path: self.path.clone(), source })
            }
        }
    }

    fn cut_off(&mut self, len: u64) {
        self.len = len;
        if let Err(e) = self.file.set_len(len) {
            error!(path = %self.path.display(), error = %e, "what nobody was shown stays on a tape");
        }
    }
}
