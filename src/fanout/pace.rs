use std::time::Duration;

use crate::fanout::Config;

/// What one write costs at ten thousand viewers, before anything was measured.
const WRITE_COST: Duration = Duration::from_micros(5);
/// Slots shorter than this would cost more in timers than they save in waiting.
const SLOT_MIN: Duration = Duration::from_millis(3);
/// Viewers for whom a slot of their own is not worth the waking up.
const VIEWERS_PER_SLOT_MIN: usize = 16;

/// How a round over all connections is spread over time: each is written to at most once a tick, a slot at a time.
///
/// All at once, the last viewer would wait a tick and a whole sweep; in slots, a tick and a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) tick: Duration,
    pub(super) slots: u32,
}

impl Pace {
    /// The pace for so many viewers, when the last round took `busy`.
    pub(super) fn of(config: &Config, viewers: usize, busy: Duration) -> Self {
        let sweep = busy.max(WRITE_COST * u32::try_from(viewers).unwrap_or(u32::MAX));
        let tick = (sweep * 100 / config.sweep_percent.clamp(1, 100)).max(Duration::from_millis(config.tick_ms));

        let worth = u32::try_from(viewers / VIEWERS_PER_SLOT_MIN).unwrap_or(u32::MAX);
        let long_enough = u32::try_from(tick.as_micros() / SLOT_MIN.as_micros()).unwrap_or(u32::MAX);
        Self { tick, slots: config.slots_max.min(worth).min(long_enough).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_grow_with_the_viewers_and_never_below_the_floor() {
        let pace = |viewers| Pace::of(&Config::default(), viewers, Duration::ZERO);

        assert_eq!(pace(0), Pace { tick: Duration::from_millis(20), slots: 1 });
        assert_eq!(pace(1_000), Pace { tick: Duration::from_millis(20), slots: 6 });
        assert_eq!(pace(10_000).tick.as_millis(), 83);
        assert_eq!(pace(10_000).slots, 27);
        assert_eq!(pace(19_000).slots, 30);
    }

    #[test]
    fn rounds_that_take_longer_than_thought_make_ticks_longer() {
        let pace = Pace::of(&Config::default(), 1_000, Duration::from_millis(60));
        assert_eq!(pace.tick, Duration::from_millis(100));
    }
}
