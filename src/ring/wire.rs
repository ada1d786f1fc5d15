use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};

/// The longest header of a frame from a server: two bytes and a 64-bit length (RFC 6455 section 5.2).
const HEADER_LEN_MAX: usize = 10;
/// The longest payload of a control frame (RFC 6455 section 5.5).
const CONTROL_LEN_MAX: usize = 125;

/// Marks a compressed message (RFC 7692 section 6).
const RSV1: u8 = 0x40;
/// The end of every compressed message, which is not sent (RFC 7692 section 7.2.1).
const DEFLATE_TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// Higher ones cost more than they save on frames of this size.
const DEFLATE_LEVEL: u32 = 3;
/// What deflate may add to what it cannot compress.
const DEFLATE_SPARE: usize = 64;

thread_local! {
    /// A few hundred KiB: one for each thread that compresses, not for each message.
    static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(DEFLATE_LEVEL), false));
}

/// The kinds of frame that a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    Text = 0x1,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

/// One whole WebSocket frame as a server sends it: unmasked, final, header and payload in one piece.
///
/// A type of its own, so that nothing half-framed gets between frames. Clones share the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    bytes: Bytes,
    header_len: usize,
}

impl Wire {
    /// A text frame around a copy of `text`.
    pub fn text(text: &[u8]) -> Self {
        Self::text_with(text.len(), |payload| payload.extend_from_slice(text))
    }

    /// A text frame around what `write` appends; nothing is copied afterwards. `len_hint` is what it may come to.
    pub fn text_with(len_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut frame = Vec::with_capacity(HEADER_LEN_MAX + len_hint);
        frame.resize(HEADER_LEN_MAX, 0);
        write(&mut frame);
        Self::seal(OpCode::Text, frame)
    }

    /// A control frame; what does not fit into one is cut off.
    pub fn control(kind: OpCode, payload: &[u8]) -> Self {
        let mut frame = vec![0; HEADER_LEN_MAX];
        frame.extend_from_slice(&payload[..payload.len().min(CONTROL_LEN_MAX)]);
        Self::seal(kind, frame)
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// What the frame carries, sharing its bytes.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(self.header_len..)
    }

    /// The same text compressed on its own (permessage-deflate without context takeover, RFC 7692), or `None` when that
    /// would not be shorter.
    pub fn deflated(&self) -> Option<Self> {
        let text = &self.bytes[self.header_len..];
        let mut frame = Vec::with_capacity(HEADER_LEN_MAX + text.len() + DEFLATE_SPARE);
        frame.resize(HEADER_LEN_MAX, 0);
        DEFLATE.with_borrow_mut(|deflate| {
            deflate.reset();
            deflate.compress_vec(text, &mut frame, FlushCompress::Sync).ok()
        })?;
        // No tail: it did not fit into what was reserved, so it is not shorter.
        let deflated = frame.strip_suffix(&DEFLATE_TAIL)?.len();
        frame.truncate(deflated);
        let is_shorter = deflated - HEADER_LEN_MAX < text.len();
        is_shorter.then(|| Self::seal_with(OpCode::Text as u8 | RSV1, frame))
    }

    /// Writes the header into the room kept in front of the payload.
    fn seal(kind: OpCode, frame: Vec<u8>) -> Self {
        Self::seal_with(kind as u8, frame)
    }

    fn seal_with(first: u8, mut frame: Vec<u8>) -> Self {
        let len = frame.len() - HEADER_LEN_MAX;
        let mut header = [0; HEADER_LEN_MAX];
        header[0] = 0x80 | first;
        let header_len = match len {
            0..=125 => {
                header[1] = len as u8;
                2
            }
            126..=0xFFFF => {
                header[1] = 126;
                header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                4
            }
            _ => {
                header[1] = 127;
                header[2..10].copy_from_slice(&(len as u64).to_be_bytes());
                10
            }
        };
        let start = HEADER_LEN_MAX - header_len;
        frame[start..HEADER_LEN_MAX].copy_from_slice(&header[..header_len]);
        Self { bytes: Bytes::from(frame).slice(start..), header_len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_the_length_in_the_shortest_form() {
        for (len, header) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xFF, 0xFF]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let text = vec![b'x'; len];
            let wire = Wire::text(&text);
            assert_eq!(&wire.bytes()[..header.len()], header);
            assert_eq!(wire.bytes().len(), header.len() + len);
            assert_eq!(wire.payload(), text);
        }
    }

    #[test]
    fn a_text_that_repeats_gets_shorter_and_says_so() {
        let wire = Wire::text(&b"the same again, ".repeat(50));
        let deflated = wire.deflated().unwrap();
        assert_eq!(deflated.bytes()[0], 0xC1);
        assert!(deflated.bytes().len() < 80, "{}", deflated.bytes().len());
        assert_eq!(wire.deflated(), Some(deflated), "each on its own");
        assert_eq!(Wire::text(b"short").deflated(), None);
    }

    #[test]
    fn a_control_frame_stays_small() {
        assert_eq!(Wire::control(OpCode::Ping, &[7; 300]).bytes().len(), 2 + CONTROL_LEN_MAX);
    }
}
