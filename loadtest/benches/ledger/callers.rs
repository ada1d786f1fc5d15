//! Callers that ask one after another: how many durable holds a second, and what each costs.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{
            AtomicU8,
            Ordering::{Acquire, Release},
        },
    },
    time::{Duration, Instant},
};

use maishou::order::{Desk, Refusal};
use tokio::{runtime::Runtime, task::JoinSet, time::sleep};

use crate::{
    Options,
    plain_log::PlainLog,
    scratch::Scratch,
    shop,
    table::{Figures, Row, cpu_time, median, print_rows},
};

const WARM: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;
const WARM_UP: Duration = Duration::from_millis(400);

/// Lets `callers` ask until the time is over. `caller` makes one by its number: what it gives is called for each request,
/// and says whether it counts. `cpu` is whose CPU time is told for each.
pub fn ask_in_turn<A, F>(
    runtime: &Runtime,
    callers: usize,
    seconds: f64,
    cpu: &dyn Fn() -> Duration,
    caller: impl Fn(usize) -> A,
) -> Figures
where
    A: Fn() -> F + Send + 'static,
    F: Future<Output = bool> + Send + 'static,
{
    runtime.block_on(async {
        let phase = Arc::new(AtomicU8::new(WARM));
        let mut tasks = JoinSet::new();
        for number in 0..callers {
            let (phase, ask) = (phase.clone(), caller(number));
            tasks.spawn(async move {
                let mut waits = Vec::with_capacity(16_384);
                loop {
                    let (phase_then, started) = (phase.load(Acquire), Instant::now());
                    if phase_then == OVER {
                        return waits;
                    }
                    if ask().await && phase_then == MEASURED {
                        waits.push(started.elapsed());
                    }
                }
            });
        }
        sleep(WARM_UP).await;
        let (started, cpu_before) = (Instant::now(), cpu());
        phase.store(MEASURED, Release);
        sleep(Duration::from_secs_f64(seconds)).await;
        phase.store(OVER, Release);
        let (took, cpu) = (started.elapsed(), cpu() - cpu_before);
        let waits = tasks.join_all().await.concat();
        Figures::new(waits, took, cpu)
    })
}

pub fn desk(runtime: &Runtime, callers: usize, seconds: f64, delay: Duration) -> anyhow::Result<Figures> {
    let scratch = Scratch::new()?;
    let desk = shop::open(runtime, &scratch.file("ledger.db"), shop::config(), delay, 1 << 40)?;
    let figures = ask_in_turn(runtime, callers, seconds, &cpu_time, |_| {
        let desk = desk.clone();
        move || hold(desk.clone())
    });
    desk.shutdown();
    Ok(figures)
}

async fn hold(desk: Desk) -> bool {
    match desk.hold(shop::request()).await {
        Ok(_) => true,
        Err(Refusal::LimitReached { .. }) => false,
        Err(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn plain_log(runtime: &Runtime, callers: usize, seconds: f64, delay: Duration) -> anyhow::Result<Figures> {
    let scratch = Scratch::new()?;
    let log = PlainLog::open(&scratch.file("plain.log"), delay)?;
    Ok(ask_in_turn(runtime, callers, seconds, &cpu_time, |_| {
        let log = log.clone();
        move || append(log.clone())
    }))
}

async fn append(log: PlainLog) -> bool {
    log.append(shop::request()).await;
    true
}

pub fn bench(runtime: &Runtime, options: &Options, delay: Duration) -> anyhow::Result<()> {
    for &callers in &options.callers {
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            if !options.desk_only {
                plain.push(plain_log(runtime, callers, options.seconds, delay)?);
            }
            ours.push(desk(runtime, callers, options.seconds, delay)?);
        }
        let mut ratios: Vec<f64> = ours.iter().zip(&plain).map(|(o, p)| o.per_second / p.per_second).collect();
        let title = format!("holds, {callers} callers");
        if options.desk_only {
            print_rows(&title, &[Row::of("desk", &ours)]);
            continue;
        }
        print_rows(&title, &[Row::of("plain log", &plain), Row::of("desk", &ours)]);
        println!("  desk / plain log: {:.2} (median of the rounds' ratios)", median(&mut ratios));
    }
    Ok(())
}
