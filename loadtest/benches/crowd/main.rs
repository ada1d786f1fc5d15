//! What a viewer of the crowd costs the tester: `cargo bench -p maishou-loadtest --bench crowd`.
//!
//! The server is a process of its own on core 0, the crowd's thread is on core 1. CPU is the scheduler's count.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Parser;
use maishou_loadtest::{
    crowd::{Crowd, Plan},
    hall::Hall,
    process,
    scenario::{Acts, Audience, Phase, Scenario},
    stamp::Timebase,
};

/// What a viewer of the crowd costs the tester.
#[derive(Parser)]
struct Options {
    /// Viewers over WebSockets
    #[arg(long, default_value_t = 15_000)]
    viewers: usize,
    /// Comments a second that everybody is shown
    #[arg(long, default_value_t = 100.0)]
    comments: f64,
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// In place of the maishou beside this benchmark
    #[arg(long)]
    maishou: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

const ARRIVAL_TIME: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    process::allow_sockets(options.viewers)?;
    let ours = std::env::current_exe()?;
    let folder = ours.parent().and_then(Path::parent).context("a benchmark is in the build's folder")?;
    let maishou = options.maishou.clone().unwrap_or_else(|| folder.join("maishou"));
    process::stay_on(1).context("a core for the crowd")?;
    for round in 1..=options.rounds {
        let files = std::env::temp_dir().join(format!("crowd-bench-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&files)?;
        let measured = measure(&options, &maishou, &files, round);
        drop(std::fs::remove_dir_all(&files));
        measured?;
    }
    Ok(())
}

fn measure(options: &Options, maishou: &Path, files: &Path, round: usize) -> anyhow::Result<()> {
    let hall = Hall::open(maishou, files, 0, &[("ROOM__CHAT_PER_SECOND", "0")])?;
    let scenario = Scenario {
        audience: Audience { websocket: options.viewers, arrivals_per_second: 4_000, ..Audience::default() },
        acts: Acts { comments: options.comments, ..Acts::default() },
        phases: vec![Phase { seconds: options.seconds, ..Phase::default() }],
        ..Scenario::default()
    };
    let plan = Plan {
        server: hall.address,
        room: hall.room.clone(),
        scenario,
        tokens: hall.audience(options.viewers)?,
        websocket: options.viewers,
        share: 1.0,
        goods: vec![vec![hall.sku.clone()]],
        run: "bench".to_owned(),
        base: Timebase::start(),
        server_ahead_us: 0,
        is_alone: true,
    };
    let crowd = Crowd::start(plan)?;
    let deadline = Instant::now() + ARRIVAL_TIME;
    while crowd.tally().joined < options.viewers as u64 {
        if Instant::now() > deadline || !crowd.is_running() {
            bail!("only {} of {} are in", crowd.tally().joined, options.viewers);
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    let (begin, before) = (Instant::now(), hall.process.cpu_time()?);
    crowd.begin(begin);
    while begin.elapsed().as_secs_f64() < options.seconds {
        std::thread::park_timeout(LOOK_EVERY);
    }
    let server = (hall.process.cpu_time()? - before).as_secs_f64() / begin.elapsed().as_secs_f64();
    std::thread::park_timeout(5 * LOOK_EVERY);
    let told = crowd.stop()?;
    let (busy, frames, events) = (told.pace.busy, told.tally.frames, told.tally.events);
    let us = busy * options.seconds * 1e6;
    let chat = told.phases.first().and_then(|phase| phase.of(maishou_loadtest::hist::Class::Chat)).cloned();
    println!(
        "round {round}: {} viewers, {:.0} frames/s, {:.2} M events/s; the crowd {:.1} % of a core, {:.2} us a frame, \
         {:.3} us an event; chat p99 {:.0} ms; the server {:.1} % of a core; {} gaps",
        options.viewers,
        frames as f64 / options.seconds,
        events as f64 / options.seconds / 1e6,
        busy * 100.0,
        us / frames.max(1) as f64,
        us / events.max(1) as f64,
        chat.map_or(0.0, |chat| chat.ms_at(0.99)),
        server * 100.0,
        told.tally.gaps
    );
    Ok(())
}
