use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use memchr::memmem;

/// Where a viewer stands, by the frame rule; it reads only the numbers at the beginning of a message.
#[derive(Default)]
pub struct Cursor {
    pub seq: Option<u64>,
    /// The fingerprint of the epoch that `seq` is of.
    epoch: u64,
    /// Whether a frame moved the viewer on this connection.
    has_moved: bool,
}

/// What a message was to a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The viewer moved on.
    Frame,
    /// A frame that moves nothing: a tally, or known already from the connection before.
    Known,
    /// A frame that came before over the same connection: the server broke its word.
    Repeat,
    Snapshot,
    /// Events are missing between the viewer and this frame: the server broke its word.
    Gap,
    /// The join was accepted.
    Joined,
    Refused,
    /// The answer to a later command.
    Answer,
    /// A private message or a question.
    Other,
    /// Not what the protocol promises.
    Strange,
}

impl Cursor {
    pub fn hear(&mut self, text: &[u8]) -> Heard {
        if let Some(rest) = text.strip_prefix(b"{\"prev\":") {
            return self.frame(rest).unwrap_or(Heard::Strange);
        }
        if text.starts_with(b"{\"snapshot\":") {
            return self.snapshot(text).unwrap_or(Heard::Strange);
        }
        if text.starts_with(b"{\"re\":1,") {
            return if memmem::find(text, b"\"ok\":").is_some() { Heard::Joined } else { Heard::Refused };
        }
        if text.starts_with(b"{\"re\":") {
            return Heard::Answer;
        }
        let known = [&b"{\"you\":"[..], b"{\"auth\":"].iter().any(|start| text.starts_with(start));
        if known { Heard::Other } else { Heard::Strange }
    }

    /// The next message comes over another connection.
    pub fn reconnect(&mut self) {
        self.has_moved = false;
    }

    /// Where a viewer stands who was moved on this connection; two with the same mark make the same of the same bytes.
    pub fn mark(&self) -> Option<(u64, u64)> {
        Some((self.epoch, self.seq.filter(|_| self.has_moved)?))
    }

    /// Moves to where another viewer with the same mark was moved by the same bytes.
    pub fn skip_to(&mut self, seq: u64) {
        self.seq = Some(seq);
    }

    /// Forgets everything, as somebody who never was here.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    fn snapshot(&mut self, text: &[u8]) -> Option<Heard> {
        let (seq, _) = number(&text[memmem::find(text, b"\"seq\":")? + 6..])?;
        let epoch = epoch(text).map_or(0, fingerprint);
        if self.epoch == epoch && self.seq.is_some_and(|cursor| seq < cursor) {
            return Some(Heard::Strange);
        }
        (self.seq, self.epoch, self.has_moved) = (Some(seq), epoch, false);
        Some(Heard::Snapshot)
    }

    fn frame(&mut self, text: &[u8]) -> Option<Heard> {
        let (prev, seq) = span(text)?;
        Some(match self.seq {
            None => Heard::Gap,
            Some(cursor) if cursor < prev => Heard::Gap,
            Some(cursor) if cursor < seq => {
                (self.seq, self.has_moved) = (Some(seq), true);
                Heard::Frame
            }
            Some(_) if prev < seq && self.has_moved => Heard::Repeat,
            Some(_) => Heard::Known,
        })
    }
}

/// What a frame covers: the numbers behind its `{"prev":`.
fn span(text: &[u8]) -> Option<(u64, u64)> {
    let (prev, rest) = number(text)?;
    let (seq, _) = number(rest.strip_prefix(b",\"seq\":")?)?;
    Some((prev, seq))
}

/// What a whole frame covers.
pub fn frame_span(text: &[u8]) -> Option<(u64, u64)> {
    span(text.strip_prefix(b"{\"prev\":")?)
}

/// The epoch that a snapshot is of.
pub fn epoch(snapshot: &[u8]) -> Option<&[u8]> {
    let rest = &snapshot[memmem::find(snapshot, b"\"epoch\":\"")? + 9..];
    rest.get(..memchr::memchr(b'"', rest)?)
}

/// Tells texts apart, the same in every process.
pub fn fingerprint(text: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(text)
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let len = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let digits = std::str::from_utf8(&text[..len]).ok()?;
    Some((digits.parse().ok()?, &text[len..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_keeps_to_the_frame_rule() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.hear(br#"{"re":1,"ok":{"resumed":false}}"#), Heard::Joined);
        assert_eq!(cursor.hear(br#"{"prev":0,"seq":3}"#), Heard::Gap, "nothing comes before the snapshot");
        assert_eq!(cursor.hear(br#"{"snapshot":{"room":"r","epoch":"e","seq":7,"show":{}}}"#), Heard::Snapshot);
        assert_eq!(cursor.hear(br#"{"prev":5,"seq":9,"events":[]}"#), Heard::Frame);
        assert_eq!(cursor.hear(br#"{"prev":9,"seq":9,"tally":{"viewers":1,"likes":2}}"#), Heard::Known);
        assert_eq!(cursor.hear(br#"{"prev":5,"seq":9,"events":[]}"#), Heard::Repeat);
        cursor.reconnect();
        assert_eq!(cursor.hear(br#"{"prev":5,"seq":9,"events":[]}"#), Heard::Known, "a resume may reach back");
        assert_eq!(cursor.hear(br#"{"prev":10,"seq":12}"#), Heard::Gap);
        assert_eq!(cursor.hear(br#"{"snapshot":{"room":"r","epoch":"e","seq":8}}"#), Heard::Strange, "backwards");
        assert_eq!(cursor.hear(br#"{"re":1,"error":{"code":"kicked"}}"#), Heard::Refused);
        assert_eq!(cursor.hear(br#"{"re":2,"error":{"code":"sold_out"}}"#), Heard::Answer);
        assert_eq!(cursor.hear(b"<html>"), Heard::Strange);
        assert_eq!(cursor.seq, Some(9));
        assert_eq!(cursor.hear(br#"{"snapshot":{"room":"r","epoch":"f","seq":2}}"#), Heard::Snapshot, "a restart");
        assert_eq!(cursor.seq, Some(2));
    }
}
