//! A receive-only session: the same frames, snapshots and private messages, for whoever only listens.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    id::RoomId,
    protocol::{ErrorCode, Fault, SILENCE_MAX},
    ring::{Read, Ring},
    room::Seat,
    session::{Arrival, ConnectionId, Outlet, Person, Shop, limits::Place, outlet::Out, presence::Newcomer},
};

const OUTBOX_MAX: usize = 64;
const READ_BYTES_MAX: usize = 256 * 1024;

/// One listener. Dropping it leaves the room.
pub struct Listener {
    shop: Arc<Shop>,
    connection: ConnectionId,
    ring: Arc<Ring>,
    position: u64,
    /// Nothing to go on with was found while the ring ended here.
    stuck_at: Option<u64>,
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
        let outlet = Outlet::Queue(outbox);
        let hears = shop.may_act(person).is_ok();
        let newcomer = Newcomer { outlet, sub: person.sub(), room, who: &who, token_ends: person.ends_at(), hears };
        let too_many = || Fault::new(ErrorCode::RateLimited, "too many connections of one person").retry_after(5_000);
        let connection = shop.presence.add(newcomer, limit, false).ok_or_else(too_many)?;
        // A kick that was shown meanwhile did not find this connection yet.
        if let Err(kicked) = shop.refuse_kicked(person, room).await {
            shop.presence.remove(connection);
            return Err(kicked);
        }
        let seat = handle.enter(&who, person.author(handle.facts()).role, shop.is_uncounted(person));
        shop.note_join(person, &handle, &who);

        let ring = handle.ring().clone();
        let (epoch, seq) = last.and_then(|last| last.rsplit_once(':')).unzip();
        let arrival = Arrival::at(&ring, epoch, seq.and_then(|seq| seq.parse().ok()));
        let (shop, position) = (shop.clone(), arrival.position);
        let waiting = VecDeque::new();
        let mut listener = Self {
            shop,
            connection,
            ring,
            position,
            stuck_at: None,
            out,
            waiting,
            ended: false,
            _seat: seat,
            _place: place,
        };
        listener.begin(arrival);
        Ok(listener)
    }

    /// What the listener has not read begins here.
    fn begin(&mut self, arrival: Arrival) {
        self.position = arrival.position;
        if let Some(snapshot) = arrival.snapshot {
            let id = Some(format!("{}:{}", self.ring.epoch(), snapshot.seq));
            self.waiting.push_back(Heard { id, text: snapshot.text });
        }
    }

    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(heard) = self.waiting.pop_front() {
                return Next::Heard(heard);
            }
            if self.ended || self.ring.is_closed() {
                return Next::End;
            }
            let reads_from = self.stuck_at.unwrap_or(self.position);
            tokio::select! {
                out = self.out.recv() => match out {
                    Some(Out::Text(text)) => self.waiting.push_back(Heard { id: None, text }),
                    Some(Out::Follow(_)) => {}
                    Some(Out::Close(code, reason)) => {
                        let bye = serde_json::json!({ "close": { "code": code.number(), "reason": reason } });
                        self.waiting.push_back(Heard { id: None, text: bye.to_string().into() });
                        self.ended = true;
                    }
                    None => self.ended = true,
                },
                () = self.ring.changed(reads_from) => self.read_on(),
                () = tokio::time::sleep(SILENCE_MAX) => return Next::Silence,
            }
        }
    }

    fn read_on(&mut self) {
        self.stuck_at = None;
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
            Read::FellOff => match Arrival::after_fall(&self.ring) {
                Some(arrival) => self.begin(arrival),
                None => self.stuck_at = Some(self.ring.head()),
            },
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shop.presence.remove(self.connection);
    }
}
