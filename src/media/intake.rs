//! A publisher's side of her tracks: from authentic packets to the packets that viewers get.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rtcp::reception_report::ReceptionReport;

use super::{
    codec::{Codec, Kind},
    gaps::Gaps,
    h264,
    negotiate::Incoming,
    open::Opened,
    replay::Window,
    report::Reception,
    stats::Dropped,
    track::{Numbering, Packet, SenderClock, TrackClock},
    vp8,
};

pub struct Intake {
    tracks: Vec<Track>,
    names: Arc<AtomicU64>,
    started: Instant,
}

struct Track {
    agreed: Incoming,
    current: Option<Current>,
    /// Under which its packets are repaired, once one said so.
    rtx_ssrc: Option<u32>,
    /// SSRCs that this track used before: a straggler of theirs does not bring them back.
    retired: Vec<u32>,
    clock: Option<SenderClock>,
    time: MediaTime,
}

/// The SSRC that a track uses now, and everything that counts in its numbers.
struct Current {
    ssrc: u32,
    name: u64,
    seen: Window<16>,
    numbering: Numbering,
    pictures: vp8::Pictures,
    sets: h264::Sets,
    gaps: Gaps,
    reception: Reception,
}

/// How far a track has come in its own clock.
#[derive(Default)]
struct MediaTime {
    last: Option<(u32, Instant)>,
    ticks: i64,
    /// The next timestamp is of another stream: only the time that passed says how far it is from the last.
    interrupted: bool,
}

impl MediaTime {
    fn note(&mut self, timestamp: u32, clock_rate: u32, now: Instant) {
        if let Some((before, at)) = self.last {
            self.ticks += match self.interrupted {
                true => ticks(now.saturating_duration_since(at), clock_rate),
                false => i64::from(timestamp.wrapping_sub(before) as i32),
            };
        }
        self.interrupted = false;
        self.last = Some((timestamp, now));
    }
}

fn ticks(time: Duration, clock_rate: u32) -> i64 {
    (time.as_micros() * u128::from(clock_rate) / 1_000_000) as i64
}

/// What a publisher is to be asked for.
pub struct Lost {
    pub ssrc: u32,
    pub sequences: Vec<u16>,
}

impl Intake {
    /// `names` gives each stream a name higher than all before it.
    pub fn new(agreed: Vec<Incoming>, names: Arc<AtomicU64>, now: Instant) -> Self {
        let track = |agreed: Incoming| Track {
            rtx_ssrc: agreed.announced.rtx,
            agreed,
            current: None,
            retired: Vec::new(),
            clock: None,
            time: MediaTime::default(),
        };
        Self { tracks: agreed.into_iter().map(track).collect(), names, started: now }
    }

    /// Whether packets of this type carry what was lost before.
    pub fn repairs(&self, payload_type: u8) -> bool {
        self.tracks.iter().any(|track| track.agreed.rtx_payload_type == Some(payload_type))
    }

    /// A packet for the viewers; or why there is none.
    pub fn receive(&mut self, opened: Opened, now: Instant) -> Result<Packet, Dropped> {
        let payload_type = opened.payload_type;
        if self.tracks.iter().any(|track| track.agreed.payload_type == payload_type) {
            let place = self.place_of(&opened).ok_or(Dropped::UnknownSsrc)?;
            return self.receive_media(place, opened, now);
        }
        if self.repairs(payload_type) {
            let place = self.repaired_by(&opened).ok_or(Dropped::UnknownSsrc)?;
            return self.receive_repair(place, opened, now);
        }
        Err(Dropped::BadRtp)
    }

    /// The track of a media packet. Layers share a payload type: the packet names its own, until its SSRC is known.
    fn place_of(&self, opened: &Opened) -> Option<usize> {
        let carries = |track: &Track| track.agreed.payload_type == opened.payload_type;
        let named = opened.rid.as_deref();
        if let Some(named) = named {
            let is_named = |track: &Track| track.agreed.rid.as_deref().is_some_and(|rid| rid.as_bytes() == named);
            if let Some(place) = self.tracks.iter().position(|track| carries(track) && is_named(track)) {
                return Some(place);
            }
        }
        let known = self.tracks.iter().position(|track| carries(track) && track.ssrc() == Some(opened.ssrc));
        known.or_else(|| self.tracks.iter().position(|track| carries(track) && track.agreed.rid.is_none()))
    }

