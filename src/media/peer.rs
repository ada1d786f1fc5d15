//! One connection: who it is, how far it has come, and what it is here for.

use std::{sync::Arc, time::Instant};

use rtcp::Packet as Rtcp;

use super::{
    Config,
    channel::{Channel, ChannelConfig},
    dtls::{Keys, Progress},
    egress::{Egress, Path, Refused},
    forward::{Leg, Stamp},
    intake::Intake,
    keyframe::Throttle,
    registry::{Admission, Part, Session, Source},
    seal::HEADER_LEN,
    stats::{Counts, Dropped},
    track::{Packet, TrackClock},
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
    Viewer(Vec<Leg>),
}

pub struct Publisher {
    pub source: Arc<Source>,
    pub intake: Intake,
    pub throttle: Throttle,
    /// The SSRC of our reports to her.
    pub ssrc: u32,
    pub announced: Vec<u32>,
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
                Role::Viewer(streams.into_iter().map(|plan| Leg::new(plan, rand::random())).collect())
            }
            Part::Publisher { source, streams } => {
                let announced = streams.iter().flat_map(|stream| [stream.announced.media, stream.announced.rtx]);
                Role::Publisher(Box::new(Publisher {
                    source,
                    throttle: Throttle::new(config.keyframe_interval()),
                    ssrc: rand::random::<u32>() | 1,
                    announced: announced.flatten().collect(),
                    intake: Intake::new(streams, names, now),
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

    pub fn send_rtcp(&mut self, packets: &[Box<dyn Rtcp>], egress: &mut Egress, counts: &mut Counts) {
        let (Some(keys), Some(path)) = (&mut self.keys, self.path) else { return };
        let Ok(plain) = rtcp::packet::marshal(packets) else { return };
        let Some(sealed) = keys.sealer.rtcp(&plain) else { return counts.drop_one(Dropped::SealFailed) };
        if egress.push(path, &sealed).is_err() {
            counts.drop_one(Dropped::SendQueueFull);
        }
    }
}

/// Seals one packet straight into the send arena. The stamp's number was checked by its leg.
pub fn send_media(
    keys: &mut Keys,
    path: Path,
    stamp: &Stamp,
    payload: &[u8],
    egress: &mut Egress,
    counts: &mut Counts,
) {
    let original_len = if stamp.original.is_some() { 2 } else { 0 };
    let payload_at = HEADER_LEN + original_len;
    let plain_len = payload_at + payload.len();
    let len = plain_len + keys.sealer.tag_len();
    let written = egress.write(path, len, |buffer| {
        buffer[0] = 0x80;
        buffer[1] = u8::from(stamp.marker) << 7 | stamp.payload_type;
        buffer[2..4].copy_from_slice(&(stamp.index as u16).to_be_bytes());
        buffer[4..8].copy_from_slice(&stamp.timestamp.to_be_bytes());
        buffer[8..12].copy_from_slice(&stamp.ssrc.to_be_bytes());
        if let Some(original) = stamp.original {
            buffer[HEADER_LEN..payload_at].copy_from_slice(&original.to_be_bytes());
        }
        buffer[payload_at..plain_len].copy_from_slice(payload);
        keys.sealer.rtp(buffer, stamp.index)
    });
    match written {
        Ok(()) => {
            counts.packets_out += 1;
            counts.bytes_out += len as u64;
        }
        Err(Refused::Full) => counts.drop_one(Dropped::SendQueueFull),
        Err(Refused::Unwritten) => counts.drop_one(Dropped::SealFailed),
    }
}
