//! One room on one worker: its viewers there, and the publisher's tracks as they see them.

use std::{
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, Instant},
};

use smallvec::SmallVec;

use super::{
    codec::{Codec, Kind},
    forward::Tap,
    layers::Layer,
    registry::{Burst, Source},
    report::ntp_of,
    ring::{Arrival, Ring},
    sweep::Round,
    track::{Packet, SenderClock, TrackClock},
};

/// A publisher who has sent no sender report for this long sends none: her viewers get one by arrival times.
const CLOCK_PATIENCE: Duration = Duration::from_secs(5);
/// A track without a packet for longer has stopped, for now.
const FLOWS_WITHIN: Duration = Duration::from_millis(500);
/// How often bitrates are measured, and layers ranked by them.
const SURVEY_INTERVAL: Duration = Duration::from_secs(1);

/// Late packets of one round; those before them are repaired when viewers ask.
const LATE_MAX: usize = 64;

#[derive(Default)]
pub struct Stage {
    pub round: Round,
    pub feed: Option<Feed>,
    /// Packets of this round that viewers may be past already.
    pub late: Vec<Packet>,
}

pub struct Feed {
    pub source: Arc<Source>,
    tracks: Vec<FeedTrack>,
    /// The tracks of her picture, the smallest first: a layer's id is its place here.
    sizes: SmallVec<[u8; 4]>,
    /// Those whose packets come, rising.
    layers: SmallVec<[Layer; 4]>,
    began: Instant,
    surveyed_at: Instant,
}

struct FeedTrack {
    codec: Codec,
    ring: Ring,
    clock: Option<SenderClock>,
    arrival: Option<SenderClock>,
    /// Bytes since the last survey.
    bytes: usize,
    /// Of the last seconds; 0 when nothing came in the last one.
    bits_per_second: Option<u32>,
    most_bits_per_second: u32,
    height: Option<u16>,
}

impl Stage {
    /// Takes a burst into the rings; false if it is of a publisher who was replaced.
    pub fn admit(&mut self, burst: &Burst, ntp_now: u64, now: Instant) -> bool {
        let generation = self.feed.as_ref().map_or(0, |feed| feed.source.generation);
        if burst.source.generation < generation {
            return false;
        }
        if burst.source.generation > generation {
            self.feed = Some(Feed::new(burst.source.clone(), now));
            self.late.clear();
        }
        let Some(feed) = &mut self.feed else { return false };
        let mut has_news = false;
        for packet in &burst.packets {
            let Some(track) = feed.tracks.get_mut(usize::from(packet.track)) else { continue };
            if track.admit(packet, ntp_now, now) == Arrival::Late {
                if self.late.len() == LATE_MAX {
                    self.late.remove(0);
                }
                self.late.push(packet.clone());
            }
            // A layer is known with its first packet: if that is not of a keyframe, somebody has to ask for one.
            let is_new = !feed.layers.iter().any(|layer| feed.sizes[usize::from(layer.id)] == packet.track);
            has_news |= track.codec.kind() == Kind::Video && (packet.starts_keyframe || is_new);
        }
        for report in &burst.clocks {
            let track = feed.tracks.get_mut(usize::from(report.track));
            if let Some(track) = track.filter(|track| track.ring.stream() == report.stream) {
                track.clock = Some(report.clock);
            }
        }
        feed.survey(has_news, now);
        true
    }
}

impl Feed {
    fn new(source: Arc<Source>, now: Instant) -> Self {
        let track = |codec: Codec| FeedTrack {
            codec,
            ring: Ring::new(codec.kind()),
            clock: None,
            arrival: None,
            bytes: 0,
            bits_per_second: None,
            most_bits_per_second: 0,
            height: None,
        };
        let tracks = source.codecs.iter().copied().map(track).collect();
        Self { tracks, source, sizes: SmallVec::new(), layers: SmallVec::new(), began: now, surveyed_at: now }
    }

    /// The layers whose packets come, the smallest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The track of a layer that comes.
    pub fn track_of(&self, id: u8) -> Option<u8> {
        self.layers.iter().any(|layer| layer.id == id).then(|| self.sizes[usize::from(id)])
    }

    /// Which layer a video track is, whether or not it comes.
    pub fn layer_of(&self, track: u8) -> Option<u8> {
        self.sizes.iter().position(|size| *size == track).map(|id| id as u8)
    }

