//! A ledger file read by another process than the one that writes it.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{audit, io, load, names::Names, read, record::Facts, rows, schema, sync_folder};
use crate::{
    clock::UnixMs,
    order::{
        hold::{Step, View},
        reconcile::{Audit, Report},
        store::Failure,
    },
};

/// A ledger file, opened for reading only: beside the server that may be writing it, or a copy of one.
///
/// Each call reads one state of it, the last that was committed when the call began.
pub struct LedgerFile {
    db: Connection,
    path: PathBuf,
}

/// A copy of a ledger, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    pub bytes: u64,
    /// The last transaction in it, and its time.
    pub tx: u64,
    pub at: UnixMs,
}

impl LedgerFile {
    /// Refused when there is no such file, when it is no ledger, and when it has another version than ours.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        fs::metadata(path).map_err(|error| io(path, error))?;
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.execute_batch("PRAGMA busy_timeout = 5000; PRAGMA cache_size = -65536")?;
        schema::require(&db, path)?;
        Ok(Self { db, path: path.to_owned() })
    }

    /// Recomputes every counter from what is kept; of the differences the first `limit` are named.
    pub fn reconcile(&self, limit: usize) -> Result<Report, Failure> {
        let snapshot = self.db.unchecked_transaction()?;
        let mut found = Audit::new(limit);
        match audit::tell(&snapshot, &mut found) {
            Err(rusqlite::Error::SqliteFailure(error, why)) if error.code == rusqlite::ErrorCode::DatabaseCorrupt => {
                found.damaged(why.as_deref().unwrap_or("a damaged page"));
            }
            other => other?,
        }
        Ok(found.finish())
    }

    /// Tells every order placed after `after`, the oldest first, as it stands now.
    pub fn orders(&self, after: UnixMs, mut tell: impl FnMut(&View) -> std::io::Result<()>) -> Result<(), Failure> {
        let snapshot = self.db.unchecked_transaction()?;
        let first = load::first_after(&snapshot, after)?;
        let mut steps = snapshot.prepare(&rows::records("no >= ?1"))?;
        let mut one = snapshot.prepare(&rows::records_with_standing("no = ?1"))?;
        let (mut names, mut steps) = (Names::default(), steps.query([first as i64])?);
        while let Some(row) = steps.next()? {
            let (_, record) = rows::record(row)?;
            let Facts::Step(step) = &record.what else { continue };
            if matches!(step.step, Step::Paid | Step::RefundDue) {
                let view = one.query_row([step.hold as i64], |row| read::view(&snapshot, row, &mut names))?;
                tell(&view).map_err(|error| Failure::Io { path: "the list of orders".to_owned(), error })?;
            }
        }
        Ok(())
    }

    /// Copies the ledger to a new file that nobody else may read, on disk when this returns. Refused when there is a
    /// file already; a copy that did not succeed leaves none.
    pub fn copy_to(&self, to: &Path) -> Result<Copied, Failure> {
        // Claimed under its own name, so that nothing is overwritten, and filled under another, so that what has the
        // name is never half a copy.
        private_new(to)?;
        let part = beside(to);
        let copied = self.copy_part(&part).and_then(|copied| {
            fs::rename(&part, to).and_then(|()| sync_folder(to)).map_err(|error| io(to, error))?;
            Ok(copied)
        });
        if copied.is_err() {
            drop((fs::remove_file(&part), fs::remove_file(to)));
        }
        copied
    }

    fn copy_part(&self, part: &Path) -> Result<Copied, Failure> {
        match fs::remove_file(part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(part, error)),
            _ => {}
        }
        private_new(part)?;
        let name = part.to_str().ok_or_else(|| Failure::Other(format!("{} is not UTF-8", part.display())))?;
        self.db.execute("VACUUM INTO ?1", [name])?;
        File::open(part).and_then(|file| file.sync_all()).map_err(|error| io(part, error))?;
        let copy = Self::open(part)?;
        let said: String = copy.db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if said != "ok" {
            return Err(Failure::Damaged { path: self.path.display().to_string(), what: said });
        }
        let (tx, at) = load::last(&copy.db)?;
        let bytes = fs::metadata(part).map_err(|error| io(part, error))?.len();
        Ok(Copied { bytes, tx, at })
    }
}

fn private_new(path: &Path) -> Result<(), Failure> {
    let made = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    made.map(drop).map_err(|error| io(path, error))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
