mod deflate;
mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use socket2::SockRef;
use support::{Crumbs, DEADLINE, Hub, Server, View, close_of, next_text, small_receive_buffer, wait_until, websocket};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::{
    fanout::{Config, Outlet, Refused},
    protocol::CloseCode,
    ring,
};

fn echo(outlet: &Outlet, text: String) {
    let _ = outlet.send(Bytes::from(text));
}

#[test]
fn all_viewers_see_the_same_events_in_the_same_order() {
    let server = Server::start(Config { shards: 2, ..Config::default() });
    let mut hub = Hub::new(ring::Config::default());
    let viewers: Vec<TcpStream> = (0..40).map(|_| server.viewer(&hub.ring)).collect();

    for round in 0..400 {
        if round % 7 == 0 { hub.state() } else { hub.comment(round) }
    }

    for viewer in viewers {
        let (mut client, mut view) = (websocket(viewer), View::default());
        while view.cursor < hub.seq {
            view.take(&next_text(&mut client));
        }
        assert_eq!(view.events, (1..=hub.seq).collect::<Vec<_>>());
        assert_eq!(view.snapshots, 0);
    }
    assert_eq!(server.fanout.stats().deliveries, 40 * 400);
}

#[test]
fn a_viewer_that_fell_off_the_ring_takes_a_snapshot_and_goes_on_without_a_gap() {
    let server = Server::start(Config { shards: 1, send_buffer_bytes: 4_096, ..Config::default() });
    let mut hub = Hub::new(ring::Config { frames_max: 64, ..ring::Config::default() });
    let (slow, fast) = (server.viewer(&hub.ring), server.viewer(&hub.ring));
    small_receive_buffer(&slow);
    let (mut slow, mut slow_view) = (websocket(slow), View::default());
    let (mut fast, mut fast_view) = (websocket(fast), View::default());

    for _ in 0..60 {
        (0..32).for_each(|_| hub.comment(600));
        while fast_view.cursor < hub.seq {
            fast_view.take(&next_text(&mut fast));
        }
    }
    while slow_view.cursor < hub.seq {
        slow_view.take(&next_text(&mut slow));
    }

    assert_eq!(fast_view.events, (1..=hub.seq).collect::<Vec<_>>());
    assert_eq!(fast_view.snapshots, 0);
    assert!(slow_view.snapshots > 0);
    assert!(slow_view.events.len() < fast_view.events.len());
    assert!(slow_view.events.is_sorted());
    assert!(server.fanout.stats().skipped > 0);
}

/// Frames larger than the socket's buffers, replies and pongs in between, and a client that reads a few bytes at a
/// time: whatever is half-written is finished before the next begins.
fn read_in_crumbs<S: Read + Write>(server: &Server, stream: S, hub: &mut Hub) {
    let mut client = websocket(Crumbs { stream, len: 0 });
    let mut view = View::default();
    let (mut replies, mut pongs) = (0, 0);

    for round in 0..60 {
        hub.comment(round * 331 % 9_000);
        if round % 3 == 0 {
            client.send(Message::text(format!("{round}"))).unwrap();
            client.send(Message::Ping(vec![round as u8].into())).unwrap();
        }
        while view.cursor + 10 < hub.seq {
            take_one(&mut client, &mut view, &mut replies, &mut pongs);
        }
    }
    while view.cursor < hub.seq || replies < 20 {
        take_one(&mut client, &mut view, &mut replies, &mut pongs);
    }
    assert_eq!(replies, 20);
    assert!(pongs > 0);
    assert_eq!(view.events, (1..=60).collect::<Vec<_>>());
    assert_eq!(server.fanout.stats().overruns, 0);
}

fn take_one<S: Read + Write>(client: &mut WebSocket<S>, view: &mut View, replies: &mut u64, pongs: &mut u64) {
    match client.read().unwrap() {
        Message::Text(text) if text.len() <= 2 => {
            assert_eq!(text.parse(), Ok(*replies * 3), "replies keep their order");
            *replies += 1;
        }
        Message::Text(text) => view.take(&text),
        Message::Pong(_) => *pongs += 1,
        other => panic!("unexpected: {other:?}"),
    }
}

