use flate2::{Decompress, FlushDecompress, Status};

use crate::fanout::incoming::Wrong;

/// The end of every compressed message, which is not sent (RFC 7692 section 7.2.2).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
const GROW_BY: usize = 1 << 10;

/// Reads compressed messages, each on its own: clients are told not to refer back to earlier ones, so that one of
/// these serves all connections of a shard.
pub(super) struct Inflate(Decompress);

impl Default for Inflate {
    fn default() -> Self {
        Self(Decompress::new(false))
    }
}

impl Inflate {
    /// The message, of at most `bytes_max`; more is not made out of it.
    pub(super) fn message(&mut self, deflated: &[u8], bytes_max: usize) -> Result<Vec<u8>, Wrong> {
        self.0.reset(false);
        let mut out = Vec::new();
        for mut part in [deflated, &TAIL] {
            loop {
                if out.len() > bytes_max {
                    return Err(Wrong("a message is too long"));
                }
                out.reserve(GROW_BY.min(bytes_max + 1));
                let (before, written) = (self.0.total_in(), out.len());
                let status = self.0.decompress_vec(part, &mut out, FlushDecompress::Sync);
                let status = status.map_err(|_| Wrong("a compressed message is not as RFC 7692 has it"))?;
                let used = usize::try_from(self.0.total_in() - before).unwrap_or(part.len());
                part = &part[used..];
                let is_stuck = used == 0 && out.len() == written;
                if status == Status::StreamEnd || part.is_empty() && out.len() < out.capacity() || is_stuck {
                    break;
                }
            }
        }
        if out.len() > bytes_max { Err(Wrong("a message is too long")) } else { Ok(out) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Wire;

    fn deflated(text: &[u8]) -> Vec<u8> {
        Wire::text(text).deflated().expect("it gets shorter").payload().to_vec()
    }

    #[test]
    fn what_was_deflated_comes_back_message_by_message() {
        let mut inflate = Inflate::default();
        for len in [100, 1_000, 5_000, 60_000] {
            let text: Vec<u8> = b"a comment, ".iter().copied().cycle().take(len).collect();
            assert_eq!(inflate.message(&deflated(&text), len), Ok(text));
        }
    }

    #[test]
    fn a_bomb_is_not_set_off() {
        let bomb = deflated(&vec![0; 10 << 20]);
        assert!(bomb.len() < 64 << 10);
        assert_eq!(Inflate::default().message(&bomb, 64 << 10), Err(Wrong("a message is too long")));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Inflate::default().message(&[0xFF; 20], 1_000).is_err());
    }
}
