use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use mio::{Events, Poll};
use tokio::sync::mpsc;

use super::{
    arrivals::{self, Arrived, Door},
    handshake::{Handshakes, Identity},
    link::{Buffers, Link, wall_time},
    tally::Tally,
    terms::Wishes,
    viewer::{Habits, Viewer},
};

const ARRIVED_MAX: usize = 1_024;
const ASKS_MAX: usize = 16;
/// How often time is looked at.
const BEAT: Duration = Duration::from_millis(10);
/// A poll that finds less than this is followed by a nap: a client that wakes for each packet makes the server pay for
/// the waking.
const BUSY_EVENTS: usize = 64;
const NAP: Duration = Duration::from_micros(300);

/// Who watches, and how.
pub struct Plan {
    pub door: Arc<dyn Door>,
    /// The server's address: viewers of one on this machine spread over its local ones.
    pub server: IpAddr,
    pub viewers: usize,
    pub arrivals_per_second: f64,
    pub wishes: Wishes,
    /// One viewer in so many opens every packet and tells how long it was on the way.
    pub sample_one_in: NonZeroU32,
    /// Ask for what is missing.
    pub nack: bool,
    /// Send receiver reports.
    pub reports: bool,
    /// Throw away one video packet in so many, as a bad network would.
    pub drop_one_in: Option<NonZeroU32>,
    /// Said on the data channel when the server opens it.
    pub hello: Option<String>,
    /// How far this machine's clock is ahead of the one that packets were stamped by.
    pub clock_ahead_us: i64,
}

impl Plan {
    /// Viewers behind `door` who do what browsers do.
    pub fn new(door: Arc<dyn Door>, server: IpAddr, viewers: usize) -> Self {
        Self {
            door,
            server,
            viewers,
            arrivals_per_second: 200.0,
            wishes: Wishes { channel: false, transport_cc: true },
            sample_one_in: NonZeroU32::new(16).expect("it is not zero"),
            nack: true,
            reports: true,
            drop_one_in: None,
            hello: None,
            clock_ahead_us: 0,
        }
    }
}

/// Thousands of viewers on one thread, and a second one that sends their offers while they come.
pub struct Audience {
    thread: JoinHandle<anyhow::Result<()>>,
    asks: SyncSender<Ask>,
}

enum Ask {
    /// Tell; with true, and begin anew.
    Tally {
        take: bool,
        answer: SyncSender<Tally>,
    },
    Stop {
        answer: SyncSender<Tally>,
    },
}

impl Audience {
    pub fn start(plan: Plan) -> anyhow::Result<Self> {
        let (asks, asked) = sync_channel(ASKS_MAX);
        let stand = Stand::new(plan, asked)?;
        let thread = thread::Builder::new().name("audience".to_owned()).spawn(move || stand.run())?;
        Ok(Self { thread, asks })
    }

    /// What was noted so far.
    pub fn tally(&self) -> anyhow::Result<Tally> {
        self.ask(|answer| Ask::Tally { take: false, answer })
    }

    /// What was noted so far; from here on it is counted anew.
    pub fn take(&self) -> anyhow::Result<Tally> {
        self.ask(|answer| Ask::Tally { take: true, answer })
    }

    /// Everybody leaves, with a goodbye to the server.
    pub fn stop(self) -> anyhow::Result<Tally> {
        let tally = self.ask(|answer| Ask::Stop { answer });
        self.thread.join().expect("the audience does not panic")?;
        tally
    }

    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    fn ask(&self, ask: impl FnOnce(SyncSender<Tally>) -> Ask) -> anyhow::Result<Tally> {
        let (answer, answered) = sync_channel(1);
        self.asks.send(ask(answer)).context("the audience is gone")?;
        answered.recv().context("the audience is gone")
    }
}

/// The audience's thread.
struct Stand {
    poll: Poll,
    asked: Receiver<Ask>,
    arrived: mpsc::Receiver<Arrived>,
    handshakes: Handshakes,
    habits: Habits,
    sample_one_in: usize,
    /// By the number of their socket's token.
    viewers: Vec<Option<Box<Viewer>>>,
    tally: Tally,
    buffers: Buffers,
}

