//! An SDP offer, read into what an answer needs. Nothing of it is ever logged: it holds ICE passwords.

use std::io::Cursor;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use sdp::{MediaDescription, SessionDescription};

use super::{
    Error,
    codec::{Codec, Kind, Profile},
    extension::Extensions,
};

/// A browser offers two or three sections; a page that added transceivers, some more.
const SECTIONS_MAX: usize = 16;
/// Payload types of one section, of 128 that exist.
const FORMATS_MAX: usize = 128;
/// SSRCs of one section that are believed; the others are learned from packets.
const SSRCS_MAX: usize = 8;
/// Simulcast layers that are taken; a page that offers more gets its first three.
const LAYERS_MAX: usize = 3;
/// The parameter of H.264 under which an offer has parameter sets.
pub const PARAMETER_SETS: &str = "sprop-parameter-sets";
/// Parameter sets in an offer that are read.
const SETS_MAX: usize = 16;
/// RFC 8852 sets no bound; everybody writes one letter or a word.
const RID_LEN_MAX: usize = 16;

/// What the offerer wants of one section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    pub sends: bool,
    pub receives: bool,
}

/// A codec of the offer that we know, with everything that hangs on its payload type.
#[derive(Clone, Debug)]
pub struct Offered {
    pub codec: Codec,
    pub payload_type: u8,
    pub rtx: Option<u8>,
    /// The values after the payload type of `a=rtpmap` and `a=fmtp`, as the offer has them.
    pub rtpmap: String,
    pub fmtp: Option<String>,
    pub feedback: Vec<String>,
}

impl Offered {
    /// The H.264 parameter sets of the offer (RFC 6184, 8.1), as far as they can be read.
    pub fn parameter_sets(&self) -> Vec<Bytes> {
        let listed = parameter(self.fmtp.as_deref(), PARAMETER_SETS).unwrap_or_default();
        let units = listed.split(',').take(SETS_MAX).filter_map(|unit| STANDARD.decode(unit.trim()).ok());
        let units = units.filter(|unit| !unit.is_empty());
        units.map(Bytes::from).collect()
    }
}

/// A stream that the offerer announces with `a=ssrc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    pub media: Option<u32>,
    pub rtx: Option<u32>,
}

#[derive(Clone, Debug)]
pub enum Content {
    Media(Media),
    Channel,
    Other,
}

/// A section for picture or sound.
#[derive(Clone, Debug)]
pub struct Media {
    pub kind: Kind,
    pub direction: Direction,
    pub codecs: Vec<Offered>,
    pub announced: Announced,
    pub extensions: Extensions,
    /// The names of the layers that the offerer will send; none without simulcast.
    pub rids: Vec<String>,
}

/// One `m=` section.
#[derive(Clone, Debug)]
pub struct Section {
    pub media: String,
    pub protocols: Vec<String>,
    pub formats: Vec<String>,
    pub mid: String,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub struct Offer {
    /// SHA-256 of the certificate that the peer will show.
    pub fingerprint: [u8; 32],
    pub ufrag: String,
    pub sections: Vec<Section>,
}

impl Offer {
    /// Reads an offer that can be answered by a bundled ICE-lite DTLS server, or says what stands against it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let session = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
            .map_err(|_| bad("this is not a session description"))?;
        if session.media_descriptions.is_empty() {
            return Err(bad("the offer has no media section"));
        }
        if session.media_descriptions.len() > SECTIONS_MAX {
            return Err(bad("the offer has more than 16 media sections"));
        }

        let used: Vec<&MediaDescription> = session.media_descriptions.iter().filter(|m| !is_rejected(m)).collect();
        check_bundle(&session, &used)?;
        Ok(Self {
            fingerprint: fingerprint(&session, &used)?,
            ufrag: ufrag(&session, &used)?,
            sections: session.media_descriptions.iter().map(section).collect::<Result<_, _>>()?,
        })
    }
}

fn bad(what: &str) -> Error {
    Error::BadOffer(what.to_owned())
}

/// Port zero without `bundle-only` means that the offerer does not want the section.
fn is_rejected(media: &MediaDescription) -> bool {
    media.media_name.port.value == 0 && !media.has_attribute("bundle-only")
}

fn values<'a>(media: &'a MediaDescription, key: &'a str) -> impl Iterator<Item = &'a str> {
    media.attributes.iter().filter(move |a| a.key == key).filter_map(|a| a.value.as_deref())
}

/// Every value of an attribute that may stand in the session's head or in a section.
fn values_anywhere<'a>(
    session: &'a SessionDescription,
    used: &'a [&MediaDescription],
    key: &'a str,
) -> impl Iterator<Item = &'a str> {
    let head = session.attributes.iter().filter(move |a| a.key == key).filter_map(|a| a.value.as_deref());
    head.chain(used.iter().flat_map(move |media| values(media, key)))
}

