//! `Hub`: a room's task. It owns the mailbox, the timers and the order in which things are logged and shown.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{Instrument, debug, error, info_span, warn};

use crate::{
    clock::Clock,
    protocol::{Body, Event, Fault, SILENCE_MAX, Tally},
    room::{
        Brief, Command, Config, Outside, Shown, Stats,
        audience::Audience,
        handle::{Request, busy},
        notices::Notices,
        room::Room,
        showing::Showing,
        state_hash,
        tape::{Append, Error as TapeError, Receipt, Tape, line::Line},
    },
};

/// Requests that are taken from the mailbox at once.
const BATCH_MAX: usize = 512;
/// How often likes and viewers are told, when they changed.
const TALLY_EVERY: Duration = Duration::from_secs(1);
/// Facts that wait for the tape to take them again.
const RETRIES_MAX: usize = 4_096;

type Reply = oneshot::Sender<Result<Vec<Event>, Fault>>;

pub(super) struct Hub {
    pub config: Config,
    pub clock: Clock,
    pub tape: Tape,
    pub outside: Arc<Outside>,
    pub audience: Arc<Audience>,
    pub notices: Arc<Notices>,
    pub brief: Arc<ArcSwap<Brief>>,
    pub stats: Arc<Stats>,
    /// Runs ahead of `showing` by the tick that is being logged.
    pub room: Room,
    pub showing: Showing,
    pub told: Tally,
    pub tick: Tick,
    pub segment_full: bool,
    /// Facts that the tape did not take.
    pub retries: VecDeque<Command>,
}

/// What was decided and is not yet logged.
#[derive(Default)]
pub(super) struct Tick {
    events: Vec<(Event, bool)>,
    demand: Vec<u8>,
    replies: Vec<(Reply, Vec<Event>)>,
    facts: Vec<Command>,
    flush: bool,
    due: Option<Instant>,
}

impl Tick {
    fn is_urgent(&self) -> bool {
        Showing::is_urgent(&self.events)
    }
}

/// Replies that wait for the flush of their tick.
struct Flushing {
    flushed: oneshot::Receiver<Result<(), TapeError>>,
    replies: Vec<(Reply, Vec<Event>)>,
}

pub(super) fn spawn(mut hub: Hub, mut mailbox: mpsc::Receiver<Request>) {
    hub.publish_brief();
    hub.showing.refresh(hub.audience.tally().viewers);
    let span = info_span!("room", room = %hub.showing.state().room);
    let run = async move {
        let closing = hub.run(&mut mailbox).await;
        hub.close_tick().await;
        hub.tape.close(&hub.showing.state().room).await;
        hub.showing.ring().close();
        if let Some(done) = closing {
            let _ = done.send(());
        }
    };
    #[expect(clippy::let_underscore_future, reason = "the hub ends when its last handle closes it")]
    let _ = tokio::spawn(run.instrument(span));
}

impl Hub {
    async fn run(&mut self, mailbox: &mut mpsc::Receiver<Request>) -> Option<oneshot::Sender<()>> {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut flushing: VecDeque<Flushing> = VecDeque::new();
        let mut beat = interval(TALLY_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut spoke = Instant::now();
        loop {
            let due = self.tick.due;
            tokio::select! {
                biased;
                flushed = flush_of_first(&mut flushing), if !flushing.is_empty() => {
                    if let Some(first) = flushing.pop_front() {
                        answer(first.replies, flushed);
                    }
                }
                taken = mailbox.recv_many(&mut batch, BATCH_MAX) => {
                    if taken == 0 {
                        return None;
                    }
                    for request in batch.drain(..) {
                        if let Some(done) = self.take(request) {
                            return Some(done);
                        }
                    }
                }
                () = self.notices.arrived() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    flushing.extend(self.close_tick().await);
                    spoke = Instant::now();
                }
                _ = beat.tick() => {
                    self.beat(spoke.elapsed() + TALLY_EVERY >= SILENCE_MAX, &mut spoke);
                    self.retry();
                }
            }
            for notice in self.notices.take(BATCH_MAX) {
                self.decide(notice, None);
            }
            if self.tick.is_urgent() {
                flushing.extend(self.close_tick().await);
                spoke = Instant::now();
            }
        }
    }

