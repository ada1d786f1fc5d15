use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    fanout::{
        Config,
        batch::Source,
        mailbox::{Item, Mailbox},
        shard::Shard,
        sink::{Held, Sink},
        stats::Counters,
    },
    protocol::CloseCode,
    ring::{OpCode, Snap, Wire},
};

/// What a close without a code, and an end without a close, count as (RFC 6455 section 7.1.5).
const NO_CODE: u16 = 1005;
pub(super) const VANISHED: u16 = 1006;
/// A control frame has 125 bytes, two of them for the code.
const REASON_LEN_MAX: usize = 123;

/// One viewer's connection on its shard. Only [`Connection::pump`] writes to its socket.
pub(super) struct Connection {
    pub(super) key: usize,
    pub(super) sink: Sink,
    pub(super) deflates: bool,
    pub(super) mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    opened: Instant,
    heard: Cell<Instant>,
    /// Pinged since it was heard.
    pinged: Cell<bool>,
    /// The bell rang for the mailbox, and it was not found empty since. A sweep does not look into the others.
    has_mail: Cell<bool>,
    out: RefCell<Out>,
}

/// What is on its way to the client, in this order: the rest, the control frame, the mailbox, the room's frames.
#[derive(Default)]
struct Out {
    /// The rest of a frame that was begun; nothing may go before it.
    rest: Option<Bytes>,
    /// The newest pong, a ping, or the close.
    control: Option<Box<Bytes>>,
    /// The close is in `control` or gone already: nothing else may go.
    is_closing: bool,
    /// The socket was cut: nothing goes any more.
    is_cut: bool,
    following: Option<Following>,
    /// When it was seen that the connection is to end.
    ending: Option<Instant>,
    /// Since when the client has taken nothing of what waits for it.
    blocked: Option<Instant>,
}

struct Following {
    source: Rc<Source>,
    position: u64,
}

/// What a pump left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// Nothing waits.
    Done,
    /// Something waits: for the client to read, or for the next round.
    Unfinished,
}

impl Connection {
    pub(super) fn new(
        key: usize,
        sink: Sink,
        deflates: bool,
        mailbox: Arc<Mailbox>,
        counters: Arc<Counters>,
        now: Instant,
    ) -> Rc<Self> {
        let (heard, pinged, has_mail) = (Cell::new(now), Cell::new(false), Cell::new(false));
        Rc::new(Self {
            key,
            sink,
            deflates,
            mailbox,
            counters,
            opened: now,
            heard,
            pinged,
            has_mail,
            out: RefCell::default(),
        })
    }

