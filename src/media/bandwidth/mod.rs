//! What a viewer's link carries, from her reports on packets that carry a transport-wide number
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01), or from loss alone when she sends none.
//!
//! Three proofs move the estimate. What arrived without a queue lifts it, media or the padding of a [`Probe`]; a queue
//! that stands lowers it to what the link delivered, and lower still while a long queue drains; loss that goes with
//! the rate lowers it to what came through. Sending little proves nothing either way.
//!
//! It owns no packet and no timer, and deliberately does not know what the layers are.

mod arrivals;
mod delivery;
mod history;
mod loss;
mod probe;
mod queue;
mod reported;

use std::time::{Duration, Instant};

use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;

#[cfg(test)]
pub use self::arrivals::arrivals as read_arrivals;
pub use self::probe::Probe;
use self::{
    arrivals::{Clock, Reading, arrivals},
    delivery::Delivery,
    history::{Fate, History, Sent},
    loss::{Loss, Verdict},
    probe::Prober,
    queue::Queue,
    reported::Reported,
};

/// The bounds of every viewer's estimate, in bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub start_bps: u32,
    pub min_bps: u32,
    pub max_bps: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { start_bps: 300_000, min_bps: 30_000, max_bps: 20_000_000 }
    }
}

/// The part of a link's delivery that is sent once its queue is empty: the rest empties what bursts put there.
const SETTLED: f64 = 0.92;
/// While a queue drains less is sent, down to this part when it is a second long.
const DRAINING: f64 = 0.5;
const LONG_QUEUE_US: f64 = 1_000_000.0;
const SHORT_QUEUE_US: f64 = 100_000.0;
/// Whether a cut helps is looked at after this time and a round trip.
const DRAIN_TIME_US: u64 = 500_000;
/// Cuts that leave the queue as it was, after which it is a longer way and no queue.
const USELESS_CUTS_MAX: u8 = 2;
/// No probe begins for this time after a cut.
const REST_US: u64 = 1_000_000;
/// Growth where no limit is known, a second; near a known one a fixed step is taken, which lets two viewers of one
/// link come to equal shares.
const GROWTH: f64 = 0.08;
const STEP_BPS: f64 = 50_000.0;
/// Above what arrives, the estimate grows to this multiple of it: a picture's rate is uneven.
const HEADROOM: f64 = 1.1;
/// A link's limit is forgotten when the estimate passes it by this factor.
const LIMIT_PASSED: f64 = 1.2;
/// Without any report for this time, while packets are on their way, the estimate decays.
const SILENCE_US: u64 = 1_000_000;
/// In this time it is seen that the queue a probe made gets shorter.
const PROBE_DRAIN_US: u64 = 400_000;
const SILENT_DECAY: f64 = 0.8;

/// One viewer's estimate.
#[derive(Debug)]
pub struct Bandwidth {
    limits: Limits,
    start: Instant,
    history: History,
    clock: Clock,
    queue: Queue,
    delivery: Delivery,
    loss: Loss,
    prober: Prober,
    reported: Reported,
    estimate: f64,
    /// What the link delivered when it was full last.
    link: Option<f64>,
    drain: Option<Drain>,
    round_trip_us: Option<u32>,
    heard_at: Option<u64>,
    decayed_at: u64,
}

/// The time after a cut in which the queue should become shorter.
#[derive(Clone, Copy, Debug)]
struct Drain {
    link: f64,
    before: f64,
    since: u64,
    sent_before: u64,
    queue_us: i64,
    useless_cuts: u8,
}

impl Bandwidth {
    pub fn new(limits: Limits, now: Instant) -> Self {
        let max = limits.max_bps.max(limits.min_bps);
        let limits = Limits { max_bps: max, ..limits };
        Self {
            limits,
            start: now,
            history: History::default(),
            clock: Clock::default(),
            queue: Queue::default(),
            delivery: Delivery::default(),
            loss: Loss::default(),
            prober: Prober::default(),
            reported: Reported::default(),
            estimate: f64::from(limits.start_bps.clamp(limits.min_bps, max)),
            link: None,
            drain: None,
            round_trip_us: None,
            heard_at: None,
            decayed_at: 0,
        }
    }

