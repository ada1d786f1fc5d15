//! What a client sends, out of the frames of RFC 6455, with compressed messages as RFC 7692 has them. Nothing here
//! waits or reads.

use std::{borrow::Cow, str};

use crate::fanout::inflate::Inflate;

/// The longest header of a client's frame: two bytes, a 64-bit length, a mask.
pub(super) const HEADER_LEN_MAX: usize = 14;
const CONTROL_LEN_MAX: usize = 125;

const FIN: u8 = 0x80;
/// On the first frame of a message: it is compressed.
const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const MASKED: u8 = 0x80;

/// How the client broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong(pub(super) &'static str);

const TOO_LONG: Wrong = Wrong("a message is too long");
const NOT_UTF8: Wrong = Wrong("a text is not UTF-8");
const NOT_RFC: Wrong = Wrong("not as RFC 6455 has it");

/// One thing that a client said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    Text(Cow<'a, str>),
    Ping(&'a [u8]),
    Pong,
    Close(Option<u16>),
}

/// Reads one connection's frames. Between messages it holds nothing.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// A text of which more fragments are to come.
    unfinished: Option<Box<Unfinished>>,
}

#[derive(Debug)]
struct Unfinished {
    text: Vec<u8>,
    is_deflated: bool,
}

/// What may come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The longest message in bytes, compressed or not.
    pub(super) message_bytes_max: usize,
    /// permessage-deflate was agreed on.
    pub(super) deflates: bool,
}

struct Header {
    first: u8,
    mask: [u8; 4],
    len: usize,
    payload: usize,
}

impl Incoming {
    /// Reads the first frame in `bytes`: how long it was, and what was said by it, which is nothing when a message
    /// goes on. `None`: it is not whole yet.
    pub(super) fn frame<'a>(
        &mut self,
        bytes: &'a mut [u8],
        terms: Terms,
        inflate: &mut Inflate,
    ) -> Result<Option<(usize, Option<Said<'a>>)>, Wrong> {
        let Some(header) = Header::read(bytes)? else { return Ok(None) };
        let so_far = self.unfinished.as_ref().map_or(0, |unfinished| unfinished.text.len());
        if so_far.saturating_add(header.len) > terms.message_bytes_max && !header.is_control() {
            return Err(TOO_LONG);
        }
        let end = header.payload + header.len;
        let Some(payload) = bytes.get_mut(header.payload..end) else { return Ok(None) };
        unmask(payload, header.mask);
        let said = self.take(&header, payload, terms, inflate)?;
        Ok(Some((end, said)))
    }

    fn take<'a>(
        &mut self,
        header: &Header,
        payload: &'a [u8],
        terms: Terms,
        inflate: &mut Inflate,
    ) -> Result<Option<Said<'a>>, Wrong> {
        let (is_last, is_deflated) = (header.first & FIN != 0, header.first & RSV1 != 0);
        if is_deflated && !(terms.deflates && header.opcode() == 1) {
            return Err(NOT_RFC);
        }
        match header.opcode() {
            0 => {
                let unfinished = self.unfinished.as_mut().ok_or(NOT_RFC)?;
                unfinished.text.extend_from_slice(payload);
                if !is_last {
                    return Ok(None);
                }
                let Unfinished { text, is_deflated } = *self.unfinished.take().ok_or(NOT_RFC)?;
                let text = if is_deflated { inflate.message(&text, terms.message_bytes_max)? } else { text };
                Ok(Some(Said::Text(Cow::Owned(String::from_utf8(text).map_err(|_| NOT_UTF8)?))))
            }
            1 if self.unfinished.is_some() => Err(NOT_RFC),
            1 if !is_last => {
                self.unfinished = Some(Box::new(Unfinished { text: payload.to_vec(), is_deflated }));
                Ok(None)
            }
            1 if is_deflated => {
                let text = inflate.message(payload, terms.message_bytes_max)?;
                Ok(Some(Said::Text(Cow::Owned(String::from_utf8(text).map_err(|_| NOT_UTF8)?))))
            }
            1 => Ok(Some(Said::Text(Cow::Borrowed(str::from_utf8(payload).map_err(|_| NOT_UTF8)?)))),
            2 => Err(Wrong("messages are text")),
            8 => Ok(Some(Said::Close(close_code(payload)?))),
            9 => Ok(Some(Said::Ping(payload))),
            10 => Ok(Some(Said::Pong)),
            _ => Err(NOT_RFC),
        }
    }
}

impl Header {
    /// `None`: it is not whole yet.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Wrong> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & RSV2_RSV3 != 0 || second & MASKED == 0 {
            return Err(NOT_RFC);
        }
        let (len, len_len) = match second & !MASKED {
            126 => (rest.first_chunk().map(|len| u64::from(u16::from_be_bytes(*len))), 2),
            127 => (rest.first_chunk().map(|len| u64::from_be_bytes(*len)), 8),
            len => (Some(u64::from(len)), 0),
        };
        let Some(len) = len else { return Ok(None) };
        let len = usize::try_from(len).map_err(|_| TOO_LONG)?;
        let Some(mask) = rest[len_len..].first_chunk() else { return Ok(None) };
        let header = Self { first, mask: *mask, len, payload: 2 + len_len + 4 };
        if header.is_control() && (first & FIN == 0 || first & RSV1 != 0 || len > CONTROL_LEN_MAX) {
            return Err(NOT_RFC);
        }
        Ok(Some(header))
    }

    fn opcode(&self) -> u8 {
        self.first & 0x0F
    }

    fn is_control(&self) -> bool {
        self.opcode() >= 8
    }
}

