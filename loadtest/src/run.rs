use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use maishou::{
    client::{Http, Server},
    clock::Clock,
};
use tokio::{
    task::LocalSet,
    time::{Instant, interval},
};

use crate::{
    crowd::{Crowd, Plan},
    people::People,
    process,
    report::{Report, Resources},
    rush::Rush,
    scenario::Scenario,
    stage::Stage,
    token::Tokens,
};

/// What a run is asked for on the command line.
#[derive(Args)]
pub struct Options {
    /// A scenario file, or the name of one in config/loadtest
    pub scenario: PathBuf,
    /// Where the server is
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub server: String,
    /// A file with the server's `auth.secret`. Without it the server must be a demo, whose room is used
    #[arg(long)]
    pub secret_file: Option<PathBuf>,
    /// In place of the scenario's
    #[arg(long)]
    pub viewers: Option<usize>,
    /// In place of the scenario's
    #[arg(long)]
    pub seconds: Option<u64>,
    /// The server's process, where it runs on this machine: its memory and CPU time are reported
    #[arg(long)]
    pub pid: Option<u32>,
    /// Writes the report to this file, too
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// How long arriving may take beyond what the rate of arrivals says.
const ARRIVAL_SPARE: Duration = Duration::from_secs(30);
/// How long the last frames may take to reach everybody.
const SETTLE: Duration = Duration::from_secs(3);

/// Plays a scenario and tells what came of it. False when a proof or a target failed.
pub fn run(scenario: &Scenario, options: &Options) -> anyhow::Result<bool> {
    process::allow_sockets(scenario.viewers)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = LocalSet::new().block_on(&runtime, play(scenario, options))?;
    println!("{report}");
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    Ok(report.failures.is_empty())
}

async fn play(scenario: &Scenario, options: &Options) -> anyhow::Result<Report> {
    let server: Server = options.server.parse()?;
    let clock = Clock::start();
    let tokens = match &options.secret_file {
        Some(path) => Tokens::from_file(path, clock.clone())?,
        None => Tokens::Demo { http: Box::new(Http::new(server.clone(), maishou::client::Config::default())) },
    };
    let stage = Stage::set(scenario, &server, &tokens, &clock).await?;
    let mut resources = Resources::before(options.pid)?;

    let plan = Plan {
        server: address(&options.server)?,
        room: stage.room.clone(),
        tokens: tokens.crowd(&stage.room, scenario.viewers).await?,
        arrivals_per_second: scenario.arrivals_per_second,
        clock: clock.clone(),
        rush: rush(scenario, &stage)?,
    };
    let crowd = Crowd::start(plan)?;
    arrive(scenario, &crowd).await?;
    resources.arrived(scenario.viewers)?;

    let people = People::start(scenario, &server, &stage, &tokens).await?;
    crowd.measure(true);
    resources.begin()?;
    let measured = watch(scenario, &crowd).await?;
    resources.end()?;
    crowd.measure(false);
    let deeds = people.stop().await;

    tokio::time::sleep(SETTLE).await;
    let (seq, stock) = stage.now().await?;
    let tally = crowd.stop()?;
    stage.close().await?;
    Ok(Report::of(scenario, &stage, measured, tally, &deeds, seq, &stock, resources))
}

/// Waits until everybody is in, or it takes too long.
async fn arrive(scenario: &Scenario, crowd: &Crowd) -> anyhow::Result<()> {
    let bar = bar(scenario.viewers as u64, "arriving");
    let time = Duration::from_secs_f64(scenario.viewers as f64 / f64::from(scenario.arrivals_per_second));
    let deadline = Instant::now() + time + ARRIVAL_SPARE;
    let mut look = interval(Duration::from_millis(100));
    loop {
        look.tick().await;
        let tally = crowd.tally();
        bar.set_position(tally.joined);
        if tally.joined >= scenario.viewers as u64 {
            bar.finish_and_clear();
            return Ok(());
        }
        if !crowd.is_running() || Instant::now() > deadline {
            bar.abandon();
            bail!(
                "only {} of {} viewers are in; {} were refused, {} lost: {:?} {:?}",
                tally.joined,
                scenario.viewers,
                tally.refused,
                tally.lost,
                tally.closes,
                tally.examples
            );
        }
    }
}

/// Lets the time of the scenario pass; how long it was.
async fn watch(scenario: &Scenario, crowd: &Crowd) -> anyhow::Result<Duration> {
    let bar = bar(scenario.seconds, "seconds");
    let began = Instant::now();
    let rush_after = Duration::from_secs(scenario.rush.after_seconds);
    let mut look = interval(Duration::from_millis(100));
    while began.elapsed() < Duration::from_secs(scenario.seconds) {
        look.tick().await;
        bar.set_position(began.elapsed().as_secs());
        if began.elapsed() >= rush_after {
            crowd.rush();
        }
        ensure!(crowd.is_running(), "the crowd's thread ended");
    }
    bar.finish_and_clear();
    Ok(began.elapsed())
}

fn rush(scenario: &Scenario, stage: &Stage) -> anyhow::Result<Option<Rush>> {
    let scenario = &scenario.rush;
    if scenario.buyers == 0 {
        return Ok(None);
    }
    ensure!(stage.is_ours, "a rush sells everything: it needs a room of its own (--secret-file)");
    Ok(Some(Rush {
        buyers: scenario.buyers,
        within: Duration::from_millis(scenario.within_ms),
        sku: stage.stock.keys().next().context("there is nothing to buy")?.clone(),
        pays: scenario.pays,
        run: stage.room.to_string(),
    }))
}

fn bar(len: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>9} [{wide_bar}] {pos}/{len}").expect("the template is right");
    ProgressBar::new(len).with_style(style).with_message(what)
}

fn address(server: &str) -> anyhow::Result<SocketAddr> {
    let host = server.trim_start_matches("http://").trim_end_matches('/');
    let with_port = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    with_port.to_socket_addrs()?.next().with_context(|| format!("{host} has no address"))
}
