//! Trying whether the link carries more than it is asked to: for a moment the stream is filled with padding up to a
//! rate, and how fast it arrives tells.

use std::time::Duration;

use super::history::Sent;

/// A probe's time, and the bytes that it has at least.
const TIME_US: u64 = 60_000;
const BYTES_MIN: f64 = 6_000.0;
/// The most that one probe asks above the estimate, and above what is wanted.
const RISE_MAX: f64 = 3.0;
const RISE_MAX_AFTER_FAILURE: f64 = 2.0;
const SPARE: f64 = 1.15;
/// Packets of one moment are one burst: none of them says how fast the link is against another.
const BURST_US: u64 = 1_000;
/// Padding is due this far ahead of time, so that a probe begins with some.
const AHEAD_US: u64 = 2_000;
/// The part of what was sent that must arrive in the time it was sent in.
const CARRIED: f64 = 0.8;
/// A probe that finds less than this above the estimate was of no use.
const GAIN_MIN: f64 = 1.05;
/// The part of a probe that must be reported on for it to say something.
const REPORTED: f64 = 0.8;
/// What is believed of a link that carried less.
const BELIEVED: f64 = 0.9;
/// The next try comes this long after a success, after a probe that nobody heard of, and after a failure, doubled with
/// each more.
const AFTER_SUCCESS_US: u64 = 20_000;
const AFTER_SILENCE_US: u64 = 200_000;
const AFTER_FAILURE_US: u64 = 1_000_000;
const FAILURES_MAX: u32 = 4;

/// A cluster of packets for the sender to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub rate_bps: u32,
    pub time: Duration,
    /// What is sent in that time, media and padding together.
    pub bytes: usize,
}

#[derive(Debug, Default)]
pub struct Prober {
    run: Option<Run>,
    next_at: u64,
    failures: u32,
}

#[derive(Debug, Default)]
struct Run {
    rate: f64,
    estimate: f64,
    starts_at: u64,
    ends_at: u64,
    sent: Sending,
    settled_bytes: u64,
    arrived_bytes: u64,
    arrived_first_bytes: u64,
    first_arrival: Option<i64>,
    last_arrival: Option<i64>,
}

#[derive(Debug, Default)]
struct Sending {
    bytes: u64,
    first_at: Option<u64>,
    last_at: u64,
    last_burst_bytes: u64,
}

impl Prober {
    /// Begins a probe, unless one runs or the last ended too shortly ago.
    pub fn start(&mut self, wanted: f64, estimate: f64, max: f64, at: u64) -> Option<Probe> {
        if self.run.is_some() || at < self.next_at {
            return None;
        }
        let rise = if self.failures == 0 { RISE_MAX } else { RISE_MAX_AFTER_FAILURE };
        let rate = (wanted * SPARE).min(estimate * rise).min(max);
        let time_us = TIME_US.max((BYTES_MIN * 8e6 / rate.max(1.0)) as u64).min(10 * TIME_US);
        self.run = Some(Run { rate, estimate, starts_at: at, ends_at: at + time_us, ..Run::default() });
        let bytes = (rate * time_us as f64 / 8e6) as usize;
        Some(Probe { rate_bps: rate as u32, time: Duration::from_micros(time_us), bytes })
    }

    /// Notes a packet that goes out; true if it is of the running probe.
    pub fn sent(&mut self, bytes: usize, at: u64) -> bool {
        let Some(run) = self.run.as_mut().filter(|run| at <= run.ends_at) else { return false };
        let sent = &mut run.sent;
        if sent.first_at.is_none() || at >= sent.last_at + BURST_US {
            sent.last_at = at;
            sent.last_burst_bytes = 0;
        }
        sent.first_at.get_or_insert(at);
        sent.bytes += bytes as u64;
        sent.last_burst_bytes += bytes as u64;
        true
    }

    /// Bytes that are missing for the running probe to have its rate.
    pub fn due(&self, at: u64) -> usize {
        let Some(run) = self.run.as_ref().filter(|run| at <= run.ends_at) else { return 0 };
        let until = (at + AHEAD_US).min(run.ends_at).saturating_sub(run.starts_at);
        let due = (run.rate * until as f64 / 8e6) as u64;
        due.saturating_sub(run.sent.bytes) as usize
    }

    /// The fate of a packet of the probe.
    pub fn settle(&mut self, sent: &Sent, sent_at: u64, arrival: Option<i64>) {
        let Some(run) = self.run.as_mut().filter(|run| sent.in_probe && sent_at >= run.starts_at) else { return };
        let bytes = u64::from(sent.bytes);
        run.settled_bytes += bytes;
        let (Some(arrival), Some(first_at)) = (arrival, run.sent.first_at) else { return };
        run.arrived_bytes += bytes;
        run.last_arrival = run.last_arrival.max(Some(arrival));
        if sent_at < first_at + BURST_US {
            run.arrived_first_bytes += bytes;
            run.first_arrival = run.first_arrival.max(Some(arrival));
        }
    }

