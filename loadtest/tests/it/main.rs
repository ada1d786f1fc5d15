//! The load tester against a real server: short runs with their proofs, and lies that the proofs must find.

mod bad_input;
mod proxy;
mod runs;
mod tampering;
mod workers;

use std::path::PathBuf;

use maishou_loadtest::{
    report::Report,
    run::{self, Options},
    scenario::Scenario,
};
use tokio_util::sync::CancellationToken;

/// Runs it, on a server of its own unless the options name one.
fn run(scenario: Scenario, options: &Options) -> anyhow::Result<Report> {
    run::run(scenario, options, &CancellationToken::new())
}

/// The names of the proofs that failed, and of those that could not be looked at.
fn doubts(report: &Report) -> (Vec<&str>, Vec<&str>) {
    let of = |held| report.proofs.iter().filter(move |proof| proof.held == held).map(|proof| &*proof.name);
    (of(Some(false)).collect(), of(None).collect())
}

/// A file of its own, removed with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("maishou-loadtest-test-{:016x}-{name}", rand::random::<u64>())))
    }

    fn with(name: &str, text: &str) -> Self {
        let scratch = Self::new(name);
        std::fs::write(&scratch.0, text).unwrap();
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
