//! The data channel `room` from a viewer's side: SCTP over her DTLS, opened by the server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use bytes::Bytes;
use datachannel::message::{Message, message_channel_ack::DataChannelAck};
use sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Protocol, StreamEvent, TransportConfig,
};
use shared::{
    TransportProtocol,
    marshal::{Marshal, Unmarshal},
};

const TEXT_BYTES_MAX: usize = 64 << 10;
const STREAM_IDS: u16 = 16;

pub struct Channel {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    is_open: bool,
}

/// What came of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub opened: bool,
    pub texts: u64,
}

impl Channel {
    /// Begins the association.
    pub fn new(now: Instant) -> anyhow::Result<Self> {
        let transport = TransportConfig::default()
            .with_max_receive_buffer_size(2 * TEXT_BYTES_MAX as u32)
            .with_max_message_size(TEXT_BYTES_MAX as u32)
            .with_max_num_inbound_streams(STREAM_IDS)
            .with_max_num_outbound_streams(STREAM_IDS);
        let mut endpoint =
            Endpoint::new(unused_address(), TransportProtocol::UDP, Arc::new(EndpointConfig::default()), None);
        let (handle, association) =
            endpoint.connect(now, ClientConfig::new(transport), unused_address()).context("no association")?;
        Ok(Self { endpoint, handle, association, is_open: false })
    }

    /// Takes what DTLS decrypted; says `hello` once the server has opened `room`.
    pub fn receive(&mut self, datagram: Bytes, hello: Option<&str>, now: Instant) -> Said {
        if let Some((handle, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(now, unused_address(), None, datagram)
            && handle == self.handle
        {
            self.association.handle_event(event);
        }
        let mut has_unread = false;
        while let Some(event) = self.association.poll() {
            match event {
                Event::Stream(StreamEvent::Readable { .. }) => has_unread = true,
                Event::Stream(StreamEvent::Opened { .. }) => drop(self.association.accept_stream()),
                _ => {}
            }
        }
        if has_unread { self.read(hello, now) } else { Said::default() }
    }

    fn read(&mut self, hello: Option<&str>, now: Instant) -> Said {
        let mut said = Said::default();
        for id in self.association.stream_ids() {
            let Ok(mut stream) = self.association.stream(id) else { continue };
            while let Ok(Some(message)) = stream.read_sctp() {
                if !matches!(message.ppi, Protocol::Dcep) {
                    said.texts += 1;
                    continue;
                }
                let control = message.to_payload(TEXT_BYTES_MAX).unwrap_or_default();
                let Ok(Message::DataChannelOpen(_)) = Message::unmarshal(&mut control.freeze()) else { continue };
                if let Ok(acknowledgement) = Message::DataChannelAck(DataChannelAck).marshal() {
                    let _ = stream.write_with_ppi(now, &acknowledgement, Protocol::Dcep);
                }
                if let Some(hello) = hello {
                    let _ = stream.write_with_ppi(now, hello.as_bytes(), Protocol::String);
                }
                said.opened |= !std::mem::replace(&mut self.is_open, true);
            }
        }
        said
    }

    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The next packets for DTLS.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<Bytes>> {
        match self.association.poll_transmit(now)?.message {
            Payload::RawEncode(packets) => Some(packets),
            _ => None,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.association.poll_timeout().is_some_and(|at| at <= now) {
            self.association.handle_timeout(now);
        }
    }
}

/// DTLS tells the peers apart, so SCTP needs no addresses.
fn unused_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 1))
}
