//! What happens by itself: deadlines, reports, repeats.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use smallvec::SmallVec;

use super::{
    Event, Failure,
    peer::Role,
    report::{keyframe_request, nack, receiver_report},
    stats::Dropped,
    worker::Worker,
};

/// Publishers hear every second what arrived of them.
const RECEIVER_REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A peer that has not heard all of our handshake has said so by now.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

impl Worker {
    pub(super) fn tick(&mut self, now: Instant) {
        for number in self.numbers() {
            // The timers of DTLS and SCTP are the libraries' code: a panic there costs one peer.
            let ticked = catch_unwind(AssertUnwindSafe(|| self.tick_peer(number, now)));
            if ticked.is_err() {
                self.counts.drop_one(Dropped::Panicked);
                self.close(number, Failure::Panic, now);
            }
        }
    }

    fn tick_peer(&mut self, number: u32, now: Instant) {
        if let Err(why) = self.deadlines(number, now) {
            return self.close(number, why, now);
        }
        self.tick_channel(number, now);
        let report_interval = self.registry.config.report_interval();
        let Some(peer) = self.peer(number) else { return };
        let since_report = now.saturating_duration_since(peer.reported_at);
        match &mut peer.role {
            Role::Publisher(_) => {
                if since_report >= RECEIVER_REPORT_INTERVAL {
                    self.report_to_publisher(number, now);
                }
                self.ask_for_lost(number, now);
                self.tell_arrivals(number);
                self.notice_stall(number, now);
            }
            Role::Viewer(viewer) => {
                viewer.legs.iter_mut().for_each(|leg| leg.refill_resends());
                if since_report >= report_interval {
                    self.report_to_viewer(number, now);
                }
            }
        }
    }

    fn deadlines(&mut self, number: u32, now: Instant) -> Result<(), Failure> {
        let config = &self.registry.config;
        let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { return Ok(()) };
        if peer.session.is_leaving.load(Ordering::Acquire) {
            return Err(Failure::Left);
        }
        if peer.path.is_none() && now.saturating_duration_since(peer.joined_at) > config.ice_time() {
            return Err(Failure::Unreachable);
        }
        if !peer.progress.is_done() {
            if now.saturating_duration_since(peer.joined_at) > config.handshake_time() {
                return Err(Failure::Handshake);
            }
            self.handshakes.handle_timeout(number, &mut peer.progress, now);
            self.send_handshakes();
            return Ok(());
        }
        if now.saturating_duration_since(peer.heard_at) > config.consent_time() {
            return Err(Failure::Consent);
        }
        if now.saturating_duration_since(peer.joined_at) > SETTLED_AFTER {
            self.handshakes.settle(number, &mut peer.progress, now);
        }
        Ok(())
    }

    fn tick_channel(&mut self, number: u32, now: Instant) {
        let Some(channel) = self.peer(number).and_then(|peer| peer.channel.as_mut()) else { return };
        if channel.handle_timeout(now) || channel.has_unread() {
            self.poll_channel(number, now);
        }
    }

    pub(super) fn close_leavers(&mut self, now: Instant) {
        for number in self.numbers() {
            if self.peer(number).is_some_and(|peer| peer.session.is_leaving.load(Ordering::Acquire)) {
                self.close(number, Failure::Left, now);
            }
        }
    }

    /// Viewers anywhere may have asked; the throttle decides when the publisher is.
    pub(super) fn ask_for_keyframes(&mut self, now: Instant) {
        for place in 0..self.publishers.len() {
            let number = self.publishers[place];
            let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { continue };
            let Role::Publisher(publisher) = &mut peer.role else { continue };
            let wanted = publisher.source.wants_keyframe.swap(0, Ordering::AcqRel);
            let mut asked: SmallVec<[u32; 4]> = SmallVec::new();
            for (track, throttle) in publisher.throttles.iter_mut().enumerate() {
                if wanted & 1 << track != 0 {
                    throttle.want();
                }
                // A track that has not come yet begins with a keyframe anyway; the wish is kept until then.
                let ssrc = publisher.intake.ssrc_of(track).filter(|_| throttle.is_wanted());
                asked.extend(ssrc.filter(|_| throttle.ask(now)));
            }
            let ours = publisher.ssrc;
            for video in asked {
                self.counts.pli_sent += 1;
                peer.send_rtcp(&keyframe_request(ours, video), &mut self.egress, &mut self.counts);
            }
        }
    }

