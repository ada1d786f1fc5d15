//! One connection: who it is, how far it has come, and what it is here for.

use std::{sync::Arc, time::Instant};

use rtcp::Packet as Rtcp;

use super::{
    Config,
    channel::{Channel, ChannelConfig},
    dtls::{Keys, Progress},
    egress::{Egress, Path, Refused},
    extension::{Extensions, TRANSPORT_LEN, write_transport},
    feedback::Arrivals,
    forward::{Leg, Stamp},
    intake::Intake,
    keyframe::Throttle,
    registry::{Admission, Part, Session, Source},
    seal::HEADER_LEN,
    stage::Feed,
    stats::{Counts, Dropped},
    track::{Packet, TrackClock},
    viewer::{Served, Viewer},
};

/// Addresses of one peer that are remembered: a phone that changes networks has two or three.
const ADDRESSES_MAX: usize = 8;

pub struct Peer {
    pub session: Arc<Session>,
    pub ufrag: String,
    pub password: String,
    /// SHA-256 of the certificate that the offer promised.
    pub certificate: [u8; 32],
    /// Where to send; none until the first good connectivity check.
    pub path: Option<Path>,
    addresses: Vec<Path>,
    pub progress: Progress,
    pub keys: Option<Box<Keys>>,
    pub channel: Option<Box<Channel>>,
    pub role: Role,
    pub joined_at: Instant,
    /// When the last good connectivity check came.
    pub heard_at: Instant,
    pub reported_at: Instant,
}

pub enum Role {
    Publisher(Box<Publisher>),
    Viewer(Box<Viewer>),
}

pub struct Publisher {
    pub source: Arc<Source>,
    pub intake: Intake,
    /// One for each track.
    pub throttles: Vec<Throttle>,
    pub extensions: Extensions,
    /// The SSRC of our reports to her.
    pub ssrc: u32,
    pub arrivals: Arrivals,
    pub announced: Vec<u32>,
    /// When her first packet came, and her last.
    pub began_at: Option<Instant>,
    pub media_at: Option<Instant>,
    /// What came since the last turn.
    pub packets: Vec<Packet>,
    pub clocks: Vec<TrackClock>,
    pub is_pending: bool,
}

impl Peer {
    pub fn new(
        admission: Admission,
        names: Arc<std::sync::atomic::AtomicU64>,
        config: &Config,
        channels: &ChannelConfig,
        now: Instant,
    ) -> Self {
        let role = match admission.part {
            Part::Viewer { streams } => {
                let reports = streams.iter().any(|plan| plan.transport.is_some());
                let legs = streams.into_iter().map(|plan| Leg::new(plan, rand::random())).collect();
                Role::Viewer(Box::new(Viewer::new(legs, reports, config, now)))
            }
            Part::Publisher { source, streams } => {
                let announced = streams.iter().flat_map(|stream| [stream.announced.media, stream.announced.rtx]);
                Role::Publisher(Box::new(Publisher {
                    source,
                    throttles: streams.iter().map(|_| Throttle::new(config.keyframe_interval())).collect(),
                    extensions: streams.iter().fold(Extensions::default(), |all, stream| all.or(stream.extensions)),
                    ssrc: rand::random::<u32>() | 1,
                    arrivals: Arrivals::new(now),
                    announced: announced.flatten().collect(),
                    intake: Intake::new(streams, names, now),
                    began_at: None,
                    media_at: None,
                    packets: Vec::new(),
                    clocks: Vec::new(),
                    is_pending: false,
                }))
            }
        };
        Self {
            session: admission.session,
            ufrag: admission.ufrag,
            password: admission.password,
            certificate: admission.certificate,
            path: None,
            addresses: Vec::new(),
            progress: Progress::default(),
            keys: None,
            channel: admission.channel.then(|| Box::new(Channel::new(channels))),
            role,
            joined_at: now,
            heard_at: now,
            reported_at: now,
        }
    }

