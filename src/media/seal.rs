//! Protecting what goes out (SRTP and SRTCP, RFC 3711 and 7714).
//!
//! Media under AES-128-GCM is sealed here, in place and with an explicit 48-bit index, so that no hidden state can
//! guess another rollover counter than ours. Whoever calls [`Sealer::rtp`] promises that an index of an SSRC is used
//! for one content only; `forward` keeps that promise and checks it.

use bytes::BytesMut;
use crypto::{AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, RTCCrypto};
use shared::marshal::Unmarshal;
use srtp::{context::Context, protection_profile::ProtectionProfile};

use super::Failure;

pub const HEADER_LEN: usize = 12;
const GCM_TAG_LEN: usize = 16;
const GCM_SALT_LEN: usize = 12;

/// Master keys of one direction, out of the DTLS handshake.
pub struct Master<'a> {
    pub key: &'a [u8],
    pub salt: &'a [u8],
    pub profile: ProtectionProfile,
}

impl Master<'_> {
    pub fn context(&self, crypto: &dyn RTCCrypto) -> Result<Context, Failure> {
        Context::new(self.key, self.salt, self.profile, None, None, crypto).map_err(|_| Failure::Keys)
    }
}

pub struct Sealer {
    context: Context,
    gcm: Option<Gcm>,
    tag_len: usize,
}

struct Gcm {
    cipher: Box<dyn AeadCipher>,
    salt: (u64, u32),
}

impl Sealer {
    pub fn new(master: &Master, crypto: &dyn RTCCrypto) -> Result<Self, Failure> {
        let gcm = match master.profile {
            ProtectionProfile::AeadAes128Gcm => Some(Gcm::new(master, crypto)?),
            _ => None,
        };
        let tag_len = master.profile.rtp_auth_tag_len() + master.profile.aead_auth_tag_len();
        Ok(Self { context: master.context(crypto)?, gcm, tag_len })
    }

    /// Bytes that a protected packet is longer than the plain one.
    pub fn tag_len(&self) -> usize {
        self.tag_len
    }

    /// Protects `packet`: a header of `header_len` bytes, extensions included, and a payload followed by
    /// [`Self::tag_len`] free bytes. On false the buffer must not be sent.
    #[must_use]
    pub fn rtp(&mut self, packet: &mut [u8], header_len: usize, index: u64) -> bool {
        match &mut self.gcm {
            Some(gcm) => gcm.seal(packet, header_len, index),
            None => self.rtp_in_context(packet),
        }
    }

    /// The crate's context counts rollovers by itself. It agrees with our index because numbers start below 32,768 and
    /// a repeated one is never further back than that.
    fn rtp_in_context(&mut self, packet: &mut [u8]) -> bool {
        let Some(plain_len) = packet.len().checked_sub(self.tag_len).filter(|len| *len >= HEADER_LEN) else {
            return false;
        };
        let Ok(header) = rtp::Header::unmarshal(&mut &packet[..plain_len]) else { return false };
        match self.context.encrypt_rtp_with_header(&packet[..plain_len], &header) {
            Ok(sealed) if sealed.len() == packet.len() => {
                packet.copy_from_slice(&sealed);
                true
            }
            _ => false,
        }
    }

    pub fn rtcp(&mut self, plain: &[u8]) -> Option<BytesMut> {
        self.context.encrypt_rtcp(plain).ok()
    }
}

impl Gcm {
    fn new(master: &Master, crypto: &dyn RTCCrypto) -> Result<Self, Failure> {
        const LABEL_KEY: u8 = 0x00;
        const LABEL_SALT: u8 = 0x02;

        let key = derive(master, LABEL_KEY, crypto)?;
        let derived_salt = derive(master, LABEL_SALT, crypto)?;
        let cipher = crypto.new_aead(AeadAlgorithm::Aes128Gcm, &key).map_err(|_| Failure::Keys)?;
        Ok(Self { cipher, salt: words(derived_salt.first_chunk().ok_or(Failure::Keys)?) })
    }

    fn seal(&mut self, packet: &mut [u8], header_len: usize, index: u64) -> bool {
        if header_len < HEADER_LEN || packet.len() < header_len + GCM_TAG_LEN {
            return false;
        }
        let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        let nonce = self.nonce(ssrc, index);
        let (header, rest) = packet.split_at_mut(header_len);
        let (payload, tag) = rest.split_at_mut(rest.len() - GCM_TAG_LEN);
        self.cipher.seal_in_place(&nonce, header, payload, tag).is_ok()
    }

