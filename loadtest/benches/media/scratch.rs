//! A folder on the disk that the build is on, which goes with its owner.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> io::Result<Self> {
        let name = format!("media-bench-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
