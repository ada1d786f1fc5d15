//! Packets that are sent again under their own SSRC (RFC 4588), put back in their places before anybody asks for them
//! once more.
//!
//! The webrtc crate does so behind its interceptors: its NACK generator never hears that a packet was repaired, and asks
//! for it ten times a second until it has left the window.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use rtc::{
    interceptor::{Interceptor, Packet, Slot, StreamInfo, TaggedPacket},
    sansio::Protocol,
};

/// Between the reports, which tell of the first attempt, and what asks for lost packets.
const SLOT: usize = 6_500;

/// Where a repair belongs.
#[derive(Clone, Copy)]
struct Original {
    ssrc: u32,
    payload_type: u8,
    repair_payload_type: u8,
}

#[derive(Default)]
pub struct Repairs {
    /// By the SSRC of the repairs.
    originals: HashMap<u32, Original>,
    read: VecDeque<TaggedPacket>,
    written: VecDeque<TaggedPacket>,
}

impl Repairs {
    pub fn slot() -> Slot {
        Slot::from(SLOT)
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Repairs {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = webrtc::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, mut packet: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtp(rtp) = &mut packet.message.packet
            && let Some(original) = self.originals.get(&rtp.header.ssrc)
            && original.repair_payload_type == rtp.header.payload_type
            && let Some(number) = rtp.payload.get(..2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
        {
            rtp.header.ssrc = original.ssrc;
            rtp.header.payload_type = original.payload_type;
            rtp.header.sequence_number = number;
            rtp.payload = rtp.payload.slice(2..);
        }
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        self.written.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.written.pop_front()
    }
}

impl Interceptor for Repairs {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        if let (Some(repairs), Some(repair_payload_type)) = (info.ssrc_rtx, info.payload_type_rtx) {
            let original = Original { ssrc: info.ssrc, payload_type: info.payload_type, repair_payload_type };
            self.originals.insert(repairs, original);
        }
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.originals.retain(|_, original| original.ssrc != info.ssrc);
    }
}
