//! The counts of each SKU, and the terms it is offered on.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::{
    id::{MerchantId, ProductId, SEQ_MAX, SkuId},
    order::{
        entry::EntryType,
        hold::Held,
        ledger::terms::Terms,
        refusal::Refusal,
        request::ProductTerms,
        tx::{Entry, OpenedSku},
    },
    protocol::{HoldLine, LineRequest, StockCount},
};

/// One SKU.
#[derive(Debug)]
pub struct Book {
    pub no: u32,
    pub sku: SkuId,
    /// The product's number in memory.
    pub product_no: u32,
    pub merchant: MerchantId,
    /// Absent until the catalogue told them in this run.
    pub terms: Option<Arc<Terms>>,
    /// Opened and adjusted pieces together.
    pub stock: u64,
    pub count: StockCount,
}

#[derive(Debug, Default)]
pub struct Books {
    books: Vec<Book>,
    by_sku: HashMap<SkuId, u32>,
    products: HashMap<ProductId, (u32, MerchantId)>,
    /// The SKUs of each product, by its number.
    of_product: Vec<Vec<u32>>,
    /// SKUs with entries since the last check.
    touched: Vec<u32>,
}

impl Books {
    pub fn book(&self, no: u32) -> &Book {
        &self.books[no as usize]
    }

    pub fn find(&self, sku: &SkuId) -> Option<&Book> {
        self.by_sku.get(sku).map(|no| self.book(*no))
    }

    /// The numbers of the lines' SKUs.
    pub fn find_all(&self, lines: &[LineRequest]) -> Result<SmallVec<[u32; 4]>, Refusal> {
        lines.iter().map(|line| self.by_sku.get(&line.sku).copied().ok_or(Refusal::UnknownSku)).collect()
    }

    /// The terms of SKUs; refused as unknown while one has none.
    pub fn terms(&self, nos: &[u32]) -> Result<SmallVec<[&Terms; 4]>, Refusal> {
        nos.iter().map(|no| self.book(*no).terms.as_deref().ok_or(Refusal::UnknownSku)).collect()
    }

    /// Moves pieces and makes the entry that says so. `None` when there are not so many.
    pub fn enter(&mut self, no: u32, kind: EntryType, quantity: i64) -> Option<Entry> {
        let book = &mut self.books[no as usize];
        book.count = kind.moves(book.count, quantity)?;
        if matches!(kind, EntryType::Opened | EntryType::Adjusted) {
            book.stock = book.stock.checked_add_signed(quantity).expect("stock holds what is available");
        }
        self.touched.push(no);
        Some(Entry { sku_no: no, kind, quantity, count: book.count, stock: book.stock })
    }

    /// Conservation: available, held and sold add up to the stock of every SKU touched since the last check.
    pub fn check(&mut self) {
        for no in self.touched.drain(..) {
            let Book { sku, stock, count, .. } = &self.books[no as usize];
            let sum = count.available + count.held + count.sold;
            assert!(sum == *stock, "the books of {sku} do not add up: {count:?} of {stock}");
        }
    }

    /// Whether `terms` may be told: no SKU or product of another merchant is taken over.
    pub fn check_terms(&self, terms: &ProductTerms) -> Result<(), Refusal> {
        if terms.price.amount < 0 {
            return Err(Refusal::malformed("price", "a price is not negative"));
        }
        if terms.skus.iter().any(|(_, stock)| *stock >= SEQ_MAX) {
            return Err(Refusal::malformed("stock", "too large"));
        }
        let known = self.products.get(&terms.product);
        if known.is_some_and(|(_, merchant)| *merchant != terms.merchant) {
            return Err(Refusal::ProductTaken);
        }
        for (index, (sku, _)) in terms.skus.iter().enumerate() {
            if terms.skus[..index].iter().any(|(other, _)| other == sku) {
                return Err(Refusal::malformed("skus", "the same SKU twice"));
            }
            let of_this = |book: &Book| known.is_some_and(|(product_no, _)| *product_no == book.product_no);
            if self.find(sku).is_some_and(|book| !of_this(book)) {
                return Err(Refusal::Taken { sku: sku.clone() });
            }
        }
        Ok(())
    }

