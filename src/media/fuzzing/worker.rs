//! A worker with a publisher and a viewer who have finished their handshakes, and whatever they and strangers send.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use shared::marshal::{MarshalSize, Unmarshal};
use srtp::protection_profile::ProtectionProfile;
use tokio::sync::mpsc;

use super::{
    super::{
        Config,
        dtls::{Identity, Keys},
        egress::{Egress, Path},
        negotiate::{self, Server},
        offer::Offer,
        open::Opener,
        outbox::Outbox,
        registry::{Admission, Control, Part, Port, Registry},
        seal::{Master, Sealer},
        stats::{Counts, Dropped},
        worker::Worker,
    },
    PASSWORD, chunk, seeds,
};

/// Who sends, and how.
pub const FROM_STRANGER: u8 = 0;
pub const FROM_PUBLISHER: u8 = 1;
pub const FROM_VIEWER: u8 = 2;
pub const MEDIA_OF_PUBLISHER: u8 = 3;
pub const REPORT_OF_PUBLISHER: u8 = 4;
pub const REPORT_OF_VIEWER: u8 = 5;
pub const CHANNEL_OF_VIEWER: u8 = 6;
pub const TIME: u8 = 7;
const KINDS: u8 = 8;

const PUBLISHER: &str = "10.0.0.1:1000";
const VIEWER: &str = "10.0.0.2:1000";
const STRANGER: &str = "10.0.0.3:1000";

/// Plays an input's pieces, then looks whether the worker is whole.
pub fn run(mut data: &[u8]) {
    let mut scene = Scene::new();
    while let Some((what, bytes)) = chunk(&mut data) {
        scene.play(what % KINDS, bytes);
    }
    scene.check();
    // Sessions hold the registry that holds them, until they are closed.
    scene.worker.close_all(scene.now);
}

pub struct Scene {
    pub worker: Worker,
    now: Instant,
    publisher: Sealer,
    viewer: Sealer,
    /// Strangers' packets change no map.
    addresses: usize,
    _poll: mio::Poll,
    _events: mpsc::Receiver<super::super::Event>,
}

impl Scene {
    pub fn new() -> Self {
        let now = Instant::now();
        let (registry, poll) = registry();
        let (events, heard) = mpsc::channel(64);
        let mut worker = Worker::new(0, registry, Egress::new(1 << 20, 40), Outbox::new(events, 1024), now);
        join(&mut worker, seeds::PUBLISHERS_OFFER, true, now);
        join(&mut worker, seeds::VIEWERS_OFFER, false, now);
        let mut sealers = [PUBLISHER, VIEWER].into_iter().zip(0u32..).map(|(address, number)| {
            let path = path(address);
            let peer = worker.peer(number).expect("it joined");
            peer.checked(path, true, now);
            worker.by_address.insert(path.remote, number);
            let (keys, sealer) = keys(number, &worker.registry.identity);
            worker.joined(number, keys, now);
            sealer
        });
        let (publisher, viewer) = (sealers.next().expect("one"), sealers.next().expect("another"));
        drop(sealers);
        let addresses = worker.by_address.len();
        Self { worker, now, publisher, viewer, addresses, _poll: poll, _events: heard }
    }

    pub fn play(&mut self, what: u8, bytes: &[u8]) {
        self.now += Duration::from_millis(1);
        match what {
            FROM_STRANGER => self.worker.datagram(path(STRANGER), bytes, self.now),
            FROM_PUBLISHER => self.worker.datagram(path(PUBLISHER), bytes, self.now),
            FROM_VIEWER => self.worker.datagram(path(VIEWER), bytes, self.now),
            MEDIA_OF_PUBLISHER => {
                if let Some(sealed) = seal(&mut self.publisher, bytes) {
                    self.worker.datagram(path(PUBLISHER), &sealed, self.now);
                }
            }
            REPORT_OF_PUBLISHER | REPORT_OF_VIEWER => {
                let is_publisher = what == REPORT_OF_PUBLISHER;
                let (sealer, from) =
                    if is_publisher { (&mut self.publisher, PUBLISHER) } else { (&mut self.viewer, VIEWER) };
                if let Some(sealed) = sealer.rtcp(bytes) {
                    self.worker.datagram(path(from), &sealed, self.now);
                }
            }
            CHANNEL_OF_VIEWER => {
                if let Some(channel) = self.worker.peer(1).and_then(|peer| peer.channel.as_mut()) {
                    channel.receive(Bytes::copy_from_slice(bytes), self.now);
                    self.worker.poll_channel(1, self.now);
                }
            }
            _ => {
                let ms = bytes.first_chunk::<2>().map_or(50, |ms| u64::from(u16::from_be_bytes(*ms)));
                self.now += Duration::from_millis(ms);
            }
        }
        self.worker.turn(self.now);
        self.worker.egress.flush(|group| Ok(group.iter().len()));
    }

