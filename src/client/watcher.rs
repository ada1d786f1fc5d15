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
        pictures::{Arrival, PictureStats, Pictures},
        playback::Kind,
        wire::Dial,
    },
    id::RoomId,
    protocol::QualityReport,
};

/// The session channel that the server opens.
const ROOM_CHANNEL: &str = "room";
/// Between two requests of a viewer whose picture is stuck.
const KEYFRAME_PATIENCE: Duration = Duration::from_millis(500);
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
    /// Of the last keyframe; 0 where it is not known (it is of VP8).
    pub height: u16,
    pub last_seq: u16,
    pub last_timestamp: u32,
    pub ssrc: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatcherStats {
    pub video: TrackStats,
    pub audio: TrackStats,
    pub pictures: PictureStats,
    /// From the start of [`Watcher::watch`] to the first picture that a player would show.
    pub first_picture: Option<Duration>,
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

    /// What this viewer saw so far, to be told with [`Viewer::quality`].
    pub fn quality(&self) -> QualityReport {
        let stats = self.stats();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        QualityReport {
            session: self.location.rsplit('/').next().and_then(|id| id.parse().ok()),
            first_frame_ms: stats.first_picture.map(ms),
            freezes: Some(stats.pictures.freezes),
            freeze_ms: Some(ms(stats.pictures.frozen)),
        }
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
        let following =
            Following { kind, started: self.started, stats: self.stats.clone(), pictures: None, asked_at: None };
        self.tasks.spawn(following.run(track));
    }
}

/// Follows one track.
struct Following {
    kind: Kind,
    started: Instant,
    stats: watch::Sender<WatcherStats>,
    /// Those of the SSRC that the track uses.
    pictures: Option<(u32, Pictures)>,
    asked_at: Option<Instant>,
}

impl Following {
    async fn run(mut self, track: Arc<dyn TrackRemote>) {
        while let Some(event) = track.poll().await {
            match event {
                TrackRemoteEvent::OnRtpPacket(packet) => {
                    self.count(&packet);
                    self.ask_when_stuck(&*track).await;
                }
                TrackRemoteEvent::OnEnded | TrackRemoteEvent::OnError => break,
                _ => {}
            }
        }
    }

    fn count(&mut self, packet: &rtp::Packet) {
        let (kind, since_start) = (self.kind, self.started.elapsed());
        if kind == Kind::Audio {
            return self.stats.send_modify(|stats| stats.audio.count(packet, kind, since_start));
        }
        let header = &packet.header;
        let pictures = match &mut self.pictures {
            Some((ssrc, pictures)) if *ssrc == header.ssrc => pictures,
            pictures => &mut pictures.insert((header.ssrc, Pictures::default())).1,
        };
        let arrival = Arrival {
            sequence: header.sequence_number,
            timestamp: header.timestamp,
            ends: header.marker,
            starts_key: starts_keyframe(&packet.payload),
        };
        pictures.arrived(arrival, Instant::now());
        let shown = pictures.stats();
        self.stats.send_modify(|stats| {
            stats.video.count(packet, kind, since_start);
            stats.pictures = shown;
            if shown.shown > 0 {
                stats.first_picture.get_or_insert(since_start);
            }
        });
    }

