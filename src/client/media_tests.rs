//! Anchor and watcher against the smallest server that can answer them: one publisher, forwarded to every watcher.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::{delete, get, post},
};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use tokio::sync::broadcast;
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    media_stream::track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
    media_stream::track_remote::{TrackRemote, TrackRemoteEvent},
    peer_connection::RTCSessionDescription,
};

use super::{
    clip::tests::{ivf, ogg},
    codec::Codec,
    peer::{Connection, Peer, Purpose},
    playback::Kind,
    publisher::local_track,
    *,
};

const SOON: Duration = Duration::from_secs(20);
const SNAPSHOT: &str = r#"{"snapshot":{"room":"r","epoch":"e","seq":5,"show":{"running":true,"started_at":1,
    "title":"t"},"shelf":[],"stock":{},"pinned":null,"pinned_comment":null,"media":{"live":false,"tracks":[]},
    "slow_mode":0,"tally":{"viewers":1,"likes":0},"comments":[]}}"#;

#[derive(Clone)]
struct Relay {
    packets: broadcast::Sender<(Kind, rtp::Packet)>,
    sessions: Arc<Mutex<HashMap<String, Arc<Connection>>>>,
    deleted: Arc<Mutex<Vec<String>>>,
    /// The publisher's latest video track.
    video: Arc<Mutex<Option<Arc<dyn TrackRemote>>>>,
    /// What the room's snapshot says.
    is_live: Arc<AtomicBool>,
}

