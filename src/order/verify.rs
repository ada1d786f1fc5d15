//! The offline check of an exported chain.

use std::fmt;

use serde::Deserialize;

use crate::{
    clock::UnixMs,
    id::SkuId,
    order::{
        entry::{Digest, EntryRecord},
        export::{LedgerExport, SignedHead},
        signer::is_signed,
    },
    protocol::StockCount,
};

/// What a whole chain says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub sku: SkuId,
    pub entries: u64,
    /// The counts after the last entry.
    pub count: StockCount,
    /// When the newest head was signed, and the public key it was signed with.
    pub signed_at: UnixMs,
    pub key: String,
}

/// The first place where a chain is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("not a ledger export: {0}")]
    Unreadable(String),
    #[error("no export in the file")]
    Empty,
    #[error("the file mixes the chains of {0} and {1}")]
    TwoSkus(SkuId, SkuId),
    #[error("entry {expected} is missing; entry {found} stands in its place")]
    Missing { expected: u64, found: u64 },
    #[error("entry {n} does not continue entry {}: its prev is not that one's hash", n - 1)]
    Unlinked { n: u64 },
    #[error("entry {n} was changed: its hash is not that of its content")]
    Changed { n: u64 },
    #[error("entry {n} is earlier than the one before it")]
    OutOfTime { n: u64 },
    #[error("entry {n} moves more pieces than there are")]
    Impossible { n: u64 },
    #[error("entries after {last} are cut off: the signed head is entry {head}")]
    CutOff { last: u64, head: u64 },
    #[error("the signed head is entry {head}, but there are entries up to {last}")]
    HeadBehind { last: u64, head: u64 },
    #[error("the signed head does not name entry {n} as it is here")]
    OtherHead { n: u64 },
    #[error("the signature under head {n} is not that of its key")]
    BadSignature { n: u64 },
    #[error("head {n} is signed with another key than the one expected")]
    OtherKey { n: u64 },
}

/// A file is one export or several pages, each an object or a list of them, one after another.
#[derive(Deserialize)]
#[serde(untagged)]
enum Pages {
    One(LedgerExport),
    Many(Vec<LedgerExport>),
}

/// Checks the pages of one SKU's chain from its first entry to its signed head. With `key` (hex) the heads must be
/// signed with it; without, the report names the key to compare with what the server publishes.
pub fn verify(text: &str, key: Option<&str>) -> Result<Report, Broken> {
    let mut pages = Vec::new();
    for page in serde_json::Deserializer::from_str(text).into_iter::<Pages>() {
        match page.map_err(|error| Broken::Unreadable(error.to_string()))? {
            Pages::One(page) => pages.push(page),
            Pages::Many(more) => pages.extend(more),
        }
    }
    let first = pages.first().ok_or(Broken::Empty)?;
    let mut chain = Chain { sku: first.sku.clone(), last: None, count: StockCount::default(), heads: Vec::new() };
    for page in &pages {
        chain.page(page, key)?;
    }
    chain.finish()
}

struct Chain {
    sku: SkuId,
    /// Time and hash of the last entry.
    last: Option<(UnixMs, Digest)>,
    count: StockCount,
    /// Heads that are ahead of the entries read so far.
    heads: Vec<SignedHead>,
}

