//! A publisher and viewers of another implementation's making, through a real server on the loopback.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::timeout,
};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    media_stream::{
        MediaStreamTrack,
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCSessionDescription, Registry, SettingEngineBuilder, SrtpProtectionProfile, register_default_interceptors,
    },
    rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit},
};

use super::*;

mod hostile;
mod late;
mod uplink;

const DEADLINE: Duration = Duration::from_secs(20);
const VIDEO: u8 = 96;
const AUDIO: u8 = 111;
/// One picture of a keyframe, and one of none.
const KEYFRAME: &[u8] = &[0x10, 0x00, 1, 2, 3];
const INTERFRAME: &[u8] = &[0x10, 0x01, 4, 5];

fn room() -> RoomId {
    "room-1".parse().unwrap()
}

/// A server with two workers, so that publisher and viewer are on different ones.
fn server(change: impl FnOnce(&mut Config)) -> (Media, mpsc::Receiver<Event>) {
    let mut config = Config { listen: "127.0.0.1:0".parse().unwrap(), workers: 2, ..Config::default() };
    change(&mut config);
    let (events, heard) = mpsc::channel(256);
    (Media::start(config, events).unwrap(), heard)
}

async fn next_event<T>(events: &mut mpsc::Receiver<Event>, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = wanted(events.recv().await.expect("the server runs")) {
                return found;
            }
        }
    };
    timeout(DEADLINE, search).await.expect("the event comes in time")
}

/// Polls what has no event of its own.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let mut beat = tokio::time::interval(Duration::from_millis(10));
    let check = async {
        while !holds() {
            beat.tick().await;
        }
    };
    timeout(DEADLINE, check).await.unwrap_or_else(|_| panic!("{what}"));
}

struct Client {
    connection: Arc<dyn PeerConnection>,
    gathered: watch::Receiver<bool>,
    tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
    channels: mpsc::Receiver<Arc<dyn DataChannel>>,
}

struct Handler {
    gathered: watch::Sender<bool>,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
    channels: mpsc::Sender<Arc<dyn DataChannel>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
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

fn codec(kind: RtpCodecKind) -> RTCRtpCodecParameters {
    let (mime_type, clock_rate, channels, payload_type) = match kind {
        RtpCodecKind::Audio => ("audio/opus", 48_000, 2, AUDIO),
        _ => ("video/VP8", 90_000, 0, VIDEO),
    };
    let rtp_codec = RTCRtpCodec { mime_type: mime_type.into(), clock_rate, channels, ..Default::default() };
    RTCRtpCodecParameters { rtp_codec, payload_type }
}

impl Client {
    async fn new(profiles: Vec<SrtpProtectionProfile>) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), profiles).await
    }

    async fn at(local: IpAddr, profiles: Vec<SrtpProtectionProfile>) -> Self {
        Self::with_video(codec(RtpCodecKind::Video), local, profiles).await
    }

    async fn with_video(video: RTCRtpCodecParameters, local: IpAddr, profiles: Vec<SrtpProtectionProfile>) -> Self {
        Self::with_interceptors(video, local, profiles, |registry, _| registry).await
    }

    async fn with_interceptors(
        video: RTCRtpCodecParameters,
        local: IpAddr,
        profiles: Vec<SrtpProtectionProfile>,
        add: impl FnOnce(Registry, &mut MediaEngine) -> Registry,
    ) -> Self {
        let mut engine = MediaEngine::default();
        engine.register_codec(video, RtpCodecKind::Video).unwrap();
        engine.register_codec(codec(RtpCodecKind::Audio), RtpCodecKind::Audio).unwrap();
        let interceptors = register_default_interceptors(Registry::new(), &mut engine).unwrap();
        let interceptors = add(interceptors, &mut engine);
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .with_srtp_protection_profiles(profiles)
            .build();
        let (gathered, is_gathered) = watch::channel(false);
        let (track_sender, tracks) = mpsc::channel(4);
        let (channel_sender, channels) = mpsc::channel(4);
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(interceptors)
            .with_setting_engine(settings)
            .with_handler(Arc::new(Handler { gathered, tracks: track_sender, channels: channel_sender }))
            .with_udp_addrs(vec![SocketAddr::new(local, 0)])
            .build()
            .await
            .unwrap();
        Self { connection: Arc::new(connection), gathered: is_gathered, tracks, channels }
    }

    async fn offer(&mut self) -> String {
        let offer = self.connection.create_offer(None).await.unwrap();
        self.connection.set_local_description(offer).await.unwrap();
        drop(timeout(DEADLINE, self.gathered.wait_for(|done| *done)).await.unwrap().unwrap());
        self.connection.local_description().await.unwrap().sdp
    }

    async fn accept(&self, answer: &Answer) {
        let answer = RTCSessionDescription::answer(answer.sdp.clone()).unwrap();
        self.connection.set_remote_description(answer).await.unwrap();
    }
}