    fn repaired_by(&mut self, opened: &Opened) -> Option<usize> {
        let repairs = |track: &Track| track.agreed.rtx_payload_type == Some(opened.payload_type);
        let named = opened.repaired_rid.as_deref().or(opened.rid.as_deref());
        if let Some(named) = named {
            let is_named = |track: &Track| track.agreed.rid.as_deref().is_some_and(|rid| rid.as_bytes() == named);
            if let Some(place) = self.tracks.iter().position(|track| repairs(track) && is_named(track)) {
                self.tracks[place].rtx_ssrc = Some(opened.ssrc);
                return Some(place);
            }
        }
        let known = self.tracks.iter().position(|track| repairs(track) && track.rtx_ssrc == Some(opened.ssrc));
        known.or_else(|| self.tracks.iter().position(|track| repairs(track) && track.agreed.rid.is_none()))
    }

    fn receive_media(&mut self, place: usize, opened: Opened, now: Instant) -> Result<Packet, Dropped> {
        let arrived = ticks(now.saturating_duration_since(self.started), self.tracks[place].agreed.codec.clock_rate());
        let names = &self.names;
        let track = &mut self.tracks[place];
        let current = track.current_for(opened.ssrc, names)?;
        current.reception.note(opened.index, opened.timestamp, arrived);
        track.take(place, opened.index, opened, now)
    }

    /// RFC 4588: the first two bytes are the number that the packet had.
    fn receive_repair(&mut self, place: usize, mut opened: Opened, now: Instant) -> Result<Packet, Dropped> {
        let track = &mut self.tracks[place];
        let original = opened.payload.get(..2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        let (Some(original), Some(current)) = (original, &track.current) else { return Err(Dropped::Padding) };
        let index = current.seen.index_of(original);
        opened.payload = opened.payload.slice(2..);
        if opened.payload.is_empty() {
            return Err(Dropped::Padding);
        }
        track.take(place, index, opened, now)
    }

    /// A sender report of the publisher; none if it is about nothing that she sends.
    pub fn note_clock(&mut self, ssrc: u32, clock: SenderClock) -> Option<TrackClock> {
        let (place, track) = self.tracks.iter_mut().enumerate().find(|(_, track)| track.ssrc() == Some(ssrc))?;
        track.clock = Some(clock);
        Some(TrackClock { track: place as u8, stream: track.current.as_ref()?.name, clock })
    }

    /// Packets to ask for now.
    pub fn lost(&mut self, now: Instant) -> Vec<Lost> {
        let mut all = Vec::new();
        for track in self.tracks.iter_mut().filter(|track| track.agreed.nack) {
            let Some(current) = &mut track.current else { continue };
            if current.gaps.is_empty() {
                continue;
            }
            let sequences = current.gaps.due(now);
            if !sequences.is_empty() {
                all.push(Lost { ssrc: current.ssrc, sequences });
            }
        }
        all
    }

    /// When there is something to ask for next.
    pub fn asks_at(&self) -> Option<Instant> {
        let asking = self.tracks.iter().filter(|track| track.agreed.nack);
        asking.filter_map(|track| track.current.as_ref()?.gaps.next_due()).min()
    }

    pub fn reception_reports(&mut self, now: Instant) -> Vec<ReceptionReport> {
        let with_media = self.tracks.iter_mut().filter_map(|track| {
            let current = track.current.as_mut()?;
            Some(current.reception.report(current.ssrc, track.clock, now))
        });
        with_media.collect()
    }

    pub fn video_ssrcs(&self) -> Vec<u32> {
        let video = self.tracks.iter().filter(|track| track.agreed.codec.kind() == Kind::Video);
        video.filter_map(Track::ssrc).collect()
    }

    /// The SSRC of a track whose packets have come.
    pub fn ssrc_of(&self, track: usize) -> Option<u32> {
        self.tracks.get(track)?.ssrc()
    }

    /// Milliseconds of media since the first packet, by the clock of the video that came furthest (the audio's if there
    /// is no video).
    pub fn media_ms(&self) -> Option<u64> {
        let of = |kind| {
            let tracks = self.tracks.iter().filter(move |track| track.agreed.codec.kind() == kind);
            tracks.max_by_key(|track| (track.time.last.is_some(), track.time.ticks))
        };
        let track = of(Kind::Video).or_else(|| of(Kind::Audio)).filter(|track| track.time.last.is_some())?;
        let ms = track.time.ticks * 1000 / i64::from(track.agreed.codec.clock_rate());
        Some(u64::try_from(ms).unwrap_or(0))
    }
}

impl Track {
    fn ssrc(&self) -> Option<u32> {
        self.current.as_ref().map(|current| current.ssrc)
    }

