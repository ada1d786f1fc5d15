//! A viewer: which of the publisher's tracks she is on, and what she is sent now.

use std::time::Instant;

use super::{
    codec::Kind,
    forward::{Leg, Tap},
    peer::Sending,
    ring::Ring,
    stage::Feed,
    track::Packet,
};

/// A keyframe with more behind it than this is no place to change layers at: a newer one is asked for.
const SWITCH_BYTES_MAX: usize = 96 * 1024;
/// A viewer this many packets behind goes on at a newer keyframe, if there is one.
const LAG_MAX: u64 = 256;

/// Sent to one viewer at once.
const SERVE_BYTES_MAX: usize = 32 * 1024;

/// What a viewer asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// The best that her connection and her screen take.
    #[default]
    Auto,
    /// This layer, counted from the smallest; the largest if there are fewer.
    Layer(u8),
    AudioOnly,
}

pub struct Viewer {
    pub legs: Vec<Leg>,
    pub wish: Wish,
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
}

impl Viewer {
    pub fn new(legs: Vec<Leg>, fast_start_bytes_max: usize) -> Self {
        Self { legs, wish: Wish::default(), fast_start_bytes_max }
    }

    /// Sends what is new for her, and what came late.
    pub fn serve(&mut self, feed: &Feed, late: &[&Packet], sending: &mut Sending, now: Instant) -> Served {
        let mut served = Served::default();
        let video = self.video_target(feed);
        let limit = self.fast_start_bytes_max;
        let mut budget = SERVE_BYTES_MAX;
        for leg in &mut self.legs {
            let target = if leg.kind() == Kind::Audio { feed.audio() } else { video };
            if leg.kind() == Kind::Video && self.wish == Wish::AudioOnly {
                leg.pause();
            }
            let Some(tap) = target.and_then(|track| feed.tap(track, now)) else { continue };
            if !leg.plays(tap.codec) {
                continue;
            }
            follow(leg, &tap, feed, limit, &mut served, now);
            for packet in late {
                if let Ok(stamp) = leg.late(packet, now) {
                    sending.media(&stamp, packet, 0);
                }
            }
            if let Some(ring) = leg.position().and_then(|(track, _)| feed.ring(track)) {
                served.lags |= drain(leg, ring, &mut budget, sending, now);
            }
        }
        served
    }

    /// The track of the layer that she is to have.
    fn video_target(&self, feed: &Feed) -> Option<u8> {
        let layers = feed.layers();
        let layer = match self.wish {
            Wish::Auto => layers.last(),
            Wish::Layer(place) => layers.get(usize::from(place)).or(layers.last()),
            Wish::AudioOnly => None,
        };
        layer.map(|layer| layer.track)
    }

    /// Which of the layers she is on, from 0 for the smallest.
    pub fn layer(&self, feed: &Feed) -> Option<u8> {
        let video = self.legs.iter().find(|leg| leg.kind() == Kind::Video);
        let (track, _) = video.and_then(|leg| leg.position())?;
        feed.layers().iter().position(|layer| layer.track == track).map(|place| place as u8)
    }

    /// The video track that she is on, as a bit; all that are not yet begun if there is none.
    pub fn picture_wanted(&self, feed: &Feed) -> u32 {
        let video = self.legs.iter().find(|leg| leg.kind() == Kind::Video);
        let on = video.and_then(|leg| leg.position()).map(|(track, _)| track);
        on.or_else(|| self.video_target(feed)).map_or(0, |track| 1 << track)
    }
}

/// Begins on `tap` if the leg is not there, or has lost its place.
fn follow(leg: &mut Leg, tap: &Tap, feed: &Feed, fast_start_bytes_max: usize, served: &mut Served, now: Instant) {
    let Some(keyframe) = tap.ring.keyframe() else {
        served.wants |= 1 << tap.track;
        return;
    };
    let position = leg.position();
    let is_there = position == Some((tap.track, tap.ring.stream()));
    if is_there {
        let lag = leg.lag(tap.ring);
        if lag <= LAG_MAX {
            return;
        }
        if keyframe.number > leg.cursor() {
            leg.begin(tap, tap.clock, now);
        } else if lag >= tap.ring.len() {
            leg.pause();
            served.wants |= 1 << tap.track;
        }
        return;
    }
    // She may stay on the track she is on until the other one has a keyframe.
    let present = position.filter(|(track, stream)| feed.ring(*track).is_some_and(|ring| ring.stream() == *stream));
    let limit = if present.is_some() { SWITCH_BYTES_MAX } else { fast_start_bytes_max };
    if keyframe.bytes > limit && tap.codec.kind() == Kind::Video {
        served.wants |= 1 << tap.track;
        return;
    }
    let runs = present.is_some_and(|(track, _)| feed.layers().iter().any(|layer| layer.track == track));
    if runs && !leg.ends_frame() {
        return;
    }
    let clock = present.and_then(|(track, _)| feed.tap(track, now)?.clock);
    leg.begin(tap, clock, now);
}

/// True if something is left.
fn drain(leg: &mut Leg, ring: &Ring, budget: &mut usize, sending: &mut Sending, now: Instant) -> bool {
    while leg.lag(ring) > 0 {
        if leg.kind() == Kind::Video && *budget == 0 {
            return true;
        }
        let Some((stamp, packet)) = leg.next(ring, now) else { return false };
        sending.media(&stamp, packet, 0);
    }
    false
}
