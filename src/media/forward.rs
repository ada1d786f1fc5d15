//! One track to one viewer: which packets she gets, and under which numbers.
//!
//! A leg is a cursor into a publisher's ring. It outlives her streams: whenever it begins on one (a first join, another
//! layer, another publisher, a viewer who fell behind) it puts that stretch behind what it sent last, so that numbers and
//! timestamps go on and the viewer's player notices nothing but a keyframe.
//!
//! A stretch begins at the ring's newest keyframe, which may be seconds old. What came since is sent at once, with its
//! timestamps pressed together just before the present: the decoder gets every frame it needs and shows the newest, and
//! sound and picture are in step from the first moment.
//!
//! Each outgoing number seals one content. The leg remembers what it used and refuses a second use, whatever the
//! packets say.

use std::time::Instant;

use smallvec::SmallVec;

use super::{
    codec::{Codec, Kind},
    negotiate::{Choice, Outgoing},
    replay::{Stale, Window},
    ring::Ring,
    stats::Dropped,
    track::{Packet, SenderClock},
    vp8,
};

/// Numbers start below this, so that a viewer who loses the first packets still counts no rollover (RFC 3711, 3.3.1).
const FIRST_NUMBER_MAX: u64 = 16_384;
/// Packets that one leg may have again between two refills.
const RESENDS_PER_REFILL: u32 = 64;
/// Stretches of which a packet can still be sent again.
const STRETCHES_MAX: usize = 4;
/// How much closer together the frames from before a beginning are.
const PRESSED: u32 = 128;
/// The least step from one stretch's last timestamp to the next one's first, in milliseconds.
const STEP_MS: u128 = 1;

/// The header of an outgoing packet, and what is changed in its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub ssrc: u32,
    pub payload_type: u8,
    /// The sequence number with its rollover counter.
    pub index: u64,
    pub timestamp: u32,
    pub marker: bool,
    /// For a packet sent again on its own SSRC (RFC 4588): the number it had.
    pub original: Option<u16>,
    /// Under which extension the packet carries its transport-wide number. None where the same bytes may be sent again.
    pub transport: Option<u8>,
    pub shift: vp8::Shift,
}

/// A publisher's track as a leg sees it.
#[derive(Clone, Copy)]
pub struct Tap<'a> {
    pub track: u8,
    pub codec: Codec,
    pub ring: &'a Ring,
    pub clock: Option<SenderClock>,
}

pub struct Leg {
    plan: Outgoing,
    /// The newest last.
    stretches: SmallVec<[Stretch; 1]>,
    /// The number in the newest stretch's stream that is sent next.
    cursor: u64,
    is_paused: bool,
    /// The newest stretch begins with parameter sets that were not sent yet.
    owes_sets: bool,
    /// The viewer cannot decode: she may have no parameter sets.
    lacks_sets: bool,
    next: u64,
    next_rtx: u64,
    used: Window<16>,
    last: Option<(u32, Instant)>,
    last_numbers: Option<vp8::Numbers>,
    ends_frame: bool,
    first_offset: u32,
    resends_left: u32,
    packets: u32,
    octets: u32,
}

/// How a part of one stream maps to the leg's numbers.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    track: u8,
    stream: u64,
    codec: Codec,
    choice: Choice,
    /// The first packet, in the stream's numbers and in ours.
    number: u64,
    index: u64,
    /// Parameter sets went before it, under the number before.
    has_sets: bool,
    /// Our timestamp less the stream's, from `live` on.
    offset: u32,
    /// The stream's newest timestamp when the stretch began.
    live: u32,
    shift: vp8::Shift,
}

impl Stretch {
    fn timestamp(&self, timestamp: u32) -> u32 {
        let before = self.live.wrapping_sub(timestamp);
        let pressed = if (before as i32) > 0 { self.live.wrapping_sub(before / PRESSED) } else { timestamp };
        pressed.wrapping_add(self.offset)
    }

    fn index_of(&self, number: u64) -> u64 {
        self.index + (number - self.number)
    }

    fn first_index(&self) -> u64 {
        self.index - u64::from(self.has_sets)
    }

