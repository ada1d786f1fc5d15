//! A room, its ring and its viewers in virtual time: they lag, fall off the ring, drop, come back within it, beyond it
//! and after a restart, on one transport and on two. Whatever happens to a viewer, what she knows at her cursor is what
//! the log says there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use maishou::{
    client::{Applied, View},
    clock::UnixMs,
    protocol::{Body, Event, Frame, MediaState, Role, Snapshot},
    ring::{self, Read, Ring},
    room::{
        self, Author, Command,
        room::Room,
        showing::{Showing, snapshot_text},
        state::State,
    },
    session::Arrival,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::room::{Counts, assert_same, random_command};

/// Random lives that each run tries; more with `MAISHOU_SIM_SEEDS`.
const SEEDS: u64 = 40;
const STEPS: usize = 600;
const VIEWERS: usize = 6;
const TICK: Duration = Duration::from_millis(50);
const SHOWN_A_SECOND: u32 = 3;

/// A room without tasks, disk and sockets: its cores, and the order in which they are asked.
struct Stage {
    now: UnixMs,
    config: ring::Config,
    room: Room,
    showing: Showing,
    counts: Counts,
    tick: Vec<(Event, bool)>,
    due: Option<UnixMs>,
    /// All that was logged, and with that shown.
    log: BTreeMap<u64, (Event, bool)>,
    /// What the room was at the end of each frame.
    states: BTreeMap<u64, State>,
    restarts: u32,
}

impl Stage {
    fn new(config: ring::Config) -> Self {
        let state = State::new("sim".parse().unwrap(), "A random life".into());
        Self::open(config, state, UnixMs(1_700_000_000_000), Counts::default(), 0)
    }

    fn open(config: ring::Config, state: State, now: UnixMs, counts: Counts, restarts: u32) -> Self {
        let epoch = format!("epoch-{restarts}");
        let ring = Ring::new(config.clone(), epoch.clone(), state.seq, snapshot_text(&state, &epoch, 0));
        let room = Room::new(state.clone(), &room::Config { chat_per_second: SHOWN_A_SECOND, ..Default::default() });
        let showing = Showing::new(state, ring);
        let states = BTreeMap::from([(showing.state().seq, showing.state().clone())]);
        let (tick, log) = (vec![], BTreeMap::new());
        Self { now, config, room, showing, counts, tick, due: None, log, states, restarts }
    }

    fn ring(&self) -> &Arc<Ring> {
        self.showing.ring()
    }

    fn act(&mut self, command: Command) {
        let Ok(events) = self.room.apply(command, self.now, None) else { return };
        self.tick.extend(events);
        if Showing::is_urgent(&self.tick) {
            return self.close_tick();
        }
        if !self.tick.is_empty() {
            self.due.get_or_insert(self.now.plus(TICK));
        }
    }

    fn advance(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        if self.due.is_some_and(|due| due <= self.now) {
            self.close_tick();
        }
        self.showing.refresh_if_wanted(0);
    }

    fn close_tick(&mut self) {
        let tick = std::mem::take(&mut self.tick);
        self.due = None;
        self.log.extend(tick.iter().map(|logged| (logged.0.seq, logged.clone())));
        self.showing.show(&tick, 0);
        self.states.insert(self.showing.state().seq, self.showing.state().clone());
    }

    /// A crash and a new start: what was logged is there, what was not was seen by nobody. After a power cut the last
    /// frames are gone too, and their numbers are used again; the picture is gone and counts are read anew in any case.
    fn restart(&mut self, frames_lost: usize) {
        let at = self.states.keys().rev().nth(frames_lost).or(self.states.keys().next());
        let at = *at.expect("there is a first state");
        let (mut states, mut log) = (std::mem::take(&mut self.states), std::mem::take(&mut self.log));
        drop((states.split_off(&(at + 1)), log.split_off(&(at + 1))));
        let mut state = states[&at].clone();
        state.media = MediaState::default();
        let counts = self.counts.lock().unwrap().clone();
        state.stock = counts.into_iter().filter(|(sku, _)| state.shelves(sku)).collect();
        states.insert(at, state.clone());
        self.showing.ring().close();
        let next = Self::open(self.config.clone(), state, self.now, self.counts.clone(), self.restarts + 1);
        *self = Self { log, states, ..next };
    }
}

/// One transport of a viewer: what she knows through it, and where she reads while she is connected.
struct Seat {
    view: View,
    ring: Option<(Arc<Ring>, u64)>,
    /// Server-sent events: the cursor is what the last line with an id said.
    last_event_id: Option<String>,
    is_stream: bool,
    fallen: u32,
    resumed: u32,
}

impl Seat {
    fn new(is_stream: bool) -> Self {
        Self { view: View::new(100_000), ring: None, last_event_id: None, is_stream, fallen: 0, resumed: 0 }
    }

