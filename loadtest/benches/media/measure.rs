//! The measurements of our server.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use maishou::protocol::Role;
use maishou_loadtest::{
    hall::Hall,
    process,
    rtc::{Anchor, AnchorPlan, Audience, Plan, Shape, Tally, Whep},
    server::Child,
};

use crate::{Options, floor, rivals, scratch::Scratch};

/// The server's core; the viewers have the other.
pub const CORE: usize = 0;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long everybody may take to see a picture.
const GATHERING_MAX: Duration = Duration::from_secs(40);
const SETTLE: Duration = Duration::from_millis(1_500);
/// The arrivals of a measurement that is not about them.
pub const ARRIVALS: f64 = 400.0;
/// As the issue that this is measured for has it.
const MANY: usize = 2_500;
const JOINS_PER_SECOND: f64 = 200.0;
/// As many as a core serves with a show running, which is when memory counts.
const REMEMBERED: usize = 1_200;
const JOINS: usize = 1_200;
/// In this time the server has let go of what it needed for their handshakes.
const TO_REST: Duration = Duration::from_secs(4);

/// Our server, with a show in it or before one.
pub struct House {
    pub hall: Hall,
    anchor: Option<Anchor>,
    _scratch: Scratch,
}

impl House {
    pub fn open(options: &Options, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut house = Self::silent(options, settings)?;
        let hall = &house.hall;
        let (server, room, token) = (hall.address, hall.room.clone(), hall.token(Role::Anchor, "anchor")?);
        let anchor = Anchor::start(AnchorPlan { server, room, token, shape: Shape::default() })?;
        until("the anchor is connected", || Ok(anchor.is_live()))?;
        house.anchor = Some(anchor);
        Ok(house)
    }

    /// The same before the show: viewers wait.
    pub fn silent(options: &Options, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let mut all = vec![("FANOUT__SHARDS", "1"), ("MEDIA__WORKERS", "1")];
        all.extend(settings);
        all.extend(options.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let hall = Hall::open(&options.maishou()?, scratch.path(), CORE, &all)?;
        Ok(Self { hall, anchor: None, _scratch: scratch })
    }

    pub fn plan(&self, viewers: usize) -> anyhow::Result<Plan> {
        let door = Whep::new(self.hall.address, &self.hall.room, self.hall.audience(viewers)?);
        let mut plan = Plan::new(Arc::new(door), self.hall.address.ip(), viewers);
        plan.arrivals_per_second = ARRIVALS;
        Ok(plan)
    }
}

/// Looks again and again until it holds, for as long as an audience may take to gather.
pub fn until(what: &str, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + GATHERING_MAX;
    while !holds()? {
        ensure!(Instant::now() < deadline, "{what}: not within {GATHERING_MAX:?}");
        thread::park_timeout(LOOK_EVERY);
    }
    Ok(())
}

/// Lets everybody in and waits until all see a picture.
pub fn gather(plan: Plan) -> anyhow::Result<Audience> {
    let viewers = plan.viewers as u64;
    let audience = Audience::start(plan)?;
    let mut tally = Tally::default();
    let gathered = until("everybody watches", || {
        tally = audience.tally()?;
        ensure!(tally.refused == 0, "offers are refused: {:?}", tally.examples);
        Ok(tally.watching == viewers)
    });
    gathered.map_err(|error| {
        error.context(format!("{} joined, {} watch, {:?}", tally.joined, tally.watching, tally.examples))
    })?;
    pass(SETTLE);
    Ok(audience)
}

pub fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

/// One round's figures.
pub struct Round {
    pub tally: Tally,
    pub took: Duration,
    pub cpu: Duration,
    /// Our own: near a whole core it is us who are measured.
    pub own_cpu: Duration,
}

impl Round {
    pub fn of(server: &Child, audience: &Audience, time: Duration) -> anyhow::Result<Self> {
        let own = || process::cpu_time(std::process::id());
        audience.take()?;
        let (before, own_before, began) = (server.cpu_time()?, own()?, Instant::now());
        pass(time);
        let (cpu, own_cpu) = (server.cpu_time()?.saturating_sub(before), own()?.saturating_sub(own_before));
        let took = began.elapsed();
        Ok(Self { tally: audience.take()?, took, cpu, own_cpu })
    }

    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.tally.packets.max(1) as f64
    }

    pub fn core(&self) -> f64 {
        self.cpu.as_secs_f64() / self.took.as_secs_f64() * 100.0
    }
}

pub fn rounds(options: &Options, server: &Child, audience: &Audience) -> anyhow::Result<Vec<Round>> {
    (0..options.rounds).map(|_| Round::of(server, audience, options.time())).collect()
}