impl Relay {
    async fn start() -> (Self, Server) {
        let (packets, sessions) = (broadcast::channel(4_096).0, Arc::default());
        let relay = Self { packets, sessions, deleted: Arc::default(), video: Arc::default(), is_live: Arc::default() };
        let app = Router::new()
            .route("/whip/r", post(publish))
            .route("/whep/r", post(watch))
            .route("/{kind}/r/{session}", delete(end))
            .route("/v1/rooms/r", get(room))
            .with_state(relay.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::at(listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (relay, server)
    }

    fn keep(&self, kind: &str, peer: Connection, sdp: String) -> impl IntoResponse + use<> {
        let mut sessions = self.sessions.lock().unwrap();
        let location = format!("/{kind}/r/{}", sessions.len());
        sessions.insert(location.clone(), Arc::new(peer));
        (StatusCode::CREATED, [(header::LOCATION, location)], sdp)
    }

    fn publisher(&self) -> Option<Arc<Connection>> {
        self.sessions
            .lock()
            .unwrap()
            .iter()
            .find(|(path, _)| path.starts_with("/whip"))
            .map(|(_, peer)| Arc::clone(peer))
    }
}

async fn publish(State(relay): State<Relay>, offer: String) -> impl IntoResponse {
    let mut peer = Peer::open([127, 0, 0, 1].into(), Purpose::Receive).await.unwrap();
    let sdp = answer(&mut peer, offer).await;
    let (mut tracks, packets, video) = (peer.tracks, relay.packets.clone(), Arc::clone(&relay.video));
    tokio::spawn(async move {
        while let Some(track) = tracks.recv().await {
            let packets = packets.clone();
            let kind = if track.kind().await == RtpCodecKind::Video { Kind::Video } else { Kind::Audio };
            if kind == Kind::Video {
                *video.lock().unwrap() = Some(Arc::clone(&track));
            }
            tokio::spawn(async move {
                while let Some(event) = track.poll().await {
                    if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                        let _ = packets.send((kind, packet));
                    }
                }
            });
        }
    });
    relay.keep("whip", peer.connection, sdp)
}

async fn watch(State(relay): State<Relay>, offer: String) -> impl IntoResponse {
    let with_room = offer.contains("m=application");
    let mut peer = Peer::open([127, 0, 0, 1].into(), Purpose::Send(Codec::Vp8, vec![])).await.unwrap();
    let video = Arc::new(TrackLocalStaticRTP::new(local_track(Codec::Vp8, 11)));
    let audio = Arc::new(TrackLocalStaticRTP::new(local_track(Codec::Opus, 22)));
    peer.connection.add_track(Arc::clone(&video) as Arc<dyn TrackLocal>).await.unwrap();
    peer.connection.add_track(Arc::clone(&audio) as Arc<dyn TrackLocal>).await.unwrap();
    let sdp = answer(&mut peer, offer).await;
    if with_room {
        let channel = peer.connection.create_data_channel("room", None).await.unwrap();
        tokio::spawn(serve_channel(channel));
    }
    let mut packets = relay.packets.subscribe();
    tokio::spawn(async move {
        while let Ok((kind, mut packet)) = packets.recv().await {
            let (track, ssrc) = if kind == Kind::Video { (&video, 11) } else { (&audio, 22) };
            packet.header.ssrc = ssrc;
            packet.header.extension = false;
            packet.header.extensions.clear();
            let _ = track.write_rtp(packet).await;
        }
    });
    relay.keep("whep", peer.connection, sdp)
}

async fn room(State(relay): State<Relay>) -> String {
    let mut snapshot: serde_json::Value = serde_json::from_str(SNAPSHOT).unwrap();
    snapshot["snapshot"]["media"]["live"] = relay.is_live.load(Relaxed).into();
    snapshot["snapshot"].to_string()
}

async fn end(State(relay): State<Relay>, Path((kind, session)): Path<(String, String)>) -> StatusCode {
    let path = format!("/{kind}/r/{session}");
    let peer = relay.sessions.lock().unwrap().remove(&path);
    relay.deleted.lock().unwrap().push(path);
    match peer {
        Some(peer) => {
            let _ = peer.close().await;
            StatusCode::OK
        }
        None => StatusCode::NOT_FOUND,
    }
}

async fn answer(peer: &mut Peer, offer: String) -> String {
    peer.connection.set_remote_description(RTCSessionDescription::offer(offer).unwrap()).await.unwrap();
    let answer = peer.connection.create_answer(None).await.unwrap();
    peer.connection.set_local_description(answer).await.unwrap();
    peer.local_sdp(SOON).await.unwrap()
}

/// Lets one person in and answers her first ping.
async fn serve_channel(channel: Arc<dyn DataChannel>) {
    while let Some(event) = channel.poll().await {
        let DataChannelEvent::OnMessage(message) = event else { continue };
        let message: serde_json::Value = serde_json::from_slice(&message.data).unwrap();
        let id = &message["id"];
        if message.get("join").is_some() {
            channel.send_text(&format!(r#"{{"re":{id},"ok":{{"resumed":false}}}}"#)).await.unwrap();
            channel.send_text(SNAPSHOT).await.unwrap();
        } else if message.get("ping").is_some() {
            channel.send_text(&format!(r#"{{"re":{id},"ok":{{"server_time":7}}}}"#)).await.unwrap();
        } else {
            channel.send_text(r#"{"close":{"code":3501,"reason":"kicked"}}"#).await.unwrap();
        }
    }
}

fn clip() -> Arc<Clip> {
    Arc::new(Clip::parse(ivf(10, &[0]), Some(ogg(30, 5))).unwrap())
}

fn config() -> Config {
    let (reconnect_base, reconnect_max) = (Duration::from_millis(20), Duration::from_millis(100));
    Config { reconnect_base, reconnect_max, ..Config::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_anchor_sends_arrives_whole_and_evenly_over_many_laps() {
    let (relay, server) = Relay::start().await;
    let room = "r".parse().unwrap();
    let mut packets = relay.packets.subscribe();
    let anchor = Anchor::publish(&server, &room, "t", clip(), &config()).await.unwrap();
    let watcher = Watcher::watch(&server, &room, "t", false, &config()).await.unwrap();

    let laps = |stats: &WatcherStats| stats.video.keyframes >= 3 && stats.audio.packets >= 60;
    let stats = watcher.wait_for(SOON, laps).await.unwrap();
    assert_eq!((stats.video.missing, stats.audio.missing), (0, 0));
    assert_eq!(stats.video.frames, stats.video.packets, "the test clip's frames are of one packet");

    anchor.stop().await;
    assert_eq!(*relay.deleted.lock().unwrap(), ["/whip/r/0"]);

    let mut last: HashMap<bool, u32> = HashMap::new();
    while let Ok((kind, packet)) = packets.try_recv() {
        let (video, timestamp) = (kind == Kind::Video, packet.header.timestamp);
        if let Some(before) = last.insert(video, timestamp) {
            assert_eq!(timestamp.wrapping_sub(before), if video { 3_600 } else { 960 });
        }
    }
    assert_eq!(last.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyframe_request_reaches_the_anchor_and_brings_a_keyframe() {
    let (relay, server) = Relay::start().await;
    let room = "r".parse().unwrap();
    // Ten seconds to the next keyframe, unless somebody asks.
    let clip = Arc::new(Clip::parse(ivf(250, &[0]), None).unwrap());
    let anchor = Anchor::publish(&server, &room, "t", clip, &config()).await.unwrap();
    let watcher = Watcher::watch(&server, &room, "t", false, &config()).await.unwrap();
    watcher.wait_for(SOON, |stats| stats.video.packets > 5).await.unwrap();

    let before = watcher.stats().video;
    let track = relay.video.lock().unwrap().clone().unwrap();
    let media_ssrc = track.ssrcs().await[0];
    track.write_rtcp(vec![Box::new(PictureLossIndication { sender_ssrc: 0, media_ssrc })]).await.unwrap();
    let after = watcher.wait_for(SOON, |stats| stats.video.keyframes > before.keyframes).await.unwrap().video;

    assert!(after.frames < before.frames + 100, "long before the lap's end");
    let stats = anchor.stats();
    assert!((stats.keyframe_requests, stats.keyframe_skips) >= (1, 1), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_anchor_publishes_again_when_nobody_else_has_the_room() {
    let (relay, server) = Relay::start().await;
    let room = "r".parse().unwrap();
    let anchor = Anchor::publish(&server, &room, "t", clip(), &config()).await.unwrap();
    anchor.wait_for(SOON, |s| s.packets > 20).await.unwrap();

    relay.is_live.store(true, Relaxed);
    relay.publisher().unwrap().close().await.unwrap();
    anchor.wait_for(SOON, |s| s.state == AnchorState::Retrying).await.unwrap();
    let took = anchor.wait_for(Duration::from_millis(500), |s| s.sessions == 2).await;
    assert!(matches!(took, Err(Error::Timeout(_))), "another session has the room");

    relay.is_live.store(false, Relaxed);
    let sent = anchor.wait_for(SOON, |s| s.sessions == 2).await.unwrap().packets;
    anchor.wait_for(SOON, |s| s.packets > sent + 20).await.unwrap();
    assert_eq!(anchor.stats().state, AnchorState::Publishing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_channel_carries_a_whole_session() {
    let (_relay, server) = Relay::start().await;
    let watcher = Watcher::watch(&server, &"r".parse().unwrap(), "t", true, &config()).await.unwrap();
    let viewer = watcher.join_room("t").await.unwrap();
    assert_eq!(viewer.view().seq, 5);
    assert_eq!(viewer.ping().await.unwrap().0.0, 7);

    assert!(matches!(viewer.like(1).await, Err(Error::Lost | Error::Ended { .. })));
    viewer.wait_for(SOON, |view| matches!(view.link, Link::Ended { code: Some(3501), .. })).await.unwrap();
    watcher.leave().await;
}

#[tokio::test]
async fn an_offer_that_is_refused_says_why() {
    let server = Server::at(([127, 0, 0, 1], 9).into());
    let refused = Anchor::publish(&server, &"r".parse().unwrap(), "t", clip(), &config()).await;
    assert!(matches!(refused, Err(Error::Http(_))), "nobody listens");
    let (_relay, server) = Relay::start().await;
    let refused = Anchor::publish(&server, &"elsewhere".parse().unwrap(), "t", clip(), &config()).await;
    assert!(matches!(refused, Err(Error::Status { status: 404 | 405, .. })));
}
