//! Wall time read once at the start, then moved on by the monotonic clock.
//!
//! A step of the machine's clock during a show moves no hold's end. Cores receive `now`; only handles, tasks and
//! threads ask a [`Clock`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Milliseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

impl UnixMs {
    pub fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
    }

    /// As ISO 8601 in UTC: `2026-11-22T20:14:00.5Z`. A time beyond the calendar is its milliseconds.
    pub fn to_utc(self) -> String {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).ok();
        time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| self.0.to_string())
    }

    /// Reads milliseconds, a date (its beginning in UTC), or a date and time with an offset.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(millis) = text.parse() {
            return Some(Self(millis));
        }
        let with_time = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
        let time = OffsetDateTime::parse(&with_time, &Rfc3339).ok()?;
        i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok().map(Self)
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// The server's one clock; clones share it.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    Running { started_at: i64, started: Instant, ahead_ms: AtomicI64, speed: u32 },
    Manual(AtomicI64),
}

impl Clock {
    pub fn start() -> Self {
        Self::start_at_speed(1)
    }

    /// A clock on which `speed` seconds pass in one: for rehearsals and replays, where a show is played faster. It begins
    /// at the wall's time.
    pub fn start_at_speed(speed: u32) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads wall time")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_at = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        let (started, ahead_ms) = (Instant::now(), AtomicI64::new(0));
        Self(Arc::new(Source::Running { started_at, started, ahead_ms, speed: speed.max(1) }))
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual(at: UnixMs) -> Self {
        Self(Arc::new(Source::Manual(AtomicI64::new(at.0))))
    }

    pub fn now(&self) -> UnixMs {
        match &*self.0 {
            Source::Running { started_at, started, ahead_ms, speed } => {
                let run = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
                let run = run.saturating_mul(i64::from(*speed));
                UnixMs(started_at + run + ahead_ms.load(Ordering::Relaxed))
            }
            Source::Manual(at) => UnixMs(at.load(Ordering::Relaxed)),
        }
    }

    /// The time that people's watches show, whatever the speed: tokens end by it.
    pub fn wall(&self) -> UnixMs {
        match &*self.0 {
            Source::Running { started_at, started, speed, .. } if *speed > 1 => {
                UnixMs(*started_at).plus(started.elapsed())
            }
            _ => self.now(),
        }
    }

    /// How long a time of this clock is to wait for.
    pub fn to_wait(&self, time: Duration) -> Duration {
        match &*self.0 {
            Source::Running { speed, .. } => time / *speed,
            Source::Manual(_) => time,
        }
    }

    /// Moves a manual clock on. A running one does not move by hand.
    pub fn advance(&self, time: Duration) {
        if let Source::Manual(at) = &*self.0 {
            at.fetch_add(i64::try_from(time.as_millis()).unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// Never tells a time before `newest`: called once with the newest entry on disk, so that a machine that started
    /// with a wrong clock does not write a past.
    pub fn not_before(&self, newest: UnixMs) {
        let behind = newest.0 - self.now().0;
        if behind > 0 {
            match &*self.0 {
                Source::Running { ahead_ms, .. } => ahead_ms.fetch_add(behind, Ordering::Relaxed),
                Source::Manual(at) => at.fetch_add(behind, Ordering::Relaxed),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_moves_on_faster_than_the_wall() {
        let clock = Clock::start_at_speed(1_000);
        assert_eq!(clock.to_wait(Duration::from_secs(10)), Duration::from_millis(10));
        let before = clock.now();
        while clock.now().since(before) < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        assert!(clock.wall().since(before) < Duration::from_secs(30));
    }

    #[test]
    fn time_never_goes_before_the_newest_entry() {
        let clock = Clock::manual(UnixMs(1_000));
        clock.not_before(UnixMs(5_000));
        assert_eq!(clock.now(), UnixMs(5_000));
        clock.not_before(UnixMs(2_000));
        assert_eq!(clock.now(), UnixMs(5_000));
    }
}
