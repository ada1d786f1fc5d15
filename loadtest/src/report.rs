use std::{collections::BTreeMap, fmt, process, time::Duration};

use hdrhistogram::Histogram;
use maishou::{id::SkuId, protocol::StockCount};
use serde::Serialize;

use crate::{
    outcomes::Outcomes,
    people::Deeds,
    process::{cpu_time, memory_kib},
    scenario::Scenario,
    stage::Stage,
    tally::Tally,
};

/// What was measured, and what was not as it must be.
#[derive(Debug, Serialize)]
pub struct Report {
    pub scenario: String,
    pub seconds: f64,
    pub viewers: usize,
    pub joined: u64,
    pub lost: u64,
    pub closes: BTreeMap<u16, u64>,
    pub frames: u64,
    pub frames_per_second: f64,
    /// Events that reached a viewer, from the sampled viewers extended to all.
    pub deliveries_per_second: f64,
    pub bytes_per_second: f64,
    pub snapshots: u64,
    pub latency_ms: Quantiles,
    pub comments: Command,
    pub holds: Command,
    pub cancels: Command,
    pub pins: Command,
    /// Presses in the rush, and payments after them.
    pub rush: Command,
    pub rush_orders: Command,
    pub stock: BTreeMap<SkuId, Stock>,
    pub resources: Resources,
    /// Proofs and targets that do not hold. Empty is good.
    pub failures: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// How one kind of command was answered.
#[derive(Debug, Serialize)]
pub struct Command {
    pub outcomes: BTreeMap<String, u64>,
    pub answered_ms: Quantiles,
}

/// One SKU before and after, and the holds on it that our buyers were given and still have.
#[derive(Debug, Serialize)]
pub struct Stock {
    pub before: StockCount,
    pub after: StockCount,
    pub acknowledged: u64,
}

/// What the processes used.
#[derive(Debug, Default, Serialize)]
pub struct Resources {
    #[serde(skip)]
    pid: Option<u32>,
    #[serde(skip)]
    memory_before_kib: u64,
    #[serde(skip)]
    cpu: [Duration; 2],
    /// Resident memory that each viewer added to the server, without the kernel's part.
    pub server_kib_per_viewer: Option<f64>,
    /// Cores that the server kept busy while it was measured.
    pub server_cores: Option<f64>,
    pub own_cores: f64,
    #[serde(skip)]
    began: Option<std::time::Instant>,
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>, per_ms: f64) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / per_ms;
        if histogram.is_empty() {
            return Self::default();
        }
        let (count, max) = (histogram.len(), histogram.max() as f64 / per_ms);
        Self { count, p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

impl Command {
    fn of(outcomes: &Outcomes) -> Self {
        Self { outcomes: outcomes.counts.clone(), answered_ms: Quantiles::of(&outcomes.latency, 1_000.0) }
    }
}

impl Resources {
    pub fn before(pid: Option<u32>) -> anyhow::Result<Self> {
        let memory_before_kib = pid.map(memory_kib).transpose()?.unwrap_or(0);
        Ok(Self { pid, memory_before_kib, ..Self::default() })
    }

    pub fn arrived(&mut self, viewers: usize) -> anyhow::Result<()> {
        let Some(pid) = self.pid else { return Ok(()) };
        let added = memory_kib(pid)?.saturating_sub(self.memory_before_kib);
        self.server_kib_per_viewer = Some(added as f64 / viewers.max(1) as f64);
        Ok(())
    }

    pub fn begin(&mut self) -> anyhow::Result<()> {
        self.cpu = self.used()?;
        self.began = Some(std::time::Instant::now());
        Ok(())
    }

    pub fn end(&mut self) -> anyhow::Result<()> {
        let elapsed = self.began.map_or(1.0, |began| began.elapsed().as_secs_f64());
        let [own, server] = self.used()?;
        self.own_cores = own.saturating_sub(self.cpu[0]).as_secs_f64() / elapsed;
        self.server_cores = self.pid.map(|_| server.saturating_sub(self.cpu[1]).as_secs_f64() / elapsed);
        Ok(())
    }

    fn used(&self) -> anyhow::Result<[Duration; 2]> {
        Ok([cpu_time(process::id())?, self.pid.map(cpu_time).transpose()?.unwrap_or_default()])
    }
}

impl Report {
    #[expect(clippy::too_many_arguments, reason = "all that a run produced, once")]
    pub fn of(
        scenario: &Scenario,
        stage: &Stage,
        measured: Duration,
        tally: Tally,
        deeds: &Deeds,
        seq: u64,
        after: &BTreeMap<SkuId, StockCount>,
        resources: Resources,
    ) -> Self {
        let seconds = measured.as_secs_f64();
        let sampled_part = tally.sampled as f64 / scenario.viewers.max(1) as f64;
        let latency = tally.latency.as_ref();
        let stock = stage.stock.iter().map(|(sku, before)| {
            let after = after.get(sku).copied().unwrap_or_default();
            let acknowledged = deeds.open.get(sku).copied().unwrap_or(0) + tally.rush.holds.count("ok");
            (sku.clone(), Stock { before: *before, after, acknowledged })
        });
        let mut report = Self {
            scenario: scenario.name.clone(),
            seconds,
            viewers: scenario.viewers,
            joined: tally.joined,
            lost: tally.lost,
            frames: tally.frames,
            frames_per_second: tally.frames as f64 / seconds,
            deliveries_per_second: tally.sampled_events as f64 / sampled_part.max(f64::MIN_POSITIVE) / seconds,
            bytes_per_second: tally.bytes as f64 / seconds,
            snapshots: tally.snapshots,
            latency_ms: latency.map(|latency| Quantiles::of(latency, 1.0)).unwrap_or_default(),
            comments: Command::of(&deeds.comments),
            holds: Command::of(&deeds.holds),
            cancels: Command::of(&deeds.cancels),
            pins: Command::of(&deeds.pins),
            rush: Command::of(&tally.rush.holds),
            rush_orders: Command::of(&tally.rush.orders),
            stock: stock.collect(),
            closes: tally.closes.clone(),
            resources,
            failures: Vec::new(),
        };
        report.prove(scenario, stage, &tally, deeds, seq);
        report.compare(scenario);
        report
    }

    /// What must be true of every run.
    fn prove(&mut self, scenario: &Scenario, stage: &Stage, tally: &Tally, deeds: &Deeds, seq: u64) {
        let mut fail = |so: bool, why: String| {
            if so {
                self.failures.push(why);
            }
        };
        fail(tally.gaps > 0, format!("{} frames left a gap: {:?}", tally.gaps, tally.examples));
        fail(tally.strange > 0, format!("{} messages are not of the protocol: {:?}", tally.strange, tally.examples));
        fail(tally.refused > 0, format!("{} viewers were refused", tally.refused));
        let lost_max = scenario.targets.lost_max as u64;
        fail(tally.lost > lost_max, format!("{} viewers were lost, {lost_max} may be", tally.lost));
        // In a room of others something always happens, and nobody stands still.
        let elsewhere: u64 = tally.cursors.iter().filter(|(at, _)| **at != seq).map(|(_, count)| count).sum();
        fail(stage.is_ours && elsewhere > 0, format!("{elsewhere} viewers do not stand at event {seq} in the end"));
        let is_busy = scenario.comments.per_second > 0.0;
        fail(is_busy && tally.frames == 0, "nobody heard anything".to_owned());
        fail(is_busy && deeds.comments.count("ok") == 0, "no comment was accepted".to_owned());
        let is_buying = scenario.holds.per_second > 0.0;
        fail(is_buying && deeds.holds.count("ok") == 0, "no hold was accepted".to_owned());
        fail(scenario.pins.every_seconds > 0 && deeds.pins.count("ok") == 0, "no pin was accepted".to_owned());

        self.prove_rush(scenario, tally);
        let no_answers = deeds.holds.count("no_answer") + deeds.cancels.count("no_answer");
        for (sku, stock) in &self.stock {
            let total = |count: &StockCount| count.available + count.held + count.sold;
            let (before, after) = (total(&stock.before), total(&stock.after));
            if before != after {
                self.failures.push(format!("{sku}: {before} pieces became {after}"));
            }
            let taken = stock.after.held + stock.after.sold;
            if taken < stock.acknowledged {
                self.failures.push(format!("{sku}: {} holds were acknowledged, {taken} are kept", stock.acknowledged));
            }
            if stage.is_ours && no_answers == 0 && taken != stock.acknowledged {
                self.failures.push(format!("{sku}: {} holds were acknowledged, {taken} are taken", stock.acknowledged));
            }
        }
    }

    /// Everybody was answered, each piece was sold once, and all of them were.
    fn prove_rush(&mut self, scenario: &Scenario, tally: &Tally) {
        let rush = &scenario.rush;
        if rush.buyers == 0 {
            return;
        }
        let (holds, orders) = (&tally.rush.holds, &tally.rush.orders);
        let (answered, won, pieces) = (holds.total(), holds.count("ok"), scenario.holds.stock);
        if answered != rush.buyers as u64 {
            self.failures.push(format!("{answered} of {} who pressed were answered", rush.buyers));
        }
        if scenario.holds.per_second <= 0.0 && won != pieces.min(rush.buyers as u64) {
            self.failures.push(format!("{won} won {pieces} pieces"));
        }
        if rush.pays && (orders.count("ok") != won || orders.total() != won) {
            self.failures.push(format!("{won} won, and their payments were answered {:?}", orders.counts));
        }
        let sold: u64 = self.stock.values().map(|stock| stock.after.sold).sum();
        if rush.pays && sold != won {
            self.failures.push(format!("{won} won and paid, {sold} pieces are sold"));
        }
    }

    fn compare(&mut self, scenario: &Scenario) {
        let targets = &scenario.targets;
        for (what, target, measured) in [
            ("latency p99", targets.latency_p99_ms, self.latency_ms.p99),
            ("latency p99.9", targets.latency_p999_ms, self.latency_ms.p999),
            ("hold p99", targets.hold_p99_ms, self.holds.answered_ms.p99),
            ("rush p99", targets.rush_p99_ms, self.rush.answered_ms.p99),
        ] {
            if let Some(target) = target.filter(|target| measured > *target) {
                self.failures.push(format!("{what} is {measured:.1} ms, the target {target} ms"));
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({:.1} s)", self.scenario, self.seconds)?;
        writeln!(
            f,
            "  viewers        {} of {} in, {} lost, {} snapshots",
            self.joined, self.viewers, self.lost, self.snapshots
        )?;
        if !self.closes.is_empty() {
            writeln!(f, "  closes         {:?}", self.closes)?;
        }
        writeln!(
            f,
            "  delivered      {:.0} events/s in {:.0} frames/s, {:.2} MB/s",
            self.deliveries_per_second,
            self.frames_per_second,
            self.bytes_per_second / 1e6
        )?;
        writeln!(f, "  event latency  {}", self.latency_ms)?;
        for (name, command) in [
            ("comments", &self.comments),
            ("holds", &self.holds),
            ("cancels", &self.cancels),
            ("pins", &self.pins),
            ("rush", &self.rush),
            ("rush orders", &self.rush_orders),
        ] {
            if !command.outcomes.is_empty() {
                writeln!(f, "  {name:<14} {}; {:?}", command.answered_ms, command.outcomes)?;
            }
        }
        for (sku, stock) in self.stock.iter().filter(|(_, stock)| stock.acknowledged > 0) {
            let StockCount { available, held, sold, .. } = stock.after;
            writeln!(f, "  {sku}: {available} available, {held} held, {sold} sold; ours {}", stock.acknowledged)?;
        }
        self.resources.fmt(f)?;
        match self.failures.as_slice() {
            [] => write!(f, "  every proof and target holds"),
            failures => failures.iter().try_for_each(|failure| writeln!(f, "  FAILED: {failure}")),
        }
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(kib), Some(cores)) = (self.server_kib_per_viewer, self.server_cores) {
            writeln!(f, "  server         {kib:.1} KiB for each viewer, {cores:.2} cores")?;
        }
        writeln!(f, "  ourselves      {:.2} cores", self.own_cores)
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, p50, p90, p99, p999, max } = self;
        write!(f, "p50 {p50:.1} p90 {p90:.1} p99 {p99:.1} p99.9 {p999:.1} max {max:.1} ms of {count}")
    }
}
