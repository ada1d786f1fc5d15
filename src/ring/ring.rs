use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::ring::{Config, Encoded, Snap};

/// What became of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Everything before this position has been read; read on from here.
    UpTo(u64),
    /// The frame at the asked position is forgotten: take the snapshot, and read on from its position.
    FellOff,
}

/// The recent frames of one room. One writer, the room's hub; any number of readers on any thread.
///
/// A position counts frames since the ring began (a tally frame has one too, although it does not move the sequence).
/// The ring is bounded by frames and bytes: full, it forgets its oldest frames.
pub struct Ring {
    epoch: String,
    config: Config,
    kept: Mutex<Kept>,
    head: AtomicU64,
    moved: watch::Sender<Moved>,
    snapshot_wanted: AtomicBool,
}

struct Kept {
    frames: VecDeque<Encoded>,
    bytes: usize,
    /// The position of the oldest frame kept.
    tail: u64,
    /// The sequence number that the newest frame reached.
    seq: u64,
    snapshot: Snap,
    /// Bytes pushed since the snapshot was set.
    bytes_since_snapshot: usize,
}

#[derive(Clone, Copy, Default)]
struct Moved {
    head: u64,
    urgent: u64,
    closed: bool,
}

impl Kept {
    fn head(&self) -> u64 {
        self.tail + self.frames.len() as u64
    }

    /// Where a reader that stands at `seq` reads on, if every frame since is still here.
    fn position_after(&self, seq: u64) -> Option<u64> {
        let next = self.frames.partition_point(|frame| frame.seq <= seq);
        match self.frames.get(next) {
            Some(frame) => (frame.prev <= seq).then_some(self.tail + next as u64),
            None => (self.seq == seq).then_some(self.head()),
        }
    }

    fn forget_oldest(&mut self, config: &Config) {
        while self.frames.len() > 1 && (self.frames.len() > config.frames_max || self.bytes > config.bytes_max) {
            let oldest = self.frames.pop_front().expect("more than one frame is kept");
            self.bytes -= oldest.wire.bytes().len();
            self.tail += 1;
        }
    }
}

impl Ring {
    /// A ring whose log stands at `seq`, with the snapshot `{"snapshot":{...}}` of it, so that whoever comes first
    /// has something to begin with.
    pub fn new(config: Config, epoch: String, seq: u64, snapshot: impl AsRef<[u8]>) -> Arc<Self> {
        let snapshot = Snap::new(seq, 0, snapshot.as_ref());
        let kept = Kept { frames: VecDeque::new(), bytes: 0, tail: 0, seq, snapshot, bytes_since_snapshot: 0 };
        Arc::new(Self {
            epoch,
            config,
            kept: Mutex::new(kept),
            head: AtomicU64::new(0),
            moved: watch::Sender::new(Moved::default()),
            snapshot_wanted: AtomicBool::new(false),
        })
    }

    /// The room log's epoch: positions and sequence numbers mean nothing in another.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Appends the next frame and wakes the readers. Only the room's hub calls this.
    ///
    /// # Panics
    /// When the frame does not follow on the one before it: every viewer would see a gap.
    pub fn push(&self, frame: Encoded) {
        let (head, urgent) = {
            let mut kept = self.kept();
            assert!(
                frame.prev == kept.seq && frame.seq >= frame.prev,
                "a frame ({}, {}] follows on sequence number {}",
                frame.prev,
                frame.seq,
                kept.seq
            );
            let (len, urgent) = (frame.wire.bytes().len(), frame.urgent);
            kept.seq = frame.seq;
            kept.bytes += len;
            kept.bytes_since_snapshot += len;
            kept.frames.push_back(frame);
            kept.forget_oldest(&self.config);
            self.want_fresh_snapshot(&kept);
            let head = kept.head();
            // Under the lock: whoever reads a frame finds the head behind it.
            self.head.store(head, Ordering::Release);
            (head, urgent)
        };

        self.moved.send_modify(|moved| {
            moved.head = head;
            if urgent {
                moved.urgent = head;
            }
        });
    }

    /// Replaces the snapshot by `json` (`{"snapshot":{...}}`), the state at `seq`. Only the room's hub calls this: after
    /// a push when [`Ring::snapshot_wanted`] says so. One from before the oldest frame is of no use, and is not taken.
    pub fn set_snapshot(&self, seq: u64, json: impl AsRef<[u8]>) {
        let mut snapshot = Snap::new(seq, 0, json.as_ref());
        let mut kept = self.kept();
        snapshot.position = match kept.position_after(seq) {
            Some(position) => position,
            None if seq > kept.seq => kept.head(),
            None => return,
        };
        kept.snapshot = snapshot;
        kept.bytes_since_snapshot = 0;
        self.snapshot_wanted.store(false, Ordering::Release);
    }

    /// The newest snapshot. When frames behind it are forgotten already, reading on from it falls off again: a reader
    /// then calls [`Ring::want_snapshot`] and tries later.
    pub fn snapshot(&self) -> Snap {
        self.kept().snapshot.clone()
    }

    /// Asks the hub for a fresh snapshot.
    pub fn want_snapshot(&self) {
        self.snapshot_wanted.store(true, Ordering::Release);
    }

    /// Whether the hub should call [`Ring::set_snapshot`]: somebody asked, or a quarter of the ring lies behind the
    /// one there is.
    pub fn snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.load(Ordering::Acquire)
    }

    /// Where a client that stands at `seq` reads on. `None` when the ring does not reach back to it, or `seq` was never
    /// reached in this epoch: it needs the snapshot.
    pub fn position_after(&self, seq: u64) -> Option<u64> {
        self.kept().position_after(seq)
    }

    /// Appends the frames from `position` on to `out`, at least one if there is one, and otherwise no more than
    /// `bytes_max` of them.
    pub fn read(&self, position: u64, bytes_max: usize, out: &mut Vec<Encoded>) -> Read {
        let kept = self.kept();
        let Some(skip) = position.checked_sub(kept.tail).filter(|skip| *skip <= kept.frames.len() as u64) else {
            return Read::FellOff;
        };

        let mut next = position;
        let mut bytes = 0;
        for frame in kept.frames.range(skip as usize..) {
            bytes += frame.wire.bytes().len();
            if bytes > bytes_max && next > position {
                break;
            }
            out.push(frame.clone());
            next += 1;
        }
        Read::UpTo(next)
    }

    /// Whether a reader at `position` can read on without falling off.
    pub fn reaches_back_to(&self, position: u64) -> bool {
        let kept = self.kept();
        (kept.tail..=kept.head()).contains(&position)
    }

    /// The position behind the newest frame.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// The position behind the newest urgent frame.
    pub fn urgent_head(&self) -> u64 {
        self.moved.borrow().urgent
    }

    /// Waits until there is something to read at `position`, or the ring is closed.
    pub async fn changed(&self, position: u64) {
        let mut moved = self.moved.subscribe();
        let reached = moved.wait_for(|moved| moved.head > position || moved.closed).await;
        reached.expect("the sender is part of self");
    }

    /// The room is gone: readers may read what is left, and nothing more will come.
    pub fn close(&self) {
        self.moved.send_modify(|moved| moved.closed = true);
    }

    pub fn is_closed(&self) -> bool {
        self.moved.borrow().closed
    }

    fn want_fresh_snapshot(&self, kept: &Kept) {
        let frames_since = kept.head() - kept.snapshot.position;
        let too_old = frames_since > self.config.frames_max as u64 / 4;
        if too_old || kept.bytes_since_snapshot > self.config.bytes_max / 4 {
            self.want_snapshot();
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing under this lock can stop half-way, so a panic of its holder left it whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