/// The code of a close, which may have none; its reason is only looked at.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Wrong> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(NOT_RFC) };
    };
    str::from_utf8(reason).map_err(|_| NOT_UTF8)?;
    match u16::from_be_bytes(*code) {
        // Those that RFC 6455 section 7.4 lets cross the wire.
        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => Ok(Some(code)),
        _ => Err(NOT_RFC),
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: Terms = Terms { message_bytes_max: 1_000, deflates: true };

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 77, 0, 255];
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..126 => frame.push(MASKED | len as u8),
            len => frame.extend([&[MASKED | 126][..], &(len as u16).to_be_bytes()].concat()),
        }
        frame.extend(mask);
        let start = frame.len();
        frame.extend_from_slice(payload);
        unmask(&mut frame[start..], mask);
        frame
    }

    /// All that is said by `bytes`, given in steps of `step`, and the fault that ended it.
    fn listen(bytes: &[u8], step: usize, terms: Terms) -> (Vec<String>, Option<Wrong>) {
        let (mut incoming, mut inflate) = (Incoming::default(), Inflate::default());
        let (mut here, mut all) = (Vec::new(), Vec::new());
        for part in bytes.chunks(step.max(1)) {
            here.extend_from_slice(part);
            loop {
                match incoming.frame(&mut here, terms, &mut inflate) {
                    Ok(None) => break,
                    Ok(Some((len, said))) => {
                        all.extend(said.map(|said| format!("{said:?}")));
                        here.drain(..len);
                    }
                    Err(wrong) => return (all, Some(wrong)),
                }
            }
        }
        (all, None)
    }

    #[test]
    fn messages_come_out_whole_however_the_bytes_come_in() {
        let mut bytes = Vec::new();
        bytes.extend(frame(0x81, "价格".as_bytes()));
        bytes.extend(frame(0x01, &"多".as_bytes()[..2]));
        bytes.extend(frame(0x89, b"in between"));
        bytes.extend(frame(0x00, &"多".as_bytes()[2..]));
        bytes.extend(frame(0x80, &[b'x'; 200]));
        bytes.extend(frame(0x8A, b""));
        bytes.extend(frame(0x88, &[&1001_u16.to_be_bytes()[..], b"bye"].concat()));
        let expected = listen(&bytes, bytes.len(), TERMS);
        assert_eq!(expected.0.len(), 5, "{expected:?}");
        assert!(expected.0[2].contains("多xxx") && expected.0[4] == "Close(Some(1001))", "{expected:?}");
        assert_eq!(expected.1, None);
        for step in 1..20 {
            assert_eq!(listen(&bytes, step, TERMS), expected);
        }
    }

    #[test]
    fn what_the_rfc_forbids_is_refused() {
        let unmasked = vec![0x81, 1, b'x'];
        let wrong: [(&str, Vec<u8>, Wrong); 13] = [
            ("unmasked", unmasked, NOT_RFC),
            ("binary", frame(0x82, b"x"), Wrong("messages are text")),
            ("too long", frame(0x81, &[b'x'; 1_001]), TOO_LONG),
            ("too long in parts", [frame(0x01, &[b'x'; 600]), frame(0x80, &[b'x'; 600])].concat(), TOO_LONG),
            ("a length beyond memory", [&[0x81, 0xFF][..], &[0xFF; 12]].concat(), TOO_LONG),
            ("not UTF-8", frame(0x81, &[0xC3, 0x28]), NOT_UTF8),
            ("a continuation of nothing", frame(0x80, b"x"), NOT_RFC),
            ("a text in a text", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), NOT_RFC),
            ("a ping in fragments", frame(0x09, b""), NOT_RFC),
            ("a long ping", frame(0x89, &[0; 126]), NOT_RFC),
            ("an unknown opcode", frame(0x83, b""), NOT_RFC),
            ("half a close code", frame(0x88, &[3]), NOT_RFC),
            ("a close code that must not be sent", frame(0x88, &1006_u16.to_be_bytes()), NOT_RFC),
        ];
        for (what, bytes, fault) in wrong {
            assert_eq!(listen(&bytes, bytes.len(), TERMS), (vec![], Some(fault)), "{what}");
        }
        let plain = Terms { deflates: false, ..TERMS };
        assert_eq!(listen(&frame(0xC1, b"x"), 9, plain).1, Some(NOT_RFC), "compressed without agreement");
        assert_eq!(listen(&frame(0xC9, b"x"), 9, TERMS).1, Some(NOT_RFC), "a compressed ping");
        assert_eq!(listen(&[0xA1, 0x80, 0, 0, 0, 0], 9, TERMS).1, Some(NOT_RFC), "an unknown extension");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_a_message(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            step in 1_usize..50,
        ) {
            let terms = Terms { message_bytes_max: 50, deflates: true };
            let (said, _) = listen(&bytes, step, terms);
            prop_assert!(said.iter().all(|said| said.len() <= 50 * 8 + 20));
        }
    }
}
