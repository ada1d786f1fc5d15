//! `Door`: how fast newcomers are let in, all together.

use std::{
    num::NonZeroU32,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Nobody is sent away for longer, and none for less: she would be back before anything has changed.
const WAIT_MAX: Duration = Duration::from_secs(60);
const WAIT_MIN: Duration = Duration::from_millis(500);

/// Lets newcomers in at a rate, and gives each of the others a time of her own to come again, so that a crowd which
/// was turned away does not come back as one.
pub(super) struct Door {
    /// Between two who come again; `None` lets everybody in.
    every: Option<Duration>,
    limiter: DefaultDirectRateLimiter,
    /// When the next one who is turned away may come again.
    next: Mutex<Instant>,
    turned_away: AtomicU64,
}

impl Door {
    /// `per_second` newcomers, and as many at once; 0 lets everybody in.
    pub fn new(per_second: u32) -> Self {
        let rate = NonZeroU32::new(per_second);
        let limiter = RateLimiter::direct(Quota::per_second(rate.unwrap_or(NonZeroU32::MAX)));
        let every = rate.map(|rate| Duration::from_secs(1) / rate.get());
        Self { every, limiter, next: Mutex::new(Instant::now()), turned_away: AtomicU64::new(0) }
    }

    /// Lets somebody in at `now`, or says after what time to come again.
    pub fn enter(&self, now: Instant) -> Result<(), Duration> {
        let Some(every) = self.every else { return Ok(()) };
        if self.limiter.check().is_ok() {
            return Ok(());
        }
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        Err(self.next_wait(now, every))
    }

    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    fn next_wait(&self, now: Instant, every: Duration) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = next.saturating_duration_since(now).max(WAIT_MIN);
        if wait > WAIT_MAX {
            // More than a minute's worth: their own jitter has to do.
            return WAIT_MAX;
        }
        *next = now + wait + every;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_turned_away_gets_a_time_of_her_own_at_the_rate_of_the_door() {
        let door = Door::new(100);
        let now = Instant::now();
        let waits: Vec<Duration> = (0..1_100).filter_map(|_| door.enter(now).err()).collect();
        assert!((980..=1_000).contains(&waits.len()), "a second's worth is let in at once: {}", waits.len());
        assert_eq!(door.turned_away(), waits.len() as u64);
        assert_eq!(waits[0], WAIT_MIN);
        for pair in waits.windows(2) {
            assert_eq!(pair[1] - pair[0], Duration::from_millis(10));
        }
        let much_later = now + Duration::from_secs(100);
        let again = std::iter::repeat_with(|| door.enter(much_later)).find_map(Result::err);
        assert_eq!(again, Some(WAIT_MIN), "the queue has run off");
    }

    #[test]
    fn nobody_is_sent_away_for_long_and_a_door_without_a_rate_is_open() {
        let door = Door::new(1);
        let now = Instant::now();
        let longest = (0..1_000).filter_map(|_| door.enter(now).err()).max();
        assert_eq!(longest, Some(WAIT_MAX));
        let open = Door::new(0);
        assert!((0..100_000).all(|_| open.enter(now).is_ok()));
    }
}
