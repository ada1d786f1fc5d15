//! The same forwarding by libraries, each in a process of its own that takes the show as plain RTP and viewers by WHEP:
//! here the `webrtc` crate's tracks, a connection with a socket and a task for each viewer.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use maishou_loadtest::{
    rtc::{Feed, Plan, Shape, Whep},
    server::{Child, free_address},
};
use rtc::{
    peer_connection::transport::RTCDtlsRole,
    rtp_transceiver::rtp_sender::{
        RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
        RtpCodecKind,
    },
};
use shared::marshal::Unmarshal as _;
use tokio::{
    net::UdpSocket,
    sync::{broadcast, watch},
    task::LocalSet,
    time::timeout,
};
use webrtc::{
    media_stream::{
        MediaStreamTrack,
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder, register_default_interceptors,
    },
};

use crate::{
    Options,
    measure::{CORE, gather, rounds, tell},
    offers,
};

const PACKETS_WAITING: usize = 1_024;
const GATHERING: Duration = Duration::from_secs(5);
pub const VIDEO: u8 = 96;
pub const AUDIO: u8 = 111;
/// More viewers than these they do not hold on a core.
const TRACKS_MAX: usize = 200;
const WRITES_MAX: usize = 400;

/// Both, one after the other.
pub fn compare(options: &Options, viewers: usize) -> anyhow::Result<()> {
    for (rival, title, most) in [("webrtc", "webrtc tracks", TRACKS_MAX), ("rtc", "rtc write path", WRITES_MAX)] {
        if let Err(error) = measure(options, rival, title, viewers.min(most)) {
            println!("  {title}: {error:#}");
        }
    }
    Ok(())
}

fn measure(options: &Options, rival: &str, title: &str, viewers: usize) -> anyhow::Result<f64> {
    let (address, feed) = (free_address()?, free_address()?);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--rival", rival, "--address", &address.to_string(), "--feed", &feed.to_string()]);
    let mut server = Child::start_on(CORE, &mut command)?;
    server.wait_for(address)?;
    let _feed = Feed::start(Shape::default(), feed, feed)?;
    let door = Whep::new(address, &"hall".parse()?, vec!["none".to_owned()]);
    let mut plan = Plan::new(Arc::new(door), address.ip(), viewers);
    plan.arrivals_per_second = 50.0;
    let audience = gather(plan)?;
    let figure = tell(&format!("{title}, {viewers} viewers"), &rounds(options, &server, &audience)?);
    audience.stop()?;
    Ok(figure)
}

/// The child.
pub fn serve(address: SocketAddr, feed: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (show, _) = broadcast::channel(PACKETS_WAITING);
        let socket = UdpSocket::bind(feed).await?;
        tokio::spawn(read(socket, show.clone()));
        let answer = async move |offer: String| watch(offer, show.clone()).await;
        LocalSet::new().run_until(offers::serve(address, answer)).await
    })
}

async fn read(socket: UdpSocket, show: broadcast::Sender<rtp::Packet>) {
    let mut buffer = [0; 2_048];
    while let Ok(len) = socket.recv(&mut buffer).await {
        if let Ok(packet) = rtp::Packet::unmarshal(&mut Bytes::copy_from_slice(&buffer[..len])) {
            // Before the first viewer nobody listens.
            let _ = show.send(packet);
        }
    }
}

struct Handler {
    gathered: watch::Sender<bool>,
    connected: watch::Sender<bool>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        self.gathered.send_replace(state == RTCIceGatheringState::Complete);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.connected.send_replace(state == RTCPeerConnectionState::Connected);
    }
}

async fn watch(offer: String, show: broadcast::Sender<rtp::Packet>) -> anyhow::Result<String> {
    let mut engine = MediaEngine::default();
    for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
        engine.register_codec(codec(kind), kind)?;
    }
    let interceptors = register_default_interceptors(Registry::new(), &mut engine)?;
    let settings = SettingEngineBuilder::new()
        .with_lite(true)
        .with_include_loopback_candidate(true)
        .with_answering_dtls_role(RTCDtlsRole::Server)
        .build();
    let (gathered, mut is_gathered) = watch::channel(false);
    let (connected, mut is_connected) = watch::channel(false);
    let connection = PeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_interceptor_registry(interceptors)
        .with_setting_engine(settings)
        .with_handler(Arc::new(Handler { gathered, connected }))
        .with_udp_addrs(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])
        .build()
        .await?;
    let connection: Arc<dyn PeerConnection> = Arc::new(connection);
    let mut tracks = Vec::new();
    for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
        let ssrc = rand::random::<u32>() | 1;
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
            codec: codec(kind).rtp_codec,
            ..Default::default()
        };
        let name = format!("{kind}");
        let track = MediaStreamTrack::new("show".into(), name.clone(), name, kind, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        connection.add_track(track.clone() as Arc<dyn TrackLocal>).await?;
        tracks.push((track, ssrc));
    }
    connection.set_remote_description(RTCSessionDescription::offer(offer)?).await?;
    let answer = connection.create_answer(None).await?;
    connection.set_local_description(answer).await?;
    timeout(GATHERING, is_gathered.wait_for(|done| *done)).await??;
    let answer = connection.local_description().await.context("no answer")?.sdp;

    tokio::spawn(async move {
        if is_connected.wait_for(|done| *done).await.is_err() {
            return;
        }
        let mut show = show.subscribe();
        loop {
            let mut packet = match show.recv().await {
                Ok(packet) => packet,
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => return,
            };
            let (track, ssrc) = &tracks[usize::from(packet.header.payload_type == AUDIO)];
            packet.header.ssrc = *ssrc;
            if track.write_rtp(packet).await.is_err() {
                let _ = connection.close().await;
                return;
            }
        }
    });
    Ok(answer)
}

pub fn codec(kind: RtpCodecKind) -> RTCRtpCodecParameters {
    let (mime_type, clock_rate, channels, payload_type) = match kind {
        RtpCodecKind::Audio => ("audio/opus", 48_000, 2, AUDIO),
        _ => ("video/VP8", 90_000, 0, VIDEO),
    };
    let feedback = if kind == RtpCodecKind::Video { vec![("nack", ""), ("nack", "pli")] } else { Vec::new() };
    let rtcp_feedback =
        feedback.into_iter().map(|(typ, parameter)| RTCPFeedback { typ: typ.into(), parameter: parameter.into() });
    let rtp_codec = RTCRtpCodec {
        mime_type: mime_type.into(),
        clock_rate,
        channels,
        rtcp_feedback: rtcp_feedback.collect(),
        ..Default::default()
    };
    RTCRtpCodecParameters { rtp_codec, payload_type }
}
