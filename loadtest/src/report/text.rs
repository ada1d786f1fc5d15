use std::fmt;

use super::{Quantiles, Report};
use crate::{hist::Class, report::plot::figure};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for why in &self.self_measured {
            writeln!(f, "THE TESTER MAY HAVE MEASURED ITSELF: {why}")?;
        }
        let verdict = if self.passed { "passed" } else { "FAILED" };
        let cut = if self.interrupted { ", ended before its time" } else { "" };
        writeln!(f, "{}: {verdict} ({:.1} s{cut})", self.scenario.name, self.seconds)?;
        for failure in self.failures() {
            writeln!(f, "  FAILED: {failure}")?;
        }
        for proof in &self.proofs {
            let mark = match proof.held {
                Some(true) => "proved",
                Some(false) => "FAILED",
                None => "not proved",
            };
            writeln!(f, "  {mark:<10} {}: {}", proof.name, proof.said)?;
        }
        for target in self.targets.iter().filter(|target| target.held) {
            let (measured, at_most) = (figure(target.measured.unwrap_or(0.0)), figure(target.at_most));
            writeln!(f, "  held       {} {measured} of at most {at_most}", target.name)?;
        }
        self.people(f)?;
        for (class, quantiles) in self.all.iter().filter(|(class, _)| *class != Class::Tally.name()) {
            writeln!(f, "  {class:<10} {quantiles}{}", self.outcomes(class))?;
        }
        if let Some(quantiles) = self.all.get(Class::Tally.name()) {
            writeln!(f, "  tallies    {quantiles}, from one to the next")?;
        }
        if let Some(video) = &self.video {
            writeln!(
                f,
                "  video      {} of {} watch; {} packets, {:.4} % lost, {} freezes",
                video.watching,
                video.viewers,
                video.packets,
                video.loss * 100.0,
                video.freezes
            )?;
            writeln!(f, "  picture    {} after the offer", video.first_picture)?;
            writeln!(f, "  delay      {}", video.delay)?;
        }
        self.used(f)
    }
}

impl Report {
    fn people(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = &self.totals;
        writeln!(
            f,
            "  people     {} came, {} returned ({} read on), {} put off, {} lost, {} cut by us; {} fell behind, to a snapshot",
            totals.joined,
            totals.returned,
            totals.resumed,
            totals.put_off,
            totals.lost,
            totals.cut,
            totals.fell_behind()
        )?;
        if !totals.closes.is_empty() {
            writeln!(f, "  closes     {:?}", totals.closes)?;
        }
        writeln!(
            f,
            "  delivered  {:.0} events/s in {:.0} frames/s, {:.2} MB/s",
            totals.events as f64 / self.seconds,
            totals.frames as f64 / self.seconds,
            totals.bytes as f64 / self.seconds / 1e6
        )
    }

    fn outcomes(&self, class: &str) -> String {
        self.totals.outcomes.get(class).map_or_else(String::new, |outcomes| format!("; {outcomes:?}"))
    }

    fn used(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(used) = &self.server_used {
            writeln!(
                f,
                "  server     {:.2} cores, {:.0} MB, {:.1} KiB for each viewer",
                used.cores, used.memory_mb, used.kib_per_viewer
            )?;
        }
        let (own, clocks) = (&self.own, &self.clocks);
        writeln!(
            f,
            "  ourselves  {:.2} cores (the crowd {:.2}, {:.1} % waiting); deeds late p99 {:.1} ms",
            own.cores,
            own.crowd_cores,
            own.crowd_waited * 100.0,
            own.late.p99
        )?;
        for (worker, ahead, error) in &clocks.workers {
            writeln!(f, "  clock      worker {worker} is {ahead:.2} ms ahead, give or take {error:.2}")?;
        }
        write!(
            f,
            "  clock      the server is {:.1} ms ahead, give or take {:.1}",
            clocks.server_ahead, clocks.server_error
        )
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, p50, p90, p99, p999, max } = self;
        write!(f, "p50 {p50:.1} p90 {p90:.1} p99 {p99:.1} p99.9 {p999:.1} max {max:.1} ms of {count}")
    }
}
