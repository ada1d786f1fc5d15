//! Holds that expire: how late at 10,000 a second, and what others feel when far more expire at once.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::ensure;
use maishou::{
    clock::Clock,
    order::{Config, Desk, Event, Refusal},
    protocol::PrivateBody,
};
use tokio::{
    runtime::Runtime,
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, interval_at, sleep},
};

use crate::{
    scratch::Scratch,
    shop::{self, SKU},
    table::{micros, quantile},
};

const RATE: usize = 10_000;
const RATE_SECONDS: usize = 5;
const AT_ONCE: usize = 200_000;
const OTHERS: usize = 64;
const OTHERS_EVERY: Duration = Duration::from_millis(10);

pub fn bench(runtime: &Runtime, delay: Duration) -> anyhow::Result<()> {
    println!("\nexpiry");
    let late = steady(runtime, delay)?;
    let ms = |late: &[Duration], q| micros(quantile(late, q)) / 1_000.0;
    println!(
        "  {RATE} a second: told (durable) after their time p50 {:.0} ms, p99 {:.0} ms, latest {:.0} ms",
        ms(&late, 0.5),
        ms(&late, 0.99),
        ms(&late, 1.0)
    );
    let (calm, storm, took) = at_once(runtime, delay)?;
    println!(
        "  {AT_ONCE} within a second, gone in {:.1} s: {OTHERS} others hold every {OTHERS_EVERY:?}: p50 {:.1} p99 {:.1} ms (before: {:.1} {:.1} ms)",
        took.as_secs_f64(),
        ms(&storm, 0.5),
        ms(&storm, 0.99),
        ms(&calm, 0.5),
        ms(&calm, 0.99)
    );
    Ok(())
}

fn config(hold_seconds: u32) -> Config {
    Config { hold_seconds, ..shop::config() }
}

/// Holds made at an even pace expire at the same: how long after its time each was told to have expired.
fn steady(runtime: &Runtime, delay: Duration) -> anyhow::Result<Vec<Duration>> {
    let (scratch, clock) = (Scratch::new()?, Clock::start());
    let (to, events) = mpsc::channel(65_536);
    let desk = shop::open_told(&scratch.file("ledger.db"), config(2), delay, clock.clone(), to)?;
    shop::sell(runtime, &desk, SKU, 1 << 40)?;
    let late = runtime.block_on(async {
        let heard = tokio::spawn(hear(events, clock, RATE * RATE_SECONDS));
        let mut tick = interval(Duration::from_millis(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut holds = JoinSet::new();
        for n in 0..RATE * RATE_SECONDS {
            if n.is_multiple_of(RATE / 1_000) {
                tick.tick().await;
            }
            let desk = desk.clone();
            holds.spawn(async move { hold(&desk, SKU).await });
        }
        holds.join_all().await;
        heard.await
    })?;
    desk.shutdown();
    ensure!(late.len() == RATE * RATE_SECONDS, "only {} expiries were told", late.len());
    Ok(late)
}

/// How late each of `count` expiries was heard of, sorted.
async fn hear(mut events: mpsc::Receiver<Event>, clock: Clock, count: usize) -> Vec<Duration> {
    let mut late = Vec::with_capacity(count);
    while late.len() < count {
        let Some(event) = events.recv().await else { break };
        if let Event::Private { told, .. } = event
            && let PrivateBody::HoldExpired { hold } = told.message().body
        {
            late.push(clock.now().since(hold.expires_at));
        }
    }
    late.sort_unstable();
    late
}

/// Somebody holds a piece; a person at her limit makes way for another.
async fn hold(desk: &Desk, sku: &str) {
    loop {
        match desk.hold(shop::request_of(sku)).await {
            Ok(_) => return,
            Err(Refusal::LimitReached { .. }) => {}
            Err(refusal) => panic!("refused: {refusal:?}"),
        }
    }
}

/// What others waited, sorted, before and while very many holds expire; and how long that took.
fn at_once(runtime: &Runtime, delay: Duration) -> anyhow::Result<(Vec<Duration>, Vec<Duration>, Duration)> {
    const HOLD_SECONDS: u32 = 6;
    let scratch = Scratch::new()?;
    let desk = shop::open(runtime, &scratch.file("ledger.db"), config(HOLD_SECONDS), delay, 1 << 40)?;
    shop::sell(runtime, &desk, "storm", 1 << 40)?;

    let (storm, waits) = runtime.block_on(async {
        let first = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..1_000 {
            let desk = desk.clone();
            callers.spawn(async move {
                for _ in 0..AT_ONCE / 1_000 {
                    hold(&desk, "storm").await;
                }
            });
        }
        callers.join_all().await;
        let begins = first + Duration::from_secs(HOLD_SECONDS.into());
        let mut others = JoinSet::new();
        for number in 0..OTHERS {
            let first = Instant::now() + OTHERS_EVERY.mul_f64(number as f64 / OTHERS as f64);
            others.spawn(hold_at_a_pace(desk.clone(), first, begins + Duration::from_secs(3)));
        }
        sleep(begins - Instant::now()).await;
        let sku = "storm".parse().expect("a SKU");
        while desk.count(&sku).is_some_and(|count| count.held > 0) {
            sleep(Duration::from_millis(1)).await;
        }
        (begins..Instant::now(), others.join_all().await.concat())
    });
    desk.shutdown();
    let within = |times: Range<Instant>| {
        let mut within: Vec<Duration> =
            waits.iter().filter(|(at, _)| times.contains(at)).map(|(_, wait)| *wait).collect();
        within.sort_unstable();
        within
    };
    let took = storm.end - storm.start;
    Ok((within(storm.start - Duration::from_secs(2)..storm.start), within(storm), took))
}

/// When each hold was asked for, and how long it waited.
async fn hold_at_a_pace(desk: Desk, first: Instant, until: Instant) -> Vec<(Instant, Duration)> {
    let mut tick = interval_at(first.into(), OTHERS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut waits = Vec::new();
    loop {
        let due = tick.tick().await.into_std();
        if due >= until {
            return waits;
        }
        hold(&desk, SKU).await;
        waits.push((due, due.elapsed()));
    }
}
