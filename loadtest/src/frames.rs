/// WebSocket frames out of a server's bytes, in place; only what is half there is kept.
#[derive(Default)]
pub struct Frames {
    half: Vec<u8>,
}

pub const TEXT: u8 = 0x1;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

impl Frames {
    /// Whether nothing is half there.
    pub fn is_empty(&self) -> bool {
        self.half.is_empty()
    }

    /// Calls `each` with the opcode and payload of every whole frame. The server sends neither fragments nor masks.
    pub fn feed(&mut self, bytes: &[u8], each: impl FnMut(u8, &[u8])) {
        if self.half.is_empty() {
            let used = split(bytes, each);
            self.half.extend_from_slice(&bytes[used..]);
            return;
        }
        self.half.extend_from_slice(bytes);
        let used = split(&self.half, each);
        if used == self.half.len() {
            self.half = Vec::new();
        } else {
            self.half.drain(..used);
        }
    }
}

/// How much of `bytes` is whole frames.
fn split(bytes: &[u8], mut each: impl FnMut(u8, &[u8])) -> usize {
    let mut used = 0;
    while let Some((opcode, payload, len)) = first(&bytes[used..]) {
        each(opcode, payload);
        used += len;
    }
    used
}

fn first(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let &[head, len, ref rest @ ..] = bytes else { return None };
    let (len, header) = match len & 0x7F {
        126 => (u16::from_be_bytes(*rest.first_chunk()?) as usize, 4),
        127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?, 10),
        len => (len as usize, 2),
    };
    let end = header + len;
    Some((head & 0x0F, bytes.get(header..end)?, end))
}

/// A client's frame. The mask is zero, which masks nothing and is allowed.
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(len).expect("a client says little").to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x81];
        match payload.len() {
            len @ 0..126 => frame.push(len as u8),
            len => frame.extend([&[126][..], &(len as u16).to_be_bytes()].concat()),
        }
        [frame, payload.to_vec()].concat()
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_come_in() {
        let payloads: Vec<Vec<u8>> = [0, 1, 125, 126, 3_000].map(|len| vec![b'x'; len]).to_vec();
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| server_frame(payload)).collect();
        for step in [1, 2, 3, 7, 130, bytes.len()] {
            let (mut frames, mut out) = (Frames::default(), Vec::new());
            for part in bytes.chunks(step) {
                frames.feed(part, |opcode, payload| out.push((opcode, payload.to_vec())));
            }
            assert_eq!(out.len(), payloads.len(), "in steps of {step}");
            assert!(out.iter().zip(&payloads).all(|((opcode, out), payload)| *opcode == TEXT && out == payload));
            assert!(frames.half.is_empty());
        }
    }
}
