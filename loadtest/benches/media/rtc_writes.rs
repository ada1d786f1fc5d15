//! The same forwarding by `rtc`'s own write path: connections without I/O of their own, all behind one socket, moved by
//! one thread; what they want to send goes out in segmented calls.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use maishou_loadtest::process;
use mio::{Events, Interest, Poll, Token};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use rtc::{
    interceptor::Registry,
    media_stream::MediaStreamTrack,
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        configuration::{
            interceptor_registry::register_default_interceptors, media_engine::MediaEngine,
            setting_engine::SettingEngineBuilder,
        },
        event::RTCPeerConnectionEvent,
        sdp::RTCSessionDescription,
        state::RTCPeerConnectionState,
        transport::{CandidateConfig, CandidateHostConfig, RTCDtlsRole, RTCIceCandidate},
    },
    rtp_transceiver::{
        RTCRtpSenderId,
        rtp_sender::{RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind},
    },
    sansio::Protocol as _,
    shared::{TaggedBytesMut, TransportContext, TransportProtocol},
};
use shared::marshal::Unmarshal as _;
use tokio::{sync::oneshot, task::LocalSet};

use crate::{
    offers,
    rivals::{AUDIO, codec},
};

const ASKING_MAX: usize = 64;
const SEGMENTS_MAX: usize = 40;
const BEAT: Duration = Duration::from_millis(10);
const UFRAG_LEN: usize = 16;

struct Asked {
    offer: String,
    answer: oneshot::Sender<anyhow::Result<String>>,
}

struct Viewer {
    connection: RTCPeerConnection,
    picture: (RTCRtpSenderId, u32),
    sound: (RTCRtpSenderId, u32),
    is_connected: bool,
}

/// The child.
pub fn serve(address: SocketAddr, feed: SocketAddr) -> anyhow::Result<()> {
    let (ask, asked) = sync_channel::<Asked>(ASKING_MAX);
    thread::spawn(move || http(address, ask));
    Server::bind(asked, feed)?.run()
}

fn http(address: SocketAddr, ask: SyncSender<Asked>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = async move |offer: String| {
        let (answer, answered) = oneshot::channel();
        ask.try_send(Asked { offer, answer })?;
        answered.await?
    };
    runtime.block_on(LocalSet::new().run_until(offers::serve(address, answer)))
}

struct Server {
    poll: Poll,
    asked: Receiver<Asked>,
    feed: mio::net::UdpSocket,
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    viewers: Vec<Viewer>,
    by_ufrag: HashMap<Vec<u8>, usize>,
    by_address: HashMap<SocketAddr, usize>,
    waiting: Vec<TaggedBytesMut>,
    arena: Vec<u8>,
}

