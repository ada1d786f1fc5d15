use sctp::ClientConfig;

use super::*;

/// A client's side of the association, and the wire between the two.
struct Client {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    room_is_open: bool,
    texts: Vec<usize>,
}

impl Client {
    /// `message_max` is what this client would send at once, whatever was agreed.
    fn connect(message_max: u32, now: Instant) -> Self {
        let transport = TransportConfig::default().with_max_message_size(message_max);
        let mut endpoint =
            Endpoint::new(unused_address(), TransportProtocol::UDP, Arc::new(EndpointConfig::default()), None);
        let (handle, association) = endpoint.connect(now, ClientConfig::new(transport), unused_address()).unwrap();
        Self { endpoint, handle, association, room_is_open: false, texts: Vec::new() }
    }

    fn packets(&mut self, now: Instant) -> Vec<Bytes> {
        let mut all = Vec::new();
        while let Some(transmit) = self.association.poll_transmit(now) {
            if let Payload::RawEncode(packets) = transmit.message {
                all.extend(packets);
            }
        }
        all
    }

    fn receive(&mut self, packet: Bytes, now: Instant) {
        if let Some((handle, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(now, unused_address(), None, packet)
        {
            assert_eq!(handle, self.handle);
            self.association.handle_event(event);
        }
        while let Some(event) = self.association.poll() {
            if let Event::Stream(StreamEvent::Readable { id }) = event {
                self.read(id, now);
            }
        }
    }

    fn read(&mut self, id: u16, now: Instant) {
        let mut stream = self.association.stream(id).unwrap();
        while let Ok(Some(message)) = stream.read_sctp() {
            match message.ppi {
                Protocol::Dcep => {
                    let control = message.to_payload(1_000).unwrap().freeze();
                    if let Ok(Message::DataChannelOpen(open)) = Message::unmarshal(&mut &control[..]) {
                        assert_eq!((id, open.label.as_slice(), open.channel_type), (1, LABEL, ChannelType::Reliable));
                        let ack = Message::DataChannelAck(DataChannelAck).marshal().unwrap();
                        stream.write_with_ppi(now, &ack, Protocol::Dcep).unwrap();
                        self.room_is_open = true;
                    }
                }
                _ => self.texts.push(message.len()),
            }
        }
    }

    fn write(&mut self, id: u16, data: &[u8], protocol: Protocol, now: Instant) {
        if self.association.stream(id).is_err() {
            self.association.open_stream(id, protocol).unwrap();
        }
        self.association.stream(id).unwrap().write_with_ppi(now, data, protocol).unwrap();
    }
}

/// Carries packets until both sides are silent, and moves time on for their timers.
fn talk(client: &mut Client, server: &mut Channel, may_read: bool, now: &mut Instant) -> Vec<Said> {
    let mut said = Vec::new();
    for _ in 0..400 {
        *now += std::time::Duration::from_millis(50);
        client.association.handle_timeout(*now);
        server.handle_timeout(*now);
        for packet in client.packets(*now) {
            server.receive(packet, *now);
        }
        said.extend(server.poll(may_read, *now));
        while let Some(packets) = server.poll_transmit(*now) {
            packets.into_iter().for_each(|packet| client.receive(packet, *now));
        }
    }
    said
}

fn connected() -> (Client, Channel, Instant) {
    let mut now = Instant::now();
    let mut client = Client::connect(1 << 20, now);
    let mut server = Channel::new(&ChannelConfig::default());
    let said = talk(&mut client, &mut server, true, &mut now);
    assert!(client.room_is_open);
    assert_eq!(said, [Said::Open]);
    (client, server, now)
}

#[test]
fn nothing_can_be_said_before_the_channel_is_open() {
    assert!(!Channel::new(&ChannelConfig::default()).send(&Bytes::from_static(b"x"), Instant::now()));
}

#[test]
fn texts_pass_both_ways_in_order() {
    let (mut client, mut server, mut now) = connected();
    let texts = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from(vec![b'x'; TEXT_BYTES_MAX])];
    for text in &texts {
        assert!(server.send(text, now));
    }
    client.write(1, b"two", Protocol::String, now);
    client.write(1, &vec![b'y'; TEXT_BYTES_MAX], Protocol::String, now);
    let said = talk(&mut client, &mut server, true, &mut now);
    assert_eq!(said.len(), 2);
    assert!(matches!(&said[..], [Said::Text(two), Said::Text(long)] if two == "two" && long.len() == TEXT_BYTES_MAX));
    assert_eq!(client.texts, [3, 1, TEXT_BYTES_MAX], "an empty text travels as one byte under a name of its own");
}

#[test]
fn what_was_sent_counts_until_it_is_acknowledged() {
    let (mut client, mut server, mut now) = connected();
    server.acknowledged();
    assert!(server.send(&Bytes::from(vec![b'x'; 5_000]), now));
    while server.poll_transmit(now).is_some() {}
    assert_eq!(server.acknowledged(), 0, "the packets were lost");
    talk(&mut client, &mut server, true, &mut now);
    assert_eq!(server.acknowledged(), 5_000);
    assert_eq!(server.acknowledged(), 0);
}

#[test]
fn a_peer_whose_texts_are_not_read_is_held_back() {
    let (mut client, mut server, mut now) = connected();
    for _ in 0..40 {
        client.write(1, &[b'x'; 10_000], Protocol::String, now);
    }
    assert!(talk(&mut client, &mut server, false, &mut now).is_empty());
    let held_back = client.association.stream(1).unwrap().buffered_amount().unwrap();
    assert!(held_back > 200_000, "{held_back} of 400,000 bytes stay with the sender");
    assert!(server.has_unread());

    let read = talk(&mut client, &mut server, true, &mut now);
    assert_eq!(read.len(), 40, "nothing was lost");
}

#[test]
fn a_text_above_the_limit_is_too_much() {
    let (mut client, mut server, mut now) = connected();
    client.write(1, &vec![b'x'; TEXT_BYTES_MAX + 1], Protocol::String, now);
    assert_eq!(talk(&mut client, &mut server, true, &mut now), [Said::TooMuch]);
}

#[test]
fn other_channels_are_acknowledged_and_ignored_up_to_a_limit() {
    let (mut client, mut server, mut now) = connected();
    client.write(0, b"hello", Protocol::String, now);
    client.write(1, b"binary", Protocol::Binary, now);
    assert_eq!(talk(&mut client, &mut server, true, &mut now), [Said::Noise, Said::Noise]);
    for id in 2..200 {
        client.write(id, b"x", Protocol::String, now);
    }
    assert!(talk(&mut client, &mut server, true, &mut now).contains(&Said::TooMuch));
}

/// An authentic packet, so that nothing but the look at its lengths stands between it and the crate.
#[test]
fn a_packet_whose_lengths_lie_is_refused_and_the_channel_goes_on() {
    let (mut client, mut server, mut now) = connected();
    client.write(1, b"before", Protocol::String, now);
    let genuine = client.packets(now).remove(0);
    let mut lies = [&genuine[..12], &[6, 0, 0, 8, 0, 12, 0, 200]].concat();
    lies[8..12].fill(0);
    let checksum = crc32c::crc32c(&lies);
    lies[8..12].copy_from_slice(&checksum.to_le_bytes());
    assert!(!server.receive(lies.into(), now));
    assert!(server.receive(genuine, now));
    client.write(1, b"after", Protocol::String, now);
    let texts = [&b"before"[..], b"after"].map(|text| Said::Text(Bytes::from_static(text)));
    assert_eq!(talk(&mut client, &mut server, true, &mut now), texts);
}

#[test]
fn no_packet_panics() {
    let (_, mut server, now) = connected();
    for len in 0..300usize {
        let noise: Vec<u8> = rand::random_iter().take(len).collect();
        server.receive(noise.into(), now);
        server.poll(true, now);
    }
}
