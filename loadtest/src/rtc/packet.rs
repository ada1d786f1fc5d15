//! RTP packets as far as they can be read without their content, and what of the content tells a keyframe.

use bytes::Bytes;
use rtp::{codec::vp8::Vp8Packet, packetizer::Depacketizer as _};

use super::terms::Payload;

const HEADER_LEN: usize = 12;

/// The part of a packet's header that matters here; SRTP leaves it readable.
pub struct Header {
    pub payload_type: u8,
    pub marker: bool,
    pub number: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

impl Header {
    pub fn read(packet: &[u8]) -> Option<Self> {
        let [_, second, rest @ ..] = packet.first_chunk::<HEADER_LEN>()?;
        let [a, b, t0, t1, t2, t3, s0, s1, s2, s3] = *rest;
        Some(Self {
            payload_type: second & 0x7F,
            marker: second & 0x80 != 0,
            number: u16::from_be_bytes([a, b]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
        })
    }
}

/// Where the payload begins: behind the contributing sources and the extensions (RFC 3550, 5.1 and 5.3.1).
pub fn header_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let fixed = HEADER_LEN + usize::from(first & 0x0F) * 4;
    if first & 0x10 == 0 {
        return (packet.len() >= fixed).then_some(fixed);
    }
    let words = packet.get(fixed + 2..fixed + 4)?;
    let len = fixed + 4 + usize::from(u16::from_be_bytes([words[0], words[1]])) * 4;
    (packet.len() >= len).then_some(len)
}

/// The two bytes of a one-byte header extension (RFC 8285).
pub fn extension(packet: &[u8], id: u8) -> Option<u16> {
    const ONE_BYTE: [u8; 2] = [0xBE, 0xDE];

    let first = *packet.first()?;
    let start = HEADER_LEN + usize::from(first & 0x0F) * 4;
    if first & 0x10 == 0 || packet.get(start..start + 2)? != ONE_BYTE {
        return None;
    }
    let mut rest = packet.get(start + 4..header_len(packet)?)?;
    while let Some((&head, tail)) = rest.split_first() {
        if head == 0 {
            rest = tail;
            continue;
        }
        let (found, len) = (head >> 4, usize::from(head & 0x0F) + 1);
        let value = tail.get(..len)?;
        if found == id {
            return Some(u16::from_be_bytes([value[0], *value.get(1)?]));
        }
        rest = &tail[len..];
    }
    None
}

/// Whether a payload is the first of a picture that decodes on its own.
pub fn begins_keyframe(payload: Payload, bytes: &Bytes) -> bool {
    const FU_A: u8 = 28;
    const STAP_A: u8 = 24;
    let is_key = |unit: u8| matches!(unit & 0x1F, 5 | 7);

    match payload {
        Payload::Vp8 => {
            let mut vp8 = Vp8Packet::default();
            let picture = vp8.depacketize(bytes);
            picture.is_ok_and(|picture| vp8.s == 1 && vp8.pid == 0 && picture.first().is_some_and(|tag| tag & 1 == 0))
        }
        Payload::H264 => match bytes[..] {
            [head, unit, ..] if head & 0x1F == FU_A => unit & 0x80 != 0 && is_key(unit),
            [head, _, _, unit, ..] if head & 0x1F == STAP_A => is_key(unit),
            [head, ..] => is_key(head),
            [] => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_found_behind_others_and_padding() {
        let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0xBE, 0xDE, 0, 2];
        packet.extend_from_slice(&[0x20, 9, 0, 0x31, 0x12, 0x34, 0, 0]);
        packet.push(1);
        assert_eq!((extension(&packet, 3), extension(&packet, 4), header_len(&packet)), (Some(0x1234), None, Some(24)));
        assert_eq!(extension(&packet[..18], 3), None, "cut short");
        assert_eq!(header_len(&packet[..20]), None);
    }

    #[test]
    fn keyframes_are_told_by_their_first_packet() {
        let begins = |payload, bytes: &'static [u8]| begins_keyframe(payload, &Bytes::from_static(bytes));
        assert!(begins(Payload::Vp8, &[0x10, 0x10, 2, 3]) && !begins(Payload::Vp8, &[0x10, 0x11, 2, 3]));
        assert!(!begins(Payload::Vp8, &[0x00, 0x10, 2, 3]));
        assert!(begins(Payload::H264, &[24, 0, 9, 0x67, 1]) && begins(Payload::H264, &[28, 0x85, 1]));
        assert!(!begins(Payload::H264, &[28, 0x05, 1]) && !begins(Payload::H264, &[0x41, 1]));
    }
}
