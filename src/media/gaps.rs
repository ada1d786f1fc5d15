//! Which packets of a publisher are missing, and when to ask for them again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A gap longer than this is not asked for: a keyframe is cheaper, and the viewers' decoders ask for one.
const GAP_MAX: u64 = 256;
/// Missing packets that are remembered; the oldest are given up first.
const MISSING_MAX: usize = 512;
const TRIES_MAX: u8 = 8;
/// After this a packet is asked for again while nothing is known of the way.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Even answers that always take the same time are waited for a little longer.
const SLACK: Duration = Duration::from_millis(10);
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(400);

#[derive(Debug, Default)]
pub struct Gaps {
    top: Option<u64>,
    missing: BTreeMap<u64, Ask>,
    answers: Answers,
}

#[derive(Debug)]
struct Ask {
    tries: u8,
    /// The first time that it was asked for, and the last.
    asked: Option<(Instant, Instant)>,
    next_at: Instant,
}

/// How long what is asked for takes to come.
#[derive(Debug, Default)]
struct Answers {
    usual: Option<Duration>,
}

impl Answers {
    /// What was asked for came: so long after the first time it was asked for, and after the last.
    fn note(&mut self, since_first: Duration, since_last: Duration) {
        // An answer much quicker than usual is the one to an earlier request.
        let is_to_last = self.usual.is_some_and(|usual| since_last * 2 > usual);
        let took = if is_to_last { since_last } else { since_first };
        self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
    }

    /// The time after which the next attempt follows that many.
    fn patience(&self, tries: u8) -> Duration {
        let Some(usual) = self.usual else { return RETRY_AFTER };
        let base = (usual * 3 / 2 + SLACK).clamp(RETRY_MIN, RETRY_MAX);
        (base * u32::from(tries)).min(base.max(RETRY_AFTER))
    }
}

impl Gaps {
    /// A packet came, in order or late.
    pub fn arrived(&mut self, index: u64, now: Instant) {
        let Some(top) = self.top else {
            self.top = Some(index);
            return;
        };
        if index <= top {
            if let Some((first, last)) = self.missing.remove(&index).and_then(|ask| ask.asked) {
                self.answers.note(now.saturating_duration_since(first), now.saturating_duration_since(last));
            }
            return;
        }
        self.top = Some(index);
        if index - top > GAP_MAX {
            self.missing.clear();
            return;
        }
        for lost in top + 1..index {
            self.missing.insert(lost, Ask { tries: 0, asked: None, next_at: now });
        }
        while self.missing.len() > MISSING_MAX {
            self.missing.pop_first();
        }
    }

    /// The sequence numbers to ask for now, rising. A packet asked for eight times is given up.
    pub fn due(&mut self, now: Instant) -> Vec<u16> {
        let mut due = Vec::new();
        self.missing.retain(|index, ask| {
            if ask.next_at > now {
                return true;
            }
            due.push(*index as u16);
            ask.tries += 1;
            ask.asked = Some((ask.asked.map_or(now, |(first, _)| first), now));
            ask.next_at = now + self.answers.patience(ask.tries);
            ask.tries < TRIES_MAX
        });
        due
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Instant> {
        self.missing.values().map(|ask| ask.next_at).min()
    }

    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_packet_is_asked_for_until_it_comes() {
        let (mut gaps, start) = (Gaps::default(), Instant::now());
        for index in [10, 11, 14] {
            gaps.arrived(index, start);
        }
        assert_eq!(gaps.due(start), [12, 13]);
        assert!(gaps.due(start).is_empty(), "not again at once");
        gaps.arrived(12, start);
        assert_eq!(gaps.next_due(), Some(start + RETRY_AFTER));
        assert_eq!(gaps.due(start + RETRY_AFTER), [13]);
        gaps.arrived(13, start);
        assert!(gaps.is_empty() && gaps.next_due().is_none());
    }

    /// One lost packet after the other on a way of `ms`; how long the last is waited for before it is asked for again.
    fn patience_on_a_way_of(ms: u64) -> Duration {
        let (mut gaps, mut now, way) = (Gaps::default(), Instant::now(), Duration::from_millis(ms));
        for index in (0..200u64).step_by(2) {
            gaps.arrived(index, now);
            gaps.arrived(index + 2, now);
            let answered = now + way;
            while now < answered {
                gaps.due(now);
                now += Duration::from_millis(5);
            }
            gaps.arrived(index + 1, answered);
        }
        gaps.answers.patience(1)
    }

    #[test]
    fn the_next_attempt_waits_as_long_as_answers_take() {
        assert_eq!(Answers::default().patience(1), RETRY_AFTER);
        for ms in [1, 30, 90, 300] {
            let (patience, way) = (patience_on_a_way_of(ms), Duration::from_millis(ms));
            assert!(patience > way && patience <= way * 3 / 2 + RETRY_MIN, "{ms} ms: {patience:?}");
        }
        assert!(patience_on_a_way_of(2_000) <= RETRY_MAX);
        let quick = Answers { usual: Some(Duration::from_millis(1)) };
        let all: Duration = (1..=TRIES_MAX).map(|tries| quick.patience(tries)).sum();
        assert!(all > Duration::from_millis(500), "an outage of half a second is outlasted: {all:?}");
    }

    #[test]
    fn a_packet_that_never_comes_is_given_up() {
        let (mut gaps, start) = (Gaps::default(), Instant::now());
        gaps.arrived(1, start);
        gaps.arrived(3, start);
        let asked = (0..100).filter(|round| !gaps.due(start + RETRY_AFTER * *round).is_empty()).count();
        assert_eq!(asked, usize::from(TRIES_MAX));
        assert!(gaps.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut gaps, start) = (Gaps::default(), Instant::now());
        for step in 0..1_000u64 {
            gaps.arrived(step * 200, start);
            assert!(gaps.missing.len() <= MISSING_MAX);
        }
        gaps.arrived(1_000_000, start);
        assert!(gaps.is_empty(), "a gap that long is left to a keyframe");
    }
}
