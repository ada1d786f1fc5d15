//! Transactions: what the ledger decided, as the journal writes it.
//!
//! They are numbered from 1 without gaps. A transaction is one accepted command (or one expiry) whole: its entries,
//! its idempotency key, how the hold stands after it and the private message about it are committed together.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::{
    clock::UnixMs,
    id::{MerchantId, ProductId, SkuId, Sub},
    order::{
        entry::EntryType,
        hold::{Held, Standing, Step},
        request::Key,
    },
    protocol::StockCount,
};

#[derive(Debug)]
pub struct Tx {
    pub no: u64,
    pub at: UnixMs,
    pub entries: Entries,
    pub key: Option<Key>,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// SKUs that are new.
    Opened(Vec<OpenedSku>),
    Adjusted {
        sku: SkuId,
        reason: Arc<str>,
        count: StockCount,
    },
    Hold(HoldStep),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedSku {
    pub no: u32,
    pub sku: SkuId,
    pub product: ProductId,
    pub merchant: MerchantId,
}

/// A step of one hold. Transactions are linked lists: each names the one before it about the same person, and those
/// that place an order the one before of the same buyer, of the same merchant and of all; 0 is none.
#[derive(Debug)]
pub struct HoldStep {
    pub step: Step,
    pub held: Arc<Held>,
    pub standing: Standing,
    /// Pieces of each line that counted against the buyer's limits before this step.
    pub counted_before: Box<[u32]>,
    /// The person has no number on disk yet.
    pub new_person: bool,
    /// The number of the private message.
    pub n: u64,
    pub message_before: u64,
    pub order_before: Option<OrderBefore>,
    pub notice: Option<Box<Notice>>,
    pub reason: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderBefore {
    pub of_buyer: u64,
    pub of_merchant: u64,
    pub of_all: u64,
}

/// The message about a step to somebody else than the buyer: who confirmed an order for which no stock was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub sub: Sub,
    pub person: u64,
    /// The person has no number on disk yet.
    pub new_person: bool,
    pub n: u64,
    pub message_before: u64,
}

/// The entries of one transaction; nearly always one.
pub type Entries = SmallVec<[Entry; 1]>;

/// An entry before it is linked into its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub sku_no: u32,
    pub kind: EntryType,
    pub quantity: i64,
    /// The counts after it; `count.entry` is its number.
    pub count: StockCount,
    /// Opened and adjusted pieces together, after it.
    pub stock: u64,
}

impl Tx {
    /// Why, as the public entries say it.
    pub fn reason(&self) -> Option<&str> {
        match &self.what {
            What::Opened(_) => None,
            What::Adjusted { reason, .. } => Some(reason),
            What::Hold(step) => step.reason.as_deref(),
        }
    }
}
