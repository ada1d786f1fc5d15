//! A scenario from curtain to curtain.

use std::{
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use maishou::{
    client::{Config, Http},
    id::RoomId,
    protocol::Role,
};
use tokio::{task::LocalSet, time::interval};
use tokio_util::sync::CancellationToken;

use crate::{
    callers::Callers,
    crowd::{Crowd, Plan},
    finish::{Ended, finish},
    hosts::Hosts,
    measured::Measured,
    process,
    progress::Progress,
    report::{Clocks, Report},
    rtc::Anchor,
    scenario::Scenario,
    stage::Stage,
    stamp::Timebase,
    team::{Part, Team},
    timeline::Timeline,
    venue::{Venue, clock_of, used},
    video,
    workers::Remote,
};

/// What a run is asked for on the command line.
#[derive(Args, Clone, Default)]
pub struct Options {
    /// A scenario file, or the name of a shipped one
    pub scenario: PathBuf,
    /// A server that runs; without it one is started for the run
    #[arg(long)]
    pub server: Option<String>,
    /// A file with that server's auth.secret; else MAISHOU_AUTH__SECRET is taken. Without either the server must be a
    /// demo, whose room is used
    #[arg(long)]
    pub secret_file: Option<PathBuf>,
    /// The room of that server that is rehearsed; else one is made, and rehearsed
    #[arg(long)]
    pub rehearse: Option<RoomId>,
    /// Acts in a real room of that server, which must have loadtest.allow = true, and not in a rehearsal
    #[arg(long, conflicts_with = "rehearse")]
    pub real: bool,
    /// The program of the server that is started, in place of the one beside this
    #[arg(long)]
    pub maishou: Option<PathBuf>,
    /// Keeps the files of the server that is started in this folder
    #[arg(long)]
    pub keep: Option<PathBuf>,
    /// In place of the scenario's, in its proportions
    #[arg(long)]
    pub viewers: Option<usize>,
    /// In place of the scenario's, every phase shortened alike
    #[arg(long)]
    pub seconds: Option<f64>,
    /// The process of the server given, where it is on this machine: its memory and CPU time are reported
    #[arg(long)]
    pub pid: Option<u32>,
    /// Writes the report as JSON to this file, too
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Writes the report as a page to this file, too
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Workers that bring the crowd, HOST:PORT each; their key is in MAISHOU_WORKER_KEY
    #[arg(long, value_delimiter = ',')]
    pub workers: Vec<String>,
}

/// How long arriving may take beyond what the rate of arrivals says.
const ARRIVAL_SPARE: Duration = Duration::from_secs(30);
/// How long what was begun may take to end, and the last frames to reach everybody.
const SETTLE: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Plays a scenario, writes the reports that are asked for, and tells what came of it.
pub fn run(scenario: Scenario, options: &Options, stop: &CancellationToken) -> anyhow::Result<Report> {
    scenario.check()?;
    ensure!(scenario.readers() > 0, "audience: nobody comes; set websocket or sse");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = LocalSet::new().block_on(&runtime, play(scenario, options, stop))?;
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string(&report)?).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &options.html {
        std::fs::write(path, crate::report::page(&report)).with_context(|| path.display().to_string())?;
    }
    Ok(report)
}

async fn play(scenario: Scenario, options: &Options, stop: &CancellationToken) -> anyhow::Result<Report> {
    let readers = scenario.readers();
    if options.workers.is_empty() {
        process::allow_sockets(readers + scenario.audience.webrtc)?;
    }
    let venue = Venue::open(&scenario, options)?;
    process::check_ports(readers, venue.address.ip().is_loopback())?;
    let (scenario, base) = (Rc::new(scenario), Timebase::start());
    let run = format!("loadtest-{:x}", base.now_us());
    let stage = Rc::new(Stage::set(&scenario, &venue.server, &venue.tokens, &run, &venue.world).await?);
    let http = Http::new(venue.server.clone(), Config::default());
    let callers = Callers { http, room: &stage.room, tokens: &venue.tokens };
    let (ahead, error) = clock_of(&venue, &stage, base).await?;
    let memory = venue.pid.map(process::memory_kib).transpose().context("the server's process")?.unwrap_or(0);

    let mut progress = Progress::new();
    let mut team = team(&scenario, options, &venue, &stage, base, ahead, run).await?;
    let arrived = arrive(&scenario, &team, &mut progress, stop).await?;
    let anchor = match scenario.audience.webrtc {
        0 => None,
        _ => Some(video::start(&scenario, &venue, &stage, &mut team).await?),
    };
    let memory = venue.pid.map_or(Ok(0), process::memory_kib)?.saturating_sub(memory);

    let began = Instant::now() + LOOK_EVERY;
    let began_at = base.at_us(began) / 1_000;
    let used_before = used(venue.pid)?;
    team.begin(began)?;
    let looker = callers.of(Role::Viewer, "looker").await?;
    let hosts = Hosts::start(&scenario, &stage, began.into(), looker);
    let mut show =
        Measured { scenario: &scenario, stage: &stage, venue: &venue, team: &team, hosts: &hosts, began, admin: None };
    let mut timeline = Timeline::default();
    if arrived {
        show.admin = callers.of(Role::Admin, "loadtest").await.ok();
        show.watch(&mut timeline, &mut progress, stop).await?;
    }
    let seconds = began.elapsed().as_secs_f64().min(scenario.seconds()).max(0.001);
    let used = (used_before, used(venue.pid)?, memory);
    team.quiet()?;
    settle(&team, &mut progress).await;
    team.seconds().iter().for_each(|(teller, second)| timeline.add(*teller, second));
    let clocks = Clocks { server_ahead: ahead as f64 / 1e3, server_error: error as f64 / 1e3, workers: team.clocks() };
    let hosted = hosts.stop().await;
    let has_video = anchor.map(Anchor::stop).transpose()?.is_some();
    stand_still(&stage, &team, &mut progress).await?;
    let (crowds, seen) = team.stop()?;
    progress.end();
    let video = has_video.then(|| video::report(scenario.audience.webrtc, &seen, seconds));
    let ended = Ended {
        scenario: Rc::unwrap_or_clone(scenario),
        began_at,
        seconds,
        interrupted: stop.is_cancelled(),
        crowds,
        hosted,
        timeline,
        clocks,
        used,
        video,
    };
    finish(ended, venue, &stage).await
}

