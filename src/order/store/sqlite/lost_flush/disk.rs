//! A disk that forgets what was not flushed.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Something that was done to a file and not flushed yet.
#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Arc<[u8]> },
    Truncate { len: usize },
}

/// One file: its bytes as they are flushed, and what was done to it since.
#[derive(Clone, Debug, Default)]
struct Shadow {
    flushed: Arc<Vec<u8>>,
    since: Vec<Change>,
    /// Its name survives.
    named: bool,
}

#[derive(Clone, Debug, Default)]
struct Files {
    there: HashMap<PathBuf, Shadow>,
    /// Deleted, which is not flushed: may come back.
    deleted: HashMap<PathBuf, Shadow>,
}

/// The disk at a moment at which the power may go.
#[derive(Debug)]
pub struct Moment {
    files: Files,
    /// What had been acknowledged by then.
    pub acknowledged: usize,
    /// Acts of writing, truncating, flushing and deleting until then.
    pub act: u64,
}

#[derive(Debug, Default)]
struct Inside {
    files: Files,
    acknowledged: usize,
    acts: u64,
    moments: Vec<Moment>,
    next_moment: u64,
}

/// Shared by all files that are opened on it.
#[derive(Debug)]
pub struct Disk {
    inside: Mutex<Inside>,
    chance: Mutex<StdRng>,
    /// Acts between two moments, on average.
    gap: u64,
}

impl Disk {
    /// A disk that keeps a [`Moment`] each `gap` acts or so.
    pub fn new(seed: u64, gap: u64) -> Self {
        let disk = Self { inside: Mutex::default(), chance: Mutex::new(StdRng::seed_from_u64(seed)), gap };
        disk.inside().next_moment = disk.until_next();
        disk
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn until_next(&self) -> u64 {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).random_range(1..=2 * self.gap)
    }

    /// So much has been acknowledged: it must survive from now on.
    pub fn acknowledge(&self, acknowledged: usize) {
        self.inside().acknowledged = acknowledged;
    }

    pub fn take_moments(&self) -> Vec<Moment> {
        std::mem::take(&mut self.inside().moments)
    }

    /// A file that was on the machine before it was opened here survives as it is; a new one has no name yet.
    pub fn opened(&self, path: &Path, was_there: bool) {
        let mut inside = self.inside();
        if !inside.files.there.contains_key(path) {
            let bytes = if was_there { fs::read(path).unwrap_or_default() } else { Vec::new() };
            let shadow = Shadow { flushed: bytes.into(), since: Vec::new(), named: was_there };
            inside.files.there.insert(path.to_owned(), shadow);
        }
    }

    pub fn wrote(&self, path: &Path, at: usize, bytes: &[u8]) {
        self.changed(path, Change::Write { at, bytes: bytes.into() });
    }

    pub fn truncated(&self, path: &Path, len: usize) {
        self.changed(path, Change::Truncate { len });
    }

    fn changed(&self, path: &Path, change: Change) {
        let mut inside = self.inside();
        inside.files.there.entry(path.to_owned()).or_default().since.push(change);
        self.act(&mut inside);
    }

    /// The power may go before it is done; once it is, all of the file survives. With a new file SQLite flushes the
    /// folder, and then every name in it is as it is now.
    pub fn flushed(&self, path: &Path) {
        let mut inside = self.inside();
        self.act(&mut inside);
        let shadow = inside.files.there.entry(path.to_owned()).or_default();
        let bytes = Arc::make_mut(&mut shadow.flushed);
        shadow.since.drain(..).for_each(|change| change.apply(bytes, |_| true));
        if !shadow.named {
            inside.files.there.values_mut().for_each(|shadow| shadow.named = true);
            inside.files.deleted.clear();
        }
    }

    pub fn deleted(&self, path: &Path, flushed: bool) {
        let mut inside = self.inside();
        let gone = inside.files.there.remove(path).filter(|gone| gone.named && !flushed);
        if let Some(gone) = gone {
            inside.files.deleted.insert(path.to_owned(), gone);
        }
        self.act(&mut inside);
    }

    fn act(&self, inside: &mut Inside) {
        inside.acts += 1;
        if inside.acts >= inside.next_moment {
            inside.next_moment = inside.acts + self.until_next();
            let moment = Moment { files: inside.files.clone(), acknowledged: inside.acknowledged, act: inside.acts };
            inside.moments.push(moment);
        }
    }
}

impl Moment {
    /// Writes into `folder` what is left when the power goes now: of what was not flushed each part is kept, dropped or
    /// torn, as `seed` has it.
    pub fn power_cut(&self, seed: u64, folder: &Path) {
        let mut chance = StdRng::seed_from_u64(seed);
        let kept = [0.0, 0.1, 0.5, 0.9, 1.0][chance.random_range(0..5)];
        let mut names: Vec<&PathBuf> = self.files.there.keys().chain(self.files.deleted.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let now = self.files.there.get(name);
            let now = now.filter(|shadow| shadow.named || chance.random_bool(kept));
            let before = self.files.deleted.get(name).filter(|_| !chance.random_bool(kept));
            if let Some(left) = now.or(before) {
                let file = name.file_name().expect("a file has a name");
                fs::write(folder.join(file), left.after(kept, &mut chance)).expect("the folder can be written");
            }
        }
    }
}

impl Shadow {
    fn after(&self, kept: f64, chance: &mut StdRng) -> Vec<u8> {
        let mut bytes = self.flushed.to_vec();
        for change in &self.since {
            let torn = chance.random_bool(0.3);
            let whole = chance.random_bool(kept);
            change.apply(&mut bytes, |_| if torn { chance.random_bool(kept) } else { whole });
        }
        bytes
    }
}

impl Change {
    /// Does it to `bytes`, as far as `survives` says so of each sector.
    fn apply(&self, to: &mut Vec<u8>, mut survives: impl FnMut(usize) -> bool) {
        match self {
            Self::Truncate { len } => {
                if survives(0) {
                    to.resize(*len, 0);
                }
            }
            Self::Write { at, bytes } => {
                let (mut from, end) = (*at, at + bytes.len());
                while from < end {
                    let until = (from / SECTOR + 1).saturating_mul(SECTOR).min(end);
                    if survives(from / SECTOR) {
                        to.resize(to.len().max(until), 0);
                        to[from..until].copy_from_slice(&bytes[from - at..until - at]);
                    }
                    from = until;
                }
            }
        }
    }
}
