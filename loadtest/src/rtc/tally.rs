//! What an audience has noted together.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Reasons of failures that are kept to be looked at.
const EXAMPLES_MAX: usize = 5;
const MICROS_MAX: u64 = 600_000_000;

/// Counts and times since the start, or since the last [`super::Audience::take`]. Times are in microseconds.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Offers that were answered, and those that were not.
    pub answered: u64,
    pub refused: u64,
    /// Viewers whose handshake ended well, and connections that ended by themselves, before or after.
    pub joined: u64,
    pub failed: u64,
    /// Viewers who are in now, who have had a picture, and who have seen no new one for more than half a second.
    pub inside: u64,
    pub watching: u64,
    pub frozen: u64,
    /// Why some failed.
    pub examples: Vec<String>,

    /// Media packets, and their bytes with RTP's header and the seal.
    pub packets: u64,
    pub bytes: u64,
    /// Packets that did not come in their turn; of them, those that came later, by themselves or sent again.
    pub missed: u64,
    pub repaired: u64,
    /// Packets that came twice, that opened to nothing, that are of no agreed type.
    pub repeated: u64,
    pub unopened: u64,
    pub strange: u64,
    /// Packets thrown away by the plan's wish.
    pub dropped: u64,
    pub nacks: u64,
    pub keyframe_requests: u64,
    pub sender_reports: u64,

    /// Pictures that could be shown, that lack a keyframe before them, that never became whole.
    pub pictures: u64,
    pub undecodable: u64,
    pub broken: u64,
    /// Times without a new picture for more than half a second that ended with one, and how long they were together.
    pub freezes: u64,
    pub freeze_time: Duration,

    /// Data channels that are open, and texts that came on them.
    pub channels: u64,
    pub texts: u64,

    /// From the intended time of the POST to the answer, to the first packet, to the first picture.
    pub answer: Histogram<u64>,
    pub first_packet: Histogram<u64>,
    pub first_picture: Histogram<u64>,
    /// From the making of a packet of an [`super::Anchor`] to its arrival here; sampled viewers.
    pub delay: Histogram<u64>,
    /// Of each stream now (RFC 3550).
    pub jitter: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            answered: 0,
            refused: 0,
            joined: 0,
            failed: 0,
            inside: 0,
            watching: 0,
            frozen: 0,
            examples: Vec::new(),
            packets: 0,
            bytes: 0,
            missed: 0,
            repaired: 0,
            repeated: 0,
            unopened: 0,
            strange: 0,
            dropped: 0,
            nacks: 0,
            keyframe_requests: 0,
            sender_reports: 0,
            pictures: 0,
            undecodable: 0,
            broken: 0,
            freezes: 0,
            freeze_time: Duration::ZERO,
            channels: 0,
            texts: 0,
            answer: times(),
            first_packet: times(),
            first_picture: times(),
            delay: times(),
            jitter: times(),
        }
    }
}

impl Tally {
    /// Packets that never came.
    pub fn lost(&self) -> u64 {
        self.missed.saturating_sub(self.repaired)
    }

    pub(super) fn example(&mut self, why: &anyhow::Error) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{why:#}"));
        }
    }
}

fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MICROS_MAX, 2).expect("the bounds are right")
}

pub(super) fn note(times: &mut Histogram<u64>, time: Duration) {
    times.saturating_record(u64::try_from(time.as_micros()).unwrap_or(MICROS_MAX).max(1));
}
