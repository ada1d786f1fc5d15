//! `maishou rehearse`: asks the server that runs with a configuration for a rehearsal of one of its rooms.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use maishou::{
    client::{Config as ClientConfig, Http, Rest, Server},
    clock::Clock,
    config::Config,
    id::{RoomId, Sub},
    protocol::{Claims, Role, RoomScope},
    session::Keyring,
};
use serde_json::{Value, json};

/// Long enough to ask.
const ASKING_SECONDS: i64 = 60;

#[derive(Args)]
pub struct Rehearse {
    /// The room to rehearse; with --end, the rehearsal that is to end
    #[arg(long)]
    room: RoomId,
    /// Seconds that pass in it in one second
    #[arg(long, default_value_t = 1)]
    speed: u32,
    /// Ends a rehearsal and removes its files
    #[arg(long)]
    end: bool,
    /// Where the server is, in place of http.listen
    #[arg(long)]
    server: Option<String>,
    #[arg(long)]
    config: Option<PathBuf>,
}

impl Rehearse {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let config = Config::load(self.config.as_deref())?;
        config.check()?;
        let server = match &self.server {
            Some(server) => server.parse().context("--server")?,
            None => Server::at(config.http.listen),
        };
        let keyring = Keyring::new(&config.auth.secret, "");
        let http = Http::new(server.clone(), ClientConfig::default());
        let now = Clock::start().now().0 / 1_000;
        let admin = Rest::new(http, keyring.sign(&claims("rehearse", Role::Admin, RoomScope::Any, now)?));
        if self.end {
            let path = format!("/v1/rooms/{}", self.room);
            admin.call::<Value>(hyper::Method::DELETE, &path, None, None).await?;
            println!("{} has ended", self.room);
            return Ok(ExitCode::SUCCESS);
        }
        let body = json!({ "rehearsal_of": self.room, "speed": self.speed });
        let made: Value = admin.call(hyper::Method::POST, "/v1/rooms", None, Some(body)).await?;
        let id = made["id"].as_str().context("the server names no rehearsal")?;
        println!("{id}\n\nnothing in it is sold, and it ends by itself. Simulated people may act in it.");
        for (page, role, user) in [("watch", Role::Viewer, "guest"), ("studio", Role::Admin, "host")] {
            let token = keyring.sign(&claims(user, role, RoomScope::One(id.parse()?), now)?);
            println!("  {page:<7} {}", server.url(&format!("/{page}/{id}#token={token}")));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn claims(user: &str, role: Role, room: RoomScope, now: i64) -> anyhow::Result<Claims> {
    let lasts = if room == RoomScope::Any { ASKING_SECONDS } else { 12 * 3_600 };
    let sub: Sub = user.parse()?;
    Ok(Claims {
        sub,
        exp: now + lasts,
        room,
        role,
        merchant: None,
        can: None,
        name: None,
        region: None,
        promoter: None,
        sim: false,
        jti: None,
    })
}
