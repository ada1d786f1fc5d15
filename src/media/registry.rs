//! What the callers' tasks and the workers share: rooms, sessions, and the doors to the workers.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use dashmap::DashMap;
use tokio::sync::mpsc;

use super::{
    Config, Track,
    codec::{Codec, Kind},
    dtls::Identity,
    negotiate::{Incoming, Outgoing},
    quality::Quality,
    stats::Counts,
    survey::{Seen, Surveyor},
    track::{Packet, TrackClock},
    viewer::View,
};
use crate::{
    clock::Clock,
    id::{RoomId, SessionId},
};

/// One room, while it has a publisher or a viewer.
pub struct Room {
    pub id: RoomId,
    source: ArcSwapOption<Source>,
    /// Viewers on each worker.
    audience: Box<[AtomicU32]>,
    /// What its viewers told.
    pub seen: Seen,
}

impl Room {
    fn new(id: RoomId, workers: usize) -> Self {
        Self {
            id,
            source: ArcSwapOption::empty(),
            audience: (0..workers).map(|_| AtomicU32::new(0)).collect(),
            seen: Seen::new(),
        }
    }

    pub fn source(&self) -> Option<Arc<Source>> {
        self.source.load_full()
    }

    pub fn is_published_by(&self, session: SessionId) -> bool {
        self.source.load().as_ref().is_some_and(|source| source.session == session)
    }

    pub fn has_viewers_on(&self, worker: usize) -> bool {
        self.audience[worker].load(Ordering::Relaxed) > 0
    }

    fn is_empty(&self) -> bool {
        self.source.load().is_none() && self.audience.iter().all(|viewers| viewers.load(Ordering::Relaxed) == 0)
    }
}

/// A room's publisher as everybody sees her.
pub struct Source {
    pub session: SessionId,
    /// Rises with every publisher of the server: of two in one room the later has the higher.
    pub generation: u64,
    pub worker: usize,
    /// Of each track; the layers of one picture are tracks of their own.
    pub codecs: Vec<Codec>,
    pub is_live: AtomicBool,
    /// Tracks, as bits, of which a viewer needs a keyframe; her worker is told by its port.
    pub wants_keyframe: AtomicU32,
    /// Media time less the server's running time, in milliseconds.
    media_offset_ms: AtomicI64,
}

#[cfg(test)]
impl Source {
    /// One that no room has.
    pub fn example(codecs: Vec<Codec>, generation: u64) -> Self {
        Self {
            session: SessionId::make(),
            generation,
            worker: 0,
            codecs,
            is_live: AtomicBool::new(true),
            wants_keyframe: AtomicU32::new(0),
            media_offset_ms: AtomicI64::new(0),
        }
    }
}

impl Source {
    pub fn is_video(&self, track: u8) -> bool {
        self.codecs.get(usize::from(track)).is_some_and(|codec| codec.kind() == Kind::Video)
    }

    pub fn has_video(&self) -> bool {
        self.codecs.iter().any(|codec| codec.kind() == Kind::Video)
    }

    /// The track whose pictures are counted: of layers, which all have the same ones, the first.
    pub fn counts_frames(&self, track: u8) -> bool {
        self.codecs.iter().position(|codec| codec.kind() == Kind::Video) == Some(usize::from(track))
    }

    pub fn tracks(&self) -> Vec<Track> {
        let named = |codec: &Codec| Track { kind: codec.kind().name(), codec: codec.name() };
        let mut tracks: Vec<Track> = self.codecs.iter().map(named).collect();
        // Layers are one track to those who watch.
        tracks.dedup();
        tracks
    }
}

/// One peer as callers see it.
pub struct Session {
    pub id: SessionId,
    pub room: Arc<Room>,
    pub is_publisher: bool,
    pub worker: usize,
    /// The peer's own ICE name: a trickled candidate must come under it.
    pub remote_ufrag: String,
    pub is_leaving: AtomicBool,
    pub channel_is_open: AtomicBool,
    /// Text bytes given to the worker and not yet acknowledged by the peer.
    pub unacknowledged: AtomicUsize,
    pub quality: Quality,
    is_detached: AtomicBool,
    _seat: Seat,
}

