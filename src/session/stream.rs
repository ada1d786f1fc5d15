//! A receive-only session: the same frames, snapshots and private messages, for whoever only listens.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    id::RoomId,
    protocol::{ErrorCode, Fault, SILENCE_MAX},
    ring::{Read, Ring},
    room::{Demand, Seat},
    session::{ConnectionId, Outlet, Person, Shop, limits::Place, outlet::Out},
};

const OUTBOX_MAX: usize = 64;
const READ_BYTES_MAX: usize = 256 * 1024;

/// One listener. Dropping it leaves the room.
pub struct Listener {
    shop: Arc<Shop>,
    connection: ConnectionId,
    ring: Arc<Ring>,
    position: u64,
    out: mpsc::Receiver<Out>,
    waiting: VecDeque<Heard>,
    ended: bool,
    _seat: Seat,
    _place: Option<Place>,
}

/// Something to pass on. `id` is where the listener stands behind it, `EPOCH:SEQ`; tallies and private messages have
/// none.
#[derive(Debug)]
pub struct Heard {
    pub id: Option<String>,
    pub text: Bytes,
}

/// What a listener hears next.
#[derive(Debug)]
pub enum Next {
    Heard(Heard),
    /// Nothing was said for a while.
    Silence,
    End,
}

impl Listener {
    /// Enters the room. `last` is `EPOCH:SEQ` of the last thing heard, to read on from there.
    pub async fn enter(
        shop: &Arc<Shop>,
        person: &Person,
        room: &RoomId,
        last: Option<&str>,
        place: Option<Place>,
    ) -> Result<Self, Fault> {
        let handle = shop.room(room)?;
        person.may_enter(room)?;
        shop.refuse_kicked(person, room).await?;
        let (outbox, out) = mpsc::channel(OUTBOX_MAX);
        let who = person.who(room);
        let limit = shop.limits.config().connections_per_person;
        let connection =
            shop.presence.add(Outlet::Queue(outbox), person.sub(), room, &who, person.ends_at(), limit).ok_or_else(
                || Fault::new(ErrorCode::RateLimited, "too many connections of one person").retry_after(5_000),
            )?;
        let sim = person.claims().sim;
        let seat = handle.enter(&who, person.author(handle.facts()).role, sim);
        handle.note(shop.clock.now(), &who, Demand::Join { sim });

        let ring = handle.ring().clone();
        let mut waiting = VecDeque::new();
        let resumed = last.and_then(|last| place_of(&ring, last));
        let position = resumed.unwrap_or_else(|| snapshot(&ring, &mut waiting));
        let shop = shop.clone();
        Ok(Self { shop, connection, ring, position, out, waiting, ended: false, _seat: seat, _place: place })
    }

    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(heard) = self.waiting.pop_front() {
                return Next::Heard(heard);
            }
            if self.ended || self.ring.is_closed() {
                return Next::End;
            }
            tokio::select! {
                out = self.out.recv() => match out {
                    Some(Out::Text(text)) => self.waiting.push_back(Heard { id: None, text }),
                    Some(Out::Follow { .. }) => {}
                    Some(Out::Close(code, reason)) => {
                        let bye = serde_json::json!({ "close": { "code": code.number(), "reason": reason } });
                        self.waiting.push_back(Heard { id: None, text: bye.to_string().into() });
                        self.ended = true;
                    }
                    None => self.ended = true,
                },
                () = self.ring.changed(self.position) => self.read_on(),
                () = tokio::time::sleep(SILENCE_MAX) => return Next::Silence,
            }
        }
    }

    fn read_on(&mut self) {
        let mut frames = Vec::new();
        match self.ring.read(self.position, READ_BYTES_MAX, &mut frames) {
            Read::UpTo(next) => {
                self.position = next;
                let epoch = self.ring.epoch();
                self.waiting.extend(frames.into_iter().map(|frame| {
                    let id = (frame.seq > frame.prev).then(|| format!("{epoch}:{}", frame.seq));
                    Heard { id, text: frame.text }
                }));
            }
            Read::FellOff => {
                self.ring.want_snapshot();
                self.position = snapshot(&self.ring, &mut self.waiting);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shop.presence.remove(self.connection);
    }
}

fn place_of(ring: &Ring, last: &str) -> Option<u64> {
    let (epoch, seq) = last.rsplit_once(':')?;
    let seq = seq.parse().ok().filter(|_| epoch == ring.epoch())?;
    ring.position_after(seq)
}

fn snapshot(ring: &Ring, waiting: &mut VecDeque<Heard>) -> u64 {
    let snapshot = ring.snapshot();
    waiting.push_back(Heard { id: Some(format!("{}:{}", ring.epoch(), snapshot.seq)), text: snapshot.text });
    snapshot.position
}
