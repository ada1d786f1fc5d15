//! The same crowd in front of nchan and nats-server from Debian.

use std::{path::Path, process::Command};

use anyhow::Context as _;
use maishou_loadtest::server::Child;

use crate::{
    Options,
    dialect::Dialect,
    listeners::{Listeners, SILENCE},
    measure::{CORE, Round, local, messages, ours},
    scratch::Scratch,
};

const CONFIGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");
/// Messages a second to everybody, growing; a server is asked no more once it is far behind.
const RATES: [f64; 6] = [4.0, 8.0, 12.0, 25.0, 100.0, 400.0];
const GIVEN_UP_MS: f64 = 2_000.0;
/// As the issue that this is measured for has it.
const GOOD_MS: f64 = 100.0;

pub fn compare(options: &Options) -> anyhow::Result<()> {
    println!("\nPeers, {} listeners, one core each", options.listeners);
    let (memory, rounds) = ours(options, &RATES)?;
    show("maishou", memory, &rounds);

    let scratch = Scratch::new()?;
    let mut nginx = Command::new("nginx");
    nginx.arg("-p").arg(scratch.path()).arg("-c").arg(Path::new(CONFIGS).join("nginx.conf"));
    peer(options, "nchan", &mut nginx, &Dialect::Nchan, [19_001, 19_001])?;

    let mut nats = Command::new("nats-server");
    nats.env("GOMAXPROCS", "1").arg("-c").arg(Path::new(CONFIGS).join("nats.conf"));
    peer(options, "nats-server", &mut nats, &Dialect::Nats, [19_003, 19_002])
}

fn peer(
    options: &Options,
    name: &str,
    command: &mut Command,
    dialect: &Dialect,
    [listen, publish]: [u16; 2],
) -> anyhow::Result<()> {
    let mut server = Child::start_on(CORE, command).with_context(|| format!("{name} (its Debian package)"))?;
    server.wait_for(local(listen)).with_context(|| name.to_owned())?;
    let before = server.memory()?;
    let mut listeners = Listeners::arrive(dialect.clone(), local(listen), options.listeners)?;
    listeners.publish_at(local(listen), local(publish))?;
    listeners.listen(options.time() / 4, SILENCE, |_| Ok(()))?;
    let memory = (server.memory()? - before) as f64 / options.listeners as f64;
    let mut rounds = Vec::new();
    for rate in RATES {
        let round = Round::of(&server, &mut listeners, options.time(), messages(rate))?;
        let is_behind = round.p99_ms() > GIVEN_UP_MS;
        rounds.push(round);
        if is_behind {
            break;
        }
    }
    show(name, memory, &rounds);
    Ok(())
}

fn show(name: &str, memory: f64, rounds: &[Round]) {
    println!("  {name}: {:.1} KiB a listener", memory / 1024.0);
    for (rate, round) in RATES.iter().zip(rounds) {
        println!(
            "    {rate:>5} a second: {:>9.0}/s   p99 {:>7.1} ms   {:>5.1} % of the core   {:>6.3} us each   listeners \
             {:>3.0} %   broken {}",
            round.per_second(),
            round.p99_ms(),
            round.core(),
            round.cpu_us(),
            round.own_cpu.as_secs_f64() / round.took.as_secs_f64() * 100.0,
            round.heard.broken
        );
    }
    let good = rounds.iter().filter(|round| round.p99_ms() < GOOD_MS);
    let best = good.map(|round| round.per_second() * 100.0 / round.core()).fold(0.0, f64::max);
    println!("    at p99 under {GOOD_MS} ms: {best:.0} deliveries per core-second at most");
}
