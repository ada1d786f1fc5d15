//! The chains of all SKUs: each entry sealed with the hash of the one before.

use crate::{
    clock::UnixMs,
    id::SkuId,
    order::{
        entry::{Content, Digest},
        store::{Head, MARK_EVERY, Seal, SkuRow, row},
        tx::{Entry, Tx, What},
    },
    protocol::StockCount,
};

/// The end of a chain as it is committed, and its marked rows.
#[derive(Clone, Debug)]
pub struct Committed {
    pub count: StockCount,
    pub hash: Digest,
    pub row: u64,
    pub marks: Vec<u64>,
}

/// The ends of all chains, as far as they are decided. Owned by the owner thread.
#[derive(Debug, Default)]
pub struct Chains {
    ends: Vec<End>,
    /// Positions in `ends` of the chains that grew in this batch.
    grown: Vec<usize>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct End {
    sku: SkuId,
    head: Head,
    grown: bool,
    new_marks: Vec<u64>,
}

/// A chain that grew in a batch.
#[derive(Debug)]
pub struct Grown {
    pub sku: SkuId,
    pub head: Head,
    pub new_marks: Vec<u64>,
}

impl Grown {
    /// It grew further.
    pub fn grow(&mut self, further: Self) {
        self.head = further.head;
        self.new_marks.extend(further.new_marks);
    }
}

impl Chains {
    pub fn restore(rows: &[SkuRow]) -> Self {
        let end = |row: &SkuRow| End {
            sku: row.sku.sku.clone(),
            head: row.head.clone(),
            grown: false,
            new_marks: Vec::new(),
        };
        Self { ends: rows.iter().map(end).collect(), ..Self::default() }
    }

    /// Links the entries of a batch into their chains.
    pub fn seal(&mut self, txs: &[Tx], seals: &mut Vec<Seal>) {
        for tx in txs {
            if let What::Opened(skus) = &tx.what {
                for new in skus {
                    assert_eq!(new.no as usize, self.ends.len(), "SKUs are numbered without gaps");
                    self.ends.push(End::new(new.no, new.sku.clone()));
                }
            }
            let holder = match &tx.what {
                What::Hold(step) if !tx.entries.is_empty() => Some(step.held.holder()),
                _ => None,
            };
            for (index, entry) in tx.entries.iter().enumerate() {
                let seal = self.seal_entry(tx, (index, entry), holder);
                seals.push(seal);
            }
        }
    }

    fn seal_entry(&mut self, tx: &Tx, (index, entry): (usize, &Entry), holder: Option<Digest>) -> Seal {
        let position = entry.sku_no as usize;
        let end = &mut self.ends[position];
        let n = entry.count.entry;
        assert_eq!(n, end.head.count.entry + 1, "entries of {} are sealed in order", end.sku);
        let content = Content {
            sku: end.sku.as_str(),
            n,
            at: tx.at,
            kind: entry.kind,
            quantity: entry.quantity,
            tx: tx.no,
            holder: holder.as_ref(),
            reason: tx.reason(),
            prev: &end.head.hash,
        };
        let hash = content.digest(&mut self.scratch);
        let row = row(tx.no, index);
        let seal = Seal { row_before: end.head.row, holder, prev: end.head.hash, hash };
        end.head = Head { sku_no: entry.sku_no, count: entry.count, stock: entry.stock, row, at: tx.at, hash };
        if n.is_multiple_of(MARK_EVERY) {
            end.new_marks.push(row);
        }
        if !std::mem::replace(&mut end.grown, true) {
            self.grown.push(position);
        }
        seal
    }

    /// The row of a chain's last entry.
    #[cfg(test)]
    pub fn row(&self, sku: &SkuId) -> Option<u64> {
        self.ends.iter().find(|end| end.sku == *sku).map(|end| end.head.row)
    }

    /// The chains that grew since the last call.
    pub fn take_grown(&mut self) -> Vec<Grown> {
        let ends = &mut self.ends;
        let grown = self.grown.drain(..).map(|position| {
            let end = &mut ends[position];
            end.grown = false;
            Grown { sku: end.sku.clone(), head: end.head.clone(), new_marks: std::mem::take(&mut end.new_marks) }
        });
        grown.collect()
    }
}

impl End {
    fn new(sku_no: u32, sku: SkuId) -> Self {
        let (count, hash, at) = (StockCount::default(), Digest::ZERO, UnixMs(0));
        let head = Head { sku_no, count, stock: 0, row: 0, at, hash };
        Self { sku, head, grown: false, new_marks: Vec::new() }
    }
}
