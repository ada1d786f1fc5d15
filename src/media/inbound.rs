//! What a datagram does: connectivity checks, handshakes, media and reports share one port (RFC 7983).

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rtcp::{
    payload_feedbacks::{
        full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
        receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    },
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    transport_feedbacks::{transport_layer_cc::TransportLayerCc, transport_layer_nack::TransportLayerNack},
};
use smallvec::SmallVec;

use super::{
    Failure,
    dtls::{Heard, Keys, Trouble},
    egress::Path,
    peer::{Role, Sending},
    registry::Source,
    stats::Dropped,
    stun::Request,
    track::SenderClock,
    worker::Worker,
};
use crate::id::RoomId;

/// Lost packets of one request that are looked at; a viewer that lost more is better served by a keyframe.
const NACKS_MAX: usize = 256;
/// A publisher of picture and sound who sends the sound alone for this long has no picture.
const PICTURE_PATIENCE: Duration = Duration::from_secs(3);

impl Worker {
    pub fn datagram(&mut self, path: Path, datagram: &[u8], now: Instant) {
        let known = self.by_address.get(&path.remote).copied();
        match (datagram.first(), known) {
            (Some(0..=3), _) => self.check(path, datagram, now),
            (Some(20..=63), Some(number)) => self.handshake(number, datagram, now),
            (Some(128..=191), Some(number)) => self.media(number, datagram, now),
            _ => self.counts.drop_one(Dropped::UnknownDatagram),
        }
    }

    /// A connectivity check: the only thing that makes an address a peer's.
    fn check(&mut self, path: Path, datagram: &[u8], now: Instant) {
        let provider = self.registry.identity.provider.clone();
        let Some(mut request) = Request::parse(datagram) else { return self.counts.drop_one(Dropped::BadCheck) };
        let number = self.by_ufrag.get(&request.local_ufrag).copied();
        let Some((number, peer)) = number.and_then(|number| Some((number, self.peer(number)?))) else {
            return self.counts.drop_one(Dropped::BadCheck);
        };
        if !request.is_authentic(&peer.password, provider.crypto()) {
            return self.counts.drop_one(Dropped::BadCheck);
        }
        let Some((answer, succeeds)) = request.answer(path.remote, &peer.password, provider.crypto()) else { return };
        if succeeds {
            let left = peer.checked(path, request.nominates, now);
            if let Some(left) = left {
                self.by_address.remove(&left.remote);
            }
            self.give_address(path, number);
        }
        if self.egress.push(path, &answer).is_err() {
            self.counts.drop_one(Dropped::SendQueueFull);
        }
    }

    fn give_address(&mut self, path: Path, number: u32) {
        let before = self.by_address.insert(path.remote, number);
        if let Some(other) = before.filter(|other| *other != number)
            && let Some(other) = self.peer(other)
        {
            other.lose_address(path);
        }
    }

    fn handshake(&mut self, number: u32, datagram: &[u8], now: Instant) {
        let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { return };
        let heard = self.handshakes.read(number, &mut peer.progress, &peer.certificate, datagram, now);
        self.send_handshakes();
        match heard {
            Ok(heard) => heard.into_iter().for_each(|heard| self.hear(number, heard, now)),
            Err(Trouble::Drop(reason)) => self.counts.drop_one(reason),
            Err(Trouble::End(why)) => self.close(number, why, now),
        }
    }

    fn hear(&mut self, number: u32, heard: Heard, now: Instant) {
        match heard {
            Heard::Keys(keys) => self.joined(number, keys, now),
            Heard::Closed => self.close(number, Failure::Left, now),
            Heard::Data(data) => {
                if let Some(channel) = self.peer(number).and_then(|peer| peer.channel.as_mut()) {
                    match channel.receive(data.freeze(), now) {
                        true => self.poll_channel(number, now),
                        false => self.counts.drop_one(Dropped::BadChannelData),
                    }
                }
            }
        }
    }

