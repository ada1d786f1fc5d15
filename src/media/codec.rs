//! The codecs that are passed through, which of them a viewer can decode, and where a keyframe starts.

use super::vp8;

/// What a track carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Video,
    Audio,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
        }
    }
}

/// H.264 profiles that browsers tell apart, out of the `profile-level-id` (RFC 6184, table 5). The level is left out:
/// it limits the size, which an answer of ours does not choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    /// `profile_idc` and `profile_iop` of any other one: only equal to itself.
    Other(u8, u8),
}

impl Profile {
    /// Reads six hex digits; an absent parameter means Baseline (RFC 6184, 8.1).
    pub fn from_level_id(text: Option<&str>) -> Option<Self> {
        let Some(text) = text else { return Some(Self::Baseline) };
        if text.len() != 6 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let id = u32::from_str_radix(text, 16).ok()?.to_be_bytes();
        let (idc, iop) = (id[1], id[2]);
        Some(match (idc, iop) {
            (0x42, _) if iop & 0x40 != 0 => Self::ConstrainedBaseline,
            (0x4d, _) if iop & 0x80 != 0 => Self::ConstrainedBaseline,
            (0x58, _) if iop & 0xc0 == 0xc0 => Self::ConstrainedBaseline,
            (0x42, _) => Self::Baseline,
            (0x58, _) if iop & 0x80 != 0 => Self::Baseline,
            (0x4d, _) => Self::Main,
            (0x64, 0x0c) => Self::ConstrainedHigh,
            (0x64, 0x00) => Self::High,
            _ => Self::Other(idc, iop),
        })
    }
}

/// A codec as a track carries it. H.264 is always packetization-mode 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    Vp8,
    H264(Profile),
    Opus,
}

impl Codec {
    pub fn name(self) -> &'static str {
        match self {
            Self::Vp8 => "VP8",
            Self::H264(_) => "H264",
            Self::Opus => "opus",
        }
    }

    pub fn kind(self) -> Kind {
        match self {
            Self::Opus => Kind::Audio,
            Self::Vp8 | Self::H264(_) => Kind::Video,
        }
    }

    /// Ticks of the RTP clock in a second.
    pub fn clock_rate(self) -> u32 {
        match self.kind() {
            Kind::Video => 90_000,
            Kind::Audio => 48_000,
        }
    }

    /// Whether a decoder for `self` plays `stream`: the same codec, or constrained baseline in any richer profile.
    pub fn plays(self, stream: Codec) -> bool {
        use Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        match (self, stream) {
            (Self::H264(Baseline | Main | ConstrainedHigh | High), Self::H264(ConstrainedBaseline)) => true,
            (Self::H264(High), Self::H264(Main | ConstrainedHigh)) => true,
            (decoder, stream) => decoder == stream,
        }
    }

    /// Whether this payload is the first one of a frame that decodes on its own. For H.264 that is a packet with
    /// parameter sets, or the start of an IDR picture of a stream that keeps them elsewhere.
    pub fn starts_keyframe(self, payload: &[u8]) -> bool {
        match self {
            Self::Vp8 => vp8::Descriptor::read(payload).is_some_and(|found| found.starts_keyframe(payload)),
            Self::H264(_) => h264_starts_keyframe(payload),
            Self::Opus => true,
        }
    }
}

/// RFC 6184, 5.4 to 5.8: single units, STAP-A and the first fragment of a FU-A.
fn h264_starts_keyframe(payload: &[u8]) -> bool {
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    let is_key = |header: u8| matches!(header & 0x1f, 5 | 7);

    match payload {
        [header, rest @ ..] if header & 0x1f == STAP_A => aggregated_units(rest).any(is_key),
        [indicator, header, ..] if indicator & 0x1f == FU_A => header & 0x80 != 0 && is_key(*header),
        [header, ..] => is_key(*header),
        [] => false,
    }
}

/// The first byte of every unit in a STAP-A, up to the first that is cut short.
fn aggregated_units(mut rest: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (&[high, low], tail) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let header = *tail.get(..length)?.first()?;
        rest = &tail[length..];
        Some(header)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn h264(level_id: &str) -> Codec {
        Codec::H264(Profile::from_level_id(Some(level_id)).unwrap())
    }

    #[test]
    fn profiles_are_read_as_browsers_write_them() {
        assert_eq!(h264("42e01f"), Codec::H264(Profile::ConstrainedBaseline));
        assert_eq!(h264("42E034"), Codec::H264(Profile::ConstrainedBaseline));
        assert_eq!(h264("42001f"), Codec::H264(Profile::Baseline));
        assert_eq!(h264("4d001f"), Codec::H264(Profile::Main));
        assert_eq!(h264("640c1f"), Codec::H264(Profile::ConstrainedHigh));
        assert_eq!(h264("64001f"), Codec::H264(Profile::High));
        for bad in ["", "42e0", "42e01g", "+2e01f", "42e01f0"] {
            assert_eq!(Profile::from_level_id(Some(bad)), None, "{bad}");
        }
    }

    #[test]
    fn a_richer_decoder_plays_constrained_baseline_and_not_the_other_way() {
        assert!(h264("42001f").plays(h264("42e01f")));
        assert!(h264("64001f").plays(h264("42e01f")));
        assert!(!h264("42e01f").plays(h264("64001f")));
        assert!(!Codec::Vp8.plays(h264("42e01f")));
    }

    #[test]
    fn an_h264_keyframe_starts_with_parameter_sets_or_an_idr() {
        let codec = h264("42e01f");
        assert!(codec.starts_keyframe(&[0x67, 1, 2]), "SPS");
        assert!(codec.starts_keyframe(&[0x65, 1, 2]), "IDR");
        assert!(!codec.starts_keyframe(&[0x41, 1, 2]), "a slice");
        assert!(codec.starts_keyframe(&[24, 0, 2, 0x09, 0, 0, 2, 0x67, 0]), "SPS behind a delimiter");
        assert!(!codec.starts_keyframe(&[24, 0, 9, 0x67]), "cut short");
        assert!(codec.starts_keyframe(&[28, 0x85, 0]), "first fragment of an IDR");
        assert!(!codec.starts_keyframe(&[28, 0x05, 0]), "a later fragment");
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            for codec in [Codec::Vp8, h264("42e01f"), Codec::Opus] {
                let _ = codec.starts_keyframe(&payload);
            }
        }
    }
}