    fn come(&mut self, ring: &Arc<Ring>) {
        let arrival = match (&self.last_event_id, self.view.cursor()) {
            (Some(last), _) if self.is_stream => {
                let (epoch, seq) = last.rsplit_once(':').unwrap();
                Arrival::at(ring, Some(epoch), seq.parse().ok())
            }
            (_, Some((epoch, seq))) if !self.is_stream => Arrival::at(ring, Some(epoch), Some(seq)),
            _ => Arrival::at(ring, None, None),
        };
        self.resumed += u32::from(arrival.is_resumed());
        self.begin(ring.clone(), arrival);
    }

    fn begin(&mut self, ring: Arc<Ring>, arrival: Arrival) {
        #[derive(serde::Deserialize)]
        struct Wrapped {
            snapshot: Snapshot,
        }
        if let Some(snapshot) = arrival.snapshot {
            let Wrapped { snapshot } = serde_json::from_slice(&snapshot.text).unwrap();
            self.last_event_id = Some(format!("{}:{}", ring.epoch(), snapshot.seq));
            self.view.take_snapshot(snapshot);
        }
        self.ring = Some((ring, arrival.position));
    }

    /// Reads on, at most about so many bytes.
    fn read(&mut self, bytes_max: usize) {
        let Some((ring, position)) = self.ring.clone() else { return };
        let mut frames = Vec::new();
        match ring.read(position, bytes_max, &mut frames) {
            Read::FellOff => {
                self.fallen += 1;
                if let Some(arrival) = Arrival::after_fall(&ring) {
                    self.begin(ring, arrival);
                }
            }
            Read::UpTo(next) => {
                for encoded in frames {
                    let frame: Frame = serde_json::from_slice(&encoded.text).unwrap();
                    if frame.seq > frame.prev {
                        self.last_event_id = Some(format!("{}:{}", ring.epoch(), frame.seq));
                    }
                    assert_ne!(self.view.apply(frame), Applied::Gap, "who reads the ring misses nothing");
                }
                self.ring = Some((ring, next));
            }
        }
    }

    fn read_to_the_end(&mut self, stage: &mut Stage) {
        while self.view.seq < stage.showing.state().seq {
            self.read(usize::MAX);
            stage.showing.refresh_if_wanted(0);
        }
    }

    /// What she knows is what the log says at her cursor, and each comment is one of it.
    fn check(&self, stage: &Stage, seed: u64) {
        if self.view.epoch != stage.ring().epoch() {
            return;
        }
        let said = stage.states.get(&self.view.seq).unwrap_or_else(|| panic!("seed {seed}: no frame ends there"));
        assert_same(&self.view, &said.snapshot("", 0), seed);
        let comments = &self.view.comments;
        assert!(comments.iter().is_sorted_by(|a, b| a.seq < b.seq), "seed {seed}: one order, nothing twice");
        for comment in comments {
            assert_eq!(stage.log.get(&comment.seq), Some(&(comment.clone(), true)), "seed {seed}");
        }
    }
}

/// Somebody with one transport or two, and until when she is away.
struct Viewer {
    seats: Vec<Seat>,
    back_at: Option<UnixMs>,
    /// Bytes that she takes at a time; now and then nothing.
    appetite: usize,
}

impl Viewer {
    fn any(rng: &mut StdRng) -> Self {
        let kinds = [&[false][..], &[true], &[false, true]][rng.random_range(0..3)];
        let seats = kinds.iter().map(|is_stream| Seat::new(*is_stream)).collect();
        Self { seats, back_at: Some(UnixMs(0)), appetite: [200, 2_000, usize::MAX][rng.random_range(0..3)] }
    }

    fn live(&mut self, stage: &Stage, rng: &mut StdRng) {
        match self.back_at {
            Some(at) if at > stage.now => return,
            Some(_) => self.seats.iter_mut().for_each(|seat| seat.come(stage.ring())),
            None if rng.random_ratio(1, 40) => {
                self.seats.iter_mut().for_each(|seat| seat.ring = None);
                let away = [100, 2_000, 10_000, 40_000][rng.random_range(0..4)];
                self.back_at = Some(stage.now.plus(Duration::from_millis(rng.random_range(0..=away))));
                return;
            }
            None => {}
        }
        self.back_at = None;
        for seat in &mut self.seats {
            if rng.random_ratio(1, 3) {
                seat.read(self.appetite);
            }
        }
    }

    fn lose_the_server(&mut self, now: UnixMs, rng: &mut StdRng) {
        self.seats.iter_mut().for_each(|seat| seat.ring = None);
        self.back_at = Some(now.plus(Duration::from_millis(rng.random_range(0..5_000))));
    }
}

/// What happened in one life, so that none of it is claimed without having happened.
#[derive(Default)]
struct Happened {
    resumed: u32,
    fallen: u32,
    restarts: u32,
    left_out: u64,
}

