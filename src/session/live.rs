//! `Live`: one connection, from its first message to its end.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use governor::DefaultDirectRateLimiter;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::{Instrument, Span, debug, info_span};

use crate::{
    fanout,
    id::RoomId,
    protocol::{
        ClientMessage, CloseCode, Command, ErrorCode, Fault, Private, RoomScope,
        command::{Join, Undecodable},
    },
    room::{Handle, Seat},
    session::{Arrival, ConnectionId, Outlet, Person, Shop, limits::Place, presence::Newcomer},
};

/// Private messages that a join sends by itself; a client that missed more reads them over REST.
const MISSED_MAX: usize = 32;

/// A connection's state. Messages are handled one after another, so that replies come in the order of commands.
pub struct Live {
    shop: Arc<Shop>,
    room: Handle,
    limiter: DefaultDirectRateLimiter,
    outlet: Option<Outlet>,
    joined: Option<Joined>,
    /// Too many come at once: this one is sent away again.
    come_again: Option<Duration>,
    place: Option<Place>,
}

struct Joined {
    person: Person,
    seat: Seat,
    connection: ConnectionId,
}

impl Live {
    pub fn new(shop: Arc<Shop>, room: Handle, place: Option<Place>) -> Self {
        let limiter = shop.limits.of_connection();
        Self { shop, room, limiter, outlet: None, joined: None, come_again: None, place }
    }

    /// As [`Live::new`], of somebody who has to come again after `wait`.
    pub fn turned_away(shop: Arc<Shop>, room: Handle, place: Option<Place>, wait: Duration) -> Self {
        let mut live = Self::new(shop, room, place);
        live.come_again = Some(wait);
        live
    }

    /// Made when something is done: kept, it would be a good part of what an idle viewer takes.
    fn span(&self) -> Span {
        let (transport, id) = match &self.outlet {
            Some(Outlet::Socket(socket)) => ("socket", socket.id()),
            _ => ("channel", 0),
        };
        info_span!("connection", room = %self.room.facts().id, transport, id)
    }

    /// Where this connection speaks to. Called once, before the first message.
    pub fn open(&mut self, outlet: Outlet) {
        if let Some(wait) = self.come_again {
            outlet.close(CloseCode::Bye, &wait.as_millis().to_string());
        }
        self.outlet = Some(outlet);
    }

