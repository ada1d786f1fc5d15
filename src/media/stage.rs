//! One room on one worker: its viewers there, and the publisher's tracks as they see them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    codec::Codec,
    registry::{Burst, Source},
    report::ntp_of,
    track::{Packet, Ring, SenderClock},
};

/// A publisher who has sent no sender report for this long sends none: her viewers get one by arrival times.
const CLOCK_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Stage {
    /// Numbers of peers on this worker.
    pub viewers: Vec<u32>,
    pub feed: Option<Feed>,
}

pub struct Feed {
    pub source: Arc<Source>,
    pub tracks: Vec<FeedTrack>,
    began: Instant,
}

pub struct FeedTrack {
    pub codec: Codec,
    pub ring: Ring,
    /// The stream of the newest packets.
    pub stream: u64,
    clock: Option<SenderClock>,
    arrival: Option<SenderClock>,
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
        }
        let Some(feed) = &mut self.feed else { return false };
        for packet in &burst.packets {
            if let Some(track) = feed.tracks.get_mut(usize::from(packet.track)) {
                track.admit(packet, ntp_now, now);
            }
        }
        for report in &burst.clocks {
            if let Some(track) = feed.tracks.get_mut(usize::from(report.track)).filter(|t| t.stream == report.stream) {
                track.clock = Some(report.clock);
            }
        }
        true
    }
}

impl Feed {
    fn new(source: Arc<Source>, now: Instant) -> Self {
        let track = |codec: &Codec| FeedTrack {
            codec: *codec,
            ring: Ring::new(codec.kind()),
            stream: 0,
            clock: None,
            arrival: None,
        };
        Self { tracks: source.codecs.iter().map(track).collect(), source, began: now }
    }

    /// The clock of a track for reports to viewers. All clocks are the publisher's, or all are ours: one of each kind
    /// would put picture and sound apart.
    pub fn clock(&self, track: &FeedTrack, now: Instant) -> Option<SenderClock> {
        let reports_come = self.tracks.iter().any(|track| track.clock.is_some());
        if reports_come || now.saturating_duration_since(self.began) < CLOCK_PATIENCE {
            track.clock
        } else {
            track.arrival
        }
    }
}

impl FeedTrack {
    fn admit(&mut self, packet: &Packet, ntp_now: u64, now: Instant) {
        if packet.stream < self.stream {
            return;
        }
        if packet.stream > self.stream {
            self.stream = packet.stream;
            self.clock = None;
        }
        self.arrival = Some(SenderClock { ntp: ntp_now, rtp: packet.timestamp, at: now });
        self.ring.push(packet.clone());
    }
}

/// NTP time of a moment given in milliseconds since 1970.
pub fn ntp_of_unix_ms(ms: i64) -> u64 {
    const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;
    let since = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    (NTP_TO_UNIX_SECONDS << 32).wrapping_add(ntp_of(since))
}