    /// Whether a track's packets come.
    pub fn flows(&self, track: u8, now: Instant) -> bool {
        let newest = self.tracks.get(usize::from(track)).and_then(|track| track.arrival);
        newest.is_some_and(|newest| now.saturating_duration_since(newest.at) < FLOWS_WITHIN)
    }

    /// What the sound takes, in bits per second.
    pub fn audio_bps(&self) -> u32 {
        self.audio().and_then(|track| self.tracks[usize::from(track)].bits_per_second).unwrap_or(0)
    }

    pub fn audio(&self) -> Option<u8> {
        self.tracks.iter().position(|track| track.codec.kind() == Kind::Audio).map(|place| place as u8)
    }

    pub fn tap(&self, track: u8, now: Instant) -> Option<Tap<'_>> {
        let feed_track = self.tracks.get(usize::from(track))?;
        Some(Tap { track, codec: feed_track.codec, ring: &feed_track.ring, clock: self.clock(feed_track, now) })
    }

    pub fn ring(&self, track: u8) -> Option<&Ring> {
        self.tracks.get(usize::from(track)).map(|track| &track.ring)
    }

    /// The reports that the clocks are from.
    pub fn clocks(&self) -> Vec<TrackClock> {
        let clock = |(place, track): (usize, &FeedTrack)| {
            Some(TrackClock { track: place as u8, stream: track.ring.stream(), clock: track.clock? })
        };
        self.tracks.iter().enumerate().filter_map(clock).collect()
    }

    /// Everything that a worker without a history needs to begin.
    pub fn history(&self) -> Vec<Packet> {
        self.tracks.iter().flat_map(|track| track.ring.since_keyframe().cloned()).collect()
    }

    /// The clock of a track for reports to viewers. All clocks are the publisher's, or all are ours: one of each kind
    /// would put picture and sound apart.
    fn clock(&self, track: &FeedTrack, now: Instant) -> Option<SenderClock> {
        let reports_come = self.tracks.iter().any(|track| track.clock.is_some());
        if reports_come || now.saturating_duration_since(self.began) < CLOCK_PATIENCE {
            track.clock
        } else {
            track.arrival
        }
    }

    /// Measures once a second; what is new of layers and their sizes is known at once.
    fn survey(&mut self, has_news: bool, now: Instant) {
        let passed = now.saturating_duration_since(self.surveyed_at);
        let is_due = passed >= SURVEY_INTERVAL;
        if is_due {
            self.surveyed_at = now;
            self.tracks.iter_mut().for_each(|track| track.measure(passed));
        }
        if is_due || has_news {
            self.rank();
        }
    }

    fn rank(&mut self) {
        let video = |track: &u8| self.tracks[usize::from(*track)].codec.kind() == Kind::Video;
        let mut sizes: SmallVec<[u8; 4]> = (0..self.tracks.len() as u8).filter(video).collect();
        sizes.sort_by_key(|track| {
            let track = &self.tracks[usize::from(*track)];
            (track.height, track.most_bits_per_second)
        });
        let layer = |(id, track): (usize, &u8)| {
            let track = &self.tracks[usize::from(*track)];
            let bitrate_bps = track.bits_per_second.unwrap_or(0);
            let comes = track.bytes > 0 || bitrate_bps > 0;
            comes.then_some(Layer { id: id as u8, bitrate_bps, height: track.height })
        };
        self.layers = sizes.iter().enumerate().filter_map(layer).collect();
        self.sizes = sizes;
    }
}

impl FeedTrack {
    fn admit(&mut self, packet: &Packet, ntp_now: u64, now: Instant) -> Arrival {
        if packet.stream > self.ring.stream() {
            self.clock = None;
        }
        let arrival = self.ring.push(packet);
        if arrival == Arrival::Newest {
            self.arrival = Some(SenderClock { ntp: ntp_now, rtp: packet.timestamp, at: now });
        }
        if arrival != Arrival::Useless {
            self.bytes += packet.payload.len();
            self.height = packet.height.map(NonZeroU16::get).or(self.height);
        }
        arrival
    }

    fn measure(&mut self, passed: Duration) {
        let bits = (self.bytes as f64 * 8.0 / passed.as_secs_f64()) as u32;
        self.bytes = 0;
        // A second with a keyframe has more than one without: two are taken together.
        let smooth = self.bits_per_second.filter(|before| *before > 0 && bits > 0);
        self.bits_per_second = Some(smooth.map_or(bits, |before| before / 2 + bits / 2));
        self.most_bits_per_second = self.most_bits_per_second.max(bits);
    }
}