#[test]
fn half_written_frames_never_corrupt_the_stream() {
    let server = Server::start(Config { shards: 1, tick_ms: 2, send_buffer_bytes: 1, ..Config::default() });
    let mut hub = Hub::new(ring::Config::default());
    let ring = hub.ring.clone();
    let (stream, _closed) = server.connect(move |outlet| outlet.follow(ring, 0, None), echo);
    small_receive_buffer(&stream);
    read_in_crumbs(&server, stream, &mut hub);
}

#[test]
fn half_written_frames_never_corrupt_the_stream_over_tls() {
    let server = Server::start(Config { shards: 1, tick_ms: 2, send_buffer_bytes: 1, ..Config::default() });
    let mut hub = Hub::new(ring::Config::default());
    let ring = hub.ring.clone();
    let (stream, _closed) = server.connect_tls(move |outlet| outlet.follow(ring, 0, None), echo);
    small_receive_buffer(&stream.sock);
    read_in_crumbs(&server, stream, &mut hub);
}

#[test]
fn a_tls_viewer_is_closed_with_code_and_goodbye() {
    let server = Server::start(Config { shards: 1, ..Config::default() });
    let (stream, closed) = server.connect_tls(|_| (), |outlet, _| outlet.close(CloseCode::Kicked, "out"));
    let mut client = websocket(stream);
    assert_eq!(server.fanout.stats().tls, 1);

    client.send(Message::text("x")).unwrap();
    assert_eq!(close_of(&mut client), Some((3501, "out".to_owned())));
    assert_eq!(closed.recv_timeout(DEADLINE), Ok(3501));
    assert_eq!(client.get_mut().read(&mut [0]).unwrap(), 0, "TLS was ended, not cut");
    assert_eq!(server.fanout.stats().tls, 0);
}

#[test]
fn a_ping_is_answered_with_what_it_carries() {
    let server = Server::start(Config { shards: 1, ..Config::default() });
    let (stream, _closed) = server.connect(|_| (), echo);
    let mut client = websocket(stream);
    for payload in [&b""[..], b"once", &[9; 125]] {
        client.send(Message::Ping(payload.to_vec().into())).unwrap();
        assert_eq!(client.read().unwrap(), Message::Pong(payload.to_vec().into()));
    }
}

#[test]
fn replies_keep_the_order_of_the_messages() {
    let server = Server::start(Config { shards: 1, ..Config::default() });
    let (stream, _closed) = server.connect(|_| (), echo);
    let mut client = websocket(stream.try_clone().unwrap());
    let writer = thread::spawn(move || {
        let mut client = websocket(stream);
        (0..1_000).for_each(|n| client.send(Message::text(format!("{n}"))).unwrap());
    });
    (0..1_000).for_each(|n| assert_eq!(next_text(&mut client), format!("{n}")));
    writer.join().unwrap();
    assert_eq!(server.fanout.stats().replies, 1_000);
}

#[test]
fn what_was_read_ahead_of_the_move_is_heard_first() {
    let server = Server::start(Config { shards: 1, ..Config::default() });
    let (stream, _closed) = server.connect(|_| (), echo);
    drop(stream);

    let mut frames = Vec::new();
    {
        let mut to_memory = websocket(std::io::Cursor::new(&mut frames));
        to_memory.send(Message::text("early")).unwrap();
    }
    let (head, tail) = frames.split_at(3);
    let mut client = server.connect_after(head, echo);
    client.write_all(tail).unwrap();
    assert_eq!(next_text(&mut websocket(client)), "early");
}

#[test]
fn oversized_binary_and_unmasked_messages_break_the_protocol() {
    let server = Server::start(Config { shards: 1, message_bytes_max: 1_000, ..Config::default() });
    let messages = [Message::text("x".repeat(1_001)), Message::binary(vec![1])];
    for message in messages {
        let (stream, closed) = server.connect(|_| (), echo);
        let mut client = websocket(stream);
        client.send(Message::text("x".repeat(1_000))).unwrap();
        assert_eq!(next_text(&mut client).len(), 1_000);

        client.send(message).unwrap();
        assert_eq!(close_of(&mut client).unwrap().0, 3502);
        drop(client);
        assert_eq!(closed.recv_timeout(DEADLINE), Ok(3502));
    }

    let (mut stream, closed) = server.connect(|_| (), echo);
    stream.write_all(&[0x81, 1, b'x']).unwrap();
    assert_eq!(close_of(&mut websocket(stream)).unwrap().0, 3502);
    assert_eq!(closed.recv_timeout(DEADLINE), Ok(3502));
}

