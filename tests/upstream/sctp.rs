//! rtc-sctp.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use sctp::{Association, DatagramEvent, Endpoint, Event, Payload, ServerConfig, TransportConfig};
use shared::TransportProtocol;

use super::address;

const HEADER_LEN: usize = 12;
const STATE_COOKIE: u16 = 7;
const WHOLE: u8 = 3;
const FIRST: u8 = 2;
const LAST: u8 = 1;

/// A server whose association with us stands.
struct Server {
    endpoint: Endpoint,
    association: Association,
    tag: u32,
    now: Instant,
}

impl Server {
    /// Our chunks of data will begin with the number `tsn`.
    fn associate(transport: TransportConfig, tsn: u32) -> Self {
        let (now, server) = (Instant::now(), Arc::new(ServerConfig::new(transport)));
        let mut endpoint = Endpoint::new(address(), TransportProtocol::UDP, Default::default(), Some(server));
        let init = [&[1, 0, 0, 20, 0, 0, 0, 9, 0, 16, 0, 0, 4, 0, 4, 0][..], &tsn.to_be_bytes()].concat();
        let Some((_, DatagramEvent::NewAssociation(mut association))) =
            endpoint.handle(now, address(), None, packet(0, &init))
        else {
            panic!("an association begins")
        };
        let Some(Payload::RawEncode(answer)) = association.poll_transmit(now).map(|transmit| transmit.message) else {
            panic!("it is answered")
        };
        let tag = u32::from_be_bytes(answer[0][16..20].try_into().unwrap());
        let mut this = Self { endpoint, association, tag, now };
        let cookie = cookie(&answer[0][HEADER_LEN + 20..]);
        this.hear(&[&[10, 0][..], &(cookie.len() as u16 + 4).to_be_bytes(), cookie].concat());
        assert!(std::iter::from_fn(|| this.association.poll()).any(|event| matches!(event, Event::Connected)));
        this
    }

    fn hear(&mut self, chunks: &[u8]) {
        let packet = packet(self.tag, chunks);
        if let Some((_, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(self.now, address(), None, packet)
        {
            self.association.handle_event(event);
        }
    }

    fn panics_over(&mut self, chunks: &[u8]) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.hear(chunks))).is_err()
    }

    fn is_lost(&mut self) -> bool {
        std::iter::from_fn(|| self.association.poll()).any(|event| matches!(event, Event::AssociationLost { .. }))
    }
}

fn packet(tag: u32, chunks: &[u8]) -> Bytes {
    let mut packet = [&[0x13, 0x88, 0x13, 0x88][..], &tag.to_be_bytes(), &[0; 4], chunks].concat();
    let checksum = crc32c::crc32c(&packet);
    packet[8..HEADER_LEN].copy_from_slice(&checksum.to_le_bytes());
    packet.into()
}

/// A chunk of four bytes of data, the first message of its stream.
fn data(fragment: u8, tsn: u32, stream: u16) -> Vec<u8> {
    [&[0, fragment, 0, 20][..], &tsn.to_be_bytes(), &stream.to_be_bytes(), &[0, 0, 0, 0, 0, 51], b"data"].concat()
}

/// The state cookie among the parameters of an INIT ACK.
fn cookie(mut parameters: &[u8]) -> &[u8] {
    loop {
        let (kind, len) = (u16::from_be_bytes([parameters[0], parameters[1]]), usize::from(parameters[3]));
        if kind == STATE_COOKIE {
            return &parameters[4..len];
        }
        parameters = &parameters[len.next_multiple_of(4)..];
    }
}

/// An ABORT or ERROR whose cause is longer than its chunk is a panic.
#[test]
fn a_cause_with_a_length_that_lies_panics() {
    for kind in [6, 9] {
        let mut server = Server::associate(TransportConfig::default(), 1);
        assert!(!server.panics_over(&[kind, 0, 0, 8, 0, 12, 0, 4]));
        let mut server = Server::associate(TransportConfig::default(), 1);
        assert!(server.panics_over(&[kind, 0, 0, 8, 0, 12, 0, 200]));
    }
}

/// Causes are padded to four bytes (RFC 9260, 3.3.10); the padding is taken for the next cause.
#[test]
fn an_error_with_two_causes_of_which_the_first_is_padded_panics() {
    let mut server = Server::associate(TransportConfig::default(), 1);
    let unrecognized_then_out_of_resource = [9, 0, 0, 16, 0, 8, 0, 7, 1, 2, 3, 0, 0, 4, 0, 4];
    assert!(server.panics_over(&unrecognized_then_out_of_resource));
}

/// After a chunk the reader goes on where that chunk's contents end, not where its length says.
#[test]
fn an_abort_hidden_in_a_heartbeat_is_obeyed() {
    let mut server = Server::associate(TransportConfig::default(), 1);
    server.hear(&data(WHOLE, 1, 1));
    let heartbeat_of_four_bytes = [4, 0, 0, 12, 0, 1, 0, 8];
    let abort = [6, 0, 0, 4];
    server.hear(&[&heartbeat_of_four_bytes[..], &abort].concat());
    assert!(!server.is_lost(), "here it is what the heartbeat carries");
    let heartbeat_of_nothing = [4, 0, 0, 12, 0, 1, 0, 4];
    server.hear(&[&heartbeat_of_nothing[..], &abort].concat());
    assert!(server.is_lost());
}

/// The largest TSN cannot be passed, though the next is 0 (RFC 9260, 1.6); the build has overflow checks.
#[test]
fn the_wrap_of_the_sequence_overflows() {
    let mut server = Server::associate(TransportConfig::default(), u32::MAX - 1);
    assert!(!server.panics_over(&data(WHOLE, u32::MAX - 1, 1)));
    assert!(server.panics_over(&data(WHOLE, u32::MAX, 2)));
}

/// So it is, in another place, when the two fragments of a message come in the wrong order.
#[test]
fn a_message_across_the_wrap_of_the_sequence_overflows() {
    let mut server = Server::associate(TransportConfig::default(), u32::MAX);
    assert!(!server.panics_over(&data(LAST, 0, 1)), "the second one waits for the first");
    assert!(server.panics_over(&data(FIRST, u32::MAX, 1)));
}

/// Two chunks so far ahead that a SACK cannot name them, whose offsets have 16 bits (RFC 9260, 3.3.4).
#[test]
fn a_gap_of_65535_overflows() {
    let mut server = Server::associate(TransportConfig::default(), 1);
    server.hear(&data(WHOLE, 0xFFFF, 1));
    server.hear(&data(WHOLE, 0x1_0000, 2));
    let answer = AssertUnwindSafe(|| server.association.poll_transmit(server.now).is_some());
    assert!(catch_unwind(answer).is_err());
}

/// The number of streams that was agreed binds nobody.
#[test]
fn a_peer_opens_more_streams_than_were_agreed() {
    let mut server = Server::associate(TransportConfig::default().with_max_num_inbound_streams(4), 1);
    for stream in 0..1_000 {
        server.hear(&data(WHOLE, 1 + u32::from(stream), stream));
    }
    assert_eq!(server.association.stream_ids().len(), 1_000);
}
