//! Which comments and sales are shown when there are more than anybody can read.
//!
//! A token bucket over the log's own times, so that every node, and a replay years later, leaves out the same ones.

use crate::clock::UnixMs;

/// Tokens are counted in thousandths of an event, so that a rate per second refills exactly per millisecond.
const TOKEN: u64 = 1_000;

#[derive(Clone, Debug)]
pub struct Sampler {
    per_second: u32,
    tokens: u64,
    refilled_at: UnixMs,
}

impl Sampler {
    /// `per_second` events a second, and as many at once; 0 shows all.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, tokens: u64::from(per_second) * TOKEN, refilled_at: UnixMs(0) }
    }

    /// Whether the event that the log has at `at` is shown.
    pub fn shows(&mut self, at: UnixMs) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let full = u64::from(self.per_second) * TOKEN;
        let passed = u64::try_from(at.since(self.refilled_at).as_millis()).unwrap_or(u64::MAX);
        self.tokens = full.min(self.tokens.saturating_add(passed.saturating_mul(u64::from(self.per_second))));
        self.refilled_at = self.refilled_at.max(at);
        let shown = self.tokens >= TOKEN;
        if shown {
            self.tokens -= TOKEN;
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_shows_more_than_a_burst_and_the_rate() {
        let mut sampler = Sampler::new(25);
        let shown: Vec<i64> = (0..10_000).filter(|ms| sampler.shows(UnixMs(1_000_000 + ms))).collect();
        assert_eq!(shown.iter().filter(|ms| **ms < 1_000).count(), 49);
        let later = shown.iter().filter(|ms| (5_000..6_000).contains(*ms)).count();
        assert_eq!(later, 25);
    }

    #[test]
    fn the_same_times_leave_out_the_same() {
        let times: Vec<i64> = (0..5_000).map(|i| i * 7 % 911 + i * 3).collect();
        let run = || {
            let mut sampler = Sampler::new(3);
            times.iter().map(|t| sampler.shows(UnixMs(*t))).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
        assert!(run().contains(&false) && run().contains(&true));
    }

    #[test]
    fn zero_shows_all() {
        let mut sampler = Sampler::new(0);
        assert!((0..1_000).all(|_| sampler.shows(UnixMs(5))));
    }
}
