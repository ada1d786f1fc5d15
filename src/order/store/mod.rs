//! Where the ledger is kept.
//!
//! A store commits batches of transactions, each batch whole or not at all and durable when `commit` returns, and gives
//! back what the ledger needs to go on. It decides nothing. Whatever keeps to `contract.rs` can stand here.

#[cfg(test)]
pub mod contract;
mod sqlite;

use std::sync::Arc;

#[cfg(test)]
pub use self::sqlite::tampering;
pub use self::sqlite::{Copied, LedgerFile, Sqlite};
use crate::{
    clock::UnixMs,
    id::{HoldId, MerchantId, OrderId, ProductId, Sub},
    order::{
        entry::{Digest, EntryRecord},
        hold::{Held, Standing, State, View},
        ledger::Known,
        request::Key,
        tx::{OpenedSku, Tx},
    },
    protocol::{Private, StockCount},
};

/// What a store could not do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the ledger {path} is in use by another process")]
    InUse { path: String },
    #[error("the ledger {path} has version {found}; this program knows versions up to {known}")]
    Newer { path: String, found: i64, known: i64 },
    #[error("the ledger {path} has version {found}; a server of this version brings it to {known} when it opens it")]
    Older { path: String, found: i64, known: i64 },
    #[error("{path} is no ledger")]
    NoLedger { path: String },
    #[error("the ledger {path} is damaged: {what}")]
    Damaged { path: String, what: String },
    #[error("SQLite {found} is too old; {needed} or newer is needed")]
    OldSqlite { found: String, needed: &'static str },
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("{path}: {error}")]
    Io { path: String, error: std::io::Error },
    /// For stores that tests make fail.
    #[error("{0}")]
    Other(String),
}

/// What was kept and cannot be: where, and what is wrong there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Damage(pub String);

const ROW_BITS: u32 = 20;
/// A transaction has fewer entries than this.
pub const ENTRIES_MAX: usize = 1 << ROW_BITS;
/// Transactions are numbered below this, so that every entry has a row.
pub const TX_MAX: u64 = 1 << (63 - ROW_BITS);

/// Where an entry is kept, as one number that rises from entry to entry: its transaction, and which of the
/// transaction's entries it is.
pub fn row(tx: u64, index: usize) -> u64 {
    assert!(index < ENTRIES_MAX && tx < TX_MAX, "transaction {tx} has a row for entry {index}");
    tx << ROW_BITS | index as u64
}

/// The transaction and index of a row.
pub fn row_parts(row: u64) -> (u64, usize) {
    (row >> ROW_BITS, (row & ((1 << ROW_BITS) - 1)) as usize)
}

/// An entry's place in its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The row of the entry before it in its chain; 0 is none.
    pub row_before: u64,
    pub holder: Option<Digest>,
    pub prev: Digest,
    pub hash: Digest,
}

/// The end of a SKU's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub sku_no: u32,
    pub count: StockCount,
    pub stock: u64,
    pub row: u64,
    pub at: UnixMs,
    pub hash: Digest,
}

/// Transactions to commit together.
#[derive(Debug)]
pub struct Batch<'a> {
    pub txs: &'a [Tx],
    /// One for each entry of the transactions, in their order.
    pub seals: &'a [Seal],
    /// The new heads of the SKUs that the entries touch, one for each.
    pub heads: &'a [Head],
}

/// A SKU as it was kept.
#[derive(Debug)]
pub struct SkuRow {
    pub sku: OpenedSku,
    pub head: Head,
    /// Rows of the entries `MARK_EVERY`, `2 * MARK_EVERY`, ... of its chain.
    pub marks: Vec<u64>,
}

/// Each so many entries of a chain a row is marked, so that a page of it can be found without an index.
pub const MARK_EVERY: u64 = 128;

/// A hold as it was kept.
#[derive(Debug)]
pub struct HoldRow {
    pub held: Arc<Held>,
    pub standing: Standing,
    /// The number of the private message that told of its making.
    pub n: u64,
    pub key: Key,
}

/// What a start needs of all transactions up to `tx`, beside the counts of the SKUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    pub tx: u64,
    pub people: Vec<PersonThen>,
    pub pieces: Vec<PiecesThen>,
    /// The transaction that placed each merchant's newest order.
    pub sales: Vec<(MerchantId, u64)>,
    /// The transactions of the holds that were open.
    pub open: Vec<u64>,
}

/// Who a person is, and where her lists began.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PersonThen {
    pub no: u64,
    pub sub: Sub,
    pub message_n: u64,
    pub message_tx: u64,
    pub order_tx: u64,
}

