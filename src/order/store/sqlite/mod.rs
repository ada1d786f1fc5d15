//! The ledger in one SQLite file, written by one connection.

mod audit;
mod checkpoint;
mod commit;
mod load;
#[cfg(test)]
mod lost_flush;
mod names;
mod offline;
mod pack;
mod read;
mod record;
mod rows;
mod schema;
mod take;
#[cfg(test)]
pub mod tampering;
#[cfg(test)]
mod tests;
mod version_2;
mod wal;

use std::{
    ffi::CString,
    fs::{File, OpenOptions, TryLockError},
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

pub use self::offline::{Copied, LedgerFile};
use self::{
    read::SqliteReader,
    wal::{Log, Mover},
};
use crate::{
    clock::UnixMs,
    order::store::{Batch, Checkpoint, Failure, Reader, Restore, Store},
};

/// Older ones can lose a commit when a checkpoint runs beside it.
const SQLITE_NEEDED: (i32, &str) = (3_051_003, "3.51.3");
/// SQLite flushes with fsync where fdatasync would do, unless it was compiled for it (`.cargo/config.toml`). That is
/// slower, not wrong.
const FDATASYNC_FLAG: &str = "HAVE_FDATASYNC";
/// A write-ahead log of more pages than this (6 MiB) is moved into the file, so that its own blocks are used again.
const WAL_PAGES: i64 = 1_536;
/// So many pages, or fewer, are moved between two commits; more are moved beside them.
const WAL_REST: i64 = 256;
/// How often the size of the write-ahead log is looked at, in commits.
const LOOK_EVERY: u32 = 16;

/// What a file is opened on, and when its commits are flushed. Only tests have another than the default.
#[derive(Clone, Copy)]
struct Ground<'a> {
    /// A VFS by its name; absent is the machine's.
    vfs: Option<&'a str>,
    synchronous: &'a str,
    /// From so many pages on the write-ahead log is moved.
    wal_pages: i64,
    /// So many pages, or fewer, are moved between two commits.
    wal_rest: i64,
    /// How often the log is looked at, in commits.
    look_every: u32,
}

impl Default for Ground<'_> {
    fn default() -> Self {
        let (wal_pages, wal_rest, look_every) = (WAL_PAGES, WAL_REST, LOOK_EVERY);
        Self { vfs: None, synchronous: "FULL", wal_pages, wal_rest, look_every }
    }
}

impl Ground<'_> {
    fn connect(&self, path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
        match self.vfs {
            None => Connection::open_with_flags(path, flags),
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        }
    }

    /// A connection that writes, and flushes what it writes.
    fn writer(&self, path: &Path) -> rusqlite::Result<Connection> {
        let db = self.connect(path, OpenFlags::default())?;
        let synchronous = self.synchronous;
        // Rows are appended: more than the last pages of the tables need not be kept.
        db.execute_batch(&format!(
            "PRAGMA busy_timeout = 5000; PRAGMA synchronous = {synchronous}; PRAGMA wal_autocheckpoint = 0; \
             PRAGMA cache_size = -8192"
        ))?;
        Ok(db)
    }
}

pub struct Sqlite {
    db: Connection,
    /// What a transaction is packed in.
    scratch: Vec<u8>,
    path: PathBuf,
    mover: Mover,
    wal_pages: i64,
    wal_rest: i64,
    look_every: u32,
    commits_since_look: u32,
    /// Held while the store is open, so that a file has one owner.
    _lock: File,
}

impl Sqlite {
    /// Opens the ledger file at `path`, made new when there is none. Refused while another process has it open, and
    /// when a newer program wrote it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Self::open_on(path, Ground::default())
    }

    fn open_on(path: &Path, ground: Ground<'_>) -> Result<Self, Failure> {
        let (needed, name) = SQLITE_NEEDED;
        if rusqlite::version_number() < needed {
            return Err(Failure::OldSqlite { found: rusqlite::version().to_owned(), needed: name });
        }
        if !compiled_for_fdatasync() {
            tracing::warn!("SQLite was compiled without {FDATASYNC_FLAG}: commits are slower than they need to be");
        }
        let lock = lock(path)?;
        private_file(path).map_err(|error| io(path, error))?;
        let mut db = ground.writer(path)?;
        let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(Failure::Damaged { path: path.display().to_string(), what: format!("journal mode {mode}") });
        }
        schema::prepare(&mut db, path, schema::STEPS)?;
        sync_folder(path).map_err(|error| io(path, error))?;
        db.set_prepared_statement_cache_capacity(32);
        let mover = Mover::start(ground.writer(path)?).map_err(|error| io(path, error))?;
        let Ground { wal_pages, wal_rest, look_every, .. } = ground;
        let path = path.to_owned();
        let scratch = Vec::new();
        Ok(Self { db, scratch, path, mover, wal_pages, wal_rest, look_every, commits_since_look: 0, _lock: lock })
    }

    fn unreadable(&self, error: rusqlite::Error) -> Failure {
        unreadable(&self.path, error)
    }
}

