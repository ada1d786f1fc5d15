//! The client's peer connection: the `webrtc` crate, one socket and task per peer, set up for an ICE-lite server.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};

use rtc::{
    interceptor::{Attribute, Interceptor, Packet, Slot, StreamInfo, TaggedPacket},
    rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind},
    sansio::Protocol,
};
use rtcp::payload_feedbacks::{full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use webrtc::{
    data_channel::DataChannel,
    media_stream::track_remote::TrackRemote,
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder, register_default_interceptors,
    },
};

use crate::client::Error;

pub const VP8_PAYLOAD_TYPE: u8 = 96;
pub const OPUS_PAYLOAD_TYPE: u8 = 111;
/// Tracks and channels that the server opens before anybody looks; more are ignored.
const OPENED_MAX: usize = 8;
/// Without an answer to its checks a peer is disconnected after the first and has failed after both.
const ICE_DISCONNECTED: Duration = Duration::from_secs(3);
const ICE_FAILED: Duration = Duration::from_secs(3);
const ICE_KEEPALIVE: Duration = Duration::from_secs(1);
/// After all of the crate's own interceptors.
const LAST_SLOT: usize = 14_000;

/// What the peer connection is for.
#[derive(Clone, Copy, PartialEq)]
pub enum Purpose {
    /// Sends VP8 and Opus; keyframe requests reach the track.
    Send,
    /// Receives whatever the server has.
    Receive,
}

pub struct Peer {
    pub connection: Connection,
    pub state: watch::Receiver<RTCPeerConnectionState>,
    pub tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
    pub channels: mpsc::Receiver<Arc<dyn DataChannel>>,
    gathered: watch::Receiver<bool>,
}

/// The crate's connection, closed when it is dropped: its task would run on otherwise.
pub struct Connection(Arc<dyn PeerConnection>);

impl std::ops::Deref for Connection {
    type Target = Arc<dyn PeerConnection>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let connection = Arc::clone(&self.0);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { connection.close().await });
        }
    }
}

impl Peer {
    /// A peer with a socket of its own at `local`.
    pub async fn open(local: IpAddr, purpose: Purpose) -> Result<Self, Error> {
        let mut engine = MediaEngine::default();
        match purpose {
            Purpose::Send => register_sent_codecs(&mut engine)?,
            Purpose::Receive => engine.register_default_codecs()?,
        }
        let mut interceptors = register_default_interceptors(Registry::new(), &mut engine)?;
        if purpose == Purpose::Send {
            interceptors = interceptors.with(Slot::from(LAST_SLOT), KeyframeRequests::default());
        }
        let timeouts = SettingEngineBuilder::new()
            .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), Some(ICE_KEEPALIVE))
            .with_include_loopback_candidate(true);

        let (events, state, gathered, tracks, channels) = Events::new();
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(interceptors)
            .with_setting_engine(timeouts.build())
            .with_handler(Arc::new(events))
            .with_udp_addrs(vec![std::net::SocketAddr::new(local, 0)])
            .build()
            .await?;
        Ok(Self { connection: Connection(Arc::new(connection)), state, tracks, channels, gathered })
    }

    /// The offer with all candidates: nothing is trickled.
    pub async fn offer(&mut self, deadline: Duration) -> Result<String, Error> {
        let offer = self.connection.create_offer(None).await?;
        self.connection.set_local_description(offer).await?;
        self.local_sdp(deadline).await
    }

    pub async fn accept(&self, answer: String) -> Result<(), Error> {
        let answer = RTCSessionDescription::answer(answer)?;
        Ok(self.connection.set_remote_description(answer).await?)
    }

    /// Returns when packets can flow both ways.
    pub async fn connected(&mut self, deadline: Duration) -> Result<(), Error> {
        let settled = |state: &RTCPeerConnectionState| *state == RTCPeerConnectionState::Connected || is_over(*state);
        let waited = timeout(deadline, self.state.wait_for(settled)).await;
        let state = *waited.map_err(|_| Error::Timeout("media connection"))?.map_err(|_| Error::Lost)?;
        if is_over(state) { Err(Error::Lost) } else { Ok(()) }
    }

    /// Returns when the connection is gone.
    pub async fn gone(&mut self) {
        gone(&mut self.state).await;
    }

    pub async fn close(&self) {
        let _ = self.connection.close().await;
    }

    pub(super) async fn local_sdp(&mut self, deadline: Duration) -> Result<String, Error> {
        let gathered = timeout(deadline, self.gathered.wait_for(|done| *done)).await;
        drop(gathered.map_err(|_| Error::Timeout("candidates"))?.map_err(|_| Error::Lost)?);
        let local = self.connection.local_description().await.ok_or(Error::Lost)?;
        Ok(local.sdp)
    }
}

