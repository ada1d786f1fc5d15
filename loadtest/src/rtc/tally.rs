//! What an audience has noted together.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hist::Hist;

/// Reasons of failures that are kept to be looked at.
const EXAMPLES_MAX: usize = 5;

/// Counts and times since the start, or since the last [`super::Audience::take`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    pub answer: Hist,
    pub first_packet: Hist,
    pub first_picture: Hist,
    /// From the making of a packet of an [`super::Anchor`] to its arrival here; sampled viewers.
    pub delay: Hist,
    /// Of each stream now (RFC 3550).
    pub jitter: Hist,
}

impl Tally {
    /// Packets that never came.
    pub fn lost(&self) -> u64 {
        self.missed.saturating_sub(self.repaired)
    }

    /// The counts and times of two audiences together.
    pub fn add(&mut self, other: &Self) {
        let counts = [
            (&mut self.answered, other.answered),
            (&mut self.refused, other.refused),
            (&mut self.joined, other.joined),
            (&mut self.failed, other.failed),
            (&mut self.inside, other.inside),
            (&mut self.watching, other.watching),
            (&mut self.frozen, other.frozen),
            (&mut self.packets, other.packets),
            (&mut self.bytes, other.bytes),
            (&mut self.missed, other.missed),
            (&mut self.repaired, other.repaired),
            (&mut self.repeated, other.repeated),
            (&mut self.unopened, other.unopened),
            (&mut self.strange, other.strange),
            (&mut self.dropped, other.dropped),
            (&mut self.nacks, other.nacks),
            (&mut self.keyframe_requests, other.keyframe_requests),
            (&mut self.sender_reports, other.sender_reports),
            (&mut self.pictures, other.pictures),
            (&mut self.undecodable, other.undecodable),
            (&mut self.broken, other.broken),
            (&mut self.freezes, other.freezes),
            (&mut self.channels, other.channels),
            (&mut self.texts, other.texts),
        ];
        counts.into_iter().for_each(|(sum, more)| *sum += more);
        self.freeze_time += other.freeze_time;
        let times = [
            (&mut self.answer, &other.answer),
            (&mut self.first_packet, &other.first_packet),
            (&mut self.first_picture, &other.first_picture),
            (&mut self.delay, &other.delay),
            (&mut self.jitter, &other.jitter),
        ];
        times.into_iter().for_each(|(sum, more)| sum.add(more));
        let place = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(place).cloned());
    }

    pub(super) fn example(&mut self, why: &anyhow::Error) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{why:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field as a number of its own, so that one that is forgotten shows.
    fn full(from: u64) -> Tally {
        let mut value = serde_json::to_value(Tally::default()).unwrap();
        for (number, field) in value.as_object_mut().unwrap().values_mut().enumerate() {
            let number = from + number as u64;
            if field.is_u64() {
                *field = number.into();
            } else if field.is_object() {
                field["secs"] = number.into();
            } else {
                *field = serde_json::json!([[number, 1]]);
            }
        }
        value["examples"] = serde_json::json!(["why"]);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn audiences_of_several_workers_add_up_exactly_over_the_wire() {
        let (one, other) = (full(100), full(300));
        let mut sum = one.clone();
        sum.add(&serde_json::from_str(&serde_json::to_string(&other).unwrap()).unwrap());
        let [one, other, sum] = [one, other, sum].map(|tally| serde_json::to_value(tally).unwrap());
        for (field, sum) in sum.as_object().unwrap() {
            let both = [&one[field], &other[field]];
            match sum {
                serde_json::Value::Number(sum) => {
                    assert_eq!(sum.as_u64(), both.iter().map(|n| n.as_u64()).sum::<Option<u64>>(), "{field}");
                }
                serde_json::Value::Object(sum) => {
                    assert_eq!(sum["secs"], both.iter().map(|n| n["secs"].as_u64().unwrap()).sum::<u64>())
                }
                list => assert_eq!(list.as_array().unwrap().len(), 2, "{field}: {list}"),
            }
        }
    }
}
