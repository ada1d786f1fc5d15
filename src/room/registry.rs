//! `Rooms`: finds, makes and opens rooms, and brings them what happens outside.

use std::sync::Arc;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use rand::distr::{Alphanumeric, SampleString};
use tokio::sync::mpsc;
use tracing::info;

use crate::{
    clock::Clock,
    id::{RoomId, SkuId, Who},
    protocol::{ErrorCode, Fault, MediaState, Product, StockCount},
    ring::{self, Ring},
    room::{
        Brief, Catalogue, Command, Config, Handle, RoomFacts, Stats,
        audience::Audience,
        catalogue,
        hub::{self, Hub, Tick},
        notices::Notices,
        room::Room,
        showing::{self, Showing},
        state::State,
        tape::{self, Tape, line::Line},
    },
};

/// A look at something outside, answered at once.
pub type Look<Of, Seen> = Box<dyn Fn(&Of) -> Option<Seen> + Send + Sync>;

/// The outside as rooms see it; `app.rs` fills it in.
pub struct Outside {
    /// The publisher's media time in milliseconds, while live.
    pub media_time: Look<RoomId, u64>,
    /// A SKU's committed counts and the hash of the entry they stand at.
    pub stock: Look<SkuId, (StockCount, String)>,
    /// What was shown and concerns connections.
    pub shown: mpsc::Sender<Shown>,
}

