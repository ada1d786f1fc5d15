//! The power goes, again and again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    disk::{Disk, Moment},
    history::History,
    vfs,
};
use crate::order::{store::sqlite::Ground, tests::Folder};

/// Commits of one history, and acts of its disk between two moments at which the power goes.
const COMMITS: usize = 40;
const GAP: u64 = 25;
/// Each so many power cuts, the power goes again while the ledger is taken up.
const AGAIN_EVERY: usize = 4;

/// What was found after `cuts` power cuts or a few more.
struct Found {
    cuts: usize,
    /// Commits whose `commit` had not returned and that are there all the same, or not.
    unanswered: [usize; 2],
    losses: Vec<String>,
}

fn cases() -> usize {
    std::env::var("LEDGER_FLUSH_CASES").map_or(200, |cases| cases.parse().expect("a number of power cuts"))
}

/// A disk under a VFS of its own.
fn disk(seed: u64, gap: u64) -> (Arc<Disk>, String) {
    static DISKS: AtomicU64 = AtomicU64::new(0);
    let name = format!("lost-flush-{}", DISKS.fetch_add(1, Relaxed));
    let disk = Arc::new(Disk::new(seed, gap));
    vfs::register(&name, disk.clone());
    (disk, name)
}

/// When commits are flushed, and whether the log is moved often, by both connections, or only when the store is idle.
#[derive(Clone, Copy)]
struct Manner {
    synchronous: &'static str,
    moves_often: bool,
}

impl Manner {
    fn ground(self, vfs: &str) -> Ground<'_> {
        let rarely = Ground { vfs: Some(vfs), synchronous: self.synchronous, ..Ground::default() };
        if self.moves_often { Ground { wal_pages: 12, wal_rest: 6, look_every: 2, ..rarely } } else { rarely }
    }
}

fn cut_the_power(cuts: usize, manner: Manner) -> Found {
    let mut found = Found { cuts: 0, unanswered: [0; 2], losses: Vec::new() };
    for seed in 0.. {
        if found.cuts >= cuts {
            break;
        }
        let (folder, mut history) = (Folder::new(), History::new(seed));
        let (disk, vfs) = disk(seed, GAP);
        let ground = manner.ground(&vfs);
        history.go_on(&folder.file(), ground, &disk, COMMITS).expect("with power all goes well");
        for moment in disk.take_moments() {
            let place = format!("seed {seed}, act {}, {} commits", moment.act, moment.acknowledged);
            if let Err(loss) = found.survives(&history, &moment, seed ^ moment.act, manner) {
                found.losses.push(format!("{place}: {loss}"));
            }
        }
    }
    found
}

impl Found {
    /// One power cut, and perhaps more of them while the ledger is taken up again.
    fn survives(&mut self, history: &History, moment: &Moment, seed: u64, manner: Manner) -> Result<(), String> {
        self.cuts += 1;
        let left = Folder::new();
        moment.power_cut(seed, left.path());
        if self.cuts.is_multiple_of(AGAIN_EVERY) {
            return self.survives_again(history, moment, seed, manner);
        }
        let commits = history.agrees_with(&left.file(), moment.acknowledged)?;
        if commits > moment.acknowledged {
            self.unanswered[0] += 1;
        } else if history.commits() > commits {
            self.unanswered[1] += 1;
        }
        Ok(())
    }

    fn survives_again(&mut self, history: &History, moment: &Moment, seed: u64, manner: Manner) -> Result<(), String> {
        let (left, shown) = (Folder::new(), Folder::new());
        moment.power_cut(seed, left.path());
        moment.power_cut(seed, shown.path());
        // What is there was decided by the first power cut; from then on it counts as acknowledged.
        let commits = history.agrees_with(&shown.file(), moment.acknowledged)?;
        let (disk, vfs) = disk(seed, 4);
        let mut on = history.until(commits);
        let ground = manner.ground(&vfs);
        on.go_on(&left.file(), ground, &disk, 2).map_err(|failure| failure.to_string())?;
        for moment in disk.take_moments().iter().take(8) {
            self.cuts += 1;
            let left = Folder::new();
            moment.power_cut(seed ^ moment.act, left.path());
            on.agrees_with(&left.file(), moment.acknowledged).map_err(|loss| format!("the second time: {loss}"))?;
        }
        Ok(())
    }
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged() {
    for moves_often in [false, true] {
        let found = cut_the_power(cases(), Manner { synchronous: "FULL", moves_often });
        assert!(found.losses.is_empty(), "{} of {}:\n{}", found.losses.len(), found.cuts, found.losses.join("\n"));
        // Else the moments were none at which it matters.
        assert!(moves_often || found.unanswered.iter().all(|seen| *seen > 0), "{:?}", found.unanswered);
    }
}

/// The control: what the proof above rests on is that each commit is flushed, and it would see when one is not.
#[test]
fn without_a_flush_of_each_commit_the_same_power_cuts_lose_some() {
    for synchronous in ["OFF", "NORMAL"] {
        let Found { cuts, losses, .. } = cut_the_power(40, Manner { synchronous, moves_often: false });
        assert!(losses.len() > cuts / 4, "{synchronous}: only {} of {cuts} lost something", losses.len());
    }
}
