//! A viewer: which of the publisher's tracks she is on, and how much she is sent now.

use std::time::{Duration, Instant};

use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;

use super::{
    Config,
    bandwidth::{Bandwidth, Limits},
    codec::Kind,
    forward::{Leg, Stamp, Tap},
    layers::{Layer, Layers, Patience, Target, Wish},
    pacer::Pacer,
    peer::Sending,
    quality::Link,
    ring::Ring,
    stage::Feed,
    stats::Dropped,
    track::Packet,
};

/// A keyframe with more behind it than this is no place to change layers at: a newer one is asked for.
const SWITCH_BYTES_MAX: usize = 96 * 1024;
/// A viewer this many packets behind goes on at a newer keyframe, if there is one.
const LAG_MAX: u64 = 256;
/// How often the layer is chosen.
const CHOOSE_EVERY: Duration = Duration::from_millis(100);
/// What may go out to one viewer at once is what her rate has in this time: an ordinary picture goes in one send.
const BURST: Duration = Duration::from_millis(30);
/// Packets go out at this multiple of the estimate: a link's queue holds a picture for less time than we would.
const PACE: f32 = 2.5;
/// And at this multiple of the layer's rate, whatever the estimate, until this long after the beginning: nothing is
/// known yet, and she waits for her first picture.
const FIRST_PACE: f32 = 6.0;
const FIRST_TIME: Duration = Duration::from_secs(1);
/// Afterwards a stream that is sent at all is not held back more than its own unevenness needs.
const LEAST_PACE: f32 = 1.5;
/// Taken for the rate of a layer that was not measured yet.
const UNMEASURED_BPS: u32 = 1_500_000;
/// Padding of one probe that is sent at once.
const PADDING_PACKETS_MAX: usize = 16;

/// What a viewer asks to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub wish: Wish,
    /// Of the picture on her screen, in pixels, if she says.
    pub height: Option<u16>,
}

pub struct Viewer {
    pub legs: Vec<Leg>,
    pub view: View,
    bandwidth: Bandwidth,
    pacer: Pacer,
    layers: Layers,
    target: Target,
    chosen_at: Option<Instant>,
    began_at: Instant,
    /// Her packets carry transport-wide numbers, and she reports on them.
    reports: bool,
    probes_until: Option<Instant>,
    has_begun_again: bool,
    remb: Option<u32>,
    /// A beginning with more bytes behind its keyframe than this waits for a new one.
    fast_start_bytes_max: usize,
}

/// What became of serving a viewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Tracks, as bits, of which she needs a keyframe.
    pub wants: u32,
    /// There is more for her than she may be sent now.
    pub lags: bool,
    /// Tracks of a codec that she cannot decode.
    pub unplayable: u64,
}

impl Viewer {
    /// `reports`: whether transport-wide feedback was agreed.
    pub fn new(mut legs: Vec<Leg>, reports: bool, config: &Config, now: Instant) -> Self {
        // Packets of one size share a send if the last is the only smaller one: the sound goes behind the picture.
        legs.sort_by_key(|leg| leg.kind() == Kind::Audio);
        let mut limits = Limits { max_bps: config.viewer_bitrate_max, ..Limits::default() };
        // Who reports on no packet is sent everything until she tells of loss.
        limits.start_bps = if reports { config.viewer_bitrate_start } else { limits.max_bps };
        Self {
            legs,
            view: View::default(),
            bandwidth: Bandwidth::new(limits, now),
            pacer: Pacer::new(limits.start_bps, BURST, now),
            layers: Layers::new(Patience { audio_only: config.audio_only_time(), ..Patience::default() }),
            target: Target::AudioOnly,
            chosen_at: None,
            began_at: now,
            reports,
            probes_until: None,
            has_begun_again: false,
            remb: None,
            fast_start_bytes_max: config.fast_start_bytes_max,
        }
    }

    /// Sends what is new for her, and what came late.
    pub fn serve(&mut self, feed: &Feed, late: &[Packet], sending: &mut Sending, now: Instant) -> Served {
        let is_due = self.chosen_at.is_none_or(|at| now.saturating_duration_since(at) >= CHOOSE_EVERY);
        if is_due || self.target == Target::AudioOnly {
            self.choose(feed, now);
        }
        let mut served = Served::default();
        let video = self.video_track(feed);
        for place in 0..self.legs.len() {
            self.serve_leg(place, video, feed, late, sending, &mut served, now);
        }
        if self.probes_until.is_some() {
            served.lags |= self.fill_probe(feed, sending, now);
        }
        served
    }

