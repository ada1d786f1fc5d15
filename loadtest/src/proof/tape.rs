use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;
use maishou::room::tape::{Line, recording};

use super::Proof;
use crate::{crowd::Outcome, witness::event_print};

/// All that was told is on the tape, what the tape calls shown was told, and every acknowledged comment is there.
/// `folder` is the room's, of a server that has ended.
pub fn tape(crowds: &[Outcome], folder: &Path) -> anyhow::Result<Proof> {
    let written = read(folder)?;
    let mut told: BTreeMap<u64, u64> = BTreeMap::new();
    let mut evidence = Vec::new();
    for crowd in crowds {
        told.extend(crowd.testimony.events.iter().copied());
    }
    for (seq, print) in &told {
        match written.get(seq) {
            None => evidence.push(format!("event {seq} was told and is not on the tape")),
            Some((on_tape, _)) if on_tape != print => {
                evidence.push(format!("event {seq} was told otherwise than it is on the tape"));
            }
            Some(_) => {}
        }
    }
    let starts = crowds.iter().filter_map(|crowd| crowd.testimony.frames.first().map(|(_, prev, _)| *prev));
    let ends = crowds.iter().filter_map(|crowd| crowd.testimony.frames.last().map(|(seq, ..)| *seq));
    if let (Some(start), Some(end)) = (starts.min(), ends.max()) {
        let shown = written.range(start + 1..=end).filter(|(_, (_, is_left_out))| !is_left_out);
        let untold = shown.filter(|(seq, _)| !told.contains_key(seq));
        evidence.extend(untold.map(|(seq, _)| format!("event {seq} is on the tape as shown, and nobody was told")));
    }
    let comments = || crowds.iter().flat_map(|crowd| &crowd.deeds.comments);
    for (seq, print) in comments() {
        if written.get(seq).map(|(on_tape, _)| on_tape) != Some(print) {
            evidence.push(format!("comment {seq} was acknowledged and is not on the tape as it was"));
        }
    }
    let said =
        format!("{} events that were told and {} acknowledged comments are on it", told.len(), comments().count());
    Ok(Proof::new("tape", said, evidence))
}

/// Every event by its number: its print, and whether sampling left it out.
fn read(folder: &Path) -> anyhow::Result<BTreeMap<u64, (u64, bool)>> {
    let mut written = BTreeMap::new();
    for file in fs::read_dir(folder).with_context(|| format!("there is no tape at {}", folder.display()))? {
        let path = file?.path();
        let Some(recording) = recording(&path)? else { continue };
        for line in &recording.lines {
            if let Line::Event { event, left_out } = line {
                written.insert(event.seq, (event_print(event), *left_out));
            }
        }
    }
    Ok(written)
}