/// Returns when a connection of this state is gone.
pub async fn gone(state: &mut watch::Receiver<RTCPeerConnectionState>) {
    let _ = state.wait_for(|state| is_over(*state)).await;
}

fn is_over(state: RTCPeerConnectionState) -> bool {
    matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed)
}

fn register_sent_codecs(engine: &mut MediaEngine) -> Result<(), Error> {
    engine.register_codec(vp8(), RtpCodecKind::Video)?;
    engine.register_codec(opus(), RtpCodecKind::Audio)?;
    Ok(())
}

pub fn vp8() -> RTCRtpCodecParameters {
    let feedback = [("ccm", "fir"), ("nack", ""), ("nack", "pli")];
    let feedback = feedback.map(|(typ, parameter)| RTCPFeedback { typ: typ.into(), parameter: parameter.into() });
    let rtp_codec = RTCRtpCodec {
        mime_type: "video/VP8".into(),
        clock_rate: 90_000,
        rtcp_feedback: feedback.into(),
        ..RTCRtpCodec::default()
    };
    RTCRtpCodecParameters { rtp_codec, payload_type: VP8_PAYLOAD_TYPE }
}

pub fn opus() -> RTCRtpCodecParameters {
    let rtp_codec = RTCRtpCodec {
        mime_type: "audio/opus".into(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
        ..RTCRtpCodec::default()
    };
    RTCRtpCodecParameters { rtp_codec, payload_type: OPUS_PAYLOAD_TYPE }
}

/// Passes the crate's callbacks on; it runs on the connection's own task and never waits.
struct Events {
    state: watch::Sender<RTCPeerConnectionState>,
    gathered: watch::Sender<bool>,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
    channels: mpsc::Sender<Arc<dyn DataChannel>>,
}

type Receivers = (
    Events,
    watch::Receiver<RTCPeerConnectionState>,
    watch::Receiver<bool>,
    mpsc::Receiver<Arc<dyn TrackRemote>>,
    mpsc::Receiver<Arc<dyn DataChannel>>,
);

impl Events {
    fn new() -> Receivers {
        let (state, state_seen) = watch::channel(RTCPeerConnectionState::New);
        let (gathered, gathered_seen) = watch::channel(false);
        let (tracks, tracks_seen) = mpsc::channel(OPENED_MAX);
        let (channels, channels_seen) = mpsc::channel(OPENED_MAX);
        (Self { state, gathered, tracks, channels }, state_seen, gathered_seen, tracks_seen, channels_seen)
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Events {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.state.send_replace(state);
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered.send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let _ = self.tracks.try_send(track);
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let _ = self.channels.try_send(channel);
    }
}

/// Lets keyframe requests through to the track that they are for. Other RTCP was answered by the interceptors before.
#[derive(Default)]
struct KeyframeRequests {
    read: VecDeque<TaggedPacket>,
    written: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for KeyframeRequests {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = webrtc::error::Error;
    type Time = std::time::Instant;

    fn handle_read(&mut self, mut packet: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtcp(reports) = &mut packet.message.packet {
            reports.retain(|report| {
                let report = report.as_any();
                report.is::<PictureLossIndication>() || report.is::<FullIntraRequest>()
            });
            if reports.is_empty() {
                return Ok(());
            }
            packet.message.add(Attribute::DeliverToApplication);
        }
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        self.written.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.written.pop_front()
    }
}

impl Interceptor for KeyframeRequests {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
