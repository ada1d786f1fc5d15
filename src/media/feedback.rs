//! What a publisher is told of her packets' arrival, by which she finds what her uplink carries
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! It owns the arrivals that were not told yet, and deliberately estimates nothing: that is the sender's part.

use std::{collections::BTreeMap, time::Instant};

use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc, SymbolTypeTcc,
    TransportLayerCc,
};

/// Arrivals and numbers that one feedback tells of: it fits into a datagram.
const TOLD_MAX: usize = 350;
const NUMBERS_MAX: u64 = 1_000;
/// Arrivals that wait to be told; more than a gigabit a second brings in one interval.
const WAITING_MAX: usize = 6_000;
/// A gap that is no loss but a new beginning; and how late a packet may be and still be told of.
const GAP_MAX: u64 = 1_000;
const SYMBOLS_PER_CHUNK: usize = 7;
const STEP_US: i64 = 250;
const REFERENCE_US: i64 = 64_000;

/// Arrivals by transport-wide number.
#[derive(Debug)]
pub struct Arrivals {
    started: Instant,
    highest: Option<u64>,
    /// The first number that was not told of.
    next: u64,
    /// In microseconds since the start.
    waiting: BTreeMap<u64, i64>,
    media_ssrc: u32,
    count: u8,
}

impl Arrivals {
    pub fn new(started: Instant) -> Self {
        Self { started, highest: None, next: 0, waiting: BTreeMap::new(), media_ssrc: 0, count: 0 }
    }

    /// An authentic packet came, in order or late.
    pub fn note(&mut self, media_ssrc: u32, number: u16, now: Instant) {
        let highest = self.highest.unwrap_or((1 << 16) + u64::from(number));
        let index = highest.saturating_add_signed(i64::from(number.wrapping_sub(highest as u16) as i16));
        if self.highest.is_none() || index > highest + GAP_MAX {
            self.next = index;
            self.waiting.clear();
        }
        self.highest = Some(highest.max(index));
        self.media_ssrc = media_ssrc;
        if index + GAP_MAX > highest && self.waiting.len() < WAITING_MAX {
            let passed = now.saturating_duration_since(self.started);
            self.waiting.entry(index).or_insert(i64::try_from(passed.as_micros()).unwrap_or(0));
        }
    }

    /// The next feedback, until all that came is told; call it until there is none. Numbers that did not come are told
    /// as lost; one that comes after that is told on its own.
    pub fn tell(&mut self, sender_ssrc: u32) -> Option<TransportLayerCc> {
        let (&first, &arrived) = self.waiting.first_key_value()?;
        let (base, end) = if first < self.next {
            (first, self.next)
        } else {
            (self.next.max((first + 1).saturating_sub(NUMBERS_MAX)), u64::MAX)
        };
        let end = end.min(base + NUMBERS_MAX);
        let reference = arrived / REFERENCE_US;
        let mut told = Told { next: base, last_us: reference * REFERENCE_US, ..Told::default() };
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() >= end || told.deltas.len() == TOLD_MAX || !told.take(*entry.key(), *entry.get()) {
                break;
            }
            entry.remove();
        }
        self.next = self.next.max(told.next);
        self.count = self.count.wrapping_add(1);
        Some(TransportLayerCc {
            sender_ssrc,
            media_ssrc: self.media_ssrc,
            base_sequence_number: base as u16,
            packet_status_count: told.symbols.len() as u16,
            reference_time: (reference & 0xFF_FFFF) as u32,
            fb_pkt_count: self.count.wrapping_sub(1),
            packet_chunks: told.symbols.chunks(SYMBOLS_PER_CHUNK).map(chunk).collect(),
            recv_deltas: told.deltas,
        })
    }
}

/// One feedback in the making.
#[derive(Default)]
struct Told {
    next: u64,
    last_us: i64,
    symbols: Vec<SymbolTypeTcc>,
    deltas: Vec<RecvDelta>,
}

impl Told {
    /// Whether the arrival could be told in this one: the time since the one before must fit.
    fn take(&mut self, index: u64, arrived_us: i64) -> bool {
        let steps = (arrived_us - self.last_us).div_euclid(STEP_US);
        let type_tcc_packet = match i16::try_from(steps) {
            Ok(0..=255) => SymbolTypeTcc::PacketReceivedSmallDelta,
            Ok(_) => SymbolTypeTcc::PacketReceivedLargeDelta,
            Err(_) => return false,
        };
        self.symbols.extend((self.next..index).map(|_| SymbolTypeTcc::PacketNotReceived));
        self.symbols.push(type_tcc_packet);
        self.deltas.push(RecvDelta { type_tcc_packet, delta: steps * STEP_US });
        self.last_us += steps * STEP_US;
        self.next = index + 1;
        true
    }
}

