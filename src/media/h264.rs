//! H.264 in RTP packets (RFC 6184): where a picture begins that decodes on its own, and the parameter sets that it
//! needs.
//!
//! Browsers send the sets in front of every keyframe. Hardware encoders and bridges send them once, in front of the first
//! one or in their offer only: who comes later would see nothing. So the newest sets of a stream are kept, and a keyframe
//! that comes without them carries them along for whoever begins there.

use std::num::NonZeroU16;

use bytes::{BufMut, Bytes, BytesMut};
use h264_reader::{
    nal::sps::SeqParameterSet,
    rbsp::{BitRead, BitReader, ByteReader, decode_nal},
};
use smallvec::SmallVec;

const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const TYPE_BITS: u8 = 0x1F;
const IMPORTANCE_BITS: u8 = 0x60;

/// Sets of one stream that are kept. Encoders have two; those that prepare other sizes, some more.
const SETS_MAX: usize = 16;
/// They go out in one packet, which is no longer than the others.
const BUNDLE_LEN_MAX: usize = 1_100;
/// Units of one packet that are looked at.
const UNITS_MAX: usize = 32;
/// The first fields of a unit are in fewer bytes than this.
const FIELDS_LEN_MAX: usize = 24;

/// One unit of a payload; of one that is sent in fragments, the first.
struct Unit<'a> {
    kind: u8,
    /// What follows the unit's header.
    body: &'a [u8],
    /// Header and body, if all of it is here.
    whole: Option<&'a [u8]>,
}

impl<'a> Unit<'a> {
    fn whole(unit: &'a [u8]) -> Option<Self> {
        let (header, body) = unit.split_first()?;
        Some(Self { kind: header & TYPE_BITS, body, whole: Some(unit) })
    }

    fn begun(payload: &'a [u8]) -> Option<Self> {
        let (&[_, header], body) = payload.split_first_chunk::<2>()?;
        (header & 0x80 != 0).then_some(Self { kind: header & TYPE_BITS, body, whole: None })
    }
}

/// The units that begin in a payload, up to the first that is cut short.
fn units(payload: &[u8]) -> impl Iterator<Item = Unit<'_>> {
    let kind = payload.first().map(|header| header & TYPE_BITS);
    let (alone, mut rest) = match kind {
        Some(STAP_A) => (None, &payload[1..]),
        Some(FU_A) => (Unit::begun(payload), &[][..]),
        _ => (Unit::whole(payload), &[][..]),
    };
    let aggregated = std::iter::from_fn(move || {
        let (&[high, low], tail) = rest.split_first_chunk::<2>()?;
        let unit = tail.get(..usize::from(u16::from_be_bytes([high, low])))?;
        rest = &tail[unit.len()..];
        Unit::whole(unit)
    });
    alone.into_iter().chain(aggregated).take(UNITS_MAX)
}

/// What a packet is to those who would begin with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// A decoder may begin here, if it is given `sets` before.
    pub is_one: bool,
    /// The parameter sets as the payload of a packet of their own; none where they are in the packet itself.
    pub sets: Option<Bytes>,
    /// Of the picture that begins, in pixels.
    pub height: Option<NonZeroU16>,
}

/// The newest parameter sets of one stream.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    kept: SmallVec<[Set; 2]>,
    /// All of them in one payload, once somebody needed it.
    bundle: Option<Bytes>,
}

#[derive(Clone, Debug)]
struct Set {
    name: Name,
    unit: Bytes,
    /// The stream's numbers of the packets that brought it first and last.
    since: u64,
    seen: u64,
    height: Option<NonZeroU16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Sequence(u32),
    Picture { id: u32, sequence: u32 },
}

impl Name {
    /// Whether a new set of this name takes the place of the other.
    fn replaces(self, other: Self) -> bool {
        match (self, other) {
            (Self::Sequence(id), Self::Sequence(known)) => id == known,
            (Self::Picture { id, .. }, Self::Picture { id: known, .. }) => id == known,
            _ => false,
        }
    }

    fn read(unit: &Unit) -> Option<Self> {
        match unit.kind {
            SPS => fields(unit.body.get(3..)?).map(|[id]| Self::Sequence(id)),
            PPS => fields(unit.body).map(|[id, sequence]| Self::Picture { id, sequence }),
            _ => None,
        }
    }
}

impl Sets {
    /// Sets that the publisher's offer has (`sprop-parameter-sets`): older than all that she sends.
    pub fn announced(units: &[Bytes]) -> Self {
        let mut sets = Self::default();
        units.iter().filter_map(|unit| Unit::whole(unit)).for_each(|unit| sets.keep(&unit, 0));
        sets
    }

