//! A room's tape as it lies on the disk of a server that is not running.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use maishou::{
    protocol::{Body, Event},
    room::{
        state::State,
        tape::{Line, Recording, recording},
    },
};
use serde_json::{Map, Value};

use super::{server::Server, view::state_of};

/// All segments in their order.
pub struct Tape(Vec<Recording>);

impl Tape {
    /// Reads the tape. The server must be down: a running one packs segments behind our back.
    pub fn read(server: &Server, room: &str) -> Self {
        let segments = segments(&server.data("tape").join(room));
        let read = |path: &PathBuf| recording(path).unwrap_or_else(|error| panic!("{error}"));
        Self(segments.values().filter_map(read).collect())
    }

    /// Every event with its number, and whether sampling left it out.
    pub fn events(&self) -> impl Iterator<Item = (&Event, bool)> {
        self.lines().filter_map(|line| match line {
            Line::Event { event, left_out } => Some((event, *left_out)),
            _ => None,
        })
    }

    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.0.iter().flat_map(|recording| &recording.lines)
    }

    pub fn last_seq(&self) -> u64 {
        self.0.last().map_or(0, |last| last.fold().seq)
    }

    /// Comments by their numbers. A number is given once over all restarts.
    pub fn comments(&self) -> BTreeMap<u64, String> {
        let mut comments = BTreeMap::new();
        for (event, _) in self.events() {
            if let Body::Comment { text, .. } = &event.body {
                let before = comments.insert(event.seq, text.clone());
                assert_eq!(before, None, "number {} is given once", event.seq);
            }
        }
        comments
    }

    /// What a viewer who stands at `seq` must know: the fold of all that was logged up to there. Counts are not part of
    /// it: a restart takes them from the ledger.
    pub fn state_at(&self, seq: u64) -> Map<String, Value> {
        let state = self.fold_to(seq);
        let mut state = state_of(&serde_json::to_value(state.snapshot("", 0)).expect("a snapshot is plain data"));
        state.remove("stock");
        state
    }

    fn fold_to(&self, seq: u64) -> State {
        let segment = self.0.iter().rev().find(|recording| recording.state.seq <= seq).expect("a segment that early");
        let mut state = segment.state.clone();
        for line in &segment.lines {
            if let Line::Event { event, left_out } = line
                && event.seq <= seq
            {
                state.fold(event, !left_out);
            }
        }
        state
    }
}

/// By number; one that a crash left both packed and plain is read plain.
fn segments(folder: &Path) -> BTreeMap<u64, PathBuf> {
    let mut found = BTreeMap::new();
    for file in fs::read_dir(folder).expect("a room has a tape") {
        let path = file.expect("the folder can be listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let (number, kind) = name.split_once('.').unwrap_or((&name, ""));
        let Ok(number) = number.parse() else { continue };
        match kind {
            "jsonl" => drop(found.insert(number, path)),
            "jsonl.zst" => drop(found.entry(number).or_insert(path)),
            _ => {}
        }
    }
    found
}
