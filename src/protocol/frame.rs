//! Frames and snapshots: how events reach a client, and where a client stands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixMs,
    id::{ProductId, RoomId, SkuId, Who},
    protocol::{ComingUp, Event, Explained, Product, Role},
};

/// One step of a room's log.
///
/// It covers all numbers in (`prev`, `seq`]. A client at cursor `c` that receives it: with `c < prev` it missed
/// something and joins again; with `prev <= c < seq` it applies the events above `c` and stands at `seq`; with
/// `c >= seq` it ignores the frame's events. A tally may always be applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    pub prev: u64,
    pub seq: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<Tally>,
    /// Comments of this step that are on the tape but not in this frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u32>,
    /// Sales of this step that are on the tape but not in this frame; the counts of `stock` have them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sales_left_out: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tally {
    pub viewers: u64,
    pub likes: u64,
}

/// A room's state at sequence number `seq` of `epoch`: the fold of all its state events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub room: RoomId,
    /// The room that this one is a rehearsal of: nothing here is sold, and its people may be simulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal_of: Option<RoomId>,
    pub epoch: String,
    pub seq: u64,
    pub show: ShowState,
    pub shelf: Vec<Product>,
    pub stock: BTreeMap<SkuId, StockCount>,
    pub pinned: Option<Pinned>,
    pub pinned_comment: Option<PinnedComment>,
    /// What was explained so far in this show, in this order.
    #[serde(default)]
    pub explained: Vec<Explained>,
    /// What the shelf plans, and what comes next by it.
    #[serde(default)]
    pub planned_seconds: BTreeMap<ProductId, u32>,
    #[serde(default)]
    pub next: Vec<ComingUp>,
    /// Fair-window drops; none yet.
    #[serde(default)]
    pub drops: Vec<serde_json::Value>,
    pub media: MediaState,
    /// Seconds between two comments of one person; 0 is off.
    pub slow_mode: u32,
    pub tally: Tally,
    pub comments: Vec<Event>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowState {
    pub running: bool,
    pub started_at: Option<UnixMs>,
    pub title: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaState {
    pub live: bool,
    pub tracks: Vec<Track>,
}

/// One publishing track: `video` or `audio`, and its codec's name (RFC 4855).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    pub kind: String,
    pub codec: String,
}

/// Counts of one SKU after entry number `entry` of its chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockCount {
    pub available: u64,
    pub held: u64,
    pub sold: u64,
    pub entry: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pinned {
    pub product: Product,
    pub explain_until: Option<UnixMs>,
    /// The publisher's media time when it was pinned.
    pub media: Option<u64>,
}

/// A comment as it is pinned; `comment` is its sequence number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedComment {
    pub comment: u64,
    pub who: Who,
    pub name: String,
    pub role: Role,
    pub text: String,
}
