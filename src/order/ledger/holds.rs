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

/// Holds that are passed over at a time.
const PASSED_OVER_MAX: usize = 1_024;

#[derive(Debug)]
pub struct Holds {
    by_id: SplitMap<HoldId, Slot>,
    /// Holds by the time at which they expire, as nearly all are made: in this order. Those that did not wait for it are
    /// passed over when it comes.
    due: VecDeque<(UnixMs, HoldId)>,
    /// Open holds that are out of that order: they were given more time.
    due_later: BTreeSet<(UnixMs, HoldId)>,
    open: usize,
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
        Self {
            by_id: SplitMap::with_capacity(expected),
            due: VecDeque::with_capacity(expected),
            due_later: BTreeSet::new(),
            open: 0,
            leaving: VecDeque::new(),
        }
    }

    /// Open holds of everybody.
    pub fn open(&self) -> usize {
        self.open
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
        let due = (view.standing.state == State::Held).then_some(view.standing.expires_at);
        let as_made = !view.standing.extended(&view.held);
        let is_new = self.by_id.insert(id, Slot { view, kept, changed_at }).is_none();
        if let (true, Some(at)) = (is_new, due) {
            self.wait(at, id, as_made);
        }
        is_new
    }

    /// An open hold waits for its time: behind all others when that is the one it was made with.
    fn wait(&mut self, at: UnixMs, id: HoldId, as_made: bool) {
        self.open += 1;
        if as_made && self.due.back().is_none_or(|(last, _)| *last <= at) {
            self.due.push_back((at, id));
        } else {
            self.due_later.insert((at, id));
        }
    }

    /// It waits no longer, or not for this time.
    fn wait_no_longer(&mut self, at: UnixMs, id: HoldId) {
        self.open -= 1;
        self.due_later.remove(&(at, id));
    }

    fn waits(&self, at: UnixMs, id: &HoldId) -> bool {
        let standing = self.get(id).map(|view| &view.standing);
        standing.is_some_and(|standing| standing.state == State::Held && standing.expires_at == at)
    }

    /// How a hold stands from now on.
    pub fn stand(&mut self, id: &HoldId, standing: Standing, now: UnixMs) {
        let slot = self.by_id.get_mut(id).expect("only holds in memory change");
        let before = std::mem::replace(&mut slot.view.standing, standing);
        slot.changed_at = now;
        let (is, was) = (slot.view.standing.state == State::Held, before.state == State::Held);
        let (at, leaves) = (slot.view.standing.expires_at, was && !is && !slot.kept);
        if was {
            self.wait_no_longer(before.expires_at, *id);
        }
        if is {
            self.wait(at, *id, false);
        } else if leaves {
            self.leaving.push_back((now.plus(LINGER), *id));
        }
    }

    /// The open hold that has been due for the longest. `None` also when very many before it did not wait for their time:
    /// it is found the next time.
    pub fn next_due(&mut self, now: UnixMs) -> Option<HoldId> {
        for _ in 0..PASSED_OVER_MAX {
            let (at, id) = self.next().filter(|(at, _)| *at <= now)?;
            if self.waits(at, &id) {
                return Some(id);
            }
            self.due.pop_front();
        }
        None
    }

    /// No open hold expires before this.
    pub fn earliest_due(&self) -> Option<UnixMs> {
        self.next().map(|(at, _)| at)
    }

    fn next(&self) -> Option<(UnixMs, HoldId)> {
        self.due.front().into_iter().chain(self.due_later.first()).min().copied()
    }

    /// The holds that are open.
    pub fn all_open(&self) -> impl Iterator<Item = &View> {
        let in_order = self.due.iter().filter(|(at, id)| self.waits(*at, id));
        in_order.chain(&self.due_later).filter_map(|(_, id)| self.get(id))
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