    /// Tells terms that were checked; SKUs that are new get an empty book. SKUs that the product has no longer lose
    /// their terms.
    pub fn set_terms(&mut self, terms: &ProductTerms) -> Vec<OpenedSku> {
        let product_no = self.product(&terms.product, &terms.merchant);
        for no in &self.of_product[product_no as usize] {
            self.books[*no as usize].terms = None;
        }
        let shared = Arc::new(Terms::from(terms));
        let mut opened = Vec::new();
        for (sku, _) in &terms.skus {
            if !self.by_sku.contains_key(sku) {
                let no = u32::try_from(self.books.len()).expect("fewer than four billion SKUs");
                let (product, merchant) = (terms.product.clone(), terms.merchant.clone());
                let new = OpenedSku { no, sku: sku.clone(), product, merchant };
                self.add(&new, 0, StockCount::default());
                opened.push(new);
            }
            let no = self.by_sku[sku];
            self.books[no as usize].terms = Some(shared.clone());
        }
        opened
    }

    /// All SKUs that ever were of a product.
    pub fn of_product(&self, product: &ProductId) -> impl Iterator<Item = &Book> {
        let known = self.products.get(product);
        known.into_iter().flat_map(|(no, _)| &self.of_product[*no as usize]).map(|no| self.book(*no))
    }

    /// Whether a SKU from the store is the next by its number, of a name of its own, and of a product that no other
    /// merchant has; and its counts add up.
    pub fn takes(&self, new: &OpenedSku, stock: u64, count: StockCount) -> bool {
        let StockCount { available, held, sold, entry } = count;
        let sum = available.checked_add(held).and_then(|sum| sum.checked_add(sold));
        new.no as usize == self.books.len()
            && !self.by_sku.contains_key(&new.sku)
            && self.products.get(&new.product).is_none_or(|(_, merchant)| *merchant == new.merchant)
            && sum == Some(stock)
            && stock.max(entry) < SEQ_MAX
    }

    /// Whether a product is known, and this merchant's.
    pub fn is_product_of(&self, product: &ProductId, merchant: &MerchantId) -> bool {
        self.products.get(product).is_some_and(|(_, owner)| owner == merchant)
    }

    /// Whether each line of a hold from the store is of a SKU that is known, of its product and merchant.
    pub fn fit(&self, held: &Held) -> bool {
        let fits = |line: &HoldLine| {
            let product = self.products.get(&line.product).filter(|(_, merchant)| *merchant == held.merchant);
            let book = self.find(&line.sku);
            product.zip(book).is_some_and(|((product_no, _), book)| book.product_no == *product_no)
        };
        held.lines.iter().all(fits)
    }

    /// Every SKU, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Book> {
        self.books.iter()
    }

    /// Adds a SKU with its counts: a new one, or one from the store. They come in the order of their numbers.
    pub fn add(&mut self, new: &OpenedSku, stock: u64, count: StockCount) {
        assert_eq!(new.no as usize, self.books.len(), "SKUs are numbered without gaps");
        let product_no = self.product(&new.product, &new.merchant);
        self.of_product[product_no as usize].push(new.no);
        self.by_sku.insert(new.sku.clone(), new.no);
        self.books.push(Book {
            no: new.no,
            sku: new.sku.clone(),
            product_no,
            merchant: new.merchant.clone(),
            terms: None,
            stock,
            count,
        });
    }

    /// Every product by its number, with its merchant.
    pub fn products(&self) -> HashMap<u32, (ProductId, MerchantId)> {
        self.products.iter().map(|(product, (no, merchant))| (*no, (product.clone(), merchant.clone()))).collect()
    }

    /// The number of a product.
    pub fn product(&mut self, product: &ProductId, merchant: &MerchantId) -> u32 {
        if let Some((no, _)) = self.products.get(product) {
            return *no;
        }
        let no = u32::try_from(self.products.len()).expect("fewer than four billion products");
        self.products.insert(product.clone(), (no, merchant.clone()));
        self.of_product.push(Vec::new());
        no
    }
}
