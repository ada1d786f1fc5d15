//! When a viewer may be sent how much: a keyframe goes out over some time, not in one burst that the link would drop.

use std::time::{Duration, Instant};

/// What passed unasked delays the rest by at most this.
const DEBT_MAX: Duration = Duration::from_millis(500);
/// No rate is below this, in bits per second.
const RATE_MIN: u32 = 8_000;

/// A leaky bucket that is counted in time: `busy_until` is when everything sent so far has left at the rate.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    rate_bps: u32,
    burst: Duration,
    busy_until: Instant,
}

impl Pacer {
    /// `burst` is the time whose packets may go out together.
    pub fn new(rate_bps: u32, burst: Duration, now: Instant) -> Self {
        Self { rate_bps: rate_bps.max(RATE_MIN), burst, busy_until: now }
    }

    /// From now on `factor` times `estimate_bps`. The factor is above one: media is uneven, and what is sent faster
    /// than the link for a moment waits in the link's queue no longer than it would wait here.
    pub fn set_rate(&mut self, estimate_bps: u32, factor: f32) {
        self.rate_bps = ((estimate_bps as f32 * factor) as u32).max(RATE_MIN);
    }

    /// Whether a packet may go out, which then counts as sent.
    #[cfg(test)]
    pub fn allow(&mut self, bytes: usize, now: Instant) -> bool {
        let may = self.busy_until <= now + self.burst;
        if may {
            self.pass(bytes, now);
        }
        may
    }

    /// A packet goes out whatever was sent before, as sound does. Pictures make room for it.
    pub fn pass(&mut self, bytes: usize, now: Instant) {
        let time = Duration::from_nanos(bytes as u64 * 8_000_000_000 / u64::from(self.rate_bps));
        self.busy_until = (self.busy_until.max(now) + time).min(now + self.burst + DEBT_MAX);
    }

    /// When the next packet may go out; none if it may now.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let at = self.busy_until.checked_sub(self.burst).unwrap_or(now);
        (at > now).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: Duration = Duration::from_millis(5);

    /// Bytes that get through in a second, asked for every millisecond.
    fn sent_in_a_second(pacer: &mut Pacer, start: Instant) -> usize {
        let times = (0..1_000).map(|ms| start + Duration::from_millis(ms));
        times.map(|now| std::iter::from_fn(|| pacer.allow(1_200, now).then_some(1_200)).sum::<usize>()).sum()
    }

    #[test]
    fn over_time_the_rate_is_kept_and_a_rest_is_not_made_up_for() {
        let start = Instant::now();
        let mut pacer = Pacer::new(0, BURST, start);
        pacer.set_rate(1_000_000, 1.2);
        let sent = sent_in_a_second(&mut pacer, start);
        assert!((148_000..155_000).contains(&sent), "{sent}");
        let sent = sent_in_a_second(&mut pacer, start + Duration::from_secs(60));
        assert!((148_000..155_000).contains(&sent), "{sent}");
    }

    #[test]
    fn it_says_when_to_come_back() {
        let now = Instant::now();
        let mut pacer = Pacer::new(1_000_000, BURST, now);
        assert_eq!(pacer.next(now), None);
        while pacer.allow(1_200, now) {}
        let next = pacer.next(now).unwrap();
        assert!(!pacer.allow(1_200, next - Duration::from_micros(1)) && pacer.allow(1_200, next));
    }

    #[test]
    fn sound_always_passes_and_pictures_wait_for_it_but_not_for_ever() {
        let now = Instant::now();
        let mut pacer = Pacer::new(100_000, BURST, now);
        (0..1_000).for_each(|_| pacer.pass(120, now));
        assert!(!pacer.allow(1_200, now));
        assert!(pacer.next(now).unwrap() <= now + DEBT_MAX);
    }
}