fn life(seed: u64) -> Happened {
    let mut rng = StdRng::seed_from_u64(seed);
    let frames_max = [2, 8, 64, 1_200][rng.random_range(0..4)];
    let bytes_max = [1 << 10, 64 << 10, 4 << 20][rng.random_range(0..3)];
    let mut stage = Stage::new(ring::Config { frames_max, bytes_max });
    let mut witness = Seat::new(false);
    witness.come(stage.ring());
    let mut viewers: Vec<Viewer> = (0..VIEWERS).map(|_| Viewer::any(&mut rng)).collect();

    for _ in 0..STEPS {
        stage.advance(Duration::from_millis(rng.random_range(0..200)));
        for _ in 0..rng.random_range(0..4) {
            let command = random_command(&mut rng, &stage.counts.clone(), stage.room.state().seq);
            stage.act(command);
        }
        witness.read(usize::MAX);
        if rng.random_ratio(1, 200) {
            stage.restart(rng.random_range(0..3));
            witness.come(stage.ring());
            viewers.iter_mut().for_each(|viewer| viewer.lose_the_server(stage.now, &mut rng));
        }
        for viewer in &mut viewers {
            viewer.live(&stage, &mut rng);
            viewer.seats.iter().for_each(|seat| seat.check(&stage, seed));
        }
    }

    stage.advance(TICK);
    witness.read_to_the_end(&mut stage);
    let mut happened =
        Happened { restarts: stage.restarts, left_out: witness.view.counters.left_out, ..Default::default() };
    for seat in viewers.iter_mut().flat_map(|viewer| &mut viewer.seats) {
        seat.come(stage.ring());
        seat.read_to_the_end(&mut stage);
        seat.check(&stage, seed);
        assert_same(&seat.view, &stage.showing.snapshot(0), seed);
        happened.resumed += seat.resumed;
        happened.fallen += seat.fallen;
    }
    happened
}

#[test]
fn whatever_happens_to_a_viewer_she_knows_what_the_log_says_at_her_cursor() {
    let seeds = super::seeds(SEEDS);
    let mut all = Happened::default();
    for seed in 0..seeds {
        let Happened { resumed, fallen, restarts, left_out } = life(seed);
        all.resumed += resumed;
        all.fallen += fallen;
        all.restarts += restarts;
        all.left_out += left_out;
    }
    let Happened { resumed, fallen, restarts, left_out } = all;
    assert!(resumed > 0 && fallen > 0 && restarts > 0 && left_out > 0, "{resumed} {fallen} {restarts} {left_out}");
}

/// Ten times the comments that are shown, cards and counts, and somebody in a lift for ten seconds.
#[test]
fn who_is_away_for_ten_seconds_equals_one_who_never_left() {
    for seed in 0..super::seeds(SEEDS) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut stage = Stage::new(ring::Config::default());
        let mut seats: Vec<Seat> = [false, false, true].map(Seat::new).into();
        seats.iter_mut().for_each(|seat| seat.come(stage.ring()));
        for step in 0..3_000_u32 {
            stage.advance(Duration::from_millis(10));
            let author = Author {
                who: maishou::id::Who(format!("w{}", step % 997).into()),
                name: "N".into(),
                role: Role::Viewer,
            };
            stage.act(Command::Comment { author, text: format!("text {step}") });
            if step % 25 == 0 {
                let command = random_command(&mut rng, &stage.counts.clone(), stage.room.state().seq);
                stage.act(command);
            }
            let (stays, leave) = seats.split_at_mut(1);
            stays[0].read(usize::MAX);
            match step {
                1_000 => leave.iter_mut().for_each(|seat| seat.ring = None),
                2_000 => leave.iter_mut().for_each(|seat| seat.come(stage.ring())),
                _ => leave.iter_mut().for_each(|seat| seat.read(usize::MAX)),
            }
        }
        stage.advance(TICK);
        seats.iter_mut().for_each(|seat| seat.read_to_the_end(&mut stage));
        let (stayed, left) = seats.split_first().unwrap();
        assert!(stayed.view.counters.left_out > 1_000, "there was more than anybody can read");
        for seat in left {
            assert_eq!((seat.resumed, seat.fallen, seat.view.counters.snapshots), (1, 0, 1), "seed {seed}");
            assert_eq!(seat.view.comments, stayed.view.comments, "seed {seed}: not a word is missing");
            let left_out = |seat: &Seat| [seat.view.counters.left_out, seat.view.counters.sales_left_out];
            assert_eq!(left_out(seat), left_out(stayed), "seed {seed}");
            seat.check(&stage, seed);
            stayed.check(&stage, seed);
        }
        let mutes = stage.log.values().filter(|(e, _)| matches!(e.body, Body::Mute { .. })).count();
        assert!(mutes == 0 || stayed.view.muted == left[0].view.muted, "seed {seed}");
    }
}
