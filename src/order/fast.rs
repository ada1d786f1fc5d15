//! What callers may know without asking the owner thread: counts, and that something is sold out.
//!
//! "Sold out" may be told at once, but never to who holds a piece: a key that was accepted, or that is on its way to
//! the owner, goes to the owner. The owner makes a key known before it takes the piece away, and callers look in the
//! other order.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;

use crate::{
    clock::UnixMs,
    id::{MerchantId, SkuId},
    order::{
        chain::{Committed, Grown},
        entry::Digest,
        ledger::{Book, Terms, offer},
        refusal::Refusal,
        request::KeyId,
        tx::OpenedSku,
    },
    protocol::{LineRequest, StockCount},
};

/// One SKU as callers see it.
#[derive(Debug)]
pub struct Face {
    merchant: MerchantId,
    /// As decided, perhaps not committed yet.
    available: AtomicU64,
    terms: ArcSwapOption<Terms>,
    committed: Mutex<Committed>,
}

#[derive(Debug, Default)]
pub struct Fast {
    faces: DashMap<SkuId, Arc<Face>>,
    /// How many reasons there are to ask the owner about a key: accepted, and each request that is on its way.
    keys: DashMap<KeyId, u32>,
}

/// A request's key while it is on its way to the owner.
#[derive(Debug)]
pub struct OnItsWay {
    fast: Arc<Fast>,
    key: KeyId,
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.fast.drop_reason(self.key);
    }
}

impl Fast {
    fn face(&self, sku: &SkuId) -> Option<Arc<Face>> {
        self.faces.get(sku).map(|face| face.clone())
    }

    /// The last committed count, and the hash of its entry.
    pub fn stock(&self, sku: &SkuId) -> Option<(StockCount, Digest)> {
        let face = self.face(sku)?;
        let committed = face.committed();
        (committed.count.entry > 0).then_some((committed.count, committed.hash))
    }

    pub fn count(&self, sku: &SkuId) -> Option<StockCount> {
        self.stock(sku).map(|(count, _)| count)
    }

    pub fn merchant(&self, sku: &SkuId) -> Option<MerchantId> {
        Some(self.face(sku)?.merchant.clone())
    }

    pub fn committed(&self, sku: &SkuId) -> Option<Committed> {
        let committed = self.face(sku)?.committed().clone();
        (committed.count.entry > 0).then_some(committed)
    }

    /// Refuses as sold out what the owner would refuse too. Whatever else may be wrong is left to the owner.
    pub fn sold_out(&self, lines: &[LineRequest], now: UnixMs, key: KeyId) -> Option<Refusal> {
        let faces: Vec<_> = lines.iter().map(|line| self.face(&line.sku)).collect::<Option<_>>()?;
        let short = lines.iter().zip(&faces).find_map(|(line, face)| {
            let available = face.available.load(Ordering::Acquire);
            (available < u64::from(line.quantity)).then(|| Refusal::SoldOut { sku: line.sku.clone(), available })
        })?;
        let terms: Vec<_> = faces.iter().map(|face| face.terms.load_full()).collect::<Option<_>>()?;
        let terms: Vec<_> = terms.iter().map(Arc::as_ref).collect();
        offer(lines, &terms, now).ok()?;
        let known = self.keys.contains_key(&key);
        (!known).then_some(short)
    }

    /// Until the guard goes, the key is asked of the owner.
    pub fn on_its_way(self: &Arc<Self>, key: KeyId) -> OnItsWay {
        self.add_reason(key);
        OnItsWay { fast: self.clone(), key }
    }

    /// An accepted hold's key. Told before its stock is taken away here.
    pub fn accepted(&self, key: KeyId) {
        self.add_reason(key);
    }

    pub fn forgotten(&self, key: KeyId) {
        self.drop_reason(key);
    }

    fn add_reason(&self, key: KeyId) {
        *self.keys.entry(key).or_default() += 1;
    }

    fn drop_reason(&self, key: KeyId) {
        self.keys.remove_if_mut(&key, |_, reasons| {
            *reasons -= 1;
            *reasons == 0
        });
    }

    /// A SKU's book after its terms were told.
    pub fn defined(&self, book: &Book) {
        let new = || Arc::new(Face::new(book.merchant.clone(), book.count.available));
        let face = self.faces.entry(book.sku.clone()).or_insert_with(new).clone();
        face.terms.store(book.terms.clone());
    }

    pub fn decided(&self, sku: &SkuId, available: u64) {
        if let Some(face) = self.faces.get(sku) {
            face.available.store(available, Ordering::Release);
        }
    }

    pub fn restored(&self, sku: &OpenedSku, committed: Committed) {
        let face = Face::new(sku.merchant.clone(), committed.count.available);
        *face.committed() = committed;
        self.faces.insert(sku.sku.clone(), Arc::new(face));
    }

    pub fn committed_now(&self, grown: &Grown) {
        if let Some(face) = self.face(&grown.sku) {
            let mut committed = face.committed();
            (committed.count, committed.hash, committed.row) = (grown.head.count, grown.head.hash, grown.head.row);
            committed.marks.extend(&grown.new_marks);
        }
    }
}

impl Face {
    fn new(merchant: MerchantId, available: u64) -> Self {
        let (count, hash) = (StockCount::default(), Digest::ZERO);
        Self {
            merchant,
            available: AtomicU64::new(available),
            terms: ArcSwapOption::empty(),
            committed: Mutex::new(Committed { count, hash, row: 0, marks: Vec::new() }),
        }
    }

    fn committed(&self) -> std::sync::MutexGuard<'_, Committed> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::Money,
        order::{ledger::Books, request::ProductTerms},
    };

    fn sold_out_shop() -> Arc<Fast> {
        let terms = ProductTerms {
            product: "scarf".parse().unwrap(),
            merchant: "main".parse().unwrap(),
            price: Money { amount: 100, currency: "CNY".parse().unwrap() },
            limit_per_user: None,
            limit_per_order: None,
            on_sale_at: None,
            skus: vec![("red".parse().unwrap(), 0)],
        };
        let (mut books, fast) = (Books::default(), Fast::default());
        books.set_terms(&terms);
        fast.defined(books.find(&"red".parse().unwrap()).unwrap());
        fast.into()
    }

    #[test]
    fn a_key_that_may_have_won_is_asked_of_the_owner() {
        let (fast, key) = (sold_out_shop(), KeyId([7; 16]));
        let line = |sku: &str| vec![LineRequest { sku: sku.parse().unwrap(), quantity: 1, price: None }];
        let told = |sku: &str| fast.sold_out(&line(sku), UnixMs(0), key).is_some();
        assert!(told("red") && !told("unknown"));
        let first = fast.on_its_way(key);
        let second = fast.on_its_way(key);
        assert!(!told("red"));
        drop(first);
        assert!(!told("red"), "one of two is still on its way");
        fast.accepted(key);
        drop(second);
        assert!(!told("red"), "an accepted key is known until it is forgotten");
        fast.forgotten(key);
        assert!(told("red") && fast.keys.is_empty());
        fast.decided(&"red".parse().unwrap(), 1);
        assert!(!told("red"));
    }
}
