//! What a reconciliation found.

use std::fmt;

/// One counter that is kept as something else than what it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The SKU, entry, hold, person or transaction.
    pub place: String,
    pub counter: &'static str,
    pub recorded: String,
    pub recomputed: String,
}

impl Difference {
    pub(super) fn new(
        place: impl Into<String>,
        counter: &'static str,
        recorded: impl fmt::Display,
        recomputed: impl fmt::Display,
    ) -> Self {
        Self { place: place.into(), counter, recorded: recorded.to_string(), recomputed: recomputed.to_string() }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, counter, recorded, recomputed } = self;
        write!(f, "{place}: {counter} recorded {recorded}, recomputed {recomputed}")
    }
}

/// The first differences, and how many there are in all.
#[derive(Debug)]
pub(super) struct Differences {
    found: Vec<Difference>,
    total: u64,
    limit: usize,
}

impl Differences {
    pub fn new(limit: usize) -> Self {
        Self { found: Vec::new(), total: 0, limit }
    }

    pub fn add(&mut self, difference: impl FnOnce() -> Difference) {
        self.total += 1;
        if self.found.len() < self.limit {
            self.found.push(difference());
        }
    }

    /// Adds one when `recorded` is not `recomputed`.
    pub fn compare<T: PartialEq + fmt::Display>(
        &mut self,
        place: impl FnOnce() -> String,
        counter: &'static str,
        recorded: T,
        recomputed: T,
    ) {
        if recorded != recomputed {
            self.add(|| Difference::new(place(), counter, recorded, recomputed));
        }
    }
}

/// The outcome for a whole ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The first ones.
    pub differences: Vec<Difference>,
    /// How many there are in all.
    pub total: u64,
    pub entries: u64,
    pub skus: usize,
    pub holds: u64,
    pub transactions: u64,
}

impl Report {
    pub(super) fn new(differences: Differences, entries: u64, skus: usize, holds: u64, transactions: u64) -> Self {
        let Differences { found, total, .. } = differences;
        Self { differences: found, total, entries, skus, holds, transactions }
    }

    pub fn agrees(&self) -> bool {
        self.total == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            writeln!(f, "{difference}")?;
        }
        let left_out = self.total - self.differences.len() as u64;
        if left_out > 0 {
            writeln!(f, "and {left_out} more")?;
        }
        let outcome = match self.total {
            0 => "everything agrees".to_owned(),
            1 => "1 difference".to_owned(),
            total => format!("{total} differences"),
        };
        let Self { entries, skus, holds, transactions, .. } = self;
        write!(f, "{outcome}: {entries} entries, {skus} SKUs, {holds} holds, {transactions} transactions")
    }
}
