//! Two runs side by side: what changed, and whether it is more than noise.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Point, Report, VERSION};

/// Seconds that are taken together: neighbours are alike, and count as one look.
const BLOCK: usize = 5;
const BLOCKS_MIN: usize = 3;
/// Differences below this are of no interest, however sure.
const SHARE_MIN: f64 = 0.05;
/// Welch's t beyond this is more than noise: one in some hundred comparisons by chance.
const T_MIN: f64 = 3.0;

/// Reads a report of this version.
pub fn read(text: &str) -> anyhow::Result<Report> {
    let value: Value = serde_json::from_str(text).context("not a report")?;
    let version = value["version"].as_u64().context("not a report: it has no version")?;
    ensure!(
        version == u64::from(VERSION),
        "the report has version {version}, and this program reads {VERSION}: use the program that wrote it"
    );
    serde_json::from_value(value).context("not a report")
}

/// What is said of one figure.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    Same,
    Changed,
    /// There are too few seconds to tell.
    TooShort,
}

impl Finding {
    fn words(&self) -> &'static str {
        match self {
            Self::Same => "within the noise",
            Self::Changed => "CHANGED",
            Self::TooShort => "too short to tell",
        }
    }
}

/// The comparison as text, one line for each figure.
pub fn compare(before: &Report, after: &Report) -> String {
    let mut text = String::new();
    let (old, new) = (&before.scenario, &after.scenario);
    if old != new {
        let _ = writeln!(text, "The scenarios are not the same: {} and {}. Compare with care.", old.name, new.name);
    }
    for (which, report) in [("before", before), ("after", after)] {
        if !report.self_measured.is_empty() {
            let _ = writeln!(text, "The tester may have measured itself {which}: {}", report.self_measured.join("; "));
        }
        let verdict = if report.passed { "passed" } else { "failed" };
        let _ = writeln!(text, "{which:<7} {verdict}, {:.0} s", report.seconds);
    }
    let _ = writeln!(text, "{:<22} {:>12} {:>12} {:>8}  ", "", "before", "after", "change");
    for (name, figure) in figures(before, after) {
        let (a, b) = (series(before, &figure), series(after, &figure));
        let (one, other) = (mean(&a), mean(&b));
        if one == 0.0 && other == 0.0 {
            continue;
        }
        let (change, said) = match (a.is_empty(), b.is_empty()) {
            (true, _) => (String::new(), "only after"),
            (_, true) => (String::new(), "only before"),
            _ => (change(one, other), finding(&a, &b).words()),
        };
        let [one, other] = [(&a, one), (&b, other)].map(|(of, mean)| match of.is_empty() {
            true => "-".to_owned(),
            false => format!("{mean:.2}"),
        });
        let _ = writeln!(text, "{name:<22} {one:>12} {other:>12} {change:>8}  {said}");
    }
    text
}

fn change(before: f64, after: f64) -> String {
    if before == 0.0 { "new".to_owned() } else { format!("{:+.1}%", (after - before) / before * 100.0) }
}

type Figure = Box<dyn Fn(&Point) -> Option<f64>>;

fn figures(before: &Report, after: &Report) -> Vec<(String, Figure)> {
    let mut figures: Vec<(String, Figure)> = Vec::new();
    let classes: std::collections::BTreeSet<&String> = before.all.keys().chain(after.all.keys()).collect();
    for class in classes {
        for (at, quantile) in ["p50", "p99"].into_iter().enumerate() {
            let of = class.clone();
            let figure = move |point: &Point| point.latencies.get(&of).map(|both| both[at]);
            figures.push((format!("{class} {quantile} ms"), Box::new(figure)));
        }
    }
    type Rate = fn(&Point) -> Option<f64>;
    let rates: [(&str, Rate); 8] = [
        ("deliveries/s", |point| Some(point.deliveries)),
        ("comments/s", |point| Some(point.comments)),
        ("presses/s", |point| Some(point.presses)),
        ("paid/s", |point| Some(point.paid)),
        ("errors/s", |point| Some(point.errors)),
        ("server cores", |point| point.server_cores),
        ("server MB", |point| point.server_mb),
        ("our cores", |point| Some(point.own_cores)),
    ];
    figures.extend(rates.map(|(name, figure)| (name.to_owned(), Box::new(figure) as Figure)));
    figures
}

/// The means of blocks of neighbouring seconds.
fn series(report: &Report, figure: &Figure) -> Vec<f64> {
    let values: Vec<f64> = report.timeline.iter().filter_map(figure).collect();
    values.chunks(BLOCK).filter(|block| block.len() == BLOCK || values.len() < BLOCK).map(mean).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Whether two series differ by more than their own unrest lets one expect.
fn finding(before: &[f64], after: &[f64]) -> Finding {
    if before.len() < BLOCKS_MIN || after.len() < BLOCKS_MIN {
        return Finding::TooShort;
    }
    let (one, other) = (mean(before), mean(after));
    if (other - one).abs() <= SHARE_MIN * one.abs().max(f64::MIN_POSITIVE) {
        return Finding::Same;
    }
    let error = |values: &[f64], mean: f64| {
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        squares / (values.len() - 1) as f64 / values.len() as f64
    };
    let spread = (error(before, one) + error(after, other)).sqrt();
    if (other - one).abs() > T_MIN * spread { Finding::Changed } else { Finding::Same }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_no_change_and_a_step_is_one() {
        let noisy = |base: f64, seed: u64| -> Vec<f64> {
            (0..20u64).map(|n| base + ((n * 7_919 + seed) % 13) as f64).collect()
        };
        assert_eq!(finding(&noisy(30.0, 1), &noisy(30.0, 5)), Finding::Same);
        assert_eq!(finding(&noisy(30.0, 1), &noisy(60.0, 5)), Finding::Changed);
        assert_eq!(finding(&[1.0; 10], &[1.04; 10]), Finding::Same, "sure, and of no interest");
        assert_eq!(finding(&[1.0, 2.0], &[9.0, 9.0]), Finding::TooShort);
    }

    #[test]
    fn what_was_measured_in_one_run_only_is_no_change() {
        let mut with_holds = crate::report::sample();
        for point in &mut with_holds.timeline {
            point.latencies.insert("hold".to_owned(), [1.0, 2.0]);
        }
        let text = compare(&crate::report::sample(), &with_holds);
        assert!(text.lines().any(|line| line.starts_with("hold p99 ms") && line.ends_with("only after")), "{text}");
        assert!(!text.contains("inf") && !text.contains("NaN") && !text.contains("-0.00"), "{text}");
    }

    #[test]
    fn a_report_of_another_version_is_refused_with_both() {
        let refused = read(r#"{"version": 9}"#).unwrap_err().to_string();
        assert!(refused.contains('9') && refused.contains(&VERSION.to_string()), "{refused}");
        assert!(read("[]").is_err());
    }
}
