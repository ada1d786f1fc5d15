//! What came of one stream, by sequence numbers (RFC 3550, A.1, A.3 and A.8).

use std::time::{Duration, Instant};

use rtcp::reception_report::ReceptionReport;

/// Packets of one stream that are waited for; more at once is not loss but an interruption.
const MISSING_MAX: usize = 256;
/// Numbers start here, so that those before the first have a place.
const FIRST_CYCLE: u64 = 1 << 16;

/// What a packet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The newest, and how many before it did not come.
    Newest { index: u64, missed: u64 },
    /// One that was missed.
    Late { index: u64 },
    /// One that was there already, or is too old to tell.
    Repeated,
}

/// A packet that did not come.
#[derive(Clone, Copy, Debug)]
struct Missing {
    index: u64,
    since: Instant,
    asked: u32,
    next_ask: Instant,
}

pub struct Reception {
    pub ssrc: u32,
    clock_rate: u32,
    first: u64,
    highest: Option<u64>,
    received: u64,
    missing: Vec<Missing>,
    transit: Option<i64>,
    jitter: f64,
    expected_before: u64,
    received_before: u64,
    sender: Option<(u32, Instant)>,
}

impl Reception {
    pub fn new(ssrc: u32, clock_rate: u32) -> Self {
        Self {
            ssrc,
            clock_rate,
            first: 0,
            highest: None,
            received: 0,
            missing: Vec::new(),
            transit: None,
            jitter: 0.0,
            expected_before: 0,
            received_before: 0,
            sender: None,
        }
    }

    pub fn note(&mut self, number: u16, timestamp: u32, arrived: Duration, now: Instant) -> Arrival {
        let index = self.index_of(number);
        let Some(highest) = self.highest else {
            (self.first, self.highest, self.received) = (index, Some(index), 1);
            return Arrival::Newest { index, missed: 0 };
        };
        if index <= highest {
            return match self.repair(number) {
                Some(index) => Arrival::Late { index },
                None => Arrival::Repeated,
            };
        }
        let missed = index - highest - 1;
        for index in (highest + 1..index).take(MISSING_MAX.saturating_sub(self.missing.len())) {
            self.missing.push(Missing { index, since: now, asked: 0, next_ask: now });
        }
        self.highest = Some(index);
        self.received += 1;
        self.note_transit(timestamp, arrived);
        Arrival::Newest { index, missed }
    }

    fn note_transit(&mut self, timestamp: u32, arrived: Duration) {
        let ticks = (arrived.as_micros() * u128::from(self.clock_rate) / 1_000_000) as i64;
        let transit = ticks.wrapping_sub(i64::from(timestamp));
        if let Some(before) = self.transit.replace(transit) {
            // The difference of two 32-bit timestamps may wrap; what is left of it is small.
            let change = f64::from((transit.wrapping_sub(before) as i32).unsigned_abs());
            self.jitter += (change - self.jitter) / 16.0;
        }
    }

    /// A packet that was missed has come after all, as itself or in a repair.
    pub fn repair(&mut self, number: u16) -> Option<u64> {
        let index = self.index_of(number);
        let place = self.missing.iter().position(|missing| missing.index == index)?;
        self.missing.remove(place);
        self.received += 1;
        Some(index)
    }

    fn index_of(&self, number: u16) -> u64 {
        match self.highest {
            None => FIRST_CYCLE + u64::from(number),
            Some(highest) => highest.wrapping_add_signed(i64::from(number.wrapping_sub(highest as u16) as i16)),
        }
    }

    /// The missing that are to be asked for now, each again after `again` and not more than `asks_max` times. Those
    /// that are missed for longer than `patience` are given up.
    pub fn due(&mut self, now: Instant, again: Duration, asks_max: u32, patience: Duration) -> Vec<u16> {
        self.missing.retain(|missing| now.saturating_duration_since(missing.since) < patience);
        let due = self.missing.iter_mut().filter(|missing| missing.asked < asks_max && now >= missing.next_ask);
        due.map(|missing| {
            missing.asked += 1;
            missing.next_ask = now + again;
            missing.index as u16
        })
        .collect()
    }

    pub fn has_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    /// A sender report came: the middle of its NTP time.
    pub fn note_sender(&mut self, ntp_middle: u32, now: Instant) {
        self.sender = Some((ntp_middle, now));
    }

    pub fn jitter(&self) -> Duration {
        Duration::from_secs_f64(self.jitter / f64::from(self.clock_rate))
    }

    /// The block for a receiver report, and the start of a new interval.
    pub fn report(&mut self, now: Instant) -> Option<ReceptionReport> {
        let highest = self.highest?;
        let expected = highest - self.first + 1;
        let (expected_now, received_now) = (expected - self.expected_before, self.received - self.received_before);
        (self.expected_before, self.received_before) = (expected, self.received);
        let fraction = expected_now.saturating_sub(received_now) * 256 / expected_now.max(1);
        let delay = self.sender.map_or(0.0, |(_, at)| now.saturating_duration_since(at).as_secs_f64());
        Some(ReceptionReport {
            ssrc: self.ssrc,
            fraction_lost: fraction.min(255) as u8,
            total_lost: expected.saturating_sub(self.received).min(0x7F_FFFF) as u32,
            last_sequence_number: (highest - FIRST_CYCLE) as u32,
            jitter: self.jitter as u32,
            last_sender_report: self.sender.map_or(0, |(middle, _)| middle),
            delay: (delay * 65_536.0) as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGAIN: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_secs(2);

    fn noted(reception: &mut Reception, numbers: &[u16], now: Instant) -> Vec<Arrival> {
        numbers.iter().map(|number| reception.note(*number, 0, Duration::ZERO, now)).collect()
    }

    #[test]
    fn a_gap_over_the_wrap_is_asked_for_and_repaired_once() {
        let (mut reception, now) = (Reception::new(1, 90_000), Instant::now());
        let arrivals = noted(&mut reception, &[65_533, 65_534, 1, 0, 0], now);
        let [_, _, Arrival::Newest { index, missed: 2 }, Arrival::Late { index: late }, Arrival::Repeated] =
            arrivals[..]
        else {
            panic!("{arrivals:?}")
        };
        assert_eq!((index as u16, late as u16), (1, 0));
        assert_eq!(reception.due(now, AGAIN, 2, PATIENCE), [65_535]);
        assert!(reception.due(now, AGAIN, 2, PATIENCE).is_empty(), "not again at once");
        assert_eq!(reception.due(now + AGAIN, AGAIN, 2, PATIENCE), [65_535]);
        assert!(reception.due(now + 3 * AGAIN, AGAIN, 2, PATIENCE).is_empty(), "often enough");
        assert!(reception.repair(65_535).is_some() && reception.repair(65_535).is_none());
    }

    #[test]
    fn a_report_tells_the_loss_since_the_last_one() {
        let (mut reception, now) = (Reception::new(1, 90_000), Instant::now());
        noted(&mut reception, &[10, 11, 13], now);
        let report = reception.report(now).unwrap();
        assert_eq!((report.fraction_lost, report.total_lost, report.last_sequence_number), (64, 1, 13));
        noted(&mut reception, &[14, 15], now);
        assert_eq!(reception.report(now).unwrap().fraction_lost, 0);
    }

    #[test]
    fn an_interruption_does_not_grow_the_list() {
        let (mut reception, now) = (Reception::new(1, 90_000), Instant::now());
        noted(&mut reception, &[1, 20_000], now);
        assert_eq!(reception.missing.len(), MISSING_MAX);
    }
}
