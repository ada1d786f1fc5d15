//! A clip played in a loop: what is due when, with one time line for sound and picture that never jumps.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rtp::{
    Header, Packet,
    codec::{
        h264::{H264Payloader, STAPA_NALU_TYPE},
        vp8::Vp8Payloader,
    },
    packetizer::Payloader,
};

use crate::client::{
    clip::{Clip, Unit},
    codec::Codec,
};

/// A packet's payload; with headers, seal and addresses it stays below 1,280 bytes.
const PAYLOAD_LEN_MAX: usize = 1_180;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Video,
    Audio,
}

/// What to send at a time.
#[derive(Clone, Debug)]
pub struct Due {
    /// From the start of the playback; also the media time of the RTP timestamp.
    pub at: Duration,
    pub kind: Kind,
    /// Of a picture one for each layer.
    pub data: Vec<Bytes>,
}

/// Where an endless playback stands.
///
/// Content runs over `lap * len + unit.at`. It goes out at the same time, less what was skipped to reach keyframes: so
/// times always rise, sound and picture keep together, and laps do not drift.
#[derive(Debug)]
pub struct Playback {
    clip: Arc<Clip>,
    video: Cursor,
    audio: Cursor,
    skipped: Duration,
    audio_until: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    lap: u32,
    index: usize,
}

impl Cursor {
    fn unit(self, units: &[Unit]) -> Option<&Unit> {
        units.get(self.index)
    }

    fn content_at(self, units: &[Unit], clip_len: Duration) -> Option<Duration> {
        self.unit(units).map(|unit| clip_len * self.lap + unit.at)
    }

    fn advance(&mut self, units: &[Unit]) {
        self.index += 1;
        if self.index >= units.len() {
            *self = Self { lap: self.lap + 1, index: 0 };
        }
    }
}

impl Playback {
    pub fn new(clip: Arc<Clip>) -> Self {
        let (video, audio) = (Cursor::default(), Cursor::default());
        Self { clip, video, audio, skipped: Duration::ZERO, audio_until: Duration::ZERO }
    }

    /// When the next unit is due.
    pub fn next_at(&self) -> Duration {
        let video = self.due_at(Kind::Video).unwrap_or(Duration::MAX);
        self.due_at(Kind::Audio).map_or(video, |audio| audio.min(video))
    }

    /// The next unit; the picture first when both are due.
    pub fn pop(&mut self) -> Due {
        let (video, audio) = (self.due_at(Kind::Video), self.due_at(Kind::Audio));
        match (video, audio) {
            (video, Some(at)) if video.is_none_or(|video| at < video) => {
                let unit = &self.clip.audio[self.audio.index];
                let due = Due { at, kind: Kind::Audio, data: unit.data.clone() };
                self.audio_until = at + unit.len;
                self.audio.advance(&self.clip.audio);
                due
            }
            (video, _) => {
                let at = video.expect("a clip has video");
                let due = Due { at, kind: Kind::Video, data: self.clip.video[self.video.index].data.clone() };
                self.video.advance(&self.clip.video);
                due
            }
        }
    }

    /// Goes on at the next keyframe, in the time of the frame that would have been next. Says whether that skipped
    /// anything.
    pub fn skip_to_keyframe(&mut self) -> bool {
        let (units, len) = (&self.clip.video, self.clip.len);
        let from = self.video.content_at(units, len).unwrap_or_default();
        while self.video.unit(units).is_some_and(|unit| !unit.key) {
            self.video.advance(units);
        }
        let skip = self.video.content_at(units, len).unwrap_or_default() - from;
        self.skipped += skip;

        let sound_from = self.skipped + self.audio_until;
        while self.audio.content_at(&self.clip.audio, len).is_some_and(|at| at < sound_from) {
            self.audio.advance(&self.clip.audio);
        }
        !skip.is_zero()
    }

    fn due_at(&self, kind: Kind) -> Option<Duration> {
        let content = match kind {
            Kind::Video => self.video.content_at(&self.clip.video, self.clip.len),
            Kind::Audio => self.audio.content_at(&self.clip.audio, self.clip.len),
        };
        content.map(|at| at - self.skipped)
    }
}

/// Makes the RTP packets of one track.
#[derive(Debug)]
pub struct Packetizer {
    codec: Codec,
    ssrc: u32,
    payload_type: u8,
    next_seq: u16,
    first_timestamp: u32,
    vp8: Vp8Payloader,
    h264: H264Payloader,
    has_sent_sets: bool,
}

impl Packetizer {
    pub fn new(codec: Codec, ssrc: u32, payload_type: u8) -> Self {
        let mut vp8 = Vp8Payloader::default();
        vp8.enable_picture_id = true;
        Self {
            codec,
            ssrc,
            payload_type,
            // Far from the wrap, so that a lost first packet cannot look like one.
            next_seq: rand::random::<u16>() & 0x7fff,
            first_timestamp: rand::random(),
            vp8,
            h264: H264Payloader::default(),
            has_sent_sets: false,
        }
    }

