//! Benchmarks of the fan-out: `cargo bench -p maishou-loadtest --bench fanout`.
//!
//! The server is a process of its own on core 0, listeners and speakers are on core 1. Everything is compared in one
//! run with the same listeners: tokio-tungstenite with a task per connection and a bare `send` loop (`rivals`), nchan
//! and nats-server (`peers`; their Debian packages must be installed). CPU is the scheduler's count of the server's
//! threads. Latency is measured from the time at which a message was to be sent.

mod dialect;
mod link;
mod listeners;
mod measure;
mod peers;
mod restart;
mod rivals;
mod scratch;
mod stock;
mod tls;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use maishou_loadtest::process;

/// Benchmarks of the fan-out.
#[derive(Clone, Parser)]
struct Options {
    /// Only these: chat, single, early, overload, idle, arrive, stall, restart, tls, peers
    only: Vec<String>,
    /// Listeners in the room
    #[arg(long, default_value_t = 10_000)]
    listeners: usize,
    /// Rounds of each measurement; medians are told
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a round
    #[arg(long, default_value_t = 6.0)]
    seconds: f64,
    /// Comments a second in `chat`
    #[arg(long, value_delimiter = ',', default_values_t = [100.0, 400.0])]
    rates: Vec<f64>,
    /// A setting of our server, such as FANOUT__SLOTS_MAX=1
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
    process::allow_sockets(options.listeners)?;
    match (options.rival.as_deref(), options.address) {
        (Some("task-each"), Some(address)) => return rivals::task_each(address),
        (Some("bare-loop"), Some(address)) => return rivals::bare_loop(address),
        _ => {}
    }
    process::stay_on(1).context("a core for the listeners")?;
    type Measurement = fn(&Options) -> anyhow::Result<()>;
    let all: [(&str, Measurement); 10] = [
        ("chat", measure::chat),
        ("single", measure::single),
        ("early", stock::early),
        ("overload", stock::overload),
        ("idle", measure::idle),
        ("arrive", measure::arrive),
        ("stall", measure::stall),
        ("restart", restart::restart),
        ("tls", tls::tls),
        ("peers", peers::compare),
    ];
    for (name, measurement) in all {
        if options.wants(name) {
            measurement(&options).with_context(|| name)?;
        }
    }
    Ok(())
}
