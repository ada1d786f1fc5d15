//! The last packets of one track: the only place where media is kept. Viewers are cursors into it; what one lost is sent
//! again out of it, and who comes late begins at its newest keyframe.

use super::{codec::Kind, track::Packet};

/// With so many packets behind a keyframe, what is missing before it is not waited for.
const SETTLED_BEHIND: u64 = 32;

#[derive(Debug)]
pub struct Ring {
    slots: Vec<Option<Packet>>,
    /// The stream of the newest packets; numbers below are of it.
    stream: u64,
    newest: Option<Newest>,
    /// The lowest number that came of the stream.
    lowest: u64,
    keyframe: Option<Keyframe>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    pub number: u64,
    pub timestamp: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyframe {
    pub number: u64,
    pub timestamp: u32,
    /// Bytes of media from its first packet to the newest one.
    pub bytes: usize,
}

/// What a packet is to those who follow the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The newest of its stream, or the first of a new one.
    Newest,
    /// Behind where others may already be.
    Late,
    /// Of a stream that was left, too old, or here already.
    Useless,
}

impl Ring {
    /// About five seconds of video at 2 Mb/s, and two of audio.
    pub fn new(kind: Kind) -> Self {
        let len = match kind {
            Kind::Video => 1024,
            Kind::Audio => 128,
        };
        Self { slots: vec![None; len], stream: 0, newest: None, lowest: u64::MAX, keyframe: None }
    }

    pub fn push(&mut self, packet: &Packet) -> Arrival {
        if packet.stream < self.stream {
            return Arrival::Useless;
        }
        if packet.stream > self.stream {
            (self.stream, self.newest, self.keyframe) = (packet.stream, None, None);
            self.lowest = u64::MAX;
        }
        let arrival = match self.newest {
            Some(newest) if packet.number > newest.number => Arrival::Newest,
            None => Arrival::Newest,
            Some(newest) if newest.number - packet.number >= self.len() => return Arrival::Useless,
            Some(_) if self.get(packet.stream, packet.number).is_some() => return Arrival::Useless,
            Some(_) => Arrival::Late,
        };
        if arrival == Arrival::Newest {
            self.newest = Some(Newest { number: packet.number, timestamp: packet.timestamp });
        }
        self.lowest = self.lowest.min(packet.number);
        self.note_keyframe(packet);
        let slot = self.slot(packet.number);
        self.slots[slot] = Some(packet.clone());
        arrival
    }

    /// A keyframe may say so in several of its packets: it begins at the first of them.
    fn note_keyframe(&mut self, packet: &Packet) {
        let begins = packet.starts_keyframe
            && self.keyframe.is_none_or(|known| match known.timestamp == packet.timestamp {
                true => packet.number < known.number,
                false => packet.number > known.number,
            });
        let bytes = match self.keyframe {
            Some(known) if begins && known.timestamp == packet.timestamp => known.bytes,
            _ if begins => 0,
            Some(known) if packet.number > known.number => known.bytes,
            _ => return,
        };
        let known = self.keyframe.filter(|_| !begins);
        self.keyframe = Some(Keyframe {
            number: known.map_or(packet.number, |known| known.number),
            timestamp: known.map_or(packet.timestamp, |known| known.timestamp),
            bytes: bytes + packet.payload.len(),
        });
    }

    pub fn get(&self, stream: u64, number: u64) -> Option<&Packet> {
        let packet = self.slots[self.slot(number)].as_ref()?;
        (packet.stream == stream && packet.number == number).then_some(packet)
    }

    pub fn stream(&self) -> u64 {
        self.stream
    }

    pub fn newest(&self) -> Option<Newest> {
        self.newest
    }

    /// The newest keyframe, while it is still here from its first packet on, and once that is surely the first.
    pub fn keyframe(&self) -> Option<Keyframe> {
        self.newest_keyframe().filter(|keyframe| self.is_settled(keyframe))
    }

    fn newest_keyframe(&self) -> Option<Keyframe> {
        let newest = self.newest?.number;
        self.keyframe.filter(|keyframe| newest.saturating_sub(keyframe.number) < self.len())
    }

    /// Not while packets are missing right before a keyframe that takes its parameter sets from earlier ones: newer sets
    /// may be in them.
    fn is_settled(&self, keyframe: &Keyframe) -> bool {
        let needs_sets = self.get(self.stream, keyframe.number).is_some_and(|first| first.sets.is_some());
        let behind = self.newest.map_or(0, |newest| newest.number.saturating_sub(keyframe.number));
        if !needs_sets || behind >= SETTLED_BEHIND {
            return true;
        }
        let before = (self.lowest..keyframe.number).rev().take(SETTLED_BEHIND as usize);
        let mut of_others = before.map(|number| Some(self.get(self.stream, number)?.timestamp != keyframe.timestamp));
        of_others.find(|is_other| *is_other != Some(false)).is_none_or(|found| found.is_some())
    }

    /// What is here of the newest keyframe and everything behind it, in order.
    pub fn since_keyframe(&self) -> impl Iterator<Item = &Packet> {
        let keyframe = self.newest_keyframe();
        let span = keyframe.zip(self.newest).map(|(keyframe, newest)| keyframe.number..=newest.number);
        span.into_iter().flatten().filter_map(|number| self.get(self.stream, number))
    }

    /// How many numbers it holds.
    pub fn len(&self) -> u64 {
        self.slots.len() as u64
    }

