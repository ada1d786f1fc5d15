//! One track to one viewer: which packets she gets, and under which numbers.
//!
//! A leg outlives the publisher's streams. When a stream begins, or is replaced, the leg puts it behind what it sent
//! last: numbers and timestamps go on, so that the viewer's player notices nothing but a keyframe. A video leg starts a
//! stream at a keyframe's first packet: a decoder shows nothing before it anyway, and is never given half a picture.
//!
//! Each outgoing number seals one content. The leg remembers what it used and refuses a second use, whatever the
//! packets say.

use std::time::Instant;

use super::{
    codec::{Codec, Kind},
    negotiate::{Choice, Outgoing},
    replay::{Stale, Window},
    stats::Dropped,
    track::{Packet, Ring, SenderClock},
};

/// Numbers start below this, so that a viewer who loses the first packets still counts no rollover (RFC 3711, 3.3.1).
const FIRST_NUMBER_MAX: u64 = 16_384;
/// Packets that one leg may have again between two refills.
const RESENDS_PER_REFILL: u32 = 64;

/// The header of an outgoing packet.
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
}

pub struct Leg {
    plan: Outgoing,
    stream: Option<Stream>,
    next: u64,
    next_rtx: u64,
    used: Window<16>,
    last: Option<(u32, Instant)>,
    first_offset: u32,
    resends_left: u32,
    packets: u32,
    octets: u32,
}

/// How the publisher's current stream maps to the leg's numbers.
#[derive(Clone, Copy, Debug)]
struct Stream {
    name: u64,
    codec: Codec,
    choice: Option<Choice>,
    base: Option<Base>,
}

#[derive(Clone, Copy, Debug)]
struct Base {
    number: u64,
    index: u64,
    timestamp_offset: u32,
}

impl Leg {
    /// `seed` chooses the first numbers and timestamps, which should not be guessable.
    pub fn new(plan: Outgoing, seed: u64) -> Self {
        Self {
            plan,
            stream: None,
            next: 1 + seed % FIRST_NUMBER_MAX,
            next_rtx: 1 + (seed >> 16) % FIRST_NUMBER_MAX,
            used: Window::default(),
            last: None,
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

    /// Whether video is held back until a keyframe comes.
    pub fn waits_for_keyframe(&self) -> bool {
        self.plan.kind == Kind::Video && self.stream.is_some_and(|s| s.choice.is_some() && s.base.is_none())
    }

    /// The stamp of a packet that was not sent before.
    pub fn forward(&mut self, packet: &Packet, codec: Codec, now: Instant) -> Result<Stamp, Dropped> {
        let stream = self.enter(packet.stream, codec)?;
        let choice = stream.choice.ok_or(Dropped::NoCommonCodec)?;
        let base = match stream.base {
            Some(base) if packet.number < base.number => return Err(Dropped::TooOld),
            Some(base) => base,
            None if packet.starts_keyframe => self.start(packet, now),
            None => return Err(Dropped::BeforeKeyframe),
        };

        let index = base.index + (packet.number - base.number);
        self.used.pass(index).map_err(|stale| match stale {
            Stale::Repeated => Dropped::NumberReused,
            Stale::TooOld => Dropped::TooOld,
        })?;
        let timestamp = packet.timestamp.wrapping_add(base.timestamp_offset);
        if index >= self.next {
            self.next = index + 1;
            self.last = Some((timestamp, now));
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload.len() as u32);
        Ok(Stamp {
            ssrc: self.plan.ssrc,
            payload_type: choice.payload_type,
            index,
            timestamp,
            marker: packet.marker,
            original: None,
        })
    }

    /// The packet that the viewer lost, and its stamp: a new number on the RTX stream or, for a viewer without one,
    /// the very number and bytes of the first time.
    pub fn resend<'a>(&mut self, lost: u16, ring: &'a Ring) -> Result<(Stamp, &'a Packet), Dropped> {
        let stream = self.stream.ok_or(Dropped::ResendMissing)?;
        let (Some(choice), Some(base)) = (stream.choice, stream.base) else { return Err(Dropped::ResendMissing) };
        let index = self.used.index_of(lost);
        if index < base.index || !self.used.contains(index) {
            return Err(Dropped::ResendMissing);
        }
        let packet = ring.get(stream.name, base.number + (index - base.index)).ok_or(Dropped::ResendMissing)?;
        self.resends_left = self.resends_left.checked_sub(1).ok_or(Dropped::ResendBudget)?;

        let first = Stamp {
            ssrc: self.plan.ssrc,
            payload_type: choice.payload_type,
            index,
            timestamp: packet.timestamp.wrapping_add(base.timestamp_offset),
            marker: packet.marker,
            original: None,
        };
        let Some(payload_type) = choice.rtx_payload_type else { return Ok((first, packet)) };
        let index = self.next_rtx;
        self.next_rtx += 1;
        Ok((Stamp { ssrc: self.plan.rtx_ssrc, payload_type, index, original: Some(lost), ..first }, packet))
    }

    /// Called at a steady pace: resending stays in proportion to time, whatever a viewer asks.
    pub fn refill_resends(&mut self) {
        self.resends_left = RESENDS_PER_REFILL;
    }

    /// The publisher's clock in this leg's timestamps, with the counts of a sender report; none before the stream runs.
    pub fn report(&self, stream: u64, clock: SenderClock, now: Instant) -> Option<rtcp::sender_report::SenderReport> {
        let current = self.stream.filter(|current| current.name == stream)?;
        let base = current.base?;
        let since = now.saturating_duration_since(clock.at);
        let ticks = since.as_micros() * u128::from(current.codec.clock_rate()) / 1_000_000;
        Some(rtcp::sender_report::SenderReport {
            ssrc: self.plan.ssrc,
            ntp_time: clock.ntp.wrapping_add(super::report::ntp_of(since)),
            rtp_time: clock.rtp.wrapping_add(ticks as u32).wrapping_add(base.timestamp_offset),
            packet_count: self.packets,
            octet_count: self.octets,
            ..Default::default()
        })
    }

    fn enter(&mut self, name: u64, codec: Codec) -> Result<Stream, Dropped> {
        match self.stream {
            Some(current) if current.name == name => Ok(current),
            Some(current) if current.name > name => Err(Dropped::TooOld),
            _ => {
                let exact = self.plan.choices.iter().find(|choice| choice.codec == codec);
                let choice = exact.or_else(|| self.plan.choices.iter().find(|choice| choice.codec.plays(codec)));
                let stream = Stream { name, codec, choice: choice.copied(), base: None };
                self.stream = Some(stream);
                Ok(stream)
            }
        }
    }

    /// Puts the stream behind what was sent last.
    fn start(&mut self, packet: &Packet, now: Instant) -> Base {
        let stream = self.stream.as_mut().expect("enter() was called");
        let timestamp_offset = match self.last {
            None => self.first_offset,
            Some((timestamp, at)) => {
                let passed = now.saturating_duration_since(at).as_micros().max(1_000);
                let ticks = passed * u128::from(stream.codec.clock_rate()) / 1_000_000;
                timestamp.wrapping_add(ticks as u32).wrapping_sub(packet.timestamp)
            }
        };
        let base = Base { number: packet.number, index: self.next, timestamp_offset };
        stream.base = Some(base);
        base
    }
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
