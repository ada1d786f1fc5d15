//! DTLS as a client, for all peers of a thread, and the SRTP keys that come out of it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, anyhow, ensure};
use bytes::BytesMut;
use crypto::{HashAlgorithm, RTCCryptoProvider};
use dtls::{
    config::{ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    crypto::Certificate,
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
    state::State,
};
use shared::TransportProtocol;
use srtp::{
    config::{Config as SrtpConfig, LABEL_EXTRACTOR_DTLS_SRTP},
    context::Context,
    protection_profile::ProtectionProfile,
};

/// A certificate, and what is offered with it; one serves any number of peers.
pub struct Identity {
    pub(super) provider: Arc<dyn RTCCryptoProvider>,
    /// SHA-256 of the certificate as SDP writes it.
    pub fingerprint: String,
    config: Arc<HandshakeConfig>,
}

impl Identity {
    /// One that wants its media under AES-GCM, and takes AES-CM where there is nothing else.
    pub fn make() -> anyhow::Result<Self> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(crypto::providers::AwsLcRsProvider::new());
        let certificate = Certificate::generate_self_signed(vec!["crowd".to_owned()], provider.crypto())?;
        let der = certificate.certificate.first().context("a certificate without bytes")?;
        let hash = provider.crypto().hash(HashAlgorithm::Sha256, der).map_err(|error| anyhow!("{error:?}"))?;
        let digits: Vec<String> = hash.iter().map(|byte| format!("{byte:02X}")).collect();
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider.clone())
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ])
            // The server's certificate is self-signed: it is compared with the fingerprint of its description.
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(true, None)?;
        Ok(Self { provider, fingerprint: digits.join(":"), config: Arc::new(config) })
    }
}

/// Both directions of a peer's media and reports.
pub struct Keys {
    pub outgoing: Context,
    pub incoming: Context,
}

/// What a datagram of the handshake brought.
pub enum Heard {
    Keys(Box<Keys>),
    Data(BytesMut),
    Closed,
}

/// The handshakes of a thread's peers, who are told apart by a number dressed as an address.
pub struct Handshakes {
    identity: Arc<Identity>,
    endpoint: Endpoint,
}

impl Handshakes {
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity, endpoint: Endpoint::new(address_of(0), TransportProtocol::UDP, None) }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn begin(&mut self, peer: u32, now: Instant) -> anyhow::Result<()> {
        Ok(self.endpoint.connect(now, address_of(peer), self.identity.config.clone(), None)?)
    }

    /// Takes a datagram; a malformed one is passed over. `fingerprint` is what the server's description promised.
    pub fn read(
        &mut self,
        peer: u32,
        fingerprint: &[u8; 32],
        datagram: &[u8],
        now: Instant,
    ) -> anyhow::Result<Vec<Heard>> {
        let events = self.endpoint.read(now, address_of(peer), None, datagram.into()).unwrap_or_default();
        let mut heard = Vec::with_capacity(events.len());
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => heard.push(Heard::Keys(Box::new(self.keys(peer, fingerprint)?))),
                EndpointEvent::ApplicationData(data) => heard.push(Heard::Data(data)),
                EndpointEvent::PeerClosed => heard.push(Heard::Closed),
                _ => {}
            }
        }
        Ok(heard)
    }

    /// Sends application data: an SCTP packet.
    pub fn write(&mut self, peer: u32, data: &[u8], now: Instant) {
        // A peer that is gone needs nothing, and SCTP repeats what was lost.
        let _ = self.endpoint.write(now, address_of(peer), data);
    }

    /// Repeats a flight whose answer is late.
    pub fn handle_timeout(&mut self, peer: u32, now: Instant) -> anyhow::Result<()> {
        match self.endpoint.poll_timeout(&address_of(peer)) {
            Some(at) if at <= now => Ok(self.endpoint.handle_timeout(address_of(peer), now)?),
            _ => Ok(()),
        }
    }

    /// Forgets a peer, with a goodbye to its server.
    pub fn stop(&mut self, peer: u32, now: Instant) {
        self.endpoint.stop(now, address_of(peer));
    }

    /// A datagram to send, and whose it is.
    pub fn poll_transmit(&mut self) -> Option<(u32, BytesMut)> {
        let transmit = self.endpoint.poll_transmit()?;
        Some((peer_of(transmit.transport.peer_addr), transmit.message))
    }

    fn keys(&self, peer: u32, fingerprint: &[u8; 32]) -> anyhow::Result<Keys> {
        let state = self.endpoint.get_connection_state(address_of(peer)).context("a handshake without a state")?;
        let shown = state.peer_certificates.first().context("the server shows no certificate")?;
        let crypto = self.identity.provider.crypto();
        let hash = crypto.hash(HashAlgorithm::Sha256, shown).map_err(|error| anyhow!("{error:?}"))?;
        ensure!(hash == fingerprint, "the server's certificate is not the one of its description");
        export_keys(state, self.identity.provider.as_ref())
    }
}

fn export_keys(state: &State, provider: &dyn RTCCryptoProvider) -> anyhow::Result<Keys> {
    let profile = match state.srtp_protection_profile() {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        other => anyhow::bail!("the server chose {other:?}"),
    };
    let mut config = SrtpConfig { profile, ..Default::default() };
    let material = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], config.keying_material_len())?;
    config.set_session_keys_from_keying_material(material.as_ref(), state.is_client())?;
    let keys = &config.keys;
    let context = |key: &[u8], salt: &[u8]| Context::new(key, salt, profile, None, None, provider.crypto());
    Ok(Keys {
        outgoing: context(&keys.local_master_key, &keys.local_master_salt)?,
        incoming: context(&keys.remote_master_key, &keys.remote_master_salt)?,
    })
}

fn address_of(peer: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(peer), 1))
}

fn peer_of(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(address) => u32::from(*address.ip()),
        SocketAddr::V6(_) => unreachable!("address_of makes IPv4 addresses"),
    }
}
