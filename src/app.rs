//! The composition root: the only file that knows every module. What starts when, what flows up, what ends when.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use tokio::{sync::mpsc, task::JoinHandle};
use tracing::{info, warn};

use crate::{
    clock::Clock,
    config::Config,
    fanout::Fanout,
    http::{self, Asset, Server},
    id::{RoomId, SessionId},
    media::{self, Media},
    order::{self, Desk},
    protocol::Track,
    room::{Catalogue, Command, Outside, Rooms, Tape},
    session::{Channels, Keyring, Limits, Presence, Rehearsals, Shop, rehearsal::Making, routing},
};

/// Committed facts and media events on their way up. Full: who sends them keeps a backlog and tries again.
const EVENTS_WAITING_MAX: usize = 8_192;

/// What `demo` adds to a server.
#[derive(Default)]
pub struct Demo {
    pub assets: Vec<Asset>,
    /// Gives tokens to whoever asks from this machine.
    pub gives_tokens: bool,
}

/// A server that serves.
pub struct Running {
    pub http: SocketAddr,
    pub media: Vec<SocketAddr>,
    pub shop: Arc<Shop>,
    rehearsals: Arc<Rehearsals>,
    serving: http::Serving,
    fanout: Fanout,
    ready: Arc<AtomicBool>,
    drain: Duration,
    restart: Duration,
    routing: Vec<JoinHandle<()>>,
}

/// Starts everything, from the disk up: ledger and catalogue, tapes and rooms, media, sockets, and HTTP last.
pub async fn start(config: Config, demo: Demo) -> anyhow::Result<Running> {
    // The port first: a second server on the same data would otherwise open the ledger before it is told so.
    let server = Server::bind(&config.http).await?;
    let clock = Clock::start_at_speed(config.clock.speed);

    let (desk_events, committed) = mpsc::channel(EVENTS_WAITING_MAX);
    let (media_events, happened) = mpsc::channel(EVENTS_WAITING_MAX);
    let (room_events, shown) = mpsc::channel(EVENTS_WAITING_MAX);

    let desk = open_desk(&config, clock.clone(), desk_events).await?;
    let catalogue = Catalogue::open(&config.store.path.join("catalogue.db"))?;
    Shop::define_all(&catalogue, &desk)
        .await
        .map_err(|fault| anyhow!("the catalogue does not fit the ledger: {}", fault.message))?;
    let media = Media::start(config.media.clone(), media_events).with_context(|| {
        format!("media cannot listen on {} (--media-listen or media.listen moves it)", config.media.listen)
    })?;

    let outside = Outside {
        media_time: Box::new({
            let media = media.clone();
            move |room| media.media_time(room)
        }),
        stock: Box::new({
            let desk = desk.clone();
            move |sku| desk.stock(sku)
        }),
        shown: room_events,
    };
    let tape = Tape::start(config.tape.clone())?;
    let rooms = Rooms::open(config.room.clone(), config.ring.clone(), clock.clone(), tape, catalogue, outside).await?;

    let shop = Arc::new(Shop {
        clock,
        keyring: Keyring::new(&config.auth.secret, &config.auth.previous_secret),
        rooms,
        desk,
        media: media.clone(),
        presence: Arc::new(Presence::default()),
        limits: Arc::new(Limits::new(config.limits.clone())),
        payment: config.payment.provider,
        ledger_public: config.ledger.public,
        putting: Arc::default(),
        rehearsal_of: None,
        simulated_act: config.loadtest.allow,
    });
    let fanout = Fanout::start(config.fanout.clone())?;
    let channels = Arc::new(Channels::default());
    let rehearsals = Rehearsals::start(shop.clone(), channels.clone(), making(&config)).await?;
    let rehearsals = Arc::new(rehearsals);
    let ready = Arc::new(AtomicBool::new(true));
    let routing = vec![
        tokio::spawn(routing::route_committed(shop.clone(), config.room.show_sold, committed)),
        tokio::spawn(route_media(rehearsals.clone(), channels.clone(), happened)),
        tokio::spawn(routing::route_shown(shop.clone(), channels.clone(), shown)),
        tokio::spawn(sweep(rehearsals.clone())),
    ];

    let http = server.address().context("the listener has no address")?;
    let app = http::App {
        metrics: Arc::new(config.metrics.clone()),
        shop: shop.clone(),
        rehearsals: rehearsals.clone(),
        fanout: fanout.clone(),
        channels,
        assets: Arc::new(demo.assets),
        demo: demo.gives_tokens,
        started: Instant::now(),
        ready: ready.clone(),
        ops: Arc::default(),
        streams: Arc::default(),
        config: Arc::new(config.http.clone()),
    };
    let serving = server.serve(http::router(app));
    let drain = Duration::from_secs(config.http.drain_seconds);
    let restart = Duration::from_secs(config.http.restart_seconds);
    info!(%http, media = ?media.listening(), rooms = shop.rooms.list().len(), "serving");
    Ok(Running { http, media: media.listening(), shop, rehearsals, serving, fanout, ready, drain, restart, routing })
}

fn making(config: &Config) -> Making {
    Making {
        config: config.rehearsal.clone(),
        store: config.store.path.clone(),
        order: config.order.clone(),
        room: config.room.clone(),
        ring: config.ring.clone(),
        tape: config.tape.clone(),
        limits: config.limits.clone(),
    }
}

