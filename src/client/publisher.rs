//! WHIP as an anchor does it: an offer with one picture and one sound, and the session that it becomes.

use std::sync::Arc;

use hyper::Method;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use tokio::time::sleep;
use webrtc::{
    media_stream::{
        MediaStreamTrack,
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
    },
    rtp_transceiver::RtpSender,
};

use crate::{
    client::{
        Config, Error, Http,
        link::full_jitter,
        peer::{Peer, Purpose, opus, vp8},
        playback::{Kind, Packetizer},
    },
    id::RoomId,
    protocol::Snapshot,
};

/// How sessions are opened and ended.
pub struct Publisher {
    http: Http,
    room: RoomId,
    token: String,
    has_audio: bool,
}

/// One WHIP session.
pub struct Session {
    pub peer: Peer,
    pub video: Sender,
    pub audio: Option<Sender>,
    location: String,
}

/// A negotiated track and what makes its packets.
pub struct Sender {
    pub track: Arc<TrackLocalStaticRTP>,
    pub packetizer: Packetizer,
}

impl Publisher {
    pub fn new(http: Http, room: RoomId, token: String, has_audio: bool) -> Self {
        Self { http, room, token, has_audio }
    }

    pub fn config(&self) -> &Config {
        self.http.config()
    }

    /// Opens a session, in place of whoever publishes in the room, and returns when packets can flow.
    pub async fn open(&self) -> Result<Session, Error> {
        let config = self.http.config();
        let local = self.http.server().local_ip(config).await?;
        let mut peer = Peer::open(local, Purpose::Send).await?;
        let (location, video, audio) = self.negotiate(&mut peer).await?;
        Ok(Session { peer, video, audio, location })
    }

    /// Waits with full jitter, then opens a session unless another one has the room.
    pub async fn open_when_free(&self, attempts: u32) -> Result<Option<Session>, Error> {
        let config = self.http.config();
        sleep(full_jitter(config.reconnect_base, config.reconnect_max, attempts)).await;
        if self.is_taken().await? {
            return Ok(None);
        }
        self.open().await.map(Some)
    }

    /// Ends a session at the server, then here.
    pub async fn close(&self, session: Session) {
        let _ = self.http.delete(&session.location, &self.token).await;
        session.peer.close().await;
    }

    /// Whether somebody is live in the room; a session of ours that was lost counts until the server has noticed.
    async fn is_taken(&self) -> Result<bool, Error> {
        let path = format!("/v1/rooms/{}", self.room);
        let room: Snapshot = self.http.call(Method::GET, &path, Some(&self.token), None, None).await?;
        Ok(room.media.live)
    }

    async fn negotiate(&self, peer: &mut Peer) -> Result<(String, Sender, Option<Sender>), Error> {
        let deadline = self.http.config().media_timeout;
        let video = Sending::add(peer, Kind::Video).await?;
        let audio = if self.has_audio { Some(Sending::add(peer, Kind::Audio).await?) } else { None };

        let offer = peer.offer(deadline).await?;
        let answer = self.http.offer(&format!("/whip/{}", self.room), &self.token, offer).await?;
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
    sender: Arc<dyn RtpSender>,
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
pub fn local_track(kind: Kind, ssrc: u32) -> MediaStreamTrack {
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