    /// Takes one message of the client; every command is answered once.
    pub fn message<'a>(&'a mut self, text: &str) -> impl Future<Output = ()> + Send + use<'a> {
        let span = self.span();
        let allowed = self.shop.limits.command(&self.limiter);
        let decoded = match self.shop.limits.json(text.as_bytes()) {
            Ok(()) => ClientMessage::decode(text),
            Err(fault) => Err(Undecodable { id: None, fault }),
        };
        async move {
            match (decoded, allowed) {
                (decoded, Err(refused)) => {
                    let id = decoded.map_or_else(|wrong| wrong.id, |message| message.id);
                    self.answer(id, Err(refused));
                }
                (Ok(ClientMessage { id, command: Command::Join(join) }), _) => self.join(id, join).await,
                (Ok(ClientMessage { command: Command::Auth { token }, .. }), _) => self.renew(&token),
                (Ok(ClientMessage { id, command }), _) => {
                    let outcome = self.act(command).await;
                    self.answer(id, outcome);
                }
                (Err(wrong), _) => self.answer(wrong.id, Err(wrong.fault)),
            }
        }
        .instrument(span)
    }

    /// The connection is gone: its place in the audience is given back.
    pub fn closed(&mut self, code: u16) {
        self.span().in_scope(|| debug!(code, "connection ended"));
        self.leave();
        self.outlet = None;
    }

    fn leave(&mut self) {
        if let Some(joined) = self.joined.take() {
            self.shop.presence.remove(joined.connection);
        }
    }

    async fn join(&mut self, id: Option<u64>, join: Join) {
        if self.joined.is_some() {
            return self.answer(id, Err(Fault::new(ErrorCode::Conflict, "this connection has joined already")));
        }
        match self.admit(&join).await {
            Ok(joined) => {
                self.welcome(id, &join, &joined).await;
                self.joined = Some(joined);
            }
            Err((fault, code)) => {
                let reason = fault.code.as_str();
                self.answer(id, Err(fault));
                self.close(code, reason);
            }
        }
    }

    async fn admit(&mut self, join: &Join) -> Result<Joined, (Fault, CloseCode)> {
        let bad_token = |fault| (fault, CloseCode::BadToken);
        let person = self.shop.person(&join.token).map_err(bad_token)?;
        let room: &RoomId = &self.room.facts().id;
        person.may_enter(room).map_err(bad_token)?;
        self.shop.refuse_kicked(&person, room).await.map_err(|fault| (fault, CloseCode::Kicked))?;
        let who = person.who(room);
        let Some(outlet) = self.outlet.clone() else {
            return Err((Fault::new(ErrorCode::Internal, "the connection is not open"), CloseCode::Protocol));
        };
        let hears = self.shop.may_act(&person).is_ok();
        let newcomer = Newcomer { outlet, sub: person.sub(), room, who: &who, token_ends: person.ends_at(), hears };
        let limit = self.shop.limits.config().connections_per_person;
        let connection = self.shop.presence.add(newcomer, limit, join.you.is_some());
        let Some(connection) = connection else {
            let fault = Fault::new(ErrorCode::LimitReached, "too many connections of one person");
            return Err((fault, CloseCode::TooMany));
        };
        // A kick that was shown meanwhile did not find this connection yet.
        if let Err(kicked) = self.shop.refuse_kicked(&person, room).await {
            self.shop.presence.remove(connection);
            return Err((kicked, CloseCode::Kicked));
        }
        let seat = self.room.enter(&who, person.author(self.room.facts()).role, self.shop.is_uncounted(&person));
        self.shop.note_join(&person, &self.room, &who);
        Ok(Joined { person, seat, connection })
    }

    /// Answers the join, then what was missed: the frames since the client's place, or the snapshot; and her messages.
    async fn welcome(&self, id: Option<u64>, join: &Join, joined: &Joined) {
        let ring = self.room.ring();
        let arrival = Arrival::at(ring, join.epoch.as_deref(), join.seq);
        let author = joined.person.author(self.room.facts());
        let ok = json!({
            "resumed": arrival.is_resumed(),
            "server_time": self.shop.clock.now(),
            "who": author.who,
            "name": author.name,
            "role": author.role,
            "rehearsal_of": self.shop.rehearsal_of,
        });
        self.answer(id, Ok(ok));
        let Some(outlet) = &self.outlet else { return };
        outlet.follow(ring.clone(), arrival.position, arrival.snapshot);
        let missed = join.you.filter(|_| self.shop.may_act(&joined.person).is_ok());
        self.catch_up(missed, joined, outlet).await;
    }

    /// Sends the messages that were missed. Those that come meanwhile wait in the ledger and are read with them, so that
    /// none overtakes an older one.
    async fn catch_up(&self, after: Option<u64>, joined: &Joined, outlet: &Outlet) {
        let (mut after, mut left) = (after, MISSED_MAX);
        while let Some(last) = after.filter(|_| left > 0) {
            let missed = self.shop.messages(joined.person.sub(), last, left).await.unwrap_or_default();
            missed.iter().for_each(|message| outlet.send(private_text(message)));
            left -= missed.len().min(left);
            after = missed.last().map(|message| message.n).or(Some(last));
            if self.shop.presence.has_caught_up(joined.connection) {
                return;
            }
        }
        self.shop.presence.is_told(joined.connection);
    }

    fn renew(&mut self, token: &str) {
        let Some(joined) = &mut self.joined else { return };
        let renewed = self
            .shop
            .person(token)
            .ok()
            .filter(|p| p.sub() == joined.person.sub() && p.may_enter(&self.room.facts().id).is_ok());
        match renewed {
            Some(person) => {
                self.shop.presence.renew(joined.connection, person.ends_at());
                joined.person = person;
            }
            None => self.close(CloseCode::BadToken, "the new token is not valid for this person and room"),
        }
    }

    async fn act(&mut self, command: Command) -> Result<Value, Fault> {
        if command == Command::Ping {
            return Ok(json!({ "server_time": self.shop.clock.now() }));
        }
        let Some(Joined { person, seat, .. }) = &self.joined else {
            return Err(Fault::new(ErrorCode::NotJoined, "join first"));
        };
        let (shop, room, id) = (&self.shop, &self.room, &self.room.facts().id);
        let from = self.place.as_ref().map(Place::address);
        match command {
            Command::Comment { text } => event(shop.comment(person, room, text).await?),
            Command::Like { count } => Ok(json!({ "counted": shop.like(person, room, seat, count)? })),
            Command::Hold { lines, key, room: named } => {
                let named = named.or_else(|| (person.claims().room == RoomScope::Any).then(|| id.to_string()));
                let answered = shop.hold(person, key, lines, named.as_deref()).await?;
                Ok(json!({ "hold": answered.value, "replayed": answered.replayed, "server_time": shop.clock.now() }))
            }
            Command::Confirm { hold, payment } => {
                let answered = shop.confirm(person, hold, payment).await?;
                Ok(json!({ "order": answered.value, "replayed": answered.replayed }))
            }
            Command::Cancel { hold } => Ok(json!({ "hold": shop.cancel(person, hold).await?.value })),
            Command::Extend { hold } => Ok(json!({ "hold": shop.extend(person, hold).await?.value })),
            Command::Pin { product, explain_seconds } => event(shop.pin(person, id, product, explain_seconds).await?),
            Command::Unpin => event(shop.unpin(person, id).await?),
            Command::Moderate(moderation) => event(shop.moderate(person, id, moderation).await?),
            Command::Publish { sdp } => shop.publish(person, id, &sdp, from).await.map(|a| media_answer(&a)),
            Command::Watch { sdp } => shop.watch(person, id, &sdp, from).await.map(|a| media_answer(&a)),
            Command::Candidate { session, candidate } => {
                shop.candidate(person, id, session, &candidate).await.map(|()| json!({}))
            }
            Command::Leave { session } => shop.leave(person, id, session).map(|()| json!({})),
            Command::View(request) => shop.view(person, id, &request).map(|()| json!({})),
            Command::Quality(report) => Ok(json!({ "quality": shop.quality(person, id, &report)? })),
            Command::Join(_) | Command::Auth { .. } | Command::Ping => Ok(json!({})),
        }
    }

    fn answer(&self, id: Option<u64>, outcome: Result<Value, Fault>) {
        #[derive(Serialize)]
        #[serde(rename_all = "snake_case")]
        enum Outcome {
            Ok(Value),
            Error(Fault),
        }
        #[derive(Serialize)]
        struct Reply {
            re: Option<u64>,
            #[serde(flatten)]
            outcome: Outcome,
        }
        if let Err(fault) = &outcome {
            debug!(code = fault.code.as_str(), "refused");
        }
        let outcome = outcome.map_or_else(Outcome::Error, Outcome::Ok);
        let text = serde_json::to_vec(&Reply { re: id, outcome }).expect("a reply is plain data");
        if let Some(outlet) = &self.outlet {
            outlet.send(text.into());
        }
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        if let Some(outlet) = &self.outlet {
            outlet.close(code, reason);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fanout::Inbound for Live {
    fn open(&mut self, outlet: fanout::Outlet) {
        Live::open(self, Outlet::Socket(outlet));
    }

    fn message<'a>(&'a mut self, text: &str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(Live::message(self, text))
    }

    fn closed(&mut self, code: u16) {
        Live::closed(self, code);
    }
}

fn event(event: Option<crate::protocol::Event>) -> Result<Value, Fault> {
    Ok(json!({ "event": event }))
}

fn media_answer(answer: &crate::media::Answer) -> Value {
    json!({ "sdp": answer.sdp, "session": answer.session })
}

/// A private message as it crosses the wire.
pub(super) fn private_text(message: &Private) -> Bytes {
    #[derive(Serialize)]
    struct You<'a> {
        you: &'a Private,
    }
    serde_json::to_vec(&You { you: message }).expect("a message is plain data").into()
}

impl Shop {
    /// Brings a committed private message to every connection of its person.
    pub fn deliver(&self, sub: &crate::id::Sub, message: impl FnOnce() -> Private) {
        self.presence.tell(sub, || private_text(&message()));
    }

    /// A room showed a kick: its person's connections end, and their media. A session whose data channel is in use is
    /// ended by that channel, behind the word why.
    pub fn kick(&self, room: &RoomId, who: &crate::id::Who, channels: &super::Channels) {
        for session in self.presence.kick(room, who).into_iter().filter(|s| !channels.is_open(*s)) {
            self.presence.remove_media(session);
            self.media.leave(session);
        }
    }
}
