//! The ledger: decides every command, in memory, in order.
//!
//! Pure: it is told the time, does no I/O and knows no thread. What it decides comes out as a [`Tx`] that the journal
//! commits; until that is done nobody may be told. A refused command changes nothing. It owns the counts, the holds
//! that are open or whose keys are remembered, and who has how much of what.

mod books;
mod ending;
mod holds;
mod keys;
mod making;
#[cfg(test)]
mod oracle;
mod people;
mod refund;
mod restore;
mod stock;
mod terms;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use smallvec::SmallVec;

pub use self::{
    books::{Book, Books},
    keys::Known,
    restore::{Restored, Restorer},
    terms::{Terms, offer},
};
use self::{holds::Holds, keys::Keys, people::People};
use crate::{
    clock::UnixMs,
    id::{MerchantId, Sub},
    order::{
        config::Config,
        entry::EntryType,
        hold::{Held, Step, View},
        request::{Key, KeyId, Party},
        tx::{Entries, HoldStep, Notice, OrderBefore, Tx, What},
    },
    protocol::HoldLine,
};

/// What the ledger decided.
#[derive(Debug)]
pub struct Decided<T> {
    pub answer: T,
    /// The command was accepted before; this is its answer again.
    pub replayed: bool,
    pub tx: Option<Tx>,
}

impl<T> Decided<T> {
    fn anew(answer: T, tx: Tx) -> Self {
        Self { answer, replayed: false, tx: Some(tx) }
    }

    fn again(answer: T) -> Self {
        Self { answer, replayed: true, tx: None }
    }
}

/// The transactions that placed the newest orders; 0 is none.
#[derive(Debug, Default)]
struct Sales {
    of_merchant: HashMap<MerchantId, u64>,
    of_all: u64,
}

#[derive(Debug)]
pub struct Ledger {
    config: Config,
    /// The latest time that it was told: time does not go back.
    now: UnixMs,
    /// The number of the last transaction.
    last: u64,
    /// No new holds: the disk is nearly full.
    closed: bool,
    books: Books,
    people: People,
    holds: Holds,
    keys: Keys,
    sales: Sales,
    /// Those of the last hold that was made.
    lines_before: Option<Arc<[HoldLine]>>,
}

impl Ledger {
    pub fn new(config: Config) -> Self {
        let expected = config.holds_expected;
        Self {
            now: UnixMs(0),
            last: 0,
            closed: false,
            books: Books::default(),
            people: People::new(expected),
            holds: Holds::new(expected),
            keys: Keys::new(expected),
            sales: Sales::default(),
            lines_before: None,
            config,
        }
    }

    /// With `closed`, new holds are refused with `busy`; all else goes on.
    pub fn close(&mut self, closed: bool) {
        self.closed = closed;
    }

    pub fn books(&self) -> &Books {
        &self.books
    }

    pub fn open_holds(&self) -> usize {
        self.holds.open()
    }

    /// No hold expires before this.
    pub fn earliest_due(&self) -> Option<UnixMs> {
        self.holds.earliest_due()
    }

    /// Asserts that available, held and sold of every SKU touched since the last check add up to its stock.
    pub fn check(&mut self) {
        self.books.check();
    }

    fn tick(&mut self, now: UnixMs) -> UnixMs {
        self.now = self.now.max(now);
        self.now
    }

    /// The next transaction. Called once a command is accepted.
    fn tx(&mut self, at: UnixMs, entries: Entries, key: Option<Key>, what: What) -> Tx {
        self.last += 1;
        Tx { no: self.last, at, entries, key, what }
    }

    /// One entry for each line of a hold. `None`, and nothing done, when a line has not so many pieces.
    fn move_lines(&mut self, held: &Held, kind: EntryType) -> Option<Entries> {
        let nos: SmallVec<[u32; 4]> =
            held.lines.iter().map(|line| self.books.find(&line.sku).expect("a held SKU").no).collect();
        self.enter_lines(held, &nos, kind)
    }

    /// As [`Ledger::move_lines`], with the numbers of the lines' SKUs.
    fn enter_lines(&mut self, held: &Held, nos: &[u32], kind: EntryType) -> Option<Entries> {
        let possible =
            |(line, no): (&HoldLine, &u32)| kind.moves(self.books.book(*no).count, line.quantity.into()).is_some();
        if !held.lines.iter().zip(nos).all(possible) {
            return None;
        }
        let entries = held.lines.iter().zip(nos).map(|(line, no)| self.books.enter(*no, kind, line.quantity.into()));
        Some(entries.map(|entry| entry.expect("a move that was checked")).collect())
    }

