//! The WebRTC server: takes a room's picture and sound from its anchor and gives them to its viewers.
//!
//! A peer is composed from the sans-IO parts of the webrtc project: an ICE-lite answerer behind one UDP port per
//! worker. Offers are answered in the caller's task ([`negotiate`]); a worker's core ([`worker`]) moves its peers
//! without I/O; a thread per core ([`driver`]) feeds it. A publisher's packets go once through her `intake`, then
//! through one ring per track on each worker that has viewers, and `forward` numbers them anew for each.
//!
//! It owns sessions, keys and media. It deliberately does not know who may publish or watch, what HTTP is, or what a
//! text on the data channel says.

mod bandwidth;
#[cfg(test)]
mod beginnings;
mod channel;
mod chunks;
mod codec;
mod config;
mod driver;
mod dtls;
mod egress;
#[cfg(test)]
mod end_to_end;
mod entrance;
mod extension;
mod feedback;
mod flight;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gaps;
mod h264;
mod inbound;
mod intake;
mod keyframe;
mod layers;
mod negotiate;
mod offer;
mod open;
mod outbox;
mod outlet;
mod pacer;
mod peer;
mod quality;
mod registry;
mod replay;
mod report;
mod ring;
mod seal;
mod stage;
mod stats;
mod stun;
mod survey;
mod sweep;
mod timers;
mod track;
mod viewer;
mod vp8;
mod worker;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::mpsc;

pub use self::{
    config::Config,
    layers::Wish,
    negotiate::TEXT_BYTES_MAX,
    quality::{SessionQuality, TooSoon, Watched},
    stats::Stats,
    survey::{RoomQuality, SeenQuality, Spread, Survey},
    viewer::View,
};
use self::{
    driver::Driver,
    dtls::Identity,
    entrance::Entrance,
    registry::{Control, Part, Port, Registry},
    stats::Counts,
};
use crate::id::{RoomId, SessionId};

/// How long a shutdown waits for the workers' goodbyes.
const SHUTDOWN_TIME: Duration = Duration::from_secs(3);

/// The media server. Clones are handles to the same one; it stops with [`Media::shutdown`] or with the last handle.
#[derive(Clone)]
pub struct Media {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Arc<Registry>,
    threads: Mutex<Vec<(JoinHandle<()>, Receiver<()>)>>,
}

/// What a client gets back for its offer.
#[derive(Clone)]
pub struct Answer {
    pub session: SessionId,
    pub sdp: String,
    /// A strong entity tag of this ICE session, quotes included (RFC 9725).
    pub etag: String,
}

/// A track of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    /// `video` or `audio`.
    pub kind: &'static str,
    /// `VP8`, `H264` or `opus`.
    pub codec: &'static str,
}

/// What happened to a session. Events of one session come in order; of two sessions in any, so an end that arrives
/// behind the start of another session of the room means the older one.
#[derive(Clone, Debug)]
pub enum Event {
    /// A publisher's media began to arrive, for the first time or after a stall.
    Live { room: RoomId, session: SessionId, tracks: Vec<Track> },
    /// Her media stopped: she left, was replaced, lost her connection, or stalled.
    Ended { room: RoomId, session: SessionId },
    /// The peer has the data channel `room`.
    ChannelOpen { session: SessionId, room: RoomId },
    /// One text of the peer on `room`.
    ChannelText { session: SessionId, text: Bytes },
    /// The session is no more. Comes once for every answered offer.
    Closed { session: SessionId, room: RoomId, publisher: bool },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is wrong with the offer or the fragment, in words that may go to its sender.
    #[error("{0}")]
    BadOffer(String),
    #[error("the offer has no codec that this server passes through (VP8, H.264 with packetization-mode 1, Opus)")]
    NoCommonCodec,
    #[error("the offer is too large")]
    TooLarge,
    /// As many peers as `peers_max`, or nobody takes the events.
    #[error("the server has as many peers as it may")]
    Full,
    #[error("there is no such session")]
    Unknown,
    #[error("the media server cannot work: {0}")]
    Io(#[from] io::Error),
}

/// The text was not taken: the peer is too slow, has no open channel, is gone, or the text is above 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data channel takes no more")]
pub struct ChannelFull;

/// Why a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// One of the two sides wanted it, or another publisher took the room.
    Left,
    /// None of its connectivity checks came through in time.
    Unreachable,
    /// Its handshake did not end in time.
    Handshake,
    /// Its certificate is not the one of its offer.
    Fingerprint,
    /// No keys could be made.
    Keys,
    /// It no longer answers for its address.
    Consent,
    /// It broke the rules of the data channel.
    Channel,
    /// A library panicked over what it sent.
    Panic,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Left => "left",
            Self::Unreachable => "unreachable",
            Self::Handshake => "handshake",
            Self::Fingerprint => "fingerprint",
            Self::Keys => "keys",
            Self::Consent => "consent",
            Self::Channel => "channel",
            Self::Panic => "panic",
        })
    }
}