    /// RFC 7714, 8.1: two zero bytes, SSRC, rollover counter and sequence number, xor salt. Written in the words in
    /// which the cipher reads it: of single bytes it would wait for the stores.
    fn nonce(&self, ssrc: u32, index: u64) -> [u8; GCM_SALT_LEN] {
        let (high, low) = self.salt;
        let mut nonce = [0; GCM_SALT_LEN];
        nonce[..8].copy_from_slice(&(high ^ (u64::from(ssrc) << 16 | index >> 32 & 0xffff)).to_be_bytes());
        nonce[8..].copy_from_slice(&(low ^ index as u32).to_be_bytes());
        nonce
    }
}

fn words(salt: &[u8; GCM_SALT_LEN]) -> (u64, u32) {
    let value = salt.iter().fold(0u128, |value, byte| value << 8 | u128::from(*byte));
    ((value >> 32) as u64, value as u32)
}

/// The AES-CM key derivation of RFC 3711, 4.3.3, for outputs of up to one block and a derivation rate of zero.
fn derive(master: &Master, label: u8, crypto: &dyn RTCCrypto) -> Result<[u8; 16], Failure> {
    const LABEL_AT: usize = 7;

    let mut block = [0; 16];
    block[..master.salt.len()].copy_from_slice(master.salt);
    block[LABEL_AT] ^= label;
    crypto.block_encrypt(BlockCipherAlgorithm::Aes128, master.key, &mut block).map_err(|_| Failure::Keys)?;
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::RTCCryptoProvider;

    const SSRC: u32 = 0x1234_5678;

    fn packet(sequence: u16, payload: &[u8], tag_len: usize) -> Vec<u8> {
        let mut packet = vec![0x80, 96];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&7u32.to_be_bytes());
        packet.extend_from_slice(&SSRC.to_be_bytes());
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + tag_len, 0);
        packet
    }

    /// What we seal, the crate opens, over two wraps of the sequence number.
    fn opens_what_we_seal(profile: ProtectionProfile) {
        let provider = crypto::providers::AwsLcRsProvider::new();
        let salt = [7; 14];
        let master = Master { key: &[3; 16], salt: &salt[..profile.salt_len()], profile };
        let mut sealer = Sealer::new(&master, provider.crypto()).unwrap();
        let mut receiver = master.context(provider.crypto()).unwrap();

        for index in (30_000u64..170_000).step_by(7) {
            let mut sealed = packet(index as u16, b"a slice of a picture", sealer.tag_len());
            assert!(sealer.rtp(&mut sealed, HEADER_LEN, index));
            let opened = receiver.decrypt_rtp(&sealed).unwrap_or_else(|e| panic!("index {index}: {e}"));
            assert_eq!(&opened[HEADER_LEN..], b"a slice of a picture");
        }
    }

    #[test]
    fn gcm_opens_at_the_other_side() {
        opens_what_we_seal(ProtectionProfile::AeadAes128Gcm);
    }

    #[test]
    fn aes_cm_opens_at_the_other_side() {
        opens_what_we_seal(ProtectionProfile::Aes128CmHmacSha1_80);
    }

    #[test]
    fn the_same_packet_sealed_again_is_the_same_bytes() {
        for profile in [ProtectionProfile::AeadAes128Gcm, ProtectionProfile::Aes128CmHmacSha1_80] {
            let provider = crypto::providers::AwsLcRsProvider::new();
            let salt = [9; 14];
            let master = Master { key: &[1; 16], salt: &salt[..profile.salt_len()], profile };
            let mut sealer = Sealer::new(&master, provider.crypto()).unwrap();
            let mut seal = |index: u64| {
                let mut sealed = packet(index as u16, b"payload", sealer.tag_len());
                assert!(sealer.rtp(&mut sealed, HEADER_LEN, index));
                sealed
            };
            let sent: Vec<_> = (60_000u64..66_000).map(&mut seal).collect();
            assert_eq!(seal(65_530), sent[5_530], "from before the wrap");
            assert_eq!(seal(65_990), sent[5_990]);
        }
    }

    #[test]
    fn a_buffer_without_room_for_the_tag_is_refused() {
        let provider = crypto::providers::AwsLcRsProvider::new();
        let master = Master { key: &[1; 16], salt: &[2; 12], profile: ProtectionProfile::AeadAes128Gcm };
        let mut sealer = Sealer::new(&master, provider.crypto()).unwrap();
        assert!(!sealer.rtp(&mut [0; 20], HEADER_LEN, 1));
    }
}
