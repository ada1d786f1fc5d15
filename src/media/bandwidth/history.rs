//! What was sent lately, by transport-wide number.

/// Packets that are remembered: at 4 Mb/s those of half a second. A report on an older one is passed over.
const LEN: u16 = 256;

/// One packet that went out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Microseconds, modulo 2^32.
    pub at: u32,
    pub bytes: u16,
    pub in_probe: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    #[default]
    Unknown,
    Lost,
    Arrived,
}

/// [`Sent`] and [`Fate`] in eight bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    at: u32,
    bytes: u16,
    in_probe: bool,
    fate: Fate,
}

#[derive(Debug)]
pub struct History {
    slots: Box<[Slot; LEN as usize]>,
    next: u16,
    len: u16,
    waiting: u16,
    sent_bytes: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { slots: Box::new([Default::default(); LEN as usize]), next: 0, len: 0, waiting: 0, sent_bytes: 0 }
    }
}

impl History {
    /// The number of the packet.
    pub fn push(&mut self, sent: Sent) -> u16 {
        let number = self.next;
        let slot = &mut self.slots[usize::from(number % LEN)];
        let is_overwritten = self.len == LEN && slot.fate == Fate::Unknown;
        *slot = Slot { at: sent.at, bytes: sent.bytes, in_probe: sent.in_probe, fate: Fate::Unknown };
        self.waiting += u16::from(!is_overwritten);
        self.next = number.wrapping_add(1);
        self.len = (self.len + 1).min(LEN);
        self.sent_bytes += u64::from(sent.bytes);
        number
    }

    /// Notes what became of a packet, and what was known of it before; none if that is old news, if it is not known
    /// any more, or if it was never sent. A packet that was thought lost may still arrive; one that arrived stays so.
    pub fn settle(&mut self, number: u16, fate: Fate) -> Option<(Sent, Fate)> {
        let age = self.next.wrapping_sub(number);
        if age == 0 || age > self.len {
            return None;
        }
        let slot = &mut self.slots[usize::from(number % LEN)];
        let before = slot.fate;
        if before == fate || before == Fate::Arrived {
            return None;
        }
        self.waiting -= u16::from(before == Fate::Unknown);
        slot.fate = fate;
        Some((Sent { at: slot.at, bytes: slot.bytes, in_probe: slot.in_probe }, before))
    }

    /// Whether a report on something is still to come.
    pub fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    #[cfg(test)]
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// All bytes that were ever sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_sent_or_is_forgotten_has_no_fate() {
        let mut history = History::default();
        assert_eq!(history.settle(0, Fate::Arrived), None);
        let sent = Sent { at: 7, bytes: 1_000, in_probe: false };
        let numbers: Vec<u16> = (0..70_000).map(|_| history.push(sent)).collect();
        let newest = *numbers.last().unwrap();
        assert_eq!(history.settle(newest.wrapping_add(1), Fate::Arrived), None);
        assert_eq!(history.settle(newest.wrapping_sub(LEN), Fate::Arrived), None);
        assert_eq!(history.settle(newest.wrapping_sub(LEN - 1), Fate::Lost), Some((sent, Fate::Unknown)));
        assert_eq!(history.settle(newest.wrapping_sub(LEN - 1), Fate::Arrived), Some((sent, Fate::Lost)));
        assert_eq!(history.settle(newest.wrapping_sub(LEN - 1), Fate::Lost), None);
    }

    #[test]
    fn it_waits_until_every_remembered_packet_has_a_fate() {
        let mut history = History::default();
        let numbers: Vec<u16> = (0..1_000).map(|_| history.push(Sent::default())).collect();
        for number in &numbers {
            assert!(history.is_waiting());
            history.settle(*number, Fate::Lost);
        }
        assert!(!history.is_waiting());
    }
}