/// NTP time of a moment given in milliseconds since 1970.
pub fn ntp_of_unix_ms(ms: i64) -> u64 {
    const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;
    let since = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    (NTP_TO_UNIX_SECONDS << 32).wrapping_add(ntp_of(since))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use bytes::Bytes;

    use super::*;
    use crate::media::{
        codec::Profile, extension::Extensions, intake::Intake, negotiate::Incoming, offer::Announced, open::Opened,
    };

    const H264: Codec = Codec::H264(Profile::ConstrainedBaseline);
    /// As x264 writes them; in both cases for the same `PICTURE`.
    const SEQUENCE_720: &[u8] =
        b"\x67\x42\xc0\x1f\xd9\x00\x50\x05\xbb\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xf1\x83\x24\x80";
    const SEQUENCE_180: &[u8] =
        b"\x67\x42\xc0\x0c\xd9\x01\x41\x9f\x9f\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xf1\x42\xa4\x80";
    const PICTURE: &[u8] = b"\x68\xcb\x83\xcb\x20";
    const SLICE: &[u8] = b"\x65\x88\x84";

    fn layer(rid: &str) -> Incoming {
        Incoming {
            codec: H264,
            payload_type: 96,
            rtx_payload_type: None,
            announced: Announced::default(),
            nack: true,
            rid: Some(rid.to_owned()),
            sets: Vec::new(),
            extensions: Extensions::default(),
        }
    }

    #[test]
    fn the_larger_picture_is_the_larger_layer_whatever_it_takes() {
        let now = Instant::now();
        let mut intake = Intake::new(vec![layer("a"), layer("b")], Arc::new(AtomicU64::new(1)), now);
        let source = Arc::new(Source::example(vec![H264; 2], 1));
        let (mut stage, mut index) = (Stage::default(), 70_000);
        let mut frame = |stage: &mut Stage, at: Duration, payloads: &[(u8, &[u8])]| {
            index += 1;
            let packets = payloads.iter().map(|(track, payload)| {
                index += 1;
                let rid = Some(Bytes::copy_from_slice(if *track == 0 { b"a" } else { b"b" }));
                let ssrc = u32::from(*track) + 1;
                let (timestamp, payload) = (index as u32 / 10 * 3_000, Bytes::copy_from_slice(payload));
                let opened = Opened {
                    ssrc,
                    payload_type: 96,
                    index,
                    timestamp,
                    marker: true,
                    rid,
                    repaired_rid: None,
                    transport: None,
                    payload,
                };
                intake.receive(opened, now).unwrap()
            });
            let room = "room".parse().unwrap();
            let burst = Burst { room, source: source.clone(), packets: packets.collect(), clocks: Vec::new() };
            assert!(stage.admit(&burst, 0, now + at));
        };
        let (large, small) =
            (&[&[0x41, 0x9A], &[1; 100][..]].concat()[..], &[&[0x41, 0x9A], &[1; 1_000][..]].concat()[..]);
        frame(&mut stage, Duration::ZERO, &[(0, SEQUENCE_720), (0, PICTURE), (0, SLICE)]);
        frame(&mut stage, Duration::ZERO, &[(1, SEQUENCE_180), (1, PICTURE), (1, SLICE)]);
        for step in 0..60 {
            frame(&mut stage, Duration::from_millis(50) * step, &[(0, large), (1, small)]);
        }
        let feed = stage.feed.as_ref().unwrap();
        let heights: Vec<_> = feed.layers().iter().map(|layer| (layer.height, feed.track_of(layer.id))).collect();
        assert_eq!(heights, [(Some(180), Some(1)), (Some(720), Some(0))]);
        assert!(feed.layers()[0].bitrate_bps > 5 * feed.layers()[1].bitrate_bps, "{:?}", feed.layers());

        // She turns her camera: the next keyframes have other sizes.
        frame(&mut stage, Duration::from_secs(4), &[(0, SEQUENCE_180), (0, PICTURE), (0, SLICE)]);
        frame(&mut stage, Duration::from_secs(4), &[(1, SEQUENCE_720), (1, SLICE)]);
        let feed = stage.feed.as_ref().unwrap();
        let heights: Vec<_> = feed.layers().iter().map(|layer| (layer.height, feed.track_of(layer.id))).collect();
        assert_eq!(heights, [(Some(180), Some(0)), (Some(720), Some(1))]);
    }
}
