//! Idempotency keys that were accepted, and what each was answered.

use std::collections::VecDeque;

use crate::{
    clock::UnixMs,
    id::HoldId,
    order::{
        refusal::Refusal,
        request::{Key, KeyId},
        split_map::SplitMap,
    },
    protocol::StockCount,
};

/// What an accepted key was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    Hold(HoldId),
    /// The order, and what was refunded of each line after it.
    Refund(HoldId, Box<[u32]>),
    Adjust(StockCount),
}

#[derive(Debug)]
pub struct Keys {
    known: SplitMap<KeyId, ([u8; 16], Known)>,
    by_age: VecDeque<(UnixMs, KeyId)>,
}

impl Keys {
    pub fn new(expected: usize) -> Self {
        Self { known: SplitMap::with_capacity(expected), by_age: VecDeque::with_capacity(expected) }
    }

    /// What the key was answered before. Refused when it came with another body then.
    pub fn recall(&self, key: Key) -> Result<Option<&Known>, Refusal> {
        match self.known.get(&key.id) {
            None => Ok(None),
            Some((body, known)) if *body == key.body => Ok(Some(known)),
            Some(_) => Err(Refusal::KeyReused),
        }
    }

    /// Keys are remembered in the order of their acceptance.
    pub fn remember(&mut self, key: Key, known: Known, at: UnixMs) {
        self.known.insert(key.id, (key.body, known));
        self.by_age.push_back((at, key.id));
    }

    /// As [`Keys::remember`], unless the key is known already: then it gives back what it was given.
    pub fn remember_new(&mut self, key: Key, known: Known, at: UnixMs) -> Option<Known> {
        let refused = self.known.add(key.id, (key.body, known));
        if refused.is_none() {
            self.by_age.push_back((at, key.id));
        }
        refused.map(|(_, known)| known)
    }

    /// Forgets all keys, and gives them back in the order of their age.
    pub fn take_all(&mut self) -> Vec<(UnixMs, Key, Known)> {
        let taken = self.by_age.drain(..).map(|(at, id)| {
            let (body, known) = self.known.remove(&id).expect("a key in the queue is known");
            (at, Key { id, body }, known)
        });
        taken.collect()
    }

    /// As [`Keys::remember`], of a key older than all others. `false`: a younger one is the same, and stays.
    pub fn remember_older(&mut self, key: Key, known: Known, at: UnixMs) -> bool {
        let is_new = self.known.add(key.id, (key.body, known)).is_none();
        if is_new {
            self.by_age.push_front((at, key.id));
        }
        is_new
    }

    /// Forgets one key accepted at or before `until`.
    pub fn forget_one(&mut self, until: UnixMs) -> Option<(KeyId, Known)> {
        self.by_age.front().filter(|(at, _)| *at <= until)?;
        let (_, id) = self.by_age.pop_front()?;
        let (_, known) = self.known.remove(&id).expect("a key in the queue is known");
        Some((id, known))
    }

    pub fn len(&self) -> usize {
        self.by_age.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&KeyId, &Known)> {
        self.known.iter().map(|(id, (_, known))| (id, known))
    }
}
