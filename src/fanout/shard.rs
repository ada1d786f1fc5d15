use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    mem,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use slab::Slab;
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc},
    task::{spawn_local, yield_now},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    fanout::{
        Config, Inbound, Outlet, Socket,
        batch::Source,
        connection::{Connection, Pumped},
        mailbox::{Bell, Item, Limits, Mailbox},
        reader::{self, Reading},
        sink::Sink,
        stats::Counters,
        sweep,
    },
    protocol::CloseCode,
    ring::Ring,
};

/// Connections looked after between two turns for the readers.
pub(super) const CHUNK: usize = 64;
/// How often deadlines are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// How long connections have to notice that the shard stops.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// What a shard is told.
pub(super) enum Order {
    /// Take over a connection; `turned_away` at once with this code and reason when there is no room for it.
    Adopt { id: u64, socket: Socket, inbound: Box<dyn Inbound>, turned_away: Option<(CloseCode, String)> },
    /// Send everyone away, to come back spread evenly over this time, which begins after `first`.
    Drain { first: Duration, over: Duration },
}

/// What the threads share of a shard.
pub(super) struct Post {
    pub(super) counters: Arc<Counters>,
    /// Told whenever a connection is gone.
    pub(super) left: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

/// One core's share of the connections. Everything in it stays on its thread, and no borrow lives over an await.
pub(super) struct Shard {
    pub(super) config: Config,
    pub(super) counters: Arc<Counters>,
    pub(super) connections: RefCell<Slab<Rc<Connection>>>,
    /// Rounds that are due, and sources with a state event for which it is worth to go out of turn.
    pub(super) is_marked: Cell<bool>,
    pub(super) urgent: RefCell<Vec<Rc<Source>>>,
    pub(super) wake: Notify,
    pub(super) reading: RefCell<Reading>,
    /// By the address of the ring.
    sources: RefCell<HashMap<usize, Rc<Source>>>,
    bell: Arc<Bell>,
    left: Arc<Notify>,
    tasks: TaskTracker,
}

impl Shard {
    pub(super) async fn run(config: Config, post: Post, mut orders: mpsc::Receiver<Order>) {
        let reading = RefCell::new(Reading::new(config.message_bytes_max));
        let bell = Bell::new(Limits { items: config.replies_max, bytes: config.replies_bytes_max });
        let shard = Rc::new(Self {
            config,
            reading,
            counters: post.counters,
            connections: RefCell::default(),
            is_marked: Cell::new(false),
            urgent: RefCell::default(),
            wake: Notify::new(),
            sources: RefCell::default(),
            bell,
            left: post.left,
            tasks: TaskTracker::new(),
        });
        spawn_local(sweep::sweep(shard.clone()));
        spawn_local(shard.clone().answer_bell());
        spawn_local(shard.clone().keep_deadlines());

        loop {
            tokio::select! {
                () = post.stop.cancelled() => break,
                order = orders.recv() => match order {
                    Some(Order::Adopt { id, socket, inbound, turned_away }) => {
                        shard.adopt(id, socket, inbound, turned_away);
                    }
                    Some(Order::Drain { first, over }) => shard.drain(first, over).await,
                    None => break,
                },
            }
        }
        shard.stop().await;
    }

    fn adopt(
        self: &Rc<Self>,
        id: u64,
        socket: Socket,
        inbound: Box<dyn Inbound>,
        turned_away: Option<(CloseCode, String)>,
    ) {
        let Socket { stream, tls, read_ahead, deflates } = socket;
        let is_tls = tls.is_some();
        let Ok(stream) = TcpStream::from_std(stream) else {
            return self.leave(is_tls);
        };
        let sink = match tls {
            None => Sink::plain(stream),
            Some(session) => Sink::tls(stream, session),
        };

        let connection = {
            let mut connections = self.connections.borrow_mut();
            let place = connections.vacant_entry();
            let mailbox = Mailbox::new(id, place.key(), self.bell.clone());
            let connection =
                Connection::new(place.key(), sink, deflates, mailbox, self.counters.clone(), Instant::now());
            place.insert(connection).clone()
        };
        let inbound = match turned_away {
            None => Some(inbound),
            Some((code, reason)) => {
                connection.mailbox.put(Item::Close { code, reason });
                None
            }
        };
        self.tasks.spawn_local(reader::attend(self.clone(), connection, read_ahead.to_vec(), inbound));
    }

