use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use maishou::{id::HoldId, protocol::CloseCode};
use mio::{Events, Interest, Poll, Token};
use rand::RngExt as _;

use super::{
    Outcome, Plan, SECONDS_MAX, Shared,
    address::{connect, connect_slow},
    deeds::{Deeds, What},
    director::{Act, Director},
    standings,
    timers::{Due, Timers},
    viewer::{Around, End, FollowUp, Kind, Network, Viewer, comment},
};
use crate::{
    process,
    scenario::Arrival,
    tally::{Notes, Second},
    witness::Witness,
};

/// With more viewers than this, one in so many has her events timed; frames and gaps are seen for all.
const ALL_SAMPLED_MAX: usize = 1_000;
const SAMPLE: usize = 8;
/// Viewers that are on their way in at one time.
const ARRIVING_MAX: usize = 512;
const READ_BYTES: usize = 256 << 10;
/// A poll that finds less than this is followed by a nap: a client that wakes for each message makes the server pay
/// for the waking.
const BUSY_EVENTS: usize = 256;
const NAP: Duration = Duration::from_micros(300);
const SLOW_READ_EVERY: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// A viewer whose way in takes longer begins again.
const ARRIVAL_TIME: Duration = Duration::from_secs(20);
/// How a client comes back by itself: at random within this.
const RETURN_WITHIN: Duration = Duration::from_millis(500);
/// A network that broke is back within this.
const BROKEN_FOR: Duration = Duration::from_secs(2);
const ACTS: [Act; 4] = [Act::Comment, Act::Like, Act::Order, Act::Leave];

/// The crowd's thread.
pub struct Stand {
    plan: Plan,
    shared: Arc<Shared>,
    poll: Poll,
    viewers: Vec<Viewer>,
    slow: Vec<usize>,
    notes: Notes,
    witness: Witness,
    deeds: Deeds,
    timers: Timers,
    follow_ups: Vec<(usize, FollowUp)>,
    director: Director,
    begin: Option<Instant>,
    phase: Option<usize>,
    /// Viewers on their way in, with the time at which they give up waiting.
    arriving: Vec<(usize, u32, Instant)>,
    /// Who does the next thing.
    turn: usize,
    acts: u64,
    /// Since when somebody is there to do things.
    present_since: Option<Instant>,
    told: Instant,
    second_at: Option<Instant>,
    slow_at: Instant,
    schedule: process::Schedule,
}

impl Stand {
    pub fn new(plan: Plan, shared: Arc<Shared>) -> io::Result<Self> {
        let now = Instant::now();
        let count = plan.tokens.len();
        let viewers: Vec<Viewer> = (0..count).map(|number| viewer(&plan, number, count)).collect();
        let slow = viewers.iter().filter(|viewer| viewer.network == Network::Slow).map(|viewer| viewer.number);
        let mut timers = Timers::default();
        let rate = match plan.scenario.audience.arrive {
            Arrival::Ramp => f64::from(plan.scenario.audience.arrivals_per_second) * plan.share,
            Arrival::Spike | Arrival::Storm => f64::INFINITY,
        };
        for number in 0..count {
            timers.at(now + Duration::from_secs_f64(number as f64 / rate), number, Due::Connect);
        }
        Ok(Self {
            director: Director::new(&plan.scenario, &ACTS, plan.share),
            witness: Witness::new(plan.server_ahead_us),
            slow: slow.collect(),
            shared,
            poll: Poll::new()?,
            viewers,
            notes: Notes::default(),
            deeds: Deeds::default(),
            timers,
            follow_ups: Vec::new(),
            begin: None,
            phase: None,
            arriving: Vec::new(),
            turn: 0,
            acts: 0,
            present_since: None,
            told: now,
            second_at: None,
            slow_at: now,
            schedule: process::Schedule::default(),
            plan,
        })
    }

