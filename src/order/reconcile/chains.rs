//! The chains walked from their first entry, and the counts that they come to.

use std::collections::{BTreeMap, HashMap};

use super::{Difference, EntryRow, report::Differences};
use crate::{
    clock::UnixMs,
    id::SkuId,
    order::{
        entry::{Digest, EntryType},
        store::{Head, MARK_EVERY},
        tx::OpenedSku,
    },
    protocol::StockCount,
};

#[derive(Debug, Default)]
pub(super) struct Chains {
    chains: BTreeMap<u32, Chain>,
    by_sku: HashMap<SkuId, u32>,
    entries: u64,
}

#[derive(Debug)]
struct Chain {
    sku: OpenedSku,
    said: Head,
    count: StockCount,
    stock: i128,
    row: u64,
    at: UnixMs,
    hash: Digest,
    /// Pieces that open holds hold, and that orders took, as the rows of holds say.
    in_holds: i128,
    in_orders: i128,
}

impl Chains {
    /// A SKU and where its chain is said to end.
    pub fn expect(&mut self, sku: OpenedSku, said: Head, differences: &mut Differences) {
        let place = || format!("sku {}", sku.sku);
        differences.compare(place, "number", sku.no, self.chains.len() as u32);
        if self.by_sku.insert(sku.sku.clone(), sku.no).is_some() {
            differences.add(|| Difference::new(place(), "rows", "two", "one"));
        }
        let (count, hash, at) = (StockCount::default(), Digest::ZERO, UnixMs(0));
        let (stock, in_holds, in_orders) = (0, 0, 0);
        self.chains.insert(sku.no, Chain { sku, said, count, stock, row: 0, at, hash, in_holds, in_orders });
    }

    /// What a SKU was opened as is what it is.
    pub fn opened(&self, tx: u64, new: &OpenedSku, differences: &mut Differences) {
        let Some(Chain { sku, .. }) = self.chains.get(&new.no) else {
            differences.add(|| Difference::new(format!("transaction {tx}"), "sku opened", &new.sku, "no such SKU"));
            return;
        };
        let place = || format!("sku {}", sku.sku);
        differences.compare(place, "name", sku.sku.as_str(), new.sku.as_str());
        differences.compare(place, "product", sku.product.as_str(), new.product.as_str());
        differences.compare(place, "merchant", sku.merchant.as_str(), new.merchant.as_str());
    }

    /// Walks on over the entries of a transaction.
    pub fn extend(&mut self, entries: &mut [EntryRow], differences: &mut Differences) {
        for entry in entries {
            self.entries += 1;
            match self.chains.get_mut(&entry.sku_no) {
                Some(chain) => chain.extend(entry, differences),
                None => {
                    let place = format!("transaction {}, entry {}", entry.entry.tx, entry.entry.n);
                    differences.add(|| Difference::new(place, "sku", entry.sku_no, "known"));
                }
            }
        }
    }

    pub fn place(&self, entry: &EntryRow) -> String {
        let sku = self.chains.get(&entry.sku_no).map_or("?", |chain| chain.sku.sku.as_str());
        place(sku, entry)
    }

    pub fn count(&self, sku_no: u32) -> Option<StockCount> {
        self.chains.get(&sku_no).map(|chain| chain.count)
    }

    pub fn no(&self, sku: &SkuId) -> Option<u32> {
        self.by_sku.get(sku).copied()
    }

    /// Pieces that an open hold holds, as its row says.
    pub fn hold(&mut self, sku: &SkuId, pieces: i64) {
        if let Some(chain) = self.of(sku) {
            chain.in_holds += i128::from(pieces);
        }
    }

    /// Pieces that an order took, or gave back, as rows of holds and steps say.
    pub fn sell(&mut self, sku: &SkuId, pieces: i64) {
        if let Some(chain) = self.of(sku) {
            chain.in_orders += i128::from(pieces);
        }
    }

    fn of(&mut self, sku: &SkuId) -> Option<&mut Chain> {
        self.chains.get_mut(self.by_sku.get(sku)?)
    }

    pub fn end(&self, differences: &mut Differences) {
        for chain in self.chains.values() {
            chain.end(differences);
        }
    }

    pub fn size(&self) -> (u64, usize) {
        (self.entries, self.chains.len())
    }
}

fn place(sku: &str, entry: &EntryRow) -> String {
    format!("sku {sku}, entry {} (transaction {})", entry.entry.n, entry.entry.tx)
}

impl Chain {
    fn extend(&mut self, row: &mut EntryRow, differences: &mut Differences) {
        row.entry.prev = self.hash;
        let sku = self.sku.sku.as_str();
        let at = || place(sku, row);
        let entry = &row.entry;
        differences.compare(at, "number", entry.n, self.count.entry + 1);
        differences.compare(at, "row before", row.row_before, self.row);
        differences.compare(at, "hash", entry.hash, entry.digest(sku));
        let mark = entry.n.is_multiple_of(MARK_EVERY).then_some(self.sku.no);
        if row.mark != mark {
            differences.add(|| Difference::new(at(), "mark", named(row.mark), named(mark)));
        }
        let opens = entry.kind == EntryType::Opened;
        if opens != (self.count.entry == 0) || (opens && entry.quantity < 0) {
            differences.add(|| Difference::new(at(), "type", entry.kind.as_str(), "opened first, and once"));
        }
        match entry.kind.moves(self.count, entry.quantity) {
            Some(count) => self.count = count,
            None => {
                let (kind, quantity) = (entry.kind.as_str(), entry.quantity);
                differences.add(|| Difference::new(at(), "pieces", format!("{quantity} {kind}"), "not so many"));
            }
        }
        if matches!(entry.kind, EntryType::Opened | EntryType::Adjusted) {
            self.stock += i128::from(entry.quantity);
        }
        self.count.entry = entry.n;
        (self.row, self.at, self.hash) = (row.row, entry.at, entry.hash);
    }

    fn end(&self, differences: &mut Differences) {
        let place = || format!("sku {}", self.sku.sku);
        let (said, found) = (self.said.count, self.count);
        differences.compare(place, "available", said.available, found.available);
        differences.compare(place, "held", said.held, found.held);
        differences.compare(place, "sold", said.sold, found.sold);
        differences.compare(place, "stock", i128::from(self.said.stock), self.stock);
        differences.compare(place, "last entry", said.entry, found.entry);
        differences.compare(place, "row of the last entry", self.said.row, self.row);
        differences.compare(place, "time of the last entry", self.said.at.0, self.at.0);
        differences.compare(place, "hash of the last entry", self.said.hash, self.hash);
        differences.compare(place, "pieces in open holds", self.in_holds, found.held.into());
        differences.compare(place, "pieces in orders", self.in_orders, found.sold.into());
    }
}

fn named(mark: Option<u32>) -> String {
    mark.map_or("none".to_owned(), |sku| format!("of sku {sku}"))
}
