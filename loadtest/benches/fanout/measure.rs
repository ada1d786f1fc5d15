//! The measurements of our server, and of rivals in the same run.

use std::{
    net::SocketAddr,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use maishou_loadtest::{
    hall::Hall,
    process,
    server::{Child, free_address},
};

use crate::{
    Options,
    dialect::Dialect,
    listeners::{Heard, Listeners, SILENCE, Talk},
    scratch::Scratch,
};

/// The server's core; the listeners have the other.
pub const CORE: usize = 0;
/// Together with its names a comment of this text is an event of about 200 bytes.
const TEXT_LEN: usize = 72;
/// What a rival is given, which knows no names.
const MESSAGE_LEN: usize = 200;
const SPEAKERS_PER_COMMENT: f64 = 1.0;
/// Long enough for pings and tallies to be in it.
const IDLE: Duration = Duration::from_secs(60);
pub const SETTLE: Duration = Duration::from_secs(2);

/// One round's figures.
pub struct Round {
    pub heard: Heard,
    pub took: Duration,
    pub cpu: Duration,
    /// Our own: near a whole core it is us who are measured.
    pub own_cpu: Duration,
}

impl Round {
    /// Listens to a server for so long.
    pub fn of(server: &Child, listeners: &mut Listeners, time: Duration, talk: Talk) -> anyhow::Result<Self> {
        Self::with(server, listeners, time, talk, |_| Ok(()))
    }

    pub fn with(
        server: &Child,
        listeners: &mut Listeners,
        time: Duration,
        talk: Talk,
        aside: impl FnMut(Duration) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        listeners.listen(Duration::from_millis(500), talk, |_| Ok(()))?;
        let own = || process::cpu_time(std::process::id());
        let (before, own_before, began) = (server.cpu_time()?, own()?, Instant::now());
        let heard = listeners.listen(time, talk, aside)?;
        let (cpu, own_cpu) = (server.cpu_time()?.saturating_sub(before), own()?.saturating_sub(own_before));
        Ok(Self { heard, took: began.elapsed(), cpu, own_cpu })
    }

    pub fn per_second(&self) -> f64 {
        self.heard.deliveries as f64 / self.took.as_secs_f64()
    }

    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.heard.deliveries.max(1) as f64
    }

    pub fn core(&self) -> f64 {
        self.cpu.as_secs_f64() / self.took.as_secs_f64() * 100.0
    }

    pub fn p99_ms(&self) -> f64 {
        self.heard.latency.value_at_quantile(0.99) as f64 / 1e3
    }
}