    pub(super) fn ask_for_lost(&mut self, number: u32, now: Instant) {
        let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { return };
        let Some(publisher) = peer.publisher() else { return };
        let (ours, all) = (publisher.ssrc, publisher.intake.lost(now));
        let asks_at = publisher.intake.asks_at();
        self.ask_at = self.ask_at.into_iter().chain(asks_at).min();
        for lost in all {
            self.counts.nack_sent += lost.sequences.len() as u64;
            peer.send_rtcp(&nack(ours, lost.ssrc, &lost.sequences), &mut self.egress, &mut self.counts);
        }
    }

    /// By this her encoder finds what her uplink carries.
    fn tell_arrivals(&mut self, number: u32) {
        let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { return };
        let Role::Publisher(publisher) = &mut peer.role else { return };
        let ours = publisher.ssrc;
        let all: Vec<_> = std::iter::from_fn(|| publisher.arrivals.tell(ours)).collect();
        for told in all {
            peer.send_rtcp(&[Box::new(told)], &mut self.egress, &mut self.counts);
        }
    }

    fn report_to_publisher(&mut self, number: u32, now: Instant) {
        let bitrate_max = self.registry.config.publisher_bitrate_max;
        let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { return };
        peer.reported_at = now;
        let Role::Publisher(publisher) = &mut peer.role else { return };
        let reports = publisher.intake.reception_reports(now);
        peer.session.quality.reported_to_publisher(&reports, now);
        if reports.is_empty() {
            return;
        }
        let packets = receiver_report(publisher.ssrc, reports, bitrate_max, publisher.intake.video_ssrcs());
        peer.send_rtcp(&packets, &mut self.egress, &mut self.counts);
    }

    fn report_to_viewer(&mut self, number: u32, now: Instant) {
        let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { return };
        peer.reported_at = now;
        let feed = self.stages.get(&peer.session.room.id).and_then(|stage| stage.feed.as_ref());
        let (Role::Viewer(viewer), Some(feed)) = (&peer.role, feed) else { return };
        let mut reports = Vec::new();
        for leg in &viewer.legs {
            let tap = leg.position().and_then(|(track, _)| feed.tap(track, now));
            let clock = tap.and_then(|tap| Some((tap.ring.stream(), tap.clock?)));
            if let Some(report) = clock.and_then(|(stream, clock)| leg.report(stream, clock, now)) {
                reports.push(report);
            }
        }
        peer.session.quality.switched(viewer.layer_shown(feed), viewer.link());
        peer.session.quality.reported_to_viewer(&reports, now);
        if !reports.is_empty() {
            let reports: Vec<Box<dyn rtcp::Packet>> = reports.into_iter().map(|report| Box::new(report) as _).collect();
            peer.send_rtcp(&reports, &mut self.egress, &mut self.counts);
        }
    }

    fn notice_stall(&mut self, number: u32, now: Instant) {
        let stall_time = self.registry.config.stall_time();
        let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { return };
        let (room, session) = (peer.session.room.id.clone(), peer.session.id);
        let Some(publisher) = peer.publisher() else { return };
        let is_silent = publisher.media_at.is_some_and(|at| now.saturating_duration_since(at) > stall_time);
        if is_silent && publisher.source.is_live.swap(false, Ordering::AcqRel) {
            self.outbox.push(Event::Ended { room, session });
        }
    }
}
