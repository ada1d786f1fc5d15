//! The client's peer connection: the `webrtc` crate, one socket and task per peer, set up for an ICE-lite server.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rtc::{
    interceptor::{NackGeneratorBuilder, NackResponderBuilder, ReceiverReportBuilder, SenderReportBuilder, Slot},
    peer_connection::configuration::interceptor_registry::{
        configure_simulcast_extension_headers, configure_twcc_receiver_only,
    },
    peer_connection::transport::RTCDtlsTransportState,
    rtp_transceiver::rtp_sender::{RTCPFeedback, RtpCodecKind},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use webrtc::{
    data_channel::DataChannel,
    media_stream::track_remote::TrackRemote,
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder, transport::DtlsTransport,
    },
};

use crate::client::{
    Error,
    codec::Codec,
    keyframes::KeyframeRequests,
    layers::{Layer, LayerNames},
    repairs::Repairs,
};

/// Tracks and channels that the server opens before anybody looks; more are ignored.
const OPENED_MAX: usize = 8;
/// Bytes sent on a data channel and not yet acknowledged; full: the sender waits.
const CHANNEL_BUFFER_LEN_MAX: usize = 256 << 10;
/// How often a candidate pair is checked before it works, and how often in all.
const ICE_CHECK_INTERVAL: Duration = Duration::from_millis(25);
const ICE_CHECKS_MAX: u16 = 120;
/// How soon a server's goodbye is noticed: the crate reports it in a state, not in an event.
const GOODBYE_INTERVAL: Duration = Duration::from_millis(250);
/// Without an answer to its checks a peer is disconnected after the first and has failed after both.
const ICE_DISCONNECTED: Duration = Duration::from_secs(3);
const ICE_FAILED: Duration = Duration::from_secs(3);
const ICE_KEEPALIVE: Duration = Duration::from_secs(1);

/// How often a lost packet is asked for, and how often in all.
const NACK_INTERVAL: Duration = Duration::from_millis(50);
const NACKS_MAX: u16 = 10;
/// Just nearer to the wire than [`Repairs`].
const RAW_REPORTS_SLOT: usize = 6_400;

/// What the peer connection is for.
#[derive(Clone, PartialEq)]
pub enum Purpose {
    /// Sends a picture of this codec, in these layers if any are named, and Opus; keyframe requests reach the track.
    Send(Codec, Vec<Layer>),
    /// Receives whatever the server has.
    Receive,
}

pub struct Peer {
    pub connection: Connection,
    state: watch::Receiver<RTCPeerConnectionState>,
    pub tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
    pub channels: mpsc::Receiver<Arc<dyn DataChannel>>,
    gathered: watch::Receiver<bool>,
    gone: CancellationToken,
    video_mid: Arc<OnceLock<String>>,
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
        match &purpose {
            Purpose::Send(picture, layers) => register_sent_codecs(&mut engine, *picture, !layers.is_empty())?,
            Purpose::Receive => engine.register_default_codecs()?,
        }
        let mut interceptors = interceptors(&mut engine)?;
        let mid = Arc::new(OnceLock::new());
        if let Purpose::Send(_, layers) = purpose {
            interceptors = interceptors.with(KeyframeRequests::slot(), KeyframeRequests::default());
            if !layers.is_empty() {
                interceptors = interceptors.with(LayerNames::slot(), LayerNames::new(layers, mid.clone()));
            }
        }
        let timeouts = SettingEngineBuilder::new()
            .with_ice_timeouts(Some(ICE_DISCONNECTED), Some(ICE_FAILED), Some(ICE_KEEPALIVE))
            .with_ice_connection_attempts(Some(ICE_CHECK_INTERVAL), Some(ICE_CHECKS_MAX))
            .with_include_loopback_candidate(true);

