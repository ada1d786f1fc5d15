//! The data channel `room` of one peer: SCTP over its DTLS, opened by the server (RFC 8831, 8832).
//!
//! Other channels that a client opens are acknowledged and what comes on them is thrown away: a browser must open one
//! to put an application section into its offer at all.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use datachannel::message::{
    Message,
    message_channel_ack::DataChannelAck,
    message_channel_open::{CHANNEL_PRIORITY_NORMAL, ChannelType, DataChannelOpen},
};
use sctp::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Protocol, ServerConfig, StreamEvent, TransportConfig,
};
use shared::{
    TransportProtocol,
    marshal::{Marshal, Unmarshal},
};

use super::{chunks, negotiate::TEXT_BYTES_MAX};

/// The stream of `room`: the DTLS server opens odd ones.
const ROOM: u16 = 1;
const LABEL: &[u8] = b"room";
/// What a peer may have on the way to us before it must wait.
const RECEIVE_WINDOW_BYTES: u32 = 2 * TEXT_BYTES_MAX as u32;
const STREAM_IDS: u16 = 1024;
/// Streams that a peer may have open; the crate counts none of them.
const STREAMS_MAX: usize = 64;
/// Messages read in one go, so that one peer does not hold up the others.
const READS_MAX: usize = 64;

/// Settings that all channels of a worker share.
#[derive(Clone)]
pub struct ChannelConfig {
    endpoint: Arc<EndpointConfig>,
    server: Arc<ServerConfig>,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        let transport = TransportConfig::default()
            .with_max_receive_buffer_size(RECEIVE_WINDOW_BYTES)
            .with_max_message_size(TEXT_BYTES_MAX as u32)
            .with_max_num_inbound_streams(STREAM_IDS)
            .with_max_num_outbound_streams(STREAM_IDS);
        Self { endpoint: Arc::new(EndpointConfig::default()), server: Arc::new(ServerConfig::new(transport)) }
    }
}

/// What the peer did on its channel.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// It acknowledged `room`.
    Open,
    Text(Bytes),
    /// It sent something else than text, which was thrown away.
    Noise,
    /// It sent more than 64 KiB in one message, or opened more channels than anybody needs: it is to be closed.
    TooMuch,
    /// `room` is no more.
    Closed,
}

pub struct Channel {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    is_open: bool,
    has_unread: bool,
    unacknowledged: usize,
}

impl Channel {
    pub fn new(config: &ChannelConfig) -> Self {
        let endpoint = Endpoint::new(
            unused_address(),
            TransportProtocol::UDP,
            config.endpoint.clone(),
            Some(config.server.clone()),
        );
        Self { endpoint, association: None, is_open: false, has_unread: false, unacknowledged: 0 }
    }

    /// Takes what DTLS decrypted; false if it was refused, because the crate would not survive it.
    pub fn receive(&mut self, datagram: Bytes, now: Instant) -> bool {
        if !chunks::are_whole(&datagram) {
            return false;
        }
        match (self.endpoint.handle(now, unused_address(), None, datagram), &mut self.association) {
            (Some((handle, DatagramEvent::NewAssociation(association))), None) => {
                self.association = Some((handle, association));
            }
            (Some((handle, DatagramEvent::AssociationEvent(event))), Some((ours, association))) if *ours == handle => {
                association.handle_event(event);
            }
            _ => {}
        }
        true
    }

    /// What happened since the last call. With `may_read` false messages stay where they are, and the peer is slowed
    /// by the window that they fill.
    pub fn poll(&mut self, may_read: bool, now: Instant) -> Vec<Said> {
        let mut said = Vec::new();
        let Some((_, association)) = &mut self.association else { return said };
        while let Some(event) = association.poll() {
            match event {
                Event::Connected => open_room(association, now),
                Event::Stream(StreamEvent::Readable { .. }) => self.has_unread = true,
                Event::Stream(StreamEvent::Opened { .. }) => {
                    association.accept_stream();
                    if association.stream_ids().len() > STREAMS_MAX {
                        said.push(Said::TooMuch);
                    }
                }
                Event::AssociationLost { id: ROOM, .. } if self.is_open => {
                    self.is_open = false;
                    said.push(Said::Closed);
                }
                _ => {}
            }
        }
        if self.has_unread && may_read {
            self.read(&mut said, now);
        }
        said
    }