    /// A good connectivity check came over `path`. The first one is used at once; later ones only when the peer chose
    /// them. Returns an address that is no longer the peer's, when it has shown too many.
    pub fn checked(&mut self, path: Path, nominates: bool, now: Instant) -> Option<Path> {
        self.heard_at = now;
        if self.path.is_none() || nominates {
            self.path = Some(path);
        }
        if self.addresses.iter().any(|known| known.remote == path.remote) {
            return None;
        }
        self.addresses.push(path);
        if self.addresses.len() <= ADDRESSES_MAX {
            return None;
        }
        let unused =
            self.addresses.iter().position(|known| self.path.is_none_or(|used| used.remote != known.remote))?;
        Some(self.addresses.remove(unused))
    }

    pub fn addresses(&self) -> &[Path] {
        &self.addresses
    }

    /// Another peer proved that this address is its own now.
    pub fn lose_address(&mut self, path: Path) {
        self.addresses.retain(|known| known.remote != path.remote);
    }

    pub fn publisher(&mut self) -> Option<&mut Publisher> {
        match &mut self.role {
            Role::Publisher(publisher) => Some(publisher),
            Role::Viewer(_) => None,
        }
    }

    /// Sends a viewer what is new for her.
    pub fn serve(
        &mut self,
        feed: &Feed,
        late: &[Packet],
        egress: &mut Egress,
        counts: &mut Counts,
        now: Instant,
    ) -> Served {
        let (Role::Viewer(viewer), Some(keys), Some(path)) = (&mut self.role, &mut self.keys, self.path) else {
            return Served::default();
        };
        let served = viewer.serve(feed, late, &mut Sending { keys, path, egress, counts: &mut *counts }, now);
        counts.drop_many(Dropped::NoCommonCodec, served.unplayable);
        served
    }

    pub fn send_rtcp(&mut self, packets: &[Box<dyn Rtcp>], egress: &mut Egress, counts: &mut Counts) {
        let (Some(keys), Some(path)) = (&mut self.keys, self.path) else { return };
        let Ok(plain) = rtcp::packet::marshal(packets) else { return };
        let Some(sealed) = keys.sealer.rtcp(&plain) else { return counts.drop_one(Dropped::SealFailed) };
        if egress.push(path, &sealed).is_err() {
            counts.drop_one(Dropped::SendQueueFull);
        }
    }
}

/// Seals packets of one viewer straight into the send arena.
pub struct Sending<'a> {
    pub keys: &'a mut Keys,
    pub path: Path,
    pub egress: &'a mut Egress,
    pub counts: &'a mut Counts,
}

impl Sending<'_> {
    /// The stamp's number was checked by its leg; `number` is the packet's transport-wide one, where it has one.
    pub fn media(&mut self, stamp: &Stamp, packet: &Packet, number: u16) {
        let original_len = if stamp.original.is_some() { 2 } else { 0 };
        let header_len = HEADER_LEN + if stamp.transport.is_some() { TRANSPORT_LEN } else { 0 };
        let payload_at = header_len + original_len;
        let plain_len = payload_at + packet.payload.len();
        let len = plain_len + self.keys.sealer.tag_len();
        let sealer = &mut self.keys.sealer;
        let written = self.egress.write(self.path, len, |buffer| {
            buffer[0] = 0x80;
            buffer[1] = u8::from(stamp.marker) << 7 | stamp.payload_type;
            buffer[2..4].copy_from_slice(&(stamp.index as u16).to_be_bytes());
            buffer[4..8].copy_from_slice(&stamp.timestamp.to_be_bytes());
            buffer[8..12].copy_from_slice(&stamp.ssrc.to_be_bytes());
            if let Some(id) = stamp.transport {
                buffer[0] |= 0x10;
                write_transport(&mut buffer[HEADER_LEN..header_len], id, number);
            }
            if let Some(original) = stamp.original {
                buffer[header_len..payload_at].copy_from_slice(&original.to_be_bytes());
            }
            buffer[payload_at..plain_len].copy_from_slice(&packet.payload);
            if let Some(descriptor) = packet.vp8.filter(|_| !stamp.shift.is_none()) {
                stamp.shift.apply(&descriptor, &mut buffer[payload_at..plain_len]);
            }
            sealer.rtp(buffer, header_len, stamp.index)
        });
        match written {
            Ok(()) => {
                self.counts.packets_out += 1;
                self.counts.bytes_out += len as u64;
            }
            Err(Refused::Full) => self.counts.drop_one(Dropped::SendQueueFull),
            Err(Refused::Unwritten) => self.counts.drop_one(Dropped::SealFailed),
        }
    }
}
