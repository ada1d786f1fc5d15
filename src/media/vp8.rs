//! The VP8 payload descriptor (RFC 7741, 4.2): which picture a packet is of, and how its numbers are moved when a viewer
//! goes from one stream to another.

use std::num::NonZeroU16;

use bytes::{BufMut, Bytes, BytesMut};

const PICTURE_BITS: u16 = 0x7FFF;
const KEY_INDEX_BITS: u8 = 0x1F;

/// Where the numbers of a packet stand, and what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    picture_at: u8,
    /// The picture id has 15 bits, not 7.
    is_wide: bool,
    picture: Option<u16>,
    temporal_at: u8,
    /// TL0PICIDX.
    temporal: Option<u8>,
    key_index_at: u8,
    key_index: Option<u8>,
    /// Where the descriptor ends.
    len: u8,
    starts_frame: bool,
}

impl Descriptor {
    /// None if it is cut short.
    pub fn read(payload: &[u8]) -> Option<Self> {
        const EXTENDED: u8 = 0x80;
        const START_OF_PARTITION: u8 = 0x10;
        const PARTITION: u8 = 0x07;

        let first = *payload.first()?;
        let mut found = Self {
            picture_at: 0,
            is_wide: false,
            picture: None,
            temporal_at: 0,
            temporal: None,
            key_index_at: 0,
            key_index: None,
            len: 1,
            starts_frame: first & START_OF_PARTITION != 0 && first & PARTITION == 0,
        };
        if first & EXTENDED != 0 {
            found.read_extended(payload)?;
        }
        Some(found)
    }

    fn read_extended(&mut self, payload: &[u8]) -> Option<()> {
        let byte = |at: u8| payload.get(usize::from(at)).copied();
        let fields = byte(1)?;
        let mut at = 2;
        if fields & 0x80 != 0 {
            let high = byte(at)?;
            self.is_wide = high & 0x80 != 0;
            self.picture_at = at;
            self.picture = Some(match self.is_wide {
                true => u16::from_be_bytes([high & 0x7F, byte(at + 1)?]),
                false => u16::from(high),
            });
            at += 1 + u8::from(self.is_wide);
        }
        if fields & 0x40 != 0 {
            (self.temporal_at, self.temporal) = (at, Some(byte(at)?));
            at += 1;
        }
        if fields & 0x30 != 0 {
            let value = byte(at)?;
            (self.key_index_at, self.key_index) = (at, (fields & 0x10 != 0).then_some(value & KEY_INDEX_BITS));
            at += 1;
        }
        self.len = at;
        Some(())
    }

    fn widened(&mut self, picture: u16) {
        (self.is_wide, self.picture) = (true, Some(picture));
        self.len += 1;
        for at in [&mut self.temporal_at, &mut self.key_index_at] {
            *at += u8::from(*at > self.picture_at);
        }
    }

    /// Whether the packet is the first one of a picture that decodes on its own.
    pub fn starts_keyframe(&self, payload: &[u8]) -> bool {
        self.starts_frame && payload.get(usize::from(self.len)).is_some_and(|header| header & 1 == 0)
    }

    /// The height of a keyframe, in pixels (RFC 6386, 9.1).
    pub fn height(&self, payload: &[u8]) -> Option<NonZeroU16> {
        const START_CODE: [u8; 3] = [0x9D, 0x01, 0x2A];

        let header = payload.get(usize::from(self.len)..)?.first_chunk::<10>()?;
        let is_key = self.starts_keyframe(payload) && header[3..6] == START_CODE;
        NonZeroU16::new(u16::from_le_bytes([header[8], header[9]]) & 0x3FFF).filter(|_| is_key)
    }
}

/// The picture ids of one stream, all on 15 bits. Some senders begin with 7 bits and take 15 once they count past 127: moved
/// behind another stream, such ids would jump back in the middle of a group of pictures, and decoders wait for a keyframe.
#[derive(Clone, Debug, Default)]
pub struct Pictures {
    newest: Option<u16>,
}

