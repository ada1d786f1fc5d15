//! Rehearsals: twins of rooms, where simulated people may act.
//!
//! A rehearsal is a [`Shop`] of its own: ledger, catalogue, tape, people and limits in files beside the real ones, under
//! its id. It has the code and the flushes of the real shop and no way to reach it: whose token is for a rehearsal is
//! given that shop and no other. Its id begins with `rehearsal.`, which no real room's does, so that a token outlives its
//! rehearsal without becoming one for something real.
//!
//! It survives a restart as a room does, and goes with all its files, the tape too, when it is ended or is too old: its
//! people are made up, so that nobody has to keep what they did.

mod files;
mod open;

use std::{path::PathBuf, sync::Arc, time::Duration};

use dashmap::DashMap;
use rand::distr::{Alphanumeric, SampleString};
use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, task::JoinHandle};
use tracing::{info, warn};

use crate::{
    clock::UnixMs,
    id::RoomId,
    order,
    protocol::{ErrorCode, Fault, Product, RoomScope},
    ring, room,
    room::{Handle, Rehearses, RoomFacts},
    session::{Channels, Person, Shop, goods::STOCK_MAX, shop::internal},
};

/// What the id of every rehearsal begins with.
pub const PREFIX: &str = "rehearsal.";
/// The fastest that a rehearsal's clock runs.
pub const SPEED_MAX: u32 = 100;
/// Characters of an id that nobody chose.
const MADE_ID_LEN: usize = 12;

/// Settings of rehearsals.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Rehearsals at a time; one more is refused. Each has a ledger with two threads and some tens of megabytes.
    pub max: usize,
    /// A rehearsal ends by itself after so many hours.
    pub keep_hours: u32,
    /// Products that a rehearsal takes over: those on the shelf, then others of the room's merchants.
    pub products_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max: 4, keep_hours: 24, products_max: 1_000 }
    }
}

impl Config {
    pub fn keep(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_hours) * 3_600)
    }
}

/// `POST /v1/rooms` with `rehearsal_of`.
#[derive(Debug, Deserialize)]
pub struct RehearsalBody {
    pub rehearsal_of: RoomId,
    /// Begins with `rehearsal.`; made when it is left out.
    pub id: Option<RoomId>,
    /// Seconds that pass in the rehearsal in one second: 1 when it is left out.
    pub speed: Option<u32>,
}

/// Whether this can only be a rehearsal's id.
pub fn is_rehearsal(room: &RoomId) -> bool {
    room.as_str().starts_with(PREFIX)
}

/// What the shops of rehearsals are made with.
pub struct Making {
    pub config: Config,
    /// Where the files of stores and of tapes are.
    pub store: PathBuf,
    pub order: order::Config,
    pub room: room::Config,
    pub ring: ring::Config,
    pub tape: room::tape::Config,
    pub limits: super::LimitsConfig,
}

/// The real shop and its rehearsals: whose token leads to which.
pub struct Rehearsals {
    real: Arc<Shop>,
    channels: Arc<Channels>,
    making: Making,
    open: DashMap<RoomId, Arc<Rehearsal>>,
    one_at_a_time: Mutex<()>,
}

/// One that is open.
pub struct Rehearsal {
    pub room: Handle,
    pub shop: Arc<Shop>,
    routing: Vec<JoinHandle<()>>,
}

impl Rehearsals {
    /// Opens those that a server before left, and removes what is left of others.
    pub async fn start(real: Arc<Shop>, channels: Arc<Channels>, making: Making) -> anyhow::Result<Self> {
        let this = Self { real, channels, making, open: DashMap::new(), one_at_a_time: Mutex::default() };
        for id in files::left_from_before(&this.making)? {
            let opened = this.open_again(&id).await;
            match opened {
                Ok(Some(rehearsal)) => drop(this.open.insert(id, Arc::new(rehearsal))),
                Ok(None) => files::remove(&this.making, &id).await,
                Err(error) => warn!(rehearsal = %id, %error, "a rehearsal does not open, and stays as it is"),
            }
        }
        Ok(this)
    }

    pub fn real(&self) -> &Arc<Shop> {
        &self.real
    }

    /// The shop that a room is in. A rehearsal that is over is no room.
    pub fn at(&self, room: &RoomId) -> Result<Arc<Shop>, Fault> {
        match is_rehearsal(room) {
            false => Ok(self.real.clone()),
            true => {
                let open = self.open.get(room).map(|rehearsal| rehearsal.shop.clone());
                open.ok_or_else(|| Fault::not_found("room"))
            }
        }
    }

    /// The shop in which a person acts: that of the room she names, which her token must be for, else that of her
    /// token's. Who may be everywhere and names nothing is in the real one.
    pub fn of(&self, person: &Person, named: Option<&RoomId>) -> Result<Arc<Shop>, Fault> {
        match (&person.claims().room, named) {
            (RoomScope::One(own), None) => self.at(own),
            (RoomScope::Any, None) => Ok(self.real.clone()),
            (RoomScope::One(own), Some(named)) if is_rehearsal(own) || is_rehearsal(named) => {
                person.may_enter(named)?;
                self.at(named)
            }
            (_, Some(named)) => self.at(named),
        }
    }

    /// Every shop, the real one first.
    pub fn shops(&self) -> Vec<Arc<Shop>> {
        let open: Vec<_> = self.open.iter().map(|rehearsal| rehearsal.shop.clone()).collect();
        [self.real.clone()].into_iter().chain(open).collect()
    }