    fn read(&mut self, said: &mut Vec<Said>, now: Instant) {
        let Some((_, association)) = &mut self.association else { return };
        let mut reads_left = READS_MAX;
        for id in association.stream_ids() {
            let Ok(mut stream) = association.stream(id) else { continue };
            while let Ok(Some(message)) = stream.read_sctp() {
                if let Protocol::Dcep = message.ppi {
                    let control = message.to_payload(TEXT_BYTES_MAX).unwrap_or_default();
                    match read_control(&control) {
                        Some(Message::DataChannelAck(_)) if id == ROOM && !self.is_open => {
                            self.is_open = true;
                            said.push(Said::Open);
                        }
                        Some(Message::DataChannelOpen(_)) => acknowledge(&mut stream, now),
                        _ => {}
                    }
                } else if id == ROOM {
                    said.push(heard(&message));
                } else {
                    said.push(Said::Noise);
                }
                reads_left -= 1;
                if reads_left == 0 {
                    return;
                }
            }
        }
        self.has_unread = false;
    }

    /// Puts a text into the channel; false if it is not open.
    pub fn send(&mut self, text: &Bytes, now: Instant) -> bool {
        let Some((_, association)) = self.association.as_mut().filter(|_| self.is_open) else { return false };
        let Ok(mut stream) = association.stream(ROOM) else { return false };
        // SCTP carries no empty message: RFC 8831, 6.6 sends one byte under a name of its own.
        let written = match text.is_empty() {
            true => stream.write_with_ppi(now, &[0], Protocol::StringEmpty),
            false => stream.write_chunk_with_ppi(now, text, Protocol::String),
        };
        if let Ok(len) = written {
            self.unacknowledged += len;
        }
        written.is_ok()
    }

    /// Bytes that the peer acknowledged since the last call.
    pub fn acknowledged(&mut self) -> usize {
        let Some((_, association)) = &mut self.association else { return 0 };
        let left = association.stream(ROOM).and_then(|stream| stream.buffered_amount()).unwrap_or(0);
        let gone = self.unacknowledged.saturating_sub(left);
        self.unacknowledged -= gone;
        gone
    }

    /// The next packets for DTLS.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<Bytes>> {
        let (_, association) = self.association.as_mut()?;
        match association.poll_transmit(now)?.message {
            Payload::RawEncode(packets) => Some(packets),
            _ => None,
        }
    }

    /// Whether a timer was due.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let Some((_, association)) = &mut self.association else { return false };
        let is_due = association.poll_timeout().is_some_and(|at| at <= now);
        if is_due {
            association.handle_timeout(now);
        }
        is_due
    }

    pub fn has_unread(&self) -> bool {
        self.has_unread
    }
}

/// DTLS tells the peers apart, so SCTP needs no addresses.
fn unused_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 1))
}

fn open_room(association: &mut Association, now: Instant) {
    let open = Message::DataChannelOpen(DataChannelOpen {
        channel_type: ChannelType::Reliable,
        priority: CHANNEL_PRIORITY_NORMAL,
        reliability_parameter: 0,
        label: LABEL.to_vec(),
        protocol: Vec::new(),
    });
    // A client that took stream 1 for itself gets no `room`; nothing else can fail here.
    if let (Ok(open), Ok(mut stream)) = (open.marshal(), association.open_stream(ROOM, Protocol::Dcep)) {
        let _ = stream.write_with_ppi(now, &open, Protocol::Dcep);
    }
}

/// The two messages of RFC 8832. The crate panics over a third one of its own, which nobody sends.
fn read_control(control: &[u8]) -> Option<Message> {
    const ACK: u8 = 2;
    const OPEN: u8 = 3;

    if !matches!(control.first(), Some(&ACK | &OPEN)) {
        return None;
    }
    Message::unmarshal(&mut &control[..]).ok()
}

fn acknowledge(stream: &mut sctp::Stream<'_>, now: Instant) {
    if let Ok(ack) = Message::DataChannelAck(DataChannelAck).marshal() {
        let _ = stream.write_with_ppi(now, &ack, Protocol::Dcep);
    }
}

fn heard(message: &sctp::Chunks) -> Said {
    match message.ppi {
        Protocol::String => match message.to_payload(TEXT_BYTES_MAX) {
            Ok(text) => Said::Text(text.freeze()),
            Err(_) => Said::TooMuch,
        },
        Protocol::StringEmpty => Said::Text(Bytes::new()),
        _ => Said::Noise,
    }
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