fn check_bundle(session: &SessionDescription, used: &[&MediaDescription]) -> Result<(), Error> {
    if values_anywhere(session, used, "setup").any(|role| role.eq_ignore_ascii_case("passive")) {
        return Err(bad("the offer says setup:passive; this server is the DTLS server, offer actpass"));
    }
    if used.len() < 2 {
        return Ok(());
    }
    let groups: Vec<&str> =
        session.attributes.iter().filter_map(|a| a.value.as_deref().filter(|_| a.key == "group")).collect();
    let bundled: Vec<&str> =
        groups.iter().filter_map(|group| group.strip_prefix("BUNDLE")).flat_map(str::split_whitespace).collect();
    let all_in = used.iter().all(|media| values(media, "mid").next().is_some_and(|mid| bundled.contains(&mid)));
    if all_in { Ok(()) } else { Err(bad("all media sections must be in one BUNDLE group")) }
}

fn fingerprint(session: &SessionDescription, used: &[&MediaDescription]) -> Result<[u8; 32], Error> {
    let mut found = None;
    for value in values_anywhere(session, used, "fingerprint") {
        let Some((hash, digits)) = value.split_once(' ') else { return Err(bad("a fingerprint has no value")) };
        if !hash.eq_ignore_ascii_case("sha-256") {
            continue;
        }
        let bytes = hex_bytes(digits).ok_or_else(|| bad("a fingerprint is not 32 bytes in hex"))?;
        if found.is_some_and(|other| other != bytes) {
            return Err(bad("bundled sections have one certificate, the offer has two"));
        }
        found = Some(bytes);
    }
    found.ok_or_else(|| bad("the offer has no sha-256 fingerprint"))
}

fn hex_bytes(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut pairs = text.trim().split(':');
    for byte in &mut bytes {
        let pair = pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(bytes)
}

fn ufrag(session: &SessionDescription, used: &[&MediaDescription]) -> Result<String, Error> {
    let has_password = values_anywhere(session, used, "ice-pwd").next().is_some();
    let ufrag = values_anywhere(session, used, "ice-ufrag").next().filter(|_| has_password);
    ufrag.map(str::to_owned).ok_or_else(|| bad("the offer has no ICE credentials"))
}

fn section(media: &MediaDescription) -> Result<Section, Error> {
    let name = &media.media_name;
    Ok(Section {
        media: name.media.clone(),
        protocols: name.protos.clone(),
        formats: name.formats.clone(),
        mid: values(media, "mid").next().unwrap_or("0").to_owned(),
        content: if is_rejected(media) { Content::Other } else { content(media)? },
    })
}

fn content(media: &MediaDescription) -> Result<Content, Error> {
    let name = &media.media_name;
    let over = |protocol: &str| name.protos.iter().any(|p| p == protocol);
    let kind = match name.media.as_str() {
        "video" => Kind::Video,
        "audio" => Kind::Audio,
        "application" if over("SCTP") && name.formats.iter().any(|f| f == "webrtc-datachannel") => {
            return Ok(Content::Channel);
        }
        _ => return Ok(Content::Other),
    };
    if !over("SAVPF") {
        return Ok(Content::Other);
    }
    if !media.has_attribute("rtcp-mux") {
        return Err(bad("a media section has no rtcp-mux"));
    }
    if name.formats.len() > FORMATS_MAX {
        return Err(bad("a media section has more than 128 payload types"));
    }
    Ok(Content::Media(Media {
        kind,
        direction: direction(media),
        codecs: codecs(media, kind),
        announced: announced(media),
        extensions: Extensions::read(values(media, "extmap")),
        rids: rids(media),
    }))
}

fn direction(media: &MediaDescription) -> Direction {
    let (sends, receives) = if media.has_attribute("sendonly") {
        (true, false)
    } else if media.has_attribute("recvonly") {
        (false, true)
    } else if media.has_attribute("inactive") {
        (false, false)
    } else {
        (true, true)
    };
    Direction { sends, receives }
}

/// The known codecs in the order of the section's formats, which is the offerer's preference.
fn codecs(media: &MediaDescription, kind: Kind) -> Vec<Offered> {
    let mut found: Vec<Offered> = Vec::new();
    for payload_type in media.media_name.formats.iter().filter_map(|format| format.parse::<u8>().ok()) {
        let known = !(64..96).contains(&payload_type) && payload_type < 128;
        if !known || found.iter().any(|offered| offered.payload_type == payload_type) {
            continue;
        }
        let Some(rtpmap) = value_of_format(media, "rtpmap", payload_type) else { continue };
        let fmtp = value_of_format(media, "fmtp", payload_type);
        let Some(codec) = codec(rtpmap, fmtp).filter(|codec| codec.kind() == kind) else { continue };
        found.push(Offered {
            codec,
            payload_type,
            rtx: rtx_of(media, payload_type),
            rtpmap: rtpmap.to_owned(),
            fmtp: fmtp.map(str::to_owned),
            feedback: feedback(media, payload_type),
        });
    }
    found
}

/// What stands behind the payload type in `a=key:PT value`.
fn value_of_format<'a>(media: &'a MediaDescription, key: &'a str, payload_type: u8) -> Option<&'a str> {
    values(media, key).find_map(|value| {
        let (format, rest) = value.split_once(' ')?;
        (format.parse() == Ok(payload_type)).then_some(rest.trim())
    })
}

fn codec(rtpmap: &str, fmtp: Option<&str>) -> Option<Codec> {
    let mut parts = rtpmap.split('/');
    let (name, rate) = (parts.next()?, parts.next()?);
    let codec = if name.eq_ignore_ascii_case("VP8") {
        Codec::Vp8
    } else if name.eq_ignore_ascii_case("opus") {
        Codec::Opus
    } else if name.eq_ignore_ascii_case("H264") && parameter(fmtp, "packetization-mode") == Some("1") {
        Codec::H264(Profile::from_level_id(parameter(fmtp, "profile-level-id"))?)
    } else {
        return None;
    };
    (rate.parse() == Ok(codec.clock_rate())).then_some(codec)
}

fn parameter<'a>(fmtp: Option<&'a str>, name: &str) -> Option<&'a str> {
    let mut parameters = fmtp?.split(';').filter_map(|parameter| parameter.split_once('='));
    parameters.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The payload type whose `apt` is `payload_type` (RFC 4588, 8.6).
