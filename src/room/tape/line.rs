//! The lines of a tape.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixMs,
    id::{HoldId, RoomId, SkuId, Who},
    protocol::{Event, StockCount},
    room::state::State,
};

/// The version of the lines that this server writes.
pub const VERSION: u32 = 1;

/// One line. `demand` lines are never shown to anybody; replay needs them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// The first line of a segment. `show` is set while a show runs: its start, in milliseconds since 1970.
    Head {
        room: RoomId,
        epoch: String,
        at: UnixMs,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        show: Option<UnixMs>,
    },
    /// The second: the state that the events of this segment are folded into.
    Snapshot {
        state: Box<State>,
        /// The counts of the shelf. A start takes them from the ledger; a replay opens its stock by them.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        stock: BTreeMap<SkuId, StockCount>,
    },
    /// What was told to the room. `left_out`: sampling did not show it.
    Event {
        event: Event,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        left_out: bool,
    },
    Tally {
        at: UnixMs,
        viewers: u64,
        likes: u64,
    },
    Demand {
        at: UnixMs,
        who: Who,
        demand: Demand,
    },
}

/// What people wanted of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Demand {
    Join {
        sim: bool,
    },
    Like {
        count: u32,
    },
    /// `hold`: what was made of it, when the outcome is `held`.
    Hold {
        lines: Vec<(SkuId, u32)>,
        outcome: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<HoldId>,
    },
    /// What became of a hold: `extended`, `cancelled`, `expired`, `paid`, `refund_due`, `refunded`.
    Order {
        hold: HoldId,
        step: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refund: Option<Refund>,
    },
}

/// What is refunded of an order, all in all, and whether the pieces of this refund are sold again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    pub lines: Vec<(SkuId, u32)>,
    pub restock: bool,
}

#[derive(Serialize)]
struct Versioned<'a> {
    v: u32,
    #[serde(flatten)]
    line: &'a Line,
}

#[derive(Deserialize)]
pub(super) struct VersionOnly {
    pub v: u32,
}

impl Line {
    /// Appends the line and its newline.
    pub fn write(&self, to: &mut Vec<u8>) {
        let versioned = Versioned { v: VERSION, line: self };
        serde_json::to_writer(&mut *to, &versioned).expect("a line is plain data with text keys");
        to.push(b'\n');
    }

    /// The head of a segment: its first two lines.
    pub fn head(state: &State, epoch: &str, at: UnixMs) -> Vec<u8> {
        let show = state.show.started_at.filter(|_| state.show.running);
        let mut head = Vec::new();
        Self::Head { room: state.room.clone(), epoch: epoch.to_owned(), at, show }.write(&mut head);
        Self::Snapshot { state: Box::new(state.clone()), stock: state.stock.clone() }.write(&mut head);
        head
    }
}
