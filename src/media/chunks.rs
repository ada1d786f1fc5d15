//! A look at an SCTP packet before the association reads it (RFC 9260, 3.2).
//!
//! The crate believes the length of an error's cause and panics beyond the end of its chunk, and it goes on behind a
//! chunk where that chunk's contents end instead of its length, so that one could hide in another. What passes here has
//! causes that are there, and chunks whose contents fill them. It knows nothing of associations.

const HEADER_LEN: usize = 12;
/// Of chunks, parameters and causes alike.
const TYPE_AND_LENGTH: usize = 4;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const RECONFIG: u8 = 130;

/// Whether the lengths in the chunks of a packet say the truth. What a chunk means is not looked at.
pub fn are_whole(packet: &[u8]) -> bool {
    let Some(chunks) = packet.get(HEADER_LEN..) else { return false };
    let mut rest = chunks;
    while !rest.is_empty() {
        let kind = rest[0];
        let Some(len) = length(rest) else { return false };
        let is_alone = len.next_multiple_of(4) >= chunks.len();
        let stands = match kind {
            INIT | INIT_ACK => is_alone,
            _ => is_whole(kind, &rest[TYPE_AND_LENGTH..len]),
        };
        if !stands {
            return false;
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

fn is_whole(kind: u8, value: &[u8]) -> bool {
    match kind {
        ABORT | ERROR => are_causes(value),
        SACK => value.first_chunk::<12>().is_some_and(|head| {
            let blocks = usize::from(u16::from_be_bytes([head[8], head[9]]));
            let repeats = usize::from(u16::from_be_bytes([head[10], head[11]]));
            value.len() == head.len() + 4 * (blocks + repeats)
        }),
        HEARTBEAT => after_parameter(value).is_some_and(<[u8]>::is_empty),
        RECONFIG => after_parameter(value)
            .is_some_and(|second| second.is_empty() || after_parameter(second).is_some_and(<[u8]>::is_empty)),
        COOKIE_ACK | SHUTDOWN_ACK | SHUTDOWN_COMPLETE => value.is_empty(),
        _ => true,
    }
}

/// The crate passes over no padding between causes: all but the last must do without.
fn are_causes(value: &[u8]) -> bool {
    let mut rest = value;
    while rest.len() >= TYPE_AND_LENGTH {
        let Some(len) = length(rest) else { return false };
        rest = &rest[len..];
    }
    (value.len() - rest.len()).next_multiple_of(4) == value.len().next_multiple_of(4)
}

fn after_parameter(value: &[u8]) -> Option<&[u8]> {
    let len = length(value)?;
    Some(value.get(len.next_multiple_of(4)..).unwrap_or_default())
}

/// What the second half of a header says, if so much is there.
fn length(bytes: &[u8]) -> Option<usize> {
    let &[_, _, high, low] = bytes.first_chunk::<TYPE_AND_LENGTH>()?;
    let len = usize::from(u16::from_be_bytes([high, low]));
    (TYPE_AND_LENGTH..=bytes.len()).contains(&len).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(chunks: &[u8]) -> bool {
        are_whole(&[&[0; HEADER_LEN][..], chunks].concat())
    }

    const DATA: [u8; 20] = [0, 3, 0, 17, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 51, b'x', 0, 0, 0];

    #[test]
    fn what_a_peer_sends_in_good_faith_passes() {
        let acknowledged = [3, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3];
        let heartbeat = [4, 0, 0, 10, 0, 1, 0, 6, 1, 2, 0, 0];
        let reset = [130, 0, 0, 22, 0, 13, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 0];
        let abort_with_reason = [6, 0, 0, 11, 0, 12, 0, 7, b'b', b'y', b'e', 0];
        let abort_without = [6, 0, 0, 4];
        let two_causes = [9, 0, 0, 16, 0, 1, 0, 8, 0, 1, 0, 0, 0, 13, 0, 4];
        let init = [1, 0, 0, 20, 0, 0, 0, 9, 0, 16, 0, 0, 4, 0, 4, 0, 0, 0, 0, 1];
        let all: [&[u8]; 8] =
            [&DATA, &acknowledged, &heartbeat, &reset, &abort_with_reason, &abort_without, &two_causes, &init];
        for chunk in all {
            assert!(passes(chunk), "{chunk:?}");
            assert_eq!(passes(&[chunk, &DATA].concat()), chunk != init, "{chunk:?} with another behind it");
        }
    }

    #[test]
    fn a_cause_longer_than_its_chunk_does_not_pass_wherever_it_is() {
        let lies = [6, 0, 0, 8, 0, 12, 0, 200];
        assert!(!passes(&lies) && !passes(&[&DATA[..], &lies].concat()));
        let second = [9, 0, 0, 12, 0, 1, 0, 4, 0, 12, 0, 5];
        assert!(!passes(&second));
        let shorter_than_its_header = [9, 0, 0, 8, 0, 12, 0, 3];
        assert!(!passes(&shorter_than_its_header));
    }

    /// Behind what the crate reads of a chunk it looks for the next one, within the same chunk.
    #[test]
    fn a_chunk_within_a_chunk_does_not_pass() {
        let lies = [6, 0, 0, 8, 0, 12, 0, 200];
        let heads: [&[u8]; 4] = [
            &[3, 0, 0, 24, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0],
            &[4, 0, 0, 16, 0, 1, 0, 4],
            &[11, 0, 0, 12],
            &[130, 0, 0, 20, 0, 13, 0, 4, 0, 13, 0, 4],
        ];
        for head in heads {
            assert!(!passes(&[head, &lies].concat()), "{head:?}");
        }
        let odd_end = [6, 0, 0, 10, 0, 12, 0, 4, 9, 0, 0, 0];
        assert!(!passes(&odd_end), "the crate would go on four bytes before the chunk's end");
    }

    #[test]
    fn what_is_cut_short_does_not_pass() {
        assert!(!are_whole(&[0; HEADER_LEN - 1]));
        for len in 1..DATA.len() - 3 {
            assert!(!passes(&DATA[..len]), "{len} bytes");
        }
    }
}