    /// Writes what waits, as much as the socket takes: the rest, then control and mailbox, and, when it is this
    /// connection's turn, the frames of its room.
    pub(super) fn pump(&self, shard: &Rc<Shard>, is_turn: bool, now: Instant) -> Pumped {
        let out = &mut *self.out.borrow_mut();
        match self.try_pump(out, shard, is_turn) {
            Ok(pumped) => pumped,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                out.blocked.get_or_insert(now);
                Pumped::Unfinished
            }
            Err(_) => {
                self.cut(out);
                Pumped::Done
            }
        }
    }

    fn try_pump(&self, out: &mut Out, shard: &Rc<Shard>, mut is_turn: bool) -> io::Result<Pumped> {
        if out.is_cut {
            return Ok(Pumped::Done);
        }
        let looks_into_mailbox = !is_turn;
        self.flush(out)?;
        loop {
            self.write_rest(out)?;
            if let Some(control) = out.control.take() {
                out.rest = Some(*control);
            } else if out.is_closing || !looks_into_mailbox && !self.has_mail.get() {
                break;
            } else if let Some(item) = self.mailbox.take() {
                // Who begins to follow does not wait for a slot.
                is_turn |= matches!(item, Item::Follow { .. });
                self.begin(out, item, shard);
            } else {
                self.has_mail.set(false);
                break;
            }
        }
        if is_turn {
            self.write_frames(out)?;
        }
        self.flush(out)?;
        let is_done = out.rest.is_none() && out.following.as_ref().is_none_or(Following::is_at_head);
        Ok(if is_done { Pumped::Done } else { Pumped::Unfinished })
    }

    /// Nothing may be written while TLS holds something.
    fn flush(&self, out: &mut Out) -> io::Result<()> {
        match self.sink.flush()? {
            Held::Nothing => Ok(()),
            Held::Moving => {
                out.blocked = None;
                Err(ErrorKind::WouldBlock.into())
            }
            Held::Stuck => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn write_rest(&self, out: &mut Out) -> io::Result<()> {
        while let Some(rest) = &mut out.rest {
            let taken = self.write(rest, &mut out.blocked)?;
            if taken < rest.len() {
                let _ = rest.split_to(taken);
            } else {
                out.rest = None;
            }
        }
        Ok(())
    }

    fn begin(&self, out: &mut Out, item: Item, shard: &Rc<Shard>) {
        match item {
            Item::Text(wire) => {
                self.counters.replies.add(1);
                out.rest = Some(wire.bytes().clone());
            }
            Item::Follow { ring, position, first } => {
                self.stop_following(out, shard);
                let source = shard.follow(ring, self.key);
                out.following = Some(Following { source, position });
                out.rest = first.map(|snapshot| self.wire(&snapshot).bytes().clone());
            }
            Item::Close { code, reason } => {
                self.stop_following(out, shard);
                out.say_close(Some(code.number()), &reason);
            }
        }
    }

    fn stop_following(&self, out: &mut Out, shard: &Rc<Shard>) {
        if let Some(Following { source, .. }) = out.following.take() {
            shard.unfollow(&source, self.key);
        }
    }

    /// Gives the viewer one batch of its room's frames, or the snapshot when it fell behind them.
    fn write_frames(&self, out: &mut Out) -> io::Result<()> {
        let Some(Following { source, position }) = &mut out.following else { return Ok(()) };
        if source.ring.head() <= *position {
            return Ok(());
        }
        let Some(batch) = source.batch(*position, self.deflates) else { return self.overrun(out) };

        let taken = self.write(&batch.bytes, &mut out.blocked)?;
        let written = batch.written(taken);
        *position += written.frames;
        self.counters.deliveries.add(written.frames);
        out.rest = written.rest;
        Ok(())
    }

    /// The ring has forgotten what this viewer was to get next.
    fn overrun(&self, out: &mut Out) -> io::Result<()> {
        let Some(Following { source, position }) = &mut out.following else { return Ok(()) };
        let snapshot = source.ring.snapshot();
        if !source.ring.reaches_back_to(snapshot.position) {
            source.ring.want_snapshot();
            return Ok(());
        }

        self.counters.overruns.add(1);
        self.counters.skipped.add(snapshot.position.saturating_sub(*position));
        *position = snapshot.position;
        out.rest = Some(self.wire(&snapshot).bytes().clone());
        self.write_rest(out)
    }

    fn wire<'a>(&self, snapshot: &'a Snap) -> &'a Wire {
        if self.deflates { snapshot.deflated() } else { &snapshot.wire }
    }

    fn write(&self, bytes: &[u8], blocked: &mut Option<Instant>) -> io::Result<usize> {
        let taken = self.sink.write(bytes)?;
        if taken == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        *blocked = None;
        self.counters.bytes_out.add(taken as u64);
        Ok(taken)
    }

    /// Answers a ping; the newest one answers all before it (RFC 6455 section 5.5.3).
    pub(super) fn pong(&self, payload: &[u8]) {
        let out = &mut *self.out.borrow_mut();
        if !out.is_closing {
            out.control = control(OpCode::Pong, payload);
        }
    }

    /// The client closes: answers with its own code, unless we closed first. Nothing else is said any more.
    pub(super) fn answer_close(&self, shard: &Rc<Shard>, code: Option<u16>) {
        let out = &mut *self.out.borrow_mut();
        if !out.is_closing {
            self.mailbox.end(code.unwrap_or(NO_CODE));
            self.stop_following(out, shard);
            out.say_close(code, "");
        }
    }

    /// The bell rang for this connection.
    pub(super) fn answer_bell(&self) {
        self.mailbox.heard();
        self.has_mail.set(true);
    }

    pub(super) fn heard(&self, now: Instant) {
        self.heard.set(now);
        self.pinged.set(false);
    }

    /// Whether everything said so far is with the kernel, or never will be.
    pub(super) fn is_written(&self) -> bool {
        let out = self.out.borrow();
        out.is_cut
            || out.rest.is_none() && out.control.is_none() && self.sink.flush().is_ok_and(|held| held == Held::Nothing)
    }

    /// Keeps the deadlines of this connection. Whether there is something to pump.
    pub(super) fn check(&self, config: &Config, now: Instant) -> bool {
        let past = |since: Instant, seconds: u64| now.duration_since(since) >= Duration::from_secs(seconds);
        let out = &mut *self.out.borrow_mut();

        if out.blocked.is_some_and(|since| past(since, config.stall_seconds)) {
            self.mailbox.end(CloseCode::Slow.number());
            self.cut(out);
            return false;
        }
        if self.mailbox.ended().is_some() {
            if past(*out.ending.get_or_insert(now), config.close_seconds) {
                self.cut(out);
            }
            return false;
        }
        if past(self.heard.get(), config.silent_seconds) {
            return self.close(CloseCode::Silent, "nothing was heard");
        }
        if out.following.is_none() && past(self.opened, config.join_seconds) {
            return self.close(CloseCode::Protocol, "no join in time");
        }
        if past(self.heard.get(), config.ping_seconds) && !self.pinged.replace(true) {
            out.control = control(OpCode::Ping, b"");
            return true;
        }
        false
    }

    /// Ends the connection without a word; its reader finds the end and takes it away.
    fn cut(&self, out: &mut Out) {
        out.is_cut = true;
        (out.rest, out.control) = (None, None);
        self.mailbox.end(VANISHED);
        self.sink.cut();
    }

    fn close(&self, code: CloseCode, reason: &str) -> bool {
        self.mailbox.put(Item::Close { code, reason: reason.to_owned() })
    }

    /// The connection is gone.
    pub(super) fn forget(&self, shard: &Rc<Shard>) {
        self.mailbox.end(VANISHED);
        self.stop_following(&mut self.out.borrow_mut(), shard);
    }
}

impl Out {
    /// A close without a code has no payload.
    fn say_close(&mut self, code: Option<u16>, reason: &str) {
        let mut payload = code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec());
        let whole_characters = (0..=REASON_LEN_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
        payload.extend_from_slice(&reason.as_bytes()[..whole_characters.unwrap_or(0)]);
        self.control = control(OpCode::Close, &payload);
        self.is_closing = true;
    }
}

/// Boxed, since it is seldom there.
fn control(kind: OpCode, payload: &[u8]) -> Option<Box<Bytes>> {
    Some(Box::new(Wire::control(kind, payload).into_bytes()))
}

impl Following {
    fn is_at_head(&self) -> bool {
        self.source.ring.head() <= self.position
    }
}
