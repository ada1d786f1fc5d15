//! The names of a simulcast publisher's streams, in each of her packets (RFC 8852): her offer names layers and no SSRC,
//! as a browser's does.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;
use rtc::{
    interceptor::{Interceptor, Packet, Slot, StreamInfo, TaggedPacket},
    sansio::Protocol,
};

const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
/// Below the responder to requests for lost packets, so that what it sends again is named too.
const SLOT: usize = 3_500;

/// One layer as it is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub rid: &'static str,
    pub ssrc: u32,
    pub rtx_ssrc: u32,
}

impl Layer {
    pub fn new(rid: &'static str) -> Self {
        Self { rid, ssrc: rand::random(), rtx_ssrc: rand::random() }
    }
}

/// Writes the names.
pub struct LayerNames {
    layers: Vec<Layer>,
    /// The section of the offer that the layers are in, once there is an offer.
    mid: Arc<OnceLock<String>>,
    /// By SSRC, with the extension that carries it.
    names: HashMap<u32, (u8, Bytes)>,
    mid_id: Option<u8>,
    read: VecDeque<TaggedPacket>,
    written: VecDeque<TaggedPacket>,
}

impl LayerNames {
    pub fn slot() -> Slot {
        Slot::from(SLOT)
    }

    pub fn new(layers: Vec<Layer>, mid: Arc<OnceLock<String>>) -> Self {
        let (read, written) = (VecDeque::new(), VecDeque::new());
        Self { layers, mid, names: HashMap::new(), mid_id: None, read, written }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for LayerNames {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = webrtc::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, mut packet: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtp(rtp) = &mut packet.message.packet
            && let Some((id, rid)) = self.names.get(&rtp.header.ssrc)
        {
            rtp.header.set_extension(*id, rid.clone())?;
            if let Some((id, mid)) = self.mid_id.zip(self.mid.get()) {
                rtp.header.set_extension(id, Bytes::copy_from_slice(mid.as_bytes()))?;
            }
        }
        self.written.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.written.pop_front()
    }
}

impl Interceptor for LayerNames {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        let Some(layer) = self.layers.iter().find(|layer| layer.ssrc == info.ssrc) else { return };
        let id_of = |uri: &str| {
            let agreed = info.rtp_header_extensions.iter().find(|extension| extension.uri == uri);
            agreed.and_then(|extension| u8::try_from(extension.id).ok())
        };
        self.mid_id = id_of(MID_URI);
        let rid = Bytes::from_static(layer.rid.as_bytes());
        let streams = [(layer.ssrc, id_of(RID_URI)), (layer.rtx_ssrc, id_of(REPAIRED_RID_URI))];
        let named = streams.into_iter().filter_map(|(ssrc, id)| Some((ssrc, (id?, rid.clone()))));
        self.names.extend(named);
    }

    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