    fn check(&self) {
        let stats = super::super::Stats::of(0, [self.worker.counts.clone()].into_iter());
        assert_eq!(stats.dropped[Dropped::NumberReused.name()], 0);
        assert!(self.worker.by_address.len() <= self.addresses, "an address was given away without a check");
        assert!(self.worker.stages.len() <= 1 && self.worker.publishers.len() <= 1);
    }
}

fn registry() -> (Arc<Registry>, mio::Poll) {
    let poll = mio::Poll::new().expect("a poll");
    let waker = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
    let (control, _) = mpsc::channel(16);
    let (feed, _) = mpsc::channel(16);
    let registry = Arc::new(Registry::new(Config::default(), super::IDENTITY.clone()));
    registry.set_ports(vec![Port {
        control,
        feed,
        waker,
        address: "127.0.0.1:1".parse().expect("an address"),
        candidates: vec!["127.0.0.1:1".parse().expect("an address")],
        peers: AtomicUsize::new(0),
        has_leavers: AtomicBool::new(false),
        has_keyframe_wishes: AtomicBool::new(false),
        events_waiting: AtomicUsize::new(0),
        counts: Mutex::new(Counts::default()),
    }]);
    (registry, poll)
}

fn join(worker: &mut Worker, offer: &str, publishes: bool, now: Instant) {
    let registry = worker.registry.clone();
    let offer = Offer::parse(offer).expect("an offer of ours");
    let fingerprint = registry.identity.fingerprint.clone();
    let server = Server {
        ufrag: if publishes { "publisher" } else { "viewer" },
        password: PASSWORD,
        fingerprint: &fingerprint,
        candidates: &[],
    };
    let (room, ufrag) = ("room".parse().expect("a room"), offer.ufrag.clone());
    let (seat, _) = registry.take_seat().expect("a seat");
    let (session, channel, part) = if publishes {
        let agreed = negotiate::publish(&offer, &server).expect("it can be answered");
        let codecs = agreed.streams.iter().map(|stream| stream.codec).collect();
        let (session, source) = registry.enter_publisher(&room, seat, ufrag, codecs);
        (session, agreed.channel, Part::Publisher { source, streams: agreed.streams })
    } else {
        let agreed = negotiate::watch(&offer, &server).expect("it can be answered");
        (registry.enter_viewer(&room, seat, ufrag), agreed.channel, Part::Viewer { streams: agreed.streams })
    };
    let admission = Admission {
        session,
        ufrag: server.ufrag.to_owned(),
        password: PASSWORD.to_owned(),
        certificate: [0; 32],
        channel,
        part,
    };
    worker.command(Control::Join(Box::new(admission)), now);
}

/// The keys of a peer, and what she seals with.
fn keys(number: u32, identity: &Identity) -> (Box<Keys>, Sealer) {
    let (ours, theirs) = ([number as u8 + 1; 16], [number as u8 + 101; 16]);
    let master = |key| Master { key, salt: &[9; 12], profile: ProtectionProfile::AeadAes128Gcm };
    let crypto = identity.provider.crypto();
    let sealer = |key| Sealer::new(&master(key), crypto).expect("keys of the right length");
    let opener = Opener::new(&master(&theirs), identity.provider.clone()).expect("keys of the right length");
    (Box::new(Keys { sealer: sealer(&ours), opener }), sealer(&theirs))
}

/// The packet as its sender would seal it; none if it is none.
fn seal(sealer: &mut Sealer, plain: &[u8]) -> Option<Vec<u8>> {
    let header = rtp::Header::unmarshal(&mut &plain[..]).ok()?;
    let mut packet = [plain, &vec![0; sealer.tag_len()]].concat();
    let is_sealed = sealer.rtp(&mut packet, header.marshal_size(), u64::from(header.sequence_number));
    is_sealed.then_some(packet)
}

fn path(remote: &str) -> Path {
    let remote: SocketAddr = remote.parse().expect("an address");
    Path { remote, local: None }
}
