use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

use super::deeds::What;

/// What is to happen to one viewer at a time.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    Connect,
    /// The network breaks, if it is still this connection.
    Cut {
        connection: u32,
    },
    Do(What),
}

/// Things to come, the earliest first.
#[derive(Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    waiting: std::collections::HashMap<u64, (usize, Due)>,
    next: u64,
}

impl Timers {
    pub fn at(&mut self, at: Instant, who: usize, due: Due) {
        self.heap.push(Reverse((at, self.next)));
        self.waiting.insert(self.next, (who, due));
        self.next += 1;
    }

    /// The next one that is due until `now`, and when it was.
    pub fn next(&mut self, now: Instant) -> Option<(Instant, usize, Due)> {
        let Reverse((at, number)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        let (who, due) = self.waiting.remove(&number).expect("every time has its deed");
        Some((at, who, due))
    }

    /// Deeds that are still to be done.
    pub fn open(&self) -> usize {
        self.waiting.values().filter(|(_, due)| matches!(due, Due::Do(_))).count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_due_comes_in_its_order_and_not_before() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        timers.at(now + Duration::from_secs(2), 2, Due::Connect);
        timers.at(now + Duration::from_secs(1), 1, Due::Do(What::Like));
        assert_eq!((timers.next(now), timers.open()), (None, 1));
        let later = now + Duration::from_secs(3);
        assert_eq!(timers.next(later).unwrap().1, 1);
        assert_eq!(timers.next(later).unwrap().2, Due::Connect);
        assert_eq!(timers.next(later), None);
    }
}