    fn slot(&self, number: u64) -> usize {
        (number % self.slots.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn packet(stream: u64, number: u64, timestamp: u32, starts_keyframe: bool) -> Packet {
        Packet {
            track: 0,
            stream,
            number,
            timestamp,
            marker: false,
            starts_keyframe,
            sets: None,
            height: None,
            vp8: None,
            payload: Bytes::from_static(b"ten bytes."),
        }
    }

    #[test]
    fn another_streams_packet_is_never_given() {
        let mut ring = Ring::new(Kind::Audio);
        ring.push(&packet(1, 5, 0, false));
        assert!(ring.get(1, 5).is_some());
        assert!(ring.get(2, 5).is_none());
        ring.push(&packet(1, 5 + 128, 0, false));
        assert!(ring.get(1, 5).is_none());
        assert_eq!(ring.push(&packet(2, 1, 0, true)), Arrival::Newest);
        assert_eq!(ring.push(&packet(1, 200, 0, true)), Arrival::Useless);
        assert_eq!((ring.stream(), ring.newest().unwrap().number), (2, 1));
    }

    #[test]
    fn a_packet_is_new_late_or_useless() {
        let mut ring = Ring::new(Kind::Audio);
        assert_eq!(ring.push(&packet(1, 100, 0, false)), Arrival::Newest);
        assert_eq!(ring.push(&packet(1, 102, 0, false)), Arrival::Newest);
        assert_eq!(ring.push(&packet(1, 101, 0, false)), Arrival::Late);
        assert_eq!(ring.push(&packet(1, 101, 0, false)), Arrival::Useless);
        ring.push(&packet(1, 300, 0, false));
        assert_eq!(ring.push(&packet(1, 172, 0, false)), Arrival::Useless, "its place is of a newer one");
    }

    #[test]
    fn a_keyframe_begins_at_the_first_of_its_packets() {
        let mut ring = Ring::new(Kind::Video);
        ring.push(&packet(1, 10, 9_000, false));
        assert_eq!(ring.keyframe(), None);
        for (number, starts) in [(11, true), (12, true), (13, false)] {
            ring.push(&packet(1, number, 12_000, starts));
        }
        assert_eq!(ring.keyframe(), Some(Keyframe { number: 11, timestamp: 12_000, bytes: 30 }));
        let numbers: Vec<u64> = ring.since_keyframe().map(|packet| packet.number).collect();
        assert_eq!(numbers, [11, 12, 13]);
        ring.push(&packet(1, 14, 15_000, true));
        assert_eq!(ring.keyframe(), Some(Keyframe { number: 14, timestamp: 15_000, bytes: 10 }));
        ring.push(&packet(1, 14 + 1024, 20_000, false));
        assert_eq!(ring.keyframe(), None, "it was overwritten");
    }

    /// A packet that takes its parameter sets from elsewhere.
    fn needy(number: u64, timestamp: u32) -> Packet {
        let sets = Some(std::sync::Arc::new(packet(1, number, timestamp, true)));
        Packet { sets, ..packet(1, number, timestamp, true) }
    }

    #[test]
    fn a_keyframe_without_sets_waits_for_what_is_missing_before_it() {
        let began = |ring: &Ring| ring.keyframe().map(|keyframe| keyframe.number);
        let mut ring = Ring::new(Kind::Video);
        ring.push(&needy(10, 3_000));
        assert_eq!(began(&ring), Some(10), "nothing was before it");
        ring.push(&packet(1, 11, 6_000, false));
        ring.push(&needy(14, 9_000));
        assert_eq!((began(&ring), ring.since_keyframe().count()), (None, 1));
        ring.push(&packet(1, 13, 9_000, false));
        assert_eq!(began(&ring), None, "the next one before may bring them");
        ring.push(&packet(1, 12, 9_000, true));
        assert_eq!(began(&ring), Some(12), "it did");

        ring.push(&needy(20, 12_000));
        for number in 21..20 + SETTLED_BEHIND {
            ring.push(&packet(1, number, 12_000, false));
            assert_eq!(began(&ring), None);
        }
        ring.push(&packet(1, 20 + SETTLED_BEHIND, 12_000, false));
        assert_eq!(began(&ring), Some(20), "it will not come any more");
        ring.push(&needy(21 + SETTLED_BEHIND, 15_000));
        assert_eq!(began(&ring), Some(21 + SETTLED_BEHIND), "what is before it is of another picture");
    }

    proptest! {
        /// Against a list of everything that was pushed.
        #[test]
        fn what_is_in_the_window_is_there_and_nothing_else(steps in proptest::collection::vec((-150i64..40, any::<bool>()), 1..300)) {
            let (mut ring, mut top, mut pushed) = (Ring::new(Kind::Audio), 1_000u64, Vec::new());
            for (step, key) in steps {
                let number = top.saturating_add_signed(step);
                let arrival = ring.push(&packet(1, number, number as u32, key));
                let expected = match pushed.is_empty() || number > top {
                    true => Arrival::Newest,
                    false if top - number >= 128 || pushed.contains(&number) => Arrival::Useless,
                    false => Arrival::Late,
                };
                prop_assert_eq!(arrival, expected);
                if arrival != Arrival::Useless {
                    top = if pushed.is_empty() { number } else { top.max(number) };
                    pushed.push(number);
                }
                for asked in top.saturating_sub(200)..=top {
                    let is_here = ring.get(1, asked).is_some();
                    prop_assert!(is_here || !pushed.contains(&asked) || top - asked >= 128);
                    prop_assert!(!is_here || pushed.contains(&asked));
                }
            }
        }
    }
}
