//! The handshakes of all peers of a worker, and the keys that come out of them.
//!
//! The crate takes the client's order of SRTP profiles, and browsers put AES-CM first. So a peer is met by an endpoint
//! that knows GCM only; when that finds nothing in common, the stored hello is played again to one with AES-CM.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use crypto::{HashAlgorithm, RTCCryptoProvider, constant_time_eq};
use dtls::{
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    crypto::Certificate,
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
    state::State,
};
use shared::{TransportProtocol, error::Error as CrateError};
use srtp::{
    config::{Config as SrtpConfig, LABEL_EXTRACTOR_DTLS_SRTP},
    protection_profile::ProtectionProfile,
};

use super::{
    Failure,
    flight::{Flight, is_handshake, is_hello},
    open::Opener,
    seal::{Master, Sealer},
    stats::Dropped,
};

/// What one peer may send before its handshake is done. The crate queues records of the next epoch without a limit.
const EARLY_DATAGRAMS_MAX: usize = 64;
const EARLY_BYTES_MAX: usize = 64 * 1024;
/// Datagrams of a hello that are kept for the second endpoint: a browser's takes two, and a cookie doubles them.
const HELLO_DATAGRAMS_MAX: usize = 4;
/// The crate's own timer for repeats never runs out: see [`Flight`].
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// The server's certificate and the handshake settings made of it; one for the process.
#[derive(Clone)]
pub struct Identity {
    pub provider: Arc<dyn RTCCryptoProvider>,
    /// SHA-256 of the certificate as SDP writes it.
    pub fingerprint: String,
    gcm: Arc<HandshakeConfig>,
    aes_cm: Arc<HandshakeConfig>,
}

impl Identity {
    pub fn make() -> Result<Self, CrateError> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(crypto::providers::AwsLcRsProvider::new());
        let certificate = Certificate::generate_self_signed(vec!["maishou".to_owned()], provider.crypto())?;
        let der = certificate.certificate.first().ok_or(CrateError::Other("a certificate without bytes".to_owned()))?;
        let hash = sha256(der, provider.as_ref()).ok_or(CrateError::Other("SHA-256 is missing".to_owned()))?;
        let digits: Vec<String> = hash.iter().map(|byte| format!("{byte:02X}")).collect();
        let config = |profile| handshake_config(profile, &certificate, &provider);
        Ok(Self {
            fingerprint: digits.join(":"),
            gcm: config(SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm)?,
            aes_cm: config(SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80)?,
            provider,
        })
    }

    fn config(&self, suite: Suite) -> &Arc<HandshakeConfig> {
        match suite {
            Suite::Gcm => &self.gcm,
            Suite::AesCm => &self.aes_cm,
        }
    }
}

/// The peer shows a self-signed certificate: it is checked against the offer's fingerprint afterwards.
fn handshake_config(
    profile: SrtpProtectionProfile,
    certificate: &Certificate,
    provider: &Arc<dyn RTCCryptoProvider>,
) -> Result<Arc<HandshakeConfig>, CrateError> {
    let config = ConfigBuilder::default()
        .with_crypto_provider(provider.clone())
        .with_certificates(vec![certificate.clone()])
        .with_srtp_protection_profiles(vec![profile])
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        .with_insecure_skip_verify(true)
        .with_extended_master_secret(ExtendedMasterSecretType::Require)
        .with_flight_interval(NEVER)
        .build(false, None)?;
    Ok(Arc::new(config))
}

fn sha256(data: &[u8], provider: &dyn RTCCryptoProvider) -> Option<Vec<u8>> {
    provider.crypto().hash(HashAlgorithm::Sha256, data).ok()
}

