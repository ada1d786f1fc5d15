//! How long a start takes with a million entries, after a crash and after an orderly end.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use maishou::{
    clock::Clock,
    order::{Desk, Party},
};
use tokio::{runtime::Runtime, sync::mpsc, task::JoinSet};

use crate::{Options, scratch::Scratch, shop, table::median};

/// One entry each; a third of them is then paid for, which makes the rest.
const HOLDS: usize = 750_000;
const PAID: usize = 250_000;
const CALLERS: usize = 1_000;

pub fn bench(runtime: &Runtime, options: &Options, delay: Duration) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.file("ledger.db");
    let desk = shop::open(runtime, &file, shop::config(), Duration::ZERO, 1 << 40)?;
    fill(runtime, &desk);
    let crashed = scratch.file("crashed.db");
    for ending in ["", "-wal"] {
        drop(fs::copy(with(&file, ending), with(&crashed, ending)));
    }
    desk.shutdown();
    println!("\nrestart with {} entries of {HOLDS} holds", HOLDS + PAID + 1);
    println!("  after a crash           {:.2} s", start(options, &crashed, delay)?);
    println!("  after an orderly end    {:.2} s", start(options, &file, delay)?);
    Ok(())
}

fn with(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn fill(runtime: &Runtime, desk: &Desk) {
    let admin = Party::Admin { sub: "root".parse().expect("an id") };
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let (desk, admin) = (Arc::new(desk.clone()), Arc::new(admin));
        for _ in 0..CALLERS {
            let (desk, admin) = (desk.clone(), admin.clone());
            tasks.spawn(async move {
                for n in 0..HOLDS / CALLERS {
                    let hold = loop {
                        // A person may be at her limit: then another one buys.
                        if let Ok(hold) = desk.hold(shop::request()).await {
                            break hold.value;
                        }
                    };
                    if n < PAID / CALLERS {
                        desk.confirm(Party::clone(&admin), hold.id, None).await.expect("what is held can be paid");
                    }
                }
            });
        }
        tasks.join_all().await;
    });
}

/// Seconds that a start takes, the median of the rounds. Each start reads the same files.
fn start(options: &Options, file: &Path, delay: Duration) -> anyhow::Result<f64> {
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let scratch = Scratch::new()?;
        let copy = scratch.file("ledger.db");
        for ending in ["", "-wal"] {
            drop(fs::copy(with(file, ending), with(&copy, ending)));
        }
        let (to, _events) = mpsc::channel(1_024);
        let started = Instant::now();
        let desk = shop::open_told(&copy, shop::config(), delay, Clock::start(), to)?;
        rounds.push(started.elapsed().as_secs_f64());
        desk.shutdown();
    }
    Ok(median(&mut rounds))
}
