//! What a power cut leaves of the ledger: tests of what `kill -9` cannot show.
//!
//! [`disk::Disk`] knows of each file which bytes were flushed and what was written after; [`vfs`] puts it between
//! SQLite and the machine; at a crash each write that was not flushed is kept, dropped or torn, by a seed.
//! [`history`] does business over it and remembers what was committed when. It knows nothing of the desk's threads.

mod disk;
mod history;
mod tests;
mod vfs;
