//! The holds in memory: all that are open, and those whose keys may still be asked for.
//!
//! Others are only in the store. A command about one of those makes the desk read it and send it in again as a guest.
//! What changed stays for an hour after, so that no older reading of it can come in again.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    clock::UnixMs,
    id::HoldId,
    order::{
        hold::{Standing, State, View},
        refusal::Refusal,
        request::Party,
        split_map::SplitMap,
    },
};

/// How long a hold stays after its last change, whatever else.
const LINGER: Duration = Duration::from_secs(3_600);
/// A guest that was read longer ago than this is not let in.
const READING_AGE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Holds {
    by_id: SplitMap<HoldId, Slot>,
    /// Open holds by the time at which they expire.
    due: BTreeSet<(UnixMs, HoldId)>,
    /// Holds that are to go, by the time at which they may.
    leaving: VecDeque<(UnixMs, HoldId)>,
}

#[derive(Debug)]
struct Slot {
    view: View,
    /// Its key is remembered.
    kept: bool,
    changed_at: UnixMs,
}

impl Holds {
    pub fn new(expected: usize) -> Self {
        Self { by_id: SplitMap::with_capacity(expected), due: BTreeSet::new(), leaving: VecDeque::new() }
    }

    /// Open holds of everybody.
    pub fn open(&self) -> usize {
        self.due.len()
    }

    pub fn get(&self, id: &HoldId) -> Option<&View> {
        self.by_id.get(id).map(|slot| &slot.view)
    }

    /// The hold if `by` may know of it.
    pub fn visible(&self, id: &HoldId, by: &Party) -> Result<View, Refusal> {
        self.get(id).filter(|view| view.visible_to(by)).cloned().ok_or(Refusal::UnknownHold)
    }

    /// A new hold, or one from the store. `kept`: its key is remembered. `false`: it was there already.
    pub fn add(&mut self, view: View, kept: bool) -> bool {
        let (id, changed_at) = (view.held.id, view.held.made_at);
        if view.standing.state == State::Held {
            self.due.insert((view.standing.expires_at, id));
        }
        self.by_id.insert(id, Slot { view, kept, changed_at }).is_none()
    }

    /// How a hold stands from now on.
    pub fn stand(&mut self, id: &HoldId, standing: Standing, now: UnixMs) {
        let slot = self.by_id.get_mut(id).expect("only holds in memory change");
        let before = std::mem::replace(&mut slot.view.standing, standing);
        slot.changed_at = now;
        if before.state == State::Held {
            self.due.remove(&(before.expires_at, *id));
        }
        if slot.view.standing.state == State::Held {
            self.due.insert((slot.view.standing.expires_at, *id));
        } else if before.state == State::Held && !slot.kept {
            self.leaving.push_back((now.plus(LINGER), *id));
        }
    }

    /// The open hold that has been due for the longest.
    pub fn next_due(&self, now: UnixMs) -> Option<HoldId> {
        self.due.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// The holds that are open, the next to expire first.
    pub fn all_open(&self) -> impl Iterator<Item = &View> {
        self.due.iter().filter_map(|(_, id)| self.get(id))
    }

    pub fn earliest_due(&self) -> Option<UnixMs> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Its key is no longer remembered: it goes once it is closed and has been for a while.
    pub fn forget(&mut self, id: &HoldId, now: UnixMs) {
        if let Some(slot) = self.by_id.get_mut(id) {
            slot.kept = false;
            self.leave(id, now);
        }
    }

    fn leave(&mut self, id: &HoldId, now: UnixMs) {
        let Some(slot) = self.by_id.get(id) else { return };
        let may_go_at = slot.changed_at.plus(LINGER);
        if slot.kept || slot.view.standing.state == State::Held {
            return;
        }
        if may_go_at <= now {
            self.by_id.remove(id);
        } else {
            self.leaving.push_back((may_go_at, *id));
        }
    }

    /// Takes in a closed hold that was read from the store at `read_at`, so that a command can change it.
    pub fn invite(&mut self, view: View, read_at: UnixMs, now: UnixMs) {
        let id = view.held.id;
        let closed = view.standing.state != State::Held;
        if closed && now.since(read_at) <= READING_AGE_MAX && !self.by_id.contains_key(&id) {
            self.by_id.insert(id, Slot { view, kept: false, changed_at: now });
            self.leaving.push_back((now.plus(LINGER), id));
        }
    }

    /// Lets go up to `max` holds whose time has come.
    pub fn dismiss(&mut self, now: UnixMs, max: usize) {
        for _ in 0..max {
            let Some((_, id)) = self.leaving.front().filter(|(at, _)| *at <= now).copied() else { break };
            self.leaving.pop_front();
            self.leave(&id, now);
        }
    }
}