    #[expect(clippy::too_many_arguments, reason = "one leg's part of `serve`")]
    fn serve_leg(
        &mut self,
        place: usize,
        video: Option<u8>,
        feed: &Feed,
        late: &[Packet],
        sending: &mut Sending,
        served: &mut Served,
        now: Instant,
    ) {
        let leg = &mut self.legs[place];
        let is_video = leg.kind() == Kind::Video;
        let target = if is_video { video } else { feed.audio() };
        let Some(tap) = target.and_then(|track| feed.tap(track, now)) else {
            if is_video && !feed.layers().is_empty() {
                leg.pause();
            }
            return;
        };
        let was_on = leg.position();
        follow(leg, &tap, feed, self.fast_start_bytes_max, served, now);
        // Another publisher is a beginning like the first.
        if is_video && leg.position().is_some_and(|on| was_on.is_none_or(|was| was.0 == on.0 && was.1 != on.1)) {
            self.began_at = now;
            self.pace(feed, now);
        }
        for packet in late {
            if let Ok(stamp) = self.legs[place].late(packet, now) {
                self.send(&stamp, packet, sending, now);
            }
        }
        let ring = self.legs[place].position().and_then(|(track, _)| feed.ring(track));
        if let Some(ring) = ring {
            served.lags |= self.drain(place, ring, sending, now);
        }
    }

    /// True if something is left. Sound never waits.
    fn drain(&mut self, place: usize, ring: &Ring, sending: &mut Sending, now: Instant) -> bool {
        let is_video = self.legs[place].kind() == Kind::Video;
        while self.legs[place].lag(ring) > 0 {
            if is_video && self.pacer.next(now).is_some() {
                return true;
            }
            let Some((stamp, packet)) = self.legs[place].next(ring, now) else { return false };
            self.send(&stamp, packet, sending, now);
        }
        false
    }

    fn send(&mut self, stamp: &Stamp, packet: &Packet, sending: &mut Sending, now: Instant) {
        let bytes = packet.payload.len() + super::seal::HEADER_LEN;
        self.pacer.pass(bytes, now);
        // Only packets that carry a number are counted by those who report on numbers.
        let number = match stamp.transport.is_some() || !self.reports {
            true => self.bandwidth.sent(bytes, now),
            false => 0,
        };
        sending.media(stamp, packet, number);
    }

    /// A packet that she lost.
    pub fn resend(
        &mut self,
        ssrc: u32,
        lost: u16,
        feed: &Feed,
        sending: &mut Sending,
        now: Instant,
    ) -> Result<(), Dropped> {
        let leg = self.legs.iter_mut().find(|leg| leg.has_ssrc(ssrc)).ok_or(Dropped::ResendMissing)?;
        let (stamp, packet) = leg.resend(lost, |track| feed.ring(track))?;
        self.send(&stamp, packet, sending, now);
        Ok(())
    }

    /// A newcomer may miss the beginning, which leaves as soon as our side of the handshake is done: her picture begins once
    /// more at the keyframe that is here, which costs the publisher and the other viewers nothing. False if it is too far
    /// back, if nothing follows it, and for everybody who is helped by a new one only.
    pub fn begin_again(&mut self, feed: &Feed, now: Instant) -> bool {
        let is_new = now.saturating_duration_since(self.began_at) < FIRST_TIME;
        if self.has_begun_again || !is_new {
            return false;
        }
        let leg = self.legs.iter_mut().find(|leg| leg.kind() == Kind::Video && leg.is_in_first_stretch());
        let Some((leg, (track, stream))) = leg.and_then(|leg| leg.position().map(|position| (leg, position))) else {
            return false;
        };
        let limit = self.fast_start_bytes_max;
        let tap = feed.tap(track, now).filter(|tap| tap.ring.stream() == stream && feed.flows(track, now));
        let near = tap.filter(|tap| tap.ring.keyframe().is_some_and(|keyframe| keyframe.bytes <= limit));
        let begins = near.is_some_and(|tap| leg.begin(&tap, tap.clock, now));
        self.has_begun_again = begins;
        begins
    }

    pub fn heard_feedback(&mut self, feedback: &TransportLayerCc, now: Instant) {
        if self.reports {
            self.bandwidth.feedback(feedback, now);
        }
    }

    /// What a receiver report says about the picture.
    pub fn heard_report(&mut self, fraction_lost: u8, round_trip: Option<Duration>, now: Instant) {
        if !self.reports {
            self.bandwidth.reported(fraction_lost, self.remb, round_trip, now);
        }
    }

    pub fn heard_remb(&mut self, bits_per_second: f32) {
        self.remb = Some(bits_per_second.clamp(0.0, u32::MAX as f32) as u32);
    }

    /// What is known of her link.
    pub fn link(&self) -> Link {
        let Self { bandwidth, .. } = self;
        Link { bits: bandwidth.estimate(), loss: bandwidth.loss(), round_trip: bandwidth.round_trip() }
    }

