//! What two peers tell each other before they meet: our offers, and what we need of a server's description.

use std::{
    io::Cursor,
    net::{IpAddr, SocketAddr},
};

use anyhow::Context as _;
use sdp::SessionDescription;

pub const VP8: u8 = 96;
const VP8_RTX: u8 = 97;
const H264: u8 = 98;
const H264_RTX: u8 = 99;
pub const OPUS: u8 = 111;
/// The streams of an anchor of ours.
pub const VIDEO_SSRC: u32 = 0x5E11_0001;
pub const AUDIO_SSRC: u32 = 0x5E11_0002;

const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const TRANSPORT_CC_ID: u8 = 3;

/// What a peer asks for beside picture and sound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// The data channel `room`.
    pub channel: bool,
    /// Congestion control by transport-wide feedback.
    pub transport_cc: bool,
}

/// Who a peer is, for the other side.
#[derive(Clone, Debug)]
pub struct Introduction {
    pub ufrag: String,
    pub password: String,
    pub fingerprint: String,
    pub wishes: Wishes,
}

impl Introduction {
    pub fn new(number: u32, fingerprint: &str, wishes: Wishes) -> Self {
        let password = format!("{:016x}{:08x}", rand::random::<u64>(), rand::random::<u32>());
        Self { ufrag: format!("crowd{number}"), password, fingerprint: fingerprint.to_owned(), wishes }
    }

    /// A viewer's offer: VP8 or H.264 with retransmission, and Opus.
    pub fn watch(&self) -> String {
        let mut video = format!("m=video 9 UDP/TLS/RTP/SAVPF {VP8} {VP8_RTX} {H264} {H264_RTX}\r\n");
        video += &self.transport("recvonly", "0", "actpass");
        for (codec, rtx, name) in [(VP8, VP8_RTX, "VP8"), (H264, H264_RTX, "H264")] {
            video += &format!("a=rtpmap:{codec} {name}/90000\r\n{}", self.feedback(codec));
            video += &format!("a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={codec}\r\n");
        }
        video += &format!("a=fmtp:{H264} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n");
        let audio = format!(
            "m=audio 9 UDP/TLS/RTP/SAVPF {OPUS}\r\n{}a=rtpmap:{OPUS} opus/48000/2\r\n{}",
            self.transport("recvonly", "1", "actpass"),
            self.extensions()
        );
        let mut sections = vec![video, audio];
        if self.wishes.channel {
            sections.push(self.channel("2", "actpass"));
        }
        self.description(&sections)
    }

    /// An anchor's offer: VP8 and Opus.
    pub fn publish(&self) -> String {
        let stream = |ssrc: u32, track: &str| {
            format!("a=msid:show {track}\r\na=ssrc:{ssrc} cname:show\r\na=ssrc:{ssrc} msid:show {track}\r\n")
        };
        let video = format!(
            "m=video 9 UDP/TLS/RTP/SAVPF {VP8}\r\n{}a=rtpmap:{VP8} VP8/90000\r\n{}{}",
            self.transport("sendonly", "0", "actpass"),
            self.feedback(VP8),
            stream(VIDEO_SSRC, "picture")
        );
        let audio = format!(
            "m=audio 9 UDP/TLS/RTP/SAVPF {OPUS}\r\n{}a=rtpmap:{OPUS} opus/48000/2\r\n{}",
            self.transport("sendonly", "1", "actpass"),
            stream(AUDIO_SSRC, "sound")
        );
        self.description(&[video, audio])
    }

    /// The answer to a server that offers (Janus does): everything that it sends is taken.
    pub fn answer(&self, offer: &str) -> anyhow::Result<String> {
        let theirs = SessionDescription::unmarshal(&mut Cursor::new(offer.as_bytes()))?;
        let mut sections = Vec::new();
        for media in &theirs.media_descriptions {
            let mid = media.attribute("mid").flatten().context("a section without a name")?;
            if media.media_name.media == "application" {
                sections.push(self.channel(mid, "active"));
                continue;
            }
            let name = &media.media_name;
            let mut section = format!("m={} 9 UDP/TLS/RTP/SAVPF {}\r\n", name.media, name.formats.join(" "));
            section += &self.transport("recvonly", mid, "active");
            for line in media.attributes.iter().filter(|a| matches!(&*a.key, "rtpmap" | "fmtp" | "rtcp-fb")) {
                section += &format!("a={}:{}\r\n", line.key, line.value.as_deref().unwrap_or_default());
            }
            sections.push(section);
        }
        Ok(self.description(&sections))
    }

