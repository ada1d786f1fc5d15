//! The time at which a comment was to be sent, written into it, so that who reads it knows how old it is.

use std::time::{Duration, Instant};

use maishou::clock::Clock;

/// A stamp is believed when it is this near to the time at which the server took the comment.
const NEAR_US: i64 = 600_000_000;

/// Microseconds since 1970, as all parts of a load test agree on them.
#[derive(Clone, Copy, Debug)]
pub struct Timebase {
    started: Instant,
    started_us: i64,
}

impl Timebase {
    /// This machine's clock.
    pub fn start() -> Self {
        Self { started: Instant::now(), started_us: Clock::start().now().0 * 1_000 }
    }

    /// The same, put right by what it is ahead.
    pub fn shifted(mut self, ahead_us: i64) -> Self {
        self.started_us -= ahead_us;
        self
    }

    pub fn now_us(&self) -> i64 {
        self.at_us(Instant::now())
    }

    pub fn at_us(&self, at: Instant) -> i64 {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        match at.checked_duration_since(self.started) {
            Some(after) => self.started_us + micros(after),
            None => self.started_us - micros(self.started - at),
        }
    }

    pub fn instant(&self, us: i64) -> Instant {
        let away = Duration::from_micros((us - self.started_us).unsigned_abs());
        if us >= self.started_us { self.started + away } else { self.started.checked_sub(away).unwrap_or(self.started) }
    }
}

/// A text with its time in it.
pub fn write(text: &str, us: i64) -> String {
    format!("{text} ~{us:x}")
}

/// The time in a text that was taken at `at_us`; none in what others say.
pub fn of(text: &str, at_us: i64) -> Option<i64> {
    let (_, stamp) = text.rsplit_once(" ~")?;
    let us = i64::from_str_radix(stamp, 16).ok()?;
    (us.abs_diff(at_us) < NEAR_US.unsigned_abs()).then_some(us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_and_what_people_write_is_none() {
        let now = 1_763_000_000_000_000;
        assert_eq!(of(&write("好看！", now - 5_000), now), Some(now - 5_000));
        for text in ["好看！", "about ~10", "~", " ~zz", " ~-7fffffffffffffff"] {
            assert_eq!(of(text, now), None, "{text}");
        }
    }

    #[test]
    fn instants_and_times_agree() {
        let base = Timebase::start();
        let at = Instant::now();
        assert!(base.instant(base.at_us(at)).duration_since(at) < Duration::from_micros(2));
    }
}
