//! A room's recent frames, encoded once, and the positions that readers hold in them.
//!
//! The room's hub is the only writer; shards, server-sent events and data channels read, each at its own position. A
//! ring owns the bytes of its frames and of one snapshot, and forgets the oldest frames; whoever stood before them
//! takes the snapshot and goes on behind it. It deliberately does not know its readers: nobody is waited for.

mod encoded;
#[expect(clippy::module_inception, reason = "the file is named for its type")]
mod ring;
mod wire;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use encoded::{Encoded, Snap};
pub use ring::{Read, Ring};
pub use wire::{OpCode, Wire};

/// How much of its recent past a room keeps for its readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Frames kept. With 25 comments a second and a frame for each, 4,096 are over two minutes.
    pub frames_max: usize,
    /// Bytes of frames kept; the newest frame is kept even when it alone is larger.
    pub bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { frames_max: 4_096, bytes_max: 4 << 20 }
    }
}