fn rtx_of(media: &MediaDescription, payload_type: u8) -> Option<u8> {
    media.media_name.formats.iter().filter_map(|format| format.parse::<u8>().ok()).find(|rtx| {
        let is_rtx =
            value_of_format(media, "rtpmap", *rtx).is_some_and(|map| map.to_ascii_lowercase().starts_with("rtx/"));
        let apt = parameter(value_of_format(media, "fmtp", *rtx), "apt").and_then(|apt| apt.parse::<u8>().ok());
        is_rtx && *rtx < 128 && !(64..96).contains(rtx) && apt == Some(payload_type)
    })
}

/// The kinds of RTCP feedback offered for one payload type or for all (`*`).
fn feedback(media: &MediaDescription, payload_type: u8) -> Vec<String> {
    let of_this = |value: &str| {
        let (format, kind) = value.split_once(' ')?;
        (format == "*" || format.parse() == Ok(payload_type)).then(|| kind.trim().to_owned())
    };
    values(media, "rtcp-fb").filter_map(of_this).collect()
}

fn announced(media: &MediaDescription) -> Announced {
    let number = |text: &str| text.split_whitespace().next().and_then(|first| first.parse::<u32>().ok());
    let pair = values(media, "ssrc-group").find_map(|group| {
        let mut members = group.strip_prefix("FID ")?.split_whitespace().map(str::parse::<u32>);
        Some((members.next()?.ok()?, members.next()?.ok()?))
    });
    match pair {
        Some((media, rtx)) => Announced { media: Some(media), rtx: Some(rtx) },
        None => Announced { media: values(media, "ssrc").take(SSRCS_MAX).find_map(number), rtx: None },
    }
}

/// The layers of `a=simulcast:send`, the first alternative of each (RFC 8853), that an `a=rid` line describes.
fn rids(media: &MediaDescription) -> Vec<String> {
    let mut directions = values(media, "simulcast").flat_map(|value| {
        let words: Vec<&str> = value.split_whitespace().collect();
        words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>()
    });
    let Some((_, layers)) = directions.find(|(direction, _)| *direction == "send") else { return Vec::new() };
    let is_described = |rid: &str| {
        values(media, "rid").any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(rid) && words.next() == Some("send")
        })
    };
    let mut found: Vec<String> = Vec::new();
    for layer in layers.split(';').filter_map(|alternatives| alternatives.split(',').next()) {
        let rid = layer.trim_start_matches('~');
        let is_name = (1..=RID_LEN_MAX).contains(&rid.len()) && rid.bytes().all(|b| b.is_ascii_alphanumeric());
        if found.len() < LAYERS_MAX && is_name && is_described(rid) && !found.iter().any(|known| known == rid) {
            found.push(rid.to_owned());
        }
    }
    found
}

/// Checks a trickle fragment (`application/trickle-ice-sdpfrag`) of the peer that made its offer under `ufrag`, or a
/// bare candidate as browsers hand them out, without its `a=`.
pub fn check_fragment(fragment: &str, ufrag: &str) -> Result<(), Error> {
    let mut has_content = false;
    for line in fragment.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let bare = line.starts_with("candidate:").then_some(("a", line));
        let Some((kind, value)) = bare.or_else(|| line.split_once('=')) else {
            return Err(bad("the fragment has a line without ="));
        };
        if !matches!(kind, "a" | "m") {
            return Err(bad("the fragment has a line that is neither a= nor m="));
        }
        if value.strip_prefix("ice-ufrag:").is_some_and(|other| other != ufrag) {
            return Err(bad("the fragment is of another ICE session"));
        }
        if let Some(candidate) = value.strip_prefix("candidate:")
            && candidate.split_whitespace().count() < 8
        {
            return Err(bad("a candidate is cut short"));
        }
        has_content = true;
    }
    if has_content { Ok(()) } else { Err(bad("the fragment is empty")) }
}