/// Rounds of one subject, told in medians.
pub fn tell(name: &str, rounds: &[Round]) -> f64 {
    let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let all: Vec<String> = rounds.iter().map(|round| format!("{:.2}", round.cpu_us())).collect();
    println!(
        "  {name:<26} {:>7.0} packets/s   {:>5.2} us each ({})   {:>5.1} % of a core   delay p50 {:>5.1} p99 {:>5.1} ms   \
         lost {}   broken {}   freezes {}   viewers {:>3.0} %",
        of(|round| round.tally.packets as f64 / round.took.as_secs_f64()),
        of(Round::cpu_us),
        all.join(" "),
        of(Round::core),
        of(|round| round.tally.delay.ms_at(0.5)),
        of(|round| round.tally.delay.ms_at(0.99)),
        rounds.iter().map(|round| round.tally.lost()).sum::<u64>(),
        rounds.iter().map(|round| round.tally.broken + round.tally.undecodable).sum::<u64>(),
        rounds.iter().map(|round| round.tally.freezes).sum::<u64>(),
        of(|round| round.own_cpu.as_secs_f64() / round.took.as_secs_f64() * 100.0),
    );
    of(Round::cpu_us)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn packets(options: &Options) -> anyhow::Result<()> {
    println!("\nCPU of a forwarded packet (1,200 bytes at 30 x 4 and sound at 50 a second, AES-GCM), one core");
    for viewers in &options.viewers {
        let house = House::open(options, &[])?;
        let audience = gather(house.plan(*viewers)?)?;
        tell(&format!("maishou, {viewers} viewers"), &rounds(options, &house.hall.process, &audience)?);
        audience.stop()?;
    }
    Ok(())
}

/// What forwarding cannot be cheaper than.
pub fn floor(options: &Options) -> anyhow::Result<()> {
    println!("\nThe floor: copy, seal, segmented send to plain sockets");
    options.viewers.iter().try_for_each(|viewers| floor::measure(options, *viewers).map(drop))
}

/// The same forwarding by libraries.
pub fn rivals(options: &Options) -> anyhow::Result<()> {
    if options.ours_only {
        return Ok(());
    }
    println!("\nThe same viewers, served by a library");
    let viewers = options.viewers.iter().copied().min().unwrap_or(400);
    rivals::compare(options, viewers)
}

pub fn delay(options: &Options) -> anyhow::Result<()> {
    println!("\n{MANY} viewers of 1.2 Mb/s on one core");
    let house = House::open(options, &[])?;
    let audience = gather(house.plan(MANY)?)?;
    tell("maishou", &rounds(options, &house.hall.process, &audience)?);
    let tally = audience.stop()?;
    ensure!(tally.failed == 0, "{} viewers fell out: {:?}", tally.failed, tally.examples);
    Ok(())
}

pub fn joins(options: &Options) -> anyhow::Result<()> {
    println!("\n{JOINS} joins at {JOINS_PER_SECOND} a second, keyframes each two seconds");
    let (mut cpus, mut tallies) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let house = House::open(options, &[])?;
        let mut plan = house.plan(JOINS)?;
        plan.arrivals_per_second = JOINS_PER_SECOND;
        let tally = gather(plan)?.stop()?;
        tallies.push(tally);
        cpus.push(join_cpu(options)?);
    }
    for (name, times) in [
        ("answer", tallies.iter().map(|tally| &tally.answer).collect::<Vec<_>>()),
        ("first packet", tallies.iter().map(|tally| &tally.first_packet).collect()),
        ("first picture", tallies.iter().map(|tally| &tally.first_picture).collect()),
    ] {
        let of = |quantile| median(times.iter().map(|times| times.ms_at(quantile)).collect());
        println!("  from POST to {name:<14} p50 {:>6.1} ms   p99 {:>6.1} ms", of(0.5), of(0.99));
    }
    let cpu = median(cpus);
    println!("  {cpu:.3} ms of CPU a join, all of the server, nothing published: {:.0}/s a core", 1e3 / cpu);
    Ok(())
}

/// Milliseconds of the server's CPU for a join, in a room where nothing is sent.
fn join_cpu(options: &Options) -> anyhow::Result<f64> {
    let house = House::silent(options, &[])?;
    let (before, plan) = (house.hall.process.cpu_time()?, house.plan(JOINS)?);
    let audience = Audience::start(plan)?;
    until("everybody is in", || Ok(audience.tally()?.inside == JOINS as u64))?;
    let cpu = house.hall.process.cpu_time()?.saturating_sub(before);
    audience.stop()?;
    Ok(cpu.as_secs_f64() * 1e3 / JOINS as f64)
}

pub fn memory(options: &Options) -> anyhow::Result<()> {
    println!("\nMemory of a viewer, {REMEMBERED} of them; the second half is reckoned");
    for (name, channel) in [("without data channel", false), ("with data channel", true)] {
        let house = House::open(options, &[])?;
        let come = |half: usize| {
            let mut plan = house.plan(half)?;
            plan.wishes.channel = channel;
            let audience = gather(plan)?;
            if channel {
                until("all channels are open", || Ok(audience.tally()?.channels == half as u64))?;
            }
            pass(TO_REST);
            anyhow::Ok((audience, house.hall.process.memory()?))
        };
        let (first, before) = come(REMEMBERED / 2)?;
        let (second, after) = come(REMEMBERED / 2)?;
        println!("  {name:<24} {:>5.1} KiB", (after.saturating_sub(before)) as f64 / 1024.0 / (REMEMBERED / 2) as f64);
        first.stop()?;
        second.stop()?;
    }
    Ok(())
}