/// What could not be read at the start: the file is damaged, unless SQLite says that the machine failed.
fn unreadable(path: &Path, error: rusqlite::Error) -> Failure {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let what = match error {
        rusqlite::Error::FromSqlConversionFailure(_, _, what) => what.to_string(),
        rusqlite::Error::SqliteFailure(code, _) if !matches!(code.code, DatabaseCorrupt | NotADatabase) => {
            return error.into();
        }
        other => other.to_string(),
    };
    Failure::Damaged { path: path.display().to_string(), what }
}

fn compiled_for_fdatasync() -> bool {
    option_env!("LIBSQLITE3_FLAGS").is_some_and(|flags| flags.contains(FDATASYNC_FLAG))
}

fn io(path: &Path, error: std::io::Error) -> Failure {
    Failure::Io { path: path.display().to_string(), error }
}

fn lock(path: &Path) -> Result<File, Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| io(folder, error))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&name);
    let file = file.map_err(|error| io(Path::new(&name), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::InUse { path: path.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(io(Path::new(&name), error)),
    }
}

/// The file has people and a signing secret in it: nobody else may read it.
fn private_file(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map(drop)
}

/// A new file survives a power cut only when its folder does too.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

impl Store for Sqlite {
    fn newest(&mut self) -> Result<UnixMs, Failure> {
        Ok(load::last(&self.db).map_err(|error| self.unreadable(error))?.1)
    }

    fn load(&mut self, recent: UnixMs, restore: &mut dyn Restore) -> Result<(), Failure> {
        let loaded = load::load(&mut self.db, recent, restore);
        loaded.map_err(|error| self.unreadable(error))
    }

    fn commit(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        Ok(commit::commit(&self.db, batch, &mut self.scratch)?)
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        Ok(checkpoint::save(&mut self.db, checkpoint)?)
    }

    fn signing_seed(&mut self) -> Result<[u8; 32], Failure> {
        let known = "SELECT seed FROM signing_key ORDER BY no DESC LIMIT 1";
        let seed = self.db.query_row(known, [], |row| rows::bytes(row, 0)).optional();
        if let Some(seed) = seed.map_err(|error| self.unreadable(take::located("signing_key", error)))? {
            return Ok(seed);
        }
        let seed: [u8; 32] = rand::random();
        self.db.execute("INSERT INTO signing_key(seed) VALUES(?1)", [seed])?;
        Ok(seed)
    }

    fn reader(&self) -> Result<Box<dyn Reader>, Failure> {
        Ok(Box::new(SqliteReader::open(&self.path)?))
    }

    fn tidy(&mut self, idle: bool) -> Result<(), Failure> {
        self.commits_since_look += 1;
        if !idle && self.commits_since_look < self.look_every {
            return Ok(());
        }
        self.commits_since_look = 0;
        let log = Log::look(&self.db)?;
        if log.left() == 0 || (log.pages < self.wal_pages && !idle) || !self.mover.is_idle()? {
            return Ok(());
        }
        if idle || log.left() <= self.wal_rest {
            wal::move_pages(&self.db)?;
        } else {
            self.mover.begin();
        }
        Ok(())
    }

    fn free_bytes(&self) -> Option<u64> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = CString::new(folder.as_os_str().as_bytes()).ok()?;
        let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `folder` is a C string and `found` has room for what is written when 0 is returned.
        let found = unsafe { (libc::statvfs(folder.as_ptr(), found.as_mut_ptr()) == 0).then(|| found.assume_init()) }?;
        Some(found.f_bavail as u64 * found.f_frsize as u64)
    }
}
