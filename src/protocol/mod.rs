//! What crosses the wire: commands, events, frames, snapshots, private messages, error and close codes.
//!
//! Plain data and serde, shared by the server, the Rust client, the tests and the load tester. It knows no socket,
//! no state and no rule of who may; names are those of the outside contract.

pub mod close;
pub mod command;
pub mod depth;
pub mod error;
pub mod event;
pub mod frame;
pub mod order;
pub mod product;
pub mod quality;
pub mod run_sheet;
pub mod token;

pub use close::CloseCode;
pub use command::{ClientMessage, Command, Moderation};
pub use depth::json_depth;
pub use error::{ErrorCode, Fault};
pub use event::{Body, Class, Event};
pub use frame::{Frame, MediaState, Pinned, PinnedComment, ShowState, Snapshot, StockCount, Tally, Track};
pub use order::{
    Hold, HoldLine, HoldState, LineRequest, Order, OrderLine, OrderPage, OrderState, Private, PrivateBody,
};
pub use product::{Product, ProductSku};
pub use quality::{LayerWish, Quality, QualityReport, ViewRequest};
pub use run_sheet::{ComingUp, Explained, RunSheet};
pub use token::{Claims, Power, Role, RoomScope};

/// The WebSocket subprotocol; an upgrade without it, or with another, is refused with 400.
pub const SUBPROTOCOL: &str = "maishou.v1.json";
/// A connection hears something at least this often.
pub const SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(10);