    /// A packet goes out: the transport-wide number that it must carry. Media, retransmission and padding alike;
    /// `bytes` as they go over the wire.
    pub fn sent(&mut self, bytes: usize, now: Instant) -> u16 {
        let at = self.micros(now);
        let in_probe = self.prober.sent(bytes, at);
        self.history.push(Sent { at: at as u32, bytes: bytes.min(usize::from(u16::MAX)) as u16, in_probe })
    }

    /// A report of the viewer. Whatever it says, the estimate stays within its limits.
    pub fn feedback(&mut self, feedback: &TransportLayerCc, now: Instant) {
        let at = self.micros(now);
        let reference = match self.clock.read(feedback.reference_time, at) {
            Reading::At(us) => us,
            Reading::Anew => {
                self.queue = Queue::default();
                self.delivery = Delivery::default();
                0
            }
        };
        self.queue.begin();
        let mut newest_sent = None;
        for (number, arrival) in arrivals(reference, feedback) {
            let fate = if arrival.is_some() { Fate::Arrived } else { Fate::Lost };
            let Some((sent, before)) = self.history.settle(number, fate) else { continue };
            if !sent.in_probe {
                self.loss.count(before, fate);
            }
            let sent_at = at - u64::from((at as u32).wrapping_sub(sent.at)).min(at);
            self.prober.settle(&sent, sent_at, arrival);
            if let Some(arrival) = arrival {
                newest_sent = newest_sent.max(Some(sent_at));
                self.delivery.arrived(arrival, sent.bytes);
                self.queue.arrived(sent_at, arrival);
            }
        }
        self.heard_at = Some(at);
        if let Some(sent_at) = newest_sent {
            self.note_round_trip((at - sent_at) as u32);
            self.judge(at);
        }
    }

    /// A receiver report of a viewer who sends no transport-wide feedback: the fraction lost (of 256), her own
    /// estimate if she sent one, and the round trip.
    pub fn reported(&mut self, fraction_lost: u8, remb: Option<u32>, round_trip: Option<Duration>, now: Instant) {
        let at = self.micros(now);
        if let Some(round_trip) = round_trip {
            self.note_round_trip(round_trip.as_micros().min(u128::from(u32::MAX)) as u32);
        }
        if self.heard_at.is_none() {
            let sent = self.history.sent_bytes();
            let estimate = self.reported.judge(self.estimate, fraction_lost, remb, round_trip, sent, at);
            self.set(estimate);
        }
    }

    /// What the viewer's link carries, in bits per second on the wire.
    pub fn estimate(&self) -> u32 {
        self.estimate as u32
    }

