//! One peer's way to the server: a socket of its own, checks, handshake, consent, keys.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use bytes::BytesMut;
use mio::{Interest, Registry, Token, net::UdpSocket};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};

use super::{
    check,
    handshake::{Handshakes, Heard, Keys},
    terms::{Introduction, Remote},
};

/// A coalesced receive may bring 64 KiB.
const BUFFER_BYTES: usize = 64 << 10;
const BUFFERS: usize = 4;
/// What is asked of the kernel for a peer's socket, so that a keyframe waits there while others are looked at.
const SOCKET_BYTES: usize = 512 << 10;
/// How often an unanswered check is repeated, and an answered one renewed (RFC 7675).
const CHECK_AGAIN: Duration = Duration::from_millis(250);
const CONSENT_EVERY: Duration = Duration::from_secs(5);
/// A peer that is not connected, or not answered any more, after this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where datagrams are read to, one after another; a thread has one for all its peers.
pub struct Buffers {
    bytes: Vec<Vec<u8>>,
    meta: [RecvMeta; BUFFERS],
    count: usize,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { bytes: vec![vec![0; BUFFER_BYTES]; BUFFERS], meta: [RecvMeta::default(); BUFFERS], count: 0 }
    }
}

impl Buffers {
    /// What the last receive brought, and when it came to this machine by the wall clock.
    pub fn datagrams(&self) -> impl Iterator<Item = (&[u8], Duration)> {
        self.bytes.iter().zip(&self.meta).take(self.count).flat_map(|(bytes, meta)| {
            let arrived = meta.timestamp.unwrap_or_else(wall_time);
            bytes[..meta.len].chunks(meta.stride.max(1)).map(move |datagram| (datagram, arrived))
        })
    }

    /// Whether another receive may bring more.
    pub fn is_full(&self) -> bool {
        self.count == BUFFERS
    }
}

/// What a datagram was.
pub enum Took {
    /// It concerned the connection alone.
    Nothing,
    /// The peer is connected: its keys are there.
    Open,
    /// Application data: SCTP.
    Data(BytesMut),
    /// Sealed media or reports.
    Media,
    /// The server said goodbye.
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Checking,
    Shaking,
    Open,
}

pub struct Link {
    pub number: u32,
    pub keys: Option<Box<Keys>>,
    pub remote: Remote,
    socket: UdpSocket,
    state: UdpSocketState,
    username: String,
    /// What the server proves itself with when it checks.
    password: String,
    tie_breaker: u64,
    phase: Phase,
    next_check: Instant,
    answered_at: Instant,
}

