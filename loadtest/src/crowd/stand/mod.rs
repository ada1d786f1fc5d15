mod acts;
mod network;

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Poll};

use super::{
    Outcome, Plan, SECONDS_MAX, Shared,
    deeds::Deeds,
    director::{Act, Director},
    standings,
    timers::{Due, Timers},
    viewer::{FollowUp, Kind, Network, Viewer},
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
const TELL_EVERY: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
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
