//! What forwarding cannot be cheaper than: copy a packet, seal it, send the run of each receiver segmented, the runs of
//! many in one call. The receivers are plain sockets; there is no connection, no report, nothing sent again.

use std::{
    collections::HashSet,
    io::{IoSlice, IoSliceMut},
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::AsRawFd,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use maishou_loadtest::{
    process,
    server::{Child, free_address},
};
use mio::{Events, Interest, Poll, Token};
use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg},
};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};

use crate::{
    Options,
    measure::{CORE, median, until},
};

const HEADER_LEN: usize = 12;
const TAG_LEN: usize = 16;
const PICTURE_PACKETS: usize = 4;
const PICTURE_LEN: usize = 1_200;
const SOUND_LEN: usize = 132;
const PICTURE_EVERY: Duration = Duration::from_micros(33_333);
const SOUND_EVERY: Duration = Duration::from_millis(20);
const NAP: Duration = Duration::from_micros(300);
const BUSY_EVENTS: usize = 64;
/// Receivers of one call.
const GROUP: usize = 64;

/// The child: hears from so many receivers at `address`, then sends to all of them for ever.
pub fn serve(address: SocketAddr, receivers: usize) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(address)?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    state.set_send_buffer_size(UdpSockRef::from(&socket), 4 << 20)?;
    // `UdpSocketState` made it one that does not wait.
    socket.set_nonblocking(false)?;
    // Whoever can connect here knows that the socket is bound.
    let _open = TcpListener::bind(address)?;
    let mut known = HashSet::with_capacity(receivers);
    while known.len() < receivers {
        known.insert(socket.recv_from(&mut [0; 16])?.1);
    }
    socket.set_nonblocking(true)?;

    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16])?);
    let (picture, sound) = (vec![1u8; PICTURE_LEN], vec![2u8; SOUND_LEN]);
    let known: Vec<_> = known.into_iter().map(|address| Some(SockaddrStorage::from(address))).collect();
    let (began, mut pictures, mut sounds, mut arena) = (Instant::now(), 0u32, 0u32, Vec::new());
    loop {
        let passed = began.elapsed();
        if passed >= PICTURE_EVERY * pictures {
            pictures += 1;
            known.chunks(GROUP).try_for_each(|to| forward(&socket, &key, to, &picture, PICTURE_PACKETS, &mut arena))?;
        }
        if passed >= SOUND_EVERY * sounds {
            sounds += 1;
            known.chunks(GROUP).try_for_each(|to| forward(&socket, &key, to, &sound, 1, &mut arena))?;
        }
        let next = (PICTURE_EVERY * pictures).min(SOUND_EVERY * sounds);
        thread::park_timeout(next.saturating_sub(began.elapsed()));
    }
}

fn forward(
    socket: &UdpSocket,
    key: &LessSafeKey,
    receivers: &[Option<SockaddrStorage>],
    packet: &[u8],
    count: usize,
    arena: &mut Vec<u8>,
) -> anyhow::Result<()> {
    let len = packet.len() + TAG_LEN;
    arena.resize(len * count * receivers.len(), 0);
    for place in arena.chunks_mut(len) {
        let (plain, tag) = place.split_at_mut(packet.len());
        plain.copy_from_slice(packet);
        let (header, body) = plain.split_at_mut(HEADER_LEN);
        let nonce = Nonce::assume_unique_for_key([3; 12]);
        let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), body)?;
        tag.copy_from_slice(sealed.as_ref());
    }
    let segment = len as u16;
    let is_cut = count > 1;
    let runs: Vec<_> = arena.chunks(len * count).map(|run| [IoSlice::new(run)]).collect();
    let mut sent = 0;
    while sent < runs.len() {
        let mut headers = MultiHeaders::preallocate(GROUP, is_cut.then(|| cmsg_space!(u16)));
        let controls: Vec<_> = is_cut.then_some(ControlMessage::UdpGsoSegments(&segment)).into_iter().collect();
        let (runs, to, flags) = (&runs[sent..], &receivers[sent..], MsgFlags::empty());
        match sendmmsg(socket.as_raw_fd(), &mut headers, runs, to, controls, flags) {
            Ok(results) => sent += results.count(),
            Err(_) => thread::park_timeout(NAP),
        }
    }
    Ok(())
}

/// Microseconds of a packet with so many receivers.
pub fn measure(options: &Options, receivers: usize) -> anyhow::Result<f64> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--rival", "floor", "--address", &address.to_string(), "--count", &receivers.to_string()]);
    let mut server = Child::start_on(CORE, &mut command)?;
    let (mut poll, mut sockets) = (Poll::new()?, Vec::new());
    for number in 0..receivers {
        let mut socket = mio::net::UdpSocket::bind("127.0.0.1:0".parse()?)?;
        socket.connect(address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        poll.registry().register(&mut socket, Token(number), Interest::READABLE)?;
        sockets.push((socket, state));
    }
    server.wait_for(address)?;
    let mut figures = Vec::new();
    // So many words at once may be too many for the server's socket.
    let mut hears = false;
    until("everybody is known", || {
        if !hears {
            sockets.iter().try_for_each(|(socket, _)| socket.send(b"here").map(drop))?;
            hears = drain(&mut poll, &sockets, Duration::from_millis(200))? > 0;
        }
        Ok(hears)
    })?;
    drain(&mut poll, &sockets, Duration::from_secs(1))?;
    let own = || process::cpu_time(std::process::id());
    let mut own_share = 0.0;
    for _ in 0..options.rounds {
        let (before, own_before) = (server.cpu_time()?, own()?);
        let packets = drain(&mut poll, &sockets, options.time())?;
        let cpu = server.cpu_time()?.saturating_sub(before);
        own_share = own()?.saturating_sub(own_before).as_secs_f64() / options.seconds * 100.0;
        anyhow::ensure!(packets > 0, "the floor sends nothing");
        figures.push(cpu.as_secs_f64() * 1e6 / packets as f64);
    }
    let shown: Vec<String> = figures.iter().map(|us| format!("{us:.2}")).collect();
    let us = median(figures);
    println!(
        "  {:<26} {:>26.2} us each ({})   viewers {own_share:>3.0} %",
        format!("copy, seal, send: {receivers}"),
        us,
        shown.join(" ")
    );
    Ok(us)
}

/// Reads for so long; how many packets came.
fn drain(poll: &mut Poll, sockets: &[(mio::net::UdpSocket, UdpSocketState)], time: Duration) -> anyhow::Result<u64> {
    let mut buffers = vec![vec![0u8; 64 << 10]; 4];
    let (mut meta, mut events) = ([RecvMeta::default(); 4], Events::with_capacity(1_024));
    let (began, mut packets) = (Instant::now(), 0);
    while began.elapsed() < time {
        poll.poll(&mut events, Some(Duration::from_millis(1)))?;
        for event in &events {
            let (socket, state) = &sockets[event.token().0];
            loop {
                let mut slices: Vec<IoSliceMut> = buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
                let Ok(count) = state.recv(UdpSockRef::from(socket), &mut slices, &mut meta) else { break };
                packets += meta[..count].iter().map(|meta| meta.len.div_ceil(meta.stride.max(1)) as u64).sum::<u64>();
                if count < slices.len() {
                    break;
                }
            }
        }
        if events.iter().count() < BUSY_EVENTS {
            thread::park_timeout(NAP);
        }
    }
    Ok(packets)
}
