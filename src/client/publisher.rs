//! WHIP as an anchor does it: an offer with one picture and one sound, and the session that it becomes.

use std::sync::Arc;

use hyper::Method;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
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
        layers::Layer,
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
    layers: &'static [&'static str],
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
    /// One for each layer, the smallest first.
    pub packetizers: Vec<Packetizer>,
}

impl Publisher {
    /// `layers` names those of the picture; without any it is one stream.
    pub fn new(http: Http, room: RoomId, token: String, layers: &'static [&'static str], has_audio: bool) -> Self {
        Self { http, room, token, layers, has_audio }
    }

    pub fn config(&self) -> &Config {
        self.http.config()
    }

    /// Opens a session, in place of whoever publishes in the room, and returns when packets can flow.
    pub async fn open(&self) -> Result<Session, Error> {
        let config = self.http.config();
        let local = self.http.server().local_ip(config).await?;
        let layers: Vec<Layer> = self.layers.iter().map(|rid| Layer::new(rid)).collect();
        let mut peer = Peer::open(local, Purpose::Send(layers.clone())).await?;
        let (location, video, audio) = self.negotiate(&mut peer, layers).await?;
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

    async fn negotiate(&self, peer: &mut Peer, layers: Vec<Layer>) -> Result<(String, Sender, Option<Sender>), Error> {
        let deadline = self.http.config().media_timeout;
        let video = Sending::add(peer, Kind::Video, layers).await?;
        let audio = if self.has_audio { Some(Sending::add(peer, Kind::Audio, vec![]).await?) } else { None };

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
    ssrcs: Vec<u32>,
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
}

impl Sending {
    async fn add(peer: &Peer, kind: Kind, layers: Vec<Layer>) -> Result<Self, Error> {
        let (track, ssrcs) = match layers.is_empty() {
            true => {
                let ssrc = rand::random();
                (local_track(kind, ssrc), vec![ssrc])
            }
            false => (layered_track(&layers), layers.iter().map(|layer| layer.ssrc).collect()),
        };
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        let sender = peer.connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await?;
        Ok(Self { kind, ssrcs, track, sender })
    }

    async fn negotiated(self) -> Result<Sender, Error> {
        let parameters = self.sender.get_parameters().await?;
        let codec = parameters.rtp_parameters.codecs.first();
        let codec = codec.ok_or_else(|| Error::Protocol("the answer takes none of the codecs".into()))?;
        let packetizer = |ssrc: &u32| Packetizer::new(self.kind, *ssrc, codec.payload_type);
        Ok(Sender { packetizers: self.ssrcs.iter().map(packetizer).collect(), track: self.track })
    }
}

/// One media stream with one track of each kind, as WHIP wants it.
pub fn local_track(kind: Kind, ssrc: u32) -> MediaStreamTrack {
    let (name, kind, codec): (_, _, RTCRtpCodecParameters) = match kind {
        Kind::Video => ("video", RtpCodecKind::Video, vp8()),
        Kind::Audio => ("audio", RtpCodecKind::Audio, opus()),
    };
    let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() };
    MediaStreamTrack::new("maishou".into(), name.into(), name.into(), kind, vec![encoding(codec, coding)])
}

/// One picture in several sizes, each with a stream of its own and one for what is sent again.
fn layered_track(layers: &[Layer]) -> MediaStreamTrack {
    let coding = |layer: &Layer| RTCRtpCodingParameters {
        rid: layer.rid.into(),
        ssrc: Some(layer.ssrc),
        rtx: Some(RTCRtpRtxParameters { ssrc: layer.rtx_ssrc }),
        ..Default::default()
    };
    let encodings = layers.iter().map(|layer| encoding(vp8(), coding(layer))).collect();
    MediaStreamTrack::new("maishou".into(), "video".into(), "video".into(), RtpCodecKind::Video, encodings)
}

fn encoding(codec: RTCRtpCodecParameters, coding: RTCRtpCodingParameters) -> RTCRtpEncodingParameters {
    RTCRtpEncodingParameters { rtp_coding_parameters: coding, codec: codec.rtp_codec, ..Default::default() }
}