        let (events, state, gathered, tracks, channels) = Events::new();
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(interceptors)
            .with_setting_engine(timeouts.build())
            .with_handler(Arc::new(events))
            .with_data_channel_send_buffer_limit(CHANNEL_BUFFER_LEN_MAX)
            .with_udp_addrs(vec![std::net::SocketAddr::new(local, 0)])
            .build()
            .await?;
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        let gone = CancellationToken::new();
        tokio::spawn(watch_over(Arc::clone(&connection), state.clone(), gone.clone()));
        Ok(Self { connection: Connection(connection), state, tracks, channels, gathered, gone, video_mid: mid })
    }

    /// The offer with all candidates: nothing is trickled.
    pub async fn offer(&mut self, deadline: Duration) -> Result<String, Error> {
        let offer = self.connection.create_offer(None).await?;
        self.connection.set_local_description(offer).await?;
        let sdp = self.local_sdp(deadline).await?;
        if let Some(mid) = mid_of_video(&sdp) {
            let _ = self.video_mid.set(mid.to_owned());
        }
        Ok(sdp)
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

    /// Cancelled when the connection has failed or one of the sides has closed it.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
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

/// Tells when a connection is gone, and ends then; a [`Connection`] that is dropped is closed, and so gone.
async fn watch_over(
    connection: Arc<dyn PeerConnection>,
    mut state: watch::Receiver<RTCPeerConnectionState>,
    gone: CancellationToken,
) {
    while !said_goodbye(&connection).await {
        let over = state.wait_for(|state| is_over(*state));
        if timeout(GOODBYE_INTERVAL, over).await.is_ok() {
            break;
        }
    }
    gone.cancel();
}

/// Whether the other side has ended the DTLS connection that all media and data run over.
async fn said_goodbye(connection: &Arc<dyn PeerConnection>) -> bool {
    let Some(dtls) = dtls_of(connection).await else { return false };
    matches!(dtls.state().await, Ok(RTCDtlsTransportState::Closed | RTCDtlsTransportState::Failed))
}

/// All tracks share one; there is none before the answer.
async fn dtls_of(connection: &Arc<dyn PeerConnection>) -> Option<Arc<dyn DtlsTransport>> {
    for receiver in connection.get_receivers().await {
        if let Ok(Some(dtls)) = receiver.transport().await {
            return Some(dtls);
        }
    }
    for sender in connection.get_senders().await {
        if let Ok(Some(dtls)) = sender.transport().await {
            return Some(dtls);
        }
    }
    None
}

fn is_over(state: RTCPeerConnectionState) -> bool {
    matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed)
}

/// Reports, repair of losses both ways and transport-wide feedback: what the crate registers by itself, with receiver
/// reports nearer to the wire than what puts repaired packets back.
fn interceptors(engine: &mut MediaEngine) -> Result<Registry, Error> {
    for parameter in ["", "pli"] {
        let feedback = RTCPFeedback { typ: "nack".into(), parameter: parameter.into() };
        engine.register_feedback(feedback, RtpCodecKind::Video);
    }
    configure_simulcast_extension_headers(engine)?;
    let registry = configure_twcc_receiver_only(Registry::new(), engine)?;
    let requests = NackGeneratorBuilder::new().with_interval(NACK_INTERVAL).with_max_nacks_per_packet(NACKS_MAX);
    Ok(registry
        .with(Slot::NackResponder, NackResponderBuilder::new().build())
        .with(Slot::from(RAW_REPORTS_SLOT), ReceiverReportBuilder::new().build())
        .with(Repairs::slot(), Repairs::default())
        .with(Slot::NackGenerator, requests.build())
        .with(Slot::SenderReport, SenderReportBuilder::new().build()))
}

/// The name of the first section with a picture.
fn mid_of_video(sdp: &str) -> Option<&str> {
    let section = &sdp[sdp.find("m=video")?..];
    section.lines().find_map(|line| line.trim_end().strip_prefix("a=mid:"))
}

fn register_sent_codecs(engine: &mut MediaEngine, picture: Codec, with_layers: bool) -> Result<(), Error> {
    for codec in [picture, Codec::Opus] {
        engine.register_codec(codec.parameters(), codec.kind())?;
    }
    if with_layers {
        engine.register_codec(picture.repair(), picture.kind())?;
    }
    Ok(())
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
