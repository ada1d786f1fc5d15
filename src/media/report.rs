//! Reports and requests to a publisher: what we received of her, what we want of her.

use std::time::{Duration, Instant};

use rtcp::{
    Packet as Rtcp,
    payload_feedbacks::{
        picture_loss_indication::PictureLossIndication,
        receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    },
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
};

use super::track::SenderClock;

/// A span of time in NTP's 32.32 fixed point.
pub fn ntp_of(time: Duration) -> u64 {
    (time.as_secs() << 32) + ((u64::from(time.subsec_nanos()) << 32) / 1_000_000_000)
}

/// What was received of one SSRC (RFC 3550, A.3 and A.8).
#[derive(Debug, Default)]
pub struct Reception {
    first: Option<u64>,
    highest: u64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    transit: Option<i64>,
    jitter: f64,
}

impl Reception {
    /// `arrived` is in ticks of the track's clock, from any fixed start.
    pub fn note(&mut self, index: u64, timestamp: u32, arrived: i64) {
        self.first = Some(self.first.map_or(index, |first| first.min(index)));
        self.received += 1;
        if index < self.highest {
            return;
        }
        self.highest = index;
        let transit = arrived.wrapping_sub(i64::from(timestamp));
        if let Some(before) = self.transit.replace(transit) {
            // The difference of two 32-bit timestamps may wrap; what is left of it is small.
            let change = f64::from((transit.wrapping_sub(before) as i32).unsigned_abs());
            self.jitter += (change - self.jitter) / 16.0;
        }
    }

    /// The block for a receiver report, and the start of a new interval.
    pub fn report(&mut self, ssrc: u32, clock: Option<SenderClock>, now: Instant) -> ReceptionReport {
        let expected = self.first.map_or(0, |first| self.highest - first + 1);
        let lost = expected.saturating_sub(self.received);
        let expected_now = expected.saturating_sub(self.expected_before);
        let received_now = self.received - self.received_before;
        let lost_now = expected_now.saturating_sub(received_now);
        self.expected_before = expected;
        self.received_before = self.received;

        let delay = clock.map_or(Duration::ZERO, |clock| now.saturating_duration_since(clock.at));
        ReceptionReport {
            ssrc,
            fraction_lost: (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255) as u8,
            total_lost: lost.min(0x7f_ffff) as u32,
            // The first cycle is ours, so that numbers before the first have an index.
            last_sequence_number: self.highest.saturating_sub(1 << 16) as u32,
            jitter: self.jitter as u32,
            last_sender_report: clock.map_or(0, |clock| (clock.ntp >> 16) as u32),
            delay: (ntp_of(delay) >> 16) as u32,
        }
    }
}

/// A receiver report that also tells the encoder how far it may rise.
pub fn receiver_report(
    sender_ssrc: u32,
    reports: Vec<ReceptionReport>,
    bitrate_max: u32,
    video_ssrcs: Vec<u32>,
) -> Vec<Box<dyn Rtcp>> {
    let mut packets: Vec<Box<dyn Rtcp>> =
        vec![Box::new(ReceiverReport { ssrc: sender_ssrc, reports, ..Default::default() })];
    if !video_ssrcs.is_empty() {
        packets.push(Box::new(ReceiverEstimatedMaximumBitrate {
            sender_ssrc,
            bitrate: bitrate_max as f32,
            ssrcs: video_ssrcs,
        }));
    }
    packets
}

pub fn keyframe_request(sender_ssrc: u32, media_ssrc: u32) -> Vec<Box<dyn Rtcp>> {
    vec![Box::new(PictureLossIndication { sender_ssrc, media_ssrc })]
}

pub fn nack(sender_ssrc: u32, media_ssrc: u32, lost: &[u16]) -> Vec<Box<dyn Rtcp>> {
    vec![Box::new(TransportLayerNack { sender_ssrc, media_ssrc, nacks: nack_pairs_from_sequence_numbers(lost) })]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CYCLE: u64 = 1 << 16;

    #[test]
    fn loss_is_counted_over_all_and_since_the_last_report() {
        let (mut reception, now) = (Reception::default(), Instant::now());
        for index in (0..100).filter(|index| index % 4 != 3) {
            reception.note(CYCLE + index, 0, 0);
        }
        let first = reception.report(1, None, now);
        assert_eq!((first.total_lost, first.fraction_lost), (24, 62), "99 expected, 24 lost");
        for index in 100..200 {
            reception.note(CYCLE + index, 0, 0);
        }
        let second = reception.report(1, None, now);
        assert_eq!((second.total_lost, second.fraction_lost), (25, 2));
        assert_eq!(second.last_sequence_number, 199);
    }

    #[test]
    fn even_arrival_has_no_jitter_and_uneven_has() {
        let mut even = Reception::default();
        let mut uneven = Reception::default();
        for step in 0..200u32 {
            even.note(CYCLE + u64::from(step), step.wrapping_mul(960).wrapping_sub(5_000), i64::from(step) * 960);
            uneven.note(CYCLE + u64::from(step), step * 960, i64::from(step * 960 + step % 2 * 480));
        }
        assert_eq!(even.report(1, None, Instant::now()).jitter, 0);
        assert!((400..500).contains(&uneven.report(1, None, Instant::now()).jitter));
    }

    #[test]
    fn the_last_sender_report_is_named_with_its_age() {
        let now = Instant::now();
        let clock = SenderClock { ntp: 0x1122_3344_5566_7788, rtp: 0, at: now };
        let report = Reception::default().report(1, Some(clock), now + Duration::from_millis(500));
        assert_eq!((report.last_sender_report, report.delay), (0x3344_5566, 0x8000));
    }
}
