//! Inputs that are right: a fuzzer gets further from them than from nothing.

use rtcp::{
    goodbye::Goodbye,
    payload_feedbacks::{
        full_intra_request::{FirEntry, FullIntraRequest},
        picture_loss_indication::PictureLossIndication,
        receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    },
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    transport_feedbacks::{
        transport_layer_cc::{
            PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
            SymbolTypeTcc, TransportLayerCc,
        },
        transport_layer_nack::{NackPair, TransportLayerNack},
    },
};
use stun::{
    attributes::{ATTR_ICE_CONTROLLING, ATTR_USE_CANDIDATE, ATTR_USERNAME},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, Message, Setter},
};

use super::{
    PASSWORD, piece,
    worker::{
        CHANNEL_OF_VIEWER, FROM_PUBLISHER, FROM_STRANGER, FROM_VIEWER, MEDIA_OF_PUBLISHER, REPORT_OF_PUBLISHER,
        REPORT_OF_VIEWER, TIME,
    },
};

/// Three layers of VP8 and sound, with an application section.
pub const PUBLISHERS_OFFER: &str = concat!(
    "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2\r\n",
    "a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:",
    "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n",
    "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijklmn\r\na=setup:actpass\r\n",
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\n",
    "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n",
    "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n",
    "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n",
    "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\n",
    "a=fmtp:97 apt=96\r\na=rid:l send\r\na=rid:m send\r\na=rid:h send\r\na=simulcast:send l;m;h\r\n",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendonly\r\na=rtcp-mux\r\n",
    "a=rtpmap:111 opus/48000/2\r\na=ssrc:3333 cname:c\r\n",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\na=sctp-port:5000\r\n",
);

/// Picture in two codecs, sound, and an application section.
pub const VIEWERS_OFFER: &str = concat!(
    "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2\r\n",
    "a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:",
    "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n",
    "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijklmn\r\na=setup:actpass\r\n",
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97 102\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n",
    "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n",
    "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 transport-cc\r\n",
    "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:102 H264/90000\r\n",
    "a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=recvonly\r\na=rtcp-mux\r\n",
    "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\na=sctp-port:5000\r\n",
    "a=max-message-size:262144\r\n",
);

const KEYFRAME: [u8; 16] = [0x90, 0xE0, 0x81, 0x23, 7, 0x20, 0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 2, 0x68, 1];
const INTERFRAME: [u8; 8] = [0x90, 0xE0, 0x81, 0x24, 7, 0x20, 0x11, 0];
/// H.264 parameter sets as an encoder writes them, with everything that may be in them.
const SEQUENCE: &[u8] =
    b"\x67\x64\x00\x1f\xac\xd9\x40\x50\x05\xbb\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xf1\x83\x19\x60";
const PICTURE: &[u8] = b"\x68\xeb\xe3\xcb\x22\xc0";
const RID: u8 = 10;

pub fn sdp() -> Vec<Vec<u8>> {
    [PUBLISHERS_OFFER, VIEWERS_OFFER].map(|offer| offer.as_bytes().to_vec()).into()
}

pub fn payload() -> Vec<Vec<u8>> {
    vec![
        KEYFRAME.to_vec(),
        INTERFRAME.to_vec(),
        vec![0x10, 0, 1, 2],
        SEQUENCE.to_vec(),
        PICTURE.to_vec(),
        [&[24, 0, 2, 9, 0xF0, 0, SEQUENCE.len() as u8], SEQUENCE, &[0, PICTURE.len() as u8], PICTURE].concat(),
        vec![0x65, 0x88, 0x84, 0],
        vec![28, 0x85, 0x88, 0x84, 0],
    ]
}

pub fn stun() -> Vec<Vec<u8>> {
    vec![check("viewer:abcd", PASSWORD), check("publisher:abcd", "another password")]
}

fn check(username: &str, password: &str) -> Vec<u8> {
    let mut message = Message::new();
    message.set_type(BINDING_REQUEST);
    message.write_header();
    message.add(ATTR_USERNAME, username.as_bytes());
    message.add(ATTR_ICE_CONTROLLING, &[1; 8]);
    message.add(ATTR_USE_CANDIDATE, &[]);
    let crypto = super::IDENTITY.provider.crypto();
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto);
    integrity.add_to(&mut message).expect("room for an attribute");
    FINGERPRINT.add_to(&mut message).expect("room for an attribute");
    message.raw
}

/// A media packet of one layer.
fn media(rid: u8, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let extension = [0xBE, 0xDE, 0, 1, RID << 4, rid, 0, 0];
    let head = [&[0x90, 0x80 | 96][..], &sequence.to_be_bytes(), &[0, 0, sequence as u8, 0], &[0, 0, 4, rid]].concat();
    [&head[..], &extension, payload].concat()
}

fn marshal(packet: Box<dyn rtcp::Packet>) -> Vec<u8> {
    rtcp::packet::marshal(&[packet]).expect("a report that can be written").to_vec()
}

fn reports() -> Vec<Vec<u8>> {
    let nacks = vec![NackPair { packet_id: 3, lost_packets: 0x8001 }];
    let reception = ReceptionReport { ssrc: 1, fraction_lost: 10, total_lost: 3, ..Default::default() };
    vec![
        marshal(Box::new(SenderReport { ssrc: 3333, ntp_time: 1 << 40, rtp_time: 7, ..Default::default() })),
        marshal(Box::new(ReceiverReport { ssrc: 1, reports: vec![reception], ..Default::default() })),
        marshal(Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: 2 })),
        marshal(Box::new(FullIntraRequest {
            sender_ssrc: 1,
            media_ssrc: 2,
            fir: vec![FirEntry { ssrc: 2, sequence_number: 1 }],
        })),
        marshal(Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc: 2, nacks })),
        marshal(Box::new(ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate: 1e6, ssrcs: vec![2] })),
        marshal(Box::new(Goodbye { sources: vec![1], reason: Default::default() })),
        transport_report(0, 0),
    ]
}

