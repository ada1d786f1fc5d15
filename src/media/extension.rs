//! RTP header extensions (RFC 8285) that we speak: the names of simulcast layers (RFC 8852) and the transport-wide
//! sequence number that bandwidth estimation counts by.

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const TRANSPORT: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// Ids above this need headers of two bytes, which nobody asks of us.
const ID_MAX: u8 = 14;

/// Under which ids a section has the extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    pub mid: Option<u8>,
    /// Names the layer of a packet.
    pub rid: Option<u8>,
    /// Names the layer that a retransmitted packet repairs.
    pub repaired_rid: Option<u8>,
    /// Numbers the packets of all streams together.
    pub transport: Option<u8>,
}

impl Extensions {
    /// Reads the values of a section's `a=extmap` lines; what we do not speak is passed over.
    pub fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut found = Self::default();
        for line in lines {
            let mut parts = line.split_whitespace();
            let id = parts.next().and_then(|id| id.split('/').next()?.parse::<u8>().ok());
            let Some(id) = id.filter(|id| (1..=ID_MAX).contains(id)) else { continue };
            let place = match parts.next() {
                Some(MID) => &mut found.mid,
                Some(RID) => &mut found.rid,
                Some(REPAIRED_RID) => &mut found.repaired_rid,
                Some(TRANSPORT) => &mut found.transport,
                _ => continue,
            };
            place.get_or_insert(id);
        }
        found
    }

    /// The values of the `a=extmap` lines of an answer.
    pub fn lines(self) -> impl Iterator<Item = String> {
        let all = [(self.mid, MID), (self.rid, RID), (self.repaired_rid, REPAIRED_RID), (self.transport, TRANSPORT)];
        all.into_iter().filter_map(|(id, name)| Some(format!("{} {name}", id?)))
    }

    /// These, and what only the other section has.
    pub fn or(self, other: Self) -> Self {
        Self {
            mid: self.mid.or(other.mid),
            rid: self.rid.or(other.rid),
            repaired_rid: self.repaired_rid.or(other.repaired_rid),
            transport: self.transport.or(other.transport),
        }
    }

    /// Only what tells layers apart.
    pub fn of_layers(self) -> Self {
        Self { transport: None, ..self }
    }

    /// Only what bandwidth estimation needs.
    pub fn of_transport(self) -> Self {
        Self { transport: self.transport, ..Self::default() }
    }
}

/// Bytes that [`write_transport`] takes behind the fixed header.
pub const TRANSPORT_LEN: usize = 8;

/// The extension block of one packet with its transport-wide number: one-byte headers, one word.
pub fn write_transport(block: &mut [u8], id: u8, number: u16) {
    const LENGTH_LESS_ONE: u8 = 1;

    let [high, low] = number.to_be_bytes();
    block[..TRANSPORT_LEN].copy_from_slice(&[0xBE, 0xDE, 0, 1, id << 4 | LENGTH_LESS_ONE, high, low, 0]);
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use shared::marshal::Unmarshal;

    use super::*;

    #[test]
    fn ids_are_read_by_name_and_written_again() {
        let read = |lines: &[&str]| Extensions::read(lines.iter().copied());
        let found = read(&[&format!("3 {MID}"), &format!("10/sendonly {RID}"), &format!("5 {TRANSPORT}"), "1 urn:x"]);
        assert_eq!((found.mid, found.rid, found.repaired_rid, found.transport), (Some(3), Some(10), None, Some(5)));
        let written: Vec<String> = found.lines().collect();
        assert_eq!(Extensions::read(written.iter().map(String::as_str)), found);
        for bad in [&format!("0 {MID}"), &format!("15 {MID}"), &format!("x {MID}"), &format!("300 {MID}"), "3", ""] {
            assert_eq!(read(&[bad]), Extensions::default(), "{bad}");
        }
        assert_eq!(read(&[&format!("3 {MID}"), &format!("4 {MID}")]).mid, Some(3));
    }

    #[test]
    fn another_implementation_reads_the_number() {
        let mut packet = vec![0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.resize(12 + TRANSPORT_LEN, 0);
        write_transport(&mut packet[12..], 5, 0xABCD);
        packet.push(7);
        let mut bytes = &packet[..];
        let header = rtp::Header::unmarshal(&mut bytes).unwrap();
        assert_eq!(header.get_extension(5).unwrap(), [0xAB, 0xCD][..]);
        assert_eq!(bytes.chunk(), [7]);
    }
}