impl Stand {
    fn new(plan: Plan, asked: Receiver<Ask>) -> anyhow::Result<Self> {
        let identity = Arc::new(Identity::make()?);
        let (arrives, arrived) = mpsc::channel(ARRIVED_MAX);
        let habits = Habits {
            nack: plan.nack,
            reports: plan.reports,
            drop_one_in: plan.drop_one_in,
            hello: plan.hello,
            clock_ahead_us: plan.clock_ahead_us,
        };
        let coming = arrivals::Plan {
            door: plan.door,
            viewers: plan.viewers,
            per_second: plan.arrivals_per_second,
            server: plan.server,
            fingerprint: identity.fingerprint.clone(),
            wishes: plan.wishes,
        };
        let usher = thread::Builder::new().name("arrivals".to_owned());
        usher.spawn(move || drop(arrivals::run(&coming, &arrives)))?;
        Ok(Self {
            poll: Poll::new()?,
            asked,
            arrived,
            handshakes: Handshakes::new(identity),
            habits,
            sample_one_in: plan.sample_one_in.get() as usize,
            viewers: Vec::with_capacity(plan.viewers),
            tally: Tally::default(),
            buffers: Buffers::default(),
        })
    }

    fn run(mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1_024);
        let mut next_beat = Instant::now();
        loop {
            while let Ok(arrived) = self.arrived.try_recv() {
                self.let_in(arrived);
            }
            while let Ok(ask) = self.asked.try_recv() {
                match ask {
                    Ask::Tally { take, answer } => self.tell(take, &answer),
                    Ask::Stop { answer } => {
                        self.tell(false, &answer);
                        self.everybody_leaves();
                        return Ok(());
                    }
                }
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(1)))?;
            for event in &events {
                self.look(event.token().0);
            }
            if Instant::now() >= next_beat {
                next_beat = Instant::now() + BEAT;
                self.beat();
            }
            if events.iter().count() < BUSY_EVENTS {
                thread::park_timeout(NAP);
            }
        }
    }

    fn let_in(&mut self, arrived: Arrived) {
        let number = self.viewers.len();
        let link = arrived.remote.and_then(|remote| {
            self.tally.answered += 1;
            self.tally.answer.record_time(arrived.answered.saturating_sub(arrived.intended));
            let (registry, number) = (self.poll.registry(), number as u32);
            let now = Instant::now();
            Link::open(number, arrived.local, &arrived.introduction, remote, registry, &self.handshakes, now)
        });
        match link {
            Ok(link) => {
                let is_sampled = number.is_multiple_of(self.sample_one_in);
                self.viewers.push(Some(Box::new(Viewer::new(link, arrived.intended, is_sampled, Instant::now()))));
            }
            Err(why) => {
                self.tally.refused += 1;
                self.tally.example(&why);
            }
        }
    }

    fn look(&mut self, number: usize) {
        let Some(viewer) = self.viewers.get_mut(number).and_then(Option::as_deref_mut) else { return };
        if let Err(why) = viewer.look(&mut self.buffers, &mut self.handshakes, &self.habits, &mut self.tally) {
            self.lose(number, &why);
        }
    }

    fn beat(&mut self) {
        let now = Instant::now();
        for number in 0..self.viewers.len() {
            let Some(viewer) = &mut self.viewers[number] else { continue };
            if let Err(why) = viewer.beat(&mut self.handshakes, &self.habits, &mut self.tally, now) {
                self.lose(number, &why);
            }
        }
    }

    fn lose(&mut self, number: usize, why: &anyhow::Error) {
        let Some(mut viewer) = self.viewers[number].take() else { return };
        viewer.leave(self.poll.registry(), &mut self.handshakes, Instant::now());
        self.tally.failed += 1;
        self.tally.example(why);
    }

    fn tell(&mut self, take: bool, answer: &SyncSender<Tally>) {
        let now = wall_time();
        let mut tally = if take { std::mem::take(&mut self.tally) } else { self.tally.clone() };
        for viewer in self.viewers.iter().flatten() {
            tally.inside += u64::from(viewer.is_in());
            tally.watching += u64::from(viewer.is_watching());
            tally.frozen += u64::from(viewer.is_frozen(now));
            tally.channels += u64::from(viewer.has_channel());
            viewer.jitters().for_each(|jitter| tally.jitter.record_time(jitter));
        }
        // Who asked may have gone.
        let _ = answer.send(tally);
    }

    fn everybody_leaves(&mut self) {
        let now = Instant::now();
        for viewer in self.viewers.iter_mut().flatten() {
            viewer.leave(self.poll.registry(), &mut self.handshakes, now);
        }
    }
}
