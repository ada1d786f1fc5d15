//! How fast packets arrive, by the viewer's clock.

const STEP_US: i64 = 50_000;
const STEPS: usize = 16;
/// The steps of a rate that must be of this moment, and of one that must be steady.
const LATELY: i64 = 4;
const STEADILY: i64 = 14;

#[derive(Debug, Default)]
pub struct Delivery {
    /// Bytes that arrived in each step; `newest` lies at `newest % STEPS`.
    bytes: [u32; STEPS],
    newest: i64,
    last_bytes: u16,
    span: Option<(i64, i64)>,
    judged_at: i64,
}

impl Delivery {
    pub fn arrived(&mut self, arrival: i64, bytes: u16) {
        let step = arrival.div_euclid(STEP_US);
        let (first, last) = self.span.unwrap_or_else(|| {
            self.newest = step;
            self.judged_at = arrival;
            (arrival, arrival)
        });
        self.span = Some((first.min(arrival), last.max(arrival)));
        let passed = step - self.newest;
        if passed <= -(STEPS as i64) {
            return;
        }
        for cleared in 1..=passed.min(STEPS as i64) {
            self.bytes[place(step + 1 - cleared)] = 0;
        }
        self.newest = self.newest.max(step);
        self.last_bytes = bytes;
        let count = &mut self.bytes[place(step)];
        *count = count.saturating_add(bytes.into());
    }

    /// Bits per second in about the last 200 ms.
    pub fn lately(&self) -> f64 {
        let Some((first, last)) = self.span else { return 0.0 };
        let from = (self.newest - LATELY) * STEP_US;
        self.over(LATELY, last - from.max(first))
    }

    /// Bits per second in about the last 700 ms, as if nothing had come before the first packet.
    pub fn steadily(&self) -> f64 {
        let last = self.span.map_or(0, |(_, last)| last);
        self.over(STEADILY, last - (self.newest - STEADILY) * STEP_US)
    }

    /// The time that passed for the viewer since this was asked last, in microseconds.
    pub fn since_asked(&mut self) -> u64 {
        let last = self.span.map_or(0, |(_, last)| last);
        let passed = last - self.judged_at;
        self.judged_at = last;
        passed.max(0) as u64
    }

    fn over(&self, steps: i64, span_us: i64) -> f64 {
        let bytes: u64 = (self.newest - steps..=self.newest).map(|step| u64::from(self.bytes[place(step)])).sum();
        // Between n packets lie n - 1 times.
        bytes.saturating_sub(self.last_bytes.into()) as f64 * 8e6 / span_us.max(STEP_US) as f64
    }
}

fn place(step: i64) -> usize {
    step.rem_euclid(STEPS as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_stream_has_its_rate_and_a_change_is_seen_soon() {
        let mut delivery = Delivery::default();
        for step in 0..200 {
            delivery.arrived(-3_000_000 + step * 10_000, 1_250);
        }
        assert!((0.98e6..1.02e6).contains(&delivery.lately()), "{}", delivery.lately());
        assert!((0.98e6..1.02e6).contains(&delivery.steadily()), "{}", delivery.steadily());
        for step in 0..30 {
            delivery.arrived(-1_000_000 + step * 10_000, 125);
        }
        assert!(delivery.lately() < 0.12e6, "{}", delivery.lately());
        delivery.arrived(60_000_000, 1_250);
        assert!(delivery.steadily() < 0.02e6, "what was a minute ago does not count");
    }

    #[test]
    fn a_packet_that_comes_late_is_counted_in_its_time_or_not_at_all() {
        let mut delivery = Delivery::default();
        delivery.arrived(990_000, 1_000);
        delivery.arrived(1_000_000, 1_000);
        let before = delivery.steadily();
        delivery.arrived(900_000, 1_000);
        assert!(delivery.steadily() > before);
        delivery.arrived(100_000, 1_000);
        assert!(delivery.steadily() <= 2.1 * before);
    }
}
