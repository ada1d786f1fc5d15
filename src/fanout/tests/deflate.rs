use std::io::Write;

use super::{
    echo,
    support::{DEADLINE, Hub, Server, close_of, next_text, read_frame, wait_until, websocket},
};
use crate::{
    fanout::{Config, inflate::Inflate},
    ring,
};

#[test]
fn a_frame_is_compressed_for_those_who_agreed_to_it_and_says_the_same() {
    let server = Server::start(Config { shards: 1, ..Config::default() });
    let mut hub = Hub::new(ring::Config::default());
    let (plain, mut deflated) = (server.viewer(&hub.ring), server.deflating_viewer(&hub.ring));
    wait_until("both are in", || server.fanout.stats().plain == 2);
    hub.state();
    (0..20).for_each(|_| hub.comment(500));

    let mut plain = websocket(plain);
    let (mut compressed, mut inflate) = (0, Inflate::default());
    for _ in 0..21 {
        let (first, payload) = read_frame(&mut deflated);
        let text = match first {
            0xC1 => inflate.message(&payload, 10_000).unwrap(),
            first => {
                assert_eq!(first, 0x81);
                payload
            }
        };
        compressed += usize::from(first == 0xC1);
        assert_eq!(String::from_utf8(text).unwrap(), next_text(&mut plain));
    }
    assert!(compressed >= 20, "{compressed}");
}

#[test]
fn a_compressed_message_of_a_client_is_heard_and_bounded() {
    let server = Server::start(Config { shards: 1, message_bytes_max: 10_000, ..Config::default() });
    let say = |len: usize| {
        let text = "so beautiful, ".repeat(len / 14 + 1)[..len].to_owned();
        let deflated = ring::Wire::text(text.as_bytes()).deflated().unwrap();
        let payload = deflated.payload();
        let header = [&[0xC1, 0x80 | 126][..], &u16::try_from(payload.len()).unwrap().to_be_bytes(), &[0; 4]].concat();
        (text, [&header, &payload[..]].concat())
    };
    let (mut stream, closed) = server.connect_deflating(|_| (), echo);
    let (text, frame) = say(10_000);
    stream.write_all(&frame).unwrap();
    let mut client = websocket(stream);
    assert_eq!(next_text(&mut client), text);

    client.get_mut().write_all(&say(10_001).1).unwrap();
    assert_eq!(close_of(&mut client).unwrap().0, 3502);
    drop(client);
    assert_eq!(closed.recv_timeout(DEADLINE), Ok(3502));
}
