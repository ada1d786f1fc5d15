use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

/// What became of one kind of command.
#[derive(Clone, Debug)]
pub struct Outcomes {
    /// `ok`, or the code of the refusal, or `no_answer`.
    pub counts: BTreeMap<String, u64>,
    /// From command to answer, in microseconds.
    pub latency: Histogram<u64>,
}

impl Default for Outcomes {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, 120_000_000, 3).expect("the bounds are right");
        Self { counts: BTreeMap::new(), latency }
    }
}

impl Outcomes {
    pub fn note(&mut self, name: &str, took: Duration) {
        match self.counts.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(name.to_owned(), 1)),
        }
        self.latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}
