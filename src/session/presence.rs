//! Who is connected now: for private messages, kicks and tokens that end.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
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
    session::{Outlet, limits::Place},
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
    /// How many of those a person has in a room.
    media_of: HashMap<(RoomId, Who), u32>,
}

struct Connection {
    outlet: Outlet,
    sub: Sub,
    room: RoomId,
    who: Who,
    due: UnixMs,
    asked: bool,
    hears: bool,
    private: Private,
}

/// What becomes of private messages to a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Private {
    Told,
    /// What was missed is being read; a message that comes now is read with it. Whether one came.
    Missed {
        more: bool,
    },
}

/// A connection that is let in.
pub struct Newcomer<'a> {
    pub outlet: Outlet,
    pub sub: &'a Sub,
    pub room: &'a RoomId,
    pub who: &'a Who,
    pub token_ends: UnixMs,
    /// Whether private messages are for this connection: a simulated person in a real room is told none.
    pub hears: bool,
}

/// Whose a media session is.
#[derive(Clone, Debug)]
pub struct MediaOwner {
    pub publishes: bool,
    pub etag: String,
    pub room: RoomId,
    pub sub: Sub,
    pub who: Who,
    /// Among the video sessions of an address, for as long as the session is.
    pub place: Option<Arc<Place>>,
}

impl Presence {
    /// Notes a joined connection. `None` when the person has `limit` of them in this room already. One that
    /// `catches_up` is told no private message before [`Presence::has_caught_up`].
    pub fn add(&self, newcomer: Newcomer<'_>, limit: u32, catches_up: bool) -> Option<ConnectionId> {
        let Newcomer { outlet, sub, room, who, token_ends, hears } = newcomer;
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
        let private = if catches_up { Private::Missed { more: false } } else { Private::Told };
        book.connections.insert(id, Connection { outlet, sub, room, who, due, asked: false, hears, private });
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
        let mut guard = self.lock();
        let book = &mut *guard;
        let (mut write, mut text) = (Some(write), Bytes::new());
        for id in book.by_sub.get(sub).into_iter().flatten() {
            let Some(connection) = book.connections.get_mut(id).filter(|connection| connection.hears) else { continue };
            if let Private::Missed { more } = &mut connection.private {
                *more = true;
                continue;
            }
            if let Some(write) = write.take() {
                text = write();
            }
            connection.outlet.send(text.clone());
        }
    }

    /// All that was missed until a moment ago is sent. `false`: more came since, it has to be read too.
    pub fn has_caught_up(&self, id: ConnectionId) -> bool {
        let mut book = self.lock();
        let Some(connection) = book.connections.get_mut(&id) else { return true };
        connection.private = match connection.private {
            Private::Missed { more: true } => Private::Missed { more: false },
            _ => Private::Told,
        };
        connection.private == Private::Told
    }

