//! An anchor that broadcasts a clip by WHIP, for as long as it is kept.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use webrtc::media_stream::{
    MediaStreamTrack,
    track_local::{TrackLocal, TrackLocalEvent, static_rtp::TrackLocalStaticRTP},
};

use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};

use crate::{
    client::{
        Clip, Config, Error, Http, Server,
        link::full_jitter,
        peer::{Peer, Purpose, opus, vp8},
        playback::{Kind, Packetizer, Playback},
    },
    id::RoomId,
};

/// A machine that slept sends nothing to catch up; the time line goes on from now.
const LATE_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AnchorState {
    #[default]
    Publishing,
    /// The connection was lost; another attempt follows.
    Retrying,
    /// Over: stopped, or refused for good.
    Ended(String),
}

/// What an anchor has sent.
#[derive(Clone, Debug, Default)]
pub struct AnchorStats {
    pub state: AnchorState,
    /// WHIP sessions so far: one, and one for each loss.
    pub sessions: u64,
    pub packets: u64,
    /// Payload bytes, without headers.
    pub bytes: u64,
    pub keyframe_requests: u64,
    /// Keyframe requests that made the clip go on at its next keyframe.
    pub keyframe_skips: u64,
}

/// A running broadcast. Dropping it ends the connection; [`Anchor::stop`] also tells the server.
pub struct Anchor {
    stats: watch::Receiver<AnchorStats>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    _stop_on_drop: DropGuard,
}

impl Anchor {
    /// Goes live with `clip` and returns when the first packets can flow. The first attempt's failure is returned;
    /// later losses are repaired with growing waits.
    pub async fn publish(
        server: &Server,
        room: &RoomId,
        token: &str,
        clip: Arc<Clip>,
        config: &Config,
    ) -> Result<Self, Error> {
        let publisher = Publisher {
            http: Http::new(server.clone(), config.clone()),
            path: format!("/whip/{room}"),
            token: token.to_owned(),
            has_audio: !clip.audio.is_empty(),
        };
        let session = publisher.open().await?;

        let (stats, seen) = watch::channel(AnchorStats { sessions: 1, ..AnchorStats::default() });
        let stop = CancellationToken::new();
        let task = AnchorTask { publisher, playback: Playback::new(clip), stats, stop: stop.clone() };
        let task = Some(tokio::spawn(task.run(session)));
        Ok(Self { stats: seen, _stop_on_drop: stop.clone().drop_guard(), stop, task })
    }

    pub fn stats(&self) -> AnchorStats {
        self.stats.borrow().clone()
    }

    /// Follows what is sent.
    pub fn watch(&self) -> watch::Receiver<AnchorStats> {
        self.stats.clone()
    }

    /// Ends the session at the server and returns when it is gone.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

/// How a session is opened.
struct Publisher {
    http: Http,
    path: String,
    token: String,
    has_audio: bool,
}

/// One WHIP session.
struct Session {
    peer: Peer,
    location: String,
    video: Sender,
    audio: Option<Sender>,
}

struct Sender {
    track: Arc<TrackLocalStaticRTP>,
    packetizer: Packetizer,
}

impl Publisher {
    async fn open(&self) -> Result<Session, Error> {
        let config = self.http.config();
        let local = self.http.server().local_ip(config).await?;
        let mut peer = Peer::open(local, Purpose::Send).await?;
        let (location, video, audio) = self.negotiate(&mut peer).await?;
        Ok(Session { peer, location, video, audio })
    }

    async fn negotiate(&self, peer: &mut Peer) -> Result<(String, Sender, Option<Sender>), Error> {
        let deadline = self.http.config().media_timeout;
        let video = Sending::add(peer, Kind::Video).await?;
        let audio = if self.has_audio { Some(Sending::add(peer, Kind::Audio).await?) } else { None };

        let offer = peer.offer(deadline).await?;
        let answer = self.http.offer(&self.path, &self.token, offer).await?;
        let connecting = async {
            peer.accept(answer.sdp).await?;
            let video = video.negotiated().await?;
            let audio = match audio {
                Some(audio) => Some(audio.negotiated().await?),
                None => None,
            };
            peer.connected(deadline).await?;
            Ok((video, audio))
        };
        match connecting.await {
            Ok((video, audio)) => Ok((answer.location, video, audio)),
            Err(why) => {
                let _ = self.http.delete(&answer.location, &self.token).await;
                Err(why)
            }
        }
    }
}

/// A track that was added to an offer.
struct Sending {
    kind: Kind,
    ssrc: u32,
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn webrtc::rtp_transceiver::RtpSender>,
}

impl Sending {
    async fn add(peer: &Peer, kind: Kind) -> Result<Self, Error> {
        let ssrc = rand::random();
        let track = Arc::new(TrackLocalStaticRTP::new(local_track(kind, ssrc)));
        let sender = peer.connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await?;
        Ok(Self { kind, ssrc, track, sender })
    }