    /// What the link was found to carry, once when the probe's packets have been reported on or `patience` has passed.
    pub fn result(&mut self, at: u64, patience: u64) -> Option<f64> {
        let run = self.run.as_ref().filter(|run| at > run.ends_at)?;
        if run.settled_bytes < run.sent.bytes && at < run.ends_at + patience {
            return None;
        }
        if (run.settled_bytes as f64) < run.sent.bytes as f64 * REPORTED {
            self.give_up(at);
            return None;
        }
        let (sent, arrived) = run.found().unwrap_or_default();
        let found = sent.min(arrived);
        let carried = arrived >= sent * CARRIED && found >= run.estimate * GAIN_MIN;
        self.failures = if carried { 0 } else { (self.failures + 1).min(FAILURES_MAX) };
        self.next_at = at + if carried { AFTER_SUCCESS_US } else { AFTER_FAILURE_US << (self.failures - 1) };
        self.run = None;
        Some(if carried { found } else { found * BELIEVED })
    }

    /// Gives up a probe that was never reported on.
    pub fn turn(&mut self, at: u64, patience: u64) {
        if self.run.as_ref().is_some_and(|run| at > run.ends_at + 2 * patience + AFTER_FAILURE_US) {
            self.give_up(at);
        }
    }

    /// No probe begins before.
    pub fn rest(&mut self, until: u64) {
        self.next_at = self.next_at.max(until);
    }

    /// Silence says nothing of the link.
    fn give_up(&mut self, at: u64) {
        self.run = None;
        self.next_at = at + AFTER_SILENCE_US;
    }
}

impl Run {
    /// The rates at which the probe was sent and arrived.
    fn found(&self) -> Option<(f64, f64)> {
        let sent_us = self.sent.last_at.checked_sub(self.sent.first_at?)?;
        let arrived_us = self.last_arrival? - self.first_arrival?;
        if sent_us < BURST_US || arrived_us <= 0 {
            return None;
        }
        let sent = (self.sent.bytes - self.sent.last_burst_bytes) as f64 * 8e6 / sent_us as f64;
        let arrived = (self.arrived_bytes - self.arrived_first_bytes) as f64 * 8e6 / arrived_us as f64;
        Some((sent, arrived))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a probe as asked, over a link that carries `link` bits per second, and gives what was found.
    fn found(link: f64) -> Option<f64> {
        let mut prober = Prober::default();
        let probe = prober.start(1e6, 5e5, 1e7, 0).unwrap();
        let (mut free_at, mut sent) = (0.0_f64, Vec::new());
        for at in (0..=probe.time.as_micros() as u64).step_by(2_000) {
            while prober.due(at) > 0 {
                let in_probe = prober.sent(250, at);
                free_at = free_at.max(at as f64) + 250.0 * 8e6 / link;
                sent.push((Sent { at: at as u32, bytes: 250, in_probe }, at, free_at as i64));
            }
        }
        assert!(sent.iter().map(|(sent, ..)| usize::from(sent.bytes)).sum::<usize>() >= probe.bytes);
        for (sent, at, arrival) in sent {
            prober.settle(&sent, at, Some(arrival));
        }
        prober.result(100_000, 100_000)
    }

    #[test]
    fn a_link_that_carries_the_probe_is_believed_and_one_that_does_not_is_measured() {
        assert!((1e6..1.2e6).contains(&found(2e6).unwrap()));
        assert!((5e5..6.2e5).contains(&found(6e5).unwrap()), "{:?}", found(6e5));
    }

    #[test]
    fn failures_make_probes_rarer_up_to_a_limit() {
        let (mut prober, mut at, mut waits) = (Prober::default(), 0, Vec::new());
        while waits.len() < 6 {
            prober.start(1e6, 5e5, 1e7, at).unwrap();
            let in_probe = prober.sent(1_000, at);
            let failed_at = at + 2_000_000;
            prober.settle(&Sent { at: 0, bytes: 1_000, in_probe }, at, None);
            assert_eq!(prober.result(failed_at, 100_000), Some(0.0));
            at = (failed_at..).step_by(100_000).find(|at| prober.start(1e6, 5e5, 1e7, *at).is_some()).unwrap();
            waits.push((at - failed_at) / 1_000_000);
            prober.run = None;
        }
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
    }

    #[test]
    fn a_probe_that_nobody_reported_on_is_no_failure() {
        let mut prober = Prober::default();
        prober.start(1e6, 5e5, 1e7, 0).unwrap();
        prober.sent(1_000, 0);
        assert_eq!(prober.result(500_000, 100_000), None);
        assert!(prober.start(1e6, 5e5, 1e7, 700_000).is_some());
    }
}