/// Rounds of one subject, told in medians.
pub fn tell(name: &str, rounds: &[Round]) -> f64 {
    let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    println!(
        "  {name:<25} {:>8.0}/s   p50 {:>5.1} ms   p99 {:>5.1} ms   {:>4.1} % of a core   {:>6.3} us and {:>3.0} B each   \
         {:>4.1} per read   listeners {:>3.0} %   broken {}",
        of(Round::per_second),
        of(|round| round.heard.latency.value_at_quantile(0.5) as f64 / 1e3),
        of(Round::p99_ms),
        of(Round::core),
        of(Round::cpu_us),
        of(|round| round.heard.bytes as f64 / round.heard.deliveries.max(1) as f64),
        of(|round| round.heard.deliveries as f64 / round.heard.reads.max(1) as f64),
        of(|round| round.own_cpu.as_secs_f64() / round.took.as_secs_f64() * 100.0),
        rounds.iter().map(|round| round.heard.broken).sum::<u64>(),
    );
    of(Round::cpu_us)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn comments(per_second: f64) -> Talk {
    let speakers = (per_second / SPEAKERS_PER_COMMENT).ceil() as usize;
    Talk { per_second, text_len: TEXT_LEN, speakers }
}

pub fn messages(per_second: f64) -> Talk {
    Talk { per_second, text_len: MESSAGE_LEN, speakers: 0 }
}

/// Our server with everybody in.
pub struct House {
    pub hall: Hall,
    pub listeners: Listeners,
    pub scratch: Scratch,
}

impl House {
    pub fn open(options: &Options, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let (hall, scratch) = hall(options, settings)?;
        let listeners = Listeners::arrive(dialect(&hall, options.listeners)?, hall.address, options.listeners)?;
        let mut house = Self { hall, listeners, scratch };
        house.listeners.listen(SETTLE, SILENCE, |_| Ok(()))?;
        Ok(house)
    }

    pub fn round(&mut self, options: &Options, talk: Talk) -> anyhow::Result<Round> {
        Round::of(&self.hall.process, &mut self.listeners, options.time(), talk)
    }
}

fn hall(options: &Options, settings: &[(&str, &str)]) -> anyhow::Result<(Hall, Scratch)> {
    let scratch = Scratch::new()?;
    let mut all = vec![("ROOM__CHAT_PER_SECOND", "0"), ("FANOUT__SHARDS", "1"), ("MEDIA__WORKERS", "1")];
    all.extend(settings);
    all.extend(options.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    Ok((Hall::open(&options.maishou()?, scratch.path(), CORE, &all)?, scratch))
}

pub fn dialect(hall: &Hall, people: usize) -> anyhow::Result<Dialect> {
    Ok(Dialect::Maishou { room: hall.room.clone(), tokens: Arc::new(hall.audience(people)?), epoch: None })
}

/// A rival with everybody in.
pub fn rival(options: &Options, name: &str) -> anyhow::Result<(Child, Listeners)> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--rival", name, "--address", &address.to_string()]);
    let mut server = Child::start_on(CORE, &mut command)?;
    server.wait_for(address)?;
    let mut listeners = Listeners::arrive(Dialect::Plain, address, options.listeners)?;
    listeners.publish_at(address, address)?;
    Ok((server, listeners))
}

pub fn chat(options: &Options) -> anyhow::Result<()> {
    println!("\nComments in one room, {} viewers, the whole server on one core", options.listeners);
    let mut house = House::open(options, &[])?;
    for rate in &options.rates {
        let rounds: Result<Vec<_>, _> = (0..options.rounds).map(|_| house.round(options, comments(*rate))).collect();
        tell(&format!("{rate} comments a second"), &rounds?);
    }
    Ok(())
}

pub fn single(options: &Options) -> anyhow::Result<()> {
    let per_second = 50_000.0 / options.listeners as f64;
    println!("\nOne message at a time, {} listeners, {per_second} a second", options.listeners);
    let mut medians = Vec::new();
    {
        let mut house = House::open(options, &[])?;
        let talk = comments(per_second);
        let rounds: Result<Vec<_>, _> = (0..options.rounds).map(|_| house.round(options, talk)).collect();
        medians.push(tell("maishou", &rounds?));
    }
    if options.ours_only {
        return Ok(());
    }
    for (name, title) in [("task-each", "tokio-tungstenite, tasks"), ("bare-loop", "a bare send loop")] {
        let (server, mut listeners) = rival(options, name)?;
        let talk = messages(per_second);
        let mut rounds = Vec::new();
        for _ in 0..options.rounds {
            rounds.push(Round::of(&server, &mut listeners, options.time(), talk)?);
        }
        medians.push(tell(title, &rounds));
    }
    println!(
        "  CPU of a delivery: {:.2} of tokio-tungstenite's (at most 0.75), {:.2} of the bare loop's (at most 1.55)",
        medians[0] / medians[1],
        medians[0] / medians[2]
    );
    Ok(())
}

pub fn idle(options: &Options) -> anyhow::Result<()> {
    println!("\n{} viewers of a silent room", options.listeners);
    let (hall, _scratch) = hall(options, &[])?;
    // The second half is reckoned: what arriving itself takes, which stays with the process, is there by then.
    let (mut tokens, half) = (hall.audience(options.listeners)?, options.listeners / 2);
    let mut come = |count: usize| {
        let tokens = Arc::new(tokens.split_off(tokens.len() - count));
        let mut listeners =
            Listeners::arrive(Dialect::Maishou { room: hall.room.clone(), tokens, epoch: None }, hall.address, count)?;
        listeners.listen(SETTLE, SILENCE, |_| Ok(()))?;
        anyhow::Ok((listeners, hall.process.memory()?))
    };
    let (first, before) = come(options.listeners - half)?;
    let (second, after) = come(half)?;
    println!("  {:.2} KiB a viewer in user space", (after - before) as f64 / half as f64 / 1024.0);
    let mut listeners = first.and(second)?;
    let round = Round::of(&hall.process, &mut listeners, IDLE, SILENCE)?;
    let cpu = round.cpu.as_secs_f64() * 1e6 / round.took.as_secs_f64() / options.listeners as f64;
    println!("  {cpu:.2} us of CPU a second and viewer ({} reads, broken {})", round.heard.reads, round.heard.broken);
    Ok(())
}

pub fn arrive(options: &Options) -> anyhow::Result<()> {
    println!("\n{} viewers arrive as fast as the server takes them", options.listeners);
    for (title, joins) in [("upgrade alone", false), ("upgrade, token, join, snapshot", true)] {
        let (mut cpus, mut rates) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            let (hall, _scratch) = hall(options, &[])?;
            let dialect = if joins {
                dialect(&hall, options.listeners)?
            } else {
                Dialect::Maishou { room: hall.room.clone(), tokens: Arc::default(), epoch: None }
            };
            let (before, began) = (hall.process.cpu_time()?, Instant::now());
            let listeners = Listeners::arrive(dialect, hall.address, options.listeners)?;
            let took = began.elapsed();
            let cpu = hall.process.cpu_time()?.saturating_sub(before);
            cpus.push(cpu.as_secs_f64() * 1e6 / options.listeners as f64);
            rates.push(options.listeners as f64 / took.as_secs_f64());
            drop(listeners);
        }
        let cpu = median(cpus);
        println!("  {title:<32} {:>7.0}/s   {cpu:>5.1} us of CPU each: {:.0}/s a core", median(rates), 1e6 / cpu);
    }
    Ok(())
}