fn chunk(symbols: &[SymbolTypeTcc]) -> PacketStatusChunk {
    let mut symbol_list = symbols.to_vec();
    symbol_list.resize(SYMBOLS_PER_CHUNK, SymbolTypeTcc::PacketNotReceived);
    PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
        type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
        symbol_size: SymbolSizeTypeTcc::TwoBit,
        symbol_list,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use shared::marshal::{Marshal, Unmarshal};

    use super::*;
    use crate::media::bandwidth::read_arrivals;

    /// The largest payload that we send in one datagram.
    const DATAGRAM: usize = 1_200;
    const SSRC: u32 = 7;

    /// Everything that is told, as its reader understands it: number, and microseconds since the start if it came.
    fn told(noted: &mut Arrivals) -> Vec<(u16, Option<i64>)> {
        let mut all = Vec::new();
        while let Some(feedback) = noted.tell(1) {
            assert!(!feedback.recv_deltas.is_empty(), "each tells of something, so that this ends");
            let bytes = feedback.marshal().unwrap();
            assert!(bytes.len() < DATAGRAM, "{}", bytes.len());
            let read = TransportLayerCc::unmarshal(&mut &bytes[..]).unwrap();
            let reference = i64::from(read.reference_time) * REFERENCE_US;
            all.extend(read_arrivals(reference, &read));
        }
        all
    }

    #[test]
    fn the_lost_are_named_once_and_who_comes_late_is_told_after_all() {
        let start = Instant::now();
        let mut noted = Arrivals::new(start);
        for (number, ms) in [(65_534u16, 1), (65_535, 5), (1, 10), (2, 200)] {
            noted.note(SSRC, number, start + Duration::from_millis(ms));
        }
        let first = told(&mut noted);
        assert_eq!(
            first,
            [(65_534, Some(1_000)), (65_535, Some(5_000)), (0, None), (1, Some(10_000)), (2, Some(200_000))]
        );
        assert!(told(&mut noted).is_empty());

        noted.note(SSRC, 0, start + Duration::from_millis(250));
        noted.note(SSRC, 4, start + Duration::from_millis(240));
        assert_eq!(told(&mut noted), [(0, Some(250_000)), (3, None), (4, Some(240_000))]);
    }

    #[test]
    fn a_long_gap_is_a_new_beginning_and_a_long_silence_a_new_reference() {
        let start = Instant::now();
        let mut noted = Arrivals::new(start);
        noted.note(SSRC, 1, start);
        assert_eq!(told(&mut noted).len(), 1);
        noted.note(SSRC, 20_000, start + Duration::from_secs(1));
        assert_eq!(told(&mut noted), [(20_000, Some(1_000_000))]);
        noted.note(SSRC, 20_001, start + Duration::from_secs(2));
        noted.note(SSRC, 20_002, start + Duration::from_secs(60));
        assert_eq!(told(&mut noted), [(20_001, Some(2_000_000)), (20_002, Some(60_000_000))]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let start = Instant::now();
        let mut noted = Arrivals::new(start);
        (0..50_000u32).for_each(|number| noted.note(SSRC, number as u16, start));
        assert!(noted.waiting.len() <= WAITING_MAX);
        assert_eq!(told(&mut noted).len(), WAITING_MAX);
    }

    proptest! {
        /// Of packets that are lost, late and told in pieces, every one that came is told once with its time, and
        /// every one before the last that did not come is told as lost.
        #[test]
        fn a_sender_learns_what_came_and_when(
            first in any::<u16>(),
            fates in proptest::collection::vec((0..20_000i64, 0..10u8, 0..4u8), 1..600),
        ) {
            let start = Instant::now();
            let mut noted = Arrivals::new(start);
            // A packet leaves every 3 ms and takes up to 20; one in ten is lost, and told is about every 12 ms.
            let sent = fates.iter().enumerate().map(|(index, fate)| (index, index as i64 * 3_000 + fate.0, fate));
            let mut came: Vec<(i64, usize, u8)> =
                sent.filter(|(index, _, fate)| *index == 0 || fate.1 > 0).map(|(index, at, fate)| (at, index, fate.2)).collect();
            came[0].0 = 0;
            came.sort();
            let mut heard = BTreeMap::new();
            let mut lost = Vec::new();
            let mut listen = |noted: &mut Arrivals| {
                for (number, arrived) in told(noted) {
                    match arrived {
                        Some(at) => assert!(heard.insert(number.wrapping_sub(first), at).is_none(), "told twice"),
                        None => lost.push(number.wrapping_sub(first)),
                    }
                }
            };
            for (at, index, turn) in &came {
                noted.note(SSRC, first.wrapping_add(*index as u16), start + Duration::from_micros(*at as u64));
                if *turn == 0 {
                    listen(&mut noted);
                }
            }
            listen(&mut noted);

            prop_assert_eq!(heard.len(), came.len());
            let last = came.iter().map(|(_, index, _)| *index).max().unwrap();
            for index in 0..=last {
                match came.iter().find(|(_, other, _)| *other == index) {
                    Some((at, ..)) => prop_assert!((at - heard[&(index as u16)]).abs() < STEP_US),
                    None => prop_assert!(lost.contains(&(index as u16))),
                }
            }
        }
    }
}