    fn count_lines(&mut self, held: &Held) {
        for line in held.lines.iter() {
            let product = self.books.product(&line.product, &held.merchant);
            self.people.count(held.person, product, held.show.as_ref(), line.quantity);
        }
    }

    fn give_back_lines(&mut self, held: &Held) {
        for line in held.lines.iter() {
            let product = self.books.product(&line.product, &held.merchant);
            let counted = self.people.give_back(held.person, product, held.show.as_ref(), line.quantity);
            if !counted {
                tracing::error!(hold = %held.id, "more is given back than counted against a limit");
            }
        }
    }

    /// The transaction of a hold's step, with its private message and its place in the lists.
    fn step(&mut self, step: Step, view: &View, entries: Entries, at: UnixMs, extra: StepExtra) -> Tx {
        let no = self.last + 1;
        let person = self.people.known(view.held.person);
        person.message_n += 1;
        let (n, message_before) = (person.message_n, std::mem::replace(&mut person.message_tx, no));
        let places = matches!(step, Step::Paid | Step::RefundDue);
        let order_before = places.then(|| {
            let of_merchant = self.sales.of_merchant.entry(view.held.merchant.clone()).or_default();
            OrderBefore {
                of_buyer: std::mem::replace(&mut person.order_tx, no),
                of_merchant: std::mem::replace(of_merchant, no),
                of_all: std::mem::replace(&mut self.sales.of_all, no),
            }
        });
        let notice = extra.tell.filter(|sub| *sub != view.held.sub).map(|sub| Box::new(self.notice(sub, no)));
        let what = What::Hold(HoldStep {
            step,
            held: view.held.clone(),
            standing: view.standing.clone(),
            counted_before: extra.counted_before,
            new_person: extra.new_person,
            n,
            message_before,
            order_before,
            notice,
            reason: extra.reason,
        });
        self.tx(at, entries, extra.key, what)
    }

    fn notice(&mut self, sub: Sub, no: u64) -> Notice {
        let known = self.people.number(&sub);
        let no_of_person = known.unwrap_or_else(|| self.people.add(sub.clone()));
        let person = self.people.known(no_of_person);
        person.message_n += 1;
        let message_before = std::mem::replace(&mut person.message_tx, no);
        Notice { person: no_of_person, new_person: known.is_none(), n: person.message_n, message_before, sub }
    }

    /// Forgets up to `max` keys whose time is over, and holds that only waited for them. Returns those of holds.
    pub fn forget(&mut self, now: UnixMs, max: usize) -> Vec<KeyId> {
        let now = self.tick(now);
        let until = UnixMs(now.0.saturating_sub(self.config.key_time().as_millis() as i64));
        let mut forgotten = Vec::new();
        for _ in 0..max {
            let Some((key, known)) = self.keys.forget_one(until) else { break };
            if let Known::Hold(id) = known {
                self.holds.forget(&id, now);
                forgotten.push(key);
            }
        }
        self.holds.dismiss(now, max);
        forgotten
    }

    /// Takes in a closed hold that was read from the store at `read_at`, so that a command can change it.
    pub fn invite(&mut self, view: View, read_at: UnixMs, now: UnixMs) {
        let now = self.tick(now);
        if self.books.fit(&view.held) && self.people.number(&view.held.sub) == Some(view.held.person) {
            self.holds.invite(view, read_at, now);
        } else {
            tracing::error!(hold = %view.held.id, "the store has a hold of what nobody sells");
        }
    }

    /// Keys of holds that are remembered.
    pub fn hold_keys(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keys.iter().filter(|(_, known)| matches!(known, Known::Hold(_))).map(|(key, _)| *key)
    }

    /// The transaction of a person's newest message; 0 is none.
    pub fn newest_message(&self, sub: &Sub) -> u64 {
        self.people.find(sub).map_or(0, |person| person.message_tx)
    }

    /// The transaction that placed the newest order that `by` may see; 0 is none.
    pub fn newest_order(&self, by: &Party) -> u64 {
        match by {
            Party::Buyer(sub) => self.people.find(sub).map_or(0, |person| person.order_tx),
            Party::Merchant { merchant, .. } => self.sales.of_merchant.get(merchant).copied().unwrap_or(0),
            Party::Admin { .. } => self.sales.of_all,
        }
    }
}

#[derive(Default)]
struct StepExtra {
    counted_before: Box<[u32]>,
    key: Option<Key>,
    new_person: bool,
    /// Who hears of it beside the buyer.
    tell: Option<Sub>,
    reason: Option<Arc<str>>,
}

impl StepExtra {
    /// Of a step that follows `before`.
    fn after(before: &View) -> Self {
        Self { counted_before: before.standing.counted(&before.held), ..Self::default() }
    }
}
