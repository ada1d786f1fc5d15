//! Events: what a room tells its audience, in one order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixMs,
    id::{Money, ProductId, SkuId, Who},
    protocol::{
        Product, Role,
        frame::{PinnedComment, Track},
    },
};

/// What a room promises about an event (DESIGN, "Four event classes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Every viewer converges on it; never lost; part of the snapshot.
    State,
    /// A subsequence of one order reaches each viewer.
    Chat,
}

/// One numbered line of a room's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub seq: u64,
    pub at: UnixMs,
    /// The publisher's media time in milliseconds, on state events while live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<u64>,
    #[serde(flatten)]
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Body {
    #[serde(rename = "show.started")]
    ShowStarted {},
    #[serde(rename = "show.ended")]
    ShowEnded {},
    #[serde(rename = "card.pinned")]
    CardPinned { product: Product, explain_until: Option<UnixMs> },
    #[serde(rename = "card.unpinned")]
    CardUnpinned {},
    /// The shelf in its order; `items` are the same products whole, so that nobody has to ask for them.
    #[serde(rename = "shelf")]
    Shelf {
        products: Vec<ProductId>,
        items: Vec<Product>,
        /// How long products are meant to be explained.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        planned_seconds: BTreeMap<ProductId, u32>,
    },
    #[serde(rename = "price")]
    Price { product: ProductId, price: Money },
    /// The counts after ledger entry number `entry` of the SKU, whose chain hash is `hash` (hex).
    #[serde(rename = "stock")]
    Stock { sku: SkuId, available: u64, held: u64, sold: u64, entry: u64, hash: String },
    #[serde(rename = "stock.adjusted")]
    StockAdjusted { sku: SkuId, delta: i64, reason: String, entry: u64 },
    /// `comment` is the sequence number of a comment, `None` takes the pin away.
    #[serde(rename = "comment.pinned")]
    CommentPinned { comment: Option<PinnedComment> },
    #[serde(rename = "comment.deleted")]
    CommentDeleted { comment: u64 },
    /// Until when `who` may not comment; `None`: again allowed.
    #[serde(rename = "mute")]
    Mute { who: Who, until: Option<UnixMs> },
    /// `who` may not come back before the show ends.
    #[serde(rename = "kick")]
    Kick { who: Who },
    /// Seconds between two comments of one person; 0 is off.
    #[serde(rename = "slow_mode")]
    SlowMode { seconds: u32 },
    #[serde(rename = "media")]
    Media { live: bool, tracks: Vec<Track> },
    #[serde(rename = "comment")]
    Comment { who: Who, name: String, role: Role, text: String },
    #[serde(rename = "sold")]
    Sold {
        sku: SkuId,
        quantity: u32,
        /// One masked character of the buyer's name, or nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        buyer: Option<String>,
    },
}

impl Body {
    pub fn class(&self) -> Class {
        match self {
            Self::Comment { .. } | Self::Sold { .. } => Class::Chat,
            _ => Class::State,
        }
    }

    /// The `type` on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ShowStarted {} => "show.started",
            Self::ShowEnded {} => "show.ended",
            Self::CardPinned { .. } => "card.pinned",
            Self::CardUnpinned {} => "card.unpinned",
            Self::Shelf { .. } => "shelf",
            Self::Price { .. } => "price",
            Self::Stock { .. } => "stock",
            Self::StockAdjusted { .. } => "stock.adjusted",
            Self::CommentPinned { .. } => "comment.pinned",
            Self::CommentDeleted { .. } => "comment.deleted",
            Self::Mute { .. } => "mute",
            Self::Kick { .. } => "kick",
            Self::SlowMode { .. } => "slow_mode",
            Self::Media { .. } => "media",
            Self::Comment { .. } => "comment",
            Self::Sold { .. } => "sold",
        }
    }
}
