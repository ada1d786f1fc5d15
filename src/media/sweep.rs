//! Serving a room's viewers: one after another, round and round, a slice at a time.
//!
//! A slice is what the core's cache holds from sealing to the kernel's copy. Between two slices the socket is read and
//! written, so that the first viewers' packets leave before the last ones' are sealed and nobody's checks wait for a
//! picture's turn. What comes while a round is on its way goes along with it: the fuller a core is, the more packets of
//! a viewer share a send.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    registry::Burst,
    stage::{Stage, ntp_of_unix_ms},
    stats::Dropped,
    worker::Worker,
};
use crate::id::RoomId;

/// Bytes that may wait to be sent before the rest of the viewers do.
const SLICE_BYTES: usize = 256 << 10;
/// How often viewers who are behind are sent more.
const PACE: Duration = Duration::from_millis(5);

/// A room's viewers on one worker, and whose turn it is.
#[derive(Debug, Default)]
pub struct Round {
    viewers: Vec<u32>,
    next: usize,
    /// How many are still to be served.
    left: usize,
}

impl Round {
    /// There is something for everybody.
    pub fn begin(&mut self) {
        self.left = self.viewers.len();
    }

    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    pub fn is_empty(&self) -> bool {
        self.viewers.is_empty()
    }

    /// Whose turn it is.
    pub fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        if self.next >= self.viewers.len() {
            self.next = 0;
        }
        let viewer = *self.viewers.get(self.next)?;
        self.next += 1;
        Some(viewer)
    }

    pub fn push(&mut self, viewer: u32) {
        self.viewers.push(viewer);
        // Or the last of this round would be left out in her favour.
        self.left += usize::from(self.left > 0);
    }

    pub fn remove(&mut self, viewer: u32) {
        let Some(place) = self.viewers.iter().position(|other| *other == viewer) else { return };
        self.viewers.remove(place);
        self.next -= usize::from(place < self.next);
        self.left = self.left.min(self.viewers.len());
    }
}

/// Who is to be served.
#[derive(Default)]
pub struct Turns {
    /// Rooms whose round is not over.
    rooms: VecDeque<RoomId>,
    /// Viewers who were behind and may have more now.
    due: Vec<u32>,
    /// Those who may later, and when that is. Rounds that never end name the same ones again and again.
    lagging: BTreeSet<u32>,
    next_pace: Option<Instant>,
}

impl Turns {
    /// When viewers who are behind may have more; none while others are before them.
    pub fn next_pace(&self) -> Option<Instant> {
        self.next_pace.filter(|_| self.due.is_empty())
    }

    fn note_lagging(&mut self, viewer: u32, now: Instant) {
        self.lagging.insert(viewer);
        self.next_pace.get_or_insert(now + PACE);
    }

    /// Whoever is behind may have more, once those before are through.
    fn pace(&mut self, now: Instant) {
        if self.due.is_empty() && self.next_pace.is_some_and(|at| now >= at) {
            self.next_pace = None;
            self.due.extend(std::mem::take(&mut self.lagging));
        }
    }
}

impl Worker {
    /// A slice waits to be served, and the socket takes it.
    pub fn is_behind(&self) -> bool {
        self.egress.is_empty() && !(self.turns.rooms.is_empty() && self.turns.due.is_empty())
    }

    /// Takes a burst in, which is served to the room's viewers on this worker in the next turns.
    pub fn show(&mut self, burst: &Burst, now: Instant) {
        let Some(stage) = self.stages.get_mut(&burst.room) else { return };
        if !stage.admit(burst, ntp_of_unix_ms(self.registry.clock.now().0), now) {
            return self.counts.drop_many(Dropped::NotPublishing, burst.packets.len() as u64);
        }
        let was_over = stage.round.is_over();
        stage.round.begin();
        if stage.round.is_over() {
            stage.late.clear();
        } else if was_over {
            self.turns.rooms.push_back(burst.room.clone());
        }
    }