    /// What went under a number of ours.
    fn packet<'a>(&self, ring: &'a Ring, index: u64) -> Option<&'a Packet> {
        match index.checked_sub(self.index) {
            Some(ahead) => ring.get(self.stream, self.number + ahead),
            None => ring.get(self.stream, self.number)?.sets.as_deref(),
        }
    }

    fn stamp(&self, plan: &Outgoing, packet: &Packet, index: u64) -> Stamp {
        let is_sent_once = self.choice.rtx_payload_type.is_some() || plan.kind == Kind::Audio;
        Stamp {
            ssrc: plan.ssrc,
            payload_type: self.choice.payload_type,
            index,
            timestamp: self.timestamp(packet.timestamp),
            marker: packet.marker,
            original: None,
            transport: plan.transport.filter(|_| is_sent_once),
            shift: self.shift,
        }
    }
}

impl Leg {
    /// `seed` chooses the first numbers and timestamps, which should not be guessable.
    pub fn new(plan: Outgoing, seed: u64) -> Self {
        Self {
            plan,
            stretches: SmallVec::new(),
            cursor: 0,
            is_paused: false,
            owes_sets: false,
            lacks_sets: false,
            next: 1 + seed % FIRST_NUMBER_MAX,
            next_rtx: 1 + (seed >> 16) % FIRST_NUMBER_MAX,
            used: Window::default(),
            last: None,
            last_numbers: None,
            ends_frame: true,
            first_offset: (seed >> 32) as u32,
            resends_left: RESENDS_PER_REFILL,
            packets: 0,
            octets: 0,
        }
    }

    pub fn kind(&self) -> Kind {
        self.plan.kind
    }

    pub fn has_ssrc(&self, ssrc: u32) -> bool {
        self.plan.ssrc == ssrc
    }

    pub fn plays(&self, codec: Codec) -> bool {
        self.choice(codec).is_some()
    }

    /// The track and stream that it is on; none before it began, and while it is paused.
    pub fn position(&self) -> Option<(u8, u64)> {
        self.stretches.last().filter(|_| !self.is_paused).map(|stretch| (stretch.track, stretch.stream))
    }

    /// Whether it is where it began at first.
    pub fn is_in_first_stretch(&self) -> bool {
        self.stretches.len() == 1
    }

    /// Whether the last packet that was sent ends a frame.
    pub fn ends_frame(&self) -> bool {
        self.ends_frame
    }

    /// Packets between the cursor and the newest.
    pub fn lag(&self, ring: &Ring) -> u64 {
        ring.newest().map_or(0, |newest| (newest.number + 1).saturating_sub(self.cursor))
    }

    /// The number in the stream that is sent next.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Sends nothing until it begins again.
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    /// The viewer says that she cannot decode: the parameter sets, which are sent at a beginning only, may be what she lost.
    pub fn note_undecodable(&mut self) {
        self.lacks_sets = !self.stretches.is_empty();
    }

    /// Whether the newest keyframe, not sent yet, is to be a beginning for a viewer who may have no parameter sets.
    pub fn should_begin_for_sets(&mut self, ring: &Ring) -> bool {
        if !self.lacks_sets {
            return false;
        }
        let next = ring.keyframe().filter(|keyframe| keyframe.number >= self.cursor);
        let Some(first) = next.and_then(|keyframe| ring.get(ring.stream(), keyframe.number)) else { return false };
        // A keyframe that brings them helps as it is.
        self.lacks_sets = first.sets.is_some();
        self.lacks_sets
    }

