//! The only I/O: a thread per worker with one UDP socket, which feeds the worker and sends what it leaves.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, Waker, net::UdpSocket};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;

use super::{
    Config, Event,
    egress::{Egress, Path},
    outbox::Outbox,
    outlet::Outlet,
    registry::{Burst, Control, Registry},
    stats::Dropped,
    worker::Worker,
};

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// A coalesced receive may bring 64 KiB.
const BUFFER_BYTES: usize = 64 * 1024;
const BUFFERS: usize = 8;
/// Receives, and commands, of one turn: then what came is handed on, and timers are looked at.
const RECEIVES_PER_TURN: usize = 16;
const COMMANDS_PER_TURN: usize = 256;
/// More segments in one send bring nothing.
const SEGMENTS_MAX: usize = 40;
/// How long a worker that stops tries to say goodbye.
const GOODBYE_TIME: Duration = Duration::from_millis(500);

/// A worker's socket and mailboxes, bound before its thread runs.
pub struct Driver {
    poll: Poll,
    socket: UdpSocket,
    state: UdpSocketState,
    /// Whether answers must name the address that they leave from.
    is_wildcard: bool,
    control: mpsc::Receiver<Control>,
    feed: mpsc::Receiver<Arc<Burst>>,
}

impl Driver {
    pub fn bind(
        address: SocketAddr,
        config: &Config,
        control: mpsc::Receiver<Control>,
        feed: mpsc::Receiver<Arc<Burst>>,
    ) -> io::Result<(Self, Waker)> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        // The kernel caps both at its own limits and takes what it can.
        socket.set_recv_buffer_size(config.socket_buffer_bytes)?;
        socket.set_send_buffer_size(config.socket_buffer_bytes)?;

        let mut socket = UdpSocket::from_std(socket.into());
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let poll = Poll::new()?;
        poll.registry().register(&mut socket, SOCKET, Interest::READABLE | Interest::WRITABLE)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok((Self { poll, socket, state, is_wildcard: address.ip().is_unspecified(), control, feed }, waker))
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Runs until the registry stops, then says goodbye to every peer.
    pub fn run(mut self, index: usize, registry: Arc<Registry>, events: mpsc::Sender<Event>) {
        let config = &registry.config;
        let egress = Egress::new(config.send_queue_bytes_max, self.state.max_gso_segments().min(SEGMENTS_MAX));
        let outbox = Outbox::new(events, config.events_backlog_max);
        let mut worker = Worker::new(index, registry.clone(), egress, outbox, Instant::now());
        let mut buffers = vec![vec![0u8; BUFFER_BYTES]; BUFFERS];
        let mut ready = Events::with_capacity(8);
        let mut outlet = Outlet::default();
        let mut has_more = true;

        while !registry.is_stopping.load(Ordering::Acquire) {
            let timeout = if has_more || worker.is_behind() { Some(Duration::ZERO) } else { wait_time(&worker) };
            if let Err(error) = self.poll.poll(&mut ready, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(worker = index, %error, "a media worker cannot wait for its socket and ends");
                break;
            }
            has_more = self.take_commands(&mut worker);
            has_more |= self.receive(&mut worker, &mut buffers);
            worker.turn(Instant::now());
            self.send(&mut worker, &mut outlet);
            publish_counts(&worker);
        }
        self.say_goodbye(&mut worker, &mut outlet, &mut ready);
        publish_counts(&worker);
    }

    /// True if some are left for the next turn.
    fn take_commands(&mut self, worker: &mut Worker) -> bool {
        let now = Instant::now();
        for _ in 0..COMMANDS_PER_TURN {
            let control = self.control.try_recv().ok();
            let burst = self.feed.try_recv().ok();
            if control.is_none() && burst.is_none() {
                return false;
            }
            if let Some(control) = control {
                worker.command(control, now);
            }
            if let Some(burst) = burst {
                worker.show(&burst, now);
            }
        }
        true
    }

    /// Reads until the socket is empty or the turn is full; true in the second case.
    fn receive(&mut self, worker: &mut Worker, buffers: &mut [Vec<u8>]) -> bool {
        let mut meta = [RecvMeta::default(); BUFFERS];
        for _ in 0..RECEIVES_PER_TURN {
            let mut slices: Vec<IoSliceMut> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            let count = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut meta) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // An error that a past send left on the socket; the next read goes on.
                Err(_) => continue,
            };
            let now = Instant::now();
            for (buffer, meta) in buffers.iter().zip(&meta).take(count) {
                let local = meta.dst_ip.filter(|_| self.is_wildcard);
                let path = Path { remote: meta.addr, local };
                for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                    take_datagram(worker, path, datagram, now);
                }
            }
        }
        true
    }

    fn send(&self, worker: &mut Worker, outlet: &mut Outlet) {
        let failed = worker.egress.flush(|group| outlet.send(&self.socket, &self.state, group));
        worker.counts.drop_many(Dropped::SendFailed, failed);
    }

    fn say_goodbye(&mut self, worker: &mut Worker, outlet: &mut Outlet, ready: &mut Events) {
        let deadline = Instant::now() + GOODBYE_TIME;
        // Those who were just answered are let in to be told goodbye; the closed mailbox takes no more.
        self.control.close();
        while let Ok(control) = self.control.try_recv() {
            worker.command(control, Instant::now());
        }
        worker.close_all(Instant::now());
        while !(worker.egress.is_empty() && worker.outbox.is_empty()) && Instant::now() < deadline {
            self.send(worker, outlet);
            worker.outbox.deliver();
            // Waits for the socket, and a little for the events' receiver, which cannot wake us.
            if self.poll.poll(ready, Some(Duration::from_millis(5))).is_err() {
                return;
            }
        }
    }
}

/// A panic in a library costs the peer whose datagram caused it, not the worker.
fn take_datagram(worker: &mut Worker, path: Path, datagram: &[u8], now: Instant) {
    if catch_unwind(AssertUnwindSafe(|| worker.datagram(path, datagram, now))).is_err() {
        tracing::warn!("a library panicked over a datagram; its peer is closed");
        worker.close_after_panic(path.remote, now);
    }
}

fn wait_time(worker: &Worker) -> Option<Duration> {
    worker.next_turn().map(|at| at.saturating_duration_since(Instant::now()))
}

fn publish_counts(worker: &Worker) {
    let port = worker.registry.port(worker.index);
    port.events_waiting.store(worker.outbox.len(), Ordering::Relaxed);
    if let Ok(mut counts) = port.counts.lock() {
        counts.clone_from(&worker.counts);
    }
}
