//! What a crowd has seen, in numbers that add up over crowds.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::hist::{Class, Hist, Latencies};

/// Messages against the rules that are kept to be looked at.
const EXAMPLES_MAX: usize = 8;
const EXAMPLE_LEN_MAX: usize = 300;

/// Counts from the first arrival on. All of them only rise, but for those who are in, and what is open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Who is in now, over WebSockets and server-sent events.
    pub websocket: u64,
    pub sse: u64,
    /// First arrivals that were let in.
    pub joined: u64,
    /// Returns, and how many of them read on from where they stood.
    pub returned: u64,
    pub resumed: u64,
    /// Upgrades and joins that were answered with a refusal.
    pub refused: u64,
    /// Connections that were told to come again later, because too many came at once.
    pub put_off: u64,
    /// Connections that ended without our doing.
    pub lost: u64,
    /// Connections that we cut, or left.
    pub cut: u64,
    /// Closes by the server, by code.
    pub closes: BTreeMap<u16, u64>,
    /// Sockets that the machine did not give us, by its words.
    pub socket_errors: BTreeMap<String, u64>,
    pub frames: u64,
    pub bytes: u64,
    /// Events that reached a viewer.
    pub events: u64,
    pub snapshots: u64,
    /// Frames that did not follow on what their viewer had.
    pub gaps: u64,
    /// Frames that came a second time over one connection.
    pub repeats: u64,
    /// Messages that are not of the protocol, and answers to nobody's question.
    pub strange: u64,
    /// Private messages, and those that did not follow on the one before.
    pub private: u64,
    pub private_gaps: u64,
    /// How commands were answered: `ok`, the code of the refusal, or `no_answer`.
    pub outcomes: BTreeMap<String, BTreeMap<String, u64>>,
    /// Commands that wait for their answers, and deeds that are still to be done.
    pub open: u64,
    pub examples: Vec<String>,
}

impl Tally {
    pub fn outcome(&mut self, class: Class, outcome: &str) {
        if !self.outcomes.contains_key(class.name()) {
            self.outcomes.insert(class.name().to_owned(), BTreeMap::new());
        }
        let outcomes = self.outcomes.get_mut(class.name()).expect("it was put there");
        match outcomes.get_mut(outcome) {
            Some(count) => *count += 1,
            None => drop(outcomes.insert(outcome.to_owned(), 1)),
        }
    }

    pub fn count(&self, class: Class, outcome: &str) -> u64 {
        self.outcomes.get(class.name()).and_then(|outcomes| outcomes.get(outcome)).copied().unwrap_or(0)
    }

    pub fn example(&mut self, what: &str, text: &[u8]) {
        if self.examples.len() < EXAMPLES_MAX {
            let text = String::from_utf8_lossy(&text[..text.len().min(EXAMPLE_LEN_MAX)]);
            self.examples.push(format!("{what}: {text}"));
        }
    }

    pub fn socket_error(&mut self, error: &std::io::Error) {
        *self.socket_errors.entry(error.to_string()).or_default() += 1;
    }

    /// Snapshots for viewers who were in and read so slowly that the room went on without them.
    pub fn fell_behind(&self) -> u64 {
        self.snapshots.saturating_sub(self.joined + self.returned.saturating_sub(self.resumed))
    }

    /// The counts of two crowds together.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.websocket, other.websocket),
            (&mut self.sse, other.sse),
            (&mut self.joined, other.joined),
            (&mut self.returned, other.returned),
            (&mut self.resumed, other.resumed),
            (&mut self.refused, other.refused),
            (&mut self.put_off, other.put_off),
            (&mut self.lost, other.lost),
            (&mut self.cut, other.cut),
            (&mut self.frames, other.frames),
            (&mut self.bytes, other.bytes),
            (&mut self.events, other.events),
            (&mut self.snapshots, other.snapshots),
            (&mut self.gaps, other.gaps),
            (&mut self.repeats, other.repeats),
            (&mut self.strange, other.strange),
            (&mut self.private, other.private),
            (&mut self.private_gaps, other.private_gaps),
            (&mut self.open, other.open),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum += more);
        other.closes.iter().for_each(|(code, count)| *self.closes.entry(*code).or_default() += count);
        other.socket_errors.iter().for_each(|(why, n)| *self.socket_errors.entry(why.clone()).or_default() += n);
        for (class, outcomes) in &other.outcomes {
            let mine = self.outcomes.entry(class.clone()).or_default();
            outcomes.iter().for_each(|(code, count)| *mine.entry(code.clone()).or_default() += count);
        }
        self.examples.extend(other.examples.iter().take(EXAMPLES_MAX.saturating_sub(self.examples.len())).cloned());
    }
}

