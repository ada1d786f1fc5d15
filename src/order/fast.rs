//! What callers may know without asking the owner thread: counts, and that something is sold out.
//!
//! "Sold out" may be told at once, but never to who holds a piece: a key that was accepted, or that is on its way to
//! the owner, goes to the owner. The owner makes a key known before it takes the piece away, and callers look in the
//! other order.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::{
    clock::UnixMs,
    id::{MerchantId, SkuId},
    order::{
        chain::{Committed, Grown},
        entry::Digest,
        known_keys::KnownKeys,
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

#[derive(Debug)]
pub struct Fast {
    /// Read by every caller and changed seldom: readers share it without counting themselves.
    faces: ArcSwap<HashMap<SkuId, Arc<Face>>>,
    /// Keys that were accepted, and those of requests that are on their way.
    keys: KnownKeys,
}

impl Fast {
    pub fn new(keys_max: usize) -> Self {
        Self { faces: ArcSwap::default(), keys: KnownKeys::new(keys_max) }
    }

    fn face(&self, sku: &SkuId) -> Option<Arc<Face>> {
        self.faces.load().get(sku).cloned()
    }

    fn add(&self, new: impl IntoIterator<Item = (SkuId, Arc<Face>)>) {
        let mut faces = HashMap::clone(&self.faces.load());
        faces.extend(new);
        self.faces.store(Arc::new(faces));
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
        let known = self.faces.load();
        let faces: SmallVec<[&Face; 4]> =
            lines.iter().map(|line| known.get(&line.sku).map(Arc::as_ref)).collect::<Option<_>>()?;
        let short = lines.iter().zip(&faces).find_map(|(line, face)| {
            let available = face.available.load(Ordering::Acquire);
            (available < u64::from(line.quantity)).then(|| Refusal::SoldOut { sku: line.sku.clone(), available })
        })?;
        let terms: SmallVec<[_; 4]> = faces.iter().map(|face| face.terms.load()).collect();
        let terms: SmallVec<[&Terms; 4]> = terms.iter().map(|terms| terms.as_deref()).collect::<Option<_>>()?;
        offer(lines, &terms, now).ok()?;
        (!self.keys.may_have(key)).then_some(short)
    }

    /// From now until it has arrived, the key is asked of the owner.
    pub fn on_its_way(&self, key: KeyId) {
        self.keys.add(key);
    }

    /// The owner has decided on the key, or will never hear of it.
    pub fn arrived(&self, key: KeyId) {
        self.keys.take_back(key);
    }

    /// An accepted hold's key. Told before its stock is taken away here.
    pub fn accepted(&self, key: KeyId) {
        self.keys.add(key);
    }

    pub fn forgotten(&self, key: KeyId) {
        self.keys.take_back(key);
    }

    /// A SKU's book after its terms were told.
    pub fn defined(&self, book: &Book) -> Arc<Face> {
        let face = self.face(&book.sku).unwrap_or_else(|| {
            let new = Arc::new(Face::new(book.merchant.clone(), book.count.available));
            self.add([(book.sku.clone(), new.clone())]);
            new
        });
        face.terms.store(book.terms.clone());
        face
    }

    /// SKUs as they were taken up, in the order of their numbers; returns their faces in the same.
    pub fn restored(&self, skus: impl Iterator<Item = (OpenedSku, Committed)>) -> Vec<Arc<Face>> {
        let face = |(sku, committed): (OpenedSku, Committed)| {
            let face = Face::new(sku.merchant, committed.count.available);
            *face.committed() = committed;
            (sku.sku, Arc::new(face))
        };
        let faces: Vec<_> = skus.map(face).collect();
        let by_number = faces.iter().map(|(_, face)| face.clone()).collect();
        self.add(faces);
        by_number
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

    /// What the owner decided, committed or not.
    pub fn decided(&self, available: u64) {
        self.available.store(available, Ordering::Release);
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

    fn sold_out_shop() -> Fast {
        let terms = ProductTerms {
            product: "scarf".parse().unwrap(),
            merchant: "main".parse().unwrap(),
            price: Money { amount: 100, currency: "CNY".parse().unwrap() },
            limit_per_user: None,
            limit_per_order: None,
            on_sale_at: None,
            skus: vec![("red".parse().unwrap(), 0)],
        };
        let (mut books, fast) = (Books::default(), Fast::new(1_024));
        books.set_terms(&terms);
        fast.defined(books.find(&"red".parse().unwrap()).unwrap());
        fast
    }

    #[test]
    fn a_key_that_may_have_won_is_asked_of_the_owner() {
        let (fast, key) = (sold_out_shop(), KeyId([7; 16]));
        let line = |sku: &str| vec![LineRequest { sku: sku.parse().unwrap(), quantity: 1, price: None }];
        let told = |sku: &str| fast.sold_out(&line(sku), UnixMs(0), key).is_some();
        assert!(told("red") && !told("unknown"));
        fast.on_its_way(key);
        fast.on_its_way(key);
        assert!(!told("red"));
        fast.arrived(key);
        assert!(!told("red"), "one of two is still on its way");
        fast.accepted(key);
        fast.arrived(key);
        assert!(!told("red"), "an accepted key is known until it is forgotten");
        fast.forgotten(key);
        assert!(told("red"));
        fast.face(&"red".parse().unwrap()).unwrap().decided(1);
        assert!(!told("red"));
    }
}
