//! Latencies: histograms that can be written down and added up without loss.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Three digits of microseconds. On paper it is a list of `[value, count]`, so that sums of histograms are exact.
#[derive(Clone, Debug, PartialEq)]
pub struct Hist(Histogram<u64>);

/// What latencies are told apart by: an event's class, or a kind of command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// From a state event's time to a viewer.
    State,
    /// From when a comment was to be sent to a viewer who reads it; of what others say, from the event's time.
    Chat,
    /// Between two tallies that a viewer hears.
    Tally,
    /// From a private message's time to its receipt.
    Private,
    /// From the beginning of a connection to a complete view.
    Join,
    /// Commands, from when they were to be sent to their answers.
    Comment,
    Like,
    Hold,
    Pay,
    Cancel,
    Look,
    Pin,
    Stock,
}

impl Class {
    pub const COUNT: usize = 13;
    pub const ALL: [Self; Self::COUNT] = [
        Self::State,
        Self::Chat,
        Self::Tally,
        Self::Private,
        Self::Join,
        Self::Comment,
        Self::Like,
        Self::Hold,
        Self::Pay,
        Self::Cancel,
        Self::Look,
        Self::Pin,
        Self::Stock,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Chat => "chat",
            Self::Tally => "tally",
            Self::Private => "private",
            Self::Join => "join",
            Self::Comment => "comment",
            Self::Like => "like",
            Self::Hold => "hold",
            Self::Pay => "pay",
            Self::Cancel => "cancel",
            Self::Look => "look",
            Self::Pin => "pin",
            Self::Stock => "stock",
        }
    }
}

/// A histogram for each class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies(Vec<(Class, Hist)>);

impl Latencies {
    pub fn record(&mut self, class: Class, us: u64) {
        self.of_mut(class).record(us);
    }

    pub fn of(&self, class: Class) -> Option<&Hist> {
        self.0.iter().find(|(of, _)| *of == class).map(|(_, hist)| hist)
    }

    pub fn add(&mut self, other: &Self) {
        for (class, hist) in &other.0 {
            self.of_mut(*class).add(hist);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Class, &Hist)> {
        self.0.iter().map(|(class, hist)| (*class, hist))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of_mut(&mut self, class: Class) -> &mut Hist {
        let at = self.0.iter().position(|(of, _)| *of == class).unwrap_or_else(|| {
            self.0.push((class, Hist::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

impl Default for Hist {
    fn default() -> Self {
        let mut hist = Histogram::new_with_max(1_000, 3).expect("the bounds are right");
        hist.auto(true);
        Self(hist)
    }
}

impl Hist {
    /// Longer than this is counted as this: an hour.
    const MAX_US: u64 = 3_600_000_000;

    pub fn record(&mut self, us: u64) {
        self.0.record(us.min(Self::MAX_US)).expect("it grows up to the bound");
    }

    pub fn record_time(&mut self, time: Duration) {
        self.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("it grows up to the bound");
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    pub fn ms_at(&self, quantile: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(quantile) as f64 / 1e3 }
    }

    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

impl Serialize for Hist {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Hist {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut hist = Self::default();
        for (value, count) in Vec::<(u64, u64)>::deserialize(from)? {
            hist.0.record_n(value.min(Self::MAX_US), count).map_err(de::Error::custom)?;
        }
        Ok(hist)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_several_workers_add_up_exactly_over_the_wire() {
        let values = |seed: u64| (0..5_000u64).map(move |n| (n * n * seed) % 3_000_000 + 1);
        let (mut one, mut parts) = (Latencies::default(), Latencies::default());
        for seed in [1, 7, 13] {
            let mut part = Latencies::default();
            for value in values(seed) {
                part.record(Class::Hold, value);
                one.record(Class::Hold, value);
            }
            let wire = serde_json::to_string(&part).unwrap();
            parts.add(&serde_json::from_str(&wire).unwrap());
        }
        let (one, parts) = (one.of(Class::Hold).unwrap(), parts.of(Class::Hold).unwrap());
        assert_eq!(parts.count(), 15_000);
        for quantile in [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
            assert_eq!(one.ms_at(quantile), parts.ms_at(quantile), "{quantile}");
        }
        assert_eq!(serde_json::to_string(one).unwrap(), serde_json::to_string(parts).unwrap());
    }

    #[test]
    fn nothing_is_too_long_to_be_counted() {
        let mut hist = Hist::default();
        hist.record(0);
        hist.record(u64::MAX);
        assert_eq!(hist.count(), 2);
        assert!(hist.max_ms() >= 3_600_000.0);
    }
}
