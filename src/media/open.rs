//! Opening what comes in (SRTP and SRTCP).
//!
//! The crate makes state for an SSRC before it knows whether a packet is genuine, and its replay window can be set by
//! a forged first packet. Therefore it is asked only about SSRCs that were announced or proved by an authentic packet,
//! and replay is judged here, after authentication.

use bytes::Bytes;
use crypto::{RTCCryptoProvider, SecretVec};
use shared::marshal::{MarshalSize, Unmarshal};
use srtp::{context::Context, protection_profile::ProtectionProfile};
use std::sync::Arc;

use super::{
    Failure,
    extension::Extensions,
    replay::{Stale, Window},
    seal::{HEADER_LEN, Master},
    stats::Dropped,
};

/// SSRCs of media that one peer may use over its life: a camera that restarts takes a new one.
const RTP_SSRCS_MAX: usize = 32;
/// SSRCs from which one peer may report.
const RTCP_SSRCS_MAX: usize = 8;

/// An authentic media packet that was not seen before.
#[derive(Clone, Debug)]
pub struct Opened {
    pub ssrc: u32,
    pub payload_type: u8,
    /// The sequence number as an index that does not wrap.
    pub index: u64,
    pub timestamp: u32,
    pub marker: bool,
    /// The layer that it is of, and the layer that it repairs, where it says so.
    pub rid: Option<Bytes>,
    pub repaired_rid: Option<Bytes>,
    /// Its number among all packets of the peer, if it has one.
    pub transport: Option<u16>,
    /// Without header extensions and padding; empty if there was only padding.
    pub payload: Bytes,
}

pub struct Opener {
    context: Context,
    media: Vec<Known<16>>,
    reports: Vec<Known<2>>,
    extensions: Extensions,
    key: SecretVec,
    salt: SecretVec,
    profile: ProtectionProfile,
    provider: Arc<dyn RTCCryptoProvider>,
}

struct Known<const WORDS: usize> {
    ssrc: u32,
    window: Window<WORDS>,
}

impl Opener {
    pub fn new(master: &Master, provider: Arc<dyn RTCCryptoProvider>) -> Result<Self, Failure> {
        Ok(Self {
            context: master.context(provider.crypto())?,
            media: Vec::new(),
            reports: Vec::new(),
            extensions: Extensions::default(),
            key: SecretVec::new(master.key.to_vec()),
            salt: SecretVec::new(master.salt.to_vec()),
            profile: master.profile,
            provider,
        })
    }

    /// Believes that the peer will send media under this SSRC.
    pub fn announce(&mut self, ssrc: u32) {
        if self.media.len() < RTP_SSRCS_MAX && !self.media.iter().any(|known| known.ssrc == ssrc) {
            self.media.push(Known { ssrc, window: Window::default() });
        }
    }

    /// Reads the names of layers under these ids.
    pub fn expect(&mut self, extensions: Extensions) {
        self.extensions = extensions;
    }

    pub fn rtp(&mut self, datagram: &[u8]) -> Result<Opened, Dropped> {
        let header = rtp::Header::unmarshal(&mut &datagram[..]).map_err(|_| Dropped::BadRtp)?;
        let payload_at = payload_offset(datagram).ok_or(Dropped::BadRtp)?;
        if payload_at != header.marshal_size() {
            return Err(Dropped::BadRtp);
        }
        let place = self.place_of_media(datagram, &header)?;

        let mut plain = self.context.decrypt_rtp_with_header(datagram, &header).map_err(|_| Dropped::NotAuthentic)?;
        let window = &mut self.media[place].window;
        let index = window.index_of(header.sequence_number);
        window.pass(index).map_err(dropped)?;

        let padding = if header.padding { plain.last().map_or(0, |count| usize::from(*count)) } else { 0 };
        let end = plain.len().checked_sub(padding).filter(|end| *end >= payload_at).ok_or(Dropped::BadRtp)?;
        plain.truncate(end);
        Ok(Opened {
            ssrc: header.ssrc,
            payload_type: header.payload_type,
            index,
            timestamp: header.timestamp,
            marker: header.marker,
            rid: self.extensions.rid.and_then(|id| header.get_extension(id)),
            repaired_rid: self.extensions.repaired_rid.and_then(|id| header.get_extension(id)),
            transport: self.extensions.transport.and_then(|id| number_of(&header.get_extension(id)?)),
            payload: plain.freeze().slice(payload_at..),
        })
    }