/// Profiles that browsers offer, in their order.
fn both_profiles() -> Vec<SrtpProtectionProfile> {
    vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80, SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm]
}

struct Publisher {
    session: SessionId,
    sending: AbortHandle,
    _client: Client,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

/// Publishes picture and sound, a keyframe every half second.
async fn publish(media: &Media, first_sequence: u16) -> Publisher {
    publish_over(media, first_sequence, |answer| answer).await
}

/// The same over a network that `reroute` writes into the answer.
async fn publish_over(media: &Media, first_sequence: u16, reroute: impl FnOnce(String) -> String) -> Publisher {
    publish_from(media, Client::new(both_profiles()).await, first_sequence, reroute).await
}

async fn publish_from(
    media: &Media,
    mut client: Client,
    first_sequence: u16,
    reroute: impl FnOnce(String) -> String,
) -> Publisher {
    let mut senders = Vec::new();
    for (kind, ssrc) in [(RtpCodecKind::Video, 1_111), (RtpCodecKind::Audio, 2_222)] {
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
            codec: codec(kind).rtp_codec,
            ..Default::default()
        };
        let name = format!("{kind}");
        let track = MediaStreamTrack::new("stream".into(), name.clone(), name, kind, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        client.connection.add_track(track.clone() as Arc<dyn TrackLocal>).await.unwrap();
        senders.push((track, ssrc));
    }
    let offer = client.offer().await;
    let mut answer = media.publish(&room(), &offer).await.unwrap();
    answer.sdp = reroute(answer.sdp);
    client.accept(&answer).await;

    let sending = tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        for step in 0u32.. {
            beat.tick().await;
            let picture = if step % 25 == 0 { KEYFRAME } else { INTERFRAME };
            for ((track, ssrc), (payload_type, payload, ticks)) in
                senders.iter().zip([(VIDEO, picture, 1_800), (AUDIO, &b"sound"[..], 960)])
            {
                let header = rtp::Header {
                    version: 2,
                    marker: payload_type == VIDEO,
                    payload_type,
                    sequence_number: first_sequence.wrapping_add(step as u16),
                    timestamp: step.wrapping_mul(ticks),
                    ssrc: *ssrc,
                    ..Default::default()
                };
                let packet = rtp::Packet { header, payload: Bytes::copy_from_slice(payload) };
                // Before the connection stands there is nowhere to write to.
                let _ = track.write_rtp(packet).await;
            }
        }
    });
    Publisher { session: answer.session, sending: sending.abort_handle(), _client: client }
}

struct Viewer {
    session: SessionId,
    client: Client,
    /// Tracks that came and were not asked for yet.
    tracks: Vec<(RtpCodecKind, Arc<dyn TrackRemote>)>,
}

async fn watch(media: &Media, profiles: Vec<SrtpProtectionProfile>) -> Viewer {
    watch_over(media, Client::new(profiles).await, |answer| answer).await
}

