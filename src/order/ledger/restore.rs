//! Taking a ledger up again from what its store has kept.

use crate::{
    clock::UnixMs,
    id::Sub,
    order::{
        config::Config,
        hold::{State, View},
        ledger::{Known, Ledger},
        request::Key,
        store::{HoldRow, Restore, SkuRow},
    },
};

/// A ledger that is being taken up.
pub struct Restorer {
    ledger: Ledger,
    /// Persons by their number.
    subs: Vec<Option<Sub>>,
    keys: Vec<(UnixMs, Key, Known)>,
    skus: Vec<SkuRow>,
    recent: UnixMs,
}

impl Restorer {
    /// Keys accepted at or before `recent` are forgotten.
    pub fn new(config: Config, recent: UnixMs) -> Self {
        Self { ledger: Ledger::new(config), subs: Vec::new(), keys: Vec::new(), skus: Vec::new(), recent }
    }

    /// The ledger, and where the chains of its SKUs end.
    pub fn finish(mut self) -> (Ledger, Vec<SkuRow>) {
        self.keys.sort_by_key(|(at, _, _)| *at);
        for (at, key, known) in self.keys {
            self.ledger.keys.remember(key, known, at);
        }
        (self.ledger, self.skus)
    }

    fn placed(&mut self, view: &View) {
        let Some(placed) = &view.standing.placed else { return };
        let sales = &mut self.ledger.sales;
        let of_merchant = sales.of_merchant.entry(view.held.merchant.clone()).or_default();
        *of_merchant = placed.tx.max(*of_merchant);
        sales.of_all = placed.tx.max(sales.of_all);
        let person = self.ledger.people.known(&view.held.sub);
        person.order_tx = placed.tx.max(person.order_tx);
    }

    fn count(&mut self, view: &View) {
        let held = &view.held;
        for (index, line) in held.lines.iter().enumerate() {
            let pieces = view.standing.counted(held, index);
            if pieces > 0 {
                let product = self.ledger.books.product(&line.product, &held.merchant);
                self.ledger.people.count(held.person, product, held.show.as_ref(), pieces);
            }
        }
    }
}

impl Restore for Restorer {
    fn person(&mut self, no: u64, sub: Sub) {
        let at = no as usize;
        if self.subs.len() <= at {
            self.subs.resize(at + 1, None);
        }
        self.subs[at] = Some(sub.clone());
        self.ledger.people.restore(no, sub);
    }

    fn sku(&mut self, row: SkuRow) {
        self.ledger.books.add(&row.sku, row.head.stock, row.head.count);
        self.skus.push(row);
    }

    fn hold(&mut self, row: HoldRow) {
        self.message(row.held.person, row.held.tx, row.n);
        let (id, made_at) = (row.held.id, row.held.made_at);
        let view = View { held: row.held.into(), standing: row.standing };
        self.placed(&view);
        self.count(&view);
        let open = view.standing.state == State::Held;
        if open {
            self.ledger.people.known(&view.held.sub).open += 1;
        }
        let recent = made_at > self.recent;
        if recent {
            self.keys.push((made_at, row.key, Known::Hold(id)));
        }
        if open || recent {
            self.ledger.holds.add(view, recent);
        }
    }

    fn message(&mut self, person: u64, tx: u64, n: u64) {
        let Some(sub) = self.subs.get(person as usize).and_then(Option::as_ref) else { return };
        let person = self.ledger.people.known(sub);
        if tx > person.message_tx {
            (person.message_tx, person.message_n) = (tx, n);
        }
    }

    fn key(&mut self, key: Key, known: Known, at: UnixMs) {
        if at > self.recent {
            self.keys.push((at, key, known));
        }
    }

    fn last(&mut self, tx: u64, at: UnixMs) {
        self.ledger.last = tx;
        self.ledger.now = at;
    }
}