#[test]
fn a_fragmented_message_is_one_message_and_is_bounded_too() {
    let server = Server::start(Config { shards: 1, message_bytes_max: 8, ..Config::default() });
    let (mut stream, _closed) = server.connect(|_| (), echo);
    let masked = |first: u8, text: &[u8]| [&[first, 0x80 | text.len() as u8, 0, 0, 0, 0], text].concat();
    stream.write_all(&[masked(0x01, b"abc"), masked(0x80, b"def")].concat()).unwrap();
    let mut client = websocket(stream);
    assert_eq!(next_text(&mut client), "abcdef");

    client.get_mut().write_all(&[masked(0x01, b"abcde"), masked(0x80, b"fghi")].concat()).unwrap();
    assert_eq!(close_of(&mut client).unwrap().0, 3502);
}

#[test]
fn more_replies_than_may_wait_close_the_connection() {
    let config = Config { shards: 1, replies_max: 8, ..Config::default() };
    let server = Server::start(config);
    let burst = |outlet: &Outlet| {
        let sent = (0..20).take_while(|n| outlet.send(Bytes::from(format!("{n}"))).is_ok()).count();
        assert_eq!(sent, 8);
    };
    let (stream, closed) = server.connect(burst, echo);
    assert_eq!(close_of(&mut websocket(stream)).unwrap().0, 3001);
    assert_eq!(closed.recv_timeout(DEADLINE), Ok(3001));
}

#[test]
fn bytes_that_wait_are_bounded_but_one_long_reply_passes() {
    let server = Server::start(Config { shards: 1, replies_bytes_max: 1_000, ..Config::default() });
    let long = Bytes::from("x".repeat(5_000));
    let (stream, _closed) = server.connect(
        {
            let long = long.clone();
            move |outlet| outlet.send(long).unwrap()
        },
        echo,
    );
    assert_eq!(next_text(&mut websocket(stream)).len(), 5_000);

    let (stream, closed) = server.connect(
        move |outlet| {
            outlet.send(Bytes::from_static(b"short")).unwrap();
            assert!(outlet.send(long).is_err());
            assert!(outlet.send(Bytes::from_static(b"short")).is_err());
        },
        echo,
    );
    assert_eq!(close_of(&mut websocket(stream)).unwrap().0, 3001);
    assert_eq!(closed.recv_timeout(DEADLINE), Ok(3001));
}

#[test]
fn a_close_comes_after_what_was_sent_before_it_and_nothing_after() {
    let server = Server::start(Config { shards: 1, ..Config::default() });
    let (stream, closed) = server.connect(
        |outlet| {
            outlet.send(Bytes::from_static(b"last words")).unwrap();
            outlet.close(CloseCode::BadToken, &"é".repeat(100));
            assert!(outlet.send(Bytes::from_static(b"too late")).is_err());
        },
        echo,
    );
    let mut client = websocket(stream);
    assert_eq!(next_text(&mut client), "last words");
    let (code, reason) = close_of(&mut client).unwrap();
    assert_eq!((code, reason.as_str()), (3500, "é".repeat(61).as_str()));
    assert_eq!(closed.recv_timeout(DEADLINE), Ok(3500));
}