impl Pictures {
    /// The payload with its picture id on 15 bits, and where its numbers stand.
    pub fn widen(&mut self, payload: Bytes) -> (Option<Descriptor>, Bytes) {
        let found = Descriptor::read(&payload);
        let Some((mut descriptor, picture)) = found.and_then(|found| Some((found, found.picture?))) else {
            return (found, payload);
        };
        let full = match self.newest {
            Some(newest) if !descriptor.is_wide => nearest(newest, picture),
            _ => picture,
        };
        if self.newest.is_none_or(|newest| full.wrapping_sub(newest) & PICTURE_BITS <= PICTURE_BITS / 2) {
            self.newest = Some(full);
        }
        if descriptor.is_wide {
            return (found, payload);
        }
        let at = usize::from(descriptor.picture_at);
        let mut wide = BytesMut::with_capacity(payload.len() + 1);
        wide.put_slice(&payload[..at]);
        wide.put_u16(0x8000 | full);
        wide.put_slice(&payload[at + 1..]);
        descriptor.widened(full);
        (Some(descriptor), wide.freeze())
    }
}

/// The id that ends in these 7 bits and is nearest to `newest`.
fn nearest(newest: u16, low: u16) -> u16 {
    const HALF: u16 = 64;
    let ahead = low.wrapping_sub(newest).wrapping_add(HALF) & 0x7F;
    newest.wrapping_add(ahead).wrapping_sub(HALF) & PICTURE_BITS
}

/// The numbers of one packet as they go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    picture: u16,
    temporal: u8,
    key_index: u8,
}

/// How far the numbers of a stream are moved for one viewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift(Numbers);

impl Shift {
    /// So that a stream that begins with `first` goes on behind `last`.
    pub fn behind(last: Numbers, first: &Descriptor) -> Self {
        Self(Numbers {
            picture: first.picture.map_or(0, |p| last.picture.wrapping_add(1).wrapping_sub(p) & PICTURE_BITS),
            temporal: first.temporal.map_or(0, |t| last.temporal.wrapping_add(1).wrapping_sub(t)),
            key_index: first.key_index.map_or(0, |k| last.key_index.wrapping_add(1).wrapping_sub(k) & KEY_INDEX_BITS),
        })
    }

    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    pub fn moved(self, descriptor: &Descriptor) -> Numbers {
        Numbers {
            picture: descriptor.picture.unwrap_or(0).wrapping_add(self.0.picture) & PICTURE_BITS,
            temporal: descriptor.temporal.unwrap_or(0).wrapping_add(self.0.temporal),
            key_index: descriptor.key_index.unwrap_or(0).wrapping_add(self.0.key_index) & KEY_INDEX_BITS,
        }
    }