impl Chain {
    fn page(&mut self, page: &LedgerExport, key: Option<&str>) -> Result<(), Broken> {
        if page.sku != self.sku {
            return Err(Broken::TwoSkus(self.sku.clone(), page.sku.clone()));
        }
        let head = &page.head;
        if key.is_some_and(|key| key != head.key) {
            return Err(Broken::OtherKey { n: head.n });
        }
        if !is_signed(&head.key, &head.signature, &self.sku, head.n, &head.hash, head.at) {
            return Err(Broken::BadSignature { n: head.n });
        }
        self.heads.push(head.clone());
        for entry in &page.entries {
            self.entry(entry)?;
            let wrong = self.heads.iter().find(|head| head.n == entry.n && head.hash != entry.hash);
            if let Some(head) = wrong {
                return Err(Broken::OtherHead { n: head.n });
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &EntryRecord) -> Result<(), Broken> {
        let (expected, n) = (self.count.entry + 1, entry.n);
        if n != expected {
            return Err(Broken::Missing { expected, found: n });
        }
        if entry.hash != entry.digest(self.sku.as_str()) {
            return Err(Broken::Changed { n });
        }
        if entry.prev != self.last.map_or(Digest::ZERO, |(_, hash)| hash) {
            return Err(Broken::Unlinked { n });
        }
        if self.last.is_some_and(|(at, _)| entry.at < at) {
            return Err(Broken::OutOfTime { n });
        }
        self.count = entry.kind.moves(self.count, entry.quantity).ok_or(Broken::Impossible { n })?;
        self.last = Some((entry.at, entry.hash));
        Ok(())
    }

    fn finish(self) -> Result<Report, Broken> {
        let last = self.count.entry;
        // Pages are read while the shop sells on: earlier pages have earlier heads, and the last is the newest.
        let newest = self.heads.iter().max_by_key(|head| head.n).ok_or(Broken::Empty)?;
        if newest.n > last {
            return Err(Broken::CutOff { last, head: newest.n });
        }
        if newest.n < last {
            return Err(Broken::HeadBehind { last, head: newest.n });
        }
        Ok(Report { sku: self.sku, entries: last, count: self.count, signed_at: newest.at, key: newest.key.clone() })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StockCount { available, held, sold, entry } = self.count;
        writeln!(f, "The chain of {} is whole: {} entries, each linked to the one before.", self.sku, self.entries)?;
        writeln!(f, "After entry {entry}: {available} available, {held} held, {sold} sold.")?;
        writeln!(f, "Its head was signed at {} (ms since 1970) with ed25519 key {}.", self.signed_at.0, self.key)?;
        writeln!(f)?;
        writeln!(f, "This does not prove")?;
        writeln!(f, "- that the key is the shop's: compare it with GET /v1/keys of the shop;")?;
        writeln!(f, "- that the shop shows everybody the same chain: compare heads with other people;")?;
        writeln!(f, "- that there are no entries after this head, nor that the goods exist;")?;
        write!(f, "- that the times are true: they are the server's own.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{
        chain::Committed,
        entry::EntryType::{self, Adjusted, Confirmed, Held, Opened},
        signer::Signer,
    };

    const MOVES: [(EntryType, i64); 6] =
        [(Opened, 10), (Held, 2), (Held, 3), (Confirmed, 2), (Adjusted, -1), (Confirmed, 3)];

    fn chain(moves: &[(EntryType, i64)]) -> LedgerExport {
        let sku: SkuId = "scarf".parse().unwrap();
        let (mut entries, mut prev): (Vec<EntryRecord>, _) = (Vec::new(), Digest::ZERO);
        for (index, (kind, quantity)) in moves.iter().enumerate() {
            let (n, at) = (index as u64 + 1, UnixMs(1_000 + index as i64));
            let (holder, reason) = (Some(Digest::of(b"someone")), None);
            let (kind, quantity) = (*kind, *quantity);
            let hash = Digest::ZERO;
            let mut entry = EntryRecord { n, at, kind, quantity, tx: n, holder, reason, prev, hash };
            entry.hash = entry.digest(sku.as_str());
            prev = entry.hash;
            entries.push(entry);
        }
        let head = head_of(&sku, entries.last().unwrap());
        LedgerExport { sku, entries, head }
    }

    fn head_of(sku: &SkuId, entry: &EntryRecord) -> SignedHead {
        let count = StockCount { entry: entry.n, ..StockCount::default() };
        let committed = Committed { count, hash: entry.hash, row: 0, marks: Vec::new() };
        SignedHead::new(&Signer::new(&[3; 32]), sku, &committed, UnixMs(9_000))
    }

    fn check(export: &LedgerExport) -> Result<Report, Broken> {
        verify(&serde_json::to_string(export).unwrap(), None)
    }

    #[test]
    fn a_whole_chain_passes_and_says_what_it_counts() {
        let export = chain(&MOVES);
        let report = check(&export).unwrap();
        assert_eq!(report.count, StockCount { available: 4, held: 0, sold: 5, entry: 6 });
        assert!(report.to_string().contains("does not prove"));
        let text = serde_json::to_string(&export).unwrap();
        assert!(verify(&text, Some(&export.head.key)).is_ok());
        assert_eq!(verify(&text, Some("00")), Err(Broken::OtherKey { n: 6 }));
    }

    #[test]
    fn pages_one_after_another_are_one_chain() {
        let whole = chain(&MOVES);
        let page = |range: std::ops::Range<usize>, head: usize| LedgerExport {
            sku: whole.sku.clone(),
            entries: whole.entries[range].to_vec(),
            head: head_of(&whole.sku, &whole.entries[head]),
        };
        let text = |pages: &[LedgerExport]| pages.iter().map(|p| serde_json::to_string(p).unwrap()).collect::<String>();
        let (first, second) = (page(0..3, 4), page(3..6, 5));
        assert!(verify(&text(&[first.clone(), second.clone()]), None).is_ok());
        let list = serde_json::to_string(&[&first, &second]).unwrap();
        assert!(verify(&list, None).is_ok());
        assert_eq!(verify(&text(std::slice::from_ref(&first)), None), Err(Broken::CutOff { last: 3, head: 5 }));
        assert_eq!(verify(&text(&[second, first]), None), Err(Broken::Missing { expected: 1, found: 4 }));
    }

    #[test]
    fn every_change_of_any_entry_is_found_there() {
        type Change = (&'static str, fn(&mut EntryRecord));
        let changes: [Change; 6] = [
            ("at", |e| e.at.0 += 1),
            ("type", |e| e.kind = EntryType::Expired),
            ("quantity", |e| e.quantity += 1),
            ("tx", |e| e.tx += 1),
            ("holder", |e| e.holder = None),
            ("reason", |e| e.reason = Some("so".to_owned())),
        ];
        for index in 0..MOVES.len() {
            for (name, change) in changes {
                let mut export = chain(&MOVES);
                change(&mut export.entries[index]);
                let n = index as u64 + 1;
                assert_eq!(check(&export), Err(Broken::Changed { n }), "{name} of {n}");
                // With its hash made to fit, the next entry or the head does not follow it.
                export.entries[index].hash = export.entries[index].digest("scarf");
                let broken = check(&export).unwrap_err();
                let found = [Broken::Unlinked { n: n + 1 }, Broken::OtherHead { n }, Broken::Impossible { n }];
                assert!(found.contains(&broken) || broken == Broken::OutOfTime { n: n + 1 }, "{name} of {n}: {broken}");
            }
        }
    }

    #[test]
    fn dropped_reordered_and_cut_off_entries_are_found() {
        for index in 0..MOVES.len() - 1 {
            let mut export = chain(&MOVES);
            export.entries.remove(index);
            let n = index as u64 + 1;
            assert_eq!(check(&export), Err(Broken::Missing { expected: n, found: n + 1 }));
            let mut export = chain(&MOVES);
            export.entries.swap(index, index + 1);
            assert_eq!(check(&export), Err(Broken::Missing { expected: n, found: n + 1 }));
            let mut export = chain(&MOVES);
            export.entries.truncate(index + 1);
            assert_eq!(check(&export), Err(Broken::CutOff { last: n, head: 6 }));
        }
    }

    #[test]
    fn a_chain_made_anew_needs_the_key() {
        let mut forged = chain(&[(Opened, 10), (Held, 1)]);
        forged.head.signature = chain(&MOVES).head.signature;
        assert_eq!(check(&forged), Err(Broken::BadSignature { n: 2 }));
        let impossible = chain(&[(Opened, 1), (Held, 2)]);
        assert_eq!(check(&impossible), Err(Broken::Impossible { n: 2 }));
    }

    #[test]
    fn what_is_not_an_export_is_said_to_be_none() {
        assert_eq!(verify("", None), Err(Broken::Empty));
        for bad in ["{}", "[1]", "nonsense", "{\"sku\":\"..\"}"] {
            assert!(matches!(verify(bad, None), Err(Broken::Unreadable(_))), "{bad}");
        }
    }
}