/// A place among `peers_max`, given back when dropped.
pub struct Seat {
    registry: Arc<Registry>,
    worker: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.peers.fetch_sub(1, Ordering::Relaxed);
        self.registry.port(self.worker).peers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A new peer, on its way to its worker.
pub struct Admission {
    pub session: Arc<Session>,
    pub ufrag: String,
    pub password: String,
    pub certificate: [u8; 32],
    pub channel: bool,
    pub part: Part,
}

pub enum Part {
    Publisher { source: Arc<Source>, streams: Vec<Incoming> },
    Viewer { streams: Vec<Outgoing> },
}

pub enum Control {
    Join(Box<Admission>),
    Text {
        session: SessionId,
        text: Bytes,
    },
    View {
        session: SessionId,
        view: View,
    },
    /// Worker `to` has its first viewer of a room whose publisher is here, and nothing to begin with.
    Recall {
        room: RoomId,
        to: usize,
    },
}

/// Packets of one publisher that came together, and her clocks.
pub struct Burst {
    pub room: RoomId,
    pub source: Arc<Source>,
    pub packets: Vec<Packet>,
    pub clocks: Vec<TrackClock>,
}

/// The door to a worker.
pub struct Port {
    pub control: mpsc::Sender<Control>,
    pub feed: mpsc::Sender<Arc<Burst>>,
    pub waker: mio::Waker,
    pub address: SocketAddr,
    /// What its peers are told to send to.
    pub candidates: Vec<SocketAddr>,
    pub peers: AtomicUsize,
    /// Some peer of it is to be closed.
    pub has_leavers: AtomicBool,
    /// Somebody needs a keyframe of one of its publishers.
    pub has_keyframe_wishes: AtomicBool,
    /// Events that nobody takes. Above the limit the worker gets no new peers, which would make more of them.
    pub events_waiting: AtomicUsize,
    pub counts: Mutex<Counts>,
}

impl Port {
    pub fn wake(&self) {
        // The one failure is a worker that is gone, which then needs no waking.
        let _ = self.waker.wake();
    }
}

pub struct Registry {
    pub config: Config,
    pub identity: Arc<Identity>,
    pub clock: Clock,
    pub started: Instant,
    pub is_stopping: AtomicBool,
    /// Names of streams, rising over the life of the server.
    pub stream_names: Arc<AtomicU64>,
    /// What viewers told, of all rooms.
    pub seen: Seen,
    pub surveyor: Surveyor,
    ports: OnceLock<Vec<Port>>,
    rooms: DashMap<RoomId, Arc<Room>>,
    sessions: DashMap<SessionId, Arc<Session>>,
    peers: AtomicUsize,
    generations: AtomicU64,
}

impl Registry {
    pub fn new(config: Config, identity: Identity) -> Self {
        Self {
            config,
            identity: Arc::new(identity),
            clock: Clock::start(),
            started: Instant::now(),
            is_stopping: AtomicBool::new(false),
            stream_names: Arc::new(AtomicU64::new(1)),
            seen: Seen::new(),
            surveyor: Surveyor::default(),
            ports: OnceLock::new(),
            rooms: DashMap::new(),
            sessions: DashMap::new(),
            peers: AtomicUsize::new(0),
            generations: AtomicU64::new(1),
        }
    }

    /// Called once, before the first worker runs.
    pub fn set_ports(&self, ports: Vec<Port>) {
        assert!(self.ports.set(ports).is_ok(), "ports are set once");
    }

    pub fn ports(&self) -> &[Port] {
        self.ports.get().expect("ports are set before anything runs")
    }

    pub fn port(&self, worker: usize) -> &Port {
        &self.ports()[worker]
    }

    pub fn peers(&self) -> usize {
        self.peers.load(Ordering::Relaxed)
    }

