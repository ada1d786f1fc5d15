//! How often a publisher is asked for a keyframe.

use std::time::{Duration, Instant};

/// Many viewers may want a keyframe; the publisher is asked for one at a time.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    asked_at: Option<Instant>,
    wanted: bool,
}

impl Throttle {
    pub fn new(interval: Duration) -> Self {
        Self { interval, asked_at: None, wanted: false }
    }

    /// Somebody needs a keyframe. A request that comes too soon after the last is kept until its time.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// A keyframe begins: it serves everybody who asked before.
    pub fn satisfy(&mut self) {
        self.wanted = false;
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Whether to ask now; true at most once per interval.
    pub fn ask(&mut self, now: Instant) -> bool {
        let rested = self.asked_at.is_none_or(|at| now.saturating_duration_since(at) >= self.interval);
        if !self.wanted || !rested {
            return false;
        }
        self.wanted = false;
        self.asked_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rush_of_viewers_costs_one_keyframe_per_interval() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Duration::from_millis(500));
        let asked = (0..2_000u64)
            .filter(|ms| {
                throttle.want();
                throttle.ask(start + Duration::from_millis(*ms))
            })
            .count();
        assert_eq!(asked, 4);
    }

    #[test]
    fn a_keyframe_answers_all_who_waited_for_it() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Duration::from_millis(500));
        throttle.want();
        assert!(throttle.ask(start));
        throttle.want();
        throttle.satisfy();
        assert!(!throttle.ask(start + Duration::from_secs(1)));
    }

    #[test]
    fn a_request_that_came_too_soon_is_not_forgotten() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Duration::from_millis(500));
        throttle.want();
        assert!(throttle.ask(start));
        throttle.want();
        assert!(!throttle.ask(start + Duration::from_millis(499)));
        assert!(throttle.ask(start + Duration::from_millis(500)));
        assert!(!throttle.ask(start + Duration::from_secs(9)), "nobody wants one any more");
    }
}
