//! A publisher of H.264 who sends her parameter sets once, and viewers who come later.

use std::sync::atomic::{AtomicBool, Ordering};

use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use tokio::net::UdpSocket as Socket;

use super::*;

const H264: u8 = 102;
const SEQUENCE: &[u8] = &[0x67, 66, 0, 30, 0x80, 1];
const PICTURE: &[u8] = &[0x68, 0xC0, 1];
const SLICE: &[u8] = &[0x65, 0x88, 0x80, 1, 2, 3];
const OTHER_SLICE: &[u8] = &[0x41, 0x9A, 0x24];
/// Both sets in one packet (STAP-A).
const SETS: &[u8] = &[0x78, 0, 6, 0x67, 66, 0, 30, 0x80, 1, 0, 3, 0x68, 0xC0, 1];
const TICKS: u32 = 1_800;

fn h264() -> RTCRtpCodecParameters {
    let rtp_codec = RTCRtpCodec {
        mime_type: "video/H264".into(),
        clock_rate: 90_000,
        sdp_fmtp_line: "packetization-mode=1;profile-level-id=42e01f".into(),
        ..Default::default()
    };
    RTCRtpCodecParameters { rtp_codec, payload_type: H264 }
}

async fn client() -> Client {
    Client::with_video(h264(), Ipv4Addr::LOCALHOST.into(), both_profiles()).await
}

/// A keyframe every half second; the sets before the first one only.
async fn publish_with_sets_once(media: &Media) -> Publisher {
    let mut client = client().await;
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(1_111), ..Default::default() },
        codec: h264().rtp_codec,
        ..Default::default()
    };
    let track = MediaStreamTrack::new("s".into(), "v".into(), "v".into(), RtpCodecKind::Video, vec![encoding]);
    let track = Arc::new(TrackLocalStaticRTP::new(track));
    client.connection.add_track(track.clone() as Arc<dyn TrackLocal>).await.unwrap();
    let offer = client.offer().await;
    let answer = media.publish(&room(), &offer).await.unwrap();
    client.accept(&answer).await;

    let server = media.clone();
    let sending = tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        let (mut sequence_number, mut step) = (65_500u16, 0u32);
        loop {
            beat.tick().await;
            // Before the connection stands there is nowhere to write to.
            let is_live = server.is_live(&room());
            let payloads: &[&[u8]] = match step {
                0 if !is_live => &[OTHER_SLICE],
                0 => &[SEQUENCE, PICTURE, SLICE],
                _ if step.is_multiple_of(25) => &[SLICE],
                _ => &[OTHER_SLICE],
            };
            for (place, payload) in payloads.iter().enumerate() {
                let header = rtp::Header {
                    version: 2,
                    marker: place + 1 == payloads.len(),
                    payload_type: H264,
                    sequence_number,
                    timestamp: step * TICKS,
                    ssrc: 1_111,
                    ..Default::default()
                };
                let packet = rtp::Packet { header, payload: Bytes::copy_from_slice(payload) };
                let _ = track.write_rtp(packet).await;
                sequence_number = sequence_number.wrapping_add(1);
            }
            step += u32::from(is_live);
        }
    });
    Publisher { session: answer.session, sending: sending.abort_handle(), _client: client }
}

