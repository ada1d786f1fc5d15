//! Loss, and whether sending less would help against it.
//!
//! A link without a queue drops what is too much for it: loss then goes with the rate. Radio loses whatever the rate:
//! when as much is lost after a cut as before, that much is the link's own and no reason for another.

use super::history::Fate;

const WINDOW_US: u64 = 500_000;
const PACKETS_MIN: u32 = 10;
/// Loss above the link's own that must be certain (two standard deviations) before anything is cut.
const TOO_MUCH: f64 = 0.08;
/// Loss above the link's own up to which the estimate may grow.
const LOW: f64 = 0.02;
/// A link's own loss is believed up to this.
const OWN_MAX: f64 = 0.25;

#[derive(Debug, Default)]
pub struct Loss {
    arrived: u32,
    lost: u32,
    since: u64,
    sent_before: u64,
    fraction: f64,
    own: f64,
    /// The loss at the last cut, until the next window tells whether it helped.
    cut_at: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Bearable,
    TooMuch,
}

impl Loss {
    /// A packet's fate became known, after `before`.
    pub fn count(&mut self, before: Fate, fate: Fate) {
        match (before, fate) {
            (_, Fate::Lost) => self.lost += 1,
            (Fate::Lost, _) => {
                self.lost = self.lost.saturating_sub(1);
                self.arrived += 1;
            }
            _ => self.arrived += 1,
        }
    }

    /// Looks at what was counted, about twice a second. `sent_bytes` counts up; it tells whether a cut was obeyed.
    pub fn judge(&mut self, sent_bytes: u64, estimate: f64, at: u64) -> Verdict {
        let (count, passed) = (self.arrived + self.lost, at.saturating_sub(self.since));
        if passed < WINDOW_US || count < PACKETS_MIN {
            return Verdict::Bearable;
        }
        let part = f64::from(self.lost) / f64::from(count);
        let doubt = 2.0 * (part * (1.0 - part) / f64::from(count)).sqrt();
        let sent = sent_bytes.saturating_sub(self.sent_before) as f64 * 8e6 / passed as f64;
        (self.arrived, self.lost, self.since, self.sent_before) = (0, 0, at, sent_bytes);
        self.fraction += (part - self.fraction) / 4.0;

        let obeyed = sent <= estimate * 1.05;
        match self.cut_at {
            Some(before) if obeyed => {
                self.cut_at = None;
                if part >= before * 0.8 {
                    self.own = part.min(OWN_MAX);
                }
            }
            _ => self.own = self.own.min(self.fraction),
        }
        if part - doubt <= self.own + TOO_MUCH {
            return Verdict::Bearable;
        }
        self.cut_at = Some(part);
        Verdict::TooMuch
    }

    /// Whether more may be sent as far as loss goes.
    pub fn is_low(&self) -> bool {
        self.fraction <= self.own + LOW
    }

    #[cfg(test)]
    pub fn fraction(&self) -> f32 {
        self.fraction as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of a hundred packets at the estimate; what `lost` says of each is lost.
    fn cuts(lost: impl Fn(f64) -> u32, windows: u64) -> (u32, f64) {
        let (mut loss, mut estimate, mut sent, mut cuts) = (Loss::default(), 1e6, 0, 0);
        for window in 1..=windows {
            let lost = lost(estimate);
            (0..100).for_each(|packet| {
                loss.count(Fate::Unknown, if packet < lost { Fate::Lost } else { Fate::Arrived });
            });
            sent += (estimate / 16.0) as u64;
            if loss.judge(sent, estimate, window * WINDOW_US) == Verdict::TooMuch {
                cuts += 1;
                estimate *= 1.0 - f64::from(lost) / 100.0;
            }
        }
        (cuts, estimate)
    }

    #[test]
    fn five_in_a_hundred_are_borne() {
        assert_eq!(cuts(|_| 5, 50).0, 0);
    }

    #[test]
    fn loss_that_does_not_go_with_the_rate_is_cut_for_once() {
        assert_eq!(cuts(|_| 20, 50).0, 1);
    }

    #[test]
    fn loss_that_goes_with_the_rate_is_cut_until_it_ends() {
        let (_, estimate) = cuts(|estimate| (100.0 * (1.0 - 3e5 / estimate)).max(0.0) as u32, 50);
        assert!((2.9e5..3.4e5).contains(&estimate), "{estimate}");
    }
}
