//! One live room: shelf, cards, comments, moderation, audience, and the log of all that, the tape.
//!
//! Three types: [`Handle`] for others, [`hub::Hub`] (the room's task: mailbox, timers, tape), [`room::Room`] (pure:
//! decides) over [`state::State`] (pure: the fold of the log). Logged before shown. It knows no sockets, no tokens and
//! no orders: who may is decided above, stock counts are told to it.

pub mod audience;
pub mod catalogue;
mod handle;
mod hub;
mod notices;
mod registry;
#[expect(clippy::module_inception, reason = "the core has the name of the thing")]
pub mod room;
pub mod sampler;
pub mod showing;
pub mod state;
mod state_hash;
pub mod tape;
pub mod text;

use serde::{Deserialize, Serialize};

pub use audience::{LIKES_PER_COMMAND_MAX, Seat};
pub use catalogue::{Catalogue, Rehearses, RoomFacts};
pub use handle::{Brief, Handle, Stats};
pub use registry::{OpenError, Outside, Rooms, Shown};
pub use room::{Author, Command};
pub use state_hash::state_hash;
pub use tape::{
    Tape,
    line::{Demand, Refund},
};

/// Settings of rooms.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Comments shown a second; more are on the tape but left out of the stream. 0 shows all.
    pub chat_per_second: u32,
    /// Sales told to the room a second; more are on the tape but left out of the stream. 0 tells all.
    pub sold_per_second: u32,
    /// Chat waits up to this long, in milliseconds, to be sent together. State events do not wait.
    pub tick_ms: u64,
    /// Commands waiting for one room; beyond this they are answered `busy`.
    pub mailbox: usize,
    /// Products on one shelf.
    pub shelf_max: usize,
    /// Rooms on this server.
    pub rooms_max: usize,
    /// Products in the catalogue.
    pub products_max: usize,
    /// SKUs of one product.
    pub skus_per_product_max: usize,
    /// People of one room who may be muted, and as many removed, at a time.
    pub silenced_max: usize,
    /// Whether a sale is told to the room, with one masked character of the buyer's name.
    pub show_sold: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            chat_per_second: 25,
            sold_per_second: 5,
            tick_ms: 10,
            mailbox: 4_096,
            shelf_max: 200,
            rooms_max: 1_000,
            products_max: 100_000,
            skus_per_product_max: 100,
            silenced_max: 10_000,
            show_sold: true,
        }
    }
}
