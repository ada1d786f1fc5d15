//! rtc-dtls.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use crypto::{RTCCryptoProvider, providers::AwsLcRsProvider};
use dtls::{
    config::{ConfigBuilder, HandshakeConfig},
    crypto::Certificate,
    endpoint::Endpoint,
    extension::extension_use_srtp::SrtpProtectionProfile::{self, Srtp_Aead_Aes_128_Gcm, Srtp_Aes128_Cm_Hmac_Sha1_80},
};
use shared::TransportProtocol;

/// A client and a server, and nothing between them but what a test carries over.
struct Pair {
    client: Endpoint,
    server: Endpoint,
    now: Instant,
}

impl Pair {
    /// The client has begun.
    fn begin(of_client: Vec<SrtpProtectionProfile>, of_server: Vec<SrtpProtectionProfile>) -> Self {
        let now = Instant::now();
        let endpoint = |config| Endpoint::new(address(), TransportProtocol::UDP, config);
        let (mut client, server) = (endpoint(None), endpoint(Some(config(of_server, false))));
        client.connect(now, address(), config(of_client, true), None).unwrap();
        Self { client, server, now }
    }

    /// Carries the client's flight over; what the server answers.
    fn up(&mut self) -> Vec<BytesMut> {
        carry(said(&mut self.client), &mut self.server, self.now)
    }

    /// A second passes; each side repeats what it thinks was lost. What the server says.
    fn wait(&mut self) -> Vec<BytesMut> {
        self.now += Duration::from_millis(1_001);
        self.client.handle_timeout(address(), self.now).unwrap();
        let mut heard = self.up();
        self.server.handle_timeout(address(), self.now).unwrap();
        heard.extend(said(&mut self.server));
        heard
    }
}

fn address() -> SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}

fn config(profiles: Vec<SrtpProtectionProfile>, is_client: bool) -> Arc<HandshakeConfig> {
    let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
    let certificate = Certificate::generate_self_signed(vec!["test".to_owned()], provider.crypto()).unwrap();
    let config = ConfigBuilder::default().with_crypto_provider(provider).with_certificates(vec![certificate]);
    let config = config.with_srtp_protection_profiles(profiles).with_insecure_skip_verify(true);
    Arc::new(config.build(is_client, None).unwrap())
}

fn said(endpoint: &mut Endpoint) -> Vec<BytesMut> {
    std::iter::from_fn(|| endpoint.poll_transmit()).map(|transmit| transmit.message).collect()
}

fn carry(datagrams: Vec<BytesMut>, to: &mut Endpoint, now: Instant) -> Vec<BytesMut> {
    for datagram in datagrams {
        to.read(now, address(), None, datagram).unwrap();
    }
    said(to)
}

/// A malformed datagram is an error of the endpoint, where RFC 6347 (4.1.2.7) has it dropped in silence.
#[test]
fn a_malformed_datagram_is_an_error_of_the_endpoint() {
    let mut endpoint = Endpoint::new(address(), TransportProtocol::UDP, Some(config(vec![], false)));
    let malformed = BytesMut::from(&[22u8, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 200, 1, 2, 3][..]);
    assert!(endpoint.read(Instant::now(), address(), None, malformed).is_err());
}

/// A server whose flight was lost forgets its timer when the client repeats its hello, and never answers it again.
#[test]
fn a_repeated_hello_silences_the_server() {
    let mut pair = Pair::begin(vec![Srtp_Aead_Aes_128_Gcm], vec![Srtp_Aead_Aes_128_Gcm]);
    let verify = pair.up();
    let hello = carry(verify, &mut pair.client, pair.now);
    let lost = carry(hello, &mut pair.server, pair.now);
    assert!(lost.concat().len() > 200, "its certificate and the rest");
    assert!(pair.server.poll_timeout(&address()).is_some(), "it means to repeat that");
    for _ in 0..5 {
        assert!(pair.wait().is_empty(), "the client's hello is not answered");
        assert_eq!(pair.server.poll_timeout(&address()), None, "and nothing will be repeated");
    }
}

/// The profile that the client names first is taken, whatever the server's order is.
#[test]
fn the_order_of_the_clients_profiles_decides() {
    let theirs = vec![Srtp_Aes128_Cm_Hmac_Sha1_80, Srtp_Aead_Aes_128_Gcm];
    let ours = vec![Srtp_Aead_Aes_128_Gcm, Srtp_Aes128_Cm_Hmac_Sha1_80];
    let mut pair = Pair::begin(theirs, ours);
    for _ in 0..2 {
        let answer = pair.up();
        let next = carry(answer, &mut pair.client, pair.now);
        carry(next, &mut pair.server, pair.now);
    }
    let state = pair.server.get_connection_state(address()).unwrap();
    assert_eq!(state.srtp_protection_profile(), Srtp_Aes128_Cm_Hmac_Sha1_80);
}
