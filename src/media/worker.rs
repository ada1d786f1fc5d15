//! The core of a worker: its peers and rooms, moved by datagrams, commands and time. It does no I/O: what it wants to
//! send lies in [`Worker::egress`], what it wants to tell in [`Worker::outbox`].

use std::{
    collections::HashMap,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Event, Failure,
    channel::{ChannelConfig, Said},
    dtls::Handshakes,
    egress::{Egress, Path},
    outbox::Outbox,
    peer::{Peer, Role},
    registry::{Admission, Burst, Control, Registry},
    stage::Stage,
    stats::{Counts, Dropped},
    sweep::Turns,
    viewer::View,
};
use crate::id::{RoomId, SessionId};

/// How often timers are looked at.
pub const TICK: Duration = Duration::from_millis(50);

pub struct Worker {
    pub index: usize,
    pub registry: Arc<Registry>,
    pub egress: Egress,
    pub outbox: Outbox,
    pub counts: Counts,
    pub(super) peers: Vec<Option<Box<Peer>>>,
    free: Vec<u32>,
    pub(super) by_address: HashMap<SocketAddr, u32>,
    pub(super) by_ufrag: HashMap<String, u32>,
    by_session: HashMap<SessionId, u32>,
    pub(super) publishers: Vec<u32>,
    pub(super) stages: HashMap<RoomId, Stage>,
    pub(super) handshakes: Handshakes,
    channels: ChannelConfig,
    /// Publishers with packets that were not yet handed on, and when they are.
    pending: Vec<u32>,
    hand_on_at: Option<Instant>,
    pub(super) turns: Turns,
    /// When a publisher is asked for lost packets again.
    pub(super) ask_at: Option<Instant>,
    pub(super) next_tick: Instant,
}

impl Worker {
    pub fn new(index: usize, registry: Arc<Registry>, egress: Egress, outbox: Outbox, now: Instant) -> Self {
        Self {
            index,
            handshakes: Handshakes::new(registry.identity.clone()),
            registry,
            egress,
            outbox,
            counts: Counts::default(),
            peers: Vec::new(),
            free: Vec::new(),
            by_address: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_session: HashMap::new(),
            publishers: Vec::new(),
            stages: HashMap::new(),
            channels: ChannelConfig::default(),
            pending: Vec::new(),
            hand_on_at: None,
            turns: Turns::default(),
            ask_at: None,
            next_tick: now,
        }
    }

    /// When [`Self::turn`] has something to do even if nothing comes; none for a worker without peers.
    pub fn next_turn(&self) -> Option<Instant> {
        let is_idle = self.by_ufrag.is_empty() && self.outbox.is_empty() && self.egress.is_empty();
        let next = [self.hand_on_at, self.ask_at, self.turns.next_pace()];
        let next = next.into_iter().flatten().fold(self.next_tick, Instant::min);
        (!is_idle).then_some(next)
    }

    /// Everything that is due. Called after each batch of datagrams and commands.
    pub fn turn(&mut self, now: Instant) {
        if self.hand_on_at.is_some_and(|at| now >= at) {
            self.hand_on_at = None;
            self.hand_on(now);
        }
        if self.ask_at.is_some_and(|at| now >= at) {
            self.ask_at = None;
            for place in 0..self.publishers.len() {
                self.ask_for_lost(self.publishers[place], now);
            }
        }
        self.sweep(now);
        if self.registry.port(self.index).has_leavers.swap(false, Ordering::AcqRel) {
            self.close_leavers(now);
        }
        let is_tick = now >= self.next_tick;
        if is_tick {
            self.next_tick = now + TICK;
            self.tick(now);
        }
        let has_wishes = self.registry.port(self.index).has_keyframe_wishes.swap(false, Ordering::AcqRel);
        if is_tick || has_wishes {
            self.ask_for_keyframes(now);
        }
        self.counts.events_delayed += self.outbox.deliver();
    }

    pub fn command(&mut self, control: Control, now: Instant) {
        match control {
            Control::Join(admission) => self.join(*admission, now),
            Control::Text { session, text } => self.send_text_safely(session, &text, now),
            Control::View { session, view } => self.note_view(session, view),
            Control::Recall { room, to } => self.tell_history(&room, to),
        }
    }

    fn note_view(&mut self, session: SessionId, view: View) {
        let number = self.by_session.get(&session).copied();
        if let Some(peer) = number.and_then(|number| self.peer(number))
            && let Role::Viewer(viewer) = &mut peer.role
        {
            viewer.view = view;
        }
    }

    /// Asks the publisher's worker for what a first viewer here begins with.
    pub(super) fn recall(&self, room: &RoomId) {
        let has_feed = self.stages.get(room).is_some_and(|stage| stage.feed.is_some());
        let Some(source) = self.registry.source_of(room).filter(|source| !has_feed && source.worker != self.index)
        else {
            return;
        };
        let port = self.registry.port(source.worker);
        // A full mailbox costs the viewer her fast start, and no more.
        if port.control.try_send(Control::Recall { room: room.clone(), to: self.index }).is_ok() {
            port.wake();
        }
    }