#[test]
fn the_end_of_a_client_is_told_with_its_code() {
    let server = Server::start(Config { shards: 1, ..Config::default() });
    let (stream, closed) = server.connect(|_| (), echo);
    let mut client = websocket(stream);
    client
        .close(Some(tokio_tungstenite::tungstenite::protocol::CloseFrame { code: 1001.into(), reason: "".into() }))
        .unwrap();
    assert_eq!(close_of(&mut client).unwrap().0, 1001, "the close is answered");
    assert_eq!(closed.recv_timeout(DEADLINE), Ok(1001));

    let (stream, closed) = server.connect(|_| (), echo);
    let mut client = websocket(stream);
    client.close(None).unwrap();
    close_of(&mut client);
    assert_eq!(closed.recv_timeout(DEADLINE), Ok(1005));

    let (stream, closed) = server.connect(|_| (), echo);
    drop(stream);
    assert_eq!(closed.recv_timeout(DEADLINE), Ok(1006));

    let stats = server.fanout.stats();
    assert_eq!(stats.plain, 0);
    assert_eq!(stats.closed.iter().map(|(_, count)| count).sum::<u64>(), 3);
}

#[test]
fn a_client_that_closes_and_resets_at_once_does_not_hold_up_its_shard() {
    let server = Server::start(Config { shards: 1, ..Config::default() });
    let mut hub = Hub::new(ring::Config::default());
    for _ in 0..20 {
        let ring = hub.ring.clone();
        let (stream, closed) = server.connect(move |outlet| outlet.follow(ring, 0, None), echo);
        small_receive_buffer(&stream);
        (0..20).for_each(|_| hub.comment(10_000));
        let mut client = websocket(stream);
        client.close(None).unwrap();
        SockRef::from(client.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let code = closed.recv_timeout(DEADLINE).expect("its end is told");
        assert!([1005, 1006].contains(&code), "{code}");
    }

    let (stream, _closed) = server.connect(|_| (), echo);
    let mut client = websocket(stream);
    client.send(Message::text("still there?")).unwrap();
    assert_eq!(next_text(&mut client), "still there?");
}

#[test]
fn a_drain_sends_everyone_away_and_spreads_their_return() {
    let server = Server::start(Config { shards: 2, ..Config::default() });
    let hub = Hub::new(ring::Config::default());
    let clients: Vec<TcpStream> = (0..60).map(|_| server.viewer(&hub.ring)).collect();
    let readers: Vec<_> =
        clients.into_iter().map(|client| thread::spawn(|| close_of(&mut websocket(client)))).collect();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.fanout.drain(Duration::from_secs(2), Duration::from_secs(30)));
    assert_eq!(server.fanout.stats().plain, 0);

    let mut waits: Vec<u64> = readers
        .into_iter()
        .map(|reader| {
            let (code, reason) = reader.join().unwrap().unwrap();
            assert_eq!(code, 3000);
            reason.parse().unwrap()
        })
        .collect();
    waits.sort_unstable();
    assert!(waits.iter().all(|wait| (2_000..32_000).contains(wait)));
    for window in waits.windows(4) {
        assert!(window[3] - window[0] <= 3_500, "a hole in the spread: {window:?}");
        assert!(window[3] - window[0] >= 500, "a crowd in the spread: {window:?}");
    }

    let (late, refused, _) = server.try_connect(|_| (), echo);
    assert!(matches!(refused, Err(Refused::Draining)));
    assert_eq!(close_of(&mut websocket(late)).unwrap().0, 3000);
}

#[test]
fn one_connection_too_many_is_told_so() {
    let server = Server::start(Config { shards: 2, connections_max: 3, ..Config::default() });
    let kept: Vec<_> = (0..3).map(|_| server.connect(|_| (), echo)).collect();
    let (stream, refused, _) = server.try_connect(|_| panic!("it was turned away"), echo);
    assert!(matches!(refused, Err(Refused::Full)));
    let mut client = websocket(stream);
    let _ = client.send(Message::text("hello?"));
    assert_eq!(close_of(&mut client).unwrap().0, 3503);
    drop(client);

    drop(kept);
    wait_until("there is room again", || server.fanout.stats().plain == 0);
    let (stream, _closed) = server.connect(|_| (), echo);
    let mut client = websocket(stream);
    client.send(Message::text("me?")).unwrap();
    assert_eq!(next_text(&mut client), "me?");
}

