//! One who reads everything once: each distinct frame is parsed, folded and fingerprinted, however many hear it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
};

use foldhash::fast::FixedState;
use maishou::{
    client::View,
    protocol::{Body, Class as EventClass, Event, Frame, Snapshot, Tally},
};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{cursor::fingerprint, hist::Class, stamp};

/// Faults that are told; beyond these they are only counted.
const FAULTS_MAX: usize = 8;
/// Frames and snapshots that wait for the frames before them.
const WAITING_MAX: usize = 4_096;
const EXCERPT_LEN: usize = 240;
/// Different sums that are remembered: one a second for more than a day.
const TALLIES_MAX: usize = 100_000;
const TALLY: &[u8] = b"\"tally\":";

/// Pieces of the stream that are remembered, so that most viewers need not read them.
const PIECES_MAX: usize = 512;

/// What a crowd was told in common, and where its members differ.
#[derive(Default)]
pub struct Witness {
    seen: HashMap<u64, Seen, FixedState>,
    /// The frames by number as the room sent them, folded in their order.
    view: View,
    waiting: BTreeMap<u64, Frame>,
    snapshots: BTreeMap<u64, Snapshot>,
    checked: Option<u64>,
    told: BTreeMap<u64, u64>,
    tallies: HashSet<Tally, FixedState>,
    faults: Faults,
    /// How far the server's clock is ahead of ours.
    ahead_us: i64,
    batch: Batch,
    pieces: HashMap<(u64, u64, u64), Rc<Piece>, FixedState>,
}

/// One distinct frame.
struct Seen {
    prev: u64,
    print: u64,
    times: Box<[(Class, i64)]>,
    tally: Option<Tally>,
}

/// Frames that a viewer read at one time.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub frames: u64,
    pub bytes: u64,
    /// What events are timed from: class, and microseconds since 1970.
    pub times: Vec<(Class, i64)>,
    pub likes: Option<Likes>,
    /// The sum of the frames' prints.
    pub sum: u64,
    /// Something else was among them.
    pub is_mixed: bool,
}

/// The likes that were told in a batch. They only rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Likes {
    pub first: u64,
    pub last: u64,
    pub fell: bool,
}

/// What some bytes are to everybody who stands at the same event.
pub struct Piece {
    pub to: u64,
    pub batch: Batch,
}

/// What a witness can say in the end. Those of several crowds can be held against each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Testimony {
    /// Of each distinct frame: where it ends, where it begins, its fingerprint.
    pub frames: Vec<(u64, u64, u64)>,
    /// Of each event that was told: its number and fingerprint.
    pub events: Vec<(u64, u64)>,
    /// Each sum of viewers and likes that was told, once.
    #[serde(default)]
    pub tallies: Vec<Tally>,
    /// The epoch and number that the folded state is of.
    pub epoch: String,
    pub seq: u64,
    pub state: Value,
    pub faults: Faults,
}

/// The first evidence of each kind of fault, and how many there were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    pub count: u64,
    pub first: Vec<String>,
}

impl Batch {
    fn told(&mut self, tally: Tally) {
        let before = self.likes.unwrap_or(Likes { first: tally.likes, last: tally.likes, fell: false });
        let fell = before.fell || tally.likes < before.last;
        self.likes = Some(Likes { last: tally.likes, fell, ..before });
    }
}

impl Faults {
    pub fn add(&mut self, fault: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < FAULTS_MAX {
            self.first.push(fault());
        }
    }
}

impl Witness {
    pub fn new(ahead_us: i64) -> Self {
        Self { ahead_us, ..Self::default() }
    }

    /// What these bytes are to a viewer with this mark, when another one has read them before.
    pub fn piece(&self, mark: (u64, u64), print: u64) -> Option<Rc<Piece>> {
        self.pieces.get(&(mark.0, mark.1, print)).cloned()
    }

    /// Remembers what these bytes were to a viewer with this mark.
    pub fn remember(&mut self, mark: (u64, u64), print: u64, to: u64, batch: Batch) {
        if self.pieces.len() >= PIECES_MAX {
            self.pieces.clear();
        }
        self.pieces.insert((mark.0, mark.1, print), Rc::new(Piece { to, batch }));
    }

    /// The frames since this was asked last.
    pub fn batch(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }

    /// A viewer read something that is no frame.
    pub fn other(&mut self) {
        self.batch.is_mixed = true;
    }

    /// A viewer read a frame that moves nothing.
    pub fn tally(&mut self, text: &[u8]) {
        self.batch.frames += 1;
        self.batch.bytes += text.len() as u64;
        if let Some(at) = memmem::find(text, TALLY) {
            self.told_tally(&text[at + TALLY.len()..]);
        }
    }