impl Media {
    /// Binds every worker's port and starts the threads. Events go to `events`; while that is full they wait in the
    /// workers, and texts of peers are held back by flow control.
    pub fn start(config: Config, events: mpsc::Sender<Event>) -> Result<Self, Error> {
        config.check()?;
        let identity = Identity::make().map_err(|error| io::Error::other(error.to_string()))?;
        let candidate_addresses = config.candidate_addresses()?;
        let (mut ports, mut drivers) = (Vec::new(), Vec::new());
        for index in 0..config.worker_count() {
            let (control, commands) = mpsc::channel(config.mailbox_max);
            let (feed, bursts) = mpsc::channel(config.feed_queue_max);
            let (driver, waker) = Driver::bind(config.listen_of(index), &config, commands, bursts)?;
            let address = driver.local_addr()?;
            ports.push(Port {
                control,
                feed,
                waker,
                address,
                candidates: candidate_addresses.iter().map(|ip| SocketAddr::new(*ip, address.port())).collect(),
                peers: AtomicUsize::new(0),
                has_leavers: AtomicBool::new(false),
                has_keyframe_wishes: AtomicBool::new(false),
                events_waiting: AtomicUsize::new(0),
                counts: Mutex::new(Counts::default()),
            });
            drivers.push(driver);
        }

        let registry = Arc::new(Registry::new(config, identity));
        registry.set_ports(ports);
        let threads = drivers.into_iter().enumerate().map(|(index, driver)| spawn(index, driver, &registry, &events));
        let threads = threads.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { inner: Arc::new(Inner { registry, threads: Mutex::new(threads) }) })
    }

    /// The workers' addresses.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.registry().ports().iter().map(|port| port.address).collect()
    }

    /// Answers an offer of the room's anchor and makes her the room's publisher, in place of whoever was: the old
    /// session is closed, and viewers go on without a reload. Who may is decided by the caller.
    pub async fn publish(&self, room: &RoomId, offer: &str) -> Result<Answer, Error> {
        let Entrance { seat, remote_ufrag, streams, pass } =
            Entrance::open(self.registry(), offer, negotiate::publish).await?;
        let codecs = streams.iter().map(|stream| stream.codec).collect();
        let (session, source) = self.registry().enter_publisher(room, seat, remote_ufrag, codecs);
        Ok(pass.admit(session, Part::Publisher { source, streams }))
    }

    /// Answers a viewer's offer; before anyone publishes the viewer waits. The answer lists every codec both sides
    /// can do; which is used is known when the publisher's is.
    pub async fn watch(&self, room: &RoomId, offer: &str) -> Result<Answer, Error> {
        let Entrance { seat, remote_ufrag, streams, pass } =
            Entrance::open(self.registry(), offer, negotiate::watch).await?;
        let session = self.registry().enter_viewer(room, seat, remote_ufrag);
        Ok(pass.admit(session, Part::Viewer { streams }))
    }

    /// Takes a trickled candidate (RFC 8840). A lite server needs none: it is checked and forgotten.
    pub async fn candidate(&self, session: SessionId, fragment: &str) -> Result<(), Error> {
        if fragment.len() > self.registry().config.offer_bytes_max {
            return Err(Error::TooLarge);
        }
        let session = self.registry().session_of(session).ok_or(Error::Unknown)?;
        offer::check_fragment(fragment, &session.remote_ufrag)
    }

    /// Ends a session; false if there is none of this name (any more).
    pub fn leave(&self, session: SessionId) -> bool {
        self.registry().leave(session)
    }

    /// Sends one text on the peer's data channel `room`, in order. Refused at once when the peer has too much
    /// unread; a text that was taken is lost only with the session.
    pub fn send(&self, session: SessionId, text: Bytes) -> Result<(), ChannelFull> {
        let registry = self.registry();
        let session = registry.session_of(session).ok_or(ChannelFull)?;
        if text.len() > TEXT_BYTES_MAX || !session.channel_is_open.load(Ordering::Acquire) {
            return Err(ChannelFull);
        }
        let (len, max) = (text.len(), registry.config.channel_backlog_bytes_max);
        let fits = |before: usize| (before + len <= max).then_some(before + len);
        session.unacknowledged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| ChannelFull)?;
        let port = registry.port(session.worker);
        if port.control.try_send(Control::Text { session: session.id, text }).is_err() {
            session.unacknowledged.fetch_sub(len, Ordering::Relaxed);
            return Err(ChannelFull);
        }
        port.wake();
        Ok(())
    }

    /// What a viewer asks to see. False if there is no such viewer, or her worker takes no more for now.
    pub fn view(&self, session: SessionId, view: View) -> bool {
        let registry = self.registry();
        let Some(session) = registry.session_of(session).filter(|session| !session.is_publisher) else { return false };
        let port = registry.port(session.worker);
        let is_taken = port.control.try_send(Control::View { session: session.id, view }).is_ok();
        port.wake();
        is_taken
    }

    /// Whether a publisher's media is arriving.
    pub fn is_live(&self, room: &RoomId) -> bool {
        self.registry().source_of(room).is_some_and(|source| source.is_live.load(Ordering::Acquire))
    }

    /// The room's publisher, even before her media arrives.
    pub fn publisher(&self, room: &RoomId) -> Option<SessionId> {
        self.registry().source_of(room).map(|source| source.session)
    }

    /// The live publisher's media time: milliseconds since her first packet, by her video's clock.
    pub fn media_time(&self, room: &RoomId) -> Option<u64> {
        let source = self.registry().source_of(room)?;
        let is_live = source.is_live.load(Ordering::Acquire);
        is_live.then(|| self.registry().media_time(&source, Instant::now()))
    }

    pub fn stats(&self) -> Stats {
        let registry = self.registry();
        let counts = |port: &Port| port.counts.lock().map(|counts| counts.clone()).unwrap_or_default();
        Stats::of(registry.peers(), registry.ports().iter().map(counts))
    }

    /// What a session's connection is like now.
    pub fn quality_of(&self, session: SessionId) -> Option<SessionQuality> {
        self.registry().session_of(session).map(|session| session.quality.read())
    }

    /// What a viewer's player counted since her session began. Refused when she told a moment ago; false when there is
    /// no such session of a viewer.
    pub fn watched(&self, session: SessionId, watched: Watched) -> Result<bool, TooSoon> {
        let registry = self.registry();
        let Some(session) = registry.session_of(session).filter(|session| !session.is_publisher) else {
            return Ok(false);
        };
        let news = session.quality.told(watched, registry.config.quality_interval(), Instant::now())?;
        session.room.seen.add(&news);
        registry.seen.add(&news);
        Ok(true)
    }

    /// What all rooms' media is like, looked at no more than once a second.
    pub fn survey(&self) -> Arc<Survey> {
        self.registry().surveyor.look(self.registry(), Instant::now())
    }

    /// Whether all workers run. False after a shutdown, or when one ended over an error of its own.
    pub fn is_running(&self) -> bool {
        let threads = self.inner.threads.lock();
        threads.is_ok_and(|threads| !threads.is_empty() && threads.iter().all(|(thread, _)| !thread.is_finished()))
    }

    /// Says goodbye to all peers and ends the workers. Blocks for at most three seconds.
    pub fn shutdown(&self) {
        self.inner.stop();
        let threads = self.inner.threads.lock().map(|mut threads| std::mem::take(&mut *threads)).unwrap_or_default();
        let deadline = Instant::now() + SHUTDOWN_TIME;
        for (thread, done) in threads {
            // The sender is dropped at the thread's end, however it ends.
            let left = deadline.saturating_duration_since(Instant::now());
            match done.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) => tracing::error!("a media worker does not end and is left behind"),
                _ => drop(thread.join()),
            }
        }
    }

    fn registry(&self) -> &Arc<Registry> {
        &self.inner.registry
    }
}

impl Inner {
    fn stop(&self) {
        self.registry.is_stopping.store(true, Ordering::Release);
        self.registry.ports().iter().for_each(Port::wake);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(
    index: usize,
    driver: Driver,
    registry: &Arc<Registry>,
    events: &mpsc::Sender<Event>,
) -> io::Result<(JoinHandle<()>, Receiver<()>)> {
    let (registry, events) = (registry.clone(), events.clone());
    let (finished, done) = sync_channel::<()>(1);
    let thread = std::thread::Builder::new().name(format!("media-{index}")).spawn(move || {
        let _finished = finished;
        driver.run(index, registry, events);
    })?;
    Ok((thread, done))
}
