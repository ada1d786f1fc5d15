//! After the curtain: what was lost is asked for, what was told is proved, and all of it is written down.

use std::{collections::BTreeMap, time::Duration};

use maishou::client::{Config, Http};

use crate::{
    callers::Callers,
    crowd::{
        Outcome,
        deeds::{Deeds, Fate},
    },
    hist::{Class, Latencies},
    hosts::Ledgered,
    proof::{self, Chains, Proof},
    report::{self, Clocks, Funnel, Own, PhaseReport, Quantiles, Report, Stock, Used, VERSION, VideoReport},
    scenario::Scenario,
    stage::Stage,
    tally::{OwnPace, Tally},
    timeline::Timeline,
    venue::Venue,
};

/// A run that is over.
pub(crate) struct Ended {
    pub scenario: Scenario,
    pub began_at: i64,
    pub seconds: f64,
    pub interrupted: bool,
    pub crowds: Vec<Outcome>,
    pub hosted: Ledgered,
    pub timeline: Timeline,
    pub clocks: Clocks,
    /// CPU time of us and the server, before and after, and the memory in KiB that the audience added to the server.
    pub used: ([Duration; 2], [Duration; 2], u64),
    pub video: Option<VideoReport>,
}

/// Proves what can be proved, and writes the report.
pub(crate) async fn finish(ended: Ended, venue: Venue, stage: &Stage) -> anyhow::Result<Report> {
    let mut tally = Tally::default();
    ended.crowds.iter().for_each(|crowd| tally.add(&crowd.tally));
    tally.add(&ended.hosted.notes.tally);

    let http = Http::new(venue.server.clone(), Config::default());
    let callers = Callers { http, room: &stage.room, tokens: &venue.tokens };
    let mut deeds = Deeds::default();
    ended.crowds.iter().for_each(|crowd| deeds.add(crowd.deeds.clone()));
    let (mut proofs, chains) = prove(&ended, &tally, &mut deeds, stage, &callers).await;
    if let Err(error) = stage.clear().await {
        eprintln!("{error:#}");
    }
    let server = venue.name.clone();
    let pid = venue.pid;
    proofs.push(tape(&ended, venue, stage));
    Ok(write(ended, tally, &deeds, proofs, &chains, stage, server, pid))
}

async fn prove(
    ended: &Ended,
    tally: &Tally,
    deeds: &mut Deeds,
    stage: &Stage,
    callers: &Callers<'_>,
) -> (Vec<Proof>, Chains) {
    let mut proofs = vec![proof::frames(&ended.crowds)];
    if !stage.is_ours() {
        for name in ["state", "answers", "orders", "stock", "private"] {
            proofs.push(Proof::none(name, "the room is not of this run: others act in it too"));
        }
        return (proofs, Chains::new());
    }
    proofs.push(match stage.snapshot().await {
        Ok(snapshot) => proof::state(&ended.crowds, &snapshot),
        Err(error) => Proof::failed("state", &error),
    });
    proofs.push(proof::answers(deeds, tally.open, callers).await);
    let (stock, chains) = stock(ended, deeds, stage, callers).await;
    let merchant = stage.merchant.as_ref().map(|merchant| &merchant.0);
    let merchant = merchant.expect("a room of ours has a merchant");
    proofs.push(
        proof::orders(deeds, ended.began_at - 60_000, merchant, callers)
            .await
            .unwrap_or_else(|error| Proof::failed("orders", &error)),
    );
    proofs.push(stock);
    proofs.push(proof::private(&ended.crowds, callers).await.unwrap_or_else(|error| Proof::failed("private", &error)));
    (proofs, chains)
}

/// Looks a second time when something differs: a hold may have expired meanwhile.
async fn stock(ended: &Ended, deeds: &mut Deeds, stage: &Stage, callers: &Callers<'_>) -> (Proof, Chains) {
    let Ledgered { added, unsure, .. } = &ended.hosted;
    let mut last = (Proof::none("stock", "it was not looked at"), Chains::new());
    for _ in 0..2 {
        let missing = proof::refresh(deeds, callers).await;
        last = match proof::chains(stage.open(), stage.opening.keys()).await {
            Ok(chains) => (proof::stock(&chains, &stage.opening, added, *unsure, deeds, &missing), chains),
            Err(error) => (Proof::failed("stock", &error), Chains::new()),
        };
        if last.0.held == Some(true) {
            break;
        }
    }
    last
}

