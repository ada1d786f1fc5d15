use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    protocol::CloseCode,
    ring::{Ring, Snap, Wire},
};

/// What waits for one connection, put in from any thread and taken out by its shard.
///
/// Bounded by items and bytes: what does not fit empties it, and all that is left to say is the close with 3001.
pub(super) struct Mailbox {
    pub(super) id: u64,
    key: usize,
    bell: Arc<Bell>,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

pub(super) enum Item {
    Text(Wire),
    Follow { ring: Arc<Ring>, position: u64, first: Option<Snap> },
    Close { code: CloseCode, reason: String },
}

struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// Nothing goes in any more: the connection ends with this close code.
    ended: Option<u16>,
    rung: bool,
}

/// Tells a shard which of its connections have something waiting; each is in the list at most once.
pub(super) struct Bell {
    /// Of each mailbox.
    limits: Limits,
    waiting: Mutex<Vec<usize>>,
    pub(super) rung: Notify,
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Text(wire) => wire.bytes().len(),
            Self::Follow { first, .. } => first.as_ref().map_or(0, |snapshot| snapshot.wire.bytes().len()),
            Self::Close { .. } => 0,
        }
    }
}

impl Mailbox {
    pub(super) fn new(id: u64, key: usize, bell: Arc<Bell>) -> Arc<Self> {
        let state = State { items: VecDeque::new(), bytes: 0, ended: None, rung: false };
        Arc::new(Self { id, key, bell, state: Mutex::new(state) })
    }

    /// Whether `item` was taken in; if not, the connection ends.
    pub(super) fn put(&self, item: Item) -> bool {
        let mut state = self.state();
        if state.ended.is_some() {
            return false;
        }
        let len = item.len();
        let too_many = state.items.len() >= self.bell.limits.items;
        let too_long = !state.items.is_empty() && state.bytes + len > self.bell.limits.bytes;

        let fits = match &item {
            Item::Close { code, .. } => {
                state.ended = Some(code.number());
                true
            }
            _ => !(too_many || too_long),
        };
        if fits {
            state.bytes += len;
            state.items.push_back(item);
        } else {
            let code = CloseCode::Slow;
            (state.ended, state.bytes) = (Some(code.number()), 0);
            state.items.clear();
            state.items.push_back(Item::Close { code, reason: "too many replies unread".to_owned() });
        }
        self.ring(state);
        fits
    }

    pub(super) fn take(&self) -> Option<Item> {
        let mut state = self.state();
        let item = state.items.pop_front()?;
        state.bytes -= item.len();
        if state.items.is_empty() {
            state.items = VecDeque::new();
        }
        Some(item)
    }

    pub(super) fn len(&self) -> usize {
        self.state().items.len()
    }

    /// The close code that the connection ends with, when that is decided.
    pub(super) fn ended(&self) -> Option<u16> {
        self.state().ended
    }

    /// Nothing more is said to the client: what waits is dropped, and nothing more goes in.
    pub(super) fn end(&self, code: u16) {
        let mut state = self.state();
        state.ended.get_or_insert(code);
        state.bytes = 0;
        state.items = VecDeque::new();
    }

    /// The shard has seen this connection in the bell's list.
    pub(super) fn heard(&self) {
        self.state().rung = false;
    }

    fn ring(&self, mut state: MutexGuard<'_, State>) {
        if mem::replace(&mut state.rung, true) {
            return;
        }
        drop(state);
        self.bell.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(self.key);
        self.bell.rung.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, waiting: Mutex::default(), rung: Notify::new() })
    }

    /// Swaps the list of connections with something waiting into `keys`, which must be empty.
    pub(super) fn answer(&self, keys: &mut Vec<usize>) {
        mem::swap(keys, &mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
