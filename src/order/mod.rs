//! The desk: holds, orders, stock and limits, and the chains that prove them.
//!
//! [`Desk`] is the handle. Behind it an owner thread decides every command in memory, in order (`ledger`), and a
//! journal thread commits what was decided, one transaction per batch, while the next batch is decided. Nobody is
//! answered before the commit. Sold out is told in the caller (`fast`). What was committed goes up as [`Event`]s.
//!
//! It knows no room, no session and no HTTP, and no person's name.

mod chain;
pub mod config;
mod desk;
pub mod entry;
pub mod export;
mod fast;
mod handover;
mod hold;
mod journal;
mod known_keys;
mod ledger;
mod mailbox;
mod owner;
mod poison;
mod publish;
mod readers;
pub mod reconcile;
pub mod refusal;
pub mod request;
mod sheet;
pub mod signer;
mod split_map;
mod start;
pub mod stats;
pub mod store;
mod tx;
pub mod verify;

#[cfg(test)]
mod tests;

pub use self::{
    config::Config,
    desk::Desk,
    export::{LedgerExport, SignedHead},
    hold::Step,
    publish::{Event, Told},
    refusal::Refusal,
    request::{HoldRequest, Party, ProductTerms, RefundLine, StockChange},
    sheet::{OrderFilter, export_orders},
    signer::PublicKey,
    start::Error,
    stats::Stats,
    store::{LedgerFile, Sqlite, Store},
    verify::verify,
};

/// An answer, and whether it was given before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered<T> {
    pub value: T,
    /// The same was accepted before: by its key, or because it can happen only once.
    pub replayed: bool,
}

impl<T> Answered<T> {
    pub fn map<U>(self, to: impl FnOnce(T) -> U) -> Answered<U> {
        Answered { value: to(self.value), replayed: self.replayed }
    }
}
