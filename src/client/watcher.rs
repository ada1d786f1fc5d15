//! A viewer of the video: WHEP, counting what arrives, with the data channel session where it is wanted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rtc::{
    rtp_transceiver::rtp_sender::RtpCodecKind,
    rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit},
};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use webrtc::{
    data_channel::{DataChannel, RTCDataChannelInit},
    media_stream::track_remote::{TrackRemote, TrackRemoteEvent},
};

use crate::{
    client::{
        Config, Error, Http, Server, Viewer,
        peer::{Connection, Peer, Purpose},
        playback::Kind,
        wire::Dial,
    },
    id::RoomId,
};

/// The session channel that the server opens.
const ROOM_CHANNEL: &str = "room";
/// A stream that nobody uses: it is there so that the offer has an application section.
const SPARE_STREAM: u16 = 1_000;

/// What arrived on one track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackStats {
    pub packets: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Whole pictures, by their last packet's marker; 0 for sound.
    pub frames: u64,
    pub keyframes: u64,
    /// Sequence numbers that were jumped over; one that comes late is taken off again.
    pub missing: u64,
    /// From the start of [`Watcher::watch`].
    pub first_packet: Option<Duration>,
    pub first_keyframe: Option<Duration>,
    pub last_seq: u16,
    pub last_timestamp: u32,
    pub ssrc: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatcherStats {
    pub video: TrackStats,
    pub audio: TrackStats,
    /// The peer connection has failed or was closed.
    pub gone: bool,
}

/// A playing WHEP session. Dropping it ends the connection; [`Watcher::leave`] also tells the server.
pub struct Watcher {
    http: Http,
    token: String,
    location: String,
    connection: Connection,
    channels: Mutex<mpsc::Receiver<Arc<dyn DataChannel>>>,
    video_track: watch::Receiver<Option<Arc<dyn TrackRemote>>>,
    stats: watch::Receiver<WatcherStats>,
    _end_on_drop: DropGuard,
}

impl Watcher {
    /// Joins by WHEP and returns when the connection stands; packets come when the show is live. `with_room` asks for
    /// the session channel too.
    pub async fn watch(
        server: &Server,
        room: &RoomId,
        token: &str,
        with_room: bool,
        config: &Config,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let http = Http::new(server.clone(), config.clone());
        let mut peer = Peer::open(server.local_ip(config).await?, Purpose::Receive).await?;
        let location = negotiate(&http, &mut peer, &format!("/whep/{room}"), token, with_room).await?;
        Ok(Self::playing(http, token.to_owned(), location, peer, started))
    }

    fn playing(http: Http, token: String, location: String, peer: Peer, started: Instant) -> Self {
        let gone = peer.gone();
        let Peer { connection, tracks, channels, .. } = peer;
        let (stats, seen) = watch::channel(WatcherStats::default());
        let (video_sender, video_track) = watch::channel(None);
        let ended_on_drop = CancellationToken::new();

        let counting = Counting { started, stats, video: video_sender, tasks: JoinSet::new() };
        let ended = ended_on_drop.clone();
        tokio::spawn(async move { ended.run_until_cancelled(counting.run(tracks, gone)).await });
        let (channels, _end_on_drop) = (Mutex::new(channels), ended_on_drop.drop_guard());
        Self { http, token, location, connection, channels, video_track, stats: seen, _end_on_drop }
    }

    pub fn stats(&self) -> WatcherStats {
        *self.stats.borrow()
    }

    /// Follows what arrives.
    pub fn follow(&self) -> watch::Receiver<WatcherStats> {
        self.stats.clone()
    }

    /// Waits until what has arrived is as told.
    pub async fn wait_for(
        &self,
        deadline: Duration,
        mut holds: impl FnMut(&WatcherStats) -> bool,
    ) -> Result<WatcherStats, Error> {
        let mut stats = self.follow();
        let waited = timeout(deadline, stats.wait_for(|stats| holds(stats))).await;
        let stats = *waited.map_err(|_| Error::Timeout("media"))?.map_err(|_| Error::Lost)?;
        Ok(stats)
    }

    /// Asks for a keyframe (PLI), once there is a video track.
    pub async fn request_keyframe(&self) -> Result<(), Error> {
        let Some(track) = self.video_track.borrow().clone() else {
            return Ok(());
        };
        let media_ssrc = self.stats.borrow().video.ssrc;
        let request = PictureLossIndication { sender_ssrc: 0, media_ssrc };
        Ok(track.write_rtcp(vec![Box::new(request)]).await?)
    }

    /// Joins the room over the session channel: a full session, like a WebSocket's, that lives as long as this peer.
    pub async fn join_room(&self, token: &str) -> Result<Viewer, Error> {
        let config = self.http.config();
        let opened = timeout(config.media_timeout, self.room_channel()).await;
        let channel = opened.map_err(|_| Error::Timeout("the room channel"))??;
        Viewer::start(Dial::Channel(channel), token, config).await
    }

