use memchr::memmem;

/// Where a viewer stands, by the frame rule; it reads only the numbers at the beginning of a message.
#[derive(Default)]
pub struct Cursor {
    pub seq: Option<u64>,
}

/// What a message was to a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The viewer moved on.
    Frame,
    /// A frame that moves nothing: a tally, or known already.
    Known,
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
            return match memmem::find(text, b"\"seq\":").and_then(|at| number(&text[at + 6..])) {
                Some((seq, _)) if self.seq.is_none_or(|cursor| seq >= cursor) => {
                    self.seq = Some(seq);
                    Heard::Snapshot
                }
                _ => Heard::Strange,
            };
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

    fn frame(&mut self, text: &[u8]) -> Option<Heard> {
        let (prev, rest) = number(text)?;
        let (seq, _) = number(rest.strip_prefix(b",\"seq\":")?)?;
        Some(match self.seq {
            None => Heard::Gap,
            Some(cursor) if cursor < prev => Heard::Gap,
            Some(cursor) if cursor < seq => {
                self.seq = Some(seq);
                Heard::Frame
            }
            Some(_) => Heard::Known,
        })
    }
}

/// The times of a frame's events: the numbers behind `"at":`, which no text can contain unescaped.
pub fn times(text: &[u8]) -> impl Iterator<Item = u64> {
    memmem::find_iter(text, b"\"at\":").filter_map(|at| number(&text[at + 5..])).map(|(time, _)| time)
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
        assert_eq!(cursor.hear(br#"{"prev":10,"seq":12}"#), Heard::Gap);
        assert_eq!(cursor.hear(br#"{"snapshot":{"room":"r","epoch":"e","seq":8}}"#), Heard::Strange, "backwards");
        assert_eq!(cursor.hear(br#"{"re":1,"error":{"code":"kicked"}}"#), Heard::Refused);
        assert_eq!(cursor.hear(br#"{"re":2,"error":{"code":"sold_out"}}"#), Heard::Answer);
        assert_eq!(cursor.hear(b"<html>"), Heard::Strange);
        assert_eq!(cursor.seq, Some(9));
    }

    #[test]
    fn times_are_those_of_events_and_not_of_texts() {
        let text =
            br#"{"prev":0,"seq":2,"events":[{"seq":1,"at":17,"type":"comment","text":"\"at\":9"},{"seq":2,"at":18}]}"#;
        assert_eq!(times(text).collect::<Vec<_>>(), [17, 18]);
    }
}
