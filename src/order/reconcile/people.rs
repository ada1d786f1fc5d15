//! Persons: their lists of messages and orders, what counts against their limits, and the checkpoint of all that.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Difference, MessageRecord, report::Differences};
use crate::{
    id::{MerchantId, ProductId, Sub},
    order::{
        hold::Held,
        store::{Checkpoint, PersonThen},
        tx::OrderBefore,
    },
};

/// What a limit counts: pieces of a product, of one person, within one show or outside of shows.
type Tab = (u64, ProductId, Option<Arc<str>>);

#[derive(Debug, Default)]
pub(super) struct People {
    /// Everybody's name, as the first thing that she did says it; and everybody by it.
    subs: HashMap<u64, Sub>,
    numbers: HashMap<Sub, u64>,
    tallies: HashMap<u64, Tally>,
    /// The transaction that placed each merchant's newest order.
    sales: HashMap<MerchantId, u64>,
    newest_order: u64,
    /// Holds that are open now, by the transactions that made them.
    open: HashSet<u64>,
    pieces: HashMap<Tab, Pieces>,
    /// The checkpoint, until its transaction is passed.
    checkpoint: Option<Checkpoint>,
    checkpoint_tx: u64,
    /// Holds made before the checkpoint with a step after it.
    changed: HashSet<u64>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    n: u64,
    message_tx: u64,
    order_tx: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Pieces {
    /// As checkpoint and tail give them at a start.
    restored: i64,
    /// As the rows of all holds give them.
    held: i64,
}

impl People {
    pub fn expect(&mut self, checkpoint: Checkpoint, differences: &mut Differences) {
        self.checkpoint_tx = checkpoint.tx;
        for then in &checkpoint.pieces {
            let tab = (then.person, then.product.clone(), then.show.clone());
            let pieces = self.pieces.entry(tab).or_default();
            if pieces.restored != 0 || then.pieces == 0 {
                let place = format!("checkpoint, person {}, product {}", then.person, then.product);
                differences.add(|| Difference::new(place, "rows of pieces", "empty or double", "one"));
            }
            pieces.restored += i64::from(then.pieces);
        }
        self.checkpoint = Some(checkpoint);
    }

    /// The numbers before the next transaction: when the checkpoint is of them, they must be its own.
    pub fn reach(&mut self, tx: u64, differences: &mut Differences) {
        if tx > self.checkpoint_tx
            && let Some(checkpoint) = self.checkpoint.take()
        {
            self.compare(&checkpoint, differences);
        }
    }

    /// A person as something of hers names her.
    pub fn named(&mut self, tx: u64, person: u64, sub: &Sub, differences: &mut Differences) {
        let known = self.subs.len() as u64;
        let place = || format!("transaction {tx}, person {person}");
        match self.subs.get(&person) {
            Some(before) if before == sub => {}
            Some(_) => differences.add(|| Difference::new(place(), "name", "another", "as before")),
            None => {
                differences.compare(place, "number", person, known + 1);
                if self.numbers.insert(sub.clone(), person).is_some() {
                    differences.add(|| Difference::new(place(), "name", "another person's", "her own"));
                }
                self.subs.insert(person, sub.clone());
            }
        }
    }

    /// A private message: the next of its person.
    pub fn message(&mut self, tx: u64, message: &MessageRecord, differences: &mut Differences) {
        let tally = self.tallies.entry(message.person).or_default();
        let place = || format!("transaction {tx}, person {}", message.person);
        differences.compare(place, "number of the message", message.n, tally.n + 1);
        differences.compare(place, "message before", message.before, tally.message_tx);
        (tally.n, tally.message_tx) = (message.n, tx);
    }

    /// An order was placed: the newest of its buyer, of its merchant and of all.
    pub fn order(&mut self, tx: u64, held: &Held, said: Option<OrderBefore>, differences: &mut Differences) {
        let tally = self.tallies.entry(held.person).or_default();
        let of_merchant = self.sales.entry(held.merchant.clone()).or_default();
        let (of_buyer, of_all) = (&mut tally.order_tx, &mut self.newest_order);
        let newest = [of_buyer, of_merchant, of_all].map(|newest| std::mem::replace(newest, tx));
        let place = || format!("transaction {tx}, hold {}", held.id);
        let Some(OrderBefore { of_buyer, of_merchant, of_all }) = said else {
            differences.add(|| Difference::new(place(), "order before", "none", "some"));
            return;
        };
        differences.compare(place, "order of the buyer before", of_buyer, newest[0]);
        differences.compare(place, "order of the merchant before", of_merchant, newest[1]);
        differences.compare(place, "order before", of_all, newest[2]);
    }