    fn choose(&mut self, feed: &Feed, now: Instant) {
        self.chosen_at = Some(now);
        self.bandwidth.turn(now);
        let layers = feed.layers();
        let estimate = self.bandwidth.estimate();
        let for_picture = estimate.saturating_sub(feed.audio_bps());
        let View { wish, height } = self.view;
        self.target = self.layers.choose(layers, for_picture, wish, height, now);
        self.pace(feed, now);
        self.try_for_more(feed, now);
    }

    fn pace(&mut self, feed: &Feed, now: Instant) {
        let measured = self.layer(feed).map(|layer| layer.bitrate_bps).filter(|bps| *bps > 0);
        let rate = measured.unwrap_or(UNMEASURED_BPS);
        let is_new = now.saturating_duration_since(self.began_at) < FIRST_TIME;
        let least = rate as f32 * if is_new { FIRST_PACE } else { LEAST_PACE };
        self.pacer.set_rate((self.bandwidth.estimate() as f32 * PACE).max(least) as u32, 1.0);
    }

    /// Begins a probe when a larger layer waits for the estimate to carry it.
    fn try_for_more(&mut self, feed: &Feed, now: Instant) {
        let wanted = self.layers.wanted_bps(feed.layers(), self.view.height);
        let Some(wanted) = wanted.map(|bps| bps.saturating_add(feed.audio_bps())) else { return };
        if let Some(probe) = self.bandwidth.probe(wanted, now) {
            self.probes_until = Some(now + probe.time);
        }
    }

    /// Sends padding while a probe runs; false when it ended.
    fn fill_probe(&mut self, feed: &Feed, sending: &mut Sending, now: Instant) -> bool {
        if self.probes_until.is_none_or(|until| now > until) {
            self.probes_until = None;
            return false;
        }
        for _ in 0..PADDING_PACKETS_MAX {
            if self.bandwidth.padding(now) == 0 {
                break;
            }
            let video = self.legs.iter_mut().find(|leg| leg.kind() == Kind::Video);
            let Some((stamp, packet)) = video.and_then(|leg| leg.padding(|track| feed.ring(track))) else { break };
            self.send(&stamp, packet, sending, now);
        }
        true
    }

    fn layer<'a>(&self, feed: &'a Feed) -> Option<&'a Layer> {
        let Target::Layer(id) = self.target else { return None };
        feed.layers().iter().find(|layer| layer.id == id)
    }

    /// The track of the layer that she is to have.
    fn video_track(&self, feed: &Feed) -> Option<u8> {
        self.layer(feed).and_then(|layer| feed.track_of(layer.id))
    }

    /// Which of the layers she is on, from 0 for the smallest.
    pub fn layer_shown(&self, feed: &Feed) -> Option<u8> {
        let video = self.legs.iter().find(|leg| leg.kind() == Kind::Video);
        let (track, _) = video.and_then(|leg| leg.position())?;
        feed.layer_of(track)
    }

    /// The video track that she is on, or is to be on, as a bit.
    pub fn picture_wanted(&self, feed: &Feed) -> u32 {
        let video = self.legs.iter().find(|leg| leg.kind() == Kind::Video);
        let on = video.and_then(|leg| leg.position()).map(|(track, _)| track);
        on.or_else(|| self.video_track(feed)).map_or(0, |track| 1 << track)
    }
}

/// Begins on `tap` if the leg is not there, or has lost its place.
fn follow(leg: &mut Leg, tap: &Tap, feed: &Feed, fast_start_bytes_max: usize, served: &mut Served, now: Instant) {
    let position = leg.position();
    if position == Some((tap.track, tap.ring.stream())) {
        let lag = leg.lag(tap.ring);
        if lag > LAG_MAX && tap.ring.keyframe().is_some_and(|keyframe| keyframe.number > leg.cursor()) {
            leg.begin(tap, tap.clock, now);
        } else if lag >= tap.ring.len() {
            leg.pause();
            served.wants |= 1 << tap.track;
        }
        return;
    }
    if !leg.plays(tap.codec) {
        served.unplayable += 1;
        return;
    }
    let Some(keyframe) = tap.ring.keyframe() else {
        served.wants |= 1 << tap.track;
        return;
    };
    // She stays on the track that she is on until the other one has a keyframe.
    let present = position.filter(|(track, stream)| feed.ring(*track).is_some_and(|ring| ring.stream() == *stream));
    let limit = if present.is_some() { SWITCH_BYTES_MAX } else { fast_start_bytes_max };
    if keyframe.bytes > limit && tap.codec.kind() == Kind::Video {
        served.wants |= 1 << tap.track;
        return;
    }
    let runs = present.is_some_and(|(track, _)| feed.layer_of(track).is_some_and(|id| feed.track_of(id).is_some()));
    if runs && !leg.ends_frame() {
        return;
    }
    let clock = present.and_then(|(track, _)| feed.tap(track, now)?.clock);
    leg.begin(tap, clock, now);
}

#[cfg(test)]
#[path = "viewer_tests.rs"]
mod tests;
