use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;

use crate::ring::{Encoded, Read, Ring, Wire};

/// The most that one visit writes to one connection, unless a single frame is longer.
const BATCH_BYTES_MAX: usize = 64 << 10;

/// A room as one shard sees it: its ring, who follows it here, and the batch that they were given last.
pub(super) struct Source {
    pub(super) ring: Arc<Ring>,
    /// Keys of the connections that follow it, in the order in which they lie in memory.
    pub(super) followers: RefCell<BTreeSet<usize>>,
    /// Stands in the queue for a sweep out of turn.
    pub(super) is_urgent: Cell<bool>,
    /// The plain one and the compressed one.
    batches: [RefCell<Option<Rc<Batch>>>; 2],
}

/// Frames one after another in one piece, made once for all viewers that stand at the same position.
pub(super) struct Batch {
    from: u64,
    /// The ring's head when it was made.
    head: u64,
    pub(super) bytes: Bytes,
    /// Where each frame ends in `bytes`.
    ends: Vec<usize>,
}

/// How far into a batch a write came.
pub(super) struct Written {
    /// Frames that are over or at least begun: the position moves past them.
    pub(super) frames: u64,
    /// What is left of the one that was only begun.
    pub(super) rest: Option<Bytes>,
}

impl Source {
    pub(super) fn new(ring: Arc<Ring>) -> Rc<Self> {
        let (followers, batches) = Default::default();
        Rc::new(Self { ring, followers, is_urgent: Cell::new(false), batches })
    }

    /// The frames from `position` on, compressed or not. `None` when the ring has forgotten them.
    pub(super) fn batch(&self, position: u64, deflates: bool) -> Option<Rc<Batch>> {
        let head = self.ring.head();
        let mut kept = self.batches[usize::from(deflates)].borrow_mut();
        if let Some(batch) = kept.as_ref().filter(|batch| batch.from == position && batch.head == head) {
            return Some(batch.clone());
        }

        let mut frames = Vec::new();
        match self.ring.read(position, BATCH_BYTES_MAX, &mut frames) {
            Read::FellOff => None,
            Read::UpTo(_) => {
                let batch = Rc::new(Batch::of(position, head, &frames, deflates));
                *kept = Some(batch.clone());
                Some(batch)
            }
        }
    }
}

fn wire(frame: &Encoded, deflates: bool) -> &Wire {
    if deflates { frame.deflated() } else { &frame.wire }
}

impl Batch {
    fn of(from: u64, head: u64, frames: &[Encoded], deflates: bool) -> Self {
        let mut end = 0;
        let ends = frames.iter().map(|frame| {
            end += wire(frame, deflates).bytes().len();
            end
        });
        let ends = ends.collect();
        let bytes = match frames {
            [only] => wire(only, deflates).bytes().clone(),
            several => several
                .iter()
                .fold(Vec::with_capacity(end), |mut bytes, frame| {
                    bytes.extend_from_slice(wire(frame, deflates).bytes());
                    bytes
                })
                .into(),
        };
        Self { from, head, bytes, ends }
    }

    pub(super) fn written(&self, len: usize) -> Written {
        let whole = self.ends.partition_point(|end| *end <= len);
        let begin = if whole == 0 { 0 } else { self.ends[whole - 1] };
        if begin == len {
            return Written { frames: whole as u64, rest: None };
        }
        // A frame of its own is shared; out of several, only the rest is kept, not the whole batch.
        let rest = len..self.ends[whole];
        let rest =
            if self.ends.len() == 1 { self.bytes.slice(rest) } else { Bytes::copy_from_slice(&self.bytes[rest]) };
        Written { frames: whole as u64 + 1, rest: Some(rest) }
    }
}