/// How far one peer's handshake is.
#[derive(Default)]
pub struct Progress {
    suite: Option<Suite>,
    done: bool,
    is_proved: bool,
    /// Nothing of the handshake is kept, and nothing of one is taken.
    is_settled: bool,
    hello: Vec<Bytes>,
    flight: Flight,
    early_datagrams: usize,
    early_bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Suite {
    Gcm,
    AesCm,
}

impl Progress {
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The peer sent something under the keys.
    pub fn note_proof(&mut self) {
        self.is_proved = true;
    }
}

/// Both directions of a peer's media and reports.
pub struct Keys {
    pub sealer: Sealer,
    pub opener: Opener,
}

/// What a datagram brought.
pub enum Heard {
    Keys(Box<Keys>),
    Data(BytesMut),
    Closed,
}

/// The two endpoints of a worker. The crate tells associations apart by address; ours is the peer's number dressed as
/// one, so that a peer may move to another address without a trace here.
pub struct Handshakes {
    identity: Arc<Identity>,
    gcm: Endpoint,
    aes_cm: Endpoint,
    outgoing: VecDeque<(u32, BytesMut)>,
    /// Flights said again, to all peers since the start.
    pub flights_repeated: u64,
}

impl Handshakes {
    pub fn new(identity: Arc<Identity>) -> Self {
        let endpoint = |config: &Arc<HandshakeConfig>| {
            let unused = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            Endpoint::new(unused, TransportProtocol::UDP, Some(config.clone()))
        };
        let (gcm, aes_cm) = (endpoint(&identity.gcm), endpoint(&identity.aes_cm));
        Self { identity, gcm, aes_cm, outgoing: VecDeque::new(), flights_repeated: 0 }
    }

