//! A folder that is gone when the test is over.

use std::{
    fs,
    path::{Path, PathBuf},
};

use uuid::Uuid;

pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(purpose: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("maishou-{purpose}-{}", Uuid::now_v7()));
        fs::create_dir_all(&folder).expect("the temporary folder can be written");
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test that failed leaves its logs behind for whoever looks into it.
        if std::thread::panicking() {
            eprintln!("left for inspection: {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
