//! Faults of the crates below `media` that others would meet too, as they are today: when one of these tests fails, an
//! upgrade repaired it, and what stands against it here may go. Described in the README beside this file.

mod dtls;

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use crypto::{RTCCryptoProvider as _, providers::AwsLcRsProvider};
use datachannel::message::Message;
use shared::{TransportProtocol, marshal::Unmarshal};
use srtp::{context::Context, option::srtp_replay_protection, protection_profile::ProtectionProfile};

/// rtc-datachannel: one byte from a peer is a panic.
#[test]
fn a_data_channel_message_of_one_byte_panics() {
    for kind in [0u8, 1, 4, 5, 0xff] {
        let result = catch_unwind(|| Message::unmarshal(&mut &[kind][..]).is_ok());
        assert_eq!(result.is_err(), kind == 0, "message type {kind}");
    }
}

/// rtc-srtp: the replay window is placed by the first packet before that packet is authenticated.
#[test]
fn one_forged_packet_shuts_out_the_genuine_ones() {
    let provider = AwsLcRsProvider::new();
    let context = |replay| {
        let (key, salt) = (&[1; 16], &[2; 12]);
        Context::new(key, salt, ProtectionProfile::AeadAes128Gcm, replay, None, provider.crypto()).unwrap()
    };
    let packet = |sequence: u16| [&[0x80, 96][..], &sequence.to_be_bytes(), &[0; 4], &[0, 0, 0, 1], b"media"].concat();
    let (mut sender, mut receiver) = (context(None), context(Some(srtp_replay_protection(64))));
    let mut forged = context(None).encrypt_rtp(&packet(20_000)).unwrap();
    *forged.last_mut().unwrap() ^= 1;
    assert!(receiver.decrypt_rtp(&forged).is_err());

    let accepted = (10..500).filter(|sequence| {
        let genuine = sender.encrypt_rtp(&packet(*sequence)).unwrap();
        receiver.decrypt_rtp(&genuine).is_ok()
    });
    assert_eq!(accepted.count(), 0);
}

/// rtc-rtcp: a transport-wide report whose length field is all ones; the build has overflow checks.
#[test]
fn a_report_of_65535_words_overflows() {
    use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
    let report = [0x8F, 205, 0xFF, 0xFF, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(catch_unwind(|| TransportLayerCc::unmarshal(&mut &report[..]).is_ok()).is_err());
    assert!(rtcp::packet::unmarshal(&mut &report[..]).is_err(), "not by this way");
}

/// rtc-sctp: an ABORT whose cause is longer than its chunk is a panic.
#[test]
fn a_cause_of_an_error_with_a_length_that_lies_panics() {
    let (now, address): (_, SocketAddr) = (Instant::now(), "127.0.0.1:1".parse().unwrap());
    let server = sctp::ServerConfig::new(sctp::TransportConfig::default());
    let mut endpoint = sctp::Endpoint::new(address, TransportProtocol::UDP, Default::default(), Some(Arc::new(server)));
    let initiate = [1, 0, 0, 20, 0, 0, 0, 9, 0, 16, 0, 0, 4, 0, 4, 0, 0, 0, 0, 1];
    let Some((_, sctp::DatagramEvent::NewAssociation(mut association))) =
        endpoint.handle(now, address, None, sctp_packet(0, &initiate))
    else {
        panic!("an association begins")
    };
    let Some(sctp::Payload::RawEncode(answer)) = association.poll_transmit(now).map(|transmit| transmit.message) else {
        panic!("it is answered")
    };
    let tag = u32::from_be_bytes(answer[0][16..20].try_into().unwrap());
    let abort = |cause_len: u8| sctp_packet(tag, &[6, 0, 0, 8, 0, 12, 0, cause_len]);

    let hear = |endpoint: &mut sctp::Endpoint, association: &mut sctp::Association, packet: Bytes| {
        if let Some((_, sctp::DatagramEvent::AssociationEvent(event))) = endpoint.handle(now, address, None, packet) {
            association.handle_event(event);
        }
    };
    let lies = AssertUnwindSafe(|| hear(&mut endpoint, &mut association, abort(200)));
    assert!(catch_unwind(lies).is_err());
}

fn sctp_packet(tag: u32, chunks: &[u8]) -> Bytes {
    let mut packet = [&[0x13, 0x88, 0x13, 0x88][..], &tag.to_be_bytes(), &[0; 4], chunks].concat();
    let checksum = crc32c::crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet.into()
}
