//! One look over all sessions: what each room's media is like, for metrics and for the operator's page.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{
    quality::{SessionQuality, Watched},
    registry::Registry,
};
use crate::id::{RoomId, SessionId};

/// Who asks sooner gets the look of before.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest time to a first frame that a histogram tells apart.
const FIRST_FRAME_MS_MAX: u64 = 60_000;
/// The upper ends of what metrics count together, in milliseconds.
const BUCKETS_MS: [u64; 12] = [50, 100, 150, 200, 300, 500, 750, 1_000, 2_000, 4_000, 8_000, 16_000];

/// What viewers saw, summed up over all who told.
#[derive(Debug)]
pub struct Seen {
    freezes: AtomicU64,
    frozen_ms: AtomicU64,
    first_frames: Mutex<Histogram<u32>>,
}

/// The same, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenQuality {
    pub freezes: u64,
    pub frozen: Duration,
    /// Viewers who told when they saw their first picture.
    pub first_frames: u64,
    pub first_frame: Spread,
    /// How many of them had waited at most so long, rising.
    pub first_frame_buckets: Vec<(Duration, u64)>,
    pub first_frame_sum: Duration,
}

/// The middle and the bad end of many values; all zero without any.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
}

/// A room's media now.
#[derive(Clone, Debug)]
pub struct RoomQuality {
    pub room: RoomId,
    pub uplink: Option<(SessionId, SessionQuality)>,
    /// Sessions that watch.
    pub watching: u64,
    pub bits_out: u64,
    /// Of the viewers who report: the part of packets lost at the first attempt, and the seconds of a round trip.
    pub loss: Spread,
    pub round_trip: Spread,
    /// Viewers on each layer, the smallest first.
    pub layers: BTreeMap<u8, u64>,
    pub seen: SeenQuality,
    /// The viewers with the worst connections.
    pub worst: Vec<(SessionId, SessionQuality)>,
}

/// All rooms with media, those with the most viewers first.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    pub rooms: Vec<RoomQuality>,
    /// Over all rooms since the start.
    pub seen: SeenQuality,
}

/// The last look, kept for those who ask at the same time.
#[derive(Debug, Default)]
pub struct Surveyor(Mutex<Option<(Instant, Arc<Survey>)>>);

impl Surveyor {
    pub fn look(&self, registry: &Registry, now: Instant) -> Arc<Survey> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, survey)) = &*last
            && now.saturating_duration_since(*at) < LOOK_EVERY
        {
            return survey.clone();
        }
        let survey = Arc::new(Survey::make(registry));
        *last = Some((now, survey.clone()));
        survey
    }
}

impl Survey {
    fn make(registry: &Registry) -> Self {
        let mut rooms: HashMap<RoomId, Sheet> = HashMap::new();
        registry.each_session(|session| {
            let sheet = rooms.entry(session.room.id.clone()).or_insert_with(|| Sheet::new(session.room.seen.read()));
            let quality = session.quality.read();
            match session.is_publisher {
                true if session.room.is_published_by(session.id) => sheet.uplink = Some((session.id, quality)),
                true => {}
                false => sheet.viewers.push((session.id, quality)),
            }
        });
        let worst_max = registry.config.quality_worst_max;
        let mut rooms: Vec<RoomQuality> =
            rooms.into_iter().map(|(room, sheet)| sheet.sum_up(room, worst_max)).collect();
        rooms.sort_by(|a, b| b.watching.cmp(&a.watching).then_with(|| a.room.as_str().cmp(b.room.as_str())));
        Self { rooms, seen: registry.seen.read() }
    }
}

struct Sheet {
    uplink: Option<(SessionId, SessionQuality)>,
    viewers: Vec<(SessionId, SessionQuality)>,
    seen: SeenQuality,
}

impl Sheet {
    fn new(seen: SeenQuality) -> Self {
        Self { uplink: None, viewers: Vec::new(), seen }
    }

    fn sum_up(self, room: RoomId, worst_max: usize) -> RoomQuality {
        let of = |value: fn(&SessionQuality) -> Option<f64>| {
            Spread::of(self.viewers.iter().filter_map(|(_, quality)| value(quality)).collect())
        };
        let (loss, round_trip) =
            (of(|quality| quality.loss.map(f64::from)), of(|quality| Some(quality.round_trip?.as_secs_f64())));
        let mut layers = BTreeMap::new();
        for layer in self.viewers.iter().filter_map(|(_, quality)| quality.layer) {
            *layers.entry(layer).or_default() += 1;
        }
        RoomQuality {
            room,
            uplink: self.uplink,
            watching: self.viewers.len() as u64,
            bits_out: self.viewers.iter().filter_map(|(_, quality)| quality.bits).sum(),
            loss,
            round_trip,
            layers,
            seen: self.seen,
            worst: worst_of(self.viewers, worst_max),
        }
    }
}