    /// Takes a datagram of `peer`, which is known to hold the ICE password. A malformed datagram is dropped and ends
    /// nothing; a handshake that fails for good is ended by its deadline or by `Err`.
    pub fn read(
        &mut self,
        peer: u32,
        progress: &mut Progress,
        certificate: &[u8; 32],
        datagram: &[u8],
        now: Instant,
    ) -> Result<Vec<Heard>, Trouble> {
        if !progress.done {
            admit_early(progress, datagram)?;
        } else if progress.is_settled && is_handshake(datagram) {
            return Err(Trouble::Drop(Dropped::BadDtls));
        }
        let suite = progress.suite.ok_or(Trouble::Drop(Dropped::BadDtls))?;
        let mut result = self.endpoint(suite).read(now, address_of(peer), None, datagram.into());
        if suite == Suite::Gcm && !progress.done && matches!(result, Err(CrateError::ErrServerNoMatchingSrtpProfile)) {
            result = self.begin_again(peer, progress, now);
        }

        let events = result.map_err(|_| Trouble::Drop(Dropped::BadDtls))?;
        if !progress.done {
            self.note_flight(peer, progress, datagram, now);
        }
        let mut heard = Vec::with_capacity(events.len());
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => {
                    let keys = self.keys(peer, progress, certificate).map_err(Trouble::End)?;
                    progress.done = true;
                    (progress.hello, progress.flight) = (Vec::new(), Flight::default());
                    heard.push(Heard::Keys(Box::new(keys)));
                }
                EndpointEvent::ApplicationData(data) => heard.push(Heard::Data(data)),
                EndpointEvent::PeerClosed => heard.push(Heard::Closed),
                _ => {}
            }
        }
        Ok(heard)
    }

    /// Sends one message of a data channel's association.
    pub fn write(&mut self, peer: u32, progress: &Progress, data: &[u8], now: Instant) {
        if let Some(suite) = progress.suite {
            // The only failures are an unknown peer and an unfinished handshake; SCTP repeats what it needs.
            let _ = self.endpoint(suite).write(now, address_of(peer), data);
        }
    }

    /// Lets go of what is known of a handshake that is done for good: the peer sends under its keys, so it has heard our
    /// last flight and will not ask for it again. The crate would keep it all for as long as the peer is here, so the
    /// association goes on in a new one with the state of the old. That has an empty replay window; the records hold
    /// SCTP, which knows its own duplicates. Called after a while only: a peer may send before it has heard all.
    pub fn settle(&mut self, peer: u32, progress: &mut Progress, now: Instant) {
        if !(progress.done && progress.is_proved) || std::mem::replace(&mut progress.is_settled, true) {
            return;
        }
        let (Some(suite), address, provider) = (progress.suite, address_of(peer), self.identity.provider.clone())
        else {
            return;
        };
        let state = self.endpoint(suite).get_connection_state(address);
        let Some(state) = state.and_then(|state| carried_over(state, provider)) else { return };
        self.collect();
        let config = self.identity.config(suite).clone();
        let endpoint = self.endpoint(suite);
        endpoint.stop(now, address);
        // The old association's goodbye.
        while endpoint.poll_transmit().is_some() {}
        // It begins finished: there is nothing in it that could fail.
        let _ = endpoint.connect(now, address, config, Some(state));
    }

    /// Repeats a flight whose answer is late.
    pub fn handle_timeout(&mut self, peer: u32, progress: &mut Progress, now: Instant) {
        if !progress.done {
            self.repeat(peer, progress.flight.wait(now));
        }
    }

    /// What `datagram` was answered with; or, if it led nowhere, what it is answered with once more.
    fn note_flight(&mut self, peer: u32, progress: &mut Progress, datagram: &[u8], now: Instant) {
        let before = self.outgoing.len();
        self.collect();
        let said = self.outgoing.range(before..).filter(|(to, _)| *to == peer);
        let said: Vec<Bytes> = said.map(|(_, datagram)| Bytes::copy_from_slice(datagram)).collect();
        if said.is_empty() {
            self.repeat(peer, progress.flight.hear(datagram, now));
        } else {
            progress.flight.say(said, datagram, now);
        }
    }

    fn repeat(&mut self, peer: u32, flight: &[Bytes]) {
        self.flights_repeated += u64::from(!flight.is_empty());
        self.outgoing.extend(flight.iter().map(|datagram| (peer, datagram[..].into())));
    }

    /// Forgets `peer`, with a close_notify to it.
    pub fn stop(&mut self, peer: u32, progress: &Progress, now: Instant) {
        if let Some(suite) = progress.suite {
            self.endpoint(suite).stop(now, address_of(peer));
        }
    }

    /// A datagram to send, and to whom.
    pub fn poll_transmit(&mut self) -> Option<(u32, BytesMut)> {
        self.collect();
        self.outgoing.pop_front()
    }

    fn collect(&mut self) {
        while let Some(transmit) = self.gcm.poll_transmit().or_else(|| self.aes_cm.poll_transmit()) {
            self.outgoing.push_back((peer_of(transmit.transport.peer_addr), transmit.message));
        }
    }

    fn endpoint(&mut self, suite: Suite) -> &mut Endpoint {
        match suite {
            Suite::Gcm => &mut self.gcm,
            Suite::AesCm => &mut self.aes_cm,
        }
    }

    fn begin_again(
        &mut self,
        peer: u32,
        progress: &mut Progress,
        now: Instant,
    ) -> Result<Vec<EndpointEvent>, CrateError> {
        self.gcm.stop(now, address_of(peer));
        // The first endpoint's fatal alert would end the handshake that goes on at the second.
        while self.gcm.poll_transmit().is_some() {}
        progress.suite = Some(Suite::AesCm);
        let mut last = Ok(Vec::new());
        for datagram in std::mem::take(&mut progress.hello) {
            last = self.aes_cm.read(now, address_of(peer), None, datagram[..].into());
        }
        last
    }

    fn keys(&mut self, peer: u32, progress: &Progress, certificate: &[u8; 32]) -> Result<Keys, Failure> {
        let identity = self.identity.clone();
        let suite = progress.suite.ok_or(Failure::Keys)?;
        let state = self.endpoint(suite).get_connection_state(address_of(peer)).ok_or(Failure::Keys)?;
        let shown = state.peer_certificates.first().ok_or(Failure::Fingerprint)?;
        let hash = sha256(shown, identity.provider.as_ref()).ok_or(Failure::Keys)?;
        if !constant_time_eq(&hash, certificate) {
            return Err(Failure::Fingerprint);
        }
        export_keys(state, &identity.provider)
    }
}

