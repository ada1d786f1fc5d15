//! Benchmarks of the ledger: `cargo bench -p maishou-loadtest --bench ledger`.
//!
//! Everything is compared in one run with what it is measured against, on the same disk, minutes apart at most: a plain
//! log that hashes and writes the same fields (`plain_log`), and a Redis script (`redis`). Rounds of both alternate, and
//! medians are told. CPU is that of the whole process, callers included.

mod callers;
mod child;
mod expiry;
mod flood;
mod plain_log;
mod redis;
mod restart;
mod scratch;
mod shop;
mod slow_store;
mod socket;
mod sold_out;
mod table;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;

/// Benchmarks of the ledger.
#[derive(Parser)]
struct Options {
    /// Only these: holds, flood, sold-out, expiry, restart, redis, and socket, which is part of redis otherwise
    only: Vec<String>,
    /// Rounds of each measurement; medians are told
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Callers that ask one after another, each its next when the last was answered
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1024])]
    callers: Vec<usize>,
    /// Milliseconds added to every flush in the second half; none leaves it out
    #[arg(long, default_value_t = 2)]
    slow_ms: u64,
    /// Skip the measurements with the disk as it is
    #[arg(long)]
    slow_only: bool,
    /// Without what the desk is compared with: for a profiler
    #[arg(long)]
    desk_only: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// What is added to every flush, one pass after another.
    fn delays(&self) -> Vec<Duration> {
        let slow = Duration::from_millis(self.slow_ms);
        let as_it_is = (!self.slow_only).then_some(Duration::ZERO);
        as_it_is.into_iter().chain((!slow.is_zero()).then_some(slow)).collect()
    }
}

/// A program of the same build: benchmarks are in its `deps`.
fn beside_us(name: &str) -> anyhow::Result<PathBuf> {
    let ours = std::env::current_exe()?;
    let folder = ours.parent().and_then(Path::parent).context("a benchmark is in the build's folder")?;
    Ok(folder.join(name))
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    for delay in options.delays() {
        println!(
            "\n# Flushes: {}",
            if delay.is_zero() { "as the disk does them".into() } else { format!("{delay:?} more each") }
        );
        if options.wants("holds") {
            callers::bench(&runtime, &options, delay)?;
        }
        if options.wants("flood") {
            flood::bench(&runtime, &options, delay)?;
        }
        if options.wants("expiry") {
            expiry::bench(&runtime, delay)?;
        }
        if options.wants("restart") {
            restart::bench(&runtime, &options, delay)?;
        }
    }
    if options.wants("sold-out") {
        sold_out::bench(&runtime, &options)?;
    }
    if options.wants("socket") && !options.only.is_empty() {
        let round = socket::round(&runtime, &beside_us("maishou")?, options.callers[0], options.seconds)?;
        table::print_rows("holds over WebSockets", &[table::Row::of("maishou", &[round])]);
    }
    if options.wants("redis") {
        redis::bench(&runtime, &options, &beside_us("maishou")?)?;
    }
    Ok(())
}