    /// `text` begins with the tally.
    fn told_tally(&mut self, text: &[u8]) {
        match serde_json::Deserializer::from_slice(text).into_iter::<Tally>().next() {
            Some(Ok(tally)) => {
                self.batch.told(tally);
                if self.tallies.len() < TALLIES_MAX {
                    self.tallies.insert(tally);
                }
            }
            _ => self.faults.add(|| format!("a tally cannot be read: {}", excerpt(text))),
        }
    }

    /// A viewer moved on by this frame. Everybody must have been told the same.
    pub fn frame(&mut self, prev: u64, seq: u64, text: &[u8]) {
        let print = fingerprint(text);
        if !self.seen.contains_key(&seq) {
            let seen = self.first_time(prev, text, print);
            self.seen.insert(seq, seen);
        }
        let Self { seen, batch, faults, .. } = self;
        let seen = &seen[&seq];
        if seen.print != print {
            faults.add(|| format!("two viewers were told different things in frame {seq}: {}", excerpt(text)));
        }
        batch.frames += 1;
        batch.bytes += text.len() as u64;
        batch.times.extend_from_slice(&seen.times);
        seen.tally.into_iter().for_each(|tally| batch.told(tally));
        batch.sum = batch.sum.wrapping_add(print);
    }

    /// A viewer was given this snapshot.
    pub fn snapshot(&mut self, seq: u64, text: &[u8]) {
        #[derive(Deserialize)]
        struct Message {
            snapshot: Snapshot,
        }
        // What she heard before is in the snapshot.
        self.batch.sum = 0;
        if self.checked == Some(seq) || self.snapshots.contains_key(&seq) {
            return;
        }
        match serde_json::from_slice::<Message>(text) {
            Ok(message) if self.view.epoch != message.snapshot.epoch => {
                self.waiting.clear();
                self.snapshots.clear();
                self.seen.clear();
                self.pieces.clear();
                self.view.take_snapshot(message.snapshot);
            }
            Ok(message) if self.view.seq <= seq && self.snapshots.len() < WAITING_MAX => {
                self.snapshots.insert(seq, message.snapshot);
                self.compare();
            }
            Ok(_) => {}
            Err(error) => self.faults.add(|| format!("a snapshot cannot be read ({error}): {}", excerpt(text))),
        }
    }

    fn first_time(&mut self, prev: u64, text: &[u8], print: u64) -> Seen {
        let (mut times, mut tally) = (Vec::new(), None);
        match serde_json::from_slice::<Frame>(text) {
            Ok(frame) => {
                tally = frame.tally;
                self.tallies.extend(tally.filter(|_| self.tallies.len() < TALLIES_MAX));
                times = frame.events.iter().map(|event| reference(event, self.ahead_us)).collect();
                for event in &frame.events {
                    self.told.insert(event.seq, event_print(event));
                }
                if self.waiting.len() < WAITING_MAX && !self.view.epoch.is_empty() {
                    self.waiting.insert(prev, frame);
                }
                self.fold();
            }
            Err(error) => self.faults.add(|| format!("a frame cannot be read ({error}): {}", excerpt(text))),
        }
        Seen { prev, print, times: times.into(), tally }
    }

    fn fold(&mut self) {
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() > self.view.seq {
                return;
            }
            self.view.apply(entry.remove());
            self.compare();
        }
    }

    /// Holds the snapshots that are due against what was folded.
    fn compare(&mut self) {
        while let Some(entry) = self.snapshots.first_entry() {
            let seq = *entry.key();
            if seq > self.view.seq {
                return;
            }
            let snapshot = entry.remove();
            if seq < self.view.seq {
                continue;
            }
            self.checked = Some(seq);
            if let Some(what) = difference(&state_of(&self.view), &state_of_snapshot(snapshot)) {
                self.faults.add(|| format!("the snapshot at {seq} is not what the frames lead to: {what}"));
            }
        }
    }

    /// Says everything. Who saw the newest frames only after a snapshot goes on from there.
    pub fn testify(mut self) -> Testimony {
        while !self.waiting.is_empty() {
            // All who could have heard the frames between were away, and were given a snapshot.
            let Some((_, snapshot)) = self.snapshots.pop_first() else { break };
            self.view.take_snapshot(snapshot);
            self.fold();
        }
        if !self.waiting.is_empty() {
            let at = self.view.seq;
            self.faults.add(|| format!("nobody was told what comes after {at}, though later frames came"));
        }
        if let Some((_, snapshot)) = self.snapshots.pop_last() {
            self.view.take_snapshot(snapshot);
        }
        let mut frames: Vec<_> = self.seen.iter().map(|(seq, seen)| (*seq, seen.prev, seen.print)).collect();
        frames.sort_unstable();
        Testimony {
            frames,
            events: self.told.into_iter().collect(),
            tallies: self.tallies.into_iter().collect(),
            state: state_of(&self.view),
            seq: self.view.seq,
            epoch: self.view.epoch,
            faults: self.faults,
        }
    }
}