/// Why a datagram led nowhere.
pub enum Trouble {
    Drop(Dropped),
    End(Failure),
}

fn admit_early(progress: &mut Progress, datagram: &[u8]) -> Result<(), Trouble> {
    if progress.early_datagrams >= EARLY_DATAGRAMS_MAX || progress.early_bytes + datagram.len() > EARLY_BYTES_MAX {
        return Err(Trouble::Drop(Dropped::EarlyFlood));
    }
    if progress.suite.is_none() {
        if !is_hello(datagram) {
            return Err(Trouble::Drop(Dropped::BadDtls));
        }
        progress.suite = Some(Suite::Gcm);
    }
    progress.early_datagrams += 1;
    progress.early_bytes += datagram.len();
    if progress.suite == Some(Suite::Gcm) && progress.hello.len() < HELLO_DATAGRAMS_MAX {
        progress.hello.push(Bytes::copy_from_slice(datagram));
    }
    Ok(())
}

/// What the records that come need of an association, and no more.
fn carried_over(state: &State, provider: Arc<dyn RTCCryptoProvider>) -> Option<State> {
    let mut carried = State::new(provider, state.is_client());
    carried.unmarshal_binary(&state.marshal_binary().ok()?).ok()?;
    // It was compared with the offer's fingerprint.
    carried.peer_certificates = Vec::new();
    Some(carried)
}

