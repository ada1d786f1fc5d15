//! What the desk and the media workers tell a room, until the room takes it.
//!
//! Telling never waits, so that a room that is stuck holds up nobody else. What is a state merges: of a SKU's counts,
//! of a product and of the picture only the newest waits. Adjustments and sales wait one by one up to a bound; beyond
//! it they are left out of this room's log, and counted: the ledger has them, and the counts that they made are told.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{
    id::{ProductId, SkuId},
    room::Command,
};

/// Adjustments and sales that wait for one room.
const ONE_BY_ONE_MAX: usize = 4_096;

/// What a newer notice of the same kind replaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Counts(SkuId),
    Product(ProductId),
    Picture,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order in which they came: a state stands where its oldest notice stood.
    queue: VecDeque<Place>,
    states: HashMap<State, Command>,
    one_by_one: usize,
}

#[derive(Debug)]
enum Place {
    State(State),
    One(Command),
}

#[derive(Debug, Default)]
pub(super) struct Notices {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

impl Notices {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a notice. `false`: too many wait, it is left out.
    pub fn post(&self, notice: Command) -> bool {
        let mut waiting = self.waiting();
        match state_of(&notice) {
            Some(state) => {
                if waiting.states.insert(state.clone(), notice).is_none() {
                    waiting.queue.push_back(Place::State(state));
                }
            }
            None if waiting.one_by_one >= ONE_BY_ONE_MAX => return false,
            None => {
                waiting.one_by_one += 1;
                waiting.queue.push_back(Place::One(notice));
            }
        }
        drop(waiting);
        self.arrived.notify_one();
        true
    }

    /// Until there is something to take. Only the room waits here.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes up to `max` notices. When more are left, [`Notices::arrived`] is ready again at once.
    pub fn take(&self, max: usize) -> Vec<Command> {
        let mut waiting = self.waiting();
        let count = waiting.queue.len().min(max);
        let places: Vec<Place> = waiting.queue.drain(..count).collect();
        let taken = places.into_iter().filter_map(|place| match place {
            Place::State(state) => waiting.states.remove(&state),
            Place::One(notice) => {
                waiting.one_by_one -= 1;
                Some(notice)
            }
        });
        let taken = taken.collect();
        if !waiting.queue.is_empty() {
            self.arrived.notify_one();
        }
        taken
    }
}

fn state_of(notice: &Command) -> Option<State> {
    match notice {
        Command::Stock { sku, .. } => Some(State::Counts(sku.clone())),
        Command::ProductChanged(product) => Some(State::Product(product.id.clone())),
        Command::Media { .. } => Some(State::Picture),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::StockCount;

    fn counts(sku: &str, entry: u64) -> Command {
        let count = StockCount { available: 1, held: 0, sold: 0, entry };
        Command::Stock { sku: sku.parse().unwrap(), count, hash: String::new() }
    }

    fn adjusted(entry: u64) -> Command {
        Command::Adjusted { sku: "red".parse().unwrap(), delta: 1, reason: String::new(), entry }
    }

    fn told(commands: &[Command]) -> Vec<String> {
        let told = |command: &Command| match command {
            Command::Stock { sku, count, .. } => format!("{sku} {}", count.entry),
            Command::Adjusted { entry, .. } => format!("adjusted {entry}"),
            other => format!("{other:?}"),
        };
        commands.iter().map(told).collect()
    }

    #[test]
    fn counts_merge_and_adjustments_do_not() {
        let notices = Notices::default();
        for notice in
            [counts("red", 1), adjusted(2), counts("blue", 1), counts("red", 2), adjusted(3), counts("red", 3)]
        {
            assert!(notices.post(notice));
        }
        assert_eq!(told(&notices.take(10)), ["red 3", "adjusted 2", "blue 1", "adjusted 3"]);
        assert!(notices.take(10).is_empty());
        assert!(notices.post(counts("red", 4)));
        assert_eq!(told(&notices.take(10)), ["red 4"]);
    }

    #[tokio::test]
    async fn beyond_the_bound_adjustments_are_left_out_and_counts_are_not() {
        let notices = Notices::default();
        let kept = (0..2 * ONE_BY_ONE_MAX as u64).filter(|entry| notices.post(adjusted(*entry))).count();
        assert_eq!(kept, ONE_BY_ONE_MAX);
        assert!((0..100_000).all(|entry| notices.post(counts("red", entry))));
        let mut taken = 0;
        while taken <= ONE_BY_ONE_MAX {
            notices.arrived().await;
            taken += notices.take(1_000).len();
        }
        assert_eq!(taken, ONE_BY_ONE_MAX + 1);
        assert!(notices.post(adjusted(0)), "once they are taken there is room again");
    }
}