impl Link {
    /// Binds a socket, at `local` if that is given, and sends the first check.
    pub fn open(
        number: u32,
        local: Option<IpAddr>,
        introduction: &Introduction,
        remote: Remote,
        registry: &Registry,
        handshakes: &Handshakes,
        now: Instant,
    ) -> anyhow::Result<Self> {
        let any = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        let mut socket = UdpSocket::bind(SocketAddr::new(local.unwrap_or(any), 0))?;
        socket.connect(remote.address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The kernel gives what it can; loss by too little of it is counted as loss.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BYTES);
        registry.register(&mut socket, Token(number as usize), Interest::READABLE)?;
        let mut link = Self {
            number,
            keys: None,
            username: format!("{}:{}", remote.ufrag, introduction.ufrag),
            password: introduction.password.clone(),
            remote,
            socket,
            state,
            tie_breaker: rand::random(),
            phase: Phase::Checking,
            next_check: now,
            answered_at: now,
        };
        link.check(handshakes, now);
        Ok(link)
    }

    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Reads what waits; true if there was anything.
    pub fn receive(&self, buffers: &mut Buffers) -> bool {
        let mut slices: Vec<IoSliceMut> = buffers.bytes.iter_mut().map(|bytes| IoSliceMut::new(bytes)).collect();
        let received = self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut buffers.meta);
        buffers.count = match received {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // An error that a past send left on the socket: an edge may still have data behind it.
            Err(_) => self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut buffers.meta).unwrap_or(0),
        };
        buffers.count > 0
    }

    /// Takes one datagram (RFC 7983). An error ends the peer.
    pub fn take(&mut self, datagram: &[u8], handshakes: &mut Handshakes, now: Instant) -> anyhow::Result<Took> {
        match datagram.first() {
            Some(0..=3) if check::is_answer(datagram) => {
                self.answered_at = now;
                if self.phase == Phase::Checking {
                    self.phase = Phase::Shaking;
                    self.next_check = now + CONSENT_EVERY;
                    handshakes.begin(self.number, now)?;
                    self.flush(handshakes);
                }
                Ok(Took::Nothing)
            }
            Some(0..=3) => {
                self.answer_check(datagram, handshakes, now);
                Ok(Took::Nothing)
            }
            Some(20..=63) => self.shake(datagram, handshakes, now),
            Some(128..=191) => Ok(Took::Media),
            _ => Ok(Took::Nothing),
        }
    }

    /// A full agent checks back, and may answer ours only when that is answered: ours is then repeated at once.
    fn answer_check(&mut self, datagram: &[u8], handshakes: &Handshakes, now: Instant) {
        let crypto = handshakes.identity().provider.crypto();
        if let Some(answer) = check::answer(datagram, self.remote.address, &self.password, crypto) {
            self.send(&answer);
            if self.phase == Phase::Checking {
                self.check(handshakes, now);
            }
        }
    }

    fn shake(&mut self, datagram: &[u8], handshakes: &mut Handshakes, now: Instant) -> anyhow::Result<Took> {
        let heard = handshakes.read(self.number, &self.remote.fingerprint, datagram, now);
        self.flush(handshakes);
        let mut took = Took::Nothing;
        for heard in heard? {
            took = match heard {
                Heard::Keys(keys) => {
                    self.keys = Some(keys);
                    self.phase = Phase::Open;
                    Took::Open
                }
                Heard::Data(data) => Took::Data(data),
                Heard::Closed => Took::Closed,
            };
        }
        Ok(took)
    }

    /// Everything that is due by time. An error ends the peer.
    pub fn beat(&mut self, handshakes: &mut Handshakes, now: Instant) -> anyhow::Result<()> {
        ensure!(now.saturating_duration_since(self.answered_at) < PATIENCE, "the server does not answer checks");
        if now >= self.next_check {
            self.check(handshakes, now);
        }
        if self.phase == Phase::Shaking {
            let result = handshakes.handle_timeout(self.number, now);
            self.flush(handshakes);
            if result.is_err() {
                bail!("the handshake did not end");
            }
        }
        Ok(())
    }

    fn check(&mut self, handshakes: &Handshakes, now: Instant) {
        let crypto = handshakes.identity().provider.crypto();
        if let Some(check) = check::request(&self.username, &self.remote.password, self.tie_breaker, crypto) {
            self.send(&check);
        }
        self.next_check = now + if self.phase == Phase::Checking { CHECK_AGAIN } else { CONSENT_EVERY };
    }

    /// Sends what the handshakes have for this peer; nobody else's waits there, as each call is followed by this.
    pub fn flush(&self, handshakes: &mut Handshakes) {
        while let Some((_, datagram)) = handshakes.poll_transmit() {
            self.send(&datagram);
        }
    }

    pub fn send(&self, datagram: &[u8]) {
        // What the kernel does not take is lost like anything on a network.
        let _ = self.socket.send(datagram);
    }

    pub fn send_rtcp(&mut self, packets: &[Box<dyn rtcp::Packet>]) {
        let Some(keys) = &mut self.keys else { return };
        if let Ok(plain) = rtcp::packet::marshal(packets)
            && let Ok(sealed) = keys.outgoing.encrypt_rtcp(&plain)
        {
            self.send(&sealed);
        }
    }

    /// Says goodbye and forgets the handshake.
    pub fn leave(&mut self, registry: &Registry, handshakes: &mut Handshakes, now: Instant) {
        handshakes.stop(self.number, now);
        self.flush(handshakes);
        let _ = registry.deregister(&mut self.socket);
    }
}

/// The time that the kernel stamps arrivals with.
pub fn wall_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a time on this stack, which the call fills; the clock exists everywhere.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
