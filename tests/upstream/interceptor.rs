//! rtc-interceptor.

use std::time::{Duration, Instant};

use rtc::{
    interceptor::{
        AttributedPacket, Interceptor as _, NackGeneratorBuilder, NackGeneratorInterceptor, Packet, RTCPFeedback,
        StreamInfo, TaggedPacket,
    },
    sansio::Protocol as _,
};
use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

const MEDIA: u32 = 1;
const REPAIRS: u32 = 2;

fn stream() -> StreamInfo {
    let nack = RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() };
    StreamInfo {
        ssrc: MEDIA,
        ssrc_rtx: Some(REPAIRS),
        payload_type: 96,
        payload_type_rtx: Some(97),
        rtcp_feedback: vec![nack],
        ..StreamInfo::default()
    }
}

fn hear(
    generator: &mut NackGeneratorInterceptor,
    ssrc: u32,
    sequence_number: u16,
    payload: &'static [u8],
    now: Instant,
) {
    let header = rtp::Header { version: 2, payload_type: 95 + ssrc as u8, sequence_number, ssrc, ..Default::default() };
    let packet = rtp::Packet { header, payload: payload.into() };
    let message = AttributedPacket::new(Packet::Rtp(packet));
    generator.handle_read(TaggedPacket { now, transport: Default::default(), message }).unwrap();
}

/// The numbers of the packets that are asked for.
fn asked(generator: &mut NackGeneratorInterceptor, now: Instant) -> Vec<u16> {
    generator.handle_timeout(now).unwrap();
    let mut numbers = Vec::new();
    while let Some(packet) = generator.poll_write() {
        let Packet::Rtcp(reports) = packet.message.packet else { continue };
        for report in &reports {
            let nack: &TransportLayerNack = report.as_any().downcast_ref().unwrap();
            numbers.extend(nack.nacks.iter().flat_map(|pair| pair.packet_list()));
        }
    }
    numbers
}

/// A packet that came again by RTX is asked for until it leaves the log.
#[test]
fn what_was_repaired_by_rtx_is_asked_for_again_and_again() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let mut generator = NackGeneratorBuilder::new().build();
    generator.bind_remote_stream(&stream());
    hear(&mut generator, MEDIA, 10, b"ten", start);
    hear(&mut generator, MEDIA, 12, b"twelve", start);
    assert_eq!(asked(&mut generator, start + second), [11]);
    hear(&mut generator, REPAIRS, 500, b"\x00\x0beleven", start + second);
    for round in 2..20 {
        assert_eq!(asked(&mut generator, start + round * second), [11], "it was repaired long ago");
    }
    hear(&mut generator, MEDIA, 11, b"eleven", start + 20 * second);
    assert!(asked(&mut generator, start + 21 * second).is_empty(), "on the stream itself it counts");
}
