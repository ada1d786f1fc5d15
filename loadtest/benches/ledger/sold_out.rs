//! A refusal in the caller: what "sold out" costs once it is.

use std::{hint::black_box, thread, time::Duration, time::Instant};

use anyhow::ensure;
use maishou::order::{Desk, HoldRequest, Refusal};
use tokio::runtime::Runtime;

use crate::{
    Options,
    scratch::Scratch,
    shop,
    table::{median, micros},
};

const ASKED: usize = 200_000;

pub fn bench(runtime: &Runtime, options: &Options) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let desk = shop::open(runtime, &scratch.file("ledger.db"), shop::config(), Duration::ZERO, 1)?;
    let first = runtime.block_on(desk.hold(shop::request()));
    ensure!(first.is_ok(), "the only piece was not sold: {first:?}");
    println!("\nsold out, answered in the caller ({ASKED} requests in turn, made before)");
    for threads in [1, 2] {
        let mut rounds: Vec<f64> = (0..options.rounds).map(|_| micros(round(runtime, &desk, threads))).collect();
        println!("  {threads} thread(s)   {:.2} us each", median(&mut rounds));
    }
    desk.shutdown();
    Ok(())
}

/// The time that one refusal takes its thread.
fn round(runtime: &Runtime, desk: &Desk, threads: u32) -> Duration {
    let asked: Vec<Vec<HoldRequest>> = (0..threads).map(|_| (0..ASKED).map(|_| shop::request()).collect()).collect();
    let times: Vec<Duration> = thread::scope(|scope| {
        let threads: Vec<_> =
            asked.into_iter().map(|requests| scope.spawn(|| refuse(runtime, desk, requests))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    times.iter().sum::<Duration>() / threads / ASKED as u32
}

fn refuse(runtime: &Runtime, desk: &Desk, requests: Vec<HoldRequest>) -> Duration {
    runtime.block_on(async {
        let started = Instant::now();
        for request in requests {
            let answer = black_box(desk.hold(request).await);
            assert!(matches!(answer, Err(Refusal::SoldOut { .. })), "{answer:?}");
        }
        started.elapsed()
    })
}
