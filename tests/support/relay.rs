//! A bad network: a UDP relay between clients and a media worker that drops, delays, disorders and narrows, by a seed and
//! switchable while packets run.
//!
//! The server is told the relay's address as its only candidate, on the port of its worker; so all its clients come this
//! way. Each client's address has conditions of its own, perfect ones at first.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet, time::Instant};

use super::server::{Plan, Server};

/// Where the relay is, as clients see it.
const RELAY_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// Clients whose addresses are not known, as a browser's, which may choose any of the machine's.
pub const ANYBODY_ELSE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const DATAGRAM_LEN_MAX: usize = 2_048;
/// Datagrams that wait to be looked at; the network is the one that queues.
const WAITING_MAX: usize = 4_096;

/// One direction of a network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// The part of datagrams that are lost, 0 to 1.
    pub loss: f64,
    pub delay: Duration,
    /// The part of datagrams that come later by `late`, and so behind others.
    pub disorder: f64,
    pub late: Duration,
    /// Bits per second; none is as fast as the machine.
    pub rate: Option<u64>,
}

impl Line {
    /// Nothing comes through.
    pub const CUT: Self = Self { loss: 1.0, delay: Duration::ZERO, disorder: 0.0, late: Duration::ZERO, rate: None };
    /// What a narrow line holds back at most; more is dropped, as by a home router.
    const QUEUE: Duration = Duration::from_millis(300);

    pub fn losing(loss: f64) -> Self {
        Self { loss, ..Self::default() }
    }

    pub fn narrow(rate: u64) -> Self {
        Self { rate: Some(rate), ..Self::default() }
    }

    pub fn with_delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    pub fn in_disorder(self, disorder: f64, late: Duration) -> Self {
        Self { disorder, late, ..self }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    to_client: Line,
    to_server: Line,
}

type Book = Arc<Mutex<HashMap<IpAddr, Conditions>>>;

/// A running relay; it ends when it is dropped.
pub struct Relay {
    conditions: Book,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// What a server has to be told to be reached through a relay.
    pub fn plan() -> Plan {
        let candidates = format!("[\"{RELAY_IP}\"]");
        Plan::default().set("MEDIA__CANDIDATES", &candidates).set("MEDIA__WORKERS", "1")
    }

    /// Stands before every worker of a server of [`Relay::plan`].
    pub async fn before(server: &Server, seed: u64) -> Self {
        let conditions = Book::default();
        let mut tasks = JoinSet::new();
        for worker in &server.media {
            let front = SocketAddr::from((RELAY_IP, worker.port()));
            let front = UdpSocket::bind(front).await.expect("the worker's port is free at the relay's address");
            tasks.spawn(serve(Arc::new(front), *worker, conditions.clone(), seed));
        }
        Self { conditions, _tasks: tasks }
    }

    /// Changes what comes to the clients at this address.
    pub fn to_client(&self, client: IpAddr, line: Line) {
        self.lock().entry(client).or_default().to_client = line;
    }

    /// Changes what comes from them.
    pub fn to_server(&self, client: IpAddr, line: Line) {
        self.lock().entry(client).or_default().to_server = line;
    }

    /// Both directions at once.
    pub fn both(&self, client: IpAddr, line: Line) {
        self.lock().insert(client, Conditions { to_client: line, to_server: line });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Conditions>> {
        self.conditions.lock().expect("no holder panics")
    }
}

/// Takes what clients send, and makes each of them a way of its own to the worker.
async fn serve(front: Arc<UdpSocket>, worker: SocketAddr, book: Book, seed: u64) {
    let mut ways: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = [0; DATAGRAM_LEN_MAX];
    loop {
        let Ok((len, client)) = front.recv_from(&mut buffer).await else { continue };
        let way = ways.entry(client).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(WAITING_MAX);
            let nth = seed.wrapping_mul(1_000).wrapping_add(u64::from(client.port()));
            tasks.spawn(carry(front.clone(), client, worker, receiver, book.clone(), nth));
            sender
        });
        let _ = way.try_send(buffer[..len].to_vec());
    }
}

/// One client's packets, both ways.
async fn carry(
    front: Arc<UdpSocket>,
    client: SocketAddr,
    worker: SocketAddr,
    mut from_client: mpsc::Receiver<Vec<u8>>,
    book: Book,
    seed: u64,
) {
    let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    back.connect(worker).await.expect("an address of this machine");
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut up, mut down) = (Queue::default(), Queue::default());
    let mut buffer = [0; DATAGRAM_LEN_MAX];
    loop {
        let conditions = conditions_of(client.ip(), &book);
        tokio::select! {
            datagram = from_client.recv() => match datagram {
                Some(datagram) => up.take(datagram, &conditions.to_server, &mut random),
                None => return,
            },
            // A worker that is gone is one more thing that a network may do.
            received = back.recv(&mut buffer) => if let Ok(len) = received {
                down.take(buffer[..len].to_vec(), &conditions.to_client, &mut random);
            },
            datagram = up.next() => drop(back.send(&datagram).await),
            datagram = down.next() => drop(front.send_to(&datagram, client).await),
        }
    }
}

fn conditions_of(client: IpAddr, book: &Book) -> Conditions {
    let book = book.lock().expect("no holder panics");
    book.get(&client).or_else(|| book.get(&ANYBODY_ELSE)).copied().unwrap_or_default()
}

/// The datagrams that are on their way.
#[derive(Default)]
struct Queue {
    due: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    count: u64,
    /// When the last one is through the narrowest place.
    busy_until: Option<Instant>,
}

impl Queue {
    fn take(&mut self, datagram: Vec<u8>, line: &Line, random: &mut SmallRng) {
        let now = Instant::now();
        if random.random_bool(line.loss) {
            return;
        }
        let mut through = now;
        if let Some(rate) = line.rate {
            let start = self.busy_until.map_or(now, |until| until.max(now));
            if start - now > Line::QUEUE {
                return;
            }
            // With its headers, as a line counts it.
            through = start + Duration::from_secs_f64((datagram.len() + 28) as f64 * 8.0 / rate as f64);
            self.busy_until = Some(through);
        }
        let late = if random.random_bool(line.disorder) { line.late } else { Duration::ZERO };
        self.count += 1;
        self.due.push(Reverse((through + line.delay + late, self.count, datagram)));
    }

    /// Returns the next one when it is due; never while there is none.
    async fn next(&mut self) -> Vec<u8> {
        match self.due.peek() {
            Some(Reverse((at, ..))) => tokio::time::sleep_until(*at).await,
            None => std::future::pending().await,
        }
        self.due.pop().map(|Reverse((.., datagram))| datagram).unwrap_or_default()
    }
}