#[test]
fn who_is_silent_or_never_joins_is_closed() {
    let config = Config { shards: 1, join_seconds: 1, ping_seconds: 1, silent_seconds: 3, ..Config::default() };
    let server = Server::start(config);
    let hub = Hub::new(ring::Config::default());
    let (unjoined, unjoined_closed) = server.connect(|_| (), echo);
    assert_eq!(close_of(&mut websocket(unjoined)).unwrap(), (3502, "no join in time".to_owned()));
    assert_eq!(unjoined_closed.recv_timeout(DEADLINE), Ok(3502));

    let (mut silent, mut answering) = (server.viewer(&hub.ring), websocket(server.viewer(&hub.ring)));
    let answers = thread::spawn(move || close_of(&mut answering));
    let mut ping = [0; 2];
    silent.read_exact(&mut ping).unwrap();
    assert_eq!(ping, [0x89, 0]);
    let mut close = [0; 4];
    silent.read_exact(&mut close).unwrap();
    assert_eq!(close[2..], 3002u16.to_be_bytes());
    assert!(!answers.is_finished(), "who answers pings stays");
    server.fanout.shutdown();
    assert_eq!(answers.join().unwrap(), None);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off_and_pins_little() {
    let config = Config { shards: 1, stall_seconds: 1, ..Config::default() };
    let server = Server::start(config);
    let mut hub = Hub::new(ring::Config::default());
    let ring = hub.ring.clone();
    let (stalled, closed) = server.connect(move |outlet| outlet.follow(ring, 0, None), echo);
    SockRef::from(&stalled).set_recv_buffer_size(8_192).unwrap();
    (0..600).for_each(|_| hub.comment(2_000));

    assert_eq!(closed.recv_timeout(DEADLINE), Ok(3001));
    assert!(server.fanout.stats().bytes_out < 200_000, "{}", server.fanout.stats().bytes_out);
    assert_eq!(server.fanout.stats().plain, 0);
}

#[test]
fn a_state_event_goes_out_of_turn_behind_what_was_pending() {
    let server = Server::start(Config { shards: 2, tick_ms: 600_000, ..Config::default() });
    let mut hub = Hub::new(ring::Config::default());
    let mut viewers: Vec<_> = (0..1_000).map(|_| websocket(server.viewer(&hub.ring))).collect();
    let followed = || Arc::strong_count(&hub.ring) >= 3;
    wait_until("both shards follow", followed);
    let mut views: Vec<View> = viewers.iter().map(|_| View::default()).collect();

    (0..50).for_each(|_| hub.comment(100));
    hub.state();

    // A round takes ten minutes, so that nobody is reached in turn.
    for (viewer, view) in viewers.iter_mut().zip(&mut views) {
        while view.cursor < hub.seq {
            view.take(&next_text(viewer));
        }
        assert_eq!(view.events, (1..=51).collect::<Vec<_>>());
    }
    assert_eq!(server.fanout.stats().early_sweeps, 2, "one on each shard");
}

#[test]
fn nothing_is_left_of_connections_that_are_gone() {
    let server = Server::start(Config { shards: 2, ..Config::default() });
    let mut hub = Hub::new(ring::Config::default());
    let viewers: Vec<TcpStream> = (0..50).map(|_| server.viewer(&hub.ring)).collect();
    wait_until("they follow", || Arc::strong_count(&hub.ring) >= 3);
    drop(viewers);
    wait_until("they are gone", || server.fanout.stats().plain == 0);

    hub.state();
    wait_until("nobody holds the ring", || Arc::strong_count(&hub.ring) == 1);
}

#[test]
fn a_shutdown_ends_every_connection_and_tells_its_session() {
    let server = Server::start(Config { shards: 2, ..Config::default() });
    let opened = Arc::new(AtomicUsize::new(0));
    let connections: Vec<_> = (0..10)
        .map(|_| {
            let opened = opened.clone();
            server.connect(move |_| _ = opened.fetch_add(1, Ordering::Relaxed), echo)
        })
        .collect();
    wait_until("they are there", || opened.load(Ordering::Relaxed) == 10);
    server.fanout.shutdown();
    for (_, closed) in connections {
        assert_eq!(closed.recv_timeout(DEADLINE), Ok(1006));
    }
}