pub fn stall(options: &Options) -> anyhow::Result<()> {
    let stalled = options.listeners / 20;
    println!("\n{} viewers, of whom {stalled} read nothing, at 100 comments a second", options.listeners);
    for _ in 0..options.rounds.max(5) {
        let mut house = House::open(options, &[("FANOUT__STALL_SECONDS", "600")])?;
        let well = house.round(options, comments(100.0))?;
        house.listeners.stall(stalled)?;
        let before = house.hall.process.memory()?;
        let ill = house.round(options, comments(100.0))?;
        println!(
            "  p99 {:.1} ms, with the stalled {:.1} ms; {:.1} KiB more in user space for each of them",
            well.p99_ms(),
            ill.p99_ms(),
            (house.hall.process.memory()?.saturating_sub(before)) as f64 / 1024.0 / stalled as f64
        );
    }
    Ok(())
}

/// Where a peer listens.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Our server, allowed as much of the core as its peers take.
pub fn ours(options: &Options, rates: &[f64]) -> anyhow::Result<(f64, Vec<Round>)> {
    let (hall, _scratch) = hall(options, &[("FANOUT__SWEEP_PERCENT", "90")])?;
    let before = hall.process.memory()?;
    let mut listeners = Listeners::arrive(dialect(&hall, options.listeners)?, hall.address, options.listeners)?;
    listeners.listen(SETTLE, SILENCE, |_| Ok(()))?;
    let memory = (hall.process.memory()? - before) as f64 / options.listeners as f64;
    let rounds: Result<Vec<_>, _> =
        rates.iter().map(|rate| Round::of(&hall.process, &mut listeners, options.time(), comments(*rate))).collect();
    Ok((memory, rounds?))
}