    /// A hold was made; `counted` is what its row says now.
    pub fn made(&mut self, held: &Held, counted: &[u32]) {
        self.open.insert(held.tx);
        let in_tail = held.tx > self.checkpoint_tx;
        for (line, counted) in held.lines.iter().zip(counted) {
            if *counted == 0 {
                continue;
            }
            let pieces = self.tab(held, &line.product);
            pieces.held += i64::from(*counted);
            pieces.restored += if in_tail { i64::from(*counted) } else { 0 };
        }
    }

    /// A step of a hold: `before` counted then, `counted` is what its row says now.
    pub fn stepped(&mut self, tx: u64, held: &Held, before: &[u32], counted: &[u32], still_open: bool) {
        if !still_open {
            self.open.remove(&held.tx);
        }
        let of_checkpoint = held.tx <= self.checkpoint_tx && tx > self.checkpoint_tx;
        if !of_checkpoint || !self.changed.insert(held.tx) {
            return;
        }
        for (line, (before, now)) in held.lines.iter().zip(before.iter().zip(counted)) {
            self.tab(held, &line.product).restored += i64::from(*now) - i64::from(*before);
        }
    }

    fn tab(&mut self, held: &Held, product: &ProductId) -> &mut Pieces {
        self.pieces.entry((held.person, product.clone(), held.show.clone())).or_default()
    }

    pub fn end(&mut self, last: u64, differences: &mut Differences) {
        if self.checkpoint_tx > last {
            let said = self.checkpoint_tx;
            differences.add(|| Difference::new("checkpoint", "transaction", said, format!("{last} or before")));
        }
        self.reach(u64::MAX, differences);
        let wrong = self.pieces.iter().filter(|(_, pieces)| pieces.restored != pieces.held);
        let mut wrong: Vec<_> = wrong.collect();
        wrong.sort_unstable_by_key(|(tab, _)| *tab);
        for ((person, product, show), pieces) in wrong {
            let within = show.as_ref().map_or_else(String::new, |show| format!(", show {show}"));
            let place = || format!("person {person}, product {product}{within}");
            differences.compare(place, "pieces against limits at a start", pieces.restored, pieces.held);
        }
    }

    fn compare(&self, checkpoint: &Checkpoint, differences: &mut Differences) {
        let mut left = self.tallies.clone();
        for PersonThen { no, sub, message_n, message_tx, order_tx } in &checkpoint.people {
            let tally = left.remove(no).unwrap_or_default();
            let place = || format!("checkpoint, person {no}");
            if self.subs.get(no) != Some(sub) {
                differences.add(|| Difference::new(place(), "name", "another", "as she was named"));
            }
            differences.compare(place, "messages", *message_n, tally.n);
            differences.compare(place, "newest message", *message_tx, tally.message_tx);
            differences.compare(place, "newest order", *order_tx, tally.order_tx);
        }
        for (no, tally) in sorted(left) {
            differences.compare(|| format!("checkpoint, person {no}"), "messages", 0, tally.n);
        }
        let mut sales = self.sales.clone();
        for (merchant, said) in &checkpoint.sales {
            let found = sales.remove(merchant).unwrap_or(0);
            differences.compare(|| format!("checkpoint, merchant {merchant}"), "newest order", *said, found);
        }
        for (merchant, found) in sorted(sales) {
            differences.compare(|| format!("checkpoint, merchant {merchant}"), "newest order", 0, found);
        }
        let said: HashSet<u64> = checkpoint.open.iter().copied().collect();
        let mut wrong: Vec<_> = said.symmetric_difference(&self.open).collect();
        wrong.sort_unstable();
        for hold in wrong {
            let words = |open: bool| if open { "open" } else { "not open" };
            let (kept, found) = (words(said.contains(hold)), words(self.open.contains(hold)));
            differences.compare(|| format!("checkpoint, hold of transaction {hold}"), "state", kept, found);
        }
    }
}

fn sorted<K: Ord, V>(map: HashMap<K, V>) -> Vec<(K, V)> {
    let mut all: Vec<_> = map.into_iter().collect();
    all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    all
}
