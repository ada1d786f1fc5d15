//! The files of rehearsals: a folder of the rehearsal's id beside the ledger, and one beside the tapes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tracing::warn;

use super::{Making, is_rehearsal};
use crate::id::RoomId;

/// A folder that is being packed or read changes while it is removed.
const ATTEMPTS: usize = 5;

pub(super) fn store(making: &Making, id: &RoomId) -> PathBuf {
    making.store.join(id.as_str())
}

/// Every rehearsal of which there is a file.
pub(super) fn left_from_before(making: &Making) -> anyhow::Result<Vec<RoomId>> {
    let mut found = Vec::new();
    for folder in [&making.store, &making.tape.path] {
        let listing = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            listing => listing.with_context(|| folder.display().to_string())?,
        };
        for file in listing {
            let name = file.with_context(|| folder.display().to_string())?.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok());
            found.extend(id.filter(is_rehearsal));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Removes all files of a rehearsal that is closed. The store goes first: without it the rest is removed at the next
/// start, should this be cut short.
pub(super) async fn remove(making: &Making, id: &RoomId) {
    let folders = [store(making, id), making.tape.path.join(id.as_str())];
    let removed = tokio::task::spawn_blocking(move || {
        for folder in folders {
            if let Err(error) = remove_whole(&folder) {
                warn!(path = %folder.display(), %error, "what is left of a rehearsal stays until the next start");
            }
        }
    });
    drop(removed.await);
}

/// The catalogue first: a folder without one is no rehearsal.
fn remove_whole(folder: &Path) -> io::Result<()> {
    let gone = |outcome: io::Result<()>| match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    gone(fs::remove_file(folder.join("catalogue.db")))?;
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        outcome = gone(fs::remove_dir_all(folder));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