    pub fn run(mut self) -> io::Result<Outcome> {
        let mut events = Events::with_capacity(2_048);
        let mut buffer = vec![0; READ_BYTES];
        let mut turned = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.keep_time();
            self.do_what_is_due();
            self.poll.poll(&mut events, Some(Duration::from_millis(1)))?;
            for event in &events {
                if let Some(viewer) = self.viewers.get(event.token().0)
                    && (viewer.network != Network::Slow || !viewer.is_in())
                {
                    self.look(event.token().0, &mut buffer);
                }
            }
            self.read_slowly(&mut buffer);
            self.follow_up();
            self.tell();
            if events.iter().count() < BUSY_EVENTS {
                thread::park_timeout(NAP);
            }
            let now = Instant::now();
            if self.phase.is_some() {
                self.notes.pace.turns.record_time(now - turned);
            }
            turned = now;
        }
        Ok(self.close())
    }

    /// Which phase it is, and what its beginning brings.
    fn keep_time(&mut self) {
        if self.begin.is_none() {
            self.begin = *self.shared.begin.lock().expect("nobody panics with it");
        }
        let quiet = self.shared.quiet.load(Ordering::Relaxed);
        let Some(begin) = self.begin.filter(|begin| *begin <= Instant::now()) else { return };
        let elapsed = begin.elapsed().as_secs_f64();
        let is_over = quiet || elapsed >= self.plan.scenario.seconds();
        let phase = (!is_over).then(|| self.plan.scenario.phase_at(elapsed));
        if phase == self.phase {
            return;
        }
        if self.phase.is_none() {
            self.schedule = process::Schedule::of_this_thread();
        }
        match phase {
            Some(phase) => self.enter(phase),
            None => {
                let (busy, waited) = process::Schedule::of_this_thread().since(&self.schedule);
                (self.notes.pace.busy, self.notes.pace.waited) = (busy / elapsed, waited / elapsed);
                self.tell_second(begin);
            }
        }
        self.phase = phase;
        self.notes.enter(phase);
    }

    fn enter(&mut self, phase: usize) {
        let is_storm = self.plan.scenario.audience.arrive == Arrival::Storm;
        let part = if is_storm { 1.0 } else { self.plan.scenario.phases[phase].cut };
        let cut = (self.viewers.len() as f64 * part).round() as usize;
        for number in 0..cut {
            self.cut(number, RETURN_WITHIN);
        }
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        while let Some((at, who, due)) = self.timers.next(now) {
            match due {
                Due::Connect if self.arriving.len() >= ARRIVING_MAX => {
                    self.timers.at(at, who, Due::Connect);
                    break;
                }
                Due::Connect => self.connect(who, at),
                Due::Cut { connection } if self.viewers[who].connection == connection => self.cut(who, BROKEN_FOR),
                Due::Cut { .. } => {}
                Due::Do(what) => self.deed(who, what, at),
            }
        }
        self.give_up_waiting(now);
        self.act(now);
    }

    /// What the scenario says is to be done by now. Nobody does anything while nobody is there.
    fn act(&mut self, now: Instant) {
        let Some((begin, _)) = self.begin.zip(self.phase) else { return };
        let elapsed = now.saturating_duration_since(begin).as_secs_f64();
        while let Some(who) = self.somebody() {
            let Some((act, due)) = self.director.next(elapsed) else { return };
            let due = begin + Duration::from_secs_f64(due);
            if self.present_since.is_some_and(|since| due >= since) {
                self.notes.pace.late.record_time(Instant::now().saturating_duration_since(due));
            }
            self.turn = who + 1;
            self.acts += 1;
            match act {
                Act::Comment => self.ask(who, What::Comment, due),
                Act::Like => self.ask(who, What::Like, due),
                Act::Order => {
                    let what = self.order(due);
                    self.ask(who, what, due);
                }
                Act::Leave => self.leave(who),
                Act::Look => {}
            }
        }
        self.present_since = None;
    }

    /// The next one over a WebSocket who is in.
    fn somebody(&mut self) -> Option<usize> {
        let count = self.plan.websocket;
        let found = (0..count).map(|step| (self.turn + step) % count).find(|who| self.viewers[*who].is_in());
        if found.is_some() {
            self.present_since.get_or_insert_with(Instant::now);
        }
        found
    }

    fn order(&self, due: Instant) -> What {
        let phase = self
            .begin
            .map_or(0, |begin| self.plan.scenario.phase_at(due.saturating_duration_since(begin).as_secs_f64()));
        let mut rng = rand::rng();
        let products = self.plan.goods.len();
        let product = self.plan.scenario.phases[phase].rush_on.map_or_else(|| rng.random_range(0..products), |n| n - 1);
        let skus = &self.plan.goods[product.min(products - 1)];
        let sku = skus[rng.random_range(0..skus.len())].clone();
        What::Hold { sku, pieces: self.plan.scenario.acts.pieces, key: format!("{}-{}", self.plan.run, self.acts) }
    }

    fn ask(&mut self, who: usize, what: What, due: Instant) {
        let text = match what {
            What::Comment => comment(self.acts, self.plan.base.at_us(due)),
            _ => String::new(),
        };
        if self.viewers[who].ask(what, &text, due).is_err() {
            self.ended(who, End::Lost);
        }
    }

    /// A payment or cancellation. Who is away does it when she is back.
    fn deed(&mut self, who: usize, what: What, due: Instant) {
        if self.viewers[who].is_in() {
            self.ask(who, what, due);
        } else {
            self.timers.at(Instant::now() + Duration::from_millis(100), who, Due::Do(what));
        }
    }

    fn follow_up(&mut self) {
        for (who, follow_up) in std::mem::take(&mut self.follow_ups) {
            let (wait, what) = match follow_up {
                FollowUp::Again(what, wait) => (wait, what),
                FollowUp::Decide(hold) => match self.decide(hold) {
                    Some(decided) => decided,
                    None => continue,
                },
            };
            self.timers.at(Instant::now() + wait, who, Due::Do(what));
        }
    }

    /// She pays, cancels, or lets it expire.
    fn decide(&self, hold: HoldId) -> Option<(Duration, What)> {
        let acts = &self.plan.scenario.acts;
        let mut rng = rand::rng();
        let wait = Duration::from_millis(rng.random_range(0..=acts.think_ms));
        let part: f64 = rng.random();
        if part < acts.pays {
            Some((wait, What::Pay { hold }))
        } else if part < acts.pays + acts.gives_up {
            Some((wait, What::Cancel { hold }))
        } else {
            None
        }
    }

    fn connect(&mut self, who: usize, since: Instant) {
        if !self.viewers[who].is_away() {
            return;
        }
        let open = if self.viewers[who].network == Network::Slow { connect_slow } else { connect };
        let opened = open(self.plan.server, who).and_then(|mut stream| {
            self.poll.registry().register(&mut stream, Token(who), Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => {
                self.viewers[who].connect(stream, since);
                let until = Instant::now() + ARRIVAL_TIME;
                self.arriving.push((who, self.viewers[who].connection, until));
            }
            Err(error) => {
                self.notes.tally.socket_error(&error);
                self.timers.at(Instant::now() + SECOND, who, Due::Connect);
            }
        }
    }

    fn give_up_waiting(&mut self, now: Instant) {
        let viewers = &self.viewers;
        let mut late = Vec::new();
        self.arriving.retain(|(who, connection, until)| {
            let viewer = &viewers[*who];
            let is_waiting = viewer.connection == *connection && !viewer.is_in() && !viewer.is_away();
            if is_waiting && *until < now {
                late.push(*who);
            }
            is_waiting && *until >= now
        });
        late.into_iter().for_each(|who| self.ended(who, End::Lost));
    }

    fn look(&mut self, who: usize, buffer: &mut [u8]) {
        let Self { plan, notes, witness, deeds, follow_ups, viewers, .. } = self;
        let viewer = &mut viewers[who];
        let was_in = viewer.is_in();
        let looked = viewer.look(&mut Around { plan, notes, witness, deeds, follow_ups }, buffer);
        if !was_in && viewer.is_in() {
            self.came_in(who);
        }
        if let Err(end) = looked {
            self.ended(who, end);
        }
    }

    fn came_in(&mut self, who: usize) {
        let viewer = &self.viewers[who];
        *in_now(&mut self.notes, viewer.kind) += 1;
        if viewer.network == Network::Flaky {
            let part = rand::rng().random_range(0.5..1.5);
            let wait = Duration::from_secs_f64(self.plan.scenario.audience.flaky_seconds * part);
            self.timers.at(Instant::now() + wait, who, Due::Cut { connection: viewer.connection });
        }
    }

    /// The connection breaks by our doing, and comes back within a while.
    fn cut(&mut self, who: usize, back_within: Duration) {
        if !self.viewers[who].is_in() || self.shared.quiet.load(Ordering::Relaxed) {
            return;
        }
        self.notes.tally.cut += 1;
        self.away(who, false);
        let wait = back_within.mul_f64(rand::random());
        self.timers.at(Instant::now() + wait, who, Due::Connect);
    }

    fn leave(&mut self, who: usize) {
        self.notes.tally.cut += 1;
        self.away(who, true);
        let wait = Duration::from_millis(self.plan.scenario.acts.away_ms);
        self.timers.at(Instant::now() + wait, who, Due::Connect);
    }

    fn away(&mut self, who: usize, is_polite: bool) {
        let viewer = &mut self.viewers[who];
        if viewer.is_in() {
            *in_now(&mut self.notes, viewer.kind) -= 1;
        }
        viewer.end(is_polite, &mut self.notes, &mut self.deeds);
    }

    /// The connection ended without our doing.
    fn ended(&mut self, who: usize, end: End) {
        let viewer = &self.viewers[who];
        if viewer.is_away() {
            return;
        }
        let (was_in, is_slow) = (viewer.is_in(), viewer.network == Network::Slow);
        self.away(who, false);
        let tally = &mut self.notes.tally;
        let wait = match end {
            End::Refused => {
                tally.refused += 1;
                return;
            }
            End::PutOff(wait) => {
                tally.put_off += 1;
                wait
            }
            End::Closed(code) => {
                *tally.closes.entry(code).or_default() += 1;
                let is_expected = is_slow && code == CloseCode::Slow.number();
                tally.lost += u64::from(was_in && !is_expected);
                if !CloseCode::reconnects(code) {
                    tally.refused += 1;
                    return;
                }
                Duration::ZERO
            }
            End::Lost => {
                tally.lost += u64::from(was_in && !is_slow);
                Duration::ZERO
            }
        };
        let wait = wait + RETURN_WITHIN.mul_f64(rand::random());
        self.timers.at(Instant::now() + wait, who, Due::Connect);
    }

    /// Slow networks bring a little at a time.
    fn read_slowly(&mut self, buffer: &mut [u8]) {
        if self.slow.is_empty() || self.slow_at.elapsed() < SLOW_READ_EVERY {
            return;
        }
        self.slow_at = Instant::now();
        // At the end they are let to read all there is, so that they can stand where the others do.
        let is_quiet = self.shared.quiet.load(Ordering::Relaxed);
        let budget = (self.plan.scenario.audience.slow_bytes_per_second as usize / 10).clamp(1, buffer.len());
        let budget = if is_quiet { buffer.len() } else { budget };
        for at in 0..self.slow.len() {
            if self.viewers[self.slow[at]].is_in() {
                self.look(self.slow[at], &mut buffer[..budget]);
            }
        }
    }

    fn tell(&mut self) {
        if self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Instant::now();
        let open: usize = self.viewers.iter().map(Viewer::open).sum();
        self.notes.tally.open = (open + self.timers.open()) as u64;
        *self.shared.tally.lock().expect("nobody panics with it") = self.notes.tally.clone();
        let stands = || self.viewers.iter().filter_map(|viewer| Some(viewer.stands()?.1));
        self.shared.slowest.store(stands().min().unwrap_or(0), Ordering::Relaxed);
        self.shared.fastest.store(stands().max().unwrap_or(0), Ordering::Relaxed);
        let Some((begin, _)) = self.begin.zip(self.phase) else { return };
        let at = *self.second_at.get_or_insert(begin + SECOND);
        if at <= Instant::now() {
            self.second_at = Some(at + SECOND);
            self.tell_second(begin);
        }
    }

    fn tell_second(&mut self, begin: Instant) {
        let latencies = std::mem::take(&mut self.notes.second);
        let at_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(0);
        let mut seconds = self.shared.seconds.lock().expect("nobody panics with it");
        if seconds.len() < SECONDS_MAX {
            seconds.push(Second { at_ms, tally: self.notes.tally.clone(), latencies });
        }
    }

    fn close(self) -> Outcome {
        let stands = self.viewers.iter().filter_map(|viewer| Some((viewer.number, viewer.stands()?)));
        let standings = standings(stands);
        let private = self.viewers.iter().filter(|viewer| viewer.you > 0 || viewer.you_due > 0);
        Outcome {
            private: private.map(|viewer| (viewer.number, viewer.you, viewer.you_due)).collect(),
            tally: self.notes.tally,
            phases: self.notes.phases,
            pace: self.notes.pace,
            standings,
            testimony: self.witness.testify(),
            deeds: self.deeds,
        }
    }
}

fn in_now(notes: &mut Notes, kind: Kind) -> &mut u64 {
    match kind {
        Kind::WebSocket => &mut notes.tally.websocket,
        Kind::Sse => &mut notes.tally.sse,
    }
}

fn viewer(plan: &Plan, number: usize, count: usize) -> Viewer {
    let kind = if number < plan.websocket { Kind::WebSocket } else { Kind::Sse };
    let audience = &plan.scenario.audience;
    // Spread evenly over the audience, whatever its size.
    let place = (number as f64 * 0.618_033_988_749_895).fract();
    let network = if place < audience.slow {
        Network::Slow
    } else if place < audience.slow + audience.flaky {
        Network::Flaky
    } else {
        Network::Good
    };
    Viewer::new(number, kind, network, count <= ALL_SAMPLED_MAX || number.is_multiple_of(SAMPLE))
}
