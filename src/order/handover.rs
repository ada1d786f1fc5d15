//! From the owner thread to the journal thread: while one batch is committed the next one fills.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hashbrown::{HashMap, hash_map::Entry};
use tokio::sync::oneshot;

use crate::{
    id::SkuId,
    order::{
        Answered,
        chain::Grown,
        hold::View,
        refusal::Refusal,
        store::{Checkpoint, Seal},
        tx::Tx,
    },
    protocol::StockCount,
};

pub type Outcome<T> = Result<Answered<T>, Refusal>;
pub type Reply<T> = oneshot::Sender<Outcome<T>>;

/// An answer that waits for the commit. Nobody may be there any more to hear it.
#[derive(Debug)]
pub enum Waiting {
    View(Reply<View>, Outcome<View>),
    Count(Reply<StockCount>, Outcome<StockCount>),
    Counts(Reply<Vec<(SkuId, StockCount)>>, Outcome<Vec<(SkuId, StockCount)>>),
    Tx(Reply<u64>, Outcome<u64>),
}

impl Waiting {
    pub fn tell(self) {
        match self {
            Self::View(reply, outcome) => drop(reply.send(outcome)),
            Self::Count(reply, outcome) => drop(reply.send(outcome)),
            Self::Counts(reply, outcome) => drop(reply.send(outcome)),
            Self::Tx(reply, outcome) => drop(reply.send(outcome)),
        }
    }
}

/// What was decided and is not committed yet.
#[derive(Debug, Default)]
pub struct Decisions {
    pub txs: Vec<Tx>,
    /// One for each entry of the transactions, in their order.
    pub seals: Vec<Seal>,
    /// The chains that grow by them, by the numbers of their SKUs.
    pub grown: HashMap<u32, Grown>,
    pub answers: Vec<Waiting>,
}

impl Decisions {
    pub fn is_empty(&self) -> bool {
        self.txs.is_empty() && self.answers.is_empty()
    }

    /// Leaves nothing in `more` but room.
    fn append(&mut self, more: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, more);
            return;
        }
        self.txs.append(&mut more.txs);
        self.seals.append(&mut more.seals);
        self.answers.append(&mut more.answers);
        for (no, grown) in more.grown.drain() {
            match self.grown.entry(no) {
                Entry::Occupied(mut before) => before.get_mut().grow(grown),
                Entry::Vacant(none) => drop(none.insert(grown)),
            }
        }
    }

    fn len(&self) -> usize {
        self.txs.len().max(self.answers.len())
    }
}

/// What the journal found.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    Batch,
    /// Nothing within the time it waited.
    Nothing,
    /// Nothing, and nothing will come.
    Closed,
}

#[derive(Debug)]
pub struct Handover {
    slot: Mutex<Slot>,
    filled: Condvar,
    taken: Condvar,
    batch_max: usize,
}

#[derive(Debug, Default)]
struct Slot {
    next: Decisions,
    checkpoint: Option<Checkpoint>,
    closed: bool,
    /// Who is to be woken: nobody else costs a system call.
    journal_sleeps: bool,
    owner_sleeps: bool,
}

impl Handover {
    pub fn new(batch_max: usize) -> Self {
        Self { slot: Mutex::default(), filled: Condvar::new(), taken: Condvar::new(), batch_max }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the next batch, waiting while it is full. `false`: the journal has ended.
    pub fn put(&self, decisions: &mut Decisions) -> bool {
        let full = |slot: &mut Slot| {
            slot.owner_sleeps = slot.next.len() >= self.batch_max && !slot.closed;
            slot.owner_sleeps
        };
        let mut slot = self.taken.wait_while(self.slot(), full).unwrap_or_else(PoisonError::into_inner);
        if slot.closed {
            return false;
        }
        slot.next.append(decisions);
        let wake = std::mem::take(&mut slot.journal_sleeps);
        drop(slot);
        if wake {
            self.filled.notify_one();
        }
        true
    }

    /// Transactions in the next batch.
    pub fn waiting(&self) -> usize {
        self.slot().next.txs.len()
    }

    /// Takes the next batch into `empty`, waiting for it up to `wait`.
    pub fn take(&self, empty: &mut Decisions, wait: Duration) -> Taken {
        let none = |slot: &mut Slot| {
            slot.journal_sleeps = slot.next.is_empty() && !slot.closed;
            slot.journal_sleeps
        };
        let waited = self.filled.wait_timeout_while(self.slot(), wait, none);
        let (mut slot, _) = waited.unwrap_or_else(PoisonError::into_inner);
        slot.journal_sleeps = false;
        if slot.next.is_empty() {
            return if slot.closed { Taken::Closed } else { Taken::Nothing };
        }
        std::mem::swap(&mut slot.next, empty);
        let wake = std::mem::take(&mut slot.owner_sleeps);
        drop(slot);
        if wake {
            self.taken.notify_one();
        }
        Taken::Batch
    }

    /// The owner has ended: after what is left the journal writes `checkpoint`.
    pub fn finish(&self, checkpoint: Option<Checkpoint>) {
        self.slot().checkpoint = checkpoint;
        self.close();
    }

    pub fn take_checkpoint(&self) -> Option<Checkpoint> {
        self.slot().checkpoint.take()
    }

    /// Nothing goes on: what waits here is dropped, and so are the answers in it.
    pub fn abandon(&self) {
        self.close();
        drop(std::mem::take(&mut self.slot().next));
    }

    /// One side has ended: the journal takes what is left, the owner puts nothing more.
    pub fn close(&self) {
        self.slot().closed = true;
        self.filled.notify_all();
        self.taken.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> (Decisions, oneshot::Receiver<Outcome<u64>>) {
        let (reply, heard) = oneshot::channel();
        let waiting = Waiting::Tx(reply, Ok(Answered { value: 1, replayed: false }));
        (Decisions { answers: vec![waiting], ..Decisions::default() }, heard)
    }

    #[test]
    fn what_was_put_is_taken_once_and_before_the_end() {
        let handover = Handover::new(10);
        let (mut decisions, mut heard) = answer();
        assert!(handover.put(&mut decisions));
        handover.close();
        let mut batch = Decisions::default();
        assert_eq!(handover.take(&mut batch, Duration::ZERO), Taken::Batch);
        batch.answers.drain(..).for_each(Waiting::tell);
        assert!(heard.try_recv().is_ok());
        assert_eq!(handover.take(&mut batch, Duration::ZERO), Taken::Closed);
        assert!(!handover.put(&mut answer().0));
    }

    #[test]
    fn after_a_failure_nobody_waits_for_an_answer_that_will_not_come() {
        let handover = Handover::new(10);
        let (mut decisions, mut heard) = answer();
        assert!(handover.put(&mut decisions));
        handover.abandon();
        assert!(matches!(heard.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert_eq!(handover.take(&mut decisions, Duration::ZERO), Taken::Closed);
    }

    #[test]
    fn a_full_batch_makes_the_owner_wait_until_it_is_taken() {
        let handover = Handover::new(1);
        assert!(handover.put(&mut answer().0));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| handover.put(&mut answer().0));
            let mut batch = Decisions::default();
            assert_eq!(handover.take(&mut batch, Duration::from_secs(10)), Taken::Batch);
            assert_eq!(batch.answers.len(), 1);
            batch.answers.clear();
            assert!(second.join().unwrap());
            assert_eq!(handover.take(&mut batch, Duration::from_secs(10)), Taken::Batch);
        });
    }
}
