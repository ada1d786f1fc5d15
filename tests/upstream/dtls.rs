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

use super::{address, kept_kib};

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

/// Who sends anything from anywhere has a connection of his own.
#[test]
fn a_datagram_from_any_address_makes_a_connection() {
    let mut endpoint = Endpoint::new(address(), TransportProtocol::UDP, Some(config(vec![], false)));
    for port in 1..=1_000 {
        let stranger = SocketAddr::new(address().ip(), port);
        let _ = endpoint.read(Instant::now(), stranger, None, BytesMut::from(&b"nothing at all"[..]));
    }
    assert_eq!(endpoint.get_connections_keys().count(), 1_000);
}

/// Before a handshake is done, whatever calls itself of the next epoch is kept.
#[test]
fn records_of_the_next_epoch_are_kept_without_a_limit() {
    const RECORDS: u64 = 20_000;
    let kept = kept_kib("dtls::records_of_the_next_epoch_are_kept_without_a_limit", || {
        let mut endpoint = Endpoint::new(address(), TransportProtocol::UDP, Some(config(vec![], false)));
        for number in 1..=RECORDS {
            let header = [&[23, 254, 253, 0, 1][..], &number.to_be_bytes()[2..], &1_000u16.to_be_bytes()].concat();
            let record = BytesMut::from(&[header, vec![0; 1_000]].concat()[..]);
            endpoint.read(Instant::now(), address(), None, record).unwrap();
        }
        endpoint
    });
    assert!(kept.is_none_or(|kib| kib > RECORDS * 9 / 10), "{kept:?} KiB");
}

/// Each extension of a hello that the crate does not know is a warning in the log, at the client's will.
#[test]
fn a_hello_writes_a_warning_for_every_extension_that_is_unknown() {
    const UNKNOWN: usize = 50;
    let mut client = Endpoint::new(address(), TransportProtocol::UDP, None);
    client.connect(Instant::now(), address(), config(vec![], true), None).unwrap();
    let hello = with_extensions(&said(&mut client)[0], UNKNOWN);
    let mut server = Endpoint::new(address(), TransportProtocol::UDP, Some(config(vec![], false)));
    warnings::listen();
    server.read(Instant::now(), address(), None, hello).unwrap();
    assert!(warnings::heard() >= UNKNOWN);
}

/// A ClientHello with so many extensions more, of a kind that GREASE (RFC 8701) uses.
fn with_extensions(hello: &[u8], count: usize) -> BytesMut {
    let more = [0x0A, 0x0A, 0, 0].repeat(count);
    let mut hello = [hello, &more].concat();
    let mut lengthen = |at: usize| {
        let len = u16::from_be_bytes([hello[at], hello[at + 1]]) + more.len() as u16;
        hello[at..at + 2].copy_from_slice(&len.to_be_bytes());
    };
    let (record, message, fragment) = (11, 15, 23);
    [record, message, fragment].into_iter().for_each(&mut lengthen);
    let session = 25 + 2 + 32;
    let cookie = session + 1 + usize::from(hello[session]);
    let suites = cookie + 1 + usize::from(hello[cookie]);
    let compression = suites + 2 + usize::from(u16::from_be_bytes([hello[suites], hello[suites + 1]]));
    let extensions = compression + 1 + usize::from(hello[compression]);
    let len = u16::from_be_bytes([hello[extensions], hello[extensions + 1]]) + more.len() as u16;
    hello[extensions..extensions + 2].copy_from_slice(&len.to_be_bytes());
    hello[..].into()
}

/// What the crate warns of, on the thread of a test.
mod warnings {
    use std::cell::Cell;

    thread_local! {
        static HEARD: Cell<usize> = const { Cell::new(0) };
    }

    struct Ear;

    impl log::Log for Ear {
        fn enabled(&self, metadata: &log::Metadata) -> bool {
            metadata.level() <= log::Level::Warn
        }

        fn log(&self, record: &log::Record) {
            if record.level() == log::Level::Warn && record.target().starts_with("rtc_dtls") {
                HEARD.set(HEARD.get() + 1);
            }
        }

        fn flush(&self) {}
    }

    pub fn listen() {
        log::set_logger(&Ear).expect("nobody else listens");
        log::set_max_level(log::LevelFilter::Warn);
    }

    pub fn heard() -> usize {
        HEARD.get()
    }
}
