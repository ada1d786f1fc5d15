use std::collections::BTreeMap;

use maishou::protocol::Snapshot;

use super::Proof;
use crate::{
    crowd::Outcome,
    witness::{Testimony, difference, state_of_snapshot},
};

const NAME: &str = "frames";

/// No viewer has a gap, a repeat, or anything that another one was told otherwise. Outcomes of several crowds are held
/// against each other.
pub fn frames(crowds: &[Outcome]) -> Proof {
    let mut evidence = Vec::new();
    for crowd in crowds {
        let tally = &crowd.tally;
        let wrong = tally.gaps + tally.repeats + tally.strange;
        evidence.extend(tally.examples.iter().take(wrong as usize).cloned());
        if wrong as usize > tally.examples.len() {
            evidence
                .push(format!("{} gaps, {} repeats, {} strange messages", tally.gaps, tally.repeats, tally.strange));
        }
        evidence.extend(crowd.testimony.faults.first.iter().cloned());
    }
    let sums = sums(crowds.iter().map(|crowd| &crowd.testimony), &mut evidence);
    let mut viewers = 0;
    for standing in crowds.iter().flat_map(|crowd| &crowd.standings) {
        viewers += standing.viewers;
        let at = |seq: u64| sums.range(..=seq).next_back().map_or(0, |(_, sum)| *sum);
        if at(standing.to).wrapping_sub(at(standing.from)) != standing.sum {
            evidence.push(format!(
                "{} viewers, one of them {}, did not hear the frames from {} to {} as they were sent",
                standing.viewers, standing.who, standing.from, standing.to
            ));
        }
    }
    if viewers == 0 {
        evidence.push("nobody is there in the end".to_owned());
    }
    let said = format!("{viewers} viewers heard {} distinct frames, each whole, once and in order", sums.len());
    Proof::new(NAME, said, evidence)
}

/// The sum of all prints up to each frame.
fn sums<'a>(testimonies: impl Iterator<Item = &'a Testimony>, evidence: &mut Vec<String>) -> BTreeMap<u64, u64> {
    let mut prints: BTreeMap<u64, u64> = BTreeMap::new();
    for (seq, _, print) in testimonies.flat_map(|testimony| &testimony.frames) {
        if *prints.entry(*seq).or_insert(*print) != *print {
            evidence.push(format!("two crowds were told different things in frame {seq}"));
        }
    }
    let mut sum = 0u64;
    for print in prints.values_mut() {
        sum = sum.wrapping_add(*print);
        *print = sum;
    }
    prints
}

/// The state that the frames lead to is the server's, and everybody stands at its end. In a room of others something
/// always happens, and nobody stands still: there it cannot be proved.
pub fn state(crowds: &[Outcome], server: &Snapshot) -> Proof {
    let (epoch, seq) = (server.epoch.as_str(), server.seq);
    let theirs = &state_of_snapshot(server.clone());
    let mut evidence = Vec::new();
    for crowd in crowds {
        let Testimony { epoch: ours, seq: at, state, .. } = &crowd.testimony;
        if (ours.as_str(), *at) != (epoch, seq) {
            evidence
                .push(format!("the frames lead to event {at} of log {ours}, the server stands at {seq} of {epoch}"));
        } else if let Some(what) = difference(state, theirs) {
            evidence.push(format!("the frames lead to another state than the server's: {what}"));
        }
    }
    let likes = crowds.iter().flat_map(|crowd| &crowd.testimony.tallies).map(|tally| tally.likes).max().unwrap_or(0);
    if likes > server.tally.likes {
        evidence.push(format!("{likes} likes were told, the server counts {}", server.tally.likes));
    }
    let standings = || crowds.iter().flat_map(|crowd| &crowd.standings);
    for standing in standings().filter(|standing| standing.to != seq) {
        let (count, who, to) = (standing.viewers, standing.who, standing.to);
        evidence.push(format!("{count} viewers, one of them {who}, stand at event {to} and not at {seq}"));
    }
    let viewers: u64 = standings().map(|standing| standing.viewers).sum();
    Proof::new("state", format!("{viewers} viewers stand at event {seq} with the server's state"), evidence)
}

#[cfg(test)]
mod tests {
    use maishou::protocol::Tally;
    use serde_json::json;

    use super::*;
    use crate::crowd::Standing;

    fn server(seq: u64, slow_mode: u32, likes: u64) -> Snapshot {
        let snapshot = json!({
            "room": "r", "epoch": "e", "seq": seq, "show": {"running": true, "started_at": 1, "title": "t"},
            "shelf": [], "stock": {}, "pinned": null, "pinned_comment": null, "comments": [],
            "media": {"live": false, "tracks": []}, "slow_mode": slow_mode, "tally": {"viewers": 4, "likes": likes},
        });
        serde_json::from_value(snapshot).unwrap()
    }

    fn crowd(sum: u64) -> Outcome {
        let frames = vec![(2, 0, 10), (5, 2, 100), (9, 5, 1_000)];
        let state = state_of_snapshot(server(9, 0, 0));
        let tallies = vec![Tally { viewers: 4, likes: 7 }, Tally { viewers: 3, likes: 2 }];
        let testimony = Testimony { frames, tallies, epoch: "e".to_owned(), seq: 9, state, ..Testimony::default() };
        let standings = vec![
            Standing { from: 0, to: 9, sum: 1_110, viewers: 3, who: 0 },
            Standing { from: 2, to: 9, sum, viewers: 1, who: 7 },
        ];
        Outcome { testimony, standings, ..Outcome::default() }
    }

    #[test]
    fn viewers_of_different_beginnings_heard_the_same() {
        assert_eq!(frames(&[crowd(1_100)]).held, Some(true));
        let proof = frames(&[crowd(1_101)]);
        assert_eq!(proof.held, Some(false));
        assert!(proof.evidence[0].contains("one of them 7"), "{proof:?}");
        assert_eq!(frames(&[Outcome::default()]).held, Some(false), "nobody proves nothing");
    }

    #[test]
    fn two_crowds_that_were_told_different_things_are_evidence() {
        let mut other = crowd(1_100);
        other.testimony.frames[1].2 = 101;
        assert_eq!(frames(&[crowd(1_100), other]).held, Some(false));
        let mut gap = crowd(1_100);
        gap.tally.gaps = 1;
        assert_eq!(frames(&[gap]).held, Some(false));
    }

    #[test]
    fn the_state_is_the_servers() {
        let is_same = |seq, slow_mode, likes| state(&[crowd(1_100)], &server(seq, slow_mode, likes)).held;
        assert_eq!([is_same(9, 0, 7), is_same(9, 1, 7), is_same(10, 0, 7)], [Some(true), Some(false), Some(false)]);
        assert_eq!(is_same(9, 0, 6), Some(false), "more likes were told than there are");
    }
}
