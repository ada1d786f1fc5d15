//! `Arrival`: where somebody who comes, or comes back, begins to read.

use crate::ring::{Ring, Snap};

/// Snapshots that are further behind than this are asked to be made anew, for those who come next.
const FRAMES_BEHIND_MAX: u64 = 32;

/// The place in the ring, and what goes before the frames behind it.
#[derive(Debug)]
pub struct Arrival {
    pub position: u64,
    /// `None`: only what was missed is told.
    pub snapshot: Option<Snap>,
}

impl Arrival {
    /// Who stands at `seq` of the ring's own epoch, and is not too far behind, reads on from there; everybody else
    /// begins with the snapshot.
    pub fn at(ring: &Ring, epoch: Option<&str>, seq: Option<u64>) -> Self {
        let is_same_log = epoch == Some(ring.epoch());
        match seq.filter(|_| is_same_log).and_then(|seq| ring.position_after(seq)) {
            Some(position) => Self { position, snapshot: None },
            None => Self::anew(ring),
        }
    }

    /// From the snapshot on.
    pub fn anew(ring: &Ring) -> Self {
        let snapshot = ring.snapshot();
        if ring.head().saturating_sub(snapshot.position) > FRAMES_BEHIND_MAX {
            ring.want_snapshot();
        }
        Self { position: snapshot.position, snapshot: Some(snapshot) }
    }

    /// For a reader that fell off the ring: `None` while the snapshot there is was left behind by the ring too, and
    /// leads nowhere. A fresh one is on its way then.
    pub fn after_fall(ring: &Ring) -> Option<Self> {
        let arrival = Self::anew(ring);
        if ring.reaches_back_to(arrival.position) {
            return Some(arrival);
        }
        ring.want_snapshot();
        None
    }

    pub fn is_resumed(&self) -> bool {
        self.snapshot.is_none()
    }
}