    fn tell_history(&mut self, room: &RoomId, to: usize) {
        let Some(feed) = self.stages.get(room).and_then(|stage| stage.feed.as_ref()) else { return };
        let history =
            Burst { room: room.clone(), source: feed.source.clone(), packets: feed.history(), clocks: feed.clocks() };
        self.hand_over(to, Arc::new(history));
    }

    fn join(&mut self, admission: Admission, now: Instant) {
        let names = self.registry.stream_names.clone();
        let peer = Peer::new(admission, names, &self.registry.config, &self.channels, now);
        let number = self.free.pop().unwrap_or(self.peers.len() as u32);
        self.by_ufrag.insert(peer.ufrag.clone(), number);
        self.by_session.insert(peer.session.id, number);
        match &peer.role {
            Role::Publisher(_) => self.publishers.push(number),
            Role::Viewer(_) => self.stages.entry(peer.session.room.id.clone()).or_default().round.push(number),
        }
        tracing::debug!(session = %peer.session.id, room = %peer.session.room.id, "peer admitted");
        match self.peers.get_mut(number as usize) {
            Some(place) => *place = Some(Box::new(peer)),
            None => self.peers.push(Some(Box::new(peer))),
        }
    }

    pub(super) fn peer(&mut self, number: u32) -> Option<&mut Peer> {
        self.peers.get_mut(number as usize)?.as_deref_mut()
    }

    pub(super) fn numbers(&self) -> Vec<u32> {
        (0..self.peers.len() as u32).filter(|number| self.peers[*number as usize].is_some()).collect()
    }

    /// The association is a library's, and has heard what its peer likes: a panic of it costs that peer.
    fn send_text_safely(&mut self, session: SessionId, text: &Bytes, now: Instant) {
        if catch_unwind(AssertUnwindSafe(|| self.send_text(session, text, now))).is_err() {
            self.counts.drop_one(Dropped::Panicked);
            if let Some(number) = self.by_session.get(&session).copied() {
                self.close(number, Failure::Panic, now);
            }
        }
    }

    fn send_text(&mut self, session: SessionId, text: &Bytes, now: Instant) {
        let number = self.by_session.get(&session).copied();
        let Some((number, peer)) = number.and_then(|number| Some((number, self.peer(number)?))) else {
            return self.counts.drop_one(Dropped::TextUndelivered);
        };
        let sent = peer.channel.as_mut().is_some_and(|channel| channel.send(text, now));
        if !sent {
            peer.session.unacknowledged.fetch_sub(text.len(), Ordering::Relaxed);
            return self.counts.drop_one(Dropped::TextUndelivered);
        }
        self.counts.texts_out += 1;
        self.flush_channel(number, now);
    }

    /// Sees to a peer's channel: what it said, what it acknowledged, what is to be sent.
    pub(super) fn poll_channel(&mut self, number: u32, now: Instant) {
        let may_read = self.outbox.takes_texts();
        let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { return };
        let Some(channel) = &mut peer.channel else { return };
        let session = &peer.session;
        let mut too_much = false;
        for said in channel.poll(may_read, now) {
            match said {
                Said::Open => {
                    session.channel_is_open.store(true, Ordering::Release);
                    self.outbox.push(Event::ChannelOpen { session: session.id, room: session.room.id.clone() });
                }
                Said::Text(text) => {
                    self.counts.texts_in += 1;
                    self.outbox.push(Event::ChannelText { session: session.id, text });
                }
                Said::Closed => session.channel_is_open.store(false, Ordering::Release),
                Said::Noise => self.counts.drop_one(Dropped::BadChannelData),
                Said::TooMuch => too_much = true,
            }
        }
        session.unacknowledged.fetch_sub(channel.acknowledged(), Ordering::Relaxed);
        if too_much {
            self.counts.drop_one(Dropped::BadChannelData);
            return self.close(number, Failure::Channel, now);
        }
        self.flush_channel(number, now);
    }

    pub(super) fn flush_channel(&mut self, number: u32, now: Instant) {
        let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { return };
        let Some(channel) = &mut peer.channel else { return };
        while let Some(packets) = channel.poll_transmit(now) {
            for packet in packets {
                self.handshakes.write(number, &peer.progress, &packet, now);
            }
        }
        self.send_handshakes();
    }

    /// Puts what the DTLS endpoints want to send on its way.
    pub(super) fn send_handshakes(&mut self) {
        self.counts.flights_repeated = self.handshakes.flights_repeated;
        while let Some((number, datagram)) = self.handshakes.poll_transmit() {
            let path = self.peers.get(number as usize).and_then(|peer| peer.as_ref()?.path);
            if let Some(path) = path
                && self.egress.push(path, &datagram).is_err()
            {
                self.counts.drop_one(Dropped::SendQueueFull);
            }
        }
    }

