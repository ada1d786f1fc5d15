//! `maishou tape`: what can be said of a tape without a server.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, Subcommand};
use maishou::room::{state_hash, tape};

#[derive(Subcommand)]
pub enum Tape {
    /// Prints the hash of the state that a tape leads to, without times, ids, epoch and tallies
    Hash(Hash),
}

#[derive(Args)]
pub struct Hash {
    /// A segment (.jsonl, .jsonl.zst), or a room's folder: its newest
    path: PathBuf,
}

impl Tape {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Hash(Hash { path }) = self;
        let state = match path.is_dir() {
            true => tape::newest(&path)?,
            false => tape::recording(&path)?.map(|recording| recording.fold()),
        };
        let state = state.with_context(|| format!("{} has no whole segment of a tape", path.display()))?;
        println!("{}", state_hash(&state));
        Ok(ExitCode::SUCCESS)
    }
}
