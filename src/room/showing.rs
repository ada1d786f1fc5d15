//! `Showing`: what the audience is shown of a room. It decides nothing and waits for nothing: what was logged is folded,
//! encoded once and put into the ring, whose snapshot it keeps fresh.

use std::sync::Arc;

use crate::{
    protocol::{Body, Class, Event, Frame, Snapshot, Tally},
    ring::{Encoded, Ring},
    room::state::State,
};

/// Frames after which the ring's snapshot is made anew, so that no joiner reads on for long.
const FRAMES_PER_SNAPSHOT: u64 = 64;

/// What viewers were not shown of a step, because it was more than anybody could read. All of it is on the tape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    pub comments: u32,
    pub sales: u32,
}

impl LeftOut {
    fn of(events: &[(Event, bool)]) -> Self {
        let mut left_out = Self::default();
        for (event, _) in events.iter().filter(|(_, shown)| !shown) {
            let count =
                if matches!(event.body, Body::Sold { .. }) { &mut left_out.sales } else { &mut left_out.comments };
            *count = count.saturating_add(1);
        }
        left_out
    }
}

pub struct Showing {
    state: State,
    ring: Arc<Ring>,
    frames_since_snapshot: u64,
}

impl Showing {
    /// The ring must stand where the state does.
    pub fn new(state: State, ring: Arc<Ring>) -> Self {
        Self { state, ring, frames_since_snapshot: 0 }
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Whether these do not wait for the end of a tick.
    pub fn is_urgent(events: &[(Event, bool)]) -> bool {
        events.iter().any(|(event, _)| event.body.class() == Class::State)
    }

    /// Shows what was logged, each event with whether viewers see it. Returns what they do not.
    pub fn show(&mut self, events: &[(Event, bool)], viewers: u64) -> LeftOut {
        let Some((last, _)) = events.last() else { return LeftOut::default() };
        let (prev, seq) = (self.state.seq, last.seq);
        for (event, shown) in events {
            self.state.fold(event, *shown);
        }
        let shown: Vec<Event> = events.iter().filter(|(_, shown)| *shown).map(|(event, _)| event.clone()).collect();
        let left_out = LeftOut::of(events);
        let told = |count: u32| (count > 0).then_some(count);
        let (comments, sales) = (told(left_out.comments), told(left_out.sales));
        let frame = Frame { prev, seq, events: shown, tally: None, left_out: comments, sales_left_out: sales };
        self.push(&frame, Self::is_urgent(events), viewers);
        left_out
    }

    /// Shows the latest sums. They move no sequence number.
    pub fn tell(&mut self, tally: Tally) {
        self.state.likes = tally.likes;
        let seq = self.state.seq;
        let (left_out, sales_left_out) = (None, None);
        let frame = Frame { prev: seq, seq, events: vec![], tally: Some(tally), left_out, sales_left_out };
        self.push(&frame, false, tally.viewers);
    }

    /// Makes the ring's snapshot anew when somebody asked for it.
    pub fn refresh_if_wanted(&mut self, viewers: u64) {
        if self.ring.snapshot_wanted() {
            self.refresh(viewers);
        }
    }

    pub fn refresh(&mut self, viewers: u64) {
        self.ring.set_snapshot(self.state.seq, snapshot_text(&self.state, self.ring.epoch(), viewers));
        self.frames_since_snapshot = 0;
    }

    pub fn snapshot(&self, viewers: u64) -> Snapshot {
        self.state.snapshot(self.ring.epoch(), viewers)
    }

    fn push(&mut self, frame: &Frame, urgent: bool, viewers: u64) {
        self.ring.push(Encoded::frame(frame, urgent));
        self.frames_since_snapshot += 1;
        if self.frames_since_snapshot >= FRAMES_PER_SNAPSHOT || self.ring.snapshot_wanted() {
            self.refresh(viewers);
        }
    }
}

/// `{"snapshot":{...}}`, as a joiner receives it.
pub fn snapshot_text(state: &State, epoch: &str, viewers: u64) -> String {
    #[derive(serde::Serialize)]
    struct Wrapped {
        snapshot: Snapshot,
    }
    let snapshot = state.snapshot(epoch, viewers);
    serde_json::to_string(&Wrapped { snapshot }).expect("a snapshot is plain data with text keys")
}