/// How well the tester itself kept up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnPace {
    /// How late deeds were done that had their time.
    pub late: Hist,
    /// From one look at the sockets to the next.
    pub turns: Hist,
    /// The part of the measured time in which the crowd's thread waited for a core.
    pub waited: f64,
    /// Cores that the crowd's thread kept busy.
    pub busy: f64,
}

impl OwnPace {
    pub fn add(&mut self, other: &Self) {
        self.late.add(&other.late);
        self.turns.add(&other.turns);
        self.waited = self.waited.max(other.waited);
        self.busy = self.busy.max(other.busy);
    }
}

/// A second of a crowd.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Milliseconds since the measured time began.
    pub at_ms: u64,
    /// As it stands then.
    pub tally: Tally,
    /// Of this second alone.
    pub latencies: Latencies,
}

/// A tally as it is written, on the crowd's thread.
#[derive(Default)]
pub struct Notes {
    pub tally: Tally,
    /// For each phase.
    pub phases: Vec<Latencies>,
    pub second: Latencies,
    pub pace: OwnPace,
    phase: Option<usize>,
}

impl Notes {
    /// From here on what is heard counts to this phase; to none: it is not measured.
    pub fn enter(&mut self, phase: Option<usize>) {
        if let Some(phase) = phase
            && self.phases.len() <= phase
        {
            self.phases.resize_with(phase + 1, Latencies::default);
        }
        self.phase = phase;
    }

    pub fn is_measuring(&self) -> bool {
        self.phase.is_some()
    }

    pub fn latency(&mut self, class: Class, us: u64) {
        let Some(phase) = self.phase else { return };
        self.phases[phase].record(class, us);
        self.second.record(class, us);
    }

    /// A latency of the arrival, which counts to the first phase.
    pub fn arrived(&mut self, us: u64) {
        if self.phases.is_empty() {
            self.phases.push(Latencies::default());
        }
        self.phases[self.phase.unwrap_or(0)].record(Class::Join, us);
    }

    pub fn answered(&mut self, class: Class, outcome: &str, took: Duration) {
        self.tally.outcome(class, outcome);
        self.latency(class, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn strange(&mut self, what: &str, text: &[u8]) {
        self.tally.strange += 1;
        self.tally.example(what, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_of_two_crowds_add_up() {
        let mut one = Tally { joined: 2, frames: 10, ..Tally::default() };
        one.outcome(Class::Hold, "ok");
        one.closes.insert(3001, 1);
        let mut other = one.clone();
        other.outcome(Class::Hold, "sold_out");
        one.add(&other);
        assert_eq!((one.joined, one.frames, one.closes[&3001]), (4, 20, 2));
        assert_eq!((one.count(Class::Hold, "ok"), one.count(Class::Hold, "sold_out")), (2, 1));
    }

    #[test]
    fn only_the_measured_time_has_latencies() {
        let mut notes = Notes::default();
        notes.latency(Class::State, 5);
        notes.enter(Some(1));
        notes.latency(Class::State, 5);
        notes.enter(None);
        notes.latency(Class::State, 5);
        assert_eq!(notes.phases[1].of(Class::State).unwrap().count(), 1);
        assert!(notes.phases[0].is_empty());
        notes.arrived(7);
        assert_eq!(notes.phases[0].of(Class::Join).unwrap().count(), 1, "all but who came before it");
    }
}