/// The same over a network that `reroute` writes into the answer.
async fn watch_over(media: &Media, mut client: Client, reroute: impl FnOnce(String) -> String) -> Viewer {
    for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
        let init = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
        client.connection.add_transceiver_from_kind(kind, Some(init)).await.unwrap();
    }
    client.connection.create_data_channel("spare", None).await.unwrap();
    let offer = client.offer().await;
    let mut answer = media.watch(&room(), &offer).await.unwrap();
    answer.sdp = reroute(answer.sdp);
    client.accept(&answer).await;
    Viewer { session: answer.session, client, tracks: Vec::new() }
}

/// Every packet of one kind of track, as it comes.
async fn packets_of(viewer: &mut Viewer, kind: RtpCodecKind) -> mpsc::Receiver<rtp::Packet> {
    let (sender, packets) = mpsc::channel(1024);
    let track = loop {
        if let Some(place) = viewer.tracks.iter().position(|(of, _)| *of == kind) {
            break viewer.tracks.swap_remove(place).1;
        }
        let track = timeout(DEADLINE, viewer.client.tracks.recv()).await.expect("the track comes in time");
        let track = track.expect("the client runs");
        viewer.tracks.push((track.kind().await, track));
    };
    tokio::spawn(async move {
        while let Some(event) = track.poll().await {
            if let TrackRemoteEvent::OnRtpPacket(packet) = event
                && sender.send(packet).await.is_err()
            {
                return;
            }
        }
    });
    packets
}

async fn take(packets: &mut mpsc::Receiver<rtp::Packet>, count: usize) -> Vec<rtp::Packet> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(timeout(DEADLINE, packets.recv()).await.expect("packets come in time").expect("the track runs"));
    }
    taken
}