impl Server {
    fn bind(asked: Receiver<Asked>, feed: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        state.set_send_buffer_size(UdpSockRef::from(&socket), 4 << 20)?;
        socket.set_nonblocking(true)?;
        let (poll, local) = (Poll::new()?, socket.local_addr()?);
        let (mut socket, mut feed) = (mio::net::UdpSocket::from_std(socket), mio::net::UdpSocket::bind(feed)?);
        poll.registry().register(&mut socket, Token(0), Interest::READABLE)?;
        poll.registry().register(&mut feed, Token(1), Interest::READABLE)?;
        let (by_ufrag, by_address) = (HashMap::new(), HashMap::new());
        let (viewers, waiting, arena) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { poll, asked, feed, socket, state, local, viewers, by_ufrag, by_address, waiting, arena })
    }

    fn run(mut self) -> anyhow::Result<()> {
        let (mut events, mut buffer) = (Events::with_capacity(8), vec![0; 2_048]);
        let mut next_beat = Instant::now();
        process::allow_sockets(0)?;
        loop {
            self.poll.poll(&mut events, Some(Duration::from_millis(2)))?;
            while let Ok(Asked { offer, answer }) = self.asked.try_recv() {
                let _ = answer.send(self.answer(offer));
            }
            while let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
                self.take(&buffer[..len], from);
            }
            let mut packets = Vec::new();
            while let Ok(len) = self.feed.recv(&mut buffer) {
                packets.extend(rtp::Packet::unmarshal(&mut Bytes::copy_from_slice(&buffer[..len])));
            }
            if !packets.is_empty() {
                (0..self.viewers.len()).for_each(|number| self.forward(number, &packets));
            }
            if Instant::now() >= next_beat {
                next_beat = Instant::now() + BEAT;
                (0..self.viewers.len()).for_each(|number| self.beat(number));
            }
        }
    }

    fn answer(&mut self, offer: String) -> anyhow::Result<String> {
        let ufrag = format!("{:016x}", rand::random::<u64>());
        let password = format!("{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>());
        let mut engine = MediaEngine::default();
        for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
            engine.register_codec(codec(kind), kind)?;
        }
        let interceptors = register_default_interceptors(Registry::new(), &mut engine)?;
        let settings = SettingEngineBuilder::new()
            .with_lite(true)
            .with_ice_credentials(ufrag.clone(), password)
            .with_answering_dtls_role(RTCDtlsRole::Server)
            .build();
        let now = Instant::now();
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(interceptors)
            .with_setting_engine(settings)
            .build(now)?;
        let mut track = |kind: RtpCodecKind| -> anyhow::Result<(RTCRtpSenderId, u32)> {
            let ssrc = rand::random::<u32>() | 1;
            let encoding = RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
                codec: codec(kind).rtp_codec,
                ..Default::default()
            };
            let name = format!("{kind}");
            let track = MediaStreamTrack::new("show".into(), name.clone(), name, kind, vec![encoding]);
            Ok((connection.add_track(track)?, ssrc))
        };
        let (picture, sound) = (track(RtpCodecKind::Video)?, track(RtpCodecKind::Audio)?);
        connection.set_remote_description(now, RTCSessionDescription::offer(offer)?)?;
        let candidate = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: self.local.ip().to_string(),
                port: self.local.port(),
                component: 1,
                ..Default::default()
            },
            ..Default::default()
        };
        connection.add_local_candidate(RTCIceCandidate::from(&candidate.new_candidate_host()?).to_json()?)?;
        let answer = connection.create_answer(None)?;
        connection.set_local_description(now, answer)?;
        let sdp = connection.local_description().context("no answer")?.sdp;
        self.by_ufrag.insert(ufrag.into_bytes(), self.viewers.len());
        self.viewers.push(Viewer { connection, picture, sound, is_connected: false });
        Ok(sdp)
    }

    fn take(&mut self, datagram: &[u8], peer_addr: SocketAddr) {
        let known = self.by_address.get(&peer_addr).copied();
        let Some(number) = known.or_else(|| self.find(datagram)) else { return };
        self.by_address.insert(peer_addr, number);
        let transport = TransportContext {
            local_addr: self.local,
            peer_addr,
            ecn: None,
            transport_protocol: TransportProtocol::UDP,
        };
        let message = TaggedBytesMut { now: Instant::now(), transport, message: BytesMut::from(datagram) };
        // A datagram that it does not like is passed over.
        let _ = self.viewers[number].connection.handle_read(message);
        self.settle(number);
    }

    /// A first connectivity check names the viewer; the benchmark's own are well formed.
    fn find(&self, datagram: &[u8]) -> Option<usize> {
        datagram.windows(UFRAG_LEN).find_map(|part| self.by_ufrag.get(part).copied())
    }

    fn forward(&mut self, number: usize, packets: &[rtp::Packet]) {
        let now = Instant::now();
        let viewer = &mut self.viewers[number];
        if !viewer.is_connected {
            return;
        }
        for packet in packets {
            let (sender, ssrc) = if packet.header.payload_type == AUDIO { viewer.sound } else { viewer.picture };
            let mut packet = packet.clone();
            packet.header.ssrc = ssrc;
            if let Some(mut sender) = viewer.connection.rtp_sender(sender) {
                let _ = sender.write_rtp(now, packet);
            }
        }
        self.settle(number);
    }

    fn beat(&mut self, number: usize) {
        let now = Instant::now();
        let connection = &mut self.viewers[number].connection;
        if connection.poll_timeout().is_some_and(|at| at <= now) {
            let _ = connection.handle_timeout(now);
            self.settle(number);
        }
    }

    /// Sends what the connection wants to send, packets of one size together, and takes note of what became of it.
    fn settle(&mut self, number: usize) {
        let viewer = &mut self.viewers[number];
        while let Some(message) = viewer.connection.poll_write() {
            self.waiting.push(message);
        }
        while let Some(event) = viewer.connection.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                viewer.is_connected = state == RTCPeerConnectionState::Connected;
            }
        }
        while viewer.connection.poll_read().is_some() {}
        let mut rest = &self.waiting[..];
        while let Some(first) = rest.first() {
            let len = first.message.len();
            let fits = |other: &&TaggedBytesMut| {
                other.message.len() == len && other.transport.peer_addr == first.transport.peer_addr
            };
            let count = rest.iter().take(SEGMENTS_MAX).take_while(fits).count();
            self.arena.clear();
            rest[..count].iter().for_each(|message| self.arena.extend_from_slice(&message.message));
            let transmit = Transmit {
                destination: first.transport.peer_addr,
                ecn: None,
                contents: &self.arena,
                segment_size: (count > 1).then_some(len),
                src_ip: None,
            };
            while let Err(error) = self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
                && error.kind() == io::ErrorKind::WouldBlock
            {
                thread::yield_now();
            }
            rest = &rest[count..];
        }
        self.waiting.clear();
    }
}
