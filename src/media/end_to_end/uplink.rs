//! What a publisher is told of her way to the server.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use rtc::{
    interceptor::{Interceptor, Packet, Slot, StreamInfo, TaggedPacket},
    peer_connection::configuration::interceptor_registry::configure_twcc_sender_only,
    sansio::Protocol,
};
use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;

use super::*;

/// Behind all of the crate's own interceptors.
const LAST_SLOT: usize = 14_000;

type Heard = Arc<Mutex<Vec<TransportLayerCc>>>;

/// Keeps the feedback that comes.
struct Ear {
    heard: Heard,
    read: VecDeque<TaggedPacket>,
    written: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Ear {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = webrtc::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtcp(reports) = &packet.message.packet {
            let feedback = reports.iter().filter_map(|report| report.as_any().downcast_ref().cloned());
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend(feedback);
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

impl Interceptor for Ear {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_learns_of_every_packet_when_it_came() {
    let (media, _events) = server(|_| {});
    let heard = Heard::default();
    let ear = Ear { heard: heard.clone(), read: VecDeque::new(), written: VecDeque::new() };
    let client = Client::with_interceptors(
        codec(RtpCodecKind::Video),
        Ipv4Addr::LOCALHOST.into(),
        both_profiles(),
        |registry, engine| configure_twcc_sender_only(registry, engine).unwrap().with(Slot::from(LAST_SLOT), ear),
    );
    let _publisher = publish_from(&media, client.await, 65_500, |answer| answer).await;

    let told = || -> usize { heard.lock().unwrap().iter().map(|told| usize::from(told.packet_status_count)).sum() };
    until("two seconds of picture and sound are told", || told() >= 200).await;
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    assert!(heard.len() > 15, "soon, not all at the end: {}", heard.len());
    for pair in heard.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        assert_eq!(after.fb_pkt_count, before.fb_pkt_count.wrapping_add(1));
        assert_eq!(after.base_sequence_number, before.base_sequence_number.wrapping_add(before.packet_status_count));
        assert_eq!(after.recv_deltas.len(), usize::from(after.packet_status_count), "nothing was lost");
    }
    let passed_ms = heard.iter().flat_map(|told| &told.recv_deltas[1..]).map(|delta| delta.delta).sum::<i64>() / 1_000;
    assert!((500..=4_000).contains(&passed_ms), "arrivals are as far apart as the packets: {passed_ms} ms");
}
