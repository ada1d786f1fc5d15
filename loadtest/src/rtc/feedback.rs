//! What a viewer tells her server: receiver reports, what she misses, when packets came.

use std::time::Duration;

use rtcp::{
    Packet,
    payload_feedbacks::picture_loss_indication::PictureLossIndication,
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    transport_feedbacks::{
        transport_layer_cc::{
            PacketStatusChunk, RecvDelta, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc, SymbolTypeTcc,
            TransportLayerCc,
        },
        transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
    },
};

/// Packets that one feedback tells of.
const TOLD_MAX: usize = 400;
/// A gap that is no loss but a new beginning.
const GAP_MAX: u64 = 1_000;
const SYMBOLS_PER_CHUNK: usize = 7;
const DELTA_US: i64 = 250;
const REFERENCE_US: i64 = 64_000;

pub fn receiver_report(ssrc: u32, reports: Vec<ReceptionReport>) -> Vec<Box<dyn Packet>> {
    vec![Box::new(ReceiverReport { ssrc, reports, ..Default::default() })]
}

pub fn keyframe_request(sender_ssrc: u32, media_ssrc: u32) -> Vec<Box<dyn Packet>> {
    vec![Box::new(PictureLossIndication { sender_ssrc, media_ssrc })]
}

pub fn nack(sender_ssrc: u32, media_ssrc: u32, lost: &[u16]) -> Vec<Box<dyn Packet>> {
    vec![Box::new(TransportLayerNack { sender_ssrc, media_ssrc, nacks: nack_pairs_from_sequence_numbers(lost) })]
}

/// Arrivals by transport-wide number, until they are told.
#[derive(Default)]
pub struct Arrivals {
    highest: Option<u64>,
    /// The first number that was not told of.
    next: u64,
    noted: Vec<(u64, Duration)>,
    media_ssrc: u32,
    count: u8,
}

impl Arrivals {
    pub fn note(&mut self, media_ssrc: u32, number: u16, arrived: Duration) {
        let index = match self.highest {
            None => (1 << 16) + u64::from(number),
            Some(highest) => highest.wrapping_add_signed(i64::from(number.wrapping_sub(highest as u16) as i16)),
        };
        if self.highest.is_none_or(|highest| index > highest + GAP_MAX) {
            self.next = index;
            self.noted.clear();
        }
        self.highest = Some(self.highest.map_or(index, |highest| highest.max(index)));
        self.media_ssrc = media_ssrc;
        if index >= self.next && self.noted.len() < TOLD_MAX {
            self.noted.push((index, arrived));
        }
    }

    /// Everything since the last time; none if nothing came.
    pub fn tell(&mut self, sender_ssrc: u32) -> Option<Vec<Box<dyn Packet>>> {
        self.noted.sort_unstable_by_key(|(index, _)| *index);
        self.noted.dedup_by_key(|(index, _)| *index);
        let (first, last) = (self.noted.first()?.1, self.noted.last()?.0);
        let (base, mut symbols, mut deltas) = (self.next, Vec::new(), Vec::new());
        let reference = i64::try_from(first.as_micros()).unwrap_or(0) / REFERENCE_US;
        let mut before = reference * REFERENCE_US;
        let mut expected = base;
        for (index, arrived) in self.noted.drain(..) {
            symbols.extend((expected..index).map(|_| SymbolTypeTcc::PacketNotReceived));
            expected = index + 1;
            let steps = (i64::try_from(arrived.as_micros()).unwrap_or(0) - before) / DELTA_US;
            let steps = steps.clamp(i64::from(i16::MIN), i64::from(i16::MAX));
            before += steps * DELTA_US;
            let type_tcc_packet = match steps {
                0..=255 => SymbolTypeTcc::PacketReceivedSmallDelta,
                _ => SymbolTypeTcc::PacketReceivedLargeDelta,
            };
            symbols.push(type_tcc_packet);
            deltas.push(RecvDelta { type_tcc_packet, delta: steps * DELTA_US });
        }
        self.next = last + 1;
        self.count = self.count.wrapping_add(1);
        Some(vec![Box::new(TransportLayerCc {
            sender_ssrc,
            media_ssrc: self.media_ssrc,
            base_sequence_number: base as u16,
            packet_status_count: symbols.len() as u16,
            reference_time: (reference & 0xFF_FFFF) as u32,
            fb_pkt_count: self.count.wrapping_sub(1),
            packet_chunks: symbols.chunks(SYMBOLS_PER_CHUNK).map(chunk).collect(),
            recv_deltas: deltas,
        })])
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
    use super::*;
    use shared::marshal::{Marshal, Unmarshal};

    #[test]
    fn feedback_read_back_names_the_lost_and_the_times() {
        let mut arrivals = Arrivals::default();
        let at = |ms: u64| Duration::from_millis(1_790_000_000_000 + ms);
        for (number, ms) in [(65_534u16, 0), (65_535, 5), (1, 10), (2, 200)] {
            arrivals.note(7, number, at(ms));
        }
        let told = arrivals.tell(1).unwrap();
        let told = told[0].as_any().downcast_ref::<TransportLayerCc>().unwrap();
        let read = TransportLayerCc::unmarshal(&mut told.marshal().unwrap()).unwrap();
        assert_eq!((read.base_sequence_number, read.packet_status_count), (65_534, 5));
        let passed: i64 = read.recv_deltas[1..].iter().map(|delta| delta.delta).sum();
        assert!((199_000..=200_250).contains(&passed), "{passed}");
        assert!(arrivals.tell(1).is_none());

        arrivals.note(7, 4, at(220));
        let told = arrivals.tell(1).unwrap();
        let told = told[0].as_any().downcast_ref::<TransportLayerCc>().unwrap();
        assert_eq!((told.base_sequence_number, told.packet_status_count), (3, 2), "number 3 is told as lost");
    }
}