/// A viewer who left the picture for the sound comes back to it: what she got until then, and what from then on.
async fn back_to_the_picture(
    media: &Media,
    session: SessionId,
    video: &mut mpsc::Receiver<rtp::Packet>,
    meanwhile: impl FnOnce(),
) -> (Vec<rtp::Packet>, Vec<rtp::Packet>) {
    let mut before = take(video, 30).await;
    assert!(media.view(session, View { wish: Wish::AudioOnly, height: None }));
    while let Ok(packet) = timeout(Duration::from_millis(500), video.recv()).await {
        before.push(packet.expect("the track runs"));
    }
    meanwhile();
    assert!(media.view(session, View::default()));
    (before, take(video, 10).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_to_the_picture_begins_with_the_sets() {
    let (media, _events) = server(|_| {});
    let _publisher = publish_with_sets_once(&media).await;
    let mut viewer = watch_over(&media, client().await, |answer| answer).await;
    let mut video = packets_of(&mut viewer, RtpCodecKind::Video).await;
    let (mut all, mut got) = back_to_the_picture(&media, viewer.session, &mut video, || {}).await;
    got.extend(take(&mut video, 60).await);
    assert_eq!((&got[0].payload[..], &got[1].payload[..]), (SETS, SLICE));
    assert_eq!((got[0].header.timestamp, got[0].header.marker), (got[1].header.timestamp, false));
    assert_eq!(got.iter().filter(|packet| packet.payload == SETS).count(), 1, "who goes on needs no more");
    all.extend(got);
    assert!(is_gapless(&all));
    media.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sets_that_were_lost_come_again() {
    let (media, _events) = server(|_| {});
    let _publisher = publish_with_sets_once(&media).await;
    let network = Network::start(&media).await;
    let mut viewer = watch_over(&media, client().await, |answer| network.put_into(&answer)).await;
    let track = timeout(DEADLINE, viewer.client.tracks.recv()).await.unwrap().unwrap();
    viewer.tracks.push((RtpCodecKind::Video, track.clone()));
    let mut video = packets_of(&mut viewer, RtpCodecKind::Video).await;
    let (_, got) = back_to_the_picture(&media, viewer.session, &mut video, || network.lose_next()).await;

    let first = got.iter().find(|packet| packet.payload == SLICE).expect("a keyframe");
    let lost = first.header.sequence_number.wrapping_sub(1);
    let nacks = vec![NackPair { packet_id: lost, lost_packets: 0 }];
    let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc: first.header.ssrc, nacks };
    track.write_rtcp(vec![Box::new(nack)]).await.unwrap();
    let is_it = |packet: &rtp::Packet| packet.header.sequence_number == lost;
    // The client asks by itself, too.
    let mut found = got.iter().find(|packet| is_it(packet)).cloned();
    while found.is_none() {
        found = take(&mut video, 1).await.into_iter().find(is_it);
    }
    let found = found.unwrap();
    assert_eq!((&found.payload[..], found.header.timestamp), (SETS, first.header.timestamp));
    let stats = media.stats();
    assert!(stats.rtx_out > 0 && stats.dropped["number_reused"] == 0);
    media.shutdown();
}

/// Between a viewer and her worker: it loses one packet of her picture when it is told to.
struct Network {
    loses: Arc<AtomicBool>,
    port: u16,
    server_ports: Vec<u16>,
    server: Arc<std::sync::OnceLock<u16>>,
    task: AbortHandle,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Network {
    async fn start(media: &Media) -> Self {
        let socket = Socket::bind("127.0.0.1:0").await.unwrap();
        let (port, server) = (socket.local_addr().unwrap().port(), Arc::new(std::sync::OnceLock::new()));
        let loses = Arc::new(AtomicBool::new(false));
        let (server_of_task, loses_of_task): (Arc<std::sync::OnceLock<u16>>, _) = (server.clone(), loses.clone());
        let task = tokio::spawn(async move {
            let (mut buffer, mut client) = ([0; 2_048], None);
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let Some(server) = server_of_task.get().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port)))
                else {
                    continue;
                };
                let is_video = (128..=191).contains(&buffer[0]) && buffer[1] & 0x7F == H264;
                if from == server && is_video && loses_of_task.swap(false, Ordering::Relaxed) {
                    continue;
                }
                let to = if from == server { client } else { Some(server) };
                if from != server {
                    client = Some(from);
                }
                if let Some(to) = to {
                    let _ = socket.send_to(&buffer[..len], to).await;
                }
            }
        });
        let server_ports = media.listening().iter().map(SocketAddr::port).collect();
        Self { loses, port, server_ports, server, task: task.abort_handle() }
    }

    fn lose_next(&self) {
        self.loses.store(true, Ordering::Relaxed);
    }

    /// The answer with this network in the server's place.
    fn put_into(&self, answer: &str) -> String {
        let named = |port: &&u16| answer.contains(&format!(" {port} typ "));
        let port = self.server_ports.iter().find(named).expect("a candidate of a worker");
        self.server.set(*port).expect("one answer");
        answer.replace(&format!(" {port} typ "), &format!(" {} typ ", self.port))
    }
}