/// Opening reads the whole checkpoint and the tail: not on a runtime's worker.
async fn open_desk(config: &Config, clock: Clock, events: mpsc::Sender<order::Event>) -> anyhow::Result<Desk> {
    let (path, order) = (config.store.ledger(), config.order.clone());
    std::fs::create_dir_all(&config.store.path)
        .with_context(|| format!("store.path {}", config.store.path.display()))?;
    let opened = tokio::task::spawn_blocking(move || -> anyhow::Result<Desk> {
        let store = order::store::Sqlite::open(&path)?;
        Ok(Desk::open(order, clock, Box::new(store), events)?)
    });
    opened.await.context("opening the ledger was cancelled")?
}

impl Running {
    /// Ends in order: not ready, no new connections, sockets told to come back, rooms logged, ledger committed.
    ///
    /// # Errors
    /// When a part does not end in its time; it is named. What was answered is on the disk all the same.
    pub async fn drain(self) -> anyhow::Result<()> {
        self.ready.store(false, Ordering::Relaxed);
        let shops = self.rehearsals.shops();
        info!(connections = shops.iter().map(|shop| shop.presence.len()).sum::<usize>(), "draining");
        let (restart, over) = (self.restart, self.drain);
        shops.iter().for_each(|shop| shop.presence.say_goodbye(restart, over));
        let sockets = async { tokio::join!(self.serving.stop(), self.fanout.drain(restart, over)) };
        in_time("sockets", self.drain + PART_ENDS_IN, sockets).await?;
        let media = self.shop.media.clone();
        in_time("media", PART_ENDS_IN, tokio::task::spawn_blocking(move || media.shutdown())).await??;
        for route in &self.routing {
            route.abort();
        }
        in_time("rehearsals", PART_ENDS_IN, self.rehearsals.shutdown()).await?;
        in_time("rooms", PART_ENDS_IN, self.shop.rooms.shutdown()).await?;
        let desk = self.shop.desk.clone();
        in_time("desk", PART_ENDS_IN, tokio::task::spawn_blocking(move || desk.shutdown())).await??;
        let fanout = self.fanout.clone();
        in_time("shards", PART_ENDS_IN, tokio::task::spawn_blocking(move || fanout.shutdown())).await??;
        info!("ended");
        Ok(())
    }
}

/// How long one part may take to end, beyond what its work needs.
const PART_ENDS_IN: Duration = Duration::from_secs(10);

async fn in_time<T>(part: &'static str, time: Duration, ends: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(time, ends).await.map_err(|_| anyhow!("{part} did not end within {time:?}"))
}

/// Media events: live or not to the rooms, texts of data channels to their sessions.
async fn route_media(rehearsals: Arc<Rehearsals>, channels: Arc<Channels>, mut happened: mpsc::Receiver<media::Event>) {
    let mut live: HashMap<RoomId, SessionId> = HashMap::new();
    while let Some(event) = happened.recv().await {
        match event {
            media::Event::Live { room, session, tracks } => {
                let Ok(shop) = rehearsals.at(&room) else { continue };
                live.insert(room.clone(), session);
                let tracks = tracks.iter().map(|t| Track { kind: t.kind.into(), codec: t.codec.into() }).collect();
                tell_media(&shop, &room, true, tracks);
            }
            // The end of a session that was replaced says nothing about the one that runs; and while the next one is
            // still shaking hands, the room goes on as it is.
            media::Event::Ended { room, session } if live.get(&room) == Some(&session) => {
                live.remove(&room);
                let Ok(shop) = rehearsals.at(&room) else { continue };
                if shop.media.publisher(&room).is_none_or(|publisher| publisher == session) {
                    tell_media(&shop, &room, false, vec![]);
                }
            }
            media::Event::Ended { .. } => {}
            media::Event::ChannelOpen { session, room } => {
                if let Ok(shop) = rehearsals.at(&room) {
                    channels.open(&shop, &room, session);
                }
            }
            media::Event::ChannelText { session, text } => channels.message(session, text),
            media::Event::Closed { session, room, publisher } => {
                channels.closed(session);
                let Ok(shop) = rehearsals.at(&room) else { continue };
                shop.presence.remove_media(session);
                // One that never went live leaves nobody behind whom the room could wait for.
                if publisher && !live.contains_key(&room) && shop.media.publisher(&room).is_none() {
                    tell_media(&shop, &room, false, vec![]);
                }
            }
        }
    }
}

fn tell_media(shop: &Shop, room: &RoomId, live: bool, tracks: Vec<Track>) {
    match shop.rooms.get(room) {
        Some(room) => room.tell(Command::Media { live, tracks }),
        None => warn!(%room, "media of a room that is not here"),
    }
}

/// Asks connections whose tokens end for new ones, and ends those that bring none; ends rehearsals that are too old.
async fn sweep(rehearsals: Arc<Rehearsals>) {
    let mut each_second = tokio::time::interval(Duration::from_secs(1));
    loop {
        each_second.tick().await;
        let now = rehearsals.real().clock.wall();
        rehearsals.shops().iter().for_each(|shop| shop.presence.sweep(now));
        rehearsals.sweep(now).await;
    }
}
