//! How viewers come to their server: an offer for each, at her time, whether or not those before her were answered.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use maishou::{
    client::{Config, Http, Server},
    id::RoomId,
};
use tokio::{
    sync::{Semaphore, mpsc::Sender},
    time::Instant,
};

use super::{
    link::wall_time,
    terms::{Introduction, Remote, Wishes},
};

/// Offers that wait for an answer at one time. Full: the next waits, and her waiting is counted.
const ASKING_MAX: usize = 256;
/// Viewers that share a local address, so that neither ports nor the server's limits per address run out.
const PER_ADDRESS: usize = 100;

/// An answered offer, on its way.
pub type Entering<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Remote>> + Send + 'a>>;

/// How one viewer and the server come to terms.
pub trait Door: Send + Sync + 'static {
    /// Makes the viewer `number` known, from `local` if that is given.
    fn enter<'a>(&'a self, number: usize, local: Option<IpAddr>, introduction: &'a Introduction) -> Entering<'a>;
}

/// WHEP, with a connection of her own for each viewer.
pub struct Whep {
    server: SocketAddr,
    path: String,
    tokens: Vec<String>,
}

impl Whep {
    /// With a token for each viewer.
    pub fn new(server: SocketAddr, room: &RoomId, tokens: Vec<String>) -> Self {
        Self { server, path: format!("/whep/{room}"), tokens }
    }
}

impl Door for Whep {
    fn enter<'a>(&'a self, number: usize, local: Option<IpAddr>, introduction: &'a Introduction) -> Entering<'a> {
        Box::pin(async move {
            let http = Http::new(Server::at(self.server), Config { bind: local, ..Config::default() });
            let token = self.tokens.get(number % self.tokens.len().max(1)).map_or("", String::as_str);
            let answer = http.offer(&self.path, token, introduction.watch()).await?;
            Remote::parse(&answer.sdp)
        })
    }
}

/// A viewer who was answered, or was not.
pub struct Arrived {
    pub local: Option<IpAddr>,
    pub introduction: Introduction,
    /// When her offer was to be sent, and when the answer was there, by the wall clock.
    pub intended: Duration,
    pub answered: Duration,
    pub remote: anyhow::Result<Remote>,
}

pub struct Plan {
    pub door: Arc<dyn Door>,
    pub viewers: usize,
    pub per_second: f64,
    pub server: IpAddr,
    pub fingerprint: String,
    pub wishes: Wishes,
}

/// Lets everybody come; ends when all were answered or when nobody listens any more.
pub fn run(plan: &Plan, arrived: &Sender<Arrived>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (asking, began, wall) = (Arc::new(Semaphore::new(ASKING_MAX)), Instant::now(), wall_time());
        for number in 0..plan.viewers {
            let due = Duration::from_secs_f64(number as f64 / plan.per_second.max(0.001));
            tokio::time::sleep_until(began + due).await;
            let permit = asking.clone().acquire_owned().await?;
            let (door, arrived) = (plan.door.clone(), arrived.clone());
            let local = local_address(plan.server, number);
            let introduction = Introduction::new(number as u32, &plan.fingerprint, plan.wishes);
            tokio::spawn(async move {
                let remote = door.enter(number, local, &introduction).await;
                let (intended, answered) = (wall + due, wall_time());
                // Nobody listens when the audience has left.
                let _ = arrived.send(Arrived { local, introduction, intended, answered, remote }).await;
                drop(permit);
            });
        }
        drop(asking.acquire_many(ASKING_MAX as u32).await?);
        Ok(())
    })
}

/// Where a viewer of a server on this machine comes from; elsewhere the system chooses.
fn local_address(server: IpAddr, number: usize) -> Option<IpAddr> {
    let place = u32::try_from(number / PER_ADDRESS % 250).expect("it is small");
    let first = Ipv4Addr::new(127, 0, 0, 2).to_bits();
    server.is_loopback().then(|| IpAddr::V4(Ipv4Addr::from_bits(first + place)))
}
