//! From an offer to an answer: which codecs, which payload types, which SSRCs. Pure; runs in the caller's task.

use std::net::SocketAddr;

use bytes::Bytes;
use sdp::{
    MediaDescription, SessionDescription,
    description::{
        common::Attribute,
        media::{MediaName, RangedPort},
    },
};

use super::{
    Error,
    codec::{Codec, Kind},
    extension::Extensions,
    offer::{Announced, Content, Direction, Offer, Offered, PARAMETER_SETS, Section},
};

/// The longest text on a data channel, each way.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The name under which our streams are announced (RFC 7022); one for all, as nothing distinguishes peers by it.
const CNAME: &str = "maishou";
const TRANSPORT_FEEDBACK: &str = "transport-cc";
const LIMIT_FEEDBACK: &str = "goog-remb";

/// What the server contributes to an answer.
pub struct Server<'a> {
    pub ufrag: &'a str,
    pub password: &'a str,
    /// SHA-256 of our certificate, as SDP writes it.
    pub fingerprint: &'a str,
    pub candidates: &'a [SocketAddr],
}

/// A stream that a publisher will send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    pub codec: Codec,
    pub payload_type: u8,
    pub rtx_payload_type: Option<u8>,
    pub announced: Announced,
    pub nack: bool,
    /// The name of the layer, where several are sent.
    pub rid: Option<String>,
    /// H.264 parameter sets that the offer has already.
    pub sets: Vec<Bytes>,
    pub extensions: Extensions,
}

/// One way to send a codec to a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub codec: Codec,
    pub payload_type: u8,
    pub rtx_payload_type: Option<u8>,
}

/// A stream that a viewer will get; which choice is used is known when the publisher's codec is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub kind: Kind,
    pub choices: Vec<Choice>,
    pub ssrc: u32,
    pub rtx_ssrc: u32,
    /// Under which extension packets carry their transport-wide numbers, if the viewer reports on them.
    pub transport: Option<u8>,
}

/// An answer and what was agreed in it.
pub struct Agreed<T> {
    pub sdp: String,
    pub streams: Vec<T>,
    pub channel: bool,
}

/// Answers a publisher: her first video codec that we pass through, and Opus.
pub fn publish(offer: &Offer, server: &Server) -> Result<Agreed<Incoming>, Error> {
    for kind in [Kind::Video, Kind::Audio] {
        let sending =
            |s: &&Section| matches!(&s.content, Content::Media(media) if media.kind == kind && media.direction.sends);
        if offer.sections.iter().filter(sending).count() > 1 {
            return Err(Error::BadOffer(format!("more than one {} track is offered", kind.name())));
        }
    }
    require(offer, |direction| direction.sends, "the offer sends neither video nor audio")?;
    let agreed = answer(offer, server, |section, streams: &mut Vec<Incoming>| {
        let Content::Media(media) = &section.content else { return None };
        let offered = media.codecs.first().filter(|_| media.direction.sends)?;
        let layered = media.kind == Kind::Video && media.extensions.rid.is_some() && media.rids.len() > 1;
        let rids = if layered { &media.rids[..] } else { &[] };
        let reports = offered.feedback.iter().any(|kind| kind == TRANSPORT_FEEDBACK);
        let of_transport = if reports { media.extensions.of_transport() } else { Extensions::default() };
        let of_layers = media.extensions.of_layers();
        let stream = |rid: Option<&String>| Incoming {
            codec: offered.codec,
            payload_type: offered.payload_type,
            rtx_payload_type: offered.rtx,
            announced: if layered { Announced::default() } else { media.announced },
            nack: offered.feedback.iter().any(|kind| kind == "nack"),
            rid: rid.cloned(),
            // Layers differ in size, and the offer has one list for all.
            sets: if layered { Vec::new() } else { offered.parameter_sets() },
            extensions: of_layers.or(of_transport),
        };
        match layered {
            true => streams.extend(rids.iter().map(|rid| stream(Some(rid)))),
            false => streams.push(stream(None)),
        }
        Some(Answered {
            direction: "recvonly",
            codecs: std::slice::from_ref(offered),
            sent: None,
            feedback: if of_transport.transport.is_some() {
                &[TRANSPORT_FEEDBACK, LIMIT_FEEDBACK]
            } else {
                &[LIMIT_FEEDBACK]
            },
            extensions: if layered { of_layers.or(of_transport) } else { of_transport },
            rids,
        })
    })?;
    if agreed.streams.is_empty() { Err(Error::NoCommonCodec) } else { Ok(agreed) }
}

/// Some section has a direction that makes sense here.
fn require(offer: &Offer, wanted: impl Fn(&Direction) -> bool, otherwise: &str) -> Result<(), Error> {
    let fits = |section: &Section| matches!(&section.content, Content::Media(media) if wanted(&media.direction));
    if offer.sections.iter().any(fits) { Ok(()) } else { Err(Error::BadOffer(otherwise.to_owned())) }
}