    /// As a player does that cannot go on.
    async fn ask_when_stuck(&mut self, track: &dyn TrackRemote) {
        let Some((media_ssrc, pictures)) = &self.pictures else { return };
        let may_ask = self.asked_at.is_none_or(|at| at.elapsed() > KEYFRAME_PATIENCE);
        if !may_ask || !pictures.is_stuck(Instant::now()) {
            return;
        }
        self.asked_at = Some(Instant::now());
        let request = PictureLossIndication { sender_ssrc: 0, media_ssrc: *media_ssrc };
        if let Err(error) = track.write_rtcp(vec![Box::new(request)]).await {
            tracing::debug!(%error, "no keyframe can be asked for");
        }
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
            if starts_keyframe(&packet.payload) {
                self.keyframes += 1;
                self.height = vp8_height(&packet.payload).unwrap_or(0);
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

/// Whether a payload begins a keyframe, of whichever of our codecs. In H.264 the first bit is never set, where VP8 says
/// that its descriptor is extended; a bare VP8 start is a NAL unit type that nobody uses.
fn starts_keyframe(payload: &[u8]) -> bool {
    match payload.first() {
        Some(first) if first & 0x80 == 0 && first & 0x1f != 0x10 => starts_h264_keyframe(payload),
        _ => starts_vp8_keyframe(payload),
    }
}

/// Parameter sets, or the beginning of an IDR slice, alone, in an aggregate (STAP-A) or in fragments (FU-A; RFC 6184).
fn starts_h264_keyframe(payload: &[u8]) -> bool {
    let is_key = |header: &u8| matches!(header & 0x1f, 5 | 7);
    match payload.first().map(|header| header & 0x1f) {
        Some(24) => payload.get(3).is_some_and(is_key),
        Some(28) => payload.get(1).is_some_and(|header| header & 0x80 != 0 && is_key(header)),
        _ => payload.first().is_some_and(is_key),
    }
}

/// Whether a VP8 payload begins a keyframe: a start of partition 0 whose frame header has the key bit clear
/// (RFC 7741 section 4.2).
fn starts_vp8_keyframe(payload: &[u8]) -> bool {
    vp8_frame(payload).and_then(<[u8]>::first).is_some_and(|frame| frame & 1 == 0)
}

/// The height that a VP8 keyframe's beginning tells (RFC 6386 section 9.1).
fn vp8_height(payload: &[u8]) -> Option<u16> {
    let frame = vp8_frame(payload).filter(|frame| frame.first().is_some_and(|tag| tag & 1 == 0))?;
    let size = frame.get(3..10).filter(|header| header.starts_with(&[0x9d, 0x01, 0x2a]))?;
    // The two bits above it ask for scaling.
    Some(u16::from_le_bytes([size[5], size[6]]) & 0x3fff)
}

/// What follows the descriptor, if the payload begins a frame.
fn vp8_frame(payload: &[u8]) -> Option<&[u8]> {
    let (&first, mut rest) = payload.split_first()?;
    let mut skip = |count: usize| -> Option<u8> {
        let last = rest.get(count.checked_sub(1)?).copied();
        rest = rest.get(count..)?;
        last
    };
    if first & 0x80 != 0 {
        let flags = skip(1)?;
        if flags & 0x80 != 0 && skip(1)? & 0x80 != 0 {
            skip(1)?;
        }
        if flags & 0x40 != 0 {
            skip(1)?;
        }
        if flags & 0x30 != 0 {
            skip(1)?;
        }
    }
    (first & 0x17 == 0x10).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyframe_of_vp8_tells_its_height_and_whatever_else_comes_tells_nothing() {
        let keyframe = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0xd0, 0x02, 0x00, 0x45];
        let with = |descriptor: &[u8]| [descriptor, &keyframe[..]].concat();
        for descriptor in [&[0x10][..], &[0x90, 0x80, 0x05], &[0x90, 0x80, 0x80, 0x05], &[0x90, 0xf0, 0x80, 1, 2, 3]] {
            let payload = with(descriptor);
            assert!(starts_keyframe(&payload), "{descriptor:?}");
            assert_eq!(vp8_height(&payload), Some(1_280), "{descriptor:?}");
            for len in 0..payload.len() {
                assert_eq!(vp8_height(&payload[..len]), None);
                let _ = starts_keyframe(&payload[..len]);
            }
        }
        assert!(!starts_keyframe(&with(&[0x80, 0x80, 0x05])), "not the first packet of its frame");
        assert!(!starts_keyframe(&[0x90, 0x80, 0x05, 0x11, 0, 0]), "not a keyframe");
        assert!(starts_keyframe(&[0x78, 0, 9, 0x67]) && starts_keyframe(&[0x7c, 0x85]) && starts_keyframe(&[0x65]));
        assert!(!starts_keyframe(&[0x7c, 0x05]) && !starts_keyframe(&[0x41, 0x9a]));
    }
}
