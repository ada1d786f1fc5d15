//! The codecs that are passed through, and which of them a viewer can decode.

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
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
