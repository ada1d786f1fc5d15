//! Packs closed segments with zstd, behind the writer's back.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, sync_channel},
};

use tracing::warn;

/// Segments that may wait to be packed; what does not fit is packed at the room's next new segment.
const WAITING_MAX: usize = 1_024;

pub(super) struct Archiver(SyncSender<PathBuf>);

impl Archiver {
    pub(super) fn start() -> io::Result<Self> {
        let (queue, inbox) = sync_channel::<PathBuf>(WAITING_MAX);
        std::thread::Builder::new().name("tape-archive".into()).spawn(move || {
            for path in inbox {
                if let Err(e) = pack(&path) {
                    warn!(path = %path.display(), error = %e, "a tape segment is not packed");
                }
            }
        })?;
        Ok(Self(queue))
    }

    pub(super) fn pack(&self, path: PathBuf) {
        let _ = self.0.try_send(path);
    }
}

/// The packed file is whole on the disk before the plain one goes.
fn pack(path: &Path) -> io::Result<()> {
    let mut plain = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let (packed, unfinished) = (path.with_extension("jsonl.zst"), path.with_extension("jsonl.zst.part"));
    let file = File::create(&unfinished)?;
    zstd::stream::copy_encode(&mut plain, &file, zstd::DEFAULT_COMPRESSION_LEVEL)?;
    file.sync_all()?;
    fs::rename(&unfinished, &packed)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    fs::remove_file(path)
}
