//! Stock: opened by the catalogue, changed by people.

use crate::{
    clock::UnixMs,
    id::SkuId,
    order::{
        entry::EntryType,
        ledger::{Decided, Known, Ledger},
        refusal::Refusal,
        request::{AdjustAsk, ProductTerms, StockChange},
        tx::{Entries, Entry, What},
    },
    protocol::StockCount,
};

impl Ledger {
    /// Tells a product's terms and opens the stock of its SKUs that are new.
    pub fn define(&mut self, terms: &ProductTerms, now: UnixMs) -> Result<Decided<Vec<(SkuId, StockCount)>>, Refusal> {
        let now = self.tick(now);
        self.books.check_terms(terms)?;
        let opened = self.books.set_terms(terms);
        let entries: Entries = opened.iter().map(|new| self.opening(new.no, &new.sku, terms)).collect();
        let counts = terms.skus.iter().map(|(sku, _)| (sku.clone(), self.books.find(sku).expect("it is set").count));
        let counts = counts.collect();
        if opened.is_empty() {
            return Ok(Decided { answer: counts, replayed: false, tx: None });
        }
        let tx = self.tx(now, entries, None, What::Opened(opened));
        Ok(Decided::anew(counts, tx))
    }

    fn opening(&mut self, no: u32, sku: &SkuId, terms: &ProductTerms) -> Entry {
        let stock = terms.skus.iter().find(|(s, _)| s == sku).map_or(0, |(_, stock)| *stock);
        let stock = i64::try_from(stock).expect("a stock that was checked");
        self.books.enter(no, EntryType::Opened, stock).expect("a stock that was checked")
    }

    /// Changes the stock of a SKU. Refused below what is held and sold.
    pub fn adjust(&mut self, ask: &AdjustAsk, now: UnixMs) -> Result<Decided<StockCount>, Refusal> {
        let now = self.tick(now);
        let known = self.books.find(&ask.sku).filter(|book| ask.by.owns(&book.merchant));
        let book = known.ok_or(Refusal::UnknownSku)?;
        match self.keys.recall(ask.key)? {
            None => {}
            Some(Known::Adjust(count)) => return Ok(Decided::again(*count)),
            Some(_) => return Err(Refusal::KeyReused),
        }
        self.check_room_for_key()?;
        let delta = match ask.change {
            StockChange::Delta(delta) => delta,
            StockChange::Set(stock) => stock as i64 - book.stock as i64,
        };
        let (no, StockCount { held, sold, .. }) = (book.no, book.count);
        let below = delta < 0 && delta.unsigned_abs() > book.count.available;
        let Some(entry) = self.books.enter(no, EntryType::Adjusted, delta) else {
            let too_large = Refusal::malformed("delta", "too large");
            return Err(if below { Refusal::StockBelowHeld { held, sold } } else { too_large });
        };
        let count = entry.count;
        self.keys.remember(ask.key, Known::Adjust(count), now);
        let what = What::Adjusted { sku: ask.sku.clone(), reason: ask.reason.clone(), count };
        let tx = self.tx(now, Entries::from_iter([entry]), Some(ask.key), what);
        Ok(Decided::anew(count, tx))
    }
}
