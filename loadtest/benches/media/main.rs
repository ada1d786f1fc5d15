//! Benchmarks of the media server: `cargo bench -p maishou-loadtest --bench media`.
//!
//! The server is a process of its own on core 0; the anchor and the light viewers, who do ICE and DTLS for real and
//! decode nothing, are on core 1. What it is compared with runs in the same way in the same run. CPU is the
//! scheduler's count of the server's threads. Delay is from the making of a packet to the kernel's time of its arrival.

mod floor;
mod janus;
mod measure;
mod messages;
mod offers;
mod rivals;
mod rtc_writes;
mod scratch;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use maishou_loadtest::process;

/// Benchmarks of the media server.
#[derive(Clone, Parser)]
struct Options {
    /// Only these: packets, floor, rivals, delay, joins, memory, messages, peers
    only: Vec<String>,
    /// Viewers in `packets`
    #[arg(long, value_delimiter = ',', default_values_t = [400, 1_500])]
    viewers: Vec<usize>,
    /// Rounds of each measurement; medians are told
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a round
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// A setting of our server, such as MEDIA__COALESCE_MS=2
    #[arg(long = "set", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Without what ours is compared with
    #[arg(long)]
    ours_only: bool,
    /// In place of the maishou beside this benchmark
    #[arg(long)]
    maishou: Option<PathBuf>,
    /// Used by ourselves: be this rival
    #[arg(long, hide = true)]
    rival: Option<String>,
    #[arg(long, hide = true)]
    address: Option<SocketAddr>,
    #[arg(long, hide = true)]
    feed: Option<SocketAddr>,
    #[arg(long, hide = true, default_value_t = 0)]
    count: usize,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// The server: a program of the same build, since benchmarks are in its `deps`.
    fn maishou(&self) -> anyhow::Result<PathBuf> {
        if let Some(maishou) = &self.maishou {
            return Ok(maishou.clone());
        }
        let ours = std::env::current_exe()?;
        let folder = ours.parent().and_then(Path::parent).context("a benchmark is in the build's folder")?;
        Ok(folder.join("maishou"))
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    process::allow_sockets(options.viewers.iter().copied().max().unwrap_or(0).max(3_000))?;
    match (options.rival.as_deref(), options.address, options.feed) {
        (Some("floor"), Some(address), _) => return floor::serve(address, options.count),
        (Some("webrtc"), Some(address), Some(feed)) => return rivals::serve(address, feed),
        (Some("rtc"), Some(address), Some(feed)) => return rtc_writes::serve(address, feed),
        _ => {}
    }
    process::stay_on(1).context("a core for the viewers")?;
    type Measurement = fn(&Options) -> anyhow::Result<()>;
    let all: [(&str, Measurement); 8] = [
        ("packets", measure::packets),
        ("floor", measure::floor),
        ("rivals", measure::rivals),
        ("delay", measure::delay),
        ("joins", measure::joins),
        ("memory", measure::memory),
        ("messages", messages::measure),
        // The last: it leaves the machine's network.
        ("peers", janus::compare),
    ];
    let mut failed = Vec::new();
    for (name, measurement) in all.into_iter().filter(|(name, _)| options.wants(name)) {
        // One that a server does not come through says nothing about the others.
        if let Err(error) = measurement(&options) {
            println!("  {name}: {error:#}");
            failed.push(name);
        }
    }
    anyhow::ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}