    fn take(&mut self, request: Request) -> Option<oneshot::Sender<()>> {
        match request {
            Request::Do { command, reply } => self.decide(command, reply),
            Request::Snapshot(reply) => {
                let _ = reply.send(self.showing.snapshot(self.audience.tally().viewers));
            }
            Request::StateHash(reply) => {
                let _ = reply.send(state_hash(self.showing.state()));
            }
            Request::Demand(line) => {
                line.write(&mut self.tick.demand);
                self.tick_is_due();
            }
            Request::Close(done) => return Some(done),
        }
        None
    }

    fn decide(&mut self, command: Command, reply: Option<Reply>) {
        let now = self.clock.now();
        let media = (self.outside.media_time)(&self.showing.state().room);
        let flush = command.is_flushed();
        let fact = command.is_fact().then(|| command.clone());
        match self.room.apply(command, now, media) {
            Err(refused) => {
                if let Some(reply) = reply {
                    let _ = reply.send(Err(refused));
                }
            }
            Ok(events) if events.is_empty() && self.tick.events.is_empty() => {
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(Vec::new()));
                }
            }
            Ok(events) => {
                let made: Vec<Event> = events.iter().map(|(e, _)| e.clone()).collect();
                let reads_stock = made.iter().any(|e| matches!(e.body, Body::Shelf { .. }));
                self.tick.events.extend(events);
                self.tick.replies.extend(reply.map(|r| (r, made)));
                self.tick.facts.extend(fact);
                self.tick.flush |= flush;
                self.tick_is_due();
                if reads_stock {
                    self.read_stock();
                }
            }
        }
    }

    /// The shelf is new: from now on its SKUs' counts are routed here, and those of this moment are read.
    fn read_stock(&mut self) {
        self.publish_brief();
        let skus: Vec<_> = self.room.state().shelf.iter().flat_map(|p| p.skus.iter().map(|s| s.id.clone())).collect();
        for sku in skus {
            if let Some((count, hash)) = (self.outside.stock)(&sku) {
                self.decide(Command::Stock { sku, count, hash }, None);
            }
        }
    }

    fn tick_is_due(&mut self) {
        let tick = Duration::from_millis(self.config.tick_ms);
        self.tick.due.get_or_insert_with(|| Instant::now() + tick);
    }

    /// Logs the tick, then shows it. Returns the replies that still wait for the flush.
    async fn close_tick(&mut self) -> Option<Flushing> {
        let tick = std::mem::take(&mut self.tick);
        if tick.events.is_empty() && tick.demand.is_empty() {
            return None;
        }
        let append = Append { lines: self.lines_of(&tick), flush: tick.flush, roll: self.next_segment(&tick) };
        let rolled = append.roll.is_some();
        let logged = match self.tape.append(&self.showing.state().room, append).await {
            Ok(Receipt { written, flushed }) => match written.await {
                Ok(outcome) => outcome.map(|len| (len, flushed)),
                Err(_) => Err(TapeError::Ended),
            },
            Err(e) => Err(e),
        };
        let (len, flushed) = match logged {
            Ok(logged) => logged,
            Err(e) => {
                self.give_up(tick, &e);
                return None;
            }
        };
        self.segment_full = !rolled && len >= self.tape.segment_len_max();
        self.show(&tick);
        match flushed {
            Some(flushed) => Some(Flushing { flushed, replies: tick.replies }),
            None => {
                answer(tick.replies, Ok(()));
                None
            }
        }
    }

    fn lines_of(&self, tick: &Tick) -> Vec<u8> {
        let mut lines = tick.demand.clone();
        for (event, shown) in &tick.events {
            Line::Event { event: event.clone(), left_out: !shown }.write(&mut lines);
        }
        lines
    }

    /// A segment per show, and another when one is full. It starts from the state behind this tick.
    fn next_segment(&self, tick: &Tick) -> Option<Vec<u8>> {
        let show_turns = |e: &Event| matches!(e.body, Body::ShowStarted {} | Body::ShowEnded {});
        let turned = tick.events.iter().any(|(e, _)| show_turns(e));
        (turned || self.segment_full)
            .then(|| Line::head(self.room.state(), self.showing.ring().epoch(), self.clock.now()))
    }

    /// Nothing of this tick happened: nobody saw it, and those who wait are told to try again.
    fn give_up(&mut self, tick: Tick, why: &TapeError) {
        error!(error = %why, events = tick.events.len(), "the tape does not take a tick: nothing of it is shown");
        self.room.back_to(self.showing.state());
        for (reply, _) in tick.replies {
            let _ = reply.send(Err(busy()));
        }
        for fact in tick.facts {
            if self.retries.len() < RETRIES_MAX {
                self.retries.push_back(fact);
            }
        }
        self.publish_brief();
    }

    fn retry(&mut self) {
        for command in std::mem::take(&mut self.retries) {
            self.decide(command, None);
        }
    }

    fn show(&mut self, tick: &Tick) {
        if tick.events.is_empty() {
            return;
        }
        self.follow_up(&tick.events);
        let left_out = self.showing.show(&tick.events, self.audience.tally().viewers);
        self.stats.events.fetch_add(tick.events.len() as u64, Ordering::Relaxed);
        self.stats.comments_left_out.fetch_add(u64::from(left_out.comments), Ordering::Relaxed);
        self.stats.sales_left_out.fetch_add(u64::from(left_out.sales), Ordering::Relaxed);
        self.stats.frames.fetch_add(1, Ordering::Relaxed);
    }

    /// What other parts must know of what is shown now. First who may not come in, then whom to end: so that nobody
    /// slips in between.
    fn follow_up(&mut self, events: &[(Event, bool)]) {
        if Showing::is_urgent(events) {
            self.publish_brief();
        }
        for (event, _) in events {
            match &event.body {
                Body::Kick { who } => {
                    let room = self.showing.state().room.clone();
                    let kicked = Shown::Kicked { room, who: who.clone() };
                    if self.outside.shown.try_send(kicked).is_err() {
                        warn!("a kick waits for its connections to end by themselves");
                    }
                }
                Body::ShowStarted {} => self.audience.forget_likes(),
                _ => {}
            }
        }
    }

    fn publish_brief(&self) {
        let state = self.room.state();
        let skus: HashSet<_> = state.shelf.iter().flat_map(|p| p.skus.iter().map(|s| s.id.clone())).collect();
        self.brief.store(Arc::new(Brief {
            seq: state.seq,
            running: state.show.running,
            started_at: state.show.started_at,
            live: state.media.live,
            skus: Arc::new(skus),
            kicks: Arc::new(state.kicks.clone()),
        }));
    }

    /// Once a second: the tally when it changed or when nothing was said for long.
    fn beat(&mut self, silent: bool, spoke: &mut Instant) {
        let tally = self.audience.tally();
        if tally == self.told && !silent {
            return self.showing.refresh_if_wanted(tally.viewers);
        }
        if tally != self.told {
            let at = self.clock.now();
            Line::Tally { at, viewers: tally.viewers, likes: tally.likes }.write(&mut self.tick.demand);
            self.tick_is_due();
        }
        self.told = tally;
        self.room.set_likes(tally.likes);
        self.room.prune(self.clock.now());
        *spoke = Instant::now();
        self.showing.tell(tally);
        self.stats.frames.fetch_add(1, Ordering::Relaxed);
        debug!(viewers = tally.viewers, likes = tally.likes, "tally");
    }
}

async fn flush_of_first(waiting: &mut VecDeque<Flushing>) -> Result<(), TapeError> {
    match waiting.front_mut() {
        Some(first) => (&mut first.flushed).await.unwrap_or(Err(TapeError::Ended)),
        None => std::future::pending().await,
    }
}

/// Events that were shown happened, even when their flush failed; who asked for them is told what is known.
fn answer(replies: Vec<(Reply, Vec<Event>)>, flushed: Result<(), TapeError>) {
    if let Err(e) = &flushed {
        error!(error = %e, "shown, but perhaps not on the disk");
    }
    for (reply, events) in replies {
        let _ = reply.send(if flushed.is_ok() { Ok(events) } else { Err(busy()) });
    }
}
