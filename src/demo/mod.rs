//! `maishou demo`: a world of its own, in a temporary folder. It says so wherever it speaks.
//!
//! Nothing in it is a short cut: the anchor publishes over WHIP, the crowd joins with ordinary tokens, and purchases
//! go through the ledger, all over real sockets to the server in this process.

mod crowd;
mod host;
mod seed;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context;
use rand::distr::{Alphanumeric, SampleString};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{self, Demo},
    client::{self, Server},
    config::Config,
    http::Asset,
    session::{Payment, SECRET_LEN_MIN},
};

/// How the demo is started.
pub struct Options {
    pub listen: SocketAddr,
    pub media_listen: SocketAddr,
    /// Whether simulated viewers come.
    pub crowd: bool,
}

/// Runs until Ctrl-C or SIGTERM, then drains.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let ended = interrupted()?;
    let world = World::make()?;
    let running = app::start(world.config(&options), Demo { assets: assets(), gives_tokens: true }).await?;
    let server = Server::at(SocketAddr::new(loopback_of(running.http), running.http.port()));

    let show = seed::show();
    let stop = CancellationToken::new();
    let room = seed::plant(&running.shop.keyring, &server, &show).await.context("the demo's room")?;
    let host =
        host::Host::start(&running.shop.keyring, &server, &show, stop.clone()).await.context("the demo's anchor")?;
    let crowd = match options.crowd {
        true => Some(crowd::Crowd::start(&running.shop.keyring, &server, &show, stop.clone()).await?),
        false => None,
    };
    println!("{}", welcome(&server, room.as_str(), options.crowd));

    ended.await;
    println!("maishou: the demo ends");
    stop.cancel();
    host.stop().await;
    if let Some(crowd) = crowd {
        crowd.stop().await;
    }
    running.drain().await?;
    Ok(())
}

fn welcome(server: &client::Server, room: &str, crowd: bool) -> String {
    let crowd = if crowd { "ten simulated viewers comment, like and buy" } else { "no simulated viewers" };
    format!(
        "maishou demo: a world of its own. A synthetic anchor broadcasts a bundled clip, {crowd};\n\
         nobody pays, and all of it is gone when the demo ends.\n\n  \
         viewer   {}\n  studio   {}\n  ops      {}\n\n\
         Open the viewer on this machine, pin a card in the studio, or go live there: the synthetic anchor steps aside.\n\
         Ctrl-C ends the demo.",
        server.url(&format!("/watch/{room}")),
        server.url(&format!("/studio/{room}")),
        server.url("/ops"),
    )
}

/// A folder and a secret that live as long as the demo.
struct World {
    folder: PathBuf,
    secret: String,
}

impl World {
    fn make() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("maishou-demo-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self { folder, secret: Alphanumeric.sample_string(&mut rand::rng(), SECRET_LEN_MIN) })
    }

    fn config(&self, options: &Options) -> Config {
        let mut config = Config::default();
        config.http.listen = options.listen;
        config.http.drain_seconds = 1;
        config.limits.arrivals_per_second = 0;
        config.media.listen = options.media_listen;
        config.auth.secret.clone_from(&self.secret);
        config.store.path = self.folder.join("store");
        config.tape.path = self.folder.join("tape");
        config.payment.provider = Payment::Sandbox;
        config.limits.exempt = vec!["127.0.0.0/8".parse().expect("a network"), "::1/128".parse().expect("a network")];
        config
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn loopback_of(listen: SocketAddr) -> std::net::IpAddr {
    match listen.ip() {
        ip if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    }
}

macro_rules! pictures {
    ($($name:literal),* $(,)?) => {
        vec![$(Asset {
            path: concat!("/demo/products/", $name),
            bytes: include_bytes!(concat!("../../config/demo/products/", $name)),
        }),*]
    };
}

fn assets() -> Vec<Asset> {
    pictures![
        "headphones.svg",
        "jacket.svg",
        "lipstick.svg",
        "pan.svg",
        "scarf.svg",
        "shirt.svg",
        "sneakers.svg",
        "tea.svg",
        "teapot.svg",
        "tote.svg",
    ]
}

/// Resolves at Ctrl-C or SIGTERM; asked for early, so that a signal during the start is not lost.
pub fn interrupted() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