/// Answers a viewer: every codec that both sides know, one track of each kind.
pub fn watch(offer: &Offer, server: &Server) -> Result<Agreed<Outgoing>, Error> {
    if !offer.sections.iter().any(|section| matches!(section.content, Content::Channel)) {
        require(offer, |direction| direction.receives, "the offer receives nothing")?;
    }
    answer(offer, server, |section, streams: &mut Vec<Outgoing>| {
        let Content::Media(media) = &section.content else { return None };
        let (kind, codecs) = (media.kind, &media.codecs);
        if !media.direction.receives || codecs.is_empty() || streams.iter().any(|stream| stream.kind == kind) {
            return None;
        }
        let reports = codecs.iter().any(|offered| offered.feedback.iter().any(|kind| kind == TRANSPORT_FEEDBACK));
        let extensions = if reports { media.extensions.of_transport() } else { Extensions::default() };
        let choice = |offered: &Offered| Choice {
            codec: offered.codec,
            payload_type: offered.payload_type,
            rtx_payload_type: offered.rtx,
        };
        let (ssrc, rtx_ssrc) = fresh_ssrcs(streams);
        let choices: Vec<Choice> = codecs.iter().map(choice).collect();
        let stream = Outgoing { kind, choices, ssrc, rtx_ssrc, transport: extensions.transport };
        let has_rtx = stream.choices.iter().any(|choice| choice.rtx_payload_type.is_some());
        streams.push(stream);
        let sent = Some(Sent { ssrc, rtx_ssrc: has_rtx.then_some(rtx_ssrc) });
        let feedback: &[&str] = if extensions.transport.is_some() { &[TRANSPORT_FEEDBACK] } else { &[LIMIT_FEEDBACK] };
        Some(Answered { direction: "sendonly", codecs, sent, feedback, extensions, rids: &[] })
    })
}

/// Two SSRCs that differ from each other and from all of the peer's other streams.
fn fresh_ssrcs(streams: &[Outgoing]) -> (u32, u32) {
    let taken: Vec<u32> = streams.iter().flat_map(|stream| [stream.ssrc, stream.rtx_ssrc]).collect();
    let mut fresh = std::iter::repeat_with(rand::random::<u32>).filter(|ssrc| *ssrc != 0 && !taken.contains(ssrc));
    let first = fresh.next().expect("the generator never ends");
    let second = fresh.find(|ssrc| *ssrc != first).expect("the generator never ends");
    (first, second)
}

/// How an accepted media section is answered.
struct Answered<'a> {
    direction: &'static str,
    codecs: &'a [Offered],
    sent: Option<Sent>,
    /// How the receiver tells the sender what the way between them carries.
    feedback: &'static [&'static str],
    extensions: Extensions,
    /// Layers that are taken.
    rids: &'a [String],
}

struct Sent {
    ssrc: u32,
    rtx_ssrc: Option<u32>,
}

fn answer<'a, T>(
    offer: &'a Offer,
    server: &Server,
    mut accept: impl FnMut(&'a Section, &mut Vec<T>) -> Option<Answered<'a>>,
) -> Result<Agreed<T>, Error> {
    let mut agreed = Agreed { sdp: String::new(), streams: Vec::new(), channel: false };
    let mut session = SessionDescription::new_jsep_session_description(false);
    let mut bundle = String::from("BUNDLE");
    let mut sections = Vec::new();

    for section in &offer.sections {
        let answered = match &section.content {
            Content::Channel if !agreed.channel => {
                agreed.channel = true;
                Some(channel_section(section))
            }
            _ => accept(section, &mut agreed.streams).map(|media| media_section(section, &media)),
        };
        let Some(mut answered) = answered else {
            sections.push(rejected_section(section));
            continue;
        };
        transport(&mut answered, server);
        bundle.push(' ');
        bundle.push_str(&section.mid);
        sections.push(answered);
    }

    if agreed.streams.is_empty() && !agreed.channel {
        return Err(Error::NoCommonCodec);
    }
    session.attributes =
        vec![attribute("group", bundle), flag("ice-lite"), attribute("msid-semantic", format!("WMS {CNAME}"))];
    session.media_descriptions = sections;
    agreed.sdp = session.marshal();
    Ok(agreed)
}

fn attribute(key: &str, value: impl Into<String>) -> Attribute {
    Attribute::new(key.to_owned(), Some(value.into()))
}

fn flag(key: &str) -> Attribute {
    Attribute::new(key.to_owned(), None)
}

/// A section of the same kind, protocol and name as the offered one.
fn blank(section: &Section, port: isize, formats: Vec<String>) -> MediaDescription {
    let mut media = MediaDescription::new_jsep_media_description(section.media.clone(), Vec::new());
    media.media_name = MediaName {
        media: section.media.clone(),
        port: RangedPort { value: port, range: None },
        protos: section.protocols.clone(),
        formats,
    };
    media.attributes.push(attribute("mid", section.mid.as_str()));
    media
}

