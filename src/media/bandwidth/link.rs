//! A seeded link for tests: it has a rate, a queue, a length, and loses and overtakes packets; behind it viewers report
//! on what arrives, as a browser does.

use std::{collections::VecDeque, time::Duration};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc, SymbolTypeTcc,
    TransportLayerCc,
};

use super::*;

/// A viewer's clock starts here, to be as different from ours as clocks are, and shortly before it wraps.
const VIEWERS_CLOCK_US: u64 = (0x00ff_ffff - 100) * 64_000;
const REPORT_US: u64 = 100_000;
pub const PACKET: usize = 1_200;

pub struct Link {
    pub rate_bps: f64,
    pub queue_bytes_max: f64,
    pub delay_us: u64,
    pub loss: f64,
    pub overtaking: f64,
    free_at: f64,
    rng: SmallRng,
}

impl Link {
    pub fn new(rate_bps: f64, seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        let (queue_bytes_max, delay_us) = (60_000.0, 25_000);
        Self { rate_bps, queue_bytes_max, delay_us, loss: 0.0, overtaking: 0.0, free_at: 0.0, rng }
    }

    pub fn queue_us(&self, at: u64) -> u64 {
        (self.free_at - at as f64).max(0.0) as u64
    }

    /// When a packet that is sent now arrives, if it does.
    fn pass(&mut self, bytes: usize, at: u64) -> Option<u64> {
        if self.queue_us(at) as f64 * self.rate_bps / 8e6 > self.queue_bytes_max {
            return None;
        }
        self.free_at = self.free_at.max(at as f64) + bytes as f64 * 8e6 / self.rate_bps;
        if self.rng.random_bool(self.loss) {
            return None;
        }
        let late = if self.rng.random_bool(self.overtaking) { self.rng.random_range(0..15_000) } else { 0 };
        Some(self.free_at as u64 + self.delay_us + late)
    }
}

/// A viewer behind the link, with the estimate that the server has of her and the server's way of sending.
pub struct Viewer {
    pub bandwidth: Bandwidth,
    pub start: Instant,
    /// What she would like to have.
    pub wanted_bps: u32,
    /// What she is sent.
    pub media_bps: f64,
    /// Whether that is made less when the estimate is lower. A server has a few layers to choose from instead.
    pub is_elastic: bool,
    /// What a keyframe adds every two seconds, at once.
    pub keyframe_bytes: f64,
    /// The part of her reports that is lost.
    pub reports_lost: f64,
    pub arrived_bytes: u64,
    credit: f64,
    on_the_way: Vec<(u64, u16)>,
    arrived: Vec<(u16, u64)>,
    reported_to: u16,
    reports: VecDeque<(u64, TransportLayerCc)>,
    next_report: u64,
    sent: u64,
}

impl Viewer {
    pub fn new(start: Instant, wanted_bps: u32) -> Self {
        Self {
            bandwidth: Bandwidth::new(Limits::default(), start),
            start,
            wanted_bps,
            media_bps: f64::from(wanted_bps),
            is_elastic: true,
            keyframe_bytes: 0.0,
            reports_lost: 0.0,
            arrived_bytes: 0,
            credit: 0.0,
            on_the_way: Vec::new(),
            arrived: Vec::new(),
            reported_to: 0,
            reports: VecDeque::new(),
            next_report: REPORT_US,
            sent: 0,
        }
    }

    /// What happens to her in the millisecond at `at`.
    pub fn step(&mut self, link: &mut Link, at: u64) {
        let now = self.start + Duration::from_micros(at);
        // Thirty pictures a second, spread over half their time.
        let most = if self.is_elastic { f64::from(self.bandwidth.estimate()) } else { f64::INFINITY };
        let media_bps = self.media_bps.min(most);
        if at / 1_000 % 33 < 17 {
            self.credit += media_bps * 33.0 / 17.0 / 8e3;
        }
        if at.is_multiple_of(2_000_000) {
            self.credit += self.keyframe_bytes;
        }
        while self.credit >= PACKET as f64 {
            self.credit -= PACKET as f64;
            self.send(PACKET, link, at);
        }
        if (at / 1_000).is_multiple_of(5) {
            if (at / 1_000).is_multiple_of(50) {
                self.bandwidth.turn(now);
                self.bandwidth.probe(self.wanted_bps, now);
            }
            while self.bandwidth.padding(now) > 0 {
                self.send(255, link, at);
            }
        }
        self.receive(link, at);
        while self.reports.front().is_some_and(|(due, _)| *due <= at) {
            let (_, report) = self.reports.pop_front().unwrap();
            self.bandwidth.feedback(&report, now);
        }
    }

    fn send(&mut self, bytes: usize, link: &mut Link, at: u64) {
        let number = self.bandwidth.sent(bytes, self.start + Duration::from_micros(at));
        assert_eq!(number, self.sent as u16);
        self.sent += 1;
        if let Some(arrival) = link.pass(bytes, at) {
            self.on_the_way.push((arrival, number));
            self.arrived_bytes += bytes as u64;
        }
    }

    fn receive(&mut self, link: &mut Link, at: u64) {
        let arrived = &mut self.arrived;
        self.on_the_way.retain(|(arrival, number)| {
            if *arrival <= at {
                arrived.push((*number, *arrival));
            }
            *arrival > at
        });
        if at < self.next_report {
            return;
        }
        self.next_report = at + REPORT_US;
        if let Some(report) = report(self.reported_to, &self.arrived) {
            self.reported_to = self.reported_to.wrapping_add(report.packet_status_count);
            if !link.rng.random_bool(self.reports_lost) {
                self.reports.push_back((at + link.delay_us, report));
            }
        }
        self.arrived.clear();
    }
}

/// The report on packets from `base` on, of which these arrived.
pub fn report(base: u16, arrived: &[(u16, u64)]) -> Option<TransportLayerCc> {
    let mut arrived: Vec<(u16, u64)> =
        arrived.iter().map(|(number, at)| (number.wrapping_sub(base), at + VIEWERS_CLOCK_US)).collect();
    arrived.retain(|(offset, _)| *offset < 0x8000);
    arrived.sort_unstable();
    let (first, last) = (arrived.iter().map(|(_, at)| *at).min()?, arrived.last()?.0);
    let reference = first / 64_000;

    let mut time = reference * 256;
    let (mut symbols, mut recv_deltas) = (Vec::new(), Vec::new());
    for offset in 0..=last {
        let Ok(place) = arrived.binary_search_by_key(&offset, |(offset, _)| *offset) else {
            symbols.push(SymbolTypeTcc::PacketNotReceived);
            continue;
        };
        let delta = (arrived[place].1 / 250) as i64 - time as i64;
        time = arrived[place].1 / 250;
        let type_tcc_packet = match delta {
            0..=255 => SymbolTypeTcc::PacketReceivedSmallDelta,
            _ => SymbolTypeTcc::PacketReceivedLargeDelta,
        };
        symbols.push(type_tcc_packet);
        recv_deltas.push(RecvDelta { type_tcc_packet, delta: delta * 250 });
    }
    let packet_chunks = symbols.chunks(7).map(|seven| {
        let mut symbol_list = seven.to_vec();
        symbol_list.resize(7, SymbolTypeTcc::PacketNotReceived);
        PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
            type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
            symbol_size: SymbolSizeTypeTcc::TwoBit,
            symbol_list,
        })
    });
    Some(TransportLayerCc {
        base_sequence_number: base,
        packet_status_count: last + 1,
        reference_time: (reference & 0xff_ffff) as u32,
        packet_chunks: packet_chunks.collect(),
        recv_deltas,
        ..Default::default()
    })
}