    /// The fraction of packets lost lately.
    pub fn loss(&self) -> f32 {
        if self.heard_at.is_some() { self.loss.fraction() } else { self.reported.loss() }
    }

    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip_us.map(|us| Duration::from_micros(us.into()))
    }

    /// Whether the link should be tried for `wanted_bps`, and how: the sender fills its stream with padding, as
    /// [`Self::padding`] says, until the probe's end. None while the estimate carries it, something else is being
    /// found out, or the last attempt failed a short while ago.
    pub fn probe(&mut self, wanted_bps: u32, now: Instant) -> Option<Probe> {
        let at = self.micros(now);
        let wanted = f64::from(wanted_bps.min(self.limits.max_bps));
        if self.heard_at.is_none() || wanted <= self.estimate || self.drain.is_some() || self.queue.stands() {
            return None;
        }
        let probe = self.prober.start(wanted, self.estimate, f64::from(self.limits.max_bps), at)?;
        self.queue.excuse(at + probe.time.as_micros() as u64 + self.response_us() + PROBE_DRAIN_US);
        Some(probe)
    }

    /// Bytes of padding to send now for the running probe to have its rate, media counted; 0 without one.
    pub fn padding(&self, now: Instant) -> usize {
        self.prober.due(self.micros(now))
    }

    /// Called a few times a second: without reports the estimate decays.
    pub fn turn(&mut self, now: Instant) {
        let at = self.micros(now);
        self.prober.turn(at, self.response_us());
        let Some(heard_at) = self.heard_at else { return };
        let silence = SILENCE_US + 2 * self.response_us();
        if self.history.is_waiting() && at.saturating_sub(heard_at.max(self.decayed_at)) >= silence {
            self.decayed_at = at;
            self.set(self.estimate * SILENT_DECAY);
        }
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.start);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())
    }

    /// The time from a packet to the report on it.
    fn response_us(&self) -> u64 {
        u64::from(self.round_trip_us.unwrap_or(200_000).min(1_000_000)) + 100_000
    }

    fn note_round_trip(&mut self, sample: u32) {
        let smooth = |before: u32| (i64::from(before) + (i64::from(sample) - i64::from(before)) / 8) as u32;
        self.round_trip_us = Some(self.round_trip_us.map_or(sample, smooth));
    }

    fn set(&mut self, estimate: f64) {
        self.estimate = estimate.clamp(f64::from(self.limits.min_bps), f64::from(self.limits.max_bps));
    }

    fn judge(&mut self, at: u64) {
        let elapsed = self.delivery.since_asked();
        if let Some(found) = self.prober.result(at, self.response_us()) {
            self.set(self.estimate.max(found));
        }
        match self.drain {
            Some(drain) => self.watch_drain(drain, at),
            None if self.queue.is_overfull(at) => self.cut(self.estimate, 0, at),
            None => self.grow(elapsed, at),
        }
        let sent = self.history.sent_bytes();
        if self.loss.judge(sent, self.estimate, at) == Verdict::TooMuch {
            let delivered = self.delivery.steadily();
            self.prober.rest(at + REST_US);
            if delivered > 0.0 && delivered < self.estimate {
                self.link = Some(delivered);
                self.set(delivered * SETTLED);
            }
        }
    }

    /// A queue stands: the link is full, and what comes out of it is what it carries.
    fn cut(&mut self, before: f64, useless_cuts: u8, at: u64) {
        let link = self.delivery.lately();
        if link <= 0.0 {
            return;
        }
        let queue_us = self.queue.least_us();
        self.link = Some(link);
        self.set(self.estimate.min(link * part(queue_us)));
        self.prober.rest(at + REST_US);
        let sent_before = self.history.sent_bytes();
        self.drain = Some(Drain { link, before, since: at, sent_before, queue_us, useless_cuts });
    }

    fn watch_drain(&mut self, drain: Drain, at: u64) {
        if !self.queue.stands() {
            self.drain = None;
            return self.set(self.estimate.max(drain.before.min(drain.link * SETTLED)));
        }
        let queue_us = self.queue.least_us();
        self.set(self.estimate.min(drain.link * part(queue_us)));
        let passed = at.saturating_sub(drain.since);
        if passed < DRAIN_TIME_US + self.response_us() {
            return;
        }
        let sent = (self.history.sent_bytes() - drain.sent_before) as f64 * 8e6 / passed as f64;
        let obeyed = sent <= self.estimate * 1.05;
        if queue_us <= drain.queue_us * 9 / 10 {
            let sent_before = self.history.sent_bytes();
            self.drain = Some(Drain { since: at, sent_before, queue_us, ..drain });
        } else if obeyed && queue_us <= drain.queue_us * 11 / 10 && drain.useless_cuts + 1 >= USELESS_CUTS_MAX {
            // Less was sent than the link delivers, and still the time on the way is the same: it is the way's.
            self.queue.accept();
            self.drain = None;
            self.link = None;
        } else {
            self.cut(drain.before, drain.useless_cuts + u8::from(obeyed), at);
        }
    }

    /// No queue stands: what arrives is carried, and a little more may be.
    fn grow(&mut self, elapsed_us: u64, at: u64) {
        let proven = self.delivery.steadily();
        if proven > self.estimate {
            self.set(proven);
        }
        if self.link.is_some_and(|link| self.estimate > link * LIMIT_PASSED) {
            self.link = None;
        }
        let seconds = elapsed_us.min(500_000) as f64 / 1e6;
        let is_near_limit = self.link.is_some_and(|link| self.estimate > link * 0.8);
        let step = if is_near_limit { STEP_BPS } else { self.estimate * GROWTH };
        let grown = (self.estimate + step * seconds).min(proven * HEADROOM);
        if grown > self.estimate && self.loss.is_low() && !self.queue.is_excused(at) {
            self.set(grown);
        }
    }
}

/// The part of what the link delivers that is sent while its queue is this long.
fn part(queue_us: i64) -> f64 {
    let long = ((queue_us as f64 - SHORT_QUEUE_US) / (LONG_QUEUE_US - SHORT_QUEUE_US)).clamp(0.0, 1.0);
    SETTLED - long * (SETTLED - DRAINING)
}

#[cfg(test)]
mod link;
#[cfg(test)]
mod tests;
