//! A SKU's chain as it is handed out: one page of entries and the signed head.

use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixMs,
    id::SkuId,
    order::{
        chain::Committed,
        entry::{Digest, EntryRecord},
        signer::Signer,
        store::{Failure, MARK_EVERY, Reader},
    },
};

/// A page of a chain. Pages of one SKU one after another in a file are the whole chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerExport {
    pub sku: SkuId,
    pub entries: Vec<EntryRecord>,
    pub head: SignedHead,
}

/// The end of the whole chain, beyond this page perhaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    pub n: u64,
    pub hash: Digest,
    /// When it was signed.
    pub at: UnixMs,
    /// ed25519 over the canonical JSON of `at`, `hash`, `n` and `sku`, in hex.
    pub signature: String,
    /// The public key, in hex.
    pub key: String,
}

impl SignedHead {
    pub(super) fn new(signer: &Signer, sku: &SkuId, head: &Committed, at: UnixMs) -> Self {
        let (n, hash) = (head.count.entry, head.hash);
        Self { n, hash, at, signature: signer.sign(sku, n, &hash, at), key: signer.public_key().key }
    }
}

/// Up to `limit` entries numbered above `after`, read back from the nearest marked row.
pub(super) fn page(
    reader: &mut dyn Reader,
    head: &Committed,
    after: u64,
    limit: u64,
) -> Result<Vec<EntryRecord>, Failure> {
    let last = after.saturating_add(limit).min(head.count.entry);
    if last <= after {
        return Ok(Vec::new());
    }
    let mark = last.div_ceil(MARK_EVERY);
    let marked = head.marks.get(mark as usize - 1).map(|row| (*row, mark * MARK_EVERY));
    let (row, n) = marked.unwrap_or((head.row, head.count.entry));
    let mut entries = reader.entries(row, n, after)?;
    entries.truncate((last - after) as usize);
    Ok(entries)
}
