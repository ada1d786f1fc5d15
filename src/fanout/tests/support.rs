//! A listener whose sockets go to a fan-out as if their upgrade was just answered, and clients of it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use socket2::SockRef;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{Role, WebSocket},
};

use crate::{
    clock::UnixMs,
    fanout::{Config, Fanout, Inbound, Outlet, Refused, Socket},
    id::Who,
    protocol::{Body, Event, Frame, Role as Person},
    ring::{self, Encoded, Ring},
};

/// How long a test waits for what must come.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}

/// A fan-out and a place to connect to it.
pub(super) struct Server {
    pub(super) fanout: Fanout,
    listener: TcpListener,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.fanout.shutdown();
    }
}

type OnOpen = dyn FnOnce(&Outlet) + Send;
type OnMessage = dyn FnMut(&Outlet, String) + Send;

/// Does what a test says, and tells of the end.
pub(super) struct Scripted {
    outlet: Option<Outlet>,
    on_open: Box<OnOpen>,
    on_message: Box<OnMessage>,
    closed: SyncSender<u16>,
}

impl Inbound for Scripted {
    fn open(&mut self, outlet: Outlet) {
        std::mem::replace(&mut self.on_open, Box::new(|_| ()))(&outlet);
        self.outlet = Some(outlet);
    }

    fn message<'a>(&'a mut self, text: &str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let text = text.to_owned();
        Box::pin(async move {
            let outlet = self.outlet.as_ref().expect("a message comes after the opening");
            (self.on_message)(outlet, text);
        })
    }

    fn closed(&mut self, code: u16) {
        // A test that is not interested has dropped the other end.
        let _ = self.closed.send(code);
    }
}

impl Server {
    pub(super) fn start(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { fanout: Fanout::start(config).unwrap(), listener }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// A connection that does `on_open` and `on_message`; what the server is told at its end comes from the receiver.
    pub(super) fn connect(
        &self,
        on_open: impl FnOnce(&Outlet) + Send + 'static,
        on_message: impl FnMut(&Outlet, String) + Send + 'static,
    ) -> (TcpStream, Receiver<u16>) {
        let (client, result, closed) = self.try_connect(on_open, on_message);
        result.unwrap();
        (client, closed)
    }

    pub(super) fn try_connect(
        &self,
        on_open: impl FnOnce(&Outlet) + Send + 'static,
        on_message: impl FnMut(&Outlet, String) + Send + 'static,
    ) -> (TcpStream, Result<(), Refused>, Receiver<u16>) {
        let (client, stream) = self.pair();
        let (inbound, closed) = scripted(on_open, on_message);
        let result = self.fanout.adopt(plain(stream, Bytes::new()), inbound);
        (client, result, closed)
    }

    /// A connection of which `read_ahead` was read before it moved.
    pub(super) fn connect_after(
        &self,
        read_ahead: &[u8],
        on_message: impl FnMut(&Outlet, String) + Send + 'static,
    ) -> TcpStream {
        let (client, stream) = self.pair();
        let (inbound, _) = scripted(|_| (), on_message);
        let read_ahead = Bytes::copy_from_slice(read_ahead);
        self.fanout.adopt(plain(stream, read_ahead), inbound).unwrap();
        client
    }

    /// A connection that follows `ring` from its beginning.
    pub(super) fn viewer(&self, ring: &Arc<Ring>) -> TcpStream {
        let ring = ring.clone();
        self.connect(move |outlet| outlet.follow(ring, 0, None), |_, _| ()).0
    }

    /// A connection that agreed on permessage-deflate.
    pub(super) fn connect_deflating(
        &self,
        on_open: impl FnOnce(&Outlet) + Send + 'static,
        on_message: impl FnMut(&Outlet, String) + Send + 'static,
    ) -> (TcpStream, Receiver<u16>) {
        let (client, stream) = self.pair();
        let (inbound, closed) = scripted(on_open, on_message);
        let socket = Socket { stream, tls: None, read_ahead: Bytes::new(), deflates: true };
        self.fanout.adopt(socket, inbound).unwrap();
        (client, closed)
    }

    /// One of these that follows `ring` from its beginning.
    pub(super) fn deflating_viewer(&self, ring: &Arc<Ring>) -> TcpStream {
        let ring = ring.clone();
        self.connect_deflating(move |outlet| outlet.follow(ring, 0, None), |_, _| ()).0
    }

    pub(super) fn connect_tls(
        &self,
        on_open: impl FnOnce(&Outlet) + Send + 'static,
        on_message: impl FnMut(&Outlet, String) + Send + 'static,
    ) -> (TlsClient, Receiver<u16>) {
        let (client, mut stream) = self.pair();
        let (inbound, closed) = scripted(on_open, on_message);
        let (server_config, client_config) = tls();
        let handshake = std::thread::spawn(move || {
            let mut session = Box::new(ServerConnection::new(server_config).unwrap());
            while session.is_handshaking() || session.wants_write() {
                session.complete_io(&mut stream).unwrap();
            }
            (stream, session)
        });
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = StreamOwned::new(ClientConnection::new(client_config, name).unwrap(), client);
        while tls.conn.is_handshaking() || tls.conn.wants_write() {
            tls.conn.complete_io(&mut tls.sock).unwrap();
        }
        let (stream, session) = handshake.join().unwrap();
        self.fanout
            .adopt(Socket { stream, tls: Some(session), read_ahead: Bytes::new(), deflates: false }, inbound)
            .unwrap();
        (tls, closed)
    }

    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.address()).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.set_nodelay(true).unwrap();
        let (stream, _) = self.listener.accept().unwrap();
        (client, stream)
    }
}