/// By the time that their pictures stood still, then by loss.
fn worst_of(mut viewers: Vec<(SessionId, SessionQuality)>, most: usize) -> Vec<(SessionId, SessionQuality)> {
    let badness = |(_, quality): &(SessionId, SessionQuality)| {
        (quality.watched.frozen, (quality.loss.unwrap_or(0.0) * 1e6) as u64)
    };
    let suffers = |viewer: &(SessionId, SessionQuality)| badness(viewer) > (Duration::ZERO, 0);
    viewers.retain(suffers);
    viewers.sort_by_key(|viewer| std::cmp::Reverse(badness(viewer)));
    viewers.truncate(most);
    viewers
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let place = (values.len() as f64 * part).ceil() as usize;
            values.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
        };
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}

impl Seen {
    pub fn new() -> Self {
        let first_frames = Histogram::new_with_bounds(1, FIRST_FRAME_MS_MAX, 2);
        Self {
            freezes: AtomicU64::new(0),
            frozen_ms: AtomicU64::new(0),
            first_frames: Mutex::new(first_frames.expect("two digits up to this are possible")),
        }
    }

    pub fn add(&self, news: &Watched) {
        self.freezes.fetch_add(u64::from(news.freezes), Ordering::Relaxed);
        self.frozen_ms.fetch_add(news.frozen.as_millis() as u64, Ordering::Relaxed);
        if let Some(time) = news.first_frame {
            let mut first_frames = self.first_frames.lock().unwrap_or_else(PoisonError::into_inner);
            first_frames.saturating_record(time.as_millis() as u64);
        }
    }

    pub fn read(&self) -> SeenQuality {
        let first_frames = self.first_frames.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = |quantile| first_frames.value_at_quantile(quantile) as f64 / 1e3;
        let bucket = |ms: u64| (Duration::from_millis(ms), first_frames.count_between(0, ms));
        SeenQuality {
            freezes: self.freezes.load(Ordering::Relaxed),
            frozen: Duration::from_millis(self.frozen_ms.load(Ordering::Relaxed)),
            first_frames: first_frames.len(),
            first_frame: Spread { p50: seconds(0.5), p95: seconds(0.95), p99: seconds(0.99) },
            first_frame_buckets: BUCKETS_MS.map(bucket).into(),
            first_frame_sum: Duration::from_secs_f64(first_frames.mean() * first_frames.len() as f64 / 1e3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_names_values_that_were_there() {
        let spread = Spread::of((1..=100).rev().map(f64::from).collect());
        assert_eq!((spread.p50, spread.p95, spread.p99), (50.0, 95.0, 99.0));
        assert_eq!(Spread::of(vec![7.0]), Spread { p50: 7.0, p95: 7.0, p99: 7.0 });
        assert_eq!(Spread::of(vec![]), Spread::default());
    }

    #[test]
    fn first_frames_are_counted_by_how_long_they_took() {
        let seen = Seen::new();
        for ms in [40, 120, 120, 900, 100_000] {
            seen.add(&Watched { first_frame: Some(Duration::from_millis(ms)), ..Watched::default() });
        }
        let read = seen.read();
        let at_most = |ms| read.first_frame_buckets.iter().find(|(end, _)| end.as_millis() == ms).unwrap().1;
        assert_eq!((at_most(50), at_most(150), at_most(1_000), at_most(16_000)), (1, 3, 4, 4));
        assert_eq!((read.first_frames, (read.first_frame.p50 * 1e3) as u64), (5, 120));
        assert!(read.first_frame_buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "buckets only rise");
    }

    #[test]
    fn the_worst_are_those_whose_pictures_stood_still() {
        let viewer = |frozen, loss| {
            let watched = Watched { frozen: Duration::from_millis(frozen), ..Watched::default() };
            (SessionId::make(), SessionQuality { loss: Some(loss), watched, ..SessionQuality::default() })
        };
        let viewers = vec![viewer(0, 0.0), viewer(0, 0.5), viewer(900, 0.0), viewer(0, 0.1)];
        let worst: Vec<f32> = worst_of(viewers, 2).iter().filter_map(|(_, quality)| quality.loss).collect();
        assert_eq!(worst, [0.0, 0.5], "and nobody who is well");
    }
}