    /// A publisher has something to hand on, within `patience`.
    pub(super) fn note_pending(&mut self, number: u32, patience: Duration, now: Instant) {
        let Some(publisher) = self.peer(number).and_then(Peer::publisher) else { return };
        if !std::mem::replace(&mut publisher.is_pending, true) {
            self.pending.push(number);
        }
        let at = now + patience;
        self.hand_on_at = Some(self.hand_on_at.map_or(at, |before| before.min(at)));
    }

    /// Hands every publisher's new packets to the workers that have viewers of hers.
    fn hand_on(&mut self, now: Instant) {
        for number in std::mem::take(&mut self.pending) {
            let Some(peer) = self.peers.get_mut(number as usize).and_then(Option::as_deref_mut) else { continue };
            let room = peer.session.room.clone();
            let Some(publisher) = peer.publisher() else { continue };
            publisher.is_pending = false;
            if let Some(ms) = publisher.intake.media_ms() {
                self.registry.note_media_time(&publisher.source, ms, now);
            }
            let burst = Arc::new(Burst {
                room: room.id.clone(),
                source: publisher.source.clone(),
                packets: std::mem::take(&mut publisher.packets),
                clocks: std::mem::take(&mut publisher.clocks),
            });
            // Kept even while nobody watches, for whoever comes.
            self.stages.entry(room.id.clone()).or_default();
            for worker in 0..self.registry.ports().len() {
                if worker != self.index && room.has_viewers_on(worker) {
                    self.hand_over(worker, burst.clone());
                }
            }
            self.show(&burst, now);
            self.ask_for_lost(number, now);
        }
    }

    fn hand_over(&mut self, worker: usize, burst: Arc<Burst>) {
        let port = self.registry.port(worker);
        let packets = burst.packets.len() as u64;
        match port.feed.try_send(burst) {
            Ok(()) => port.wake(),
            Err(_) => self.counts.drop_many(Dropped::FeedQueueFull, packets),
        }
    }

    /// Tells the publisher's worker of which tracks, as bits, a viewer needs a keyframe.
    pub(super) fn want_keyframe(&self, room: &RoomId, tracks: u32) {
        if tracks == 0 {
            return;
        }
        let source = self.stages.get(room).and_then(|stage| stage.feed.as_ref()).map(|feed| feed.source.clone());
        let Some(source) = source.or_else(|| self.registry.source_of(room)) else { return };
        if source.wants_keyframe.fetch_or(tracks, Ordering::AcqRel) & tracks == tracks {
            return;
        }
        let port = self.registry.port(source.worker);
        port.has_keyframe_wishes.store(true, Ordering::Release);
        if source.worker != self.index {
            port.wake();
        }
    }

    /// A library panicked over a datagram from this address: its peer may be in any state and is closed.
    pub fn close_after_panic(&mut self, from: SocketAddr, now: Instant) {
        self.counts.drop_one(Dropped::Panicked);
        if let Some(number) = self.by_address.get(&from).copied() {
            self.close(number, Failure::Panic, now);
        }
    }

    /// Closes everybody, with a goodbye to each.
    pub fn close_all(&mut self, now: Instant) {
        for number in self.numbers() {
            self.close(number, Failure::Left, now);
        }
        self.counts.events_delayed += self.outbox.deliver();
    }

    pub(super) fn close(&mut self, number: u32, why: Failure, now: Instant) {
        let Some(peer) = self.peers.get(number as usize).and_then(Option::as_ref) else { return };
        self.handshakes.stop(number, &peer.progress, now);
        self.send_handshakes();
        let Some(peer) = self.peers[number as usize].take() else { return };
        self.free.push(number);
        self.forget(number, &peer);
        self.registry.detach(&peer.session);

        let is_joined = peer.progress.is_done();
        if !is_joined && why != Failure::Left {
            self.counts.handshake_failures += 1;
        }
        let (session, room) = (peer.session.id, peer.session.room.id.clone());
        tracing::debug!(%session, %room, %why, is_joined, "peer closed");
        if let Role::Publisher(publisher) = &peer.role
            && publisher.source.is_live.swap(false, Ordering::AcqRel)
        {
            self.outbox.push(Event::Ended { room: room.clone(), session });
        }
        self.outbox.push(Event::Closed { session, room, publisher: peer.session.is_publisher });
    }

    fn forget(&mut self, number: u32, peer: &Peer) {
        self.by_ufrag.remove(&peer.ufrag);
        self.by_session.remove(&peer.session.id);
        for Path { remote, .. } in peer.addresses() {
            self.by_address.remove(remote);
        }
        self.publishers.retain(|other| *other != number);
        if let Some(stage) = self.stages.get_mut(&peer.session.room.id) {
            stage.round.remove(number);
        }
        self.prune(&peer.session.room.id);
    }

    /// A stage is kept for its viewers, and for those to come while its publisher is here.
    fn prune(&mut self, room: &RoomId) {
        let publisher_is_here = |stage: &Stage| {
            let feed = stage.feed.as_ref();
            feed.is_some_and(|feed| self.by_session.contains_key(&feed.source.session))
        };
        if self.stages.get(room).is_some_and(|stage| stage.round.is_empty() && !publisher_is_here(stage)) {
            self.stages.remove(room);
        }
    }
}
