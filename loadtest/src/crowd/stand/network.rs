//! Connections that begin, are looked at, break and come back.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use maishou::protocol::CloseCode;
use mio::{Interest, Token};
use rand::RngExt as _;

use super::{RETURN_WITHIN, SECOND, Stand};
use crate::{
    crowd::{
        address::{connect, connect_slow},
        timers::Due,
        viewer::{Around, End, Kind, Network},
    },
    tally::Notes,
};

const SLOW_READ_EVERY: Duration = Duration::from_millis(100);
/// A viewer whose way in takes longer begins again.
const ARRIVAL_TIME: Duration = Duration::from_secs(20);
impl Stand {
    pub(super) fn connect(&mut self, who: usize, since: Instant) {
        if !self.viewers[who].is_away() {
            return;
        }
        let open = if self.viewers[who].network == Network::Slow { connect_slow } else { connect };
        let opened = open(self.plan.server, who).and_then(|mut stream| {
            self.poll.registry().register(&mut stream, Token(who), Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => {
                self.viewers[who].connect(stream, since);
                let until = Instant::now() + ARRIVAL_TIME;
                self.arriving.push((who, self.viewers[who].connection, until));
            }
            Err(error) => {
                self.notes.tally.socket_error(&error);
                self.timers.at(Instant::now() + SECOND, who, Due::Connect);
            }
        }
    }

    pub(super) fn give_up_waiting(&mut self, now: Instant) {
        let viewers = &self.viewers;
        let mut late = Vec::new();
        self.arriving.retain(|(who, connection, until)| {
            let viewer = &viewers[*who];
            let is_waiting = viewer.connection == *connection && !viewer.is_in() && !viewer.is_away();
            if is_waiting && *until < now {
                late.push(*who);
            }
            is_waiting && *until >= now
        });
        late.into_iter().for_each(|who| self.ended(who, End::Lost));
    }

    pub(super) fn look(&mut self, who: usize, buffer: &mut [u8]) {
        let Self { plan, notes, witness, deeds, follow_ups, viewers, .. } = self;
        let viewer = &mut viewers[who];
        let was_in = viewer.is_in();
        let looked = viewer.look(&mut Around { plan, notes, witness, deeds, follow_ups }, buffer);
        if !was_in && viewer.is_in() {
            self.came_in(who);
        }
        if let Err(end) = looked {
            self.ended(who, end);
        }
    }

    fn came_in(&mut self, who: usize) {
        let viewer = &self.viewers[who];
        *in_now(&mut self.notes, viewer.kind) += 1;
        if viewer.network == Network::Flaky {
            let part = rand::rng().random_range(0.5..1.5);
            let wait = Duration::from_secs_f64(self.plan.scenario.audience.flaky_seconds * part);
            self.timers.at(Instant::now() + wait, who, Due::Cut { connection: viewer.connection });
        }
    }

    /// The connection breaks by our doing, and comes back within a while.
    pub(super) fn cut(&mut self, who: usize, back_within: Duration) {
        if !self.viewers[who].is_in() || self.shared.quiet.load(Ordering::Relaxed) {
            return;
        }
        self.notes.tally.cut += 1;
        self.away(who, false);
        let wait = back_within.mul_f64(rand::random());
        self.timers.at(Instant::now() + wait, who, Due::Connect);
    }

    pub(super) fn leave(&mut self, who: usize) {
        self.notes.tally.cut += 1;
        self.away(who, true);
        let wait = Duration::from_millis(self.plan.scenario.acts.away_ms);
        self.timers.at(Instant::now() + wait, who, Due::Connect);
    }

    fn away(&mut self, who: usize, is_polite: bool) {
        let viewer = &mut self.viewers[who];
        if viewer.is_in() {
            *in_now(&mut self.notes, viewer.kind) -= 1;
        }
        viewer.end(is_polite, &mut self.notes, &mut self.deeds);
    }

    /// The connection ended without our doing.
    pub(super) fn ended(&mut self, who: usize, end: End) {
        let viewer = &self.viewers[who];
        if viewer.is_away() {
            return;
        }
        let (was_in, is_slow) = (viewer.is_in(), viewer.network == Network::Slow);
        self.away(who, false);
        let tally = &mut self.notes.tally;
        let wait = match end {
            End::Refused => {
                tally.refused += 1;
                return;
            }
            End::PutOff(wait) => {
                tally.put_off += 1;
                wait
            }
            End::Closed(code) => {
                *tally.closes.entry(code).or_default() += 1;
                let is_expected = is_slow && code == CloseCode::Slow.number();
                tally.lost += u64::from(was_in && !is_expected);
                if !CloseCode::reconnects(code) {
                    tally.refused += 1;
                    return;
                }
                Duration::ZERO
            }
            End::Lost => {
                tally.lost += u64::from(was_in && !is_slow);
                Duration::ZERO
            }
        };
        let wait = wait + RETURN_WITHIN.mul_f64(rand::random());
        self.timers.at(Instant::now() + wait, who, Due::Connect);
    }

    /// Slow networks bring a little at a time.
    pub(super) fn read_slowly(&mut self, buffer: &mut [u8]) {
        if self.slow.is_empty() || self.slow_at.elapsed() < SLOW_READ_EVERY {
            return;
        }
        self.slow_at = Instant::now();
        // At the end they are let to read all there is, so that they can stand where the others do.
        let is_quiet = self.shared.quiet.load(Ordering::Relaxed);
        let budget = (self.plan.scenario.audience.slow_bytes_per_second as usize / 10).clamp(1, buffer.len());
        let budget = if is_quiet { buffer.len() } else { budget };
        for at in 0..self.slow.len() {
            if self.viewers[self.slow[at]].is_in() {
                self.look(self.slow[at], &mut buffer[..budget]);
            }
        }
    }
}

fn in_now(notes: &mut Notes, kind: Kind) -> &mut u64 {
    match kind {
        Kind::WebSocket => &mut notes.tally.websocket,
        Kind::Sse => &mut notes.tally.sse,
    }
}
