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
const RETRY_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct Gaps {
    top: Option<u64>,
    missing: BTreeMap<u64, Ask>,
}

#[derive(Debug)]
struct Ask {
    tries: u8,
    next_at: Instant,
}

impl Gaps {
    /// A packet came, in order or late.
    pub fn arrived(&mut self, index: u64, now: Instant) {
        let Some(top) = self.top else {
            self.top = Some(index);
            return;
        };
        if index <= top {
            self.missing.remove(&index);
            return;
        }
        self.top = Some(index);
        if index - top > GAP_MAX {
            self.missing.clear();
            return;
        }
        for lost in top + 1..index {
            self.missing.insert(lost, Ask { tries: 0, next_at: now });
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
            ask.next_at = now + RETRY_AFTER;
            ask.tries < TRIES_MAX
        });
        due
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
        assert_eq!(gaps.due(start + RETRY_AFTER), [13]);
        gaps.arrived(13, start);
        assert!(gaps.is_empty());
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
