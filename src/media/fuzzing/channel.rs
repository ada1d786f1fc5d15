//! A peer that has opened an association and then sends what it likes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    super::channel::{Channel, ChannelConfig, Said},
    chunk,
};

const HEADER_LEN: usize = 12;
const INITIATE: [u8; 20] = [1, 0, 0, 20, 0, 0, 0, 9, 0, 16, 0, 0, 4, 0, 4, 0, 0, 0, 0, 1];
const STATE_COOKIE: u16 = 7;
const ANSWERS_MAX: usize = 10_000;

/// Each piece is the chunks of one packet; the header, with its tag and checksum, is put before them.
pub fn run(mut data: &[u8]) {
    let now = Instant::now();
    let mut channel = Channel::new(&ChannelConfig::default());
    channel.receive(packet(0, &INITIATE), now);
    let answers = channel.poll_transmit(now).unwrap_or_default();
    let Some((tag, cookie)) = answers.first().and_then(|answer| read_answer(answer)) else {
        panic!("an association can be opened")
    };
    channel.receive(packet(tag, &[&[10, 0], &(cookie.len() as u16 + 4).to_be_bytes()[..], &cookie].concat()), now);

    for round in 1u32.. {
        let Some((what, chunks)) = chunk(&mut data) else { return };
        let now = now + Duration::from_millis(50) * round;
        let whole = if what & 1 == 0 { packet(tag, chunks) } else { Bytes::copy_from_slice(chunks) };
        // The crate's sequence numbers overflow (tests/upstream); the worker then closes the peer, and goes on.
        if catch_unwind(AssertUnwindSafe(|| channel.receive(whole, now))).is_err() {
            return;
        }
        let said = channel.poll(what & 2 == 0, now);
        let _ = channel.send(&Bytes::from_static(b"hello"), now);
        let Ok(packets) = catch_unwind(AssertUnwindSafe(|| drain(&mut channel, now))) else { return };
        assert!(packets < ANSWERS_MAX, "a peer's packet is answered with a few");
        let _ = (channel.acknowledged(), channel.handle_timeout(now), channel.has_unread());
        if said.contains(&Said::TooMuch) {
            return;
        }
    }
}

fn drain(channel: &mut Channel, now: Instant) -> usize {
    std::iter::from_fn(|| channel.poll_transmit(now)).take(ANSWERS_MAX).count()
}

fn packet(tag: u32, chunks: &[u8]) -> Bytes {
    let mut packet = [&[0x13, 0x88, 0x13, 0x88][..], &tag.to_be_bytes(), &[0; 4], chunks].concat();
    let checksum = crc32c::crc32c(&packet);
    packet[8..HEADER_LEN].copy_from_slice(&checksum.to_le_bytes());
    packet.into()
}

/// The verification tag and the cookie of an INIT ACK.
fn read_answer(packet: &[u8]) -> Option<(u32, Vec<u8>)> {
    let tag = u32::from_be_bytes(packet.get(HEADER_LEN + 4..HEADER_LEN + 8)?.try_into().ok()?);
    let mut parameters = packet.get(HEADER_LEN + 20..)?;
    loop {
        let (&[kind_high, kind_low, high, low], _) = parameters.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([high, low])).max(4);
        if u16::from_be_bytes([kind_high, kind_low]) == STATE_COOKIE {
            return Some((tag, parameters.get(4..len)?.to_vec()));
        }
        parameters = parameters.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
#[test]
fn the_association_of_the_target_is_whole() {
    let now = Instant::now();
    let mut channel = Channel::new(&ChannelConfig::default());
    channel.receive(packet(0, &INITIATE), now);
    let (tag, cookie) = read_answer(&channel.poll_transmit(now).unwrap()[0]).unwrap();
    channel.receive(packet(tag, &[&[10, 0], &(cookie.len() as u16 + 4).to_be_bytes()[..], &cookie].concat()), now);
    channel.poll(true, now);
    for input in super::seeds::channel().iter().take(1) {
        let mut input = &input[..];
        while let Some((_, chunks)) = chunk(&mut input) {
            channel.receive(packet(tag, chunks), now);
        }
    }
    let said = channel.poll(true, now);
    assert!(said.contains(&Said::Open) && said.contains(&Said::Text(Bytes::from_static(b"hi"))), "{said:?}");
}