/// Pieces that counted against a person's limit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PiecesThen {
    pub person: u64,
    pub product: ProductId,
    pub merchant: MerchantId,
    pub show: Option<Arc<str>>,
    pub pieces: u32,
}

/// Takes in what a store has kept: SKUs by number, the persons of a checkpoint, the checkpoint, then what came after it
/// in the order of transactions, each person before what she did. Without a checkpoint everything came after it.
///
/// A file can have been changed by others, or its disk be failing: what does not fit what was taken in before is refused.
pub trait Restore {
    /// Persons are numbered from 1 without gaps.
    fn person(&mut self, no: u64, sub: Sub) -> Result<(), Damage>;
    /// SKUs are numbered from 0 without gaps.
    fn sku(&mut self, row: SkuRow) -> Result<(), Damage>;
    fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), Damage>;
    /// A hold made before the checkpoint that was open then or is recent: already counted.
    fn earlier_hold(&mut self, row: HoldRow) -> Result<(), Damage>;
    /// A hold made before the checkpoint that changed after it, as it stands now; `counted` are the pieces of each line
    /// that counted against limits at the checkpoint.
    fn changed_hold(&mut self, row: HoldRow, counted: &[u32]) -> Result<(), Damage>;
    fn hold(&mut self, row: HoldRow) -> Result<(), Damage>;
    /// A private message to a person, about transaction `tx`.
    fn message(&mut self, person: u64, tx: u64, n: u64) -> Result<(), Damage>;
    /// A key that is not a hold's.
    fn key(&mut self, key: Key, known: Known, at: UnixMs);
    /// The last transaction and its time. Refused when all that was taken in does not fit together.
    fn last(&mut self, tx: u64, at: UnixMs) -> Result<(), Damage>;
}

/// A ledger's durable half. It is used by one thread.
pub trait Store: Send {
    /// The time of the last transaction; 0 when there is none.
    fn newest(&mut self) -> Result<UnixMs, Failure>;

    /// Gives back all that counts, and of what is over only what was made after `recent`.
    fn load(&mut self, recent: UnixMs, restore: &mut dyn Restore) -> Result<(), Failure>;

    /// Makes a batch durable. After a failure nothing may be asked of the store again.
    fn commit(&mut self, batch: &Batch<'_>) -> Result<(), Failure>;

    /// Puts a checkpoint in the place of the one before. It is of what is committed.
    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure>;

    /// The secret from which the signing key is made; random when there was none.
    fn signing_seed(&mut self) -> Result<[u8; 32], Failure>;

    /// Another way in, for reading what is committed.
    fn reader(&self) -> Result<Box<dyn Reader>, Failure>;

    /// Called between commits: `idle` when there was nothing to do for a while.
    fn tidy(&mut self, idle: bool) -> Result<(), Failure>;

    /// Free bytes where the store grows, when that is known.
    fn free_bytes(&self) -> Option<u64>;
}

/// Whose orders are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrdersOf {
    Buyer,
    Merchant,
    All,
}

/// Which orders are read: from transaction `newest` back, or on from the order `after`.
#[derive(Debug, Clone, Copy)]
pub struct OrdersAsk {
    pub of: OrdersOf,
    pub newest: u64,
    pub after: Option<OrderId>,
    /// Only those in this state.
    pub state: Option<State>,
    pub limit: usize,
    /// At most so many are looked at.
    pub look_max: usize,
}

/// Orders, the newest first.
#[derive(Debug, Default)]
pub struct OrdersFound {
    pub views: Vec<View>,
    /// The last that was looked at, when older ones follow it.
    pub next: Option<OrderId>,
}

/// Reads what is committed. Lists start from a transaction or row that the ledger names and follow the links back.
pub trait Reader: Send {
    fn hold(&mut self, id: HoldId) -> Result<Option<View>, Failure>;

    fn orders(&mut self, ask: &OrdersAsk) -> Result<OrdersFound, Failure>;

    /// Private messages to `sub` numbered above `after`, in their order: the first `limit` of the last `kept`.
    /// `newest` is the transaction of the newest.
    fn messages(
        &mut self,
        sub: &Sub,
        newest: u64,
        after: u64,
        limit: usize,
        kept: usize,
    ) -> Result<Vec<Private>, Failure>;

    /// Entries numbered above `after` up to `last`, whose row is `row`.
    fn entries(&mut self, row: u64, last: u64, after: u64) -> Result<Vec<EntryRecord>, Failure>;
}
