//! Sessions over the data channel `room`: a task per channel that is in use.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::debug;

use crate::{
    id::{RoomId, SessionId},
    media::Media,
    protocol::CloseCode,
    ring::{Read, Ring},
    session::{
        Arrival, Live, Outlet, Shop,
        outlet::{Follow, Out},
    },
};

/// Messages of a client that wait for the one before; a client that sends faster loses its channel.
const INBOX_MAX: usize = 32;
/// Replies and private messages that wait for the channel.
const OUTBOX_MAX: usize = 64;
/// Frames read from the ring at once, in bytes.
const READ_BYTES_MAX: usize = 64 * 1024;

/// The data channels that are open now.
#[derive(Default)]
pub struct Channels(Mutex<HashMap<SessionId, mpsc::Sender<Bytes>>>);

impl Channels {
    /// A channel was opened: it stays silent until the client joins on it.
    pub fn open(&self, shop: &Arc<Shop>, room: &RoomId, session: SessionId) {
        let Some(room) = shop.rooms.get(room) else { return };
        let (inbox, messages) = mpsc::channel(INBOX_MAX);
        self.lock().insert(session, inbox);
        let live = Live::new(shop.clone(), room, None);
        let driver = Driver { media: shop.media.clone(), session, following: None, stuck_at: None };
        #[expect(clippy::let_underscore_future, reason = "it ends when the channel closes and drops the inbox")]
        let _ = tokio::spawn(driver.run(live, messages));
    }

    pub fn message(&self, session: SessionId, text: Bytes) {
        let mut channels = self.lock();
        if let Some(inbox) = channels.get(&session)
            && inbox.try_send(text).is_err()
        {
            debug!(%session, "a data channel sends faster than it is answered");
            channels.remove(&session);
        }
    }

    pub fn closed(&self, session: SessionId) {
        self.lock().remove(&session);
    }

    /// Whether a session lives on this data channel. One that only has a channel and never joined is ended otherwise.
    pub fn is_open(&self, session: SessionId) -> bool {
        self.lock().contains_key(&session)
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, mpsc::Sender<Bytes>>> {
        self.0.lock().expect("no holder panics")
    }
}

struct Driver {
    media: Media,
    session: SessionId,
    following: Option<(Arc<Ring>, u64)>,
    /// Nothing to go on with was found while the ring ended here.
    stuck_at: Option<u64>,
}

impl Driver {
    async fn run(mut self, mut live: Live, mut messages: mpsc::Receiver<Bytes>) {
        let (outbox, mut out) = mpsc::channel(OUTBOX_MAX);
        live.open(Outlet::Queue(outbox));
        let code = loop {
            let waits_for =
                self.following.as_ref().map(|(ring, position)| (ring.clone(), self.stuck_at.unwrap_or(*position)));
            tokio::select! {
                biased;
                Some(next) = out.recv() => {
                    if let Some(code) = self.take(next).await {
                        break code.number();
                    }
                }
                message = messages.recv() => {
                    let Some(message) = message else { break CloseCode::Silent.number() };
                    match std::str::from_utf8(&message) {
                        Ok(text) => live.message(text).await,
                        Err(_) => break CloseCode::Protocol.number(),
                    }
                }
                () = changed(waits_for) => {
                    if !self.read_on().await {
                        break CloseCode::Slow.number();
                    }
                }
            }
        };
        live.closed(code);
        drop(out);
        self.let_go(messages).await;
    }

    /// The client closes when it has read why; one that does not is cut off.
    async fn let_go(&self, mut messages: mpsc::Receiver<Bytes>) {
        let gone = async { while messages.recv().await.is_some() {} };
        let _ = tokio::time::timeout(GOODBYE, gone).await;
        self.media.leave(self.session);
    }

    async fn take(&mut self, out: Out) -> Option<CloseCode> {
        match out {
            Out::Text(text) => (!self.send(text).await).then_some(CloseCode::Slow),
            Out::Follow(follow) => {
                let Follow { ring, position, first } = *follow;
                if let Some(first) = first
                    && !self.send(first.text).await
                {
                    return Some(CloseCode::Slow);
                }
                self.following = Some((ring, position));
                None
            }
            Out::Close(code, reason) => {
                // A data channel has no close frame: the reason goes as a last message.
                let bye = serde_json::json!({ "close": { "code": code.number(), "reason": reason } });
                self.send(bye.to_string().into()).await;
                Some(code)
            }
        }
    }

    /// Sends the frames that are new; one that fell off the ring gets the snapshot.
    async fn read_on(&mut self) -> bool {
        self.stuck_at = None;
        let Some((ring, position)) = self.following.clone() else { return true };
        let mut frames = Vec::new();
        match ring.read(position, READ_BYTES_MAX, &mut frames) {
            Read::UpTo(next) => {
                for frame in frames {
                    if !self.send(frame.text).await {
                        return false;
                    }
                }
                self.following = Some((ring, next));
                true
            }
            Read::FellOff => {
                let Some(Arrival { position, snapshot: Some(snapshot) }) = Arrival::after_fall(&ring) else {
                    self.stuck_at = Some(ring.head());
                    return true;
                };
                self.following = Some((ring, position));
                self.send(snapshot.text).await
            }
        }
    }

    /// Waits a little for a channel that is behind; `false` when it stays so.
    async fn send(&self, text: Bytes) -> bool {
        for _ in 0..SEND_TRIES {
            if self.media.send(self.session, text.clone()).is_ok() {
                return true;
            }
            tokio::time::sleep(SEND_PAUSE).await;
        }
        false
    }
}

/// How long a client has to read why its channel ends.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(1);
/// Together ten seconds: then the channel is given up.
const SEND_TRIES: usize = 100;
const SEND_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

async fn changed(following: Option<(Arc<Ring>, u64)>) {
    match following {
        Some((ring, position)) if !ring.is_closed() => ring.changed(position).await,
        _ => std::future::pending().await,
    }
}
