//! The codecs that an anchor sends, and how she offers them.

use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Vp8,
    /// Constrained baseline, in packetization-mode 1.
    H264,
    Opus,
}

impl Codec {
    pub fn kind(self) -> RtpCodecKind {
        match self {
            Self::Vp8 | Self::H264 => RtpCodecKind::Video,
            Self::Opus => RtpCodecKind::Audio,
        }
    }

    pub fn clock_rate(self) -> u32 {
        if self == Self::Opus { 48_000 } else { 90_000 }
    }

    pub fn parameters(self) -> RTCRtpCodecParameters {
        let (mime_type, fmtp, payload_type) = match self {
            Self::Vp8 => ("video/VP8", "", 96),
            Self::H264 => ("video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", 98),
            Self::Opus => ("audio/opus", "minptime=10;useinbandfec=1", 111),
        };
        let feedback = match self {
            Self::Opus => vec![],
            _ => [("ccm", "fir"), ("nack", ""), ("nack", "pli")].map(feedback).into(),
        };
        let rtp_codec = RTCRtpCodec {
            mime_type: mime_type.into(),
            clock_rate: self.clock_rate(),
            channels: if self == Self::Opus { 2 } else { 0 },
            sdp_fmtp_line: fmtp.into(),
            rtcp_feedback: feedback,
        };
        RTCRtpCodecParameters { rtp_codec, payload_type }
    }

    /// What is sent again of a picture (RFC 4588).
    pub fn repair(self) -> RTCRtpCodecParameters {
        let repaired = self.parameters().payload_type;
        let rtp_codec = RTCRtpCodec {
            mime_type: "video/rtx".into(),
            clock_rate: self.clock_rate(),
            sdp_fmtp_line: format!("apt={repaired}"),
            ..RTCRtpCodec::default()
        };
        RTCRtpCodecParameters { rtp_codec, payload_type: repaired + 1 }
    }
}

fn feedback((typ, parameter): (&str, &str)) -> RTCPFeedback {
    RTCPFeedback { typ: typ.into(), parameter: parameter.into() }
}