    async fn negotiated(self) -> Result<Sender, Error> {
        let parameters = self.sender.get_parameters().await?;
        let codec = parameters.rtp_parameters.codecs.first();
        let codec = codec.ok_or_else(|| Error::Protocol("the answer takes none of the codecs".into()))?;
        let packetizer = Packetizer::new(self.kind, self.ssrc, codec.payload_type);
        Ok(Sender { track: self.track, packetizer })
    }
}

/// One media stream with one track of each kind, as WHIP wants it.
pub(super) fn local_track(kind: Kind, ssrc: u32) -> MediaStreamTrack {
    let (name, kind, codec): (_, _, RTCRtpCodecParameters) = match kind {
        Kind::Video => ("video", RtpCodecKind::Video, vp8()),
        Kind::Audio => ("audio", RtpCodecKind::Audio, opus()),
    };
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
        codec: codec.rtp_codec,
        ..Default::default()
    };
    MediaStreamTrack::new("maishou".into(), name.into(), name.into(), kind, vec![encoding])
}

/// Why a session's sending ended.
enum Ending {
    Stopped,
    Lost,
}

struct AnchorTask {
    publisher: Publisher,
    playback: Playback,
    stats: watch::Sender<AnchorStats>,
    stop: CancellationToken,
}

impl AnchorTask {
    async fn run(mut self, session: Session) {
        let mut session = Some(session);
        let mut losses = 0;
        let why = loop {
            if let Some(mut open) = session.take() {
                losses = 0;
                let ending = self.send(&mut open).await;
                if let Ending::Stopped = ending {
                    let _ = self.publisher.http.delete(&open.location, &self.publisher.token).await;
                }
                open.peer.close().await;
                if let Ending::Stopped = ending {
                    break "stopped".to_owned();
                }
            }
            match self.reopen(losses).await {
                Ok(opened) => session = opened,
                Err(why) => break why,
            }
            losses += 1;
        };
        self.stats.send_modify(|stats| stats.state = AnchorState::Ended(why));
    }

    /// Waits, then tries once. `Ok(None)` is worth another attempt.
    async fn reopen(&mut self, losses: u32) -> Result<Option<Session>, String> {
        self.stats.send_modify(|stats| stats.state = AnchorState::Retrying);
        let config = self.publisher.http.config();
        let attempt = async {
            sleep(full_jitter(config.reconnect_base, config.reconnect_max, losses)).await;
            self.publisher.open().await
        };
        let opened = tokio::select! {
            () = self.stop.cancelled() => return Err("stopped".into()),
            opened = attempt => opened,
        };
        match opened {
            Ok(session) => {
                self.stats.send_modify(|stats| {
                    stats.state = AnchorState::Publishing;
                    stats.sessions += 1;
                });
                Ok(Some(session))
            }
            Err(why) if why.is_passing() => {
                tracing::debug!(%why, "publishing again failed");
                Ok(None)
            }
            Err(why) => Err(why.to_string()),
        }
    }

    /// Sends the clip at its pace until the session is stopped or lost.
    async fn send(&mut self, session: &mut Session) -> Ending {
        let mut began = Instant::now() - self.playback.next_at();
        let mut skipped_at: Option<Instant> = None;
        loop {
            let due_at = began + self.playback.next_at();
            tokio::select! {
                () = self.stop.cancelled() => return Ending::Stopped,
                () = session.peer.gone() => return Ending::Lost,
                request = session.video.track.poll() => match request {
                    Some(TrackLocalEvent::OnRtcpPacket(_)) => self.answer_request(&mut skipped_at),
                    Some(_) => {}
                    None => return Ending::Lost,
                },
                () = sleep_until(due_at) => {
                    if due_at.elapsed() > LATE_MAX {
                        began += due_at.elapsed();
                    }
                    if self.send_next(session).await.is_err() {
                        return Ending::Lost;
                    }
                }
            }
        }
    }

    async fn send_next(&mut self, session: &mut Session) -> Result<(), Error> {
        let due = self.playback.pop();
        let sender = match due.kind {
            Kind::Video => &mut session.video,
            Kind::Audio => session.audio.as_mut().expect("audio is due only when the clip has some"),
        };
        let packets = sender.packetizer.packets(&due);
        self.stats.send_modify(|stats| {
            stats.packets += packets.len() as u64;
            stats.bytes += packets.iter().map(|p| p.payload.len() as u64).sum::<u64>();
        });
        for packet in packets {
            sender.track.write_rtp(packet).await?;
        }
        Ok(())
    }

    fn answer_request(&mut self, skipped_at: &mut Option<Instant>) {
        let spacing = self.publisher.http.config().skip_to_keyframe;
        let may_skip = spacing.is_some_and(|spacing| skipped_at.is_none_or(|at| at.elapsed() >= spacing));
        let skipped = may_skip && self.playback.skip_to_keyframe();
        if skipped {
            *skipped_at = Some(Instant::now());
        }
        self.stats.send_modify(|stats| {
            stats.keyframe_requests += 1;
            stats.keyframe_skips += u64::from(skipped);
        });
    }
}