    /// From now on messages are told as they come.
    pub fn is_told(&self, id: ConnectionId) {
        if let Some(connection) = self.lock().connections.get_mut(&id) {
            connection.private = Private::Told;
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

    /// Tells streams and data channels to come back, spread evenly from `first` on over `over`; sockets hear it from
    /// their shards.
    pub fn say_goodbye(&self, first: Duration, over: Duration) {
        let book = self.lock();
        let driven: Vec<&Connection> =
            book.connections.values().filter(|c| matches!(c.outlet, Outlet::Queue(_))).collect();
        for (place, connection) in driven.iter().enumerate() {
            let wait = first + over.mul_f64(place as f64 / driven.len() as f64);
            connection.outlet.close(CloseCode::Bye, &wait.as_millis().to_string());
        }
    }

    /// Ends every connection, for good; returns the media sessions, to be ended too.
    pub fn end_all(&self, reason: &str) -> Vec<SessionId> {
        let book = self.lock();
        for connection in book.connections.values() {
            connection.outlet.close(CloseCode::BadToken, reason);
        }
        book.media.keys().copied().collect()
    }

    pub fn add_media(&self, session: SessionId, owner: MediaOwner) {
        let mut book = self.lock();
        *book.media_of.entry((owner.room.clone(), owner.who.clone())).or_default() += 1;
        book.media.insert(session, owner);
    }

    /// Media sessions of a person in a room.
    pub fn media_of(&self, room: &RoomId, who: &Who) -> u32 {
        self.lock().media_of.get(&(room.clone(), who.clone())).copied().unwrap_or(0)
    }

    pub fn media(&self, session: SessionId) -> Option<MediaOwner> {
        self.lock().media.get(&session).cloned()
    }

    pub fn remove_media(&self, session: SessionId) {
        let mut book = self.lock();
        let Some(owner) = book.media.remove(&session) else { return };
        let person = (owner.room, owner.who);
        match book.media_of.get_mut(&person) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(book.media_of.remove(&person)),
        }
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

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use tokio::sync::mpsc;

    use super::*;
    use crate::session::outlet::Out;

    /// Messages are committed, told a while later, and read from the ledger by who comes back, in any order of steps.
    fn what_she_hears(seed: u64) -> Vec<u64> {
        let mut rng = StdRng::seed_from_u64(seed);
        let (sub, room, who): (Sub, RoomId, Who) = ("buyer".parse().unwrap(), "r".parse().unwrap(), Who("w".into()));
        let presence = Presence::default();
        let (outbox, mut out) = mpsc::channel(1_000);
        let outlet = Outlet::Queue(outbox);
        let (mut committed, mut told) = (5_u64, rng.random_range(0..=5));
        let newcomer =
            Newcomer { outlet: outlet.clone(), sub: &sub, room: &room, who: &who, token_ends: UnixMs(0), hears: true };
        let id = presence.add(newcomer, 1, true).unwrap();
        // What is read at a time, and not yet sent.
        let (mut after, mut read, mut caught_up) = (2_u64, None, false);
        while told < 30 || !caught_up {
            match rng.random_range(0..4) {
                0 if committed < 30 => committed += 1,
                1 if told < committed => {
                    told += 1;
                    presence.tell(&sub, || Bytes::from(told.to_string()));
                }
                2 if read.is_none() && !caught_up => read = Some(committed),
                3 => {
                    let Some(last) = read.take() else { continue };
                    (after + 1..=last).for_each(|n| outlet.send(Bytes::from(n.to_string())));
                    after = last;
                    caught_up = presence.has_caught_up(id);
                }
                _ => {}
            }
        }
        let mut heard = Vec::new();
        while let Ok(Out::Text(text)) = out.try_recv() {
            heard.push(std::str::from_utf8(&text).unwrap().parse().unwrap());
        }
        heard
    }

    #[test]
    fn nothing_is_missing_and_nothing_overtakes_what_was_missed() {
        for seed in 0..2_000 {
            let mut seen = 2;
            for n in what_she_hears(seed) {
                assert!(n <= seen + 1, "seed {seed}: {n} came behind {seen}");
                seen = seen.max(n);
            }
            assert_eq!(seen, 30, "seed {seed}");
        }
    }

    #[test]
    fn a_place_is_given_back_by_connections_and_by_media() {
        let (sub, room, who): (Sub, RoomId, Who) = ("buyer".parse().unwrap(), "r".parse().unwrap(), Who("w".into()));
        let presence = Presence::default();
        let add = || {
            let outlet = Outlet::Queue(mpsc::channel(1).0);
            let newcomer = Newcomer { outlet, sub: &sub, room: &room, who: &who, token_ends: UnixMs(0), hears: true };
            presence.add(newcomer, 1, false)
        };
        let first = add().unwrap();
        assert!(add().is_none());
        presence.remove(first);
        assert!(add().is_some());

        let sessions: Vec<SessionId> = (0..3).map(|_| SessionId::make()).collect();
        for session in &sessions {
            let etag = String::new();
            let owner = MediaOwner {
                publishes: false,
                etag,
                room: room.clone(),
                sub: sub.clone(),
                who: who.clone(),
                place: None,
            };
            presence.add_media(*session, owner);
        }
        assert_eq!(presence.media_of(&room, &who), 3);
        sessions.iter().for_each(|session| presence.remove_media(*session));
        presence.remove_media(sessions[0]);
        assert_eq!(presence.media_of(&room, &who), 0);
    }
}