    /// The plain bytes of a compound of reports and feedback.
    pub fn rtcp(&mut self, datagram: &[u8]) -> Result<Bytes, Dropped> {
        let ssrc = datagram.get(4..8).ok_or(Dropped::BadRtcp)?;
        let ssrc = u32::from_be_bytes(ssrc.try_into().expect("four bytes"));
        let index = self.report_index(datagram).ok_or(Dropped::BadRtcp)?;
        let place = self.place_of_reports(datagram, ssrc)?;

        let plain = self.context.decrypt_rtcp(datagram).map_err(|_| Dropped::NotAuthentic)?;
        self.reports[place].window.pass(index).map_err(dropped)?;
        Ok(plain.freeze())
    }

    fn place_of_media(&mut self, datagram: &[u8], header: &rtp::Header) -> Result<usize, Dropped> {
        if let Some(place) = self.media.iter().position(|known| known.ssrc == header.ssrc) {
            return Ok(place);
        }
        if self.media.len() >= RTP_SSRCS_MAX {
            return Err(Dropped::UnknownSsrc);
        }
        let authentic = self.trial()?.decrypt_rtp_with_header(datagram, header).is_ok();
        if !authentic {
            return Err(Dropped::UnknownSsrc);
        }
        self.media.push(Known { ssrc: header.ssrc, window: Window::default() });
        Ok(self.media.len() - 1)
    }

    fn place_of_reports(&mut self, datagram: &[u8], ssrc: u32) -> Result<usize, Dropped> {
        if let Some(place) = self.reports.iter().position(|known| known.ssrc == ssrc) {
            return Ok(place);
        }
        if self.reports.len() >= RTCP_SSRCS_MAX || self.trial()?.decrypt_rtcp(datagram).is_err() {
            return Err(Dropped::UnknownSsrc);
        }
        self.reports.push(Known { ssrc, window: Window::default() });
        Ok(self.reports.len() - 1)
    }

    /// A context to be thrown away: what it remembers of a forged SSRC goes with it.
    fn trial(&self) -> Result<Context, Dropped> {
        let master = Master { key: self.key.as_ref(), salt: self.salt.as_ref(), profile: self.profile };
        master.context(self.provider.crypto()).map_err(|_| Dropped::NotAuthentic)
    }

    /// The index that SRTCP writes behind the packet, before an HMAC tag (RFC 3711) or last (RFC 7714).
    fn report_index(&self, datagram: &[u8]) -> Option<u64> {
        let end = datagram.len().checked_sub(self.profile.rtcp_auth_tag_len())?;
        let bytes = datagram.get(end.checked_sub(4)?..end)?;
        Some(u64::from(u32::from_be_bytes(bytes.try_into().ok()?) & 0x7fff_ffff))
    }
}

fn number_of(extension: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(extension.get(..2)?.try_into().ok()?))
}

fn dropped(stale: Stale) -> Dropped {
    match stale {
        Stale::Repeated => Dropped::Replayed,
        Stale::TooOld => Dropped::TooOld,
    }
}

