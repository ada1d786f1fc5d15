//! The run second by second: what crowds and hosts noted, and what the processes used meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use maishou::protocol::Snapshot;

use crate::{
    hist::{Class, Hist, Latencies},
    report::Point,
    scenario::Scenario,
    tally::{Second, Tally},
};

/// Points of one report; those of a longer run stand for several seconds each.
const POINTS_MAX: usize = 600;

/// Who tells of seconds: a crowd by its place in the team, or the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Teller {
    Crowd(usize),
    Hosts,
}

#[derive(Default)]
pub struct Timeline {
    /// By who told of them: a crowd may tell twice of one second, and of another not at all.
    seconds: BTreeMap<Teller, BTreeMap<u64, Second>>,
    samples: BTreeMap<u64, Sample>,
}

/// What was looked at once in a second.
#[derive(Clone, Default)]
pub struct Sample {
    pub server_cpu: Option<Duration>,
    pub server_mb: Option<f64>,
    pub own_cpu: Duration,
    pub own_mb: f64,
    pub stock: [u64; 3],
    pub webrtc: u64,
    pub gauges: BTreeMap<String, f64>,
}

impl Sample {
    pub fn take_stock(&mut self, snapshot: &Snapshot) {
        for count in snapshot.stock.values() {
            let sums = self.stock.iter_mut().zip([count.available, count.held, count.sold]);
            sums.for_each(|(sum, count)| *sum += count);
        }
    }
}

impl Timeline {
    pub fn add(&mut self, teller: Teller, second: &Second) {
        let at = (second.at_ms + 500) / 1_000;
        let seconds = self.seconds.entry(teller).or_default();
        let known = seconds.entry(at).or_insert_with(|| Second { at_ms: at * 1_000, ..Second::default() });
        known.tally.clone_from(&second.tally);
        known.latencies.add(&second.latencies);
    }

    pub fn sample(&mut self, at: u64, sample: Sample) {
        self.samples.insert(at, sample);
    }

    /// The newest second that crowds have told of, and the one before it.
    pub fn newest(&self) -> Option<(Second, Option<Second>)> {
        let mut newest = self.told().into_iter().rev();
        Some((self.second(newest.next()?), newest.next().map(|at| self.second(at))))
    }

    /// The seconds that crowds have told of. The hosts may have begun one that no crowd ended.
    fn told(&self) -> BTreeSet<u64> {
        let crowds = self.seconds.iter().filter(|(teller, _)| **teller != Teller::Hosts);
        crowds.flat_map(|(_, seconds)| seconds.keys().copied()).collect()
    }

    /// All of them together: what each told last, and the latencies of this second.
    fn second(&self, at: u64) -> Second {
        let mut sum = Second { at_ms: at * 1_000, ..Second::default() };
        for (told, second) in self.seconds.values().filter_map(|seconds| seconds.range(..=at).next_back()) {
            sum.tally.add(&second.tally);
            if *told == at {
                sum.latencies.add(&second.latencies);
            }
        }
        sum
    }

    pub fn newest_sample(&self) -> Option<&Sample> {
        self.samples.values().next_back()
    }

    /// The plots' points.
    pub fn points(&self, scenario: &Scenario) -> Vec<Point> {
        let seconds: Vec<u64> = self.told().into_iter().collect();
        let width = seconds.len().div_ceil(POINTS_MAX).max(1);
        let (mut points, mut before) = (Vec::new(), (0, Tally::default(), None::<Sample>));
        for group in seconds.chunks(width) {
            let at = group[group.len() - 1];
            let last = self.second(at);
            let mut latencies = Latencies::default();
            group.iter().for_each(|at| latencies.add(&self.second(*at).latencies));
            let sample = self.samples.range(..=at).next_back().map(|(_, sample)| sample.clone());
            let time = at.saturating_sub(before.0).max(1) as f64;
            let mut point = rates(&before.1, &last.tally, time);
            point.at = at as f64;
            point.phase = scenario.phase_at(at as f64 - 0.5);
            let both = |hist: &Hist| [hist.ms_at(0.5), hist.ms_at(0.99)];
            point.latencies = latencies.iter().map(|(class, hist)| (class.name().to_owned(), both(hist))).collect();
            if let Some(sample) = &sample {
                used(&mut point, before.2.as_ref(), sample, time);
            }
            points.push(point);
            before = (at, last.tally, sample);
        }
        points
    }
}