fn is_gapless(packets: &[rtp::Packet]) -> bool {
    packets.windows(2).all(|pair| pair[1].header.sequence_number == pair[0].header.sequence_number.wrapping_add(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn picture_and_sound_arrive_from_a_keyframe_on() {
    let (media, mut events) = server(|_| {});
    let publisher = publish(&media, 65_000).await;
    assert_eq!(media.publisher(&room()), Some(publisher.session));
    let mut viewer = watch(&media, both_profiles()).await;

    let tracks = next_event(&mut events, |event| match event {
        Event::Live { tracks, session, .. } if session == publisher.session => Some(tracks),
        _ => None,
    });
    let mut names: Vec<_> = tracks.await.iter().map(|track| track.codec).collect();
    names.sort_unstable();
    assert_eq!(names, ["VP8", "opus"]);

    // Enough for the publisher's sequence numbers to wrap.
    let mut video = packets_of(&mut viewer, RtpCodecKind::Video).await;
    let got = take(&mut video, 120).await;
    assert_eq!(got[0].payload, KEYFRAME);
    assert!(is_gapless(&got));
    assert!(got.iter().all(|packet| packet.header.payload_type == VIDEO && packet.header.extensions.is_empty()));
    let mut audio = packets_of(&mut viewer, RtpCodecKind::Audio).await;
    assert!(take(&mut audio, 20).await.iter().all(|packet| packet.payload == b"sound"[..]));

    assert!(media.is_live(&room()) && media.media_time(&room()).is_some_and(|ms| ms > 500));
    until("counts are published", || media.stats().packets_out >= 140).await;
    let stats = media.stats();
    assert_eq!((stats.peers, stats.joins, stats.handshake_failures), (2, 2, 0));
    assert_eq!((stats.dropped["number_reused"], stats.dropped["panicked"], stats.dropped["not_authentic"]), (0, 0, 0));
    media.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_without_gcm_gets_aes_cm() {
    let (media, _events) = server(|_| {});
    let _publisher = publish(&media, 1).await;
    let mut viewer = watch(&media, vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80]).await;
    let mut video = packets_of(&mut viewer, RtpCodecKind::Video).await;
    assert!(is_gapless(&take(&mut video, 20).await));
    media.shutdown();
}

/// A channel needs a path both ways: a check that was answered, and a handshake over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_connect_however_the_server_listens() {
    let ways = [
        ("0.0.0.0:0", Some("127.0.0.1"), "127.0.0.1"),
        ("[::1]:0", None, "::1"),
        ("[::]:0", Some("127.0.0.1"), "127.0.0.1"),
    ];
    for (listen, candidate, local) in ways {
        let (media, mut events) = server(|config| {
            config.listen = listen.parse().unwrap();
            config.candidates = candidate.iter().map(|candidate| candidate.parse().unwrap()).collect();
        });
        let mut client = Client::at(local.parse().unwrap(), both_profiles()).await;
        client.connection.create_data_channel("spare", None).await.unwrap();
        let offer = client.offer().await;
        let answer = media.watch(&room(), &offer).await.unwrap();
        client.accept(&answer).await;
        next_event(&mut events, |event| matches!(event, Event::ChannelOpen { .. }).then_some(())).await;
        media.shutdown();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_publisher_takes_over_and_viewers_go_on() {
    let (media, mut events) = server(|_| {});
    let first = publish(&media, 500).await;
    let mut viewer = watch(&media, both_profiles()).await;
    let mut video = packets_of(&mut viewer, RtpCodecKind::Video).await;
    let mut got = take(&mut video, 20).await;

    let second = publish(&media, 40_000).await;
    assert_eq!(media.publisher(&room()), Some(second.session));
    let closed = |event| {
        matches!(event, Event::Closed { session, publisher: true, .. } if session == first.session).then_some(())
    };
    next_event(&mut events, closed).await;
    let live = |event| matches!(event, Event::Live { session, .. } if session == second.session).then_some(());
    next_event(&mut events, live).await;

    while got.iter().filter(|packet| packet.payload == KEYFRAME).count() < 4 {
        got.extend(take(&mut video, 10).await);
    }
    assert!(is_gapless(&got));
    assert!(got.iter().all(|packet| packet.header.ssrc == got[0].header.ssrc));
    media.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_channel_carries_texts_both_ways() {
    let (media, mut events) = server(|_| {});
    let mut viewer = watch(&media, both_profiles()).await;
    assert_eq!(media.send(viewer.session, "too early".into()), Err(ChannelFull));
    let open = |event| matches!(event, Event::ChannelOpen { session, .. } if session == viewer.session).then_some(());
    next_event(&mut events, open).await;

    let channel = timeout(DEADLINE, viewer.client.channels.recv()).await.unwrap().unwrap();
    assert_eq!(channel.label().await.unwrap(), "room");
    let long = "x".repeat(15_000);
    channel.send_text("hello").await.unwrap();
    channel.send_text(&long).await.unwrap();
    for expected in ["hello", &long] {
        let text = |event| if let Event::ChannelText { text, .. } = event { Some(text) } else { None };
        let text = next_event(&mut events, text).await;
        assert_eq!(text, expected.as_bytes());
        media.send(viewer.session, text).unwrap();
    }

    let mut echoed = Vec::new();
    while echoed.len() < 2 {
        match timeout(DEADLINE, channel.poll()).await.expect("the echo comes in time") {
            Some(DataChannelEvent::OnMessage(message)) => echoed.push(message.data.len()),
            Some(_) => {}
            None => panic!("the channel ended"),
        }
    }
    assert_eq!(echoed, [5, 15_000]);
    assert_eq!(media.send(viewer.session, vec![b'x'; TEXT_BYTES_MAX + 1].into()), Err(ChannelFull));
    media.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_reads_nothing_is_told_full() {
    let (media, mut events) = server(|config| config.channel_backlog_bytes_max = 100_000);
    let viewer = watch(&media, both_profiles()).await;
    next_event(&mut events, |event| matches!(event, Event::ChannelOpen { .. }).then_some(())).await;
    viewer.client.connection.close().await.unwrap();
    let text = Bytes::from(vec![b'x'; 10_000]);
    let taken = (0..1_000).filter(|_| media.send(viewer.session, text.clone()).is_ok()).count();
    assert!(taken <= 10, "{taken} texts were taken");
    media.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_once() {
    let (media, mut events) = server(|_| {});
    let publisher = publish(&media, 1).await;
    next_event(&mut events, |event| matches!(event, Event::Live { .. }).then_some(())).await;
    assert!(media.candidate(publisher.session, "a=end-of-candidates\r\n").await.is_ok());
    assert!(media.leave(publisher.session));
    assert!(!media.leave(publisher.session));
    assert_eq!(media.publisher(&room()), None);
    assert!(matches!(media.candidate(publisher.session, "a=end-of-candidates").await, Err(Error::Unknown)));

    next_event(&mut events, |event| matches!(event, Event::Ended { .. }).then_some(())).await;
    next_event(&mut events, |event| matches!(event, Event::Closed { publisher: true, .. }).then_some(())).await;
    until("the seat is given back", || media.stats().peers == 0).await;
    media.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_says_goodbye_to_everybody() {
    let (media, mut events) = server(|_| {});
    let viewer = watch(&media, both_profiles()).await;
    next_event(&mut events, |event| matches!(event, Event::ChannelOpen { .. }).then_some(())).await;
    media.shutdown();
    let closed = |event| matches!(event, Event::Closed { session, .. } if session == viewer.session).then_some(());
    next_event(&mut events, closed).await;
    let offer = viewer.client.connection.local_description().await.unwrap().sdp;
    assert!(matches!(media.watch(&room(), &offer).await, Err(Error::Io(_))));
    drop(media);
    assert!(events.recv().await.is_none(), "the workers are gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_and_a_peer_that_never_comes_is_closed() {
    let (media, mut events) = server(|config| {
        config.peers_max = 1;
        config.handshake_seconds = 1;
    });
    let offer = Client::new(both_profiles()).await;
    offer.connection.create_data_channel("spare", None).await.unwrap();
    let offer = { offer }.offer().await;
    let first = media.watch(&room(), &offer).await.unwrap();
    assert!(matches!(media.watch(&room(), &offer).await, Err(Error::Full)));
    let closed = |event| matches!(event, Event::Closed { session, .. } if session == first.session).then_some(());
    next_event(&mut events, closed).await;
    until("the failure is counted", || media.stats().handshake_failures == 1).await;
    assert!(media.watch(&room(), &offer).await.is_ok());
    media.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_with_another_certificate_is_closed() {
    let (media, mut events) = server(|_| {});
    let mut client = Client::new(both_profiles()).await;
    client.connection.create_data_channel("spare", None).await.unwrap();
    let offer = client.offer().await;
    let digits = offer.split("sha-256 ").nth(1).unwrap().split_whitespace().next().unwrap();
    let other: String = digits.chars().map(|digit| if digit == 'A' { 'B' } else { digit }).collect();
    assert_ne!(digits, other);
    let answer = media.watch(&room(), &offer.replace(digits, &other)).await.unwrap();
    client.accept(&answer).await;
    let closed = |event| matches!(event, Event::Closed { session, .. } if session == answer.session).then_some(());
    next_event(&mut events, closed).await;
    until("the failure is counted", || media.stats().handshake_failures == 1).await;
    assert_eq!(media.stats().joins, 0);
    media.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_on_the_port_harms_nobody() {
    let (media, _events) = server(|_| {});
    let _publisher = publish(&media, 1).await;
    let mut viewer = watch(&media, both_profiles()).await;
    let mut video = packets_of(&mut viewer, RtpCodecKind::Video).await;
    take(&mut video, 5).await;

    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for address in media.listening() {
        for first in 0..=255u8 {
            for len in [0, 1, 12, 20, 60, 1_400] {
                let datagram: Vec<u8> = std::iter::once(first).chain(rand::random_iter()).take(len).collect();
                stranger.send_to(&datagram, address).unwrap();
            }
        }
    }
    assert!(is_gapless(&take(&mut video, 30).await));
    until("the noise is counted", || media.stats().dropped["unknown_datagram"] > 1_000).await;
    assert_eq!(media.stats().dropped["panicked"], 0);
    media.shutdown();
}