    /// Makes `ssrc` the one in use, unless it is one that was left.
    fn current_for(&mut self, ssrc: u32, names: &AtomicU64) -> Result<&mut Current, Dropped> {
        if self.current.as_ref().is_none_or(|current| current.ssrc != ssrc) {
            if self.retired.contains(&ssrc) {
                return Err(Dropped::TooOld);
            }
            self.retired.extend(self.current.take().map(|left| left.ssrc));
            self.clock = None;
            self.time.interrupted = true;
        }
        Ok(self.current.get_or_insert_with(|| Current {
            ssrc,
            name: names.fetch_add(1, Ordering::Relaxed),
            seen: Window::default(),
            numbering: Numbering::default(),
            pictures: vp8::Pictures::default(),
            sets: h264::Sets::announced(&self.agreed.sets),
            gaps: Gaps::default(),
            reception: Reception::default(),
        }))
    }

    fn take(&mut self, place: usize, index: u64, opened: Opened, now: Instant) -> Result<Packet, Dropped> {
        let current = self.current.as_mut().ok_or(Dropped::BadRtp)?;
        let is_newest = current.seen.top().is_none_or(|top| index > top);
        current.seen.pass(index).map_err(|_| Dropped::Replayed)?;
        current.gaps.arrived(index, now);
        if opened.payload.is_empty() {
            if is_newest {
                current.numbering.skip(index);
            }
            return Err(Dropped::Padding);
        }
        if is_newest {
            self.time.note(opened.timestamp, self.agreed.codec.clock_rate(), now);
        }
        let mut packet = Packet {
            track: place as u8,
            stream: current.name,
            number: current.numbering.number(index).ok_or(Dropped::TooOld)?,
            timestamp: opened.timestamp,
            marker: opened.marker,
            starts_keyframe: false,
            sets: None,
            height: None,
            vp8: None,
            payload: opened.payload,
        };
        current.look_into(&mut packet, self.agreed.codec);
        Ok(packet)
    }
}

impl Current {
    /// What the payload says about itself.
    fn look_into(&mut self, packet: &mut Packet, codec: Codec) {
        match codec {
            Codec::Opus => packet.starts_keyframe = true,
            Codec::Vp8 => {
                let (descriptor, payload) = self.pictures.widen(std::mem::take(&mut packet.payload));
                packet.starts_keyframe = descriptor.is_some_and(|found| found.starts_keyframe(&payload));
                packet.height = descriptor.and_then(|found| found.height(&payload));
                (packet.vp8, packet.payload) = (descriptor, payload);
            }
            Codec::H264(_) => {
                let start = self.sets.take(packet.number, &packet.payload);
                (packet.starts_keyframe, packet.height) = (start.is_one, start.height);
                packet.sets = start.sets.map(|payload| Arc::new(Packet { payload, marker: false, ..packet.clone() }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{extension::Extensions, offer::Announced};
    use bytes::Bytes;

    fn intake() -> Intake {
        let agreed = |codec, payload_type, rtx_payload_type| Incoming {
            codec,
            payload_type,
            rtx_payload_type,
            announced: Announced::default(),
            nack: true,
            rid: None,
            sets: Vec::new(),
            extensions: Extensions::default(),
        };
        let tracks = vec![agreed(Codec::Vp8, 96, Some(97)), agreed(Codec::Opus, 111, None)];
        Intake::new(tracks, Arc::new(AtomicU64::new(1)), Instant::now())
    }

    fn opened(ssrc: u32, payload_type: u8, index: u64, payload: &'static [u8]) -> Opened {
        let timestamp = index as u32 * 3_000;
        let payload = Bytes::from_static(payload);
        Opened {
            ssrc,
            payload_type,
            index,
            timestamp,
            marker: false,
            rid: None,
            repaired_rid: None,
            transport: None,
            payload,
        }
    }

    #[test]
    fn a_repaired_packet_takes_its_place_once() {
        let (mut intake, now) = (intake(), Instant::now());
        let first = intake.receive(opened(1, 96, 70_000, b"aa"), now).unwrap();
        let third = intake.receive(opened(1, 96, 70_002, b"cc"), now).unwrap();
        let lost = intake.lost(now);
        assert_eq!((lost[0].ssrc, &lost[0].sequences[..]), (1, &[(70_001u64 as u16)][..]));

        // 70,001 is 0x11171; the repair names its lower 16 bits.
        let second = intake.receive(opened(2, 97, 900, b"\x11\x71bb"), now).unwrap();
        assert_eq!((first.number + 1, second.number + 1), (second.number, third.number));
        assert_eq!(second.payload, b"bb"[..]);
        assert_eq!(intake.receive(opened(2, 97, 901, b"\x11\x71bb"), now).unwrap_err(), Dropped::Replayed);
        assert!(intake.lost(now + Duration::from_secs(1)).is_empty());
    }

    #[test]
    fn padding_takes_no_number() {
        let (mut intake, now) = (intake(), Instant::now());
        let before = intake.receive(opened(1, 96, 70_000, b"aa"), now).unwrap();
        assert_eq!(intake.receive(opened(1, 96, 70_001, b""), now).unwrap_err(), Dropped::Padding);
        let after = intake.receive(opened(1, 96, 70_002, b"bb"), now).unwrap();
        assert_eq!(before.number + 1, after.number);
    }

    #[test]
    fn a_new_ssrc_is_a_new_stream_and_an_old_one_never_comes_back() {
        let (mut intake, now) = (intake(), Instant::now());
        let before = intake.receive(opened(1, 96, 70_000, b"aa"), now).unwrap();
        let after = intake.receive(opened(2, 96, 80_000, b"aa"), now).unwrap();
        assert!(after.stream > before.stream);
        assert_eq!(intake.receive(opened(1, 96, 70_001, b"aa"), now).unwrap_err(), Dropped::TooOld);
        assert_eq!(intake.receive(opened(2, 96, 80_001, b"aa"), now).unwrap().stream, after.stream);
    }

    #[test]
    fn media_time_follows_the_video_over_a_new_ssrc() {
        let (mut intake, start) = (intake(), Instant::now());
        assert_eq!(intake.media_ms(), None);
        for index in 0..=30 {
            intake.receive(opened(1, 96, 70_000 + index, b"aa"), start).unwrap();
        }
        assert_eq!(intake.media_ms(), Some(1_000));
        intake.receive(opened(2, 96, 70_000, b"aa"), start + Duration::from_millis(40)).unwrap();
        assert_eq!(intake.media_ms(), Some(1_040));
    }

    #[test]
    fn a_payload_type_that_was_not_agreed_is_refused() {
        assert_eq!(intake().receive(opened(1, 100, 70_000, b"aa"), Instant::now()).unwrap_err(), Dropped::BadRtp);
    }

    #[test]
    fn layers_are_told_apart_by_their_names() {
        let layer = |rid: &str| Incoming {
            codec: Codec::Vp8,
            payload_type: 96,
            rtx_payload_type: Some(97),
            announced: Announced::default(),
            nack: true,
            rid: Some(rid.to_owned()),
            sets: Vec::new(),
            extensions: Extensions::default(),
        };
        let names = Arc::new(AtomicU64::new(1));
        let (mut intake, now) = (Intake::new(vec![layer("q"), layer("h")], names, Instant::now()), Instant::now());
        let named = |ssrc, index, rid: &'static str| Opened {
            rid: Some(Bytes::from_static(rid.as_bytes())),
            ..opened(ssrc, 96, index, b"\x10\x01")
        };
        assert_eq!(intake.receive(opened(7, 96, 70_000, b"aa"), now).unwrap_err(), Dropped::UnknownSsrc);
        assert_eq!(intake.receive(named(1, 70_000, "h"), now).unwrap().track, 1);
        assert_eq!(intake.receive(named(2, 80_000, "q"), now).unwrap().track, 0);
        assert_eq!(intake.receive(named(3, 80_000, "other"), now).unwrap_err(), Dropped::UnknownSsrc);
        // Once she knows that we heard them, she leaves the names out.
        assert_eq!(intake.receive(opened(1, 96, 70_002, b"\x10\x01"), now).unwrap().track, 1);

        let repair = Opened { repaired_rid: Some(Bytes::from_static(b"h")), ..opened(9, 97, 500, b"\x11\x71bb") };
        let (track, number) = intake.receive(repair, now).map(|packet| (packet.track, packet.number)).unwrap();
        assert_eq!((track, number), (1, 70_001));
        assert_eq!((intake.ssrc_of(0), intake.ssrc_of(1)), (Some(2), Some(1)));
    }
}
