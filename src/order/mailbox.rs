//! What waits for the owner thread, in the order of its arrival.
//!
//! The owner takes a round at a time, and is woken only when it sleeps: under load a request costs its sender one short
//! lock and no system call.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

#[derive(Debug)]
pub struct Mailbox<T> {
    slot: Mutex<Slot<T>>,
    filled: Condvar,
    max: usize,
}

#[derive(Debug)]
struct Slot<T> {
    waiting: VecDeque<T>,
    owner_sleeps: bool,
    closed: bool,
}

/// Why something was not taken in.
#[derive(Debug, PartialEq, Eq)]
pub enum Unsent<T> {
    Full(T),
    Closed(T),
}

impl<T> Mailbox<T> {
    /// At most `max` wait; what the owner has taken waits no longer.
    pub fn new(max: usize) -> Self {
        let slot = Slot { waiting: VecDeque::new(), owner_sleeps: false, closed: false };
        Self { slot: Mutex::new(slot), filled: Condvar::new(), max }
    }

    fn slot(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn send(&self, ask: T) -> Result<(), Unsent<T>> {
        let mut slot = self.slot();
        if slot.closed {
            return Err(Unsent::Closed(ask));
        }
        if slot.waiting.len() >= self.max {
            return Err(Unsent::Full(ask));
        }
        slot.waiting.push_back(ask);
        let wake = std::mem::take(&mut slot.owner_sleeps);
        drop(slot);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes up to `most` of what waits into `taken`, waiting for something up to `wait`. `false`: it is closed, and this
    /// was the last of it.
    pub fn take(&self, taken: &mut Vec<T>, most: usize, wait: Duration) -> bool {
        let nothing = |slot: &mut Slot<T>| {
            slot.owner_sleeps = slot.waiting.is_empty() && !slot.closed;
            slot.owner_sleeps
        };
        let waited = self.filled.wait_timeout_while(self.slot(), wait, nothing);
        let (mut slot, _) = waited.unwrap_or_else(PoisonError::into_inner);
        slot.owner_sleeps = false;
        let count = slot.waiting.len().min(most);
        taken.extend(slot.waiting.drain(..count));
        !(slot.closed && slot.waiting.is_empty())
    }

    pub fn len(&self) -> usize {
        self.slot().waiting.len()
    }

    pub fn is_closed(&self) -> bool {
        self.slot().closed
    }

    /// Nothing more is taken in.
    pub fn close(&self) {
        self.slot().closed = true;
        self.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn everything_is_taken_once_and_in_order() {
        let mailbox = Mailbox::new(1_000_000);
        let mut taken = Vec::new();
        thread::scope(|scope| {
            for sender in 0..4u32 {
                let mailbox = &mailbox;
                scope.spawn(move || (0..5_000u32).for_each(|n| mailbox.send((sender, n)).unwrap()));
            }
            let mut some = Vec::new();
            while taken.len() < 20_000 {
                assert!(mailbox.take(&mut some, 100, LONG));
                taken.append(&mut some);
            }
        });
        for sender in 0..4 {
            let of_sender = taken.iter().filter(|(s, _)| *s == sender).map(|(_, n)| *n);
            assert!(of_sender.eq(0..5_000));
        }
    }

    #[test]
    fn a_full_one_gives_back_and_a_closed_one_is_emptied_first() {
        let mailbox = Mailbox::new(2);
        assert_eq!((mailbox.send(1), mailbox.send(2), mailbox.send(3)), (Ok(()), Ok(()), Err(Unsent::Full(3))));
        mailbox.close();
        assert_eq!(mailbox.send(4), Err(Unsent::Closed(4)));
        let mut taken = Vec::new();
        assert!(mailbox.take(&mut taken, 1, LONG), "there is more");
        assert!(!mailbox.take(&mut taken, 10, LONG), "it is closed");
        assert_eq!(taken, [1, 2]);
    }

    #[test]
    fn the_owner_wakes_when_it_is_closed_and_when_its_time_is_over() {
        let mailbox = Mailbox::<u8>::new(2);
        assert!(mailbox.take(&mut Vec::new(), 1, Duration::ZERO));
        thread::scope(|scope| {
            let owner = scope.spawn(|| mailbox.take(&mut Vec::new(), 1, LONG));
            mailbox.close();
            assert!(!owner.join().unwrap());
        });
    }
}
