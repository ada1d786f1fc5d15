use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};

use anyhow::Context as _;
use maishou::{
    protocol::Tally,
    room::tape::{Line, recording},
};

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
        match written.events.get(seq) {
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
        let shown = written.events.range(start + 1..=end).filter(|(_, (_, is_left_out))| !is_left_out);
        let untold = shown.filter(|(seq, _)| !told.contains_key(seq));
        evidence.extend(untold.map(|(seq, _)| format!("event {seq} is on the tape as shown, and nobody was told")));
    }
    for tally in crowds.iter().flat_map(|crowd| &crowd.testimony.tallies) {
        if !written.tallies.contains(tally) {
            let Tally { viewers, likes } = tally;
            evidence
                .push(format!("{viewers} viewers and {likes} likes were told together, and the tape does not say so"));
        }
    }
    let comments = || crowds.iter().flat_map(|crowd| &crowd.deeds.comments);
    for (seq, print) in comments() {
        if written.events.get(seq).map(|(on_tape, _)| on_tape) != Some(print) {
            evidence.push(format!("comment {seq} was acknowledged and is not on the tape as it was"));
        }
    }
    let said =
        format!("{} events that were told and {} acknowledged comments are on it", told.len(), comments().count());
    Ok(Proof::new("tape", said, evidence))
}

/// What a tape says.
#[derive(Default)]
struct Written {
    /// Every event by its number: its print, and whether sampling left it out.
    events: BTreeMap<u64, (u64, bool)>,
    tallies: HashSet<Tally>,
}

fn read(folder: &Path) -> anyhow::Result<Written> {
    // Before anybody came nothing was counted, and that is told without a line.
    let mut written = Written { tallies: HashSet::from([Tally::default()]), ..Written::default() };
    for file in fs::read_dir(folder).with_context(|| format!("there is no tape at {}", folder.display()))? {
        let path = file?.path();
        let Some(recording) = recording(&path)? else { continue };
        for line in &recording.lines {
            match line {
                Line::Event { event, left_out } => {
                    written.events.insert(event.seq, (event_print(event), *left_out));
                }
                Line::Tally { viewers, likes, .. } => {
                    written.tallies.insert(Tally { viewers: *viewers, likes: *likes });
                }
                _ => {}
            }
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use maishou::{clock::UnixMs, room::state::State};

    use super::*;
    use crate::witness::Testimony;

    fn told(tally: Tally) -> Proof {
        let folder = std::env::temp_dir().join(format!("maishou-tape-proof-{:016x}", rand::random::<u64>()));
        fs::create_dir(&folder).unwrap();
        let state = State::new("r".parse().unwrap(), "t".to_owned());
        let mut segment = Line::head(&state, "e", UnixMs(1));
        Line::Tally { at: UnixMs(2), viewers: 4, likes: 7 }.write(&mut segment);
        fs::write(folder.join("1.jsonl"), segment).unwrap();
        let testimony = Testimony { tallies: vec![Tally::default(), tally], ..Testimony::default() };
        let proof = tape(&[Outcome { testimony, ..Outcome::default() }], &folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        proof
    }

    #[test]
    fn a_sum_that_was_told_and_never_was_is_evidence() {
        assert_eq!(told(Tally { viewers: 4, likes: 7 }).held, Some(true));
        let proof = told(Tally { viewers: 5, likes: 7 });
        assert!(proof.evidence[0].starts_with("5 viewers and 7 likes"), "{proof:?}");
    }
}