    pub fn list(&self) -> Vec<Arc<Rehearsal>> {
        self.open.iter().map(|rehearsal| rehearsal.value().clone()).collect()
    }

    pub fn get(&self, room: &RoomId) -> Option<Arc<Rehearsal>> {
        self.open.get(room).map(|rehearsal| rehearsal.value().clone())
    }

    /// When a rehearsal ends by itself.
    pub fn ends_at(&self, room: &RoomFacts) -> UnixMs {
        room.created_at.plus(self.making.config.keep())
    }

    /// Makes a twin of a room: its products, its shelf and what is available of each SKU at this moment.
    pub async fn make(&self, person: &Person, body: RehearsalBody) -> Result<Arc<Rehearsal>, Fault> {
        self.real.may_act(person)?;
        let room = self.real.room(&body.rehearsal_of)?;
        person.may_rehearse(room.facts())?;
        let id = body.id.map_or_else(made_id, checked_id)?;
        let speed = body.speed.unwrap_or(1);
        if !(1..=SPEED_MAX).contains(&speed) {
            return Err(Fault::malformed("speed", format!("a rehearsal runs at 1 to {SPEED_MAX} times the time")));
        }

        let _one_at_a_time = self.one_at_a_time.lock().await;
        if self.open.contains_key(&id) {
            return Err(Fault::new(ErrorCode::AlreadyExists, "there is a rehearsal of that id"));
        }
        if self.open.len() >= self.making.config.max {
            return Err(Fault::new(ErrorCode::LimitReached, "this server has all the rehearsals it may have: end one"));
        }
        let rehearses = Rehearses { of: room.facts().id.clone(), made_by: person.sub().clone(), speed };
        let created_at = self.real.clock.wall();
        let facts = RoomFacts { id: id.clone(), created_at, rehearsal: Some(rehearses), ..room.facts().clone() };
        // What a rehearsal of that id that did not end in order has left.
        files::remove(&self.making, &id).await;
        match self.open_new(facts, &room).await {
            Ok(rehearsal) => {
                info!(rehearsal = %id, of = %room.facts().id, "rehearsal made");
                let rehearsal = Arc::new(rehearsal);
                self.open.insert(id, rehearsal.clone());
                Ok(rehearsal)
            }
            Err(error) => {
                files::remove(&self.making, &id).await;
                Err(internal(error))
            }
        }
    }

    /// The products that a rehearsal takes over.
    fn products(&self, room: &RoomFacts, shelf: &[Product]) -> Vec<Arc<Product>> {
        let catalogue = self.real.rooms.catalogue();
        let mut others = catalogue.products();
        others.retain(|p| room.merchants.contains(&p.merchant) && shelf.iter().all(|s| s.id != p.id));
        others.sort_by(|a, b| a.id.cmp(&b.id));
        let shelved = shelf.iter().filter_map(|p| catalogue.product(&p.id));
        shelved.chain(others).take(self.making.config.products_max).collect()
    }

    /// What is available of each SKU now.
    fn opening(&self, product: &Product) -> Vec<(crate::id::SkuId, u64)> {
        let available = |sku| self.real.desk.count(sku).map_or(0, |count| count.available.min(STOCK_MAX));
        product.skus.iter().map(|sku| (sku.id.clone(), available(&sku.id))).collect()
    }

    /// Ends a rehearsal for whoever may: its people are sent away and its files removed.
    pub async fn end_by(&self, person: &Person, room: &RoomId) -> Result<(), Fault> {
        let rehearsal = self.get(room).ok_or_else(|| Fault::not_found("room"))?;
        person.may_end_rehearsal(rehearsal.room.facts())?;
        self.end(room).await;
        Ok(())
    }

    /// Ends those that are too old.
    pub async fn sweep(&self, now: UnixMs) {
        let is_old = |rehearsal: &Rehearsal| self.ends_at(rehearsal.room.facts()) <= now;
        let old: Vec<RoomId> = self.open.iter().filter(|r| is_old(r)).map(|r| r.key().clone()).collect();
        for id in old {
            self.end(&id).await;
        }
    }

    async fn end(&self, id: &RoomId) {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let Some((_, rehearsal)) = self.open.remove(id) else { return };
        for session in rehearsal.shop.presence.end_all("the rehearsal has ended") {
            rehearsal.shop.media.leave(session);
        }
        rehearsal.close().await;
        files::remove(&self.making, id).await;
        info!(rehearsal = %id, "rehearsal ended");
    }

    /// Closes every rehearsal; the next start opens them again.
    pub async fn shutdown(&self) {
        for rehearsal in self.list() {
            rehearsal.close().await;
        }
    }
}

impl Rehearsal {
    async fn close(&self) {
        self.shop.rooms.shutdown().await;
        let desk = self.shop.desk.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || desk.shutdown()).await {
            warn!(%error, "a rehearsal's desk did not end in order");
        }
        for route in &self.routing {
            route.abort();
        }
    }
}

fn made_id() -> Result<RoomId, Fault> {
    let name = Alphanumeric.sample_string(&mut rand::rng(), MADE_ID_LEN).to_ascii_lowercase();
    format!("{PREFIX}{name}").parse().map_err(internal)
}

fn checked_id(id: RoomId) -> Result<RoomId, Fault> {
    match is_rehearsal(&id) && id.as_str().len() > PREFIX.len() {
        true => Ok(id),
        false => Err(Fault::malformed("id", format!("the id of a rehearsal begins with {PREFIX}"))),
    }
}