fn plain(stream: TcpStream, read_ahead: Bytes) -> Socket {
    Socket { stream, tls: None, read_ahead, deflates: false }
}

pub(super) type TlsClient = StreamOwned<ClientConnection, TcpStream>;

fn scripted(
    on_open: impl FnOnce(&Outlet) + Send + 'static,
    on_message: impl FnMut(&Outlet, String) + Send + 'static,
) -> (Box<Scripted>, Receiver<u16>) {
    let (closed, receiver) = sync_channel(1);
    let (on_open, on_message) = (Box::new(on_open), Box::new(on_message));
    (Box::new(Scripted { outlet: None, on_open, on_message, closed }), receiver)
}

/// One self-signed certificate for all tests.
fn tls() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    static CONFIGS: OnceLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = OnceLock::new();
    let (server, client) = CONFIGS.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());

        let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let server = server.unwrap().with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        (Arc::new(server), Arc::new(client))
    });
    (server.clone(), client.clone())
}

/// The client's side of a WebSocket over any stream.
pub(super) fn websocket<S: Read + Write>(stream: S) -> WebSocket<S> {
    WebSocket::from_raw_socket(stream, Role::Client, None)
}

pub(super) fn next_text<S: Read + Write>(client: &mut WebSocket<S>) -> String {
    match client.read().unwrap() {
        Message::Text(text) => text.as_str().to_owned(),
        other => panic!("not a text: {other:?}"),
    }
}

/// The first byte and the payload of the next frame, which tungstenite refuses when it is compressed.
pub(super) fn read_frame(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut header = [0; 2];
    stream.read_exact(&mut header).unwrap();
    let len = match header[1] {
        126 => {
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            usize::from(u16::from_be_bytes(len))
        }
        len => usize::from(len),
    };
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).unwrap();
    (header[0], payload)
}

/// Reads to the end: the close code and reason that came, or `None` when the connection was cut.
pub(super) fn close_of<S: Read + Write>(client: &mut WebSocket<S>) -> Option<(u16, String)> {
    let mut close = None;
    loop {
        match client.read() {
            Ok(Message::Close(frame)) => {
                close = frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned()));
            }
            Ok(_) => {}
            Err(_) => return close,
        }
    }
}

/// Gives the stream's bytes a few at a time, as a bad network would.
pub(super) struct Crumbs<S> {
    pub(super) stream: S,
    pub(super) len: usize,
}

impl<S: Read> Read for Crumbs<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.len = self.len % 7 + 1;
        let len = into.len().min(self.len);
        self.stream.read(&mut into[..len])
    }
}

impl<S: Write> Write for Crumbs<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

pub(super) fn small_receive_buffer(client: &TcpStream) {
    SockRef::from(client).set_recv_buffer_size(8_192).unwrap();
}

/// A room's hub, as far as fan-out is concerned.
pub(super) struct Hub {
    pub(super) ring: Arc<Ring>,
    pub(super) seq: u64,
}

impl Hub {
    pub(super) fn new(config: ring::Config) -> Self {
        Self { ring: Ring::new(config, "e1".to_owned(), 0, snapshot(0)), seq: 0 }
    }

    /// A frame of one state event.
    pub(super) fn state(&mut self) {
        let seconds = u32::try_from(self.seq + 1).unwrap();
        self.push(Body::SlowMode { seconds }, true);
    }

    /// A frame of one comment of `len` letters.
    pub(super) fn comment(&mut self, len: usize) {
        let (who, name, text) = (Who("w".into()), "n".to_owned(), "x".repeat(len));
        self.push(Body::Comment { who, name, role: Person::Viewer, text }, false);
    }

    fn push(&mut self, body: Body, urgent: bool) {
        let prev = self.seq;
        self.seq += 1;
        let event = Event { seq: self.seq, at: UnixMs(0), media: None, body };
        let frame =
            Frame { prev, seq: self.seq, events: vec![event], tally: None, left_out: None, sales_left_out: None };
        self.ring.push(Encoded::frame(&frame, urgent));
        if self.ring.snapshot_wanted() {
            self.ring.set_snapshot(self.seq, snapshot(self.seq));
        }
    }
}

fn snapshot(seq: u64) -> String {
    format!("{{\"snapshot\":{{\"seq\":{seq}}}}}")
}

/// A client that keeps to the frame rule.
#[derive(Default)]
pub(super) struct View {
    pub(super) cursor: u64,
    pub(super) snapshots: usize,
    /// Numbers of the events it applied.
    pub(super) events: Vec<u64>,
}

impl View {
    pub(super) fn take(&mut self, text: &str) {
        let value: serde_json::Value = serde_json::from_str(text).expect("whole JSON");
        if let Some(seq) = value["snapshot"]["seq"].as_u64() {
            assert!(seq >= self.cursor, "a snapshot leads forward");
            self.snapshots += 1;
            self.cursor = seq;
            return;
        }
        let frame: Frame = serde_json::from_value(value).expect("a frame");
        assert!(frame.prev <= self.cursor, "a gap: at {} came ({}, {}]", self.cursor, frame.prev, frame.seq);
        let news = frame.events.iter().map(|event| event.seq).filter(|seq| *seq > self.cursor);
        self.events.extend(news);
        self.cursor = self.cursor.max(frame.seq);
    }
}