    /// Takes the sets out of the packet at this place of the stream, and says whether a decoder may begin with it.
    pub fn take(&mut self, number: u64, payload: &[u8]) -> Start {
        let (mut brings_sequence, mut slice) = (false, None);
        for unit in units(payload) {
            match unit.kind {
                SPS | PPS => self.keep(&unit, number),
                IDR => slice = slice.or(Some(unit.body)),
                _ => {}
            }
            brings_sequence |= unit.kind == SPS;
        }
        let sequence = slice.and_then(|slice| self.sequence_of(slice, number));
        let height = sequence.and_then(|set| set.height);
        let needs_sets = sequence.is_some() && !brings_sequence;
        let sets = needs_sets.then(|| self.bundle());
        Start { is_one: brings_sequence || sets.is_some(), sets, height }
    }

    fn keep(&mut self, unit: &Unit, number: u64) {
        let (Some(name), Some(whole)) = (Name::read(unit), unit.whole) else { return };
        let known = self.kept.iter().position(|set| name.replaces(set.name));
        if let Some(known) = known.map(|place| &mut self.kept[place]) {
            if number < known.seen {
                return;
            }
            if known.unit == whole {
                known.seen = number;
                return;
            }
        }
        self.bundle = None;
        known.map(|place| self.kept.remove(place));
        if 3 + whole.len() > BUNDLE_LEN_MAX {
            return;
        }
        let unit = Bytes::copy_from_slice(whole);
        let height = if unit[0] & TYPE_BITS == SPS { height(whole) } else { None };
        self.kept.push(Set { name, unit, since: number, seen: number, height });
        while self.kept.len() > SETS_MAX || self.bundle_len() > BUNDLE_LEN_MAX {
            let oldest = (0..self.kept.len()).min_by_key(|place| self.kept[*place].seen);
            oldest.map(|place| self.kept.remove(place));
        }
    }

    /// The sequence parameters that the slice at `number` refers to. None if they did not come, or if there are newer ones
    /// than belong to it.
    fn sequence_of(&self, slice: &[u8], number: u64) -> Option<&Set> {
        let [_first_macroblock, _slice_type, picture] = fields(slice)?;
        let used = self.kept.iter().find_map(|set| match set.name {
            Name::Picture { id, sequence } if id == picture => Some(sequence),
            _ => None,
        })?;
        let is_newer = self.kept.iter().any(|set| set.since > number);
        self.kept.iter().find(|set| set.name == Name::Sequence(used)).filter(|_| !is_newer)
    }

    fn bundle_len(&self) -> usize {
        1 + self.kept.iter().map(|set| 2 + set.unit.len()).sum::<usize>()
    }

    /// A STAP-A of all sets, sequences before pictures.
    fn bundle(&mut self) -> Bytes {
        if let Some(bundle) = &self.bundle {
            return bundle.clone();
        }
        let importance = self.kept.iter().map(|set| set.unit[0] & IMPORTANCE_BITS).max().unwrap_or(0);
        let mut payload = BytesMut::with_capacity(self.bundle_len());
        payload.put_u8(importance | STAP_A);
        let is_sequence = |set: &&Set| matches!(set.name, Name::Sequence(_));
        let pictures = self.kept.iter().filter(|set| !is_sequence(set));
        for set in self.kept.iter().filter(is_sequence).chain(pictures) {
            payload.put_u16(set.unit.len() as u16);
            payload.put_slice(&set.unit);
        }
        self.bundle.insert(payload.freeze()).clone()
    }
}

/// The Exp-Golomb numbers that a unit's body begins with.
fn fields<const COUNT: usize>(body: &[u8]) -> Option<[u32; COUNT]> {
    let body = &body[..body.len().min(FIELDS_LEN_MAX)];
    let mut reader = BitReader::new(ByteReader::without_skip(body));
    let mut values = [0; COUNT];
    for value in &mut values {
        *value = reader.read_ue("a field").ok()?;
    }
    Some(values)
}

/// The height of the pictures that a sequence parameter set describes, without what is cropped.
fn height(unit: &[u8]) -> Option<NonZeroU16> {
    const LEVEL_AT: usize = 3;
    /// The reader refuses a picture that is too large for its level; senders are less exact, and decoders do not mind.
    const HIGHEST_LEVEL: u8 = 62;

    let mut unit: SmallVec<[u8; 64]> = SmallVec::from_slice(unit);
    *unit.get_mut(LEVEL_AT)? = HIGHEST_LEVEL;
    let plain = decode_nal(&unit).ok()?;
    let (_, height) = SeqParameterSet::from_bits(BitReader::new(&plain[..])).ok()?.pixel_dimensions().ok()?;
    NonZeroU16::new(u16::try_from(height).ok()?)
}

#[cfg(test)]
#[path = "h264_tests.rs"]
mod tests;