    /// The packets of `data` at the time of `due`.
    pub fn packets(&mut self, due: &Due, data: &Bytes) -> Vec<Packet> {
        // The payloaders fail on nothing that they are given here: a frame of some bytes, a size above their headers.
        let payloads = match self.codec {
            Codec::Opus => vec![data.clone()],
            Codec::Vp8 => self.vp8.payload(PAYLOAD_LEN_MAX, data).unwrap_or_default(),
            Codec::H264 => {
                let payloads = self.h264.payload(PAYLOAD_LEN_MAX, data).unwrap_or_default();
                self.without_repeated_sets(payloads)
            }
        };
        let last = payloads.len().saturating_sub(1);
        let timestamp = self.first_timestamp.wrapping_add(ticks(due.at, self.codec.clock_rate()));
        let numbered = payloads.into_iter().enumerate();
        let packet = |(i, payload)| {
            let header = Header {
                version: 2,
                marker: self.codec != Codec::Opus && i == last,
                payload_type: self.payload_type,
                sequence_number: self.next_seq.wrapping_add(i as u16),
                timestamp,
                ssrc: self.ssrc,
                ..Header::default()
            };
            Packet { header, payload }
        };
        let packets: Vec<Packet> = numbered.map(packet).collect();
        self.next_seq = self.next_seq.wrapping_add(packets.len() as u16);
        packets
    }

    /// Parameter sets go out once, in front of the first picture, as hardware encoders send them.
    fn without_repeated_sets(&mut self, mut payloads: Vec<Bytes>) -> Vec<Bytes> {
        let is_aggregate = |payload: &Bytes| payload.first().is_some_and(|header| header & 0x1f == STAPA_NALU_TYPE);
        payloads.retain(|payload| !self.has_sent_sets || !is_aggregate(payload));
        self.has_sent_sets |= payloads.iter().any(is_aggregate);
        payloads
    }
}

/// Counted from the start each time, so that rounding does not add up.
fn ticks(at: Duration, rate: u32) -> u32 {
    (at.as_nanos() * u128::from(rate) / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::clip::tests::{ivf, ogg};

    /// 1.24 s: not a whole number of seconds, and keyframes at 0 and 0.4 s.
    fn playback() -> Playback {
        let clip = Clip::parse(ivf(31, &[0, 10]), Some(ogg(80, 5))).unwrap();
        Playback::new(Arc::new(clip))
    }

    fn deltas(packets: &[Packet]) -> Vec<u32> {
        packets.windows(2).map(|p| p[1].header.timestamp.wrapping_sub(p[0].header.timestamp)).collect()
    }

    #[test]
    fn timestamps_go_on_evenly_over_many_laps() {
        let mut playback = playback();
        let mut video = Packetizer::new(Codec::Vp8, 1, 96);
        let mut audio = Packetizer::new(Codec::Opus, 2, 111);
        let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
        for _ in 0..1_000 {
            let due = playback.pop();
            match due.kind {
                Kind::Video => pictures.extend(video.packets(&due, &due.data[0])),
                Kind::Audio => sounds.extend(audio.packets(&due, &due.data[0])),
            }
        }
        assert!(playback.video.lap > 5);
        assert!(deltas(&pictures).iter().all(|&delta| delta == 3_600));
        assert!(deltas(&sounds).iter().all(|&delta| delta == 960));
        let seqs = pictures.windows(2).map(|p| p[1].header.sequence_number.wrapping_sub(p[0].header.sequence_number));
        assert!(seqs.into_iter().all(|delta| delta == 1));
    }

    #[test]
    fn a_skip_leads_to_a_keyframe_at_once_and_keeps_sound_with_picture() {
        let mut playback = playback();
        let mut last = (Duration::ZERO, Duration::ZERO);
        for step in 0..2_000 {
            if step % 7 == 3 {
                let next = playback.due_at(Kind::Video);
                playback.skip_to_keyframe();
                assert_eq!(playback.due_at(Kind::Video), next, "the time line does not jump");
                assert!(playback.video.unit(&playback.clip.video).unwrap().key);
            }
            let due = playback.pop();
            let before = if due.kind == Kind::Video { &mut last.0 } else { &mut last.1 };
            assert!(due.at >= *before, "times rise");
            let gap = due.at - *before;
            assert!(gap <= Duration::from_millis(60), "no hole of {gap:?} at step {step}");
            *before = due.at;
            assert!(last.0.abs_diff(last.1) <= Duration::from_millis(80), "sound and picture keep together");
        }
    }

    #[test]
    fn a_large_frame_is_cut_into_packets_with_one_marker() {
        let mut video = Packetizer::new(Codec::Vp8, 1, 96);
        let due = Due { at: Duration::ZERO, kind: Kind::Video, data: vec![vec![0; 5_000].into()] };
        let packets = video.packets(&due, &due.data[0]);
        assert_eq!(packets.len(), 5);
        assert!(packets.iter().all(|p| p.payload.len() <= PAYLOAD_LEN_MAX));
        let marked: Vec<bool> = packets.iter().map(|p| p.header.marker).collect();
        assert_eq!(marked, [false, false, false, false, true]);
    }
}