/// Where the payload starts: behind the fixed header, the contributing sources and the extension block.
fn payload_offset(datagram: &[u8]) -> Option<usize> {
    let first = *datagram.first()?;
    let mut offset = HEADER_LEN + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 {
        let words = datagram.get(offset + 2..offset + 4)?;
        offset += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    (offset <= datagram.len()).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seal::Sealer;
    use proptest::prelude::*;

    const MASTER: Master = Master { key: &[5; 16], salt: &[6; 12], profile: ProtectionProfile::AeadAes128Gcm };

    fn pair() -> (Sealer, Opener) {
        let provider = Arc::new(crypto::providers::AwsLcRsProvider::new());
        (Sealer::new(&MASTER, provider.crypto()).unwrap(), Opener::new(&MASTER, provider).unwrap())
    }

    fn sealed(sealer: &mut Sealer, ssrc: u32, sequence: u16, first: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![first, 96];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&[0; 4]);
        packet.extend_from_slice(&ssrc.to_be_bytes());
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + sealer.tag_len(), 0);
        assert!(sealer.rtp(&mut packet, HEADER_LEN, u64::from(sequence)));
        packet
    }

    #[test]
    fn a_forged_packet_shuts_no_genuine_one_out() {
        let (mut sealer, mut opener) = pair();
        let mut forged = sealed(&mut sealer, 1, 20_000, 0x80, b"x");
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(opener.rtp(&forged).unwrap_err(), Dropped::UnknownSsrc);
        for sequence in 10..500 {
            opener.rtp(&sealed(&mut sealer, 1, sequence, 0x80, b"x")).unwrap();
        }
    }

    #[test]
    fn forged_ssrcs_leave_no_state() {
        let (mut sealer, mut opener) = pair();
        opener.rtp(&sealed(&mut sealer, 1, 1, 0x80, b"x")).unwrap();
        for ssrc in 2..2_000 {
            let mut forged = sealed(&mut sealer, ssrc, 1, 0x80, b"x");
            *forged.last_mut().unwrap() ^= 1;
            assert!(opener.rtp(&forged).is_err());
        }
        assert_eq!(opener.media.len(), 1);
    }

    #[test]
    fn ssrcs_are_bounded_even_when_authentic() {
        let (mut sealer, mut opener) = pair();
        let opened = (1..100).filter(|ssrc| opener.rtp(&sealed(&mut sealer, *ssrc, 1, 0x80, b"x")).is_ok()).count();
        assert_eq!(opened, RTP_SSRCS_MAX);
    }

    #[test]
    fn a_packet_passes_once() {
        let (mut sealer, mut opener) = pair();
        let packet = sealed(&mut sealer, 1, 7, 0x80, b"x");
        assert_eq!(opener.rtp(&packet).unwrap().payload, b"x"[..]);
        assert_eq!(opener.rtp(&packet).unwrap_err(), Dropped::Replayed);
    }

    #[test]
    fn padding_is_cut_and_a_lying_padding_refused() {
        let (mut sealer, mut opener) = pair();
        assert_eq!(opener.rtp(&sealed(&mut sealer, 1, 1, 0xa0, &[9, 9, 0, 2])).unwrap().payload, [9u8, 9][..]);
        assert!(opener.rtp(&sealed(&mut sealer, 1, 2, 0xa0, &[0, 0, 0, 4])).unwrap().payload.is_empty());
        assert_eq!(opener.rtp(&sealed(&mut sealer, 1, 3, 0xa0, &[0, 200])).unwrap_err(), Dropped::BadRtp);
    }

    #[test]
    fn reports_are_opened_once_and_their_ssrcs_bounded() {
        let (mut sealer, mut opener) = pair();
        let report = |ssrc: u32| [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat();
        let packet = sealer.rtcp(&report(1)).unwrap();
        assert!(opener.rtcp(&packet).is_ok());
        assert_eq!(opener.rtcp(&packet).unwrap_err(), Dropped::Replayed);
        let opened = (2..100).filter(|ssrc| opener.rtcp(&sealer.rtcp(&report(*ssrc)).unwrap()).is_ok()).count();
        assert_eq!(opened, RTCP_SSRCS_MAX - 1);
    }

    proptest! {
        #[test]
        fn no_datagram_panics(datagram in proptest::collection::vec(any::<u8>(), 0..80)) {
            let (_, mut opener) = pair();
            opener.announce(u32::from_be_bytes([1; 4]));
            let _ = opener.rtp(&datagram);
            let _ = opener.rtcp(&datagram);
        }
    }
}
