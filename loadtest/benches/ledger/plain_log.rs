//! What a hold could cost at least: a log that hashes and writes the same fields and flushes them, and decides nothing.
//!
//! It is built as well as the desk: one thread encodes and hashes what arrives while another writes and flushes what
//! was encoded before; one `write` and one `fdatasync` for all that waits.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256};
use maishou::{
    clock::{Clock, UnixMs},
    id::HoldId,
    order::{
        HoldRequest,
        entry::{Digest, EntryRecord, EntryType, holder},
    },
};
use tokio::sync::oneshot;

use crate::{shop::SKU, slow_store::flush_longer};

const ASKS_MAX: usize = 131_072;
const ROUND_MAX: usize = 256;

struct Append {
    request: HoldRequest,
    key: [u8; 16],
    body: [u8; 16],
    random: [u8; 10],
    nonce: [u8; 16],
    reply: oneshot::Sender<HoldId>,
}

#[derive(Default)]
struct Encoded {
    bytes: Vec<u8>,
    replies: Vec<(oneshot::Sender<HoldId>, HoldId)>,
    closed: bool,
}

#[derive(Clone)]
pub struct PlainLog {
    asks: SyncSender<Append>,
}

impl PlainLog {
    pub fn open(path: &Path, delay: Duration) -> anyhow::Result<Self> {
        let (asks, from) = sync_channel(ASKS_MAX);
        let file = File::create_new(path)?;
        let next = Arc::new((Mutex::new(Encoded::default()), Condvar::new()));
        let written = next.clone();
        thread::Builder::new().name("log-encode".into()).spawn(move || encode(&from, &next))?;
        thread::Builder::new().name("log-write".into()).spawn(move || write(file, delay, &written))?;
        Ok(Self { asks })
    }

    /// Durable when it answers.
    pub async fn append(&self, request: HoldRequest) -> HoldId {
        let (reply, answer) = oneshot::channel();
        let lines = serde_json::to_vec(&request.lines).expect("lines are JSON");
        let key = half_digest(&[request.sub.as_str().as_bytes(), request.key.as_bytes()]);
        let body = half_digest(&[b"hold", b"hall", &lines]);
        let append = Append { request, key, body, random: rand::random(), nonce: rand::random(), reply };
        assert!(self.asks.try_send(append).is_ok(), "fewer callers than the log has room for");
        answer.await.expect("the log goes on")
    }
}

fn half_digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.finish().as_ref()[..16].try_into().expect("half of 32 bytes")
}

fn encode(asks: &Receiver<Append>, next: &(Mutex<Encoded>, Condvar)) {
    let (clock, mut n, mut prev) = (Clock::start(), 0, Digest::ZERO);
    let mut round = Vec::with_capacity(ROUND_MAX);
    let (mut bytes, mut replies) = (Vec::new(), Vec::new());
    while let Ok(first) = asks.recv() {
        round.push(first);
        round.extend(asks.try_iter().take(ROUND_MAX - 1));
        let now = clock.now();
        for append in round.drain(..) {
            n += 1;
            let millis = u64::try_from(now.0).expect("after 1970");
            let id = uuid::Builder::from_unix_timestamp_millis(millis, &append.random).into_uuid();
            let id = HoldId::from_bytes(*id.as_bytes());
            prev = encode_one(&append, id, n, now, prev, &mut bytes);
            replies.push((append.reply, id));
        }
        let mut slot = next.0.lock().expect("nobody panics here");
        slot.bytes.append(&mut bytes);
        slot.replies.append(&mut replies);
        drop(slot);
        next.1.notify_one();
    }
    next.0.lock().expect("nobody panics here").closed = true;
    next.1.notify_one();
}

/// The fields of the desk's rows of a person, a hold and an entry.
fn encode_one(append: &Append, id: HoldId, n: u64, at: UnixMs, prev: Digest, to: &mut Vec<u8>) -> Digest {
    let request = &append.request;
    let holder = holder(&id, &append.nonce);
    let entry = EntryRecord {
        n,
        at,
        kind: EntryType::Held,
        quantity: 1,
        tx: n,
        holder: Some(holder),
        reason: None,
        prev,
        hash: Digest::ZERO,
    };
    let hash = entry.digest(SKU);
    for text in [request.sub.as_str(), "main", "hall", "show-20261111", "买", SKU, "scarf", "CNY", "held", "held"] {
        to.push(text.len() as u8);
        to.extend_from_slice(text.as_bytes());
    }
    for number in [n, n, n, n, 1, 19_900, 19_900, at.0 as u64, at.0 as u64 + 300_000, at.0 as u64 + 300_000, 1, 0, n] {
        to.extend_from_slice(&number.to_le_bytes());
    }
    for bytes in [id.as_bytes(), &append.nonce, &append.key, &append.body] {
        to.extend_from_slice(bytes);
    }
    to.extend_from_slice(&holder.0);
    to.extend_from_slice(&hash.0);
    hash
}

fn write(mut file: File, delay: Duration, next: &(Mutex<Encoded>, Condvar)) {
    let mut batch = Encoded::default();
    loop {
        let none = |slot: &mut Encoded| slot.bytes.is_empty() && !slot.closed;
        let mut slot = next.1.wait_while(next.0.lock().expect("nobody panics here"), none).expect("nobody panics here");
        if slot.bytes.is_empty() {
            return;
        }
        std::mem::swap(&mut slot.bytes, &mut batch.bytes);
        std::mem::swap(&mut slot.replies, &mut batch.replies);
        drop(slot);
        file.write_all(&batch.bytes).and_then(|()| file.sync_data()).expect("the disk takes the log");
        flush_longer(delay);
        batch.bytes.clear();
        for (reply, id) in batch.replies.drain(..) {
            let _nobody_hears = reply.send(id);
        }
    }
}