    async fn room_channel(&self) -> Result<Arc<dyn DataChannel>, Error> {
        let mut channels = self.channels.lock().await;
        loop {
            let channel = channels.recv().await.ok_or(Error::Lost)?;
            if channel.label().await? == ROOM_CHANNEL {
                return Ok(channel);
            }
        }
    }

    /// Ends the session at the server, then the connection.
    pub async fn leave(self) {
        let _ = self.http.delete(&self.location, &self.token).await;
        let _ = self.connection.close().await;
    }
}

async fn negotiate(http: &Http, peer: &mut Peer, path: &str, token: &str, with_room: bool) -> Result<String, Error> {
    let deadline = http.config().media_timeout;
    for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
        let receive = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
        peer.connection.add_transceiver_from_kind(kind, Some(receive)).await?;
    }
    if with_room {
        let spare = RTCDataChannelInit { negotiated: Some(SPARE_STREAM), ..Default::default() };
        peer.connection.create_data_channel("", Some(spare)).await?;
    }

    let offer = peer.offer(deadline).await?;
    let answer = http.offer(path, token, offer).await?;
    let connecting = async {
        peer.accept(answer.sdp).await?;
        peer.connected(deadline).await
    };
    if let Err(why) = connecting.await {
        let _ = http.delete(&answer.location, token).await;
        return Err(why);
    }
    Ok(answer.location)
}

/// Counts the packets of all tracks.
struct Counting {
    started: Instant,
    stats: watch::Sender<WatcherStats>,
    video: watch::Sender<Option<Arc<dyn TrackRemote>>>,
    tasks: JoinSet<()>,
}

impl Counting {
    async fn run(mut self, mut tracks: mpsc::Receiver<Arc<dyn TrackRemote>>, gone: CancellationToken) {
        loop {
            tokio::select! {
                Some(track) = tracks.recv() => self.follow(track).await,
                () = gone.cancelled() => break,
            }
        }
        self.stats.send_modify(|stats| stats.gone = true);
    }

    async fn follow(&mut self, track: Arc<dyn TrackRemote>) {
        let kind = match track.kind().await {
            RtpCodecKind::Video => Kind::Video,
            RtpCodecKind::Audio => Kind::Audio,
            _ => return,
        };
        if kind == Kind::Video {
            self.video.send_replace(Some(Arc::clone(&track)));
        }
        let (started, stats) = (self.started, self.stats.clone());
        self.tasks.spawn(async move {
            while let Some(event) = track.poll().await {
                match event {
                    TrackRemoteEvent::OnRtpPacket(packet) => stats.send_modify(|stats| match kind {
                        Kind::Video => stats.video.count(&packet, kind, started.elapsed()),
                        Kind::Audio => stats.audio.count(&packet, kind, started.elapsed()),
                    }),
                    TrackRemoteEvent::OnEnded | TrackRemoteEvent::OnError => break,
                    _ => {}
                }
            }
        });
    }
}

impl TrackStats {
    fn count(&mut self, packet: &rtp::Packet, kind: Kind, since_start: Duration) {
        let header = &packet.header;
        if self.packets > 0 && self.ssrc == header.ssrc {
            self.count_missing(header.sequence_number);
        } else {
            self.last_seq = header.sequence_number;
        }
        self.packets += 1;
        self.bytes += packet.payload.len() as u64;
        self.first_packet.get_or_insert(since_start);
        self.ssrc = header.ssrc;
        self.last_timestamp = header.timestamp;
        if kind == Kind::Video {
            self.frames += u64::from(header.marker);
            if starts_vp8_keyframe(&packet.payload) {
                self.keyframes += 1;
                self.first_keyframe.get_or_insert(since_start);
            }
        }
    }

    fn count_missing(&mut self, seq: u16) {
        match seq.wrapping_sub(self.last_seq) {
            0 => {}
            ahead @ 1..0x8000 => {
                self.missing += u64::from(ahead - 1);
                self.last_seq = seq;
            }
            _ => self.missing = self.missing.saturating_sub(1),
        }
    }
}

/// Whether a VP8 payload begins a keyframe: a start of partition 0 whose frame header has the key bit clear
/// (RFC 7741 section 4.2).
fn starts_vp8_keyframe(payload: &[u8]) -> bool {
    let mut bytes = payload.iter().copied();
    let Some(first) = bytes.next() else { return false };
    let (extended, starts) = (first & 0x80 != 0, first & 0x17 == 0x10);
    if extended {
        let Some(flags) = bytes.next() else { return false };
        if flags & 0x80 != 0 && bytes.next().is_some_and(|id| id & 0x80 != 0) {
            bytes.next();
        }
        if flags & 0x40 != 0 {
            bytes.next();
        }
        if flags & 0x30 != 0 {
            bytes.next();
        }
    }
    starts && bytes.next().is_some_and(|frame| frame & 1 == 0)
}