/// Things that were shown and that reach beyond the room.
#[derive(Debug)]
pub enum Shown {
    /// End every connection of this person in this room.
    Kicked { room: RoomId, who: Who },
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Tape(#[from] tape::Error),
    #[error(transparent)]
    Catalogue(#[from] catalogue::Error),
    #[error("reading the tape was cancelled")]
    Cancelled,
}

#[derive(Clone)]
pub struct Rooms(Arc<Inner>);

struct Inner {
    config: Config,
    ring: ring::Config,
    clock: Clock,
    tape: Tape,
    catalogue: Catalogue,
    outside: Arc<Outside>,
    open: DashMap<RoomId, Handle>,
}

impl Rooms {
    /// Opens every room of the catalogue where its tape ended, under a new epoch.
    pub async fn open(
        config: Config,
        ring: ring::Config,
        clock: Clock,
        tape: Tape,
        catalogue: Catalogue,
        outside: Outside,
    ) -> Result<Self, OpenError> {
        let outside = Arc::new(outside);
        let rooms = Self(Arc::new(Inner { config, ring, clock, tape, catalogue, outside, open: DashMap::new() }));
        for facts in rooms.0.catalogue.rooms() {
            rooms.open_room(facts).await?;
        }
        Ok(rooms)
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }

    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub fn get(&self, room: &RoomId) -> Option<Handle> {
        self.0.open.get(room).map(|r| r.value().clone())
    }

    pub fn list(&self) -> Vec<Handle> {
        let mut all: Vec<Handle> = self.0.open.iter().map(|r| r.value().clone()).collect();
        all.sort_by(|a, b| a.facts.id.cmp(&b.facts.id));
        all
    }

    /// Makes a room. Refused with `already_exists` when there is one of that id, and with `busy` at `rooms_max`.
    pub async fn create(&self, facts: RoomFacts) -> Result<Handle, Fault> {
        if self.0.catalogue.room_count() >= self.0.config.rooms_max {
            return Err(Fault::new(ErrorCode::LimitReached, "this server has all the rooms it may have"));
        }
        let id = facts.id.clone();
        let added = self.0.catalogue.add_room(facts.clone()).await.map_err(internal)?;
        if !added {
            return Err(Fault::new(ErrorCode::AlreadyExists, "there is a room of that id"));
        }
        info!(room = %id, "room made");
        self.open_room(Arc::new(facts)).await.map_err(internal)
    }

    async fn open_room(&self, facts: Arc<RoomFacts>) -> Result<Handle, OpenError> {
        let inner = &self.0;
        let (tape, id) = (inner.tape.clone(), facts.id.clone());
        let last = tokio::task::spawn_blocking(move || tape.last_state(&id)).await;
        let last = last.map_err(|_| OpenError::Cancelled)??;
        let mut state = last.unwrap_or_else(|| State::new(facts.id.clone(), facts.title.clone()));
        state.show.title = facts.title.clone();
        state.rehearsal_of = facts.rehearsal_of().cloned();
        self.bring_up_to_date(&mut state);
        let epoch = Alphanumeric.sample_string(&mut rand::rng(), 12);
        inner.tape.open(&facts.id, Line::head(&state, &epoch, inner.clock.now())).await?;

        let audience = Audience::starting_at(state.likes);
        let ring = Ring::new(inner.ring.clone(), epoch.clone(), state.seq, showing::snapshot_text(&state, &epoch, 0));
        let (mailbox, inbox) = mpsc::channel(inner.config.mailbox.max(1));
        let notices = Arc::new(Notices::default());
        let (brief, stats) = (Arc::new(ArcSwap::from_pointee(Brief::default())), Arc::new(Stats::default()));
        hub::spawn(
            Hub {
                config: inner.config.clone(),
                clock: inner.clock.clone(),
                tape: inner.tape.clone(),
                outside: inner.outside.clone(),
                audience: audience.clone(),
                notices: notices.clone(),
                brief: brief.clone(),
                stats: stats.clone(),
                room: Room::new(state.clone(), &inner.config),
                told: audience.tally(),
                showing: Showing::new(state, ring.clone()),
                tick: Tick::default(),
                segment_full: false,
                retries: Default::default(),
            },
            inbox,
        );
        let handle = Handle { facts, mailbox, notices, ring, audience, brief, stats };
        inner.open.insert(handle.facts.id.clone(), handle.clone());
        Ok(handle)
    }

    /// What may have changed while nobody looked: products, counts, and a picture that is certainly gone. No events
    /// tell it, because nobody is there yet: everybody, the new tape segment too, begins with a snapshot of this state.
    fn bring_up_to_date(&self, state: &mut State) {
        state.media = MediaState::default();
        let cards = state.shelf.iter_mut().chain(state.pinned.as_mut().map(|p| &mut p.product));
        for card in cards {
            if let Some(now) = self.0.catalogue.product(&card.id) {
                *card = (*now).clone();
            }
        }
        let skus = state.shelf.iter().flat_map(|p| &p.skus);
        let counts = skus.filter_map(|sku| Some((sku.id.clone(), (self.0.outside.stock)(&sku.id)?.0)));
        state.stock = counts.collect();
    }

    /// Brings a fact about a SKU to every room that has it on its shelf, waiting for none.
    pub fn tell_shelves(&self, sku: &SkuId, command: &Command) {
        for room in self.0.open.iter().filter(|room| room.brief.load().skus.contains(sku)) {
            room.tell(command.clone());
        }
    }

    /// Brings a product's new version to every room, waiting for none.
    pub fn product_changed(&self, product: &Product) {
        for room in self.list() {
            room.tell(Command::ProductChanged(Box::new(product.clone())));
        }
    }

    /// Logs what is decided, flushes and closes every room.
    pub async fn shutdown(&self) {
        for room in self.list() {
            room.close().await;
        }
    }
}

fn internal(error: impl std::fmt::Display) -> Fault {
    tracing::error!(%error, "a room could not be made");
    Fault::new(ErrorCode::Internal, "the room could not be kept")
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        sync::{Mutex, mpsc::sync_channel},
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{clock::UnixMs, id::Money, protocol::ProductSku};

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn scarf() -> Product {
        Product {
            id: "scarf".parse().unwrap(),
            merchant: "main".parse().unwrap(),
            title: "Scarf".to_owned(),
            price: Money { amount: 1, currency: "CNY".parse().unwrap() },
            image: None,
            skus: vec![ProductSku { id: "red".parse().unwrap(), title: "Red".to_owned() }],
            limit_per_user: None,
            limit_per_order: None,
        }
    }

    /// Two rooms with a scarf on their shelves; that called `stuck` stops in its tracks when it looks at the time of its
    /// picture, until `end` is gone.
    async fn two_rooms(folder: &Folder, looks: std::sync::mpsc::Receiver<()>) -> (Rooms, [Handle; 2]) {
        let looks = Mutex::new(looks);
        let outside = Outside {
            media_time: Box::new(move |room| {
                if room.as_str() == "stuck" {
                    looks.lock().unwrap().recv().ok();
                }
                None
            }),
            stock: Box::new(|_| None),
            shown: mpsc::channel(8).0,
        };
        let catalogue = Catalogue::open(&folder.0.join("catalogue.db")).unwrap();
        let tape = Tape::start(tape::Config { path: folder.0.join("tape"), ..Default::default() }).unwrap();
        let config = Config { mailbox: 8, ..Config::default() };
        let rooms =
            Rooms::open(config, ring::Config::default(), Clock::start(), tape, catalogue, outside).await.unwrap();
        let mut handles = Vec::new();
        for id in ["stuck", "free"] {
            let facts = RoomFacts {
                id: id.parse().unwrap(),
                title: id.to_owned(),
                anchor: "anchor".parse().unwrap(),
                merchants: vec!["main".parse().unwrap()],
                created_at: UnixMs(0),
                rehearsal: None,
            };
            let room = rooms.create(facts).await.unwrap();
            room.act(Command::SetShelf { items: vec![scarf()], planned_seconds: Default::default() }).await.unwrap();
            handles.push(room);
        }
        (rooms, handles.try_into().unwrap_or_else(|_| panic!("two rooms")))
    }

    async fn shows(room: &Handle, last: u64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let red: SkuId = "red".parse().unwrap();
        loop {
            let shown = room.snapshot().await.ok().and_then(|snapshot| snapshot.stock.get(&red).map(|c| c.entry));
            if shown == Some(last) {
                return;
            }
            assert!(Instant::now() < deadline, "{} shows {shown:?}", room.facts().id);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn a_room_that_is_stuck_holds_up_nobody_and_catches_up_with_the_newest() {
        let folder = Folder(std::env::temp_dir().join(format!("maishou-rooms-{}", uuid::Uuid::now_v7())));
        let (end, looks) = sync_channel(8);
        // It sets its shelf with one look, and is stuck at the next.
        end.send(()).unwrap();
        let (rooms, [stuck, free]) = two_rooms(&folder, looks).await;
        let red: SkuId = "red".parse().unwrap();
        let tell = |entry: u64| {
            let count = StockCount { available: entry, held: 0, sold: 0, entry };
            rooms.tell_shelves(&red, &Command::Stock { sku: red.clone(), count, hash: entry.to_string() });
            let reason = String::new();
            rooms.tell_shelves(&red, &Command::Adjusted { sku: red.clone(), delta: 1, reason, entry });
        };
        const TOLD: u64 = 3_000;
        for entry in 1..=TOLD {
            tell(entry);
            rooms.product_changed(&scarf());
        }
        shows(&free, TOLD).await;
        let before = stuck.stats().events.load(std::sync::atomic::Ordering::Relaxed);
        assert!(before <= 1, "it is stuck: {before} events");

        drop(end);
        shows(&stuck, TOLD).await;
        let events = |room: &Handle| room.stats().events.load(std::sync::atomic::Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(10);
        while events(&stuck) <= TOLD {
            assert!(Instant::now() < deadline, "every adjustment is told: {}", events(&stuck));
            tokio::task::yield_now().await;
        }
        assert!(events(&stuck) < TOLD + 20, "counts were merged: {}", events(&stuck));
        rooms.shutdown().await;
    }
}