/// Tells events apart, whatever they came in.
pub fn event_print(event: &Event) -> u64 {
    fingerprint(&serde_json::to_vec(event).expect("an event is plain data"))
}

fn reference(event: &Event, ahead_us: i64) -> (Class, i64) {
    let at = event.at.0 * 1_000 - ahead_us;
    match (&event.body, event.body.class()) {
        (Body::Comment { text, .. }, _) => (Class::Chat, stamp::of(text, at).unwrap_or(at)),
        (_, EventClass::Chat) => (Class::Chat, at),
        (_, EventClass::State) => (Class::State, at),
    }
}

/// What all viewers of a room must agree on.
fn state_of(view: &View) -> Value {
    json!({
        "show": view.show, "shelf": view.shelf, "stock": view.stock, "pinned": view.pinned,
        "pinned_comment": view.pinned_comment, "explained": view.run_sheet.explained,
        "planned_seconds": view.run_sheet.planned_seconds, "media": view.media, "slow_mode": view.slow_mode,
    })
}

/// The same of a snapshot.
pub fn state_of_snapshot(snapshot: Snapshot) -> Value {
    let mut view = View::new(0);
    view.take_snapshot(snapshot);
    state_of(&view)
}

/// The first part in which two states differ.
pub fn difference(ours: &Value, theirs: &Value) -> Option<String> {
    let ours = ours.as_object()?;
    let (part, mine) = ours.iter().find(|(part, mine)| theirs.get(part.as_str()) != Some(*mine))?;
    let other = theirs.get(part).unwrap_or(&Value::Null);
    Some(format!(
        "{part} is {} and not {}",
        excerpt(mine.to_string().as_bytes()),
        excerpt(other.to_string().as_bytes())
    ))
}

fn excerpt(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(EXCERPT_LEN)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOT: &str = r#"{"snapshot":{"room":"r","epoch":"e","seq":5,"show":{"running":true,"started_at":1,
        "title":"t"},"shelf":[],"stock":{},"pinned":null,"pinned_comment":null,"media":{"live":false,"tracks":[]},
        "slow_mode":0,"tally":{"viewers":1,"likes":0},"comments":[]}}"#;

    fn slow_mode(prev: u64, seq: u64, seconds: u32) -> String {
        format!(
            r#"{{"prev":{prev},"seq":{seq},"events":[{{"seq":{seq},"at":7,"type":"slow_mode","seconds":{seconds}}}]}}"#
        )
    }

    fn witness(frames: &[(u64, u64, u32)]) -> Witness {
        let mut witness = Witness::default();
        witness.snapshot(5, SNAPSHOT.as_bytes());
        for (prev, seq, seconds) in frames {
            witness.frame(*prev, *seq, slow_mode(*prev, *seq, *seconds).as_bytes());
        }
        witness
    }

    #[test]
    fn frames_that_many_hear_are_one_and_lead_to_one_state() {
        let mut witness = witness(&[(5, 6, 1), (5, 6, 1), (6, 8, 3)]);
        let later = SNAPSHOT.replace("\"seq\":5", "\"seq\":8").replace("\"slow_mode\":0", "\"slow_mode\":3");
        witness.snapshot(8, later.as_bytes());
        let said = witness.testify();
        assert_eq!((said.seq, said.frames.len(), said.events.len()), (8, 2, 2));
        assert_eq!(said.state["slow_mode"], 3);
        assert_eq!(said.faults, Faults::default());
    }

    #[test]
    fn frames_that_come_first_to_one_who_came_late_wait_for_those_before() {
        let said = witness(&[(6, 8, 3), (5, 6, 1)]).testify();
        assert_eq!((said.seq, said.faults.count), (8, 0));
    }

    #[test]
    fn a_frame_that_one_is_told_otherwise_is_evidence() {
        let said = witness(&[(5, 6, 1), (5, 6, 2)]).testify();
        assert!(said.faults.first[0].contains("different things in frame 6"), "{:?}", said.faults);
    }

    #[test]
    fn a_snapshot_that_the_frames_do_not_lead_to_is_evidence() {
        let mut witness = witness(&[(5, 6, 1)]);
        witness.snapshot(6, SNAPSHOT.replace("\"seq\":5", "\"seq\":6").as_bytes());
        assert!(witness.testify().faults.first[0].contains("slow_mode is 1 and not 0"));
    }

    #[test]
    fn what_nobody_was_told_is_evidence() {
        assert!(witness(&[(5, 6, 1), (7, 8, 1)]).testify().faults.first[0].contains("after 6"));
    }
}
