use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::{cursor::times, rush::RushTally, viewer::Viewer};

/// Messages against the rules that are kept to be looked at.
const EXAMPLES_MAX: usize = 5;
const EXAMPLE_LEN_MAX: usize = 200;

/// What a crowd has seen. Frames, bytes, events and latency are those of the measured time; the rest is of all of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub joined: u64,
    /// Upgrades and joins that were answered with a refusal.
    pub refused: u64,
    /// Viewers who were in, and whose connection ended before they left.
    pub lost: u64,
    /// Closes by the server, by code.
    pub closes: BTreeMap<u16, u64>,
    pub frames: u64,
    pub bytes: u64,
    pub snapshots: u64,
    /// Frames that did not follow on what their viewer had.
    pub gaps: u64,
    /// Messages that are not of the protocol.
    pub strange: u64,
    /// Events that the sampled viewers got, and how many viewers these are.
    pub sampled_events: u64,
    pub sampled: u64,
    /// How many viewers stand at which event in the end.
    pub cursors: BTreeMap<u64, u64>,
    pub examples: Vec<String>,
    /// From an event's time to its receipt by a sampled viewer, in milliseconds. Only in the end.
    pub latency: Option<Histogram<u64>>,
    /// What became of the rush. Only in the end.
    pub rush: RushTally,
}

/// A tally as it is written.
pub struct Notes {
    pub tally: Tally,
    pub is_measuring: bool,
    /// The time at which what is read now was received.
    pub now_ms: u64,
    pub rush: RushTally,
    latency: Histogram<u64>,
}

impl Default for Notes {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, 600_000, 3).expect("the bounds are right");
        Self { tally: Tally::default(), is_measuring: false, now_ms: 0, rush: RushTally::default(), latency }
    }
}

impl Notes {
    pub fn frame(&mut self, text: &[u8], is_sampled: bool) {
        if !self.is_measuring {
            return;
        }
        self.tally.frames += 1;
        self.tally.bytes += text.len() as u64;
        if is_sampled {
            for at in times(text) {
                self.tally.sampled_events += 1;
                self.latency.saturating_record(self.now_ms.saturating_sub(at).max(1));
            }
        }
    }

    pub fn strange(&mut self, text: &[u8]) {
        self.tally.strange += 1;
        self.example(text);
    }

    pub fn example(&mut self, text: &[u8]) {
        if self.tally.examples.len() < EXAMPLES_MAX {
            let text = &text[..text.len().min(EXAMPLE_LEN_MAX)];
            self.tally.examples.push(String::from_utf8_lossy(text).into_owned());
        }
    }

    pub fn close(mut self, viewers: &[Viewer]) -> Tally {
        for viewer in viewers {
            if let Some(seq) = viewer.stands_at() {
                *self.tally.cursors.entry(seq).or_default() += 1;
            }
            self.tally.sampled += u64::from(viewer.is_sampled);
        }
        self.tally.latency = Some(self.latency);
        self.tally.rush = self.rush;
        self.tally
    }
}
