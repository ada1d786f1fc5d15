//! The queue in front of a viewer, seen in how long her packets are on their way.
//!
//! The shortest time of the last seconds is the way itself, whatever two clocks that were never set together make of
//! it; what a packet took longer, it waited. A queue that empties now and then is the work of bursts and harmless; one
//! that no packet finds empty for a while *stands*: more is sent than the link carries, unless it is getting shorter.

/// Waiting that is not yet a queue.
const TARGET_US: i64 = 25_000;
/// A queue that stands this long is too much.
const STANDING_US: i64 = 200_000;
/// A queue that is shorter by this much in one such time than in the one before is on its way to be empty.
const FALLING_US: i64 = 2_000;
const FALL_TIME_US: i64 = 150_000;
/// A queue that no probe of ours can have made.
const INEXCUSABLE_US: i64 = 400_000;
/// The shortest time is that of this time and up to as much before.
const MEMORY_US: u64 = 12_000_000;

#[derive(Debug, Default)]
pub struct Queue {
    shortest_now: Option<i64>,
    shortest_before: Option<i64>,
    now_since: u64,
    newest_arrival: Option<i64>,
    standing: Option<Standing>,
    /// The least waiting of the last report, and the least time on the way.
    least_us: i64,
    least_way: Option<i64>,
    excused_until: u64,
}

/// A queue that no packet found empty since then.
#[derive(Clone, Copy, Debug)]
struct Standing {
    since: i64,
    /// The least waiting in the last two whole times, the newer one first, and in this one.
    least_before_us: [Option<i64>; 2],
    time_since: i64,
    least_us: i64,
}

impl Queue {
    /// A new report begins.
    pub fn begin(&mut self) {
        self.least_way = None;
    }

    pub fn arrived(&mut self, sent_at: u64, arrival: i64) {
        let way = arrival - sent_at as i64;
        if sent_at > self.now_since + MEMORY_US {
            self.shortest_before = self.shortest_now.take();
            self.now_since = sent_at;
        }
        let shortest_now = self.shortest_now.map_or(way, |shortest| shortest.min(way));
        self.shortest_now = Some(shortest_now);
        let waited = way - self.shortest_before.map_or(shortest_now, |shortest| shortest.min(shortest_now));

        let least_way = self.least_way.map_or(way, |least| least.min(way));
        self.least_way = Some(least_way);
        self.least_us = waited - (way - least_way);
        self.newest_arrival = self.newest_arrival.max(Some(arrival));
        let begin = || Standing { since: arrival, least_before_us: [None; 2], time_since: arrival, least_us: waited };
        self.standing = (waited >= TARGET_US).then(|| self.standing.map_or_else(begin, |it| it.with(waited, arrival)));
    }

    /// Whether the last packet found a queue.
    pub fn stands(&self) -> bool {
        self.standing.is_some()
    }

    /// Whether it has stood for so long, and gets no shorter, that less must be sent.
    pub fn is_overfull(&self, at: u64) -> bool {
        let Some((standing, newest)) = self.standing.zip(self.newest_arrival) else { return false };
        let is_excused = at < self.excused_until && self.least_us < INEXCUSABLE_US;
        newest - standing.since >= STANDING_US && !is_excused && !standing.falls()
    }

    /// The least time that a packet of the last report waited.
    pub fn least_us(&self) -> i64 {
        self.least_us
    }

    /// Until then a queue is taken for the work of a probe.
    pub fn excuse(&mut self, until: u64) {
        self.excused_until = until;
    }

    pub fn is_excused(&self, at: u64) -> bool {
        at < self.excused_until
    }

    /// What looked like a queue is the length of the way.
    pub fn accept(&mut self) {
        self.shortest_now = self.least_way;
        self.shortest_before = None;
        self.standing = None;
    }
}

impl Standing {
    fn with(self, waited: i64, arrival: i64) -> Self {
        if arrival - self.time_since < FALL_TIME_US {
            return Self { least_us: self.least_us.min(waited), ..self };
        }
        let least_before_us = [Some(self.least_us), self.least_before_us[0]];
        Self { least_before_us, time_since: arrival, least_us: waited, ..self }
    }

    fn falls(&self) -> bool {
        matches!(self.least_before_us, [Some(last), Some(before)] if last <= before - FALLING_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets 10 ms apart that take `way_ms` each, in reports of five.
    fn feed(queue: &mut Queue, from_ms: u64, ways_ms: impl IntoIterator<Item = i64>) {
        for (step, way) in (0u64..).zip(ways_ms) {
            if step % 5 == 0 {
                queue.begin();
            }
            let sent_at = (from_ms + step * 10) * 1_000;
            queue.arrived(sent_at, sent_at as i64 + way * 1_000 - 77_000_000);
        }
    }

    #[test]
    fn a_burst_is_no_standing_queue() {
        let mut queue = Queue::default();
        let ways = (0..300).map(|step| if step % 20 == 0 { 30 } else { 30 + 4 * (step % 20) });
        feed(&mut queue, 0, ways);
        assert!(!queue.is_overfull(3_000_000));
    }

    #[test]
    fn a_small_queue_that_never_empties_is_too_much_and_ends_at_once() {
        let mut queue = Queue::default();
        feed(&mut queue, 0, [30; 20]);
        feed(&mut queue, 200, [60; 25]);
        assert!(queue.is_overfull(450_000));
        assert_eq!(queue.least_us(), 30_000);
        feed(&mut queue, 450, [40; 1]);
        assert!(!queue.stands());
    }

    #[test]
    fn a_queue_that_gets_shorter_needs_no_cut() {
        let mut queue = Queue::default();
        feed(&mut queue, 0, [30; 20]);
        feed(&mut queue, 200, (0..100).map(|step| 330 - step));
        assert!(queue.stands() && !queue.is_overfull(1_200_000));
        feed(&mut queue, 1_200, [230; 30]);
        assert!(queue.is_overfull(1_500_000));
    }

    #[test]
    fn a_probe_excuses_what_it_can_have_made() {
        let mut queue = Queue::default();
        feed(&mut queue, 0, [30; 20]);
        queue.excuse(600_000);
        feed(&mut queue, 200, [200; 30]);
        assert!(!queue.is_overfull(590_000) && queue.is_overfull(600_000));
        feed(&mut queue, 500, [500; 30]);
        assert!(queue.is_overfull(590_000));
    }

    #[test]
    fn a_longer_way_is_learnt_in_time() {
        let mut queue = Queue::default();
        feed(&mut queue, 0, [30; 100]);
        feed(&mut queue, 1_000, [90; 2_600]);
        assert!(!queue.stands());
    }
}
