//! WHIP as an anchor does it: an offer with one picture and one sound, and the session that it becomes.

use std::sync::Arc;

use hyper::Method;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
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
        Clip, Config, Error, Http,
        codec::Codec,
        layers::Layer,
        link::full_jitter,
        peer::{Peer, Purpose},
        playback::Packetizer,
    },
    id::RoomId,
    protocol::Snapshot,
};

/// How sessions are opened and ended.
pub struct Publisher {
    http: Http,
    room: RoomId,
    token: String,
    picture: Codec,
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
    /// For sessions that carry what the clip has.
    pub fn new(http: Http, room: RoomId, token: String, clip: &Clip) -> Self {
        Self { http, room, token, picture: clip.codec, layers: clip.layer_names(), has_audio: !clip.audio.is_empty() }
    }

    pub fn config(&self) -> &Config {
        self.http.config()
    }

    /// Opens a session, in place of whoever publishes in the room, and returns when packets can flow.
    pub async fn open(&self) -> Result<Session, Error> {
        let config = self.http.config();
        let local = self.http.server().local_ip(config).await?;
        let layers: Vec<Layer> = self.layers.iter().map(|rid| Layer::new(rid)).collect();
        let mut peer = Peer::open(local, Purpose::Send(self.picture, layers.clone())).await?;
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
        let video = Sending::add(peer, self.picture, layers).await?;
        let audio = if self.has_audio { Some(Sending::add(peer, Codec::Opus, vec![]).await?) } else { None };

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
    codec: Codec,
    ssrcs: Vec<u32>,
    track: Arc<TrackLocalStaticRTP>,
    sender: Arc<dyn RtpSender>,
}

impl Sending {
    async fn add(peer: &Peer, codec: Codec, layers: Vec<Layer>) -> Result<Self, Error> {
        let (track, ssrcs) = match layers.is_empty() {
            true => {
                let ssrc = rand::random();
                (local_track(codec, ssrc), vec![ssrc])
            }
            false => (layered_track(codec, &layers), layers.iter().map(|layer| layer.ssrc).collect()),
        };
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        let sender = peer.connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await?;
        Ok(Self { codec, ssrcs, track, sender })
    }

    async fn negotiated(self) -> Result<Sender, Error> {
        let parameters = self.sender.get_parameters().await?;
        let agreed = parameters.rtp_parameters.codecs.first();
        let agreed = agreed.ok_or_else(|| Error::Protocol("the answer takes none of the codecs".into()))?;
        let packetizer = |ssrc: &u32| Packetizer::new(self.codec, *ssrc, agreed.payload_type);
        Ok(Sender { packetizers: self.ssrcs.iter().map(packetizer).collect(), track: self.track })
    }
}

/// One media stream with one track of each kind, as WHIP wants it.
pub fn local_track(codec: Codec, ssrc: u32) -> MediaStreamTrack {
    let name = if codec.kind() == RtpCodecKind::Audio { "audio" } else { "video" };
    let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() };
    MediaStreamTrack::new("maishou".into(), name.into(), name.into(), codec.kind(), vec![encoding(codec, coding)])
}

/// One picture in several sizes, each with a stream of its own and one for what is sent again.
fn layered_track(codec: Codec, layers: &[Layer]) -> MediaStreamTrack {
    let coding = |layer: &Layer| RTCRtpCodingParameters {
        rid: layer.rid.into(),
        ssrc: Some(layer.ssrc),
        rtx: Some(RTCRtpRtxParameters { ssrc: layer.rtx_ssrc }),
        ..Default::default()
    };
    let encodings = layers.iter().map(|layer| encoding(codec, coding(layer))).collect();
    MediaStreamTrack::new("maishou".into(), "video".into(), "video".into(), codec.kind(), encodings)
}

fn encoding(codec: Codec, coding: RTCRtpCodingParameters) -> RTCRtpEncodingParameters {
    let codec = codec.parameters().rtp_codec;
    RTCRtpEncodingParameters { rtp_coding_parameters: coding, codec, ..Default::default() }
}
