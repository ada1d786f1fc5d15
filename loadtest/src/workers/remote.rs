use std::{
    io,
    net::{TcpStream, ToSocketAddrs as _},
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{ANSWERS_IN, KEY_VARIABLE, Order, Share, VERSION, Wire, Word};
use crate::{
    crowd::{Outcome, Plan},
    rtc::{Seen, WatchPlan, Watching},
    stamp::Timebase,
    tally::{Second, Tally},
};

const CONNECTS_IN: Duration = Duration::from_secs(5);
/// Looks at the worker's clock, the quickest of which counts.
const CLOCK_LOOKS: usize = 32;

/// A crowd at a worker.
pub struct Remote {
    name: String,
    writer: Mutex<Wire>,
    base: Timebase,
    /// How far its clock is ahead, and how wrong that may be.
    ahead_us: i64,
    error_us: i64,
    state: Arc<Mutex<State>>,
    reader: JoinHandle<io::Result<(Outcome, Option<Seen>)>>,
    /// Whose number in the whole audience each of its viewers has.
    people: Vec<usize>,
}

#[derive(Default)]
struct State {
    tally: Tally,
    seconds: Vec<Second>,
    stands: (u64, u64),
    watching: Watching,
}

impl Remote {
    /// Gives a worker its part, and lets its audience come.
    pub fn start(name: &str, plan: Plan, people: Vec<usize>) -> anyhow::Result<Self> {
        let mut wire = connect(name).with_context(|| {
            format!("worker {name}: it does not answer; start it with `maishou-loadtest worker --listen {name}`")
        })?;
        let key = std::env::var(KEY_VARIABLE).unwrap_or_default();
        wire.say(&Order::Hello { version: VERSION, key })?;
        match wire.hear().with_context(|| format!("worker {name}"))? {
            Word::Welcome => {}
            Word::Refused { why } => bail!("worker {name} refuses: {why}"),
            _ => bail!("worker {name} does not speak our language"),
        }
        let base = plan.base;
        let (ahead_us, error_us) = clock(&mut wire, base)?;
        wire.say(&Order::Start { part: Box::new(Share::of(plan)), ahead_us })?;
        match wire.hear()? {
            Word::Started => {}
            Word::Refused { why } => bail!("worker {name} cannot: {why}"),
            _ => bail!("worker {name} does not speak our language"),
        }
        let stream = wire.writer.try_clone()?;
        let state = Arc::new(Mutex::new(State::default()));
        let seen = state.clone();
        let reader = thread::Builder::new().name("worker".to_owned()).spawn(move || read(wire, &seen))?;
        let writer = Mutex::new(Wire::new(stream)?);
        Ok(Self { name: name.to_owned(), writer, base, ahead_us, error_us, state, reader, people })
    }

    /// Gives it its part of those who watch the video.
    pub fn watch(&self, plan: WatchPlan) -> anyhow::Result<()> {
        self.order(&Order::Watch { plan: Box::new(plan) })
    }

    pub fn watching(&self) -> Watching {
        self.state().watching.clone()
    }

    pub fn begin(&self, at: Instant) -> anyhow::Result<()> {
        self.order(&Order::Begin { at_us: self.base.at_us(at) })
    }

    pub fn quiet(&self) -> anyhow::Result<()> {
        self.order(&Order::Quiet)
    }

    pub fn tally(&self) -> Tally {
        self.state().tally.clone()
    }

    pub fn seconds(&self) -> Vec<Second> {
        std::mem::take(&mut self.state().seconds)
    }

    pub fn stands(&self) -> (u64, u64) {
        self.state().stands
    }

    pub fn is_running(&self) -> bool {
        !self.reader.is_finished()
    }

    pub fn clock(&self) -> (String, f64, f64) {
        (self.name.clone(), self.ahead_us as f64 / 1e3, self.error_us as f64 / 1e3)
    }

    pub fn stop(self) -> anyhow::Result<(Outcome, Option<Seen>)> {
        self.order(&Order::Stop)?;
        let (mut outcome, seen) = self.reader.join().expect("the reader does not panic")?;
        let global = |who: &mut usize| *who = self.people.get(*who).copied().unwrap_or(usize::MAX);
        outcome.standings.iter_mut().for_each(|standing| global(&mut standing.who));
        outcome.private.iter_mut().for_each(|(who, ..)| global(who));
        outcome.deeds.bought.iter_mut().for_each(|bought| global(&mut bought.who));
        outcome.deeds.unanswered.iter_mut().for_each(|unanswered| global(&mut unanswered.who));
        Ok((outcome, seen))
    }

    fn order(&self, order: &Order) -> anyhow::Result<()> {
        let said = self.writer.lock().expect("nobody panics with it").say(order);
        said.with_context(|| format!("worker {} is gone", self.name))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

fn connect(name: &str) -> anyhow::Result<Wire> {
    let address = name.to_socket_addrs()?.next().context("it has no address")?;
    let stream = TcpStream::connect_timeout(&address, CONNECTS_IN)?;
    stream.set_read_timeout(Some(ANSWERS_IN))?;
    Ok(Wire::new(stream)?)
}

/// How far the worker's clock is ahead: from the quickest answer, which can be wrong by half its way.
fn clock(wire: &mut Wire, base: Timebase) -> anyhow::Result<(i64, i64)> {
    let mut best = (0, i64::MAX);
    for _ in 0..CLOCK_LOOKS {
        let before = base.now_us();
        wire.say(&Order::Time)?;
        let Word::Time { us } = wire.hear()? else { bail!("a worker does not tell its time") };
        let took = base.now_us() - before;
        if took < best.1 {
            best = (us - (before + took / 2), took);
        }
    }
    Ok((best.0, best.1 / 2 + 1))
}

fn read(mut wire: Wire, state: &Mutex<State>) -> io::Result<(Outcome, Option<Seen>)> {
    loop {
        match wire.hear()? {
            Word::Now { tally, seconds, stands, watching } => {
                let mut state = state.lock().expect("nobody panics with it");
                state.tally = *tally;
                state.seconds.extend(seconds);
                (state.stands, state.watching) = (stands, watching);
            }
            Word::Done { outcome, seen } => return Ok((*outcome, seen.map(|seen| *seen))),
            Word::Refused { why } => return Err(io::Error::other(why)),
            _ => {}
        }
    }
}