fn export_keys(state: &State, provider: &Arc<dyn RTCCryptoProvider>) -> Result<Keys, Failure> {
    let profile = match state.srtp_protection_profile() {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        _ => return Err(Failure::Keys),
    };
    let mut config = SrtpConfig { profile, ..Default::default() };
    let material = state
        .export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], config.keying_material_len())
        .map_err(|_| Failure::Keys)?;
    config.set_session_keys_from_keying_material(material.as_ref(), state.is_client()).map_err(|_| Failure::Keys)?;

    let keys = &config.keys;
    let ours = Master { key: &keys.local_master_key, salt: &keys.local_master_salt, profile };
    let theirs = Master { key: &keys.remote_master_key, salt: &keys.remote_master_salt, profile };
    Ok(Keys { sealer: Sealer::new(&ours, provider.crypto())?, opener: Opener::new(&theirs, provider.clone())? })
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

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: u32 = 7;
    const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

    /// A client and our side of its association, joined without a network.
    struct Pair {
        client: Endpoint,
        server: Handshakes,
        progress: Progress,
        certificate: [u8; 32],
        now: Instant,
        /// What came to the server, and to the client.
        up: Vec<BytesMut>,
        down: Vec<BytesMut>,
        closed: (bool, bool),
    }

    impl Pair {
        fn connected(profile: SrtpProtectionProfile) -> Self {
            let mut pair = Self::begun(profile);
            pair.exchange();
            assert!(pair.progress.is_done());
            pair
        }

        /// The client's first hello is on its way.
        fn begun(profile: SrtpProtectionProfile) -> Self {
            let server = Handshakes::new(Arc::new(Identity::make().unwrap()));
            let provider = server.identity.provider.clone();
            let own = Certificate::generate_self_signed(vec!["client".to_owned()], provider.crypto()).unwrap();
            let certificate = sha256(&own.certificate[0], provider.as_ref()).unwrap().try_into().unwrap();
            let config = ConfigBuilder::default()
                .with_crypto_provider(provider)
                .with_certificates(vec![own])
                .with_srtp_protection_profiles(vec![profile])
                .with_insecure_skip_verify(true)
                .with_extended_master_secret(ExtendedMasterSecretType::Require)
                .build(true, None);
            let (now, mut client) = (Instant::now(), Endpoint::new(SERVER, TransportProtocol::UDP, None));
            client.connect(now, SERVER, Arc::new(config.unwrap()), None).unwrap();
            let (progress, up, down) = (Progress::default(), Vec::new(), Vec::new());
            Self { client, server, progress, certificate, now, up, down, closed: (false, false) }
        }

        fn exchange(&mut self) {
            loop {
                let up = self.client.poll_transmit().map(|transmit| transmit.message);
                let down = self.server.poll_transmit().map(|(_, datagram)| datagram);
                if up.is_none() && down.is_none() {
                    return;
                }
                up.into_iter().for_each(|datagram| assert!(self.give(&datagram).is_ok()));
                // A client that has left takes nothing.
                if let Some(Ok(events)) = down.map(|datagram| self.client.read(self.now, SERVER, None, datagram)) {
                    for event in events {
                        match event {
                            EndpointEvent::ApplicationData(data) => self.down.push(data),
                            EndpointEvent::PeerClosed => self.closed.1 = true,
                            _ => {}
                        }
                    }
                }
            }
        }

        fn give(&mut self, datagram: &[u8]) -> Result<(), Trouble> {
            for heard in self.server.read(PEER, &mut self.progress, &self.certificate, datagram, self.now)? {
                match heard {
                    Heard::Data(data) => self.up.push(data),
                    Heard::Closed => self.closed.0 = true,
                    Heard::Keys(_) => {}
                }
            }
            Ok(())
        }

        fn settle(&mut self) {
            self.server.settle(PEER, &mut self.progress, self.now);
        }

        /// A word each way.
        fn talk(&mut self, word: &[u8]) {
            self.client.write(self.now, SERVER, word).unwrap();
            self.server.write(PEER, &self.progress, word, self.now);
            self.exchange();
            assert_eq!((self.up.pop().unwrap(), self.down.pop().unwrap()), (word.into(), word.into()));
        }
    }

    #[test]
    fn a_hello_said_again_is_answered_again_and_counted() {
        let mut pair = Pair::begun(SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm);
        let hello = pair.client.poll_transmit().unwrap().message;
        assert!(pair.give(&hello).is_ok());
        let answer = pair.server.poll_transmit().expect("an answer");
        assert_eq!(pair.server.flights_repeated, 0);
        pair.now += Duration::from_millis(50);
        assert!(pair.give(&hello).is_ok());
        assert_eq!((pair.server.poll_transmit(), pair.server.flights_repeated), (Some(answer), 1));
    }

    const PROFILES: [SrtpProtectionProfile; 2] =
        [SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80];

    #[test]
    fn an_association_goes_on_when_its_handshake_is_let_go_of() {
        for profile in PROFILES {
            let mut pair = Pair::connected(profile);
            pair.talk(b"before");
            pair.settle();
            assert!(!pair.progress.is_settled, "the peer has not shown that it has the keys");
            pair.progress.note_proof();
            pair.settle();
            assert!(pair.progress.is_settled);
            assert!(pair.server.poll_transmit().is_none(), "the peer hears nothing of it");
            (0..3).for_each(|_| pair.talk(b"after"));
            pair.client.stop(pair.now, SERVER);
            pair.exchange();
            assert!(pair.closed.0, "her goodbye is heard");
        }
    }

    #[test]
    fn a_settled_association_says_goodbye_and_begins_no_handshake() {
        for profile in PROFILES {
            let mut pair = Pair::connected(profile);
            pair.progress.note_proof();
            pair.settle();
            let mut hello = vec![0; 60];
            hello[..3].copy_from_slice(&[22, 254, 253]);
            assert!(matches!(pair.give(&hello), Err(Trouble::Drop(Dropped::BadDtls))));
            assert!(pair.server.poll_transmit().is_none());
            pair.talk(b"still here");
            pair.server.stop(PEER, &pair.progress, pair.now);
            pair.exchange();
            assert!(pair.closed.1, "our goodbye is heard");
        }
    }
}