    fn description(&self, sections: &[String]) -> String {
        let mids = sections.iter().filter_map(|s| s.lines().find_map(|line| line.strip_prefix("a=mid:")));
        let bundle: Vec<&str> = mids.collect();
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n{}",
            bundle.join(" "),
            sections.concat()
        )
    }

    fn transport(&self, direction: &str, mid: &str, setup: &str) -> String {
        format!(
            "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n\
             a=mid:{mid}\r\na={direction}\r\na=rtcp-mux\r\n",
            self.ufrag, self.password, self.fingerprint
        )
    }

    fn feedback(&self, payload_type: u8) -> String {
        let mut lines: Vec<&str> = vec!["nack", "nack pli"];
        if self.wishes.transport_cc {
            lines.push("transport-cc");
        }
        let lines: String = lines.iter().map(|kind| format!("a=rtcp-fb:{payload_type} {kind}\r\n")).collect();
        lines + &self.extensions()
    }

    fn extensions(&self) -> String {
        if self.wishes.transport_cc { format!("a=extmap:{TRANSPORT_CC_ID} {TRANSPORT_CC}\r\n") } else { String::new() }
    }

    fn channel(&self, mid: &str, setup: &str) -> String {
        let transport = self.transport("sendrecv", mid, setup);
        let transport = transport.replace("a=sendrecv\r\na=rtcp-mux\r\n", "");
        format!("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{transport}a=sctp-port:5000\r\n")
    }
}

/// What a payload type means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    #[default]
    Unknown,
    Vp8,
    H264,
    Audio,
    /// A video packet sent again (RFC 4588).
    Repair,
}

/// The server's side, as far as it matters to a light peer.
#[derive(Clone, Debug)]
pub struct Remote {
    pub address: SocketAddr,
    pub ufrag: String,
    pub password: String,
    /// SHA-256 of the certificate that it will show.
    pub fingerprint: [u8; 32],
    /// By payload type.
    pub payloads: [Payload; 128],
    /// The number of the header extension for transport-wide congestion control.
    pub transport_cc: Option<u8>,
    pub channel: bool,
}

impl Remote {
    /// Reads an answer, or an offer of a server that makes them.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let session = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))?;
        let used = session.media_descriptions.iter().filter(|media| media.media_name.port.value != 0);
        let lines: Vec<(&str, &str)> = used
            .flat_map(|media| &media.attributes)
            .chain(&session.attributes)
            .filter_map(|line| Some((&*line.key, line.value.as_deref()?)))
            .collect();
        let values = |key: &'static str| lines.iter().filter(move |(k, _)| *k == key).map(|(_, value)| *value);
        let one = |key: &'static str| values(key).next().with_context(|| format!("a description without {key}"));

        let mut payloads = [Payload::Unknown; 128];
        for (number, codec) in values("rtpmap").filter_map(|value| value.split_once(' ')) {
            if let Some(place) = number.parse::<usize>().ok().and_then(|number| payloads.get_mut(number)) {
                *place = payload(codec);
            }
        }
        let transport_cc = values("extmap").filter_map(|value| value.split_once(' ')).find_map(|(id, uri)| {
            let id = id.split('/').next()?.parse().ok()?;
            (uri == TRANSPORT_CC).then_some(id)
        });
        Ok(Self {
            address: values("candidate").find_map(host).context("a description without a UDP candidate")?,
            ufrag: one("ice-ufrag")?.to_owned(),
            password: one("ice-pwd")?.to_owned(),
            fingerprint: values("fingerprint").find_map(sha256).context("a description without a fingerprint")?,
            payloads,
            transport_cc,
            channel: values("sctp-port").next().is_some(),
        })
    }
}

fn payload(codec: &str) -> Payload {
    match codec.split('/').next().unwrap_or_default().to_ascii_uppercase().as_str() {
        "VP8" => Payload::Vp8,
        "H264" => Payload::H264,
        "OPUS" => Payload::Audio,
        "RTX" => Payload::Repair,
        _ => Payload::Unknown,
    }
}

/// The address of an IPv4 host candidate.
fn host(candidate: &str) -> Option<SocketAddr> {
    let fields: Vec<&str> = candidate.split_whitespace().collect();
    let [_, "1", protocol, _, ip, port, "typ", "host", ..] = fields[..] else { return None };
    let ip: IpAddr = ip.parse().ok()?;
    (protocol.eq_ignore_ascii_case("udp") && ip.is_ipv4()).then_some(SocketAddr::new(ip, port.parse().ok()?))
}

fn sha256(value: &str) -> Option<[u8; 32]> {
    let digits = value.strip_prefix("sha-256 ")?;
    let bytes: Option<Vec<u8>> = digits.split(':').map(|pair| u8::from_str_radix(pair, 16).ok()).collect();
    bytes?.try_into().ok()
}