    /// Writes the moved numbers into a copy of the payload that `descriptor` was read of. A picture id of 7 bits is left
    /// as it is (see [`Pictures`]).
    pub fn apply(self, descriptor: &Descriptor, payload: &mut [u8]) {
        let numbers = self.moved(descriptor);
        if descriptor.is_wide {
            let at = usize::from(descriptor.picture_at);
            payload[at..at + 2].copy_from_slice(&(0x8000 | numbers.picture).to_be_bytes());
        }
        if descriptor.temporal.is_some() {
            payload[usize::from(descriptor.temporal_at)] = numbers.temporal;
        }
        if descriptor.key_index.is_some() {
            let byte = &mut payload[usize::from(descriptor.key_index_at)];
            *byte = *byte & !KEY_INDEX_BITS | numbers.key_index;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A descriptor with every field: X, then I, L, T and K, a picture id of 15 bits.
    fn full(picture: u16, temporal: u8, key_index: u8) -> Vec<u8> {
        let [high, low] = picture.to_be_bytes();
        vec![0x90, 0xF0, 0x80 | high, low, temporal, 0x40 | key_index, 0x00]
    }

    #[test]
    fn a_keyframe_starts_with_its_first_partition() {
        let starts = |payload: &[u8]| Descriptor::read(payload).is_some_and(|found| found.starts_keyframe(payload));
        assert!(starts(&[0x10, 0x00]));
        assert!(!starts(&[0x10, 0x01]), "an interframe");
        assert!(!starts(&[0x00, 0x00]), "not the start of a partition");
        assert!(starts(&[0x90, 0x80, 0x81, 0x23, 0x00]), "a picture id of two bytes");
        assert!(!starts(&[0x90, 0xe0, 0x81, 0x23, 7]), "cut short");
    }

    #[test]
    fn numbers_go_on_over_their_wraps() {
        let first = full(20_000, 7, 3);
        let descriptor = Descriptor::read(&first).unwrap();
        let shift = Shift::behind(Numbers { picture: 0x7FFF, temporal: 255, key_index: 31 }, &descriptor);
        let mut moved = first.clone();
        shift.apply(&descriptor, &mut moved);
        assert_eq!(moved, full(0, 0, 0));

        let mut later = full(20_005, 9, 4);
        let descriptor = Descriptor::read(&later).unwrap();
        shift.apply(&descriptor, &mut later);
        assert_eq!(later, full(5, 2, 1));
    }

    #[test]
    fn everything_behind_a_short_picture_id_moves_up_by_one() {
        let short = Bytes::from_static(&[0x90, 0xF0, 100, 7, 0x43, 0x00]);
        let (descriptor, wide) = Pictures::default().widen(short);
        assert_eq!(wide, full(100, 7, 3));
        assert_eq!(descriptor, Descriptor::read(&wide));
    }

    #[test]
    fn the_height_stands_in_the_keyframe() {
        let mut payload = vec![0x10, 0x00, 0, 0, 0x9D, 0x01, 0x2A];
        payload.extend_from_slice(&[0xD0, 0x02, 0x00, 0x45]);
        let descriptor = Descriptor::read(&payload).unwrap();
        assert_eq!(descriptor.height(&payload).map(NonZeroU16::get), Some(1280), "the scaling bits are left out");
        assert_eq!(descriptor.height(&payload[..9]), None);
    }

    /// The id of a picture as senders write it: short as long as it fits, or always short, or always long.
    fn written(picture: u16, width: u8) -> Bytes {
        let [high, low] = picture.to_be_bytes();
        let is_short = width == 1 || width == 0 && picture < 128;
        match is_short {
            true => Bytes::copy_from_slice(&[0x90, 0x80, low & 0x7F, 0x01]),
            false => Bytes::copy_from_slice(&[0x90, 0x80, 0x80 | high, low, 0x01]),
        }
    }

    proptest! {
        /// However they are written, ids count on by one at every picture, behind another stream too, and what comes late
        /// has the id that it would have had.
        #[test]
        fn ids_go_on_whatever_their_width(width in 0u8..3, start in 0u16..200, last in 0u16..=PICTURE_BITS, late in 1usize..40) {
            let start = if width == 1 { start & 0x7F } else { start };
            let mut pictures = Pictures::default();
            let mut ids = Vec::new();
            let (mut held, mut shift) = (None, None);
            for step in 0..600usize {
                let payload = written((start + step as u16) & PICTURE_BITS, width);
                if step == late {
                    held = Some(payload);
                    continue;
                }
                for (step, payload) in [(step, Some(payload)), (late, held.take_if(|_| step == late + 30))] {
                    let Some(payload) = payload else { continue };
                    let (descriptor, wide) = pictures.widen(payload);
                    let descriptor = descriptor.unwrap();
                    prop_assert_eq!(Some(descriptor), Descriptor::read(&wide));
                    let last = Numbers { picture: last, ..Numbers::default() };
                    let shift = *shift.get_or_insert_with(|| Shift::behind(last, &descriptor));
                    let mut moved = wide.to_vec();
                    shift.apply(&descriptor, &mut moved);
                    ids.push((step, Descriptor::read(&moved).unwrap().picture.unwrap()));
                }
            }
            for (step, id) in ids {
                prop_assert_eq!(id, last.wrapping_add(1 + step as u16) & PICTURE_BITS);
            }
        }

        #[test]
        fn no_payload_panics(mut payload in proptest::collection::vec(any::<u8>(), 0..16), last in any::<(u16, u8, u8)>()) {
            let Some(descriptor) = Descriptor::read(&payload) else { return Ok(()) };
            let (picture, temporal, key_index) = last;
            let shift = Shift::behind(Numbers { picture: picture & PICTURE_BITS, temporal, key_index }, &descriptor);
            let before = payload.clone();
            shift.apply(&descriptor, &mut payload);
            prop_assert_eq!(payload.len(), before.len());
            prop_assert_eq!(Descriptor::read(&payload).unwrap().starts_frame, descriptor.starts_frame);
            let _ = descriptor.height(&payload);
        }
    }
}
