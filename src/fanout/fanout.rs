use std::{
    io,
    net::TcpStream,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, mpsc},
    task::LocalSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    fanout::{
        Config, Inbound, Socket, Stats,
        shard::{Order, Post, Shard},
        stats::Counters,
    },
    protocol::CloseCode,
};

/// Connections beyond the bound that are told so, with 3503, at one time; more are dropped without a word.
const TURNED_AWAY_MAX: u64 = 256;

/// The shards. Clones share them.
#[derive(Clone)]
pub struct Fanout(Arc<Inner>);

struct Inner {
    config: Config,
    shards: Vec<Handle>,
    ids: AtomicU64,
    left: Arc<Notify>,
    stop: CancellationToken,
    is_draining: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Handle {
    orders: mpsc::Sender<Order>,
    counters: Arc<Counters>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a shard's runtime or thread cannot be started")]
    Start(#[from] io::Error),
}

/// Why a socket was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The client is told 3503, unless too many are being told at this moment.
    #[error("as many connections as the server may have")]
    Full,
    /// The client is told 3000.
    #[error("the server drains")]
    Draining,
    #[error("more sockets wait for their shard than may")]
    Busy,
    #[error("the socket is broken")]
    Broken(#[from] io::Error),
}

impl Fanout {
    /// Starts the shards.
    pub fn start(config: Config) -> Result<Self, Error> {
        let (left, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let cores = thread::available_parallelism().map_or(1, Into::into);
        let shards = if config.shards == 0 { cores } else { config.shards };

        let (mut handles, mut threads) = (Vec::new(), Vec::new());
        for number in 0..shards {
            let (orders, inbox) = mpsc::channel(config.adoptions_max.max(1));
            let counters = Arc::new(Counters::default());
            let post = Post { counters: counters.clone(), left: left.clone(), stop: stop.clone() };
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let config = config.clone();
            let run = move || run_shard(&runtime, config, post, inbox);
            threads.push(thread::Builder::new().name(format!("fanout-{number}")).spawn(run)?);
            handles.push(Handle { orders, counters });
        }

        let (ids, is_draining, threads) = (AtomicU64::new(1), AtomicBool::new(false), Mutex::new(threads));
        Ok(Self(Arc::new(Inner { config, shards: handles, ids, left, stop, is_draining, threads })))
    }

    /// Gives a socket to the shard with the fewest connections. Its HTTP upgrade is answered already; when the server
    /// is full or drains the client is told so by a close code.
    pub fn adopt(&self, socket: Socket, inbound: Box<dyn Inbound>) -> Result<(), Refused> {
        self.prepare(&socket.stream)?;
        let shard = self.emptiest();
        let refused = self.refusal();
        let turned_away = match &refused {
            None => None,
            Some(Refused::Draining) => Some((CloseCode::Bye, rand::random_range(0..5_000).to_string())),
            Some(_) if self.connections() >= self.0.config.connections_max as u64 + TURNED_AWAY_MAX => {
                shard.counters.refused.add(1);
                return Err(Refused::Full);
            }
            Some(_) => Some((CloseCode::TooMany, "the server is full".to_owned())),
        };

        let count = if socket.tls.is_some() { &shard.counters.tls } else { &shard.counters.plain };
        count.add(1);
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        if shard.orders.try_send(Order::Adopt { id, socket, inbound, turned_away }).is_err() {
            count.subtract(1);
            return Err(Refused::Busy);
        }
        match refused {
            None => Ok(()),
            Some(refused) => {
                shard.counters.refused.add(1);
                Err(refused)
            }
        }
    }

    /// Whether sockets may agree on permessage-deflate.
    pub fn deflates(&self) -> bool {
        self.0.config.deflate
    }

    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.0.shards.iter().for_each(|shard| shard.counters.add_to(&mut stats));
        stats
    }

    /// Sends everyone away with 3000 and a time to wait, spread evenly from `first` on over `over`, and waits until they are gone or
    /// their time to answer is over. Who comes after that is sent away too.
    pub async fn drain(&self, first: Duration, over: Duration) {
        self.0.is_draining.store(true, Ordering::Release);
        for shard in &self.0.shards {
            let _ = shard.orders.send(Order::Drain { first, over }).await;
        }

        let all_gone = async {
            loop {
                let left = self.0.left.notified();
                if self.connections() == 0 {
                    return;
                }
                left.await;
            }
        };
        let _ = timeout(Duration::from_secs(self.0.config.close_seconds + 2), all_gone).await;
    }

    /// Cuts what is left and ends the threads. It blocks for two seconds at most for each.
    pub fn shutdown(&self) {
        self.0.stop.cancel();
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a shard ended by a panic");
            }
        }
    }

    fn refusal(&self) -> Option<Refused> {
        if self.0.is_draining.load(Ordering::Acquire) {
            return Some(Refused::Draining);
        }
        (self.connections() >= self.0.config.connections_max as u64).then_some(Refused::Full)
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let (socket, unacked) = (SockRef::from(stream), Duration::from_secs(self.0.config.unacked_seconds));
        socket.set_tcp_user_timeout((!unacked.is_zero()).then_some(unacked))?;
        socket.set_send_buffer_size(self.0.config.send_buffer_bytes)
    }

    fn emptiest(&self) -> &Handle {
        self.0.shards.iter().min_by_key(|shard| shard.connections()).expect("there is at least one shard")
    }

    fn connections(&self) -> u64 {
        self.0.shards.iter().map(Handle::connections).sum()
    }
}

impl Handle {
    fn connections(&self) -> u64 {
        self.counters.plain.get() + self.counters.tls.get()
    }
}

fn run_shard(runtime: &Runtime, config: Config, post: Post, orders: mpsc::Receiver<Order>) {
    LocalSet::new().block_on(runtime, Shard::run(config, post, orders));
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_phone_that_is_gone_is_given_up_by_the_system() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for (unacked_seconds, timeout) in [(7, Some(Duration::from_secs(7))), (0, None)] {
            let fanout = Fanout::start(Config { shards: 1, unacked_seconds, ..Config::default() }).unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            fanout.prepare(&stream).unwrap();
            assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), timeout);
            fanout.shutdown();
        }
    }
}
