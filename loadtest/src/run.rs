//! A scenario from curtain to curtain.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use maishou::{
    client::{Config, Http, Rest, Server, Viewer},
    clock::Clock,
    id::RoomId,
    protocol::Role,
};
use tokio::{task::LocalSet, time::interval};
use tokio_util::sync::CancellationToken;

use crate::{
    callers::Callers,
    crowd::{Crowd, Plan},
    finish::{Ended, finish},
    gauges,
    hosts::Hosts,
    house::House,
    process,
    progress::{Progress, line},
    report::{Clocks, Report},
    rtc::Anchor,
    scenario::Scenario,
    stage::{Stage, World},
    stamp::Timebase,
    team::{Part, Team},
    timeline::{Sample, Teller, Timeline},
    token::Tokens,
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
/// Looks at the server's clock, the quickest of which counts.
const CLOCK_LOOKS: usize = 16;

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

/// The server of a run, and what we may do there.
pub(crate) struct Venue {
    pub house: Option<House>,
    pub server: Server,
    pub address: SocketAddr,
    pub tokens: Tokens,
    pub pid: Option<u32>,
    pub name: Option<String>,
    pub world: World,
}

impl Venue {
    fn open(scenario: &Scenario, options: &Options) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let Some(name) = &options.server else {
            let house = House::open(options.maishou.as_deref(), &scenario.server, options.keep.as_deref())?;
            let (address, pid) = (house.address, Some(house.pid()));
            let tokens = Tokens::minted(&house.secret, clock, false);
            return Ok(Self {
                server: Server::at(address),
                address,
                tokens,
                pid,
                name: None,
                world: World::Own,
                house: Some(house),
            });
        };
        let address = address(name)?;
        let tokens = match (&options.secret_file, std::env::var("MAISHOU_AUTH__SECRET")) {
            (Some(path), _) => Tokens::from_file(path, clock)?,
            (None, Ok(secret)) if !secret.is_empty() => Tokens::minted(&secret, clock, true),
            _ => {
                let http = Http::new(name.parse()?, Config::default());
                Tokens::Demo { http: Box::new(http) }
            }
        };
        let world = match tokens {
            Tokens::Demo { .. } => World::Demo,
            Tokens::Minted { .. } if options.real => World::Real,
            Tokens::Minted { .. } => World::Rehearsal(options.rehearse.clone()),
        };
        let (server, name) = (name.parse()?, Some(name.clone()));
        Ok(Self { house: None, server, address, tokens, pid: options.pid, name, world })
    }
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
    let used = used(venue.pid)?;
    team.begin(began)?;
    let looker = callers.of(Role::Viewer, "looker").await?;
    let hosts = Hosts::start(&scenario, &stage, began.into(), looker);
    let mut show =
        Show { scenario: &scenario, stage: &stage, venue: &venue, team: &team, hosts: &hosts, began, admin: None };
    let mut timeline = Timeline::default();
    if arrived {
        show.admin = callers.of(Role::Admin, "loadtest").await.ok();
        show.watch(&mut timeline, &mut progress, stop).await?;
    }
    let seconds = began.elapsed().as_secs_f64().min(scenario.seconds()).max(0.001);
    let used = (used, self::used(venue.pid)?, memory);
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

/// The measured time.
struct Show<'a> {
    scenario: &'a Scenario,
    stage: &'a Stage,
    venue: &'a Venue,
    team: &'a Team,
    hosts: &'a Hosts,
    began: Instant,
    admin: Option<Rest>,
}

impl Show<'_> {
    async fn watch(
        &self,
        timeline: &mut Timeline,
        progress: &mut Progress,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let all = self.scenario.seconds();
        let mut look = interval(Duration::from_secs(1));
        look.tick().await;
        while self.began.elapsed().as_secs_f64() < all && !stop.is_cancelled() {
            let left = Duration::from_secs_f64((all - self.began.elapsed().as_secs_f64()).max(0.0));
            tokio::select! {
                _ = look.tick() => {}
                () = tokio::time::sleep(left) => {}
                () = stop.cancelled() => {}
            }
            ensure!(self.team.is_running(), "a crowd ended before its time");
            let at = self.began.elapsed();
            self.gather(timeline, at).await;
            let phase = &self.scenario.phases[self.scenario.phase_at(at.as_secs_f64())].name;
            if let Some((now, before)) = timeline.newest() {
                let told = || line(phase, &now, before.as_ref(), timeline.newest_sample());
                progress.tell(at.as_secs(), all.ceil() as u64, told);
            }
        }
        Ok(())
    }

    async fn gather(&self, timeline: &mut Timeline, at: Duration) {
        self.team.seconds().iter().for_each(|(teller, second)| timeline.add(*teller, second));
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(0);
        let hosts = crate::tally::Second { at_ms, tally: self.hosts.tally(), latencies: self.hosts.second() };
        timeline.add(Teller::Hosts, &hosts);
        let mut sample = Sample { webrtc: self.team.watching().map_or(0, |now| now.inside), ..Sample::default() };
        if let Some(pid) = self.venue.pid {
            sample.server_cpu = process::cpu_time(pid).ok();
            sample.server_mb = process::memory_kib(pid).ok().map(|kib| kib as f64 / 1_024.0);
        }
        sample.own_cpu = process::cpu_time(std::process::id()).unwrap_or_default();
        sample.own_mb = process::memory_kib(std::process::id()).unwrap_or(0) as f64 / 1_024.0;
        if let Ok(snapshot) = self.stage.snapshot().await {
            sample.take_stock(&snapshot);
        }
        if let Some(admin) = &self.admin {
            sample.gauges = gauges::look(self.venue.address, admin.token()).await.unwrap_or_default();
        }
        timeline.sample(at.as_millis().div_ceil(1_000) as u64, sample);
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

/// How far the server's clock is ahead of ours and how wrong that may be, in microseconds.
async fn clock_of(venue: &Venue, stage: &Stage, base: Timebase) -> anyhow::Result<(i64, i64)> {
    let token = venue.tokens.one(&stage.room, Role::Viewer, "loadtest-clock").await?;
    let viewer = Viewer::join(&venue.server, &stage.room, &token, &Config::default()).await?;
    let mut best = (0, i64::MAX);
    for _ in 0..CLOCK_LOOKS {
        let before = base.now_us();
        let (theirs, took) = viewer.ping().await?;
        let took = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        if took < best.1 {
            // The server tells whole milliseconds: on average half of one has passed.
            best = (theirs.0 * 1_000 + 500 - (before + took / 2), took);
        }
    }
    viewer.leave().await;
    let (ahead, took) = best;
    let error = took / 2 + 500;
    // Clocks that may well be the same one are.
    Ok((if ahead.abs() <= error + 1_000 && venue.address.ip().is_loopback() { 0 } else { ahead }, error))
}

/// CPU time of ourselves and of the server.
pub(crate) fn used(pid: Option<u32>) -> anyhow::Result<[Duration; 2]> {
    let server = pid.map(process::cpu_time).transpose().context("the server's process")?;
    Ok([process::cpu_time(std::process::id())?, server.unwrap_or_default()])
}

fn address(server: &str) -> anyhow::Result<SocketAddr> {
    let host = server.trim_start_matches("http://").trim_end_matches('/');
    ensure!(!host.contains("://"), "--server {server}: give http://HOST:PORT");
    let with_port = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    with_port.to_socket_addrs()?.next().with_context(|| format!("{host} has no address"))
}
