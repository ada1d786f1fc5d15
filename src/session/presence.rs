//! Who is connected now: for private messages, kicks and tokens that end.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    clock::UnixMs,
    id::{RoomId, SessionId, Sub, Who},
    protocol::CloseCode,
    session::Outlet,
};

/// How long before its end a token is asked to be renewed, and how long the client has to do so.
pub const RENEWAL: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

#[derive(Default)]
pub struct Presence {
    next: AtomicU64,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    connections: HashMap<ConnectionId, Connection>,
    by_sub: HashMap<Sub, SmallVec<[ConnectionId; 2]>>,
    /// When something is due for a connection: to ask for a new token, or to close.
    due: BTreeSet<(UnixMs, ConnectionId)>,
    media: HashMap<SessionId, MediaOwner>,
}

struct Connection {
    outlet: Outlet,
    sub: Sub,
    room: RoomId,
    who: Who,
    due: UnixMs,
    asked: bool,
}

/// Whose a media session is.
#[derive(Clone, Debug)]
pub struct MediaOwner {
    pub publishes: bool,
    pub etag: String,
    pub room: RoomId,
    pub sub: Sub,
    pub who: Who,
}

impl Presence {
    /// Notes a joined connection. `None` when the person has `limit` of them in this room already.
    pub fn add(
        &self,
        outlet: Outlet,
        sub: &Sub,
        room: &RoomId,
        who: &Who,
        token_ends: UnixMs,
        limit: u32,
    ) -> Option<ConnectionId> {
        let id = ConnectionId(self.next.fetch_add(1, Ordering::Relaxed));
        let mut guard = self.lock();
        let book = &mut *guard;
        let own = book.by_sub.entry(sub.clone()).or_default();
        let here = own.iter().filter(|c| book.connections.get(c).is_some_and(|c| c.room == *room)).count();
        if here >= limit as usize {
            return None;
        }
        own.push(id);
        let due = ask_at(token_ends);
        book.due.insert((due, id));
        let (sub, room, who) = (sub.clone(), room.clone(), who.clone());
        book.connections.insert(id, Connection { outlet, sub, room, who, due, asked: false });
        Some(id)
    }

    pub fn remove(&self, id: ConnectionId) {
        let mut book = self.lock();
        let Some(gone) = book.connections.remove(&id) else { return };
        book.due.remove(&(gone.due, id));
        if let Some(own) = book.by_sub.get_mut(&gone.sub) {
            own.retain(|own| *own != id);
            if own.is_empty() {
                book.by_sub.remove(&gone.sub);
            }
        }
    }

    /// The client brought a new token.
    pub fn renew(&self, id: ConnectionId, token_ends: UnixMs) {
        let mut book = self.lock();
        let Some(connection) = book.connections.get_mut(&id) else { return };
        let old = std::mem::replace(&mut connection.due, ask_at(token_ends));
        connection.asked = false;
        let due = connection.due;
        book.due.remove(&(old, id));
        book.due.insert((due, id));
    }

    /// Sends a private message to every connection of a person. It is written only when there is one.
    pub fn tell(&self, sub: &Sub, write: impl FnOnce() -> Bytes) {
        let book = self.lock();
        let ids = book.by_sub.get(sub).into_iter().flatten();
        let mut here = ids.filter_map(|id| book.connections.get(id)).peekable();
        if here.peek().is_some() {
            let text = write();
            here.for_each(|connection| connection.outlet.send(text.clone()));
        }
    }

    /// Ends every connection of a person in a room; returns their media sessions there, to be ended too.
    pub fn kick(&self, room: &RoomId, who: &Who) -> Vec<SessionId> {
        let book = self.lock();
        for connection in book.connections.values().filter(|c| c.room == *room && c.who == *who) {
            connection.outlet.close(CloseCode::Kicked, "removed by a moderator");
        }
        book.media.iter().filter(|(_, m)| m.room == *room && m.who == *who).map(|(id, _)| *id).collect()
    }

    /// Tells streams and data channels to come back later; sockets hear it from their shards.
    pub fn say_goodbye(&self, come_back_after: Duration) {
        let reason = come_back_after.as_millis().to_string();
        for connection in self.lock().connections.values() {
            if matches!(connection.outlet, Outlet::Queue(_)) {
                connection.outlet.close(CloseCode::Bye, &reason);
            }
        }
    }

    pub fn add_media(&self, session: SessionId, owner: MediaOwner) {
        self.lock().media.insert(session, owner);
    }

    pub fn media(&self, session: SessionId) -> Option<MediaOwner> {
        self.lock().media.get(&session).cloned()
    }

    pub fn remove_media(&self, session: SessionId) {
        self.lock().media.remove(&session);
    }

    /// Asks for new tokens and ends connections that brought none. Called about once a second.
    pub fn sweep(&self, now: UnixMs) {
        let mut guard = self.lock();
        let book = &mut *guard;
        while let Some((at, id)) = book.due.first().copied().filter(|(at, _)| *at <= now) {
            book.due.remove(&(at, id));
            let Some(connection) = book.connections.get_mut(&id) else { continue };
            if connection.asked {
                connection.outlet.close(CloseCode::BadToken, "the token has ended");
                continue;
            }
            connection.asked = true;
            connection.due = now.plus(RENEWAL);
            book.due.insert((connection.due, id));
            connection.outlet.send(Bytes::from_static(br#"{"auth":"expiring"}"#));
        }
    }

    pub fn len(&self) -> usize {
        self.lock().connections.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().expect("no holder panics")
    }
}

fn ask_at(token_ends: UnixMs) -> UnixMs {
    UnixMs(token_ends.0 - i64::try_from(RENEWAL.as_millis()).unwrap_or(0))
}
