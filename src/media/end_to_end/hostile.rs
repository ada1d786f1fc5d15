//! What strangers and a tampering network can do to a running server: be counted.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UdpSocket as Socket;

use super::*;
use crate::media::fuzzing::TARGETS;

const FLOOD: u64 = 2_000;

/// Connectivity checks for nobody we know, the first flight of a handshake, media and reports: each from an address that
/// nobody proved. Checks with a wrong password for a peer that exists are the fuzz target `worker`'s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_strangers_changes_nothing_but_counters() {
    let (media, mut events) = server(|_| {});
    let _publisher = publish(&media, 1).await;
    let mut viewer = watch(&media, both_profiles()).await;
    let mut video = packets_of(&mut viewer, RtpCodecKind::Video).await;
    take(&mut video, 5).await;
    let before = media.stats();
    while events.try_recv().is_ok() {}

    let checks = (TARGETS.iter().find(|target| target.name == "stun").unwrap().seeds)();
    let hello: Vec<u8> = [&[22, 254, 253][..], &[0; 9], &[12, 1], &[0; 11]].concat();
    let forged = |kind: u8| [&[0x80, kind, 0, 1][..], &[0; 4], &1_111u32.to_be_bytes(), &[7; 60]].concat();
    let strangers: Vec<UdpSocket> = (0..20).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for round in 0..FLOOD {
        for address in media.listening() {
            let stranger = &strangers[round as usize % strangers.len()];
            for datagram in [&checks[0], &checks[1], &hello, &forged(VIDEO), &forged(201)] {
                stranger.send_to(datagram, address).unwrap();
            }
        }
        if round % 50 == 0 {
            // The socket's buffer is bounded: a flood that the kernel drops proves nothing.
            tokio::task::yield_now().await;
            take(&mut video, 1).await;
        }
    }

    until("the flood is counted", || {
        let dropped = media.stats().dropped;
        dropped["bad_check"] > FLOOD && dropped["unknown_datagram"] > FLOOD
    })
    .await;
    assert!(is_gapless(&take(&mut video, 30).await));
    let after = media.stats();
    assert_eq!((after.peers, after.joins, after.handshake_failures), (before.peers, 2, 0));
    assert_eq!(after.dropped["panicked"], 0);
    assert!(events.try_recv().is_err(), "nobody comes or goes for a flood");
    media.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_and_tampered_media_is_dropped_and_counted() {
    repeated_and_tampered(|datagram| !is_report(datagram), 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_and_tampered_reports_are_dropped_and_counted() {
    repeated_and_tampered(is_report, 2).await;
}

fn is_report(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|kind| (192..=223).contains(kind))
}

/// A publisher behind a network that sends what is chosen a second time, and a third time with a byte changed.
async fn repeated_and_tampered(is_chosen: fn(&[u8]) -> bool, count: u64) {
    let (media, _events) = server(|_| {});
    let relay = Relay::start(&media, is_chosen).await;
    let _publisher = publish_over(&media, 65_000, |answer| relay.put_into(&answer)).await;
    let mut viewer = watch(&media, both_profiles()).await;
    let mut video = packets_of(&mut viewer, RtpCodecKind::Video).await;

    let got = take(&mut video, 60).await;
    assert!(is_gapless(&got) && got.iter().all(|packet| [KEYFRAME, INTERFRAME].contains(&&packet.payload[..])));
    until("both are counted", || {
        let dropped = media.stats().dropped;
        dropped["replayed"] >= count && dropped["not_authentic"] >= count
    })
    .await;
    let (dropped, repeated) = (media.stats().dropped, relay.repeated.load(Ordering::Relaxed));
    assert!(
        dropped["replayed"] <= repeated && dropped["not_authentic"] <= repeated,
        "{dropped:?}, {repeated} repeated"
    );
    // Repeats end where packets are opened: none of them counts as one that came, or reaches what numbers them.
    let (came, sent) = (media.stats().packets_in, relay.media.load(Ordering::Relaxed));
    assert!(came <= sent, "{came} of {sent} that she sent");
    assert!(is_gapless(&take(&mut video, 10).await));
    media.shutdown();
}

/// Between a publisher and the worker that she was given.
struct Relay {
    port: u16,
    server_ports: Vec<u16>,
    server: Arc<std::sync::OnceLock<u16>>,
    /// Her media packets, and the datagrams that were sent again.
    media: Arc<AtomicU64>,
    repeated: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    async fn start(media: &Media, is_chosen: fn(&[u8]) -> bool) -> Self {
        let socket = Socket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let (server, repeated) = (Arc::new(std::sync::OnceLock::new()), Arc::new(AtomicU64::new(0)));
        let media_sent = Arc::new(AtomicU64::new(0));
        let (server_of_task, repeated_of_task) = (server.clone(), repeated.clone());
        let media_of_task = media_sent.clone();
        let task = tokio::spawn(async move {
            let (mut buffer, mut client) = ([0; 2_048], None);
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let Some(server) = server_of_task.get().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port)))
                else {
                    continue;
                };
                let datagram = &mut buffer[..len];
                if from == server {
                    if let Some(client) = client {
                        let _ = socket.send_to(datagram, client).await;
                    }
                    continue;
                }
                client = Some(from);
                if (128..=191).contains(&datagram[0]) && !is_report(datagram) {
                    media_of_task.fetch_add(1, Ordering::Relaxed);
                }
                let _ = socket.send_to(datagram, server).await;
                if (128..=191).contains(&datagram[0]) && is_chosen(datagram) {
                    repeated_of_task.fetch_add(1, Ordering::Relaxed);
                    let _ = socket.send_to(datagram, server).await;
                    datagram[len - 1 - len % 8] ^= 0x10;
                    let _ = socket.send_to(datagram, server).await;
                }
            }
        });
        let server_ports = media.listening().iter().map(SocketAddr::port).collect();
        Self { port, server_ports, server, media: media_sent, repeated, task: task.abort_handle() }
    }

    /// The answer with the relay in the server's place.
    fn put_into(&self, answer: &str) -> String {
        let named = |port: &&u16| answer.contains(&format!(" {port} typ "));
        let port = self.server_ports.iter().find(named).expect("a candidate of a worker");
        self.server.set(*port).expect("one answer");
        answer.replace(&format!(" {port} typ "), &format!(" {} typ ", self.port))
    }
}