fn rejected_section(section: &Section) -> MediaDescription {
    let mut media = blank(section, 0, section.formats.iter().take(1).cloned().collect());
    media.attributes.push(flag("inactive"));
    media
}

fn channel_section(section: &Section) -> MediaDescription {
    let mut media = blank(section, 9, vec!["webrtc-datachannel".to_owned()]);
    media.attributes.push(attribute("sctp-port", "5000"));
    media.attributes.push(attribute("max-message-size", TEXT_BYTES_MAX.to_string()));
    media
}

fn media_section(section: &Section, answer: &Answered) -> MediaDescription {
    let mut formats = Vec::new();
    let mut lines = vec![flag(answer.direction), flag("rtcp-mux"), flag("rtcp-rsize")];
    for offered in answer.codecs {
        formats.push(offered.payload_type.to_string());
        codec_lines(offered, answer.feedback, &mut lines);
        if let Some(rtx) = offered.rtx.filter(|rtx| !formats.contains(&rtx.to_string())) {
            formats.push(rtx.to_string());
            lines.push(attribute("rtpmap", format!("{rtx} rtx/{}", offered.codec.clock_rate())));
            lines.push(attribute("fmtp", format!("{rtx} apt={}", offered.payload_type)));
        }
    }
    lines.extend(answer.extensions.lines().map(|line| attribute("extmap", line)));
    lines.extend(answer.rids.iter().map(|rid| attribute("rid", format!("{rid} recv"))));
    if !answer.rids.is_empty() {
        lines.push(attribute("simulcast", format!("recv {}", answer.rids.join(";"))));
    }
    if let Some(sent) = &answer.sent {
        sent_lines(&section.media, sent, &mut lines);
    }

    let mut media = blank(section, 9, formats);
    media.attributes.append(&mut lines);
    media
}

fn codec_lines(offered: &Offered, feedback: &[&str], lines: &mut Vec<Attribute>) {
    let payload_type = offered.payload_type;
    lines.push(attribute("rtpmap", format!("{payload_type} {}", offered.rtpmap)));
    if let Some(fmtp) = &offered.fmtp {
        // Her parameter sets are about what she sends: in an answer they would be about us (RFC 6184, 8.2.2).
        let kept = fmtp.split(';').filter(|parameter| !parameter.trim_start().starts_with(PARAMETER_SETS));
        lines.push(attribute("fmtp", format!("{payload_type} {}", kept.collect::<Vec<_>>().join(";"))));
    }
    let spoken = |kind: &str| match kind {
        "nack" | "nack pli" | "ccm fir" => offered.codec.kind() == Kind::Video,
        other => feedback.contains(&other),
    };
    for kind in offered.feedback.iter().filter(|kind| spoken(kind)) {
        lines.push(attribute("rtcp-fb", format!("{payload_type} {kind}")));
    }
}

fn sent_lines(track: &str, sent: &Sent, lines: &mut Vec<Attribute>) {
    lines.push(attribute("msid", format!("{CNAME} {track}")));
    if let Some(rtx) = sent.rtx_ssrc {
        lines.push(attribute("ssrc-group", format!("FID {} {rtx}", sent.ssrc)));
    }
    for ssrc in [Some(sent.ssrc), sent.rtx_ssrc].into_iter().flatten() {
        lines.push(attribute("ssrc", format!("{ssrc} cname:{CNAME}")));
        lines.push(attribute("ssrc", format!("{ssrc} msid:{CNAME} {track}")));
    }
}

/// ICE, DTLS and every candidate: a lite server knows them all beforehand and trickles none.
fn transport(media: &mut MediaDescription, server: &Server) {
    const HOST_PREFERENCE: u32 = 126 << 24;
    const COMPONENT_RTP: u32 = 256 - 1;

    let lines = &mut media.attributes;
    lines.push(attribute("ice-ufrag", server.ufrag));
    lines.push(attribute("ice-pwd", server.password));
    lines.push(attribute("fingerprint", format!("sha-256 {}", server.fingerprint)));
    lines.push(attribute("setup", "passive"));
    for (index, address) in server.candidates.iter().enumerate() {
        let local_preference = u32::from(u16::MAX).saturating_sub(index as u32);
        let priority = HOST_PREFERENCE + (local_preference << 8) + COMPONENT_RTP;
        let (ip, port) = (address.ip(), address.port());
        lines.push(attribute("candidate", format!("{index} 1 udp {priority} {ip} {port} typ host")));
    }
    lines.push(flag("end-of-candidates"));
}

#[cfg(test)]
#[path = "negotiate_tests.rs"]
mod tests;
