//! Taking a ledger up again from what its store has kept, and making checkpoints of it.

use crate::{
    clock::UnixMs,
    id::Sub,
    order::{
        config::Config,
        hold::{Held, State, View},
        ledger::{Known, Ledger},
        request::Key,
        store::{Checkpoint, HoldRow, PersonThen, PiecesThen, Restore, SkuRow},
    },
};

impl Ledger {
    /// What a start needs of everything up to the last transaction.
    pub fn checkpoint(&self) -> Checkpoint {
        let products = self.books.products();
        let person = |(no, person): (u64, &super::people::Person)| PersonThen {
            no,
            message_n: person.message_n,
            message_tx: person.message_tx,
            order_tx: person.order_tx,
        };
        let pieces = self.people.all_pieces().map(|(person, product, show, pieces)| {
            let (product, merchant) = products[&product].clone();
            PiecesThen { person, product, merchant, show, pieces }
        });
        let mut checkpoint = Checkpoint {
            tx: self.last,
            people: self.people.iter().map(person).collect(),
            pieces: pieces.collect(),
            sales: self.sales.of_merchant.iter().map(|(merchant, tx)| (merchant.clone(), *tx)).collect(),
            open: self.holds.all_open().map(|view| view.held.tx).collect(),
        };
        // In the order of the tables' rows.
        checkpoint.people.sort_unstable();
        checkpoint.open.sort_unstable();
        checkpoint
    }

    /// The number of the last transaction.
    pub fn last_tx(&self) -> u64 {
        self.last
    }
}

/// A ledger that is being taken up.
pub struct Restorer {
    ledger: Ledger,
    keys: Vec<(UnixMs, Key, Known)>,
    skus: Vec<SkuRow>,
    recent: UnixMs,
    checkpoint_tx: u64,
}

/// A ledger taken up.
pub struct Restored {
    pub ledger: Ledger,
    /// Where the chains of its SKUs end.
    pub skus: Vec<SkuRow>,
    /// Transactions since the checkpoint.
    pub tail: u64,
}

impl Restorer {
    /// Keys accepted at or before `recent` are forgotten.
    pub fn new(config: Config, recent: UnixMs) -> Self {
        let ledger = Ledger::new(config);
        Self { ledger, keys: Vec::new(), skus: Vec::new(), recent, checkpoint_tx: 0 }
    }

    pub fn finish(mut self) -> Restored {
        self.keys.sort_by_key(|(at, _, _)| *at);
        for (at, key, known) in self.keys {
            self.ledger.keys.remember(key, known, at);
        }
        let tail = self.ledger.last - self.checkpoint_tx;
        Restored { ledger: self.ledger, skus: self.skus, tail }
    }

    fn placed(&mut self, view: &View) {
        let Some(placed) = &view.standing.placed else { return };
        let sales = &mut self.ledger.sales;
        let of_merchant = sales.of_merchant.entry(view.held.merchant.clone()).or_default();
        *of_merchant = placed.tx.max(*of_merchant);
        sales.of_all = placed.tx.max(sales.of_all);
        let person = self.ledger.people.known(view.held.person);
        person.order_tx = placed.tx.max(person.order_tx);
    }

    /// Counts what changed from `before` to `now` in a hold's lines.
    fn count(&mut self, held: &Held, before: &[u32], now: &[u32]) {
        for (line, (before, now)) in held.lines.iter().zip(before.iter().zip(now)) {
            let product = self.ledger.books.product(&line.product, &held.merchant);
            let (person, show) = (held.person, held.show.as_ref());
            if now > before {
                self.ledger.people.count(person, product, show, now - before);
            } else if now < before {
                self.ledger.people.give_back(person, product, show, before - now);
            }
        }
    }

    /// Into memory goes what is open or recent.
    fn keep(&mut self, view: View, key: Key) {
        let open = view.standing.state == State::Held;
        let (id, made_at) = (view.held.id, view.held.made_at);
        let recent = made_at > self.recent;
        if open {
            self.ledger.people.known(view.held.person).open += 1;
        }
        if recent {
            self.keys.push((made_at, key, Known::Hold(id)));
        }
        if open || recent {
            self.ledger.holds.add(view, recent);
        }
    }
}

impl Restore for Restorer {
    fn person(&mut self, no: u64, sub: Sub) {
        assert_eq!(no, self.ledger.people.len() + 1, "persons are numbered without gaps");
        self.ledger.people.add(sub);
    }

    fn sku(&mut self, row: SkuRow) {
        self.ledger.books.add(&row.sku, row.head.stock, row.head.count);
        self.skus.push(row);
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) {
        self.checkpoint_tx = checkpoint.tx;
        for then in checkpoint.people {
            self.message(then.no, then.message_tx, then.message_n);
            if let Some(person) = self.ledger.people.get_mut(then.no) {
                person.order_tx = then.order_tx;
            }
        }
        for then in checkpoint.pieces {
            let product = self.ledger.books.product(&then.product, &then.merchant);
            self.ledger.people.count(then.person, product, then.show.as_ref(), then.pieces);
        }
        let sales = &mut self.ledger.sales;
        sales.of_all = checkpoint.sales.iter().map(|(_, tx)| *tx).max().unwrap_or(0);
        sales.of_merchant = checkpoint.sales.into_iter().collect();
    }

    fn earlier_hold(&mut self, row: HoldRow) {
        self.keep(View { held: row.held.into(), standing: row.standing }, row.key);
    }

    fn changed_hold(&mut self, row: HoldRow, counted: &[u32]) {
        let view = View { held: row.held.into(), standing: row.standing };
        self.placed(&view);
        self.count(&view.held, counted, &view.standing.counted(&view.held));
    }

    fn hold(&mut self, row: HoldRow) {
        self.message(row.held.person, row.held.tx, row.n);
        let view = View { held: row.held.into(), standing: row.standing };
        self.placed(&view);
        let none = vec![0; view.held.lines.len()];
        self.count(&view.held, &none, &view.standing.counted(&view.held));
        self.keep(view, row.key);
    }

    fn message(&mut self, person: u64, tx: u64, n: u64) {
        let Some(person) = self.ledger.people.get_mut(person) else { return };
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