/// The crowd here, or its parts at the workers.
async fn team(
    scenario: &Rc<Scenario>,
    options: &Options,
    venue: &Venue,
    stage: &Stage,
    base: Timebase,
    server_ahead_us: i64,
    run: String,
) -> anyhow::Result<Team> {
    let goods = stage.skus();
    ensure!(!goods.is_empty(), "there is nothing to buy in room {}: put something on its shelf", stage.room);
    let tokens = venue.tokens.crowd(&stage.room, scenario.readers()).await?;
    let plan = Plan {
        server: venue.address,
        room: stage.room.clone(),
        scenario: (**scenario).clone(),
        tokens,
        websocket: scenario.audience.websocket,
        share: 1.0,
        goods,
        run,
        base,
        server_ahead_us,
        is_alone: stage.is_ours(),
    };
    if options.workers.is_empty() {
        return Ok(Team(vec![Part::Here { crowd: Crowd::start(plan)?, watchers: None }]));
    }
    let parts = plan.split(options.workers.len()).into_iter().zip(&options.workers);
    let parts = parts.map(|((plan, people), worker)| Ok(Part::There(Remote::start(worker, plan, people)?)));
    Ok(Team(parts.collect::<anyhow::Result<_>>()?))
}

/// Waits until everybody is in. False when it was ended before.
async fn arrive(
    scenario: &Scenario,
    team: &Team,
    progress: &mut Progress,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let all = scenario.readers() as u64;
    let rate = f64::from(scenario.audience.arrivals_per_second);
    let deadline = Instant::now() + Duration::from_secs_f64(all as f64 / rate) + ARRIVAL_SPARE;
    let mut look = interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let tally = team.tally();
        progress.tell(tally.joined, all, || format!("viewers are in; {} were put off", tally.put_off));
        if tally.joined >= all || stop.is_cancelled() {
            return Ok(tally.joined >= all);
        }
        let is_hopeless = tally.joined == 0 && tally.refused >= all.min(100);
        if is_hopeless || !team.is_running() || Instant::now() > deadline {
            bail!(
                "only {} of {all} viewers are in; {} were refused, {} lost, {} put off; closes {:?}; sockets {:?}; {:?}",
                tally.joined,
                tally.refused,
                tally.lost,
                tally.put_off,
                tally.closes,
                tally.socket_errors,
                tally.examples
            );
        }
    }
}

/// Waits until every command was answered and every hold decided.
async fn settle(team: &Team, progress: &mut Progress) {
    let deadline = Instant::now() + SETTLE;
    let mut look = interval(LOOK_EVERY);
    // What was open when it became quiet is counted a moment later.
    for _ in 0..3 {
        look.tick().await;
    }
    while team.tally().open > 0 && Instant::now() < deadline {
        look.tick().await;
        progress.tell(0, 1, || format!("{} answers and decisions are still to come", team.tally().open));
    }
}

/// The show ends, and everybody comes to stand at its last event.
async fn stand_still(stage: &Stage, team: &Team, progress: &mut Progress) -> anyhow::Result<()> {
    stage.close().await?;
    if !stage.is_ours() {
        return Ok(());
    }
    let deadline = Instant::now() + SETTLE;
    let mut look = interval(2 * LOOK_EVERY);
    let mut before = 0;
    loop {
        look.tick().await;
        let seq = stage.snapshot().await?.seq;
        let all_there = team.stands() == (seq, seq) && seq == before && is_whole(team);
        if all_there || Instant::now() > deadline {
            return Ok(());
        }
        before = seq;
        progress.tell(0, 1, || "everybody comes to stand at the last event".to_owned());
    }
}

/// Whether all who came are back.
fn is_whole(team: &Team) -> bool {
    let tally = team.tally();
    tally.websocket + tally.sse + tally.refused >= tally.joined
}