/// Ten packets of which one is lost.
fn transport_report(base: u16, reference_time: u32) -> Vec<u8> {
    let small = SymbolTypeTcc::PacketReceivedSmallDelta;
    let symbol_list = vec![small, SymbolTypeTcc::PacketNotReceived, small, small, small, small, small];
    let chunks = vec![
        PacketStatusChunk::RunLengthChunk(RunLengthChunk {
            type_tcc: StatusChunkTypeTcc::RunLengthChunk,
            packet_status_symbol: small,
            run_length: 3,
        }),
        PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
            type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
            symbol_size: SymbolSizeTypeTcc::TwoBit,
            symbol_list,
        }),
    ];
    marshal(Box::new(TransportLayerCc {
        sender_ssrc: 1,
        media_ssrc: 2,
        base_sequence_number: base,
        packet_status_count: 10,
        reference_time,
        fb_pkt_count: 0,
        packet_chunks: chunks,
        recv_deltas: vec![RecvDelta { type_tcc_packet: small, delta: 1_000 }; 9],
    }))
}

pub fn feedback() -> Vec<Vec<u8>> {
    let reports =
        (0..12u16).map(|round| piece(10, &transport_report(round * 10, (u32::from(round) * 3 / 2) & 0xff_ffff)));
    vec![reports.collect::<Vec<_>>().concat()]
}

/// Found by the fuzzer: the crate panics over the length of a cause, which is why the channel looks first.
const ABORT_THAT_LIES: &[u8] = &[6, 0, 0, 8, 0, 12, 0, 200];
/// Found by the fuzzer: offsets beyond 16 bits overflow in the crate's answer.
const CHUNKS_FAR_AHEAD: &[u8] = &[
    0, 3, 0, 17, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 51, b'x', 0, 0, 0, //
    0, 3, 0, 17, 0, 1, 0, 2, 0, 1, 0, 1, 0, 0, 0, 51, b'x', 0, 0, 0,
];

/// The chunks of a channel's opening and a text, then the other chunks that SCTP has.
pub fn channel() -> Vec<Vec<u8>> {
    let data = |tsn: u8, stream: u8, number: u8, protocol: u8, bytes: &[u8]| {
        let mut chunk = vec![0, 3, 0, 16 + bytes.len() as u8, 0, 0, 0, tsn, 0, stream, 0, number, 0, 0, 0, protocol];
        chunk.extend_from_slice(bytes);
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    };
    let (ack, text) = (data(1, 1, 0, 50, &[2]), data(2, 1, 1, 51, b"hi"));
    let open = data(3, 4, 0, 50, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, b'x']);
    let others: [&[u8]; 11] = [
        &[3, 0, 0, 16, 0, 0, 0, 9, 0, 1, 0, 0, 0, 0, 0, 0],
        &[4, 0, 0, 12, 0, 1, 0, 8, 1, 2, 3, 4],
        &[192, 0, 0, 12, 0, 0, 0, 9, 0, 1, 0, 1],
        &[130, 0, 0, 20, 0, 13, 0, 16, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1],
        &[9, 0, 0, 4],
        &[7, 0, 0, 8, 0, 0, 0, 1],
        &[8, 0, 0, 4],
        &[6, 0, 0, 4],
        &[9, 0, 0, 16, 0, 1, 0, 8, 0, 1, 0, 0, 0, 13, 0, 4],
        ABORT_THAT_LIES,
        CHUNKS_FAR_AHEAD,
    ];
    let mut inputs = vec![[piece(0, &ack), piece(0, &text), piece(0, &open)].concat()];
    inputs.extend(others.map(|other| [piece(0, &ack), piece(0, other), piece(0, &text)].concat()));
    inputs
}

pub fn worker() -> Vec<Vec<u8>> {
    let mut show = Vec::new();
    for sequence in 0..10u16 {
        let payload = if sequence % 5 == 0 { &KEYFRAME[..] } else { &INTERFRAME };
        for rid in [b'l', b'm', b'h'] {
            show.extend(piece(MEDIA_OF_PUBLISHER, &media(rid, sequence, payload)));
        }
        show.extend(piece(TIME, &[0, 20]));
    }
    let mut inputs = vec![show.clone()];
    for report in reports() {
        let both = [piece(REPORT_OF_PUBLISHER, &report), piece(REPORT_OF_VIEWER, &report), piece(TIME, &[4, 0])];
        inputs.push([&show[..], &both.concat()].concat());
    }
    let hello = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let stranger = [check("viewer:abcd", "no"), media(b'l', 1, &KEYFRAME), reports()[2].clone(), hello.to_vec()];
    let from = |who: u8| stranger.iter().map(|datagram| piece(who, datagram)).collect::<Vec<_>>().concat();
    inputs.push([from(FROM_STRANGER), from(FROM_PUBLISHER), from(FROM_VIEWER), show].concat());
    inputs.push([piece(CHANNEL_OF_VIEWER, &[0x13, 0x88, 0x13, 0x88, 0, 0, 0, 0]), piece(TIME, &[40, 0])].concat());
    inputs
}
