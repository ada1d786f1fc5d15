//! `Handle`: a room as others hold it.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::{
    clock::UnixMs,
    id::{SkuId, Who},
    protocol::{ErrorCode, Event, Fault, Role, Snapshot},
    ring::Ring,
    room::{
        Command, RoomFacts, Seat,
        audience::Audience,
        notices::Notices,
        tape::line::{Demand, Line},
    },
};

pub(super) enum Request {
    Do { command: Command, reply: Option<oneshot::Sender<Result<Vec<Event>, Fault>>> },
    Snapshot(oneshot::Sender<Snapshot>),
    StateHash(oneshot::Sender<String>),
    Demand(Line),
    Close(oneshot::Sender<()>),
}

/// What lists and checks need to know of a room without asking it.
#[derive(Clone, Debug, Default)]
pub struct Brief {
    pub seq: u64,
    pub running: bool,
    pub started_at: Option<UnixMs>,
    /// Video or audio is arriving.
    pub live: bool,
    pub skus: Arc<HashSet<SkuId>>,
    /// Who was removed from the show.
    pub kicks: Arc<std::collections::BTreeSet<Who>>,
}

/// Counters of a room since the server started.
#[derive(Debug, Default)]
pub struct Stats {
    pub events: AtomicU64,
    pub comments_left_out: AtomicU64,
    pub sales_left_out: AtomicU64,
    pub frames: AtomicU64,
    pub demand_dropped: AtomicU64,
    /// Adjustments and sales that were told while too many waited, and are not in the log.
    pub notices_left_out: AtomicU64,
}

#[derive(Clone)]
pub struct Handle {
    pub(super) facts: Arc<RoomFacts>,
    pub(super) mailbox: mpsc::Sender<Request>,
    pub(super) notices: Arc<Notices>,
    pub(super) ring: Arc<Ring>,
    pub(super) audience: Arc<Audience>,
    pub(super) brief: Arc<ArcSwap<Brief>>,
    pub(super) stats: Arc<Stats>,
}

impl Handle {
    pub fn facts(&self) -> &RoomFacts {
        &self.facts
    }

    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    pub fn brief(&self) -> Arc<Brief> {
        self.brief.load_full()
    }

    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    pub fn mailbox_len(&self) -> usize {
        self.mailbox.max_capacity() - self.mailbox.capacity()
    }

    /// The show that runs now, as a name that limits per show are counted under.
    pub fn show(&self) -> Option<String> {
        let brief = self.brief.load();
        brief.started_at.filter(|_| brief.running).map(|at| format!("{}@{}", self.facts.id, at.0))
    }

    pub fn enter(&self, who: &Who, role: Role, simulated: bool) -> Seat {
        self.audience.enter(who, role, simulated)
    }

    /// Has the room decide a command. The answer carries the events that it made; for state commands they are on the
    /// disk by then, and in every case they were logged before anybody saw them.
    pub async fn act(&self, command: Command) -> Result<Vec<Event>, Fault> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Do { command, reply: Some(reply) };
        self.mailbox.try_send(request).map_err(|_| busy())?;
        answer.await.map_err(|_| busy())?
    }

    /// Tells the room a fact that nobody waits for, and does not wait either. While the room is behind, counts, products
    /// and the picture merge to the newest; adjustments and sales beyond a bound are left out, and counted.
    pub fn tell(&self, command: Command) {
        // A product's change keeps its place among the changes of the shelf, unless there are too many of those.
        let command = match command {
            Command::ProductChanged(_) => match self.mailbox.try_send(Request::Do { command, reply: None }) {
                Err(mpsc::error::TrySendError::Full(Request::Do { command, .. })) => command,
                _ => return,
            },
            other => other,
        };
        if !self.notices.post(command) {
            self.stats.notices_left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub async fn snapshot(&self) -> Result<Snapshot, Fault> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.try_send(Request::Snapshot(reply)).map_err(|_| busy())?;
        answer.await.map_err(|_| busy())
    }

    /// The [`state_hash`](super::state_hash()) of what is shown.
    pub async fn state_hash(&self) -> Result<String, Fault> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.try_send(Request::StateHash(reply)).map_err(|_| busy())?;
        answer.await.map_err(|_| busy())
    }

    /// Notes on the tape what somebody wanted. Dropped, and counted, when the room is behind.
    pub fn note(&self, at: UnixMs, who: &Who, demand: Demand) {
        let line = Line::Demand { at, who: who.clone(), demand };
        if self.mailbox.try_send(Request::Demand(line)).is_err() {
            self.stats.demand_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.mailbox.send(Request::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

pub(super) fn busy() -> Fault {
    Fault::new(ErrorCode::Busy, "the room is busy, try again").retry_after(500)
}
