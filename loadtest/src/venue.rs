//! The server of a run, its clock, and what we may do there.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use anyhow::{Context, ensure};
use maishou::{
    client::{Config, Http, Server, Viewer},
    clock::Clock,
    protocol::Role,
};

use crate::{
    house::House,
    process,
    run::Options,
    scenario::Scenario,
    stage::{Stage, World},
    stamp::Timebase,
    token::Tokens,
};

/// Looks at the server's clock, the quickest of which counts.
const CLOCK_LOOKS: usize = 16;

/// The server of a run, and what we may do there.
pub(crate) struct Venue {
    pub house: Option<House>,
    pub server: Server,
    pub address: SocketAddr,
    pub tokens: Tokens,
    pub pid: Option<u32>,
    pub name: Option<String>,
    pub world: World,
}

impl Venue {
    pub fn open(scenario: &Scenario, options: &Options) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let Some(name) = &options.server else {
            let house = House::open(options.maishou.as_deref(), &scenario.server, options.keep.as_deref())?;
            let (address, pid) = (house.address, Some(house.pid()));
            let tokens = Tokens::minted(&house.secret, clock, false);
            return Ok(Self {
                server: Server::at(address),
                address,
                tokens,
                pid,
                name: None,
                world: World::Own,
                house: Some(house),
            });
        };
        let address = address(name)?;
        let tokens = match (&options.secret_file, std::env::var("MAISHOU_AUTH__SECRET")) {
            (Some(path), _) => Tokens::from_file(path, clock)?,
            (None, Ok(secret)) if !secret.is_empty() => Tokens::minted(&secret, clock, true),
            _ => {
                let http = Http::new(name.parse()?, Config::default());
                Tokens::Demo { http: Box::new(http) }
            }
        };
        let world = match tokens {
            Tokens::Demo { .. } => World::Demo,
            Tokens::Minted { .. } if options.real => World::Real,
            Tokens::Minted { .. } => World::Rehearsal(options.rehearse.clone()),
        };
        let (server, name) = (name.parse()?, Some(name.clone()));
        Ok(Self { house: None, server, address, tokens, pid: options.pid, name, world })
    }
}

/// How far the server's clock is ahead of ours and how wrong that may be, in microseconds.
pub(crate) async fn clock_of(venue: &Venue, stage: &Stage, base: Timebase) -> anyhow::Result<(i64, i64)> {
    let token = venue.tokens.one(&stage.room, Role::Viewer, "loadtest-clock").await?;
    let viewer = Viewer::join(&venue.server, &stage.room, &token, &Config::default()).await?;
    let mut best = (0, i64::MAX);
    for _ in 0..CLOCK_LOOKS {
        let before = base.now_us();
        let (theirs, took) = viewer.ping().await?;
        let took = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        if took < best.1 {
            // The server tells whole milliseconds: on average half of one has passed.
            best = (theirs.0 * 1_000 + 500 - (before + took / 2), took);
        }
    }
    viewer.leave().await;
    let (ahead, took) = best;
    let error = took / 2 + 500;
    // Clocks that may well be the same one are.
    Ok((if ahead.abs() <= error + 1_000 && venue.address.ip().is_loopback() { 0 } else { ahead }, error))
}

/// CPU time of ourselves and of the server.
pub(crate) fn used(pid: Option<u32>) -> anyhow::Result<[Duration; 2]> {
    let server = pid.map(process::cpu_time).transpose().context("the server's process")?;
    Ok([process::cpu_time(std::process::id())?, server.unwrap_or_default()])
}

fn address(server: &str) -> anyhow::Result<SocketAddr> {
    let host = server.trim_start_matches("http://").trim_end_matches('/');
    ensure!(!host.contains("://"), "--server {server}: give http://HOST:PORT");
    let with_port = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    with_port.to_socket_addrs()?.next().with_context(|| format!("{host} has no address"))
}
