//! Taking a ledger up again from what its store has kept, and making checkpoints of it.

use crate::{
    clock::UnixMs,
    id::Sub,
    order::{
        config::Config,
        hold::{Held, State, View},
        ledger::{Known, Ledger},
        request::Key,
        store::{Checkpoint, Damage, HoldRow, MARK_EVERY, PersonThen, PiecesThen, Restore, SkuRow},
    },
    protocol::HoldLine,
};

impl Ledger {
    /// What a start needs of everything up to the last transaction.
    pub fn checkpoint(&self) -> Checkpoint {
        let products = self.books.products();
        let subs = self.people.subs();
        let person = |(no, person): (u64, &super::people::Person)| PersonThen {
            no,
            sub: subs[no as usize - 1].clone(),
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
    /// Persons by their number; the first is number 1.
    subs: Vec<Sub>,
    /// Keys that came a second time.
    keys_again: Vec<(UnixMs, Key, Known)>,
    skus: Vec<SkuRow>,
    /// What open holds hold of each SKU, by its number.
    held: Vec<u64>,
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
        Self {
            ledger,
            subs: Vec::new(),
            keys_again: Vec::new(),
            skus: Vec::new(),
            held: Vec::new(),
            recent,
            checkpoint_tx: 0,
        }
    }

    pub fn finish(mut self) -> Restored {
        let tail = self.ledger.last - self.checkpoint_tx;
        if !self.keys_again.is_empty() {
            self.settle_keys();
        }
        Restored { ledger: self.ledger, skus: self.skus, tail }
    }

    /// Keys come in the order of their age.
    fn remember(&mut self, key: Key, known: Known, at: UnixMs) {
        if let Some(known) = self.ledger.keys.remember_new(key, known, at) {
            self.keys_again.push((at, key, known));
        }
    }

    /// A key can come twice when keys are remembered for longer than before: the younger one counts.
    fn settle_keys(&mut self) {
        let mut keys = self.ledger.keys.take_all();
        keys.append(&mut self.keys_again);
        keys.sort_by_key(|(at, _, _)| *at);
        for (at, key, known) in keys.into_iter().rev() {
            let hold = if let Known::Hold(id) = known { Some(id) } else { None };
            if let (false, Some(hold)) = (self.ledger.keys.remember_older(key, known, at), hold) {
                self.ledger.holds.forget(&hold, self.ledger.now);
            }
        }
    }

    /// What open holds hold is what is held.
    fn check_held(&self) -> Result<(), Damage> {
        let of = |no: u32| self.held.get(no as usize).copied().unwrap_or(0);
        match self.ledger.books.iter().find(|book| book.count.held != of(book.no)) {
            None => Ok(()),
            Some(book) => {
                let (sku, counted, held) = (&book.sku, book.count.held, of(book.no));
                Err(Damage(format!("sku {}: {sku} has {counted} held, its open holds have {held}", book.no)))
            }
        }
    }

    /// Counts what an open hold holds. Of one from before the checkpoint, that counts against its buyer's limits.
    fn held(&mut self, held: &Held, earlier: bool) -> Result<(), Damage> {
        for line in held.lines.iter() {
            let Some(book) = self.ledger.books.find(&line.sku) else { continue };
            let at = book.no as usize;
            self.held.resize(self.held.len().max(at + 1), 0);
            self.held[at] += u64::from(line.quantity);
            let people = &mut self.ledger.people;
            if earlier && !people.see(held.person, book.product_no, held.show.as_ref(), line.quantity) {
                let person = held.person;
                return Err(Damage(format!("person {person}: more is held than counts against the limits")));
            }
        }
        Ok(())
    }

    fn sub(&self, person: u64) -> Result<&Sub, Damage> {
        let at = usize::try_from(person).ok().and_then(|no| no.checked_sub(1));
        at.and_then(|at| self.subs.get(at)).ok_or_else(|| Damage(format!("person {person} is missing")))
    }

    fn check_hold(&self, held: &Held) -> Result<(), Damage> {
        if self.sub(held.person)? != &held.sub {
            return Err(Damage("its buyer is another".to_owned()));
        }
        if self.ledger.books.fit(held) { Ok(()) } else { Err(Damage("its lines are not on sale".to_owned())) }
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
    fn count(&mut self, held: &Held, before: &[u32], now: &[u32]) -> Result<(), Damage> {
        for (line, (before, now)) in held.lines.iter().zip(before.iter().zip(now)) {
            let product = self.ledger.books.product(&line.product, &held.merchant);
            let (person, show, people) = (held.person, held.show.as_ref(), &mut self.ledger.people);
            if now > before {
                people.count(person, product, show, now - before);
            } else if now < before && !people.give_back(person, product, show, before - now) {
                return Err(Damage("more is given back than counted against a limit".to_owned()));
            }
        }
        Ok(())
    }

    /// Into memory goes what is open or recent.
    fn keep(&mut self, view: View, key: Key, earlier: bool) -> Result<(), Damage> {
        let open = view.standing.state == State::Held;
        let (id, made_at) = (view.held.id, view.held.made_at);
        let recent = made_at > self.recent;
        if open {
            self.ledger.people.known(view.held.person).open += 1;
            self.held(&view.held, earlier)?;
        }
        if recent {
            self.remember(key, Known::Hold(id), made_at);
        }
        if (open || recent) && !self.ledger.holds.add(view, recent) {
            return Err(Damage(format!("hold {id} is there twice")));
        }
        Ok(())
    }
}

impl Restore for Restorer {
    fn person(&mut self, no: u64, sub: Sub) -> Result<(), Damage> {
        self.subs.push(sub.clone());
        let fits = self.ledger.people.restore(no, sub);
        if fits { Ok(()) } else { Err(Damage("one before is missing, or has the same name".to_owned())) }
    }

    fn sku(&mut self, row: SkuRow) -> Result<(), Damage> {
        let (stock, count) = (row.head.stock, row.head.count);
        if !self.ledger.books.takes(&row.sku, stock, count) {
            let sku = &row.sku.sku;
            return Err(Damage(format!("{sku} is out of place, or does not add up: {count:?} of {stock}")));
        }
        if row.marks.len() as u64 != count.entry / MARK_EVERY || !row.marks.is_sorted() {
            return Err(Damage(format!("{} has {} marks for {} entries", row.sku.sku, row.marks.len(), count.entry)));
        }
        self.ledger.books.add(&row.sku, stock, count);
        self.skus.push(row);
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), Damage> {
        self.checkpoint_tx = checkpoint.tx;
        if let Some((no, _)) = (1..).zip(&checkpoint.people).find(|(no, then)| then.no != *no) {
            return Err(Damage(format!("the checkpoint does not know person {no}")));
        }
        let places = checkpoint.people.iter().map(|then| then.message_tx.max(then.order_tx));
        let places = places.chain(checkpoint.sales.iter().map(|(_, tx)| *tx)).chain(checkpoint.open.iter().copied());
        if let Some(later) = places.max().filter(|tx| *tx > checkpoint.tx) {
            return Err(Damage(format!("the checkpoint is of transaction {}, and names {later}", checkpoint.tx)));
        }
        for then in checkpoint.people {
            self.message(then.no, then.message_tx, then.message_n)?;
            self.ledger.people.known(then.no).order_tx = then.order_tx;
        }
        for then in checkpoint.pieces {
            self.sub(then.person)?;
            if !self.ledger.books.is_product_of(&then.product, &then.merchant) {
                return Err(Damage(format!("the checkpoint counts pieces of {}, which nobody sells", then.product)));
            }
            let product = self.ledger.books.product(&then.product, &then.merchant);
            self.ledger.people.count(then.person, product, then.show.as_ref(), then.pieces);
        }
        let sales = &mut self.ledger.sales;
        sales.of_all = checkpoint.sales.iter().map(|(_, tx)| *tx).max().unwrap_or(0);
        sales.of_merchant = checkpoint.sales.into_iter().collect();
        Ok(())
    }

    fn earlier_hold(&mut self, row: HoldRow) -> Result<(), Damage> {
        self.check_hold(&row.held)?;
        self.keep(View { held: row.held, standing: row.standing }, row.key, true)
    }

    fn changed_hold(&mut self, row: HoldRow, counted: &[u32]) -> Result<(), Damage> {
        self.check_hold(&row.held)?;
        let view = View { held: row.held, standing: row.standing };
        let possible = |(line, counted): (&HoldLine, &u32)| *counted <= line.quantity;
        if counted.len() != view.held.lines.len() || !view.held.lines.iter().zip(counted).all(possible) {
            return Err(Damage(format!("the counted pieces of hold {} are not those of its lines", view.held.tx)));
        }
        self.placed(&view);
        self.count(&view.held, counted, &view.standing.counted(&view.held))
    }

    fn hold(&mut self, row: HoldRow) -> Result<(), Damage> {
        self.check_hold(&row.held)?;
        self.message(row.held.person, row.held.tx, row.n)?;
        let view = View { held: row.held, standing: row.standing };
        self.placed(&view);
        let none = vec![0; view.held.lines.len()];
        self.count(&view.held, &none, &view.standing.counted(&view.held))?;
        self.keep(view, row.key, false)
    }

    fn message(&mut self, person: u64, tx: u64, n: u64) -> Result<(), Damage> {
        let person = self.ledger.people.get_mut(person).ok_or_else(|| Damage(format!("person {person} is missing")))?;
        if tx > person.message_tx {
            (person.message_tx, person.message_n) = (tx, n);
        }
        Ok(())
    }

    fn key(&mut self, key: Key, known: Known, at: UnixMs) {
        if at > self.recent {
            self.remember(key, known, at);
        }
    }

    fn last(&mut self, tx: u64, at: UnixMs) -> Result<(), Damage> {
        (self.ledger.last, self.ledger.now) = (tx, at);
        if tx < self.checkpoint_tx {
            return Err(Damage(format!("the checkpoint is of transaction {}, the last is {tx}", self.checkpoint_tx)));
        }
        self.check_held()
    }
}
