//! The estimate for a viewer who reports on no single packet: from the loss in her receiver reports, the round trip,
//! and her own estimate (REMB), if she sends one.

use std::time::Duration;

const TOO_MUCH: f64 = 0.10;
const LOW: f64 = 0.02;
const GROWTH: f64 = 1.08;
/// A round trip this much above the shortest is a queue.
const QUEUE_US: u64 = 200_000;
const QUEUE_CUT: f64 = 0.85;
/// Above what is sent, the estimate grows to this multiple: the next layer is then tried, for want of a probe.
const HEADROOM: f64 = 4.0;
/// After a cut nothing grows for this time, doubled with each cut that follows soon.
const REST_US: u64 = 4_000_000;
const RESTS_MAX: u32 = 3;
/// Several reports of one interval count once.
const INTERVAL_US: u64 = 300_000;

#[derive(Debug, Default)]
pub struct Reported {
    judged_at: Option<u64>,
    sent_before: u64,
    fraction: f64,
    shortest_us: Option<u64>,
    cuts: u32,
    rests_until: u64,
}

impl Reported {
    /// The new estimate.
    pub fn judge(
        &mut self,
        estimate: f64,
        fraction_lost: u8,
        remb: Option<u32>,
        round_trip: Option<Duration>,
        sent_bytes: u64,
        at: u64,
    ) -> f64 {
        let ceiling = remb.map_or(f64::INFINITY, f64::from);
        let passed = at.saturating_sub(self.judged_at.unwrap_or(0));
        if self.judged_at.is_some() && passed < INTERVAL_US {
            return estimate.min(ceiling);
        }
        let sent = sent_bytes.saturating_sub(self.sent_before) as f64 * 8e6 / passed.max(INTERVAL_US) as f64;
        (self.judged_at, self.sent_before) = (Some(at), sent_bytes);
        let lost = f64::from(fraction_lost) / 256.0;
        self.fraction += (lost - self.fraction) / 4.0;

        let used = if sent > 0.0 { estimate.min(sent) } else { estimate };
        if lost > TOO_MUCH {
            return self.cut(used * (1.0 - lost / 2.0), at).min(ceiling);
        }
        if self.finds_queue(round_trip) {
            return self.cut(used * QUEUE_CUT, at).min(ceiling);
        }
        if let Some(remb) = remb {
            return f64::from(remb);
        }
        if lost > LOW || at < self.rests_until {
            return estimate;
        }
        estimate.max((estimate * GROWTH).min(sent * HEADROOM))
    }

    #[cfg(test)]
    pub fn loss(&self) -> f32 {
        self.fraction as f32
    }

    fn cut(&mut self, estimate: f64, at: u64) -> f64 {
        let is_soon = at < self.rests_until + 4 * REST_US;
        self.cuts = if is_soon { (self.cuts + 1).min(RESTS_MAX) } else { 0 };
        self.rests_until = at + (REST_US << self.cuts);
        estimate
    }

    fn finds_queue(&mut self, round_trip: Option<Duration>) -> bool {
        let Some(us) = round_trip.map(|time| time.as_micros().min(60_000_000) as u64) else { return false };
        let shortest = self.shortest_us.map_or(us, |shortest| shortest.min(us));
        // It rises slowly, so that a longer way is learnt in about a minute.
        self.shortest_us = Some(shortest + us.saturating_sub(shortest) / 64);
        us > shortest + QUEUE_US
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn run(reported: &mut Reported, mut estimate: f64, lost: u8, remb: Option<u32>, from: u64, seconds: u64) -> f64 {
        for second in from..from + seconds {
            let sent = reported.sent_before + (estimate / 8.0) as u64;
            let round_trip = Some(Duration::from_millis(40));
            estimate = reported.judge(estimate, lost, remb, round_trip, sent, (second + 1) * SECOND);
        }
        estimate
    }

    #[test]
    fn without_loss_it_grows_and_with_much_it_falls() {
        let mut reported = Reported::default();
        let grown = run(&mut reported, 3e5, 0, None, 0, 30);
        assert!(grown > 2e6, "{grown}");
        let held = run(&mut reported, grown, 13, None, 30, 30);
        assert!(held >= grown * 0.8, "five in a hundred are borne: {held}");
        assert!(run(&mut reported, held, 64, None, 60, 10) < held / 2.0);
    }

    #[test]
    fn the_viewers_own_estimate_is_followed_except_against_loss() {
        let mut reported = Reported::default();
        assert_eq!(run(&mut reported, 3e5, 0, Some(900_000), 0, 2), 9e5);
        assert!(run(&mut reported, 9e5, 128, Some(900_000), 2, 3) < 5e5);
    }

    #[test]
    fn a_round_trip_that_grows_is_a_queue() {
        let mut reported = Reported::default();
        let mut judge = |ms, at| reported.judge(1e6, 0, None, Some(Duration::from_millis(ms)), at / 8, at);
        assert!(judge(40, SECOND) >= 1e6);
        assert!(judge(400, 2 * SECOND) < 1e6);
    }
}