    /// Writes what waits for one connection; what it leaves unfinished is gone on with in the next round.
    pub(super) fn pump(self: &Rc<Self>, connection: &Connection, is_turn: bool, now: Instant) {
        if connection.pump(self, is_turn, now) == Pumped::Unfinished {
            self.mark();
        }
    }

    /// Asks for one more round over all connections.
    pub(super) fn mark(&self) {
        if !self.is_marked.replace(true) {
            self.wake.notify_one();
        }
    }

    pub(super) fn get(&self, key: usize) -> Option<Rc<Connection>> {
        self.connections.borrow().get(key).cloned()
    }

    pub(super) fn outlet(&self, connection: &Connection) -> Outlet {
        Outlet(connection.mailbox.clone())
    }

    pub(super) fn remove(self: &Rc<Self>, connection: &Connection, code: u16) {
        connection.forget(self);
        connection.sink.end();
        self.connections.borrow_mut().remove(connection.key);
        self.counters.closed(code);
        self.leave(connection.sink.is_tls());
    }

    fn leave(&self, is_tls: bool) {
        if is_tls { &self.counters.tls } else { &self.counters.plain }.subtract(1);
        self.left.notify_waiters();
    }

    async fn answer_bell(self: Rc<Self>) {
        let mut keys = Vec::new();
        loop {
            self.bell.rung.notified().await;
            self.bell.answer(&mut keys);
            for (count, key) in keys.drain(..).enumerate() {
                if let Some(connection) = self.get(key) {
                    connection.answer_bell();
                    self.pump(&connection, false, Instant::now());
                }
                if count % CHUNK == CHUNK - 1 {
                    yield_now().await;
                }
            }
        }
    }

    async fn keep_deadlines(self: Rc<Self>) {
        let mut every = interval(CHECK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let (mut queued, now) = (0, Instant::now());
            self.for_each(|connection| {
                queued += connection.mailbox.len() as u64;
                if connection.check(&self.config, now) {
                    self.pump(connection, false, now);
                }
            })
            .await;
            self.counters.queued.set(queued);
        }
    }

    async fn drain(&self, first: Duration, over: Duration) {
        let (count, mut place) = (self.connections.borrow().len().max(1) as u128, 0);
        self.for_each(|connection| {
            let wait_ms = first.as_millis() + over.as_millis() * place / count;
            place += 1;
            self.outlet(connection).close(CloseCode::Bye, &wait_ms.to_string());
        })
        .await;
    }

    /// Visits all connections, a chunk at a time.
    async fn for_each(&self, mut visit: impl FnMut(&Rc<Connection>)) {
        let mut from = 0;
        while from < self.connections.borrow().capacity() {
            for key in from..from + CHUNK {
                if let Some(connection) = self.get(key) {
                    visit(&connection);
                }
            }
            from += CHUNK;
            yield_now().await;
        }
    }

    async fn stop(&self) {
        self.for_each(|connection| connection.sink.cut()).await;
        self.tasks.close();
        let _ = timeout(STOP_WITHIN, self.tasks.wait()).await;
    }

    /// This shard's view of the room that `key` begins to follow.
    pub(super) fn follow(self: &Rc<Self>, ring: Arc<Ring>, key: usize) -> Rc<Source> {
        let mut sources = self.sources.borrow_mut();
        let source = sources.entry(Arc::as_ptr(&ring).addr()).or_insert_with(|| {
            let source = Source::new(ring);
            let watch = self.clone().watch(Rc::downgrade(&source), source.ring.clone(), source.ring.head());
            spawn_local(watch);
            source
        });
        source.followers.borrow_mut().insert(key);
        source.clone()
    }

    pub(super) fn unfollow(&self, source: &Source, key: usize) {
        let mut followers = source.followers.borrow_mut();
        followers.remove(&key);
        if followers.is_empty() {
            self.sources.borrow_mut().remove(&Arc::as_ptr(&source.ring).addr());
        }
    }

    /// Tells the sweep of each new frame, as long as somebody here follows the room.
    async fn watch(self: Rc<Self>, source: Weak<Source>, ring: Arc<Ring>, mut seen: u64) {
        while !ring.is_closed() {
            ring.changed(seen).await;
            let Some(source) = source.upgrade() else { return };
            // In this order: an urgent frame that comes in between is seen twice, not overlooked.
            let head = ring.head();
            let has_urgent = ring.urgent_head() > mem::replace(&mut seen, head);
            if has_urgent && !source.is_urgent.replace(true) {
                self.urgent.borrow_mut().push(source);
                self.wake.notify_one();
            }
            self.mark();
        }
    }
}
