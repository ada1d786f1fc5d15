//! Media between a publisher and her viewers: packets freed of everything that belongs to one connection, the numbers
//! they go by, and her clocks.

use std::{collections::VecDeque, num::NonZeroU16, sync::Arc, time::Instant};

use bytes::Bytes;

use super::vp8;

/// One packet of a track. Clones share the payload.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Which of the publisher's tracks.
    pub track: u8,
    /// Numbers of one stream are of one sequence. A publisher's new SSRC, or a new publisher, is a new stream with a
    /// higher name than all before it.
    pub stream: u64,
    /// Its place in the stream; a padding packet takes none.
    pub number: u64,
    pub timestamp: u32,
    pub marker: bool,
    /// A decoder may start here.
    pub starts_keyframe: bool,
    /// What a decoder that starts here must have before: parameter sets, in a packet that nobody else needs.
    pub sets: Option<Arc<Packet>>,
    /// Of the picture that begins here, in pixels, if it is told.
    pub height: Option<NonZeroU16>,
    /// Where VP8 has its numbers.
    pub vp8: Option<vp8::Descriptor>,
    pub payload: Bytes,
}

/// The publisher's wall clock at one of her timestamps, from a sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderClock {
    pub ntp: u64,
    pub rtp: u32,
    /// When the report came.
    pub at: Instant,
}

/// A sender report, and the stream that it is about.
#[derive(Clone, Copy, Debug)]
pub struct TrackClock {
    pub track: u8,
    pub stream: u64,
    pub clock: SenderClock,
}

/// Makes a publisher's indices gapless where she sent padding alone, which is not forwarded.
#[derive(Clone, Debug, Default)]
pub struct Numbering {
    /// The newest padding indices, rising.
    holes: VecDeque<u64>,
    /// Holes that are no longer listed, and the highest of them.
    forgotten: u64,
    forgotten_up_to: Option<u64>,
}

/// Holes that are remembered for packets that come late.
const HOLES_MAX: usize = 64;

impl Numbering {
    /// The packet at `index`, higher than all before, was padding alone.
    pub fn skip(&mut self, index: u64) {
        if self.holes.len() == HOLES_MAX {
            self.forgotten_up_to = self.holes.pop_front();
            self.forgotten += 1;
        }
        self.holes.push_back(index);
    }

    /// The number of the packet at `index`; none if it is so late that the holes before it are forgotten.
    pub fn number(&self, index: u64) -> Option<u64> {
        if self.forgotten_up_to.is_some_and(|hole| index < hole) {
            return None;
        }
        let below = self.holes.partition_point(|hole| *hole < index) as u64;
        index.checked_sub(self.forgotten + below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Without late padding, the media packets' numbers are consecutive, in whatever order they are asked.
        #[test]
        fn numbers_leave_no_gap_where_padding_was(kinds in proptest::collection::vec(any::<bool>(), 1..300)) {
            let mut numbering = Numbering::default();
            let mut media = Vec::new();
            for (index, is_padding) in (1_000u64..).zip(&kinds) {
                if *is_padding { numbering.skip(index) } else { media.push(index) }
            }
            let numbers: Vec<u64> = media.iter().filter_map(|index| numbering.number(*index)).collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
            let listed = kinds.iter().rev().take_while(|padding| !**padding).count();
            prop_assert!(numbers.len() >= listed);
        }
    }

    #[test]
    fn a_packet_older_than_the_remembered_holes_has_no_number() {
        let mut numbering = Numbering::default();
        for index in 0..=HOLES_MAX as u64 {
            numbering.skip(100 + 2 * index);
        }
        assert_eq!(numbering.number(99), None);
        assert_eq!(numbering.number(101), Some(100));
    }
}