/// What happened between two counts.
pub fn rates(before: &Tally, now: &Tally, seconds: f64) -> Point {
    let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
    let all = |tally: &Tally, class: Class| tally.outcomes.get(class.name()).map_or(0, |of| of.values().sum::<u64>());
    let errors = |tally: &Tally| {
        let outcomes = tally.outcomes.values().flatten();
        let bad = outcomes.filter(|(code, _)| !matches!(code.as_str(), "ok" | "sold_out"));
        bad.map(|(_, count)| *count).sum::<u64>() + tally.lost + tally.refused
    };
    Point {
        websocket: now.websocket,
        sse: now.sse,
        deliveries: rate(before.events, now.events),
        frames: rate(before.frames, now.frames),
        comments: rate(before.count(Class::Comment, "ok"), now.count(Class::Comment, "ok")),
        presses: rate(all(before, Class::Hold), all(now, Class::Hold)),
        paid: rate(before.count(Class::Pay, "ok"), now.count(Class::Pay, "ok")),
        errors: rate(errors(before), errors(now)),
        ..Point::default()
    }
}

fn used(point: &mut Point, before: Option<&Sample>, now: &Sample, seconds: f64) {
    let cores =
        |before: Option<Duration>, now: Duration| now.saturating_sub(before.unwrap_or(now)).as_secs_f64() / seconds;
    point.server_cores = now.server_cpu.map(|cpu| cores(before.and_then(|before| before.server_cpu), cpu));
    point.own_cores = cores(before.map(|before| before.own_cpu), now.own_cpu);
    (point.server_mb, point.own_mb) = (now.server_mb, now.own_mb);
    [point.available, point.held, point.sold] = now.stock;
    point.webrtc = now.webrtc;
    point.gauges = now.gauges.clone();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at_ms: u64, events: u64) -> Second {
        Second { at_ms, tally: Tally { events, joined: 3, websocket: 3, ..Tally::default() }, ..Second::default() }
    }

    #[test]
    fn seconds_of_several_crowds_are_one_and_rates_are_what_came_between() {
        let mut timeline = Timeline::default();
        for crowd in [10, 20] {
            let teller = Teller::Crowd(crowd as usize);
            (1..=3).for_each(|at| timeline.add(teller, &second(at * 1_000 + crowd, at * crowd)));
        }
        let points = timeline.points(&Scenario::parse("").unwrap());
        assert_eq!(points.iter().map(|point| point.deliveries).collect::<Vec<_>>(), [30.0, 30.0, 30.0]);
        assert_eq!(points[2].websocket, 6);
    }

    #[test]
    fn a_second_that_is_told_twice_counts_once_and_one_that_is_not_told_is_no_dip() {
        let mut timeline = Timeline::default();
        (1..=3).for_each(|at| timeline.add(Teller::Crowd(0), &second(at * 1_000, at * 10)));
        timeline.add(Teller::Crowd(0), &second(3_010, 32));
        timeline.add(Teller::Crowd(1), &second(1_000, 5));
        timeline.add(Teller::Crowd(1), &second(3_400, 15));
        timeline.add(Teller::Hosts, &second(4_000, 0));
        let points = timeline.points(&Scenario::parse("").unwrap());
        assert_eq!(points.iter().map(|point| point.websocket).collect::<Vec<_>>(), [6, 6, 6]);
        assert_eq!(points.iter().map(|point| point.deliveries).collect::<Vec<_>>(), [15.0, 10.0, 22.0]);
    }

    #[test]
    fn a_long_run_has_no_more_points_than_fit_and_loses_nothing() {
        let mut timeline = Timeline::default();
        (1..=4_620).for_each(|at| timeline.add(Teller::Crowd(0), &second(at * 1_000, at * 7)));
        let points = timeline.points(&Scenario::parse("").unwrap());
        assert!(points.len() <= POINTS_MAX);
        assert!(points.iter().all(|point| (point.deliveries - 7.0).abs() < 1e-9));
    }
}
