use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use maishou::{clock::Clock, id::RoomId};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use socket2::{Domain, Socket, Type};

use crate::{
    rush::Rush,
    tally::{Notes, Tally},
    viewer::Viewer,
};

/// One viewer in so many has her events counted and timed; frames and gaps are seen for all.
const SAMPLE: usize = 8;
/// Viewers that are on their way in at one time.
const ARRIVING_MAX: usize = 128;
/// Viewers that share a local address, so that neither ports nor the server's limits per address run out.
const PER_ADDRESS: usize = 100;
const READ_BYTES: usize = 256 << 10;
/// A poll that finds less than this is followed by a nap: a client that wakes for each message makes the server pay
/// for the waking.
const BUSY_EVENTS: usize = 256;
const NAP: Duration = Duration::from_micros(300);
/// How often the counts are told while it runs.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Thousands of viewers on one thread, none of whom costs a task or a parsed message.
pub struct Crowd {
    thread: JoinHandle<io::Result<Tally>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    measuring: AtomicBool,
    rush: AtomicBool,
    stop: AtomicBool,
    tally: Mutex<Tally>,
}

/// Who comes, and where to.
pub struct Plan {
    pub server: SocketAddr,
    pub room: RoomId,
    /// One for each viewer.
    pub tokens: Vec<String>,
    pub arrivals_per_second: u32,
    pub clock: Clock,
    pub rush: Option<Rush>,
}

impl Crowd {
    pub fn start(plan: Plan) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let thread = thread::Builder::new().name("crowd".to_owned()).spawn(move || Stand::new(plan, seen)?.run())?;
        Ok(Self { thread, shared })
    }

    /// From here on what is heard counts.
    pub fn measure(&self, on: bool) {
        self.shared.measuring.store(on, Ordering::Relaxed);
    }

    /// The rush begins.
    pub fn rush(&self) {
        self.shared.rush.store(true, Ordering::Relaxed);
    }

    /// A recent count, without histogram and cursors.
    pub fn tally(&self) -> Tally {
        self.shared.tally.lock().expect("the crowd does not panic").clone()
    }

    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Leaves, and tells everything.
    pub fn stop(self) -> io::Result<Tally> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the crowd does not panic")
    }
}

/// The crowd's thread.
struct Stand {
    plan: Plan,
    shared: Arc<Shared>,
    poll: Poll,
    viewers: Vec<Viewer>,
    notes: Notes,
    /// How many of the viewers are not yet in, or out again.
    arriving: usize,
    begun: Instant,
    /// When the rush began, and how many have pressed.
    rush: Option<(Instant, usize)>,
}

impl Stand {
    fn new(plan: Plan, shared: Arc<Shared>) -> io::Result<Self> {
        let (viewers, notes) = (Vec::with_capacity(plan.tokens.len()), Notes::default());
        Ok(Self { plan, shared, poll: Poll::new()?, viewers, notes, arriving: 0, begun: Instant::now(), rush: None })
    }

    fn run(mut self) -> io::Result<Tally> {
        let mut events = Events::with_capacity(2_048);
        let mut buffer = vec![0; READ_BYTES];
        let mut told = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.let_in()?;
            self.press();
            self.poll.poll(&mut events, Some(Duration::from_millis(1)))?;
            self.notes.is_measuring = self.shared.measuring.load(Ordering::Relaxed);
            self.notes.now_ms = u64::try_from(self.plan.clock.now().0).unwrap_or(0);
            for event in &events {
                self.look(event.token().0, &mut buffer);
            }
            if told.elapsed() > TELL_EVERY {
                *self.shared.tally.lock().expect("nobody panics with it") = self.notes.tally.clone();
                told = Instant::now();
            }
            if events.iter().count() < BUSY_EVENTS {
                thread::park_timeout(NAP);
            }
        }
        Ok(self.notes.close(&self.viewers))
    }

    /// Lets in as many as should have come by now.
    fn let_in(&mut self) -> io::Result<()> {
        let due = self.begun.elapsed().as_secs_f64() * f64::from(self.plan.arrivals_per_second);
        let due = (due as usize).min(self.plan.tokens.len());
        while self.viewers.len() < due && self.arriving < ARRIVING_MAX {
            let number = self.viewers.len();
            let mut stream = connect(self.plan.server, number)?;
            self.poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
            self.arriving += 1;
            self.viewers.push(Viewer::new(stream, number.is_multiple_of(SAMPLE)));
        }
        Ok(())
    }

    /// Those press who should have by now.
    fn press(&mut self) {
        let Some(plan) = self.plan.rush.as_ref().filter(|_| self.shared.rush.load(Ordering::Relaxed)) else { return };
        let (began, pressed) = self.rush.get_or_insert_with(|| (Instant::now(), 0));
        while *pressed < plan.buyers && plan.due(*pressed) <= began.elapsed() {
            let press = plan.press(*pressed, *began + plan.due(*pressed));
            self.viewers[*pressed].press(press);
            *pressed += 1;
        }
    }

    fn look(&mut self, number: usize, buffer: &mut [u8]) {
        let viewer = &mut self.viewers[number];
        let was_in = viewer.is_in();
        viewer.look(&self.plan, number, &mut self.notes, buffer);
        if !was_in && viewer.is_in() {
            self.arriving -= 1;
        }
    }
}

/// Starts a connection from a local address of the machine's own network; elsewhere the system chooses one.
pub fn connect(server: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let SocketAddr::V4(server) = server
        && server.ip().is_loopback()
    {
        let place = u32::try_from(number / PER_ADDRESS % 250).expect("it is small");
        let from = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 2).to_bits() + place);
        socket.bind(&SocketAddrV4::new(from, 0).into())?;
    }
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}