    /// Serves until a slice waits to be sent. A round comes before those who are behind, whom it serves as well.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.turns.pace(now);
        while self.egress.waiting() < SLICE_BYTES {
            if let Some(room) = self.turns.rooms.pop_front() {
                if !self.sweep_room(&room, now) {
                    self.turns.rooms.push_back(room);
                }
            } else if let Some(number) = self.turns.due.pop() {
                let room = self.peer(number).map(|peer| peer.session.room.id.clone());
                room.into_iter().for_each(|room| self.serve(&room, number, now));
            } else {
                return;
            }
        }
    }

    /// Goes on with a room's round, to the end of it or of the slice; true in the first case.
    fn sweep_room(&mut self, room: &RoomId, now: Instant) -> bool {
        let Some(Stage { round, feed: Some(feed), late }) = self.stages.get_mut(room) else { return true };
        let mut wanted = 0;
        while self.egress.waiting() < SLICE_BYTES
            && let Some(number) = round.next()
        {
            let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { continue };
            let served = peer.serve(feed, late, &mut self.egress, &mut self.counts, now);
            wanted |= served.wants;
            if served.lags {
                self.turns.note_lagging(number, now);
            }
        }
        let is_over = round.is_over();
        if is_over {
            late.clear();
        }
        self.want_keyframe(room, wanted);
        is_over
    }

    /// Sends one viewer what there is for her.
    pub(super) fn serve(&mut self, room: &RoomId, number: u32, now: Instant) {
        let Some(feed) = self.stages.get(room).and_then(|stage| stage.feed.as_ref()) else { return };
        let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { return };
        let served = peer.serve(feed, &[], &mut self.egress, &mut self.counts, now);
        if served.lags {
            self.turns.note_lagging(number, now);
        }
        self.want_keyframe(room, served.wants);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Deed {
        Join,
        Leave(usize),
        News,
        Serve(usize),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let deed = prop_oneof![
            Just(Deed::Join),
            (0..8usize).prop_map(Deed::Leave),
            Just(Deed::News),
            (1..6usize).prop_map(Deed::Serve),
        ];
        proptest::collection::vec(deed, 1..120)
    }

    proptest! {
        /// Who comes, goes and in which slices: whoever was there when there was news, and stays, has it at the end.
        #[test]
        fn a_round_leaves_nobody_out(deeds in deeds()) {
            let (mut round, mut here, mut waiting) = (Round::default(), Vec::new(), BTreeSet::new());
            for (number, deed) in deeds.into_iter().enumerate() {
                match deed {
                    Deed::Join => {
                        round.push(number as u32);
                        here.push(number as u32);
                    }
                    Deed::Leave(place) if !here.is_empty() => {
                        let gone = here.remove(place % here.len());
                        round.remove(gone);
                        waiting.remove(&gone);
                    }
                    Deed::Leave(_) => {}
                    Deed::News => {
                        round.begin();
                        waiting.extend(&here);
                    }
                    Deed::Serve(slice) => {
                        for viewer in std::iter::from_fn(|| round.next()).take(slice) {
                            prop_assert!(here.contains(&viewer));
                            waiting.remove(&viewer);
                        }
                    }
                }
                prop_assert!(round.left <= here.len());
                prop_assert!(!round.is_over() || waiting.is_empty(), "{:?} were left out", waiting);
            }
            let rest: BTreeSet<u32> = std::iter::from_fn(|| round.next()).collect();
            prop_assert!(waiting.is_subset(&rest));
        }
    }

    #[test]
    fn a_round_serves_everybody_once() {
        let mut round = Round::default();
        (0..5).for_each(|viewer| round.push(viewer));
        round.begin();
        let first: Vec<u32> = std::iter::from_fn(|| round.next()).take(3).collect();
        round.begin();
        let second: Vec<u32> = std::iter::from_fn(|| round.next()).collect();
        assert_eq!((first, second), (vec![0, 1, 2], vec![3, 4, 0, 1, 2]));
    }

    #[test]
    fn those_behind_are_paced_and_none_is_listed_twice() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        [3, 1, 3].into_iter().for_each(|viewer| turns.note_lagging(viewer, now));
        turns.pace(now);
        assert!(turns.due.is_empty(), "not yet");
        turns.pace(now + PACE);
        assert_eq!(turns.due, [1, 3]);
        turns.note_lagging(1, now + PACE);
        turns.pace(now + 2 * PACE);
        assert_eq!((turns.due.len(), turns.lagging.len()), (2, 1), "those before come first");
    }
}
