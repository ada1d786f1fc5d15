//! A show that nobody films: packets in the shape of VP8 and Opus, each with the time at which it was made.

use std::time::Duration;

use super::{
    link::wall_time,
    terms::{AUDIO_SSRC, OPUS, VIDEO_SSRC, VP8},
};

const HEADER_LEN: usize = 12;
const STAMP_MARK: &[u8; 8] = b"made at:";
const STAMP_LEN: usize = 16;
/// A VP8 descriptor that starts a picture, and one that goes on with it (RFC 7741).
const PICTURE_STARTS: u8 = 0x10;
const PICTURE_GOES_ON: u8 = 0x00;
/// The start of a VP8 keyframe of 1280x720, and of another frame (RFC 6386, 9.1).
const KEYFRAME: [u8; 10] = [0x10, 0x02, 0x00, 0x9D, 0x01, 0x2A, 0x00, 0x05, 0xD0, 0x02];
const INTERFRAME: [u8; 3] = [0x11, 0x02, 0x00];
const AUDIO_PER_SECOND: u32 = 50;
const AUDIO_TICKS: u32 = 960;
const VIDEO_CLOCK: u32 = 90_000;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub pictures_per_second: u32,
    /// Packets of a picture, and of one that is a keyframe.
    pub packets: u32,
    pub keyframe_packets: u32,
    /// Bytes of a video packet and of a sound packet, with RTP's header.
    pub packet_len: usize,
    pub sound_len: usize,
    pub keyframe_every: Duration,
}

impl Default for Shape {
    /// 1.2 Mb/s.
    fn default() -> Self {
        Self {
            pictures_per_second: 30,
            packets: 4,
            keyframe_packets: 4,
            packet_len: 1_200,
            sound_len: 132,
            keyframe_every: Duration::from_secs(2),
        }
    }
}

/// The packets of a show, made when they are due.
pub struct Show {
    shape: Shape,
    began: Duration,
    pictures: u32,
    sounds: u32,
    next_video: u16,
    next_audio: u16,
    keyframe_at: Option<Duration>,
}

impl Show {
    /// Begins now.
    pub fn new(shape: Shape) -> Self {
        let began = wall_time();
        Self { shape, began, pictures: 0, sounds: 0, next_video: 1_000, next_audio: 5_000, keyframe_at: None }
    }

    /// When something is next due.
    pub fn next_due(&self) -> Duration {
        self.picture_due().min(self.sound_due())
    }

    fn picture_due(&self) -> Duration {
        self.began + Duration::from_secs(1) * self.pictures / self.shape.pictures_per_second
    }

    fn sound_due(&self) -> Duration {
        self.began + Duration::from_secs(1) * self.sounds / AUDIO_PER_SECOND
    }

    /// Passes over the time up to `now` without a packet; numbers go on behind it.
    pub fn skip_to(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.began).as_secs_f64();
        self.pictures = self.pictures.max((passed * f64::from(self.shape.pictures_per_second)).ceil() as u32);
        self.sounds = self.sounds.max((passed * f64::from(AUDIO_PER_SECOND)).ceil() as u32);
    }

    /// Gives every packet that is due to `send`: RTP, unprotected. True if there was a keyframe.
    pub fn play(&mut self, now: Duration, wants_keyframe: bool, mut send: impl FnMut(&mut Vec<u8>)) -> bool {
        let mut packet = Vec::with_capacity(self.shape.packet_len.max(self.shape.sound_len));
        let mut had_keyframe = false;
        while self.picture_due() <= now {
            let is_due = self.keyframe_at.is_none_or(|at| now.saturating_sub(at) >= self.shape.keyframe_every);
            let is_key = !had_keyframe && (is_due || wants_keyframe);
            if is_key {
                self.keyframe_at = Some(now);
                had_keyframe = true;
            }
            let packets = if is_key { self.shape.keyframe_packets } else { self.shape.packets };
            for number in 0..packets {
                self.picture_part(&mut packet, is_key, number, packets);
                send(&mut packet);
            }
            self.pictures += 1;
        }
        while self.sound_due() <= now {
            let timestamp = self.sounds.wrapping_mul(AUDIO_TICKS);
            begin(&mut packet, OPUS, false, self.next_audio, timestamp, AUDIO_SSRC);
            finish(&mut packet, self.shape.sound_len);
            send(&mut packet);
            self.next_audio = self.next_audio.wrapping_add(1);
            self.sounds += 1;
        }
        had_keyframe
    }

    fn picture_part(&mut self, packet: &mut Vec<u8>, is_key: bool, number: u32, packets: u32) {
        let timestamp = self.pictures.wrapping_mul(VIDEO_CLOCK / self.shape.pictures_per_second);
        begin(packet, VP8, number + 1 == packets, self.next_video, timestamp, VIDEO_SSRC);
        match (number, is_key) {
            (0, true) => {
                packet.push(PICTURE_STARTS);
                packet.extend_from_slice(&KEYFRAME);
            }
            (0, false) => {
                packet.push(PICTURE_STARTS);
                packet.extend_from_slice(&INTERFRAME);
            }
            _ => packet.push(PICTURE_GOES_ON),
        }
        finish(packet, self.shape.packet_len);
        self.next_video = self.next_video.wrapping_add(1);
    }

    /// Media time of both streams for sender reports: SSRC and timestamp of `now`.
    pub fn timestamps(&self, now: Duration) -> [(u32, u32); 2] {
        let passed = now.saturating_sub(self.began).as_secs_f64();
        [(VIDEO_SSRC, VIDEO_CLOCK), (AUDIO_SSRC, AUDIO_TICKS * AUDIO_PER_SECOND)]
            .map(|(ssrc, clock)| (ssrc, (passed * f64::from(clock)) as u64 as u32))
    }
}

fn begin(packet: &mut Vec<u8>, payload_type: u8, marker: bool, number: u16, timestamp: u32, ssrc: u32) {
    packet.clear();
    packet.extend_from_slice(&[0x80, u8::from(marker) << 7 | payload_type]);
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
}

/// Fills up to `len` and ends with the time.
fn finish(packet: &mut Vec<u8>, len: usize) {
    packet.resize(len.max(HEADER_LEN + STAMP_LEN + 11) - STAMP_LEN, 0xA5);
    packet.extend_from_slice(STAMP_MARK);
    packet.extend_from_slice(&(wall_time().as_nanos() as u64).to_be_bytes());
}

/// When a packet was made, from its opened payload.
pub fn made_at(payload: &[u8]) -> Option<Duration> {
    let (mark, time) = payload.last_chunk::<STAMP_LEN>()?.split_first_chunk::<8>()?;
    let nanos = u64::from_be_bytes(time.try_into().ok()?);
    (mark == STAMP_MARK).then_some(Duration::from_nanos(nanos))
}