    pub(super) fn joined(&mut self, number: u32, mut keys: Box<Keys>, now: Instant) {
        self.counts.joins += 1;
        let Some(peer) = self.peer(number) else { return };
        let room = peer.session.room.id.clone();
        if let Role::Publisher(publisher) = &peer.role {
            publisher.announced.iter().for_each(|ssrc| keys.opener.announce(*ssrc));
            keys.opener.expect(publisher.extensions);
        }
        peer.keys = Some(keys);
        if matches!(&peer.role, Role::Viewer(viewer) if !viewer.legs.is_empty()) {
            self.recall(&room);
            self.serve(&room, number, now);
        }
    }

    fn media(&mut self, number: u32, datagram: &[u8], now: Instant) {
        let is_report = datagram.get(1).is_some_and(|kind| (192..=223).contains(kind));
        let result = if is_report { self.report(number, datagram, now) } else { self.packet(number, datagram, now) };
        match result {
            Ok(()) => self.peer(number).into_iter().for_each(|peer| peer.progress.note_proof()),
            Err(reason) => self.counts.drop_one(reason),
        }
    }

    /// A publisher's media packet.
    fn packet(&mut self, number: u32, datagram: &[u8], now: Instant) -> Result<(), Dropped> {
        let peer = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut);
        let peer = peer.ok_or(Dropped::UnknownDatagram)?;
        let (Role::Publisher(publisher), Some(keys)) = (&mut peer.role, &mut peer.keys) else {
            return Err(Dropped::NotPublishing);
        };
        let opened = keys.opener.rtp(datagram)?;
        self.counts.packets_in += 1;
        self.counts.bytes_in += datagram.len() as u64;
        if let Some(transport) = opened.transport {
            publisher.arrivals.note(opened.ssrc, transport, now);
        }
        self.counts.rtx_in += u64::from(publisher.intake.repairs(opened.payload_type));
        if !peer.session.room.is_published_by(peer.session.id) {
            return Err(Dropped::NotPublishing);
        }
        // Padding is an error here: it says that she is there, but not that there is something to see.
        let packet = publisher.intake.receive(opened, now)?;
        let ends_frame = packet.marker && publisher.source.counts_frames(packet.track);
        peer.session.quality.received(datagram.len(), ends_frame);
        if packet.starts_keyframe && publisher.source.is_video(packet.track) {
            publisher.source.wants_keyframe.fetch_and(!(1 << packet.track), Ordering::AcqRel);
            publisher.throttles[usize::from(packet.track)].satisfy();
        }
        let config = &self.registry.config;
        let is_sound = !publisher.source.is_video(packet.track) && publisher.source.has_video();
        let patience = if is_sound { config.sound_coalesce_time() } else { config.coalesce_time() };
        publisher.packets.push(packet);
        publisher.media_at = Some(now);
        // Sound comes at once, an encoder's first picture may take seconds: viewers are told when there is one to see.
        let began = *publisher.began_at.get_or_insert(now);
        let waits_for_picture = is_sound && now.saturating_duration_since(began) < PICTURE_PATIENCE;
        if !waits_for_picture && !publisher.source.is_live.load(Ordering::Relaxed) {
            let (room, source) = (peer.session.room.id.clone(), publisher.source.clone());
            let media_ms = publisher.intake.media_ms().unwrap_or(0);
            self.go_live(room, &source, media_ms, now);
        }
        self.note_pending(number, patience, now);
        Ok(())
    }

    fn go_live(&mut self, room: RoomId, source: &Source, media_ms: u64, now: Instant) {
        // Before she is seen to be live, so that a state event of this very moment has a time.
        self.registry.note_media_time(source, media_ms, now);
        source.is_live.store(true, Ordering::Release);
        self.outbox.push(super::Event::Live { room, session: source.session, tracks: source.tracks() });
    }

    fn report(&mut self, number: u32, datagram: &[u8], now: Instant) -> Result<(), Dropped> {
        let peer = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut);
        let peer = peer.ok_or(Dropped::UnknownDatagram)?;
        let keys = peer.keys.as_mut().ok_or(Dropped::UnknownDatagram)?;
        let plain = keys.opener.rtcp(datagram)?;
        let packets = rtcp::packet::unmarshal(&mut plain.clone()).map_err(|_| Dropped::BadRtcp)?;

        let mut nacks_left = NACKS_MAX;
        for packet in packets.iter().map(|packet| packet.as_any()) {
            if let Some(report) = packet.downcast_ref::<SenderReport>() {
                self.note_clock(number, report, now);
            } else if let Some(report) = packet.downcast_ref::<ReceiverReport>() {
                self.note_reception(number, &report.reports, now);
            } else if let Some(feedback) = packet.downcast_ref::<TransportLayerCc>() {
                self.note_feedback(number, feedback, now);
            } else if let Some(remb) = packet.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
                self.note_remb(number, remb.bitrate);
            } else if packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>() {
                self.viewer_wants_keyframe(number, now);
            } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
                let lost = nack.nacks.iter().flat_map(|pair| pair.into_iter()).take(nacks_left);
                nacks_left -= lost.map(|lost| self.resend(number, nack.media_ssrc, lost, now)).count();
            }
        }
        Ok(())
    }

    fn note_clock(&mut self, number: u32, report: &SenderReport, now: Instant) {
        let Some(publisher) = self.peer(number).and_then(|peer| peer.publisher()) else { return };
        let clock = SenderClock { ntp: report.ntp_time, rtp: report.rtp_time, at: now };
        if let Some(clock) = publisher.intake.note_clock(report.ssrc, clock) {
            publisher.clocks.push(clock);
            self.note_pending(number, self.registry.config.sound_coalesce_time(), now);
        }
    }

    /// A viewer's words about the streams that she gets; about others she knows nothing.
    fn note_reception(&mut self, number: u32, reports: &[ReceptionReport], now: Instant) {
        let Some(peer) = self.peer(number) else { return };
        let Role::Viewer(viewer) = &peer.role else { return };
        let ours = reports.iter().filter(|report| viewer.legs.iter().any(|leg| leg.has_ssrc(report.ssrc)));
        let ours: SmallVec<[ReceptionReport; 2]> = ours.cloned().collect();
        peer.session.quality.heard_from_viewer(&ours, now);
        let round_trip = peer.session.quality.read().round_trip;
        if let Role::Viewer(viewer) = &mut peer.role {
            let worst = ours.iter().map(|report| report.fraction_lost).max();
            worst.into_iter().for_each(|lost| viewer.heard_report(lost, round_trip, now));
        }
    }

    fn note_feedback(&mut self, number: u32, feedback: &TransportLayerCc, now: Instant) {
        if let Some(Role::Viewer(viewer)) = self.peer(number).map(|peer| &mut peer.role) {
            viewer.heard_feedback(feedback, now);
        }
    }

    fn note_remb(&mut self, number: u32, bits_per_second: f32) {
        if let Some(Role::Viewer(viewer)) = self.peer(number).map(|peer| &mut peer.role) {
            viewer.heard_remb(bits_per_second);
        }
    }

    fn viewer_wants_keyframe(&mut self, number: u32, now: Instant) {
        let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { return };
        let Role::Viewer(viewer) = &mut peer.role else { return };
        let room = peer.session.room.id.clone();
        self.counts.pli_in += 1;
        let Some(feed) = self.stages.get(&room).and_then(|stage| stage.feed.as_ref()) else { return };
        if viewer.begin_again(feed, now) {
            self.serve(&room, number, now);
        } else {
            let wanted = viewer.cannot_decode(feed);
            self.want_keyframe(&room, wanted);
        }
    }

    /// A viewer lost a packet.
    fn resend(&mut self, number: u32, ssrc: u32, lost: u16, now: Instant) {
        self.counts.nack_in += 1;
        let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { return };
        let feed = self.stages.get(&peer.session.room.id).and_then(|stage| stage.feed.as_ref());
        let (Role::Viewer(viewer), Some(keys), Some(path), Some(feed)) =
            (&mut peer.role, &mut peer.keys, peer.path, feed)
        else {
            return;
        };
        let mut sending = Sending { keys, path, egress: &mut self.egress, counts: &mut self.counts };
        match viewer.resend(ssrc, lost, feed, &mut sending, now) {
            Ok(()) => self.counts.rtx_out += 1,
            Err(reason) => self.counts.drop_one(reason),
        }
    }
}