    /// A place on the worker with the fewest peers; none when the server is full.
    pub fn take_seat(self: &Arc<Self>) -> Option<(Seat, usize)> {
        let waiting_max = self.config.events_backlog_max;
        let is_heard = |port: &Port| port.events_waiting.load(Ordering::Relaxed) <= waiting_max;
        let heard = self.ports().iter().enumerate().filter(|(_, port)| is_heard(port));
        let (worker, _) = heard.min_by_key(|(_, port)| port.peers.load(Ordering::Relaxed))?;

        let max = self.config.peers_max;
        let taken = self.peers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1));
        taken.ok()?;
        self.port(worker).peers.fetch_add(1, Ordering::Relaxed);
        Some((Seat { registry: self.clone(), worker }, worker))
    }

    /// Enters a publisher in place of whoever was.
    pub fn enter_publisher(
        &self,
        room: &RoomId,
        seat: Seat,
        remote_ufrag: String,
        codecs: Vec<Codec>,
    ) -> (Arc<Session>, Arc<Source>) {
        let entry = self.rooms.entry(room.clone()).or_insert_with(|| self.new_room(room));
        let session = Self::session(entry.value().clone(), true, seat, remote_ufrag);
        let source = Arc::new(Source {
            session: session.id,
            generation: self.generations.fetch_add(1, Ordering::Relaxed),
            worker: session.worker,
            codecs,
            is_live: AtomicBool::new(false),
            wants_keyframe: AtomicU32::new(0),
            media_offset_ms: AtomicI64::new(0),
        });
        // The room's entry is held: of two publishers at once, the one with the higher generation stays.
        let before = entry.value().source.swap(Some(source.clone()));
        self.sessions.insert(session.id, session.clone());
        drop(entry);
        if let Some(before) = before {
            self.leave(before.session);
        }
        (session, source)
    }

    pub fn enter_viewer(&self, room: &RoomId, seat: Seat, remote_ufrag: String) -> Arc<Session> {
        let entry = self.rooms.entry(room.clone()).or_insert_with(|| self.new_room(room));
        let session = Self::session(entry.value().clone(), false, seat, remote_ufrag);
        entry.value().audience[session.worker].fetch_add(1, Ordering::Relaxed);
        self.sessions.insert(session.id, session.clone());
        session
    }

    fn new_room(&self, room: &RoomId) -> Arc<Room> {
        Arc::new(Room::new(room.clone(), self.ports().len()))
    }

    fn session(room: Arc<Room>, is_publisher: bool, seat: Seat, remote_ufrag: String) -> Arc<Session> {
        Arc::new(Session {
            id: SessionId::make(),
            room,
            is_publisher,
            worker: seat.worker,
            remote_ufrag,
            is_leaving: AtomicBool::new(false),
            channel_is_open: AtomicBool::new(false),
            unacknowledged: AtomicUsize::new(0),
            quality: Quality::new(Instant::now()),
            is_detached: AtomicBool::new(false),
            _seat: seat,
        })
    }

    pub fn session_of(&self, id: SessionId) -> Option<Arc<Session>> {
        self.sessions.get(&id).map(|session| session.clone())
    }

    /// Looks at every session.
    pub fn each_session(&self, mut look: impl FnMut(&Session)) {
        self.sessions.iter().for_each(|session| look(session.value()));
    }

    pub fn source_of(&self, room: &RoomId) -> Option<Arc<Source>> {
        self.rooms.get(room)?.source()
    }

    /// Takes the session out of every list and tells its worker to close the peer. False if it is unknown.
    pub fn leave(&self, id: SessionId) -> bool {
        let Some(session) = self.session_of(id) else { return false };
        session.is_leaving.store(true, Ordering::Release);
        self.detach(&session);
        let port = self.port(session.worker);
        port.has_leavers.store(true, Ordering::Release);
        port.wake();
        true
    }

    /// The peer counts no longer, neither as publisher nor as viewer. Happens once, whoever comes first.
    pub fn detach(&self, session: &Session) {
        if session.is_detached.swap(true, Ordering::AcqRel) {
            return;
        }
        self.sessions.remove(&session.id);
        if session.is_publisher {
            session.room.source.rcu(|current| current.clone().filter(|source| source.session != session.id));
        } else {
            session.room.audience[session.worker].fetch_sub(1, Ordering::Relaxed);
        }
        self.rooms.remove_if(&session.room.id, |_, room| room.is_empty());
    }

    pub fn note_media_time(&self, source: &Source, media_ms: u64, now: Instant) {
        source.media_offset_ms.store(media_ms as i64 - self.running_ms(now), Ordering::Relaxed);
    }

    pub fn media_time(&self, source: &Source, now: Instant) -> u64 {
        let ms = source.media_offset_ms.load(Ordering::Relaxed) + self.running_ms(now);
        u64::try_from(ms).unwrap_or(0)
    }

    fn running_ms(&self, now: Instant) -> i64 {
        now.saturating_duration_since(self.started).as_millis() as i64
    }
}
