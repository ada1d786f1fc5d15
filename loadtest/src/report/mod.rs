//! What a run found: the same figures as text, as JSON and as one page of HTML.
//!
//! The JSON is this module's types as they stand, described in `loadtest/REPORT.md`; `version` grows when a reader of
//! the version before would be wrong. It measures nothing itself.

mod chinese;
pub mod compare;
mod failure;
mod html;
mod plot;
mod text;
mod verdict;
mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    hist::{Hist, Latencies},
    proof::Proof,
    scenario::Scenario,
    tally::Tally,
};

pub use chinese::chinese;
pub use failure::Failure;
pub use html::page;
pub use verdict::{self_measured, targets};

pub const VERSION: u32 = 1;

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub version: u32,
    pub scenario: Scenario,
    /// Where the server was; of our own: none.
    pub server: Option<String>,
    /// When the measured time began, milliseconds since 1970.
    pub began_at: i64,
    /// How long was measured.
    pub seconds: f64,
    /// It was ended before its time.
    pub interrupted: bool,
    /// No proof and no target failed.
    pub passed: bool,
    /// Why the tester may have measured itself. Empty is good.
    pub self_measured: Vec<String>,
    pub proofs: Vec<Proof>,
    pub targets: Vec<Target>,
    pub totals: Tally,
    /// For each phase, and for all of them.
    pub phases: Vec<PhaseReport>,
    pub all: BTreeMap<String, Quantiles>,
    /// Everything that was timed, `[microseconds, count]`, for comparisons and sums.
    pub histograms: Latencies,
    pub funnel: Funnel,
    pub stock: BTreeMap<String, Stock>,
    pub timeline: Vec<Point>,
    pub own: Own,
    pub clocks: Clocks,
    /// What the server's process used, where it runs on this machine.
    pub server_used: Option<Used>,
    /// What those saw who watched the video.
    #[serde(default)]
    pub video: Option<VideoReport>,
}

/// The video of a run: counted, not decoded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VideoReport {
    pub viewers: u64,
    /// Those who have had a picture and are in at the end.
    pub watching: u64,
    pub failed: u64,
    pub packets: u64,
    pub bytes: u64,
    /// Packets that never came, and their part of all.
    pub lost: u64,
    pub loss: f64,
    pub pictures: u64,
    /// Times without a new picture for more than half a second.
    pub freezes: u64,
    pub freezes_per_viewer_minute: f64,
    /// From the intended time of the offer to the first picture.
    pub first_picture: Quantiles,
    /// From the making of a packet to its arrival.
    pub delay: Quantiles,
    pub jitter: Quantiles,
}

/// A target and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    pub name: String,
    pub at_most: f64,
    /// None: nothing of the kind happened, which is a failure too.
    pub measured: Option<f64>,
    pub held: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PhaseReport {
    pub name: String,
    pub seconds: f64,
    pub latencies: BTreeMap<String, Quantiles>,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// From looking to paying.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funnel {
    pub looks: u64,
    pub presses: u64,
    pub held: u64,
    pub sold_out: u64,
    pub refused: u64,
    pub paid: u64,
    pub cancelled: u64,
    pub expired: u64,
    /// Held, and not yet decided.
    pub open: u64,
}

/// Pieces of one SKU in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    pub opening: u64,
    pub added: i64,
    pub available: u64,
    pub held: u64,
    pub sold: u64,
}

/// One second, or several of a long run. Rates are per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub at: f64,
    pub phase: usize,
    pub websocket: u64,
    pub sse: u64,
    pub webrtc: u64,
    pub deliveries: f64,
    pub frames: f64,
    pub comments: f64,
    pub presses: f64,
    pub paid: f64,
    pub errors: f64,
    /// p50 and p99 in milliseconds, by class.
    pub latencies: BTreeMap<String, [f64; 2]>,
    pub available: u64,
    pub held: u64,
    pub sold: u64,
    pub server_cores: Option<f64>,
    pub server_mb: Option<f64>,
    pub own_cores: f64,
    pub own_mb: f64,
    /// The server's own, from `/metrics`.
    pub gauges: BTreeMap<String, f64>,
}

/// How the tester itself did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Own {
    pub late: Quantiles,
    pub turns: Quantiles,
    /// Cores that the busiest crowd's thread kept busy, and the part of the time that one waited for a core.
    pub crowd_cores: f64,
    pub crowd_waited: f64,
    pub cores: f64,
}

/// How far the clocks were apart, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clocks {
    pub server_ahead: f64,
    pub server_error: f64,
    /// Of each worker: its address, how far it was ahead, and how wrong that may be.
    pub workers: Vec<(String, f64, f64)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    pub cores: f64,
    pub memory_mb: f64,
    /// Memory that each viewer added, without the kernel's part.
    pub kib_per_viewer: f64,
}

impl Quantiles {
    pub fn of(hist: &Hist) -> Self {
        let at = |quantile| hist.ms_at(quantile);
        Self {
            count: hist.count(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: if hist.count() == 0 { 0.0 } else { hist.max_ms() },
        }
    }
}

/// The quantiles of each class.
pub fn quantiles(latencies: &Latencies) -> BTreeMap<String, Quantiles> {
    latencies.iter().map(|(class, hist)| (class.name().to_owned(), Quantiles::of(hist))).collect()
}

/// A report with something of everything, for tests.
#[cfg(test)]
fn sample() -> Report {
    let point = |at: f64| Point { at, websocket: 5, deliveries: 10.0 + at, ..Point::default() };
    let proof = |name: &str, held| Proof {
        name: name.to_owned(),
        held,
        said: "3 viewers heard 5 frames".to_owned(),
        evidence: vec!["<b>bold</b>".to_owned()],
    };
    let mut report = Report {
        version: VERSION,
        scenario: Scenario::load("evening".as_ref()).expect("it is shipped"),
        server: None,
        began_at: 1_763_000_000_000,
        seconds: 3.0,
        interrupted: true,
        passed: true,
        self_measured: vec!["slow".to_owned()],
        proofs: vec![proof("frames", Some(false)), proof("stock", Some(true)), proof("tape", None)],
        targets: Vec::new(),
        totals: Tally::default(),
        phases: Vec::new(),
        all: BTreeMap::from([("hold".to_owned(), Quantiles::default())]),
        histograms: Latencies::default(),
        funnel: Funnel { presses: 5, held: 3, paid: 2, ..Funnel::default() },
        stock: BTreeMap::new(),
        timeline: [1.0, 2.0, 3.0].map(point).into(),
        own: Own::default(),
        clocks: Clocks::default(),
        server_used: None,
        video: None,
    };
    report.judge();
    report
}