    /// Begins at the newest keyframe of a track, behind its parameter sets where it comes without. `present` is the clock of
    /// the track that it leaves, if that is of the same publisher. False if the ring has no keyframe, or the viewer cannot
    /// decode it.
    pub fn begin(&mut self, tap: &Tap, present: Option<SenderClock>, now: Instant) -> bool {
        let (Some(choice), Some(keyframe), Some(newest)) =
            (self.choice(tap.codec), tap.ring.keyframe(), tap.ring.newest())
        else {
            return false;
        };
        let Some(first) = tap.ring.get(tap.ring.stream(), keyframe.number) else { return false };
        let shift = self.last_numbers.zip(first.vp8).map(|(last, first)| vp8::Shift::behind(last, &first));
        let has_sets = first.sets.is_some();
        let mut stretch = Stretch {
            track: tap.track,
            stream: tap.ring.stream(),
            codec: tap.codec,
            choice,
            number: keyframe.number,
            index: self.next + u64::from(has_sets),
            has_sets,
            offset: self.offset(tap, newest.timestamp, present, now),
            live: newest.timestamp,
            shift: shift.unwrap_or_default(),
        };
        if let Some((last, _)) = self.last {
            let step = ticks(STEP_MS * 1_000, tap.codec);
            let ahead = stretch.timestamp(keyframe.timestamp).wrapping_sub(last) as i32;
            stretch.offset = stretch.offset.wrapping_add((step as i32).saturating_sub(ahead).max(0) as u32);
        }
        if self.stretches.len() == STRETCHES_MAX {
            self.stretches.remove(0);
        }
        self.stretches.push(stretch);
        (self.cursor, self.is_paused) = (keyframe.number, false);
        (self.owes_sets, self.lacks_sets) = (has_sets, false);
        true
    }

    /// Our timestamps less the stream's, so that its newest one is now.
    fn offset(&self, tap: &Tap, newest: u32, present: Option<SenderClock>, now: Instant) -> u32 {
        let Some((last, at)) = self.last else { return self.first_offset };
        let before = self.stretches.last();
        if let Some(same) = before.filter(|stretch| stretch.stream == tap.ring.stream()) {
            return same.offset;
        }
        let passed = now.saturating_duration_since(at).as_micros().max(STEP_MS * 1_000);
        let by_arrival = last.wrapping_add(ticks(passed, tap.codec)).wrapping_sub(newest);
        // Both layers by the publisher's own clock: exact, unless her reports are nonsense.
        let by_clock = before.zip(present).zip(tap.clock).map(|((stretch, old), new)| {
            let passed = (i128::from(new.ntp) - i128::from(old.ntp)) * i128::from(tap.codec.clock_rate());
            let old_timestamp = old.rtp.wrapping_add((passed >> 32) as u32);
            old_timestamp.wrapping_add(stretch.offset).wrapping_sub(new.rtp)
        });
        let is_near = |offset: &u32| (offset.wrapping_sub(by_arrival) as i32).unsigned_abs() < tap.codec.clock_rate();
        by_clock.filter(is_near).unwrap_or(by_arrival)
    }

    fn choice(&self, codec: Codec) -> Option<Choice> {
        let exact = self.plan.choices.iter().find(|choice| choice.codec == codec);
        exact.or_else(|| self.plan.choices.iter().find(|choice| choice.codec.plays(codec))).copied()
    }

