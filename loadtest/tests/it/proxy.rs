//! A proxy between crowd and server that lies once.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use maishou_loadtest::frames::{Frames, TEXT};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// What it does to the message that it picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    None,
    Drop,
    Repeat,
    /// It changes places with the next one.
    Swap,
    /// These bytes in it become those, of the same length.
    Alter(&'static str, &'static str),
    /// The number behind these bytes becomes 999.
    Nines(&'static str),
    /// An answer becomes a refusal.
    Refuse,
    /// In every body of a REST answer these bytes become those.
    Forge(&'static str, &'static str),
}

#[derive(Clone)]
pub struct Rule {
    pub lie: Lie,
    /// How a picked message begins, and what is in it.
    pub begins: &'static str,
    pub has: &'static str,
    /// The message of this kind that is picked, counted over all connections.
    pub pick: usize,
    seen: Arc<AtomicUsize>,
}

impl Rule {
    pub fn new(lie: Lie, begins: &'static str, has: &'static str) -> Self {
        Self { lie, begins, has, pick: 25, seen: Arc::default() }
    }

    /// Whether the lie was told.
    pub fn was_told(&self) -> bool {
        self.seen.load(Ordering::Relaxed) > self.pick
    }

    fn picks(&self, text: &[u8]) -> bool {
        let is_one = text.starts_with(self.begins.as_bytes()) && memmem::find(text, self.has.as_bytes()).is_some();
        is_one && self.seen.fetch_add(1, Ordering::Relaxed) == self.pick
    }
}

/// Starts it on a thread that lives as long as the test; where it listens.
pub fn start(server: SocketAddr, rule: Rule) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, rule.clone()));
            }
        });
    });
    address
}

async fn pass(client: TcpStream, server: SocketAddr, rule: Rule) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let up = async move {
        let copied = tokio::io::copy(&mut from_client, &mut to_server).await;
        to_server.shutdown().await?;
        copied
    };
    let (_, down) = tokio::join!(up, answer(from_server, to_client, rule));
    down
}

/// What comes from the server: the head as it is, then frames one by one, or a body.
async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, rule: Rule) -> std::io::Result<()> {
    let (mut buffer, mut frames, mut held) = (vec![0; 256 << 10], None::<Frames>, None::<Vec<u8>>);
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        let mut bytes = &buffer[..len];
        if frames.is_none() {
            let head = memmem::find(bytes, b"\r\n\r\n").filter(|_| bytes.starts_with(b"HTTP/1.1 101"));
            let Some(end) = head else {
                to.write_all(&forge(bytes, &rule)).await?;
                continue;
            };
            to.write_all(&bytes[..end + 4]).await?;
            bytes = &bytes[end + 4..];
            frames = Some(Frames::default());
        }
        let mut out = Vec::new();
        if let Some(frames) = &mut frames {
            frames.feed(bytes, |opcode, payload| tell(opcode, payload, &rule, &mut held, &mut out));
        }
        to.write_all(&out).await?;
    }
}

fn tell(opcode: u8, payload: &[u8], rule: &Rule, held: &mut Option<Vec<u8>>, out: &mut Vec<u8>) {
    let is_picked = opcode == TEXT && rule.picks(payload);
    let frame = server_frame(opcode, payload);
    match rule.lie {
        Lie::Drop if is_picked => {}
        Lie::Repeat if is_picked => out.extend([&frame[..], &frame[..]].concat()),
        Lie::Swap if is_picked => *held = Some(frame),
        Lie::Alter(from, to) if is_picked => out.extend(server_frame(opcode, &replace(payload, from, to))),
        Lie::Nines(key) if is_picked => out.extend(server_frame(opcode, &nines(payload, key))),
        Lie::Refuse if is_picked => {
            let re = String::from_utf8_lossy(payload).split(',').next().unwrap_or_default().to_owned();
            let refusal = format!("{re},\"error\":{{\"code\":\"sold_out\",\"message\":\"no\"}}}}");
            out.extend(server_frame(opcode, refusal.as_bytes()));
        }
        _ => {
            let is_next = payload.starts_with(rule.begins.as_bytes());
            out.extend(frame);
            if is_next && let Some(held) = held.take() {
                out.extend(held);
            }
        }
    }
}

fn forge(bytes: &[u8], rule: &Rule) -> Vec<u8> {
    let Lie::Forge(from, to) = rule.lie else { return bytes.to_vec() };
    if memmem::find(bytes, from.as_bytes()).is_none() {
        return bytes.to_vec();
    }
    rule.seen.fetch_add(rule.pick + 1, Ordering::Relaxed);
    replace(bytes, from, to)
}

fn nines(payload: &[u8], key: &str) -> Vec<u8> {
    let at = memmem::find(payload, key.as_bytes()).expect("what is altered is there") + key.len();
    let behind = payload[at..].iter().skip_while(|byte| byte.is_ascii_digit());
    payload[..at].iter().chain(b"999").chain(behind).copied().collect()
}

fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let at = memmem::find(&bytes, from.as_bytes()).expect("what is altered is there");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..126 => frame.push(len as u8),
        len @ 126..=0xFFFF => frame.extend([&[126][..], &(len as u16).to_be_bytes()].concat()),
        len => frame.extend([&[127][..], &(len as u64).to_be_bytes()].concat()),
    }
    frame.extend_from_slice(payload);
    frame
}