/// The tape is whole once our server has ended.
fn tape(ended: &Ended, mut venue: Venue, stage: &Stage) -> Proof {
    let Some(house) = &mut venue.house else {
        return Proof::none("tape", "it is on the server's disk, which is not ours to read");
    };
    let read = house.close().and_then(|()| proof::tape(&ended.crowds, &house.tape().join(stage.room.to_string())));
    read.unwrap_or_else(|error| Proof::failed("tape", &error))
}

#[expect(clippy::too_many_arguments, reason = "all that a run produced, once")]
fn write(
    ended: Ended,
    tally: Tally,
    deeds: &Deeds,
    proofs: Vec<Proof>,
    chains: &Chains,
    stage: &Stage,
    server: Option<String>,
    pid: Option<u32>,
) -> Report {
    let phases = phases(&ended);
    let mut histograms = Latencies::default();
    phases.iter().for_each(|latencies| histograms.add(latencies));
    let all = report::quantiles(&histograms);
    let (before, after, memory_kib) = ended.used;
    let cores = |at: usize| after[at].saturating_sub(before[at]).as_secs_f64() / ended.seconds;
    let server_used = pid.map(|_| Used {
        cores: cores(1),
        memory_mb: ended.timeline.newest_sample().and_then(|sample| sample.server_mb).unwrap_or(0.0),
        kib_per_viewer: memory_kib as f64 / (ended.scenario.readers() + ended.scenario.audience.webrtc).max(1) as f64,
    });
    let own = own(&ended.crowds, cores(0));
    let names = ended.scenario.phases.iter().zip(&phases);
    let mut report = Report {
        version: VERSION,
        server,
        began_at: ended.began_at,
        seconds: ended.seconds,
        interrupted: ended.interrupted,
        passed: false,
        self_measured: report::self_measured(&own, &tally),
        proofs,
        targets: report::targets(
            &ended.scenario.targets,
            &all,
            &tally,
            server_used.map(|used| used.cores),
            ended.video.as_ref(),
        ),
        phases: names
            .map(|(phase, latencies)| PhaseReport {
                name: phase.name.clone(),
                seconds: phase.seconds,
                latencies: report::quantiles(latencies),
            })
            .collect(),
        all,
        histograms,
        funnel: funnel(&tally, deeds),
        stock: stocks(stage, &ended.hosted, chains),
        timeline: ended.timeline.points(&ended.scenario),
        own,
        clocks: ended.clocks,
        video: ended.video,
        server_used,
        totals: tally,
        scenario: ended.scenario,
    };
    report.judge();
    report
}

/// The latencies of each phase, of crowds and hosts together.
fn phases(ended: &Ended) -> Vec<Latencies> {
    let mut phases = vec![Latencies::default(); ended.scenario.phases.len()];
    let crowds = ended.crowds.iter().map(|crowd| &crowd.phases);
    for of in crowds.chain([&ended.hosted.notes.phases]) {
        phases.iter_mut().zip(of).for_each(|(sum, part)| sum.add(part));
    }
    phases
}

fn own(crowds: &[Outcome], cores: f64) -> Own {
    let mut pace = OwnPace::default();
    crowds.iter().for_each(|crowd| pace.add(&crowd.pace));
    let OwnPace { late, turns, waited, busy } = pace;
    Own { late: Quantiles::of(&late), turns: Quantiles::of(&turns), crowd_cores: busy, crowd_waited: waited, cores }
}

fn funnel(tally: &Tally, deeds: &Deeds) -> Funnel {
    let holds = tally.outcomes.get(Class::Hold.name());
    let presses = holds.map_or(0, |holds| holds.values().sum());
    let fate = |fate: Fate| deeds.bought.iter().filter(|bought| bought.state == fate).count() as u64;
    let (held, sold_out) = (deeds.bought.len() as u64, tally.count(Class::Hold, "sold_out"));
    Funnel {
        looks: tally.count(Class::Look, "ok"),
        presses,
        held,
        sold_out,
        refused: presses.saturating_sub(held + sold_out),
        paid: fate(Fate::Paid),
        cancelled: fate(Fate::Cancelled),
        expired: fate(Fate::Expired),
        open: fate(Fate::Held),
    }
}

fn stocks(stage: &Stage, hosted: &Ledgered, chains: &Chains) -> BTreeMap<String, Stock> {
    let stocks = stage.opening.iter().map(|(sku, opening)| {
        let count = chains.get(sku).and_then(|chain| chain.as_ref().ok()).copied().unwrap_or_default();
        let added = hosted.added.get(sku).copied().unwrap_or(0);
        let (available, held, sold) = (count.available, count.held, count.sold);
        (sku.to_string(), Stock { opening: *opening, added, available, held, sold })
    });
    stocks.collect()
}
