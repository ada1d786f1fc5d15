//! Everybody at once: 100,000 callers for 1,000 pieces.

use std::time::{Duration, Instant};

use anyhow::ensure;
use maishou::order::{HoldRequest, Refusal};
use tokio::{runtime::Runtime, sync::watch, task::JoinSet};

use crate::{
    Options,
    scratch::Scratch,
    shop,
    table::{median, micros, quantile},
};

const CALLERS: usize = 100_000;
const PIECES: u64 = 1_000;

struct Flood {
    all_answered: Duration,
    /// Sorted.
    winners: Vec<Duration>,
    losers: Vec<Duration>,
}

pub fn bench(runtime: &Runtime, options: &Options, delay: Duration) -> anyhow::Result<()> {
    let rounds = (0..options.rounds).map(|_| round(runtime, delay)).collect::<anyhow::Result<Vec<_>>>()?;
    let of = |figure: &dyn Fn(&Flood) -> f64| median(&mut rounds.iter().map(figure).collect::<Vec<_>>());
    println!(
        "\nflood: {CALLERS} callers at once for {PIECES} pieces; exactly {PIECES} won in each of {} rounds",
        rounds.len()
    );
    println!("  all answered within {:.0} ms", of(&|f| micros(f.all_answered) / 1_000.0));
    let wait = |of_whom: fn(&Flood) -> &Vec<Duration>, q: f64| of(&|f| micros(quantile(of_whom(f), q)));
    println!(
        "  winners (durable)   p50 {:>7.0} us   p99 {:>7.0} us",
        wait(|f| &f.winners, 0.5),
        wait(|f| &f.winners, 0.99)
    );
    println!(
        "  sold out            p50 {:>7.1} us   p99 {:>7.1} us",
        wait(|f| &f.losers, 0.5),
        wait(|f| &f.losers, 0.99)
    );
    Ok(())
}

fn round(runtime: &Runtime, delay: Duration) -> anyhow::Result<Flood> {
    let scratch = Scratch::new()?;
    let desk = shop::open(runtime, &scratch.file("ledger.db"), shop::config(), delay, PIECES)?;
    let flood = runtime.block_on(async {
        let (go, started) = watch::channel(());
        let mut tasks = JoinSet::new();
        for n in 0..CALLERS {
            let (desk, mut started) = (desk.clone(), started.clone());
            let request = HoldRequest { sub: format!("caller-{n}").parse().expect("an id"), ..shop::request() };
            tasks.spawn(async move {
                started.changed().await.expect("the start is given");
                let asked = Instant::now();
                let answer = desk.hold(request).await;
                (asked.elapsed(), answer.map(drop))
            });
        }
        while go.receiver_count() < CALLERS + 1 {
            tokio::task::yield_now().await;
        }
        let started = Instant::now();
        go.send_replace(());
        let answers = tasks.join_all().await;
        (started.elapsed(), answers)
    });
    let (all_answered, answers) = flood;
    let (mut winners, mut losers) = (Vec::new(), Vec::new());
    for (wait, answer) in answers {
        match answer {
            Ok(()) => winners.push(wait),
            Err(Refusal::SoldOut { .. }) => losers.push(wait),
            Err(refusal) => anyhow::bail!("refused: {refusal:?}"),
        }
    }
    ensure!(winners.len() as u64 == PIECES, "{} won {PIECES} pieces", winners.len());
    winners.sort_unstable();
    losers.sort_unstable();
    desk.shutdown();
    Ok(Flood { all_answered, winners, losers })
}