    /// The next packet to send, and its stamp.
    pub fn next<'a>(&mut self, ring: &'a Ring, now: Instant) -> Option<(Stamp, &'a Packet)> {
        let stretch = *self.stretches.last().filter(|stretch| !self.is_paused && stretch.stream == ring.stream())?;
        if std::mem::take(&mut self.owes_sets) {
            let (index, sets) = (stretch.first_index(), stretch.packet(ring, stretch.first_index()));
            if let Some(sets) = sets
                && let Ok(stamp) = self.send(&stretch, sets, index, now)
            {
                return Some((stamp, sets));
            }
        }
        let newest = ring.newest()?.number;
        self.cursor = self.cursor.max((newest + 1).saturating_sub(ring.len()));
        while self.cursor <= newest {
            let number = self.cursor;
            self.cursor += 1;
            if let Some(packet) = ring.get(stretch.stream, number)
                && let Ok(stamp) = self.send(&stretch, packet, stretch.index_of(number), now)
            {
                return Some((stamp, packet));
            }
        }
        None
    }

    /// The stamp of a packet that came late, behind the cursor; an error if it is none of hers.
    pub fn late(&mut self, packet: &Packet, now: Instant) -> Result<Stamp, Dropped> {
        let stretch = *self.stretches.last().filter(|_| !self.is_paused).ok_or(Dropped::TooOld)?;
        let is_hers = stretch.stream == packet.stream && (stretch.number..self.cursor).contains(&packet.number);
        if !is_hers {
            return Err(Dropped::TooOld);
        }
        self.send(&stretch, packet, stretch.index_of(packet.number), now)
    }

    fn send(&mut self, stretch: &Stretch, packet: &Packet, index: u64, now: Instant) -> Result<Stamp, Dropped> {
        self.used.pass(index).map_err(|stale| match stale {
            Stale::Repeated => Dropped::NumberReused,
            Stale::TooOld => Dropped::TooOld,
        })?;
        let stamp = stretch.stamp(&self.plan, packet, index);
        if index >= self.next {
            self.next = index + 1;
            self.last = Some((stamp.timestamp, now));
            self.ends_frame = packet.marker;
            self.last_numbers = packet.vp8.map(|vp8| stretch.shift.moved(&vp8)).or(self.last_numbers);
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload.len() as u32);
        Ok(stamp)
    }

    /// The packet that the viewer lost, and its stamp: a new number on the RTX stream or, for a viewer without one,
    /// the very number and bytes of the first time.
    pub fn resend<'a>(
        &mut self,
        lost: u16,
        ring_of: impl FnOnce(u8) -> Option<&'a Ring>,
    ) -> Result<(Stamp, &'a Packet), Dropped> {
        let index = self.used.index_of(lost);
        let stretch = self.stretches.iter().rev().find(|stretch| stretch.first_index() <= index);
        let stretch = *stretch.filter(|_| self.used.contains(index)).ok_or(Dropped::ResendMissing)?;
        if self.plan.kind == Kind::Audio && self.plan.transport.is_some() {
            return Err(Dropped::ResendMissing);
        }
        let ring = ring_of(stretch.track).ok_or(Dropped::ResendMissing)?;
        let packet = stretch.packet(ring, index).ok_or(Dropped::ResendMissing)?;
        self.resends_left = self.resends_left.checked_sub(1).ok_or(Dropped::ResendBudget)?;
        Ok((self.repeat(&stretch, packet, index), packet))
    }

    /// Something that the viewer has already, to fill a probe with: the newest packet again. None for a viewer without a
    /// stream for repeats.
    pub fn padding<'a>(&mut self, ring_of: impl FnOnce(u8) -> Option<&'a Ring>) -> Option<(Stamp, &'a Packet)> {
        let stretch = *self.stretches.last().filter(|stretch| stretch.choice.rtx_payload_type.is_some())?;
        let ring = ring_of(stretch.track).filter(|ring| ring.stream() == stretch.stream)?;
        let number = self.cursor.checked_sub(1).filter(|number| *number >= stretch.number)?;
        let packet = ring.get(stretch.stream, number)?;
        let index = stretch.index_of(number);
        self.used.contains(index).then(|| (self.repeat(&stretch, packet, index), packet))
    }

    fn repeat(&mut self, stretch: &Stretch, packet: &Packet, index: u64) -> Stamp {
        let first = stretch.stamp(&self.plan, packet, index);
        let Some(payload_type) = stretch.choice.rtx_payload_type else { return first };
        let repeated = self.next_rtx;
        self.next_rtx += 1;
        Stamp { ssrc: self.plan.rtx_ssrc, payload_type, index: repeated, original: Some(index as u16), ..first }
    }

    /// Called at a steady pace: resending stays in proportion to time, whatever a viewer asks.
    pub fn refill_resends(&mut self) {
        self.resends_left = RESENDS_PER_REFILL;
    }

    /// The publisher's clock in this leg's timestamps, with the counts of a sender report; none while it is not on that
    /// stream.
    pub fn report(&self, stream: u64, clock: SenderClock, now: Instant) -> Option<rtcp::sender_report::SenderReport> {
        let stretch = self.stretches.last().filter(|stretch| !self.is_paused && stretch.stream == stream)?;
        let since = now.saturating_duration_since(clock.at);
        let passed = ticks(since.as_micros(), stretch.codec);
        Some(rtcp::sender_report::SenderReport {
            ssrc: self.plan.ssrc,
            ntp_time: clock.ntp.wrapping_add(super::report::ntp_of(since)),
            rtp_time: clock.rtp.wrapping_add(passed).wrapping_add(stretch.offset),
            packet_count: self.packets,
            octet_count: self.octets,
            ..Default::default()
        })
    }
}

fn ticks(micros: u128, codec: Codec) -> u32 {
    (micros * u128::from(codec.clock_rate()) / 1_000_000) as u32
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
