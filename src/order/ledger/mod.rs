//! The ledger: decides every command, in memory, in order.
//!
//! Pure: it is told the time, does no I/O and knows no thread. What it decides comes out as a [`Tx`] that the journal
//! commits; until that is done nobody may be told. A refused command changes nothing. It owns the counts, the holds that
//! are open or whose keys are remembered, and who has how much of what.

mod books;
mod holds;
mod keys;
#[cfg(test)]
mod oracle;
mod people;
mod refund;
mod restore;
mod terms;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use uuid::Builder;

pub use self::{
    books::Books,
    keys::Known,
    restore::Restorer,
    terms::{Terms, offer},
};
use self::{holds::Holds, keys::Keys, people::People};
use crate::{
    clock::UnixMs,
    id::{HoldId, MerchantId, Money, SkuId, Sub},
    order::{
        config::Config,
        entry::EntryType,
        hold::{Held, Placed, Standing, State, Step, View},
        refusal::Refusal,
        request::{AdjustAsk, HoldAsk, Key, KeyId, Party, ProductTerms, StockChange},
        tx::{Entry, HoldStep, OrderBefore, Tx, What},
    },
    protocol::StockCount,
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

    /// When the next hold is to expire.
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
    fn tx(&mut self, at: UnixMs, entries: Vec<Entry>, key: Option<Key>, what: What) -> Tx {
        self.last += 1;
        Tx { no: self.last, at, entries, key, what }
    }

    /// Tells a product's terms and opens the stock of its SKUs that are new.
    pub fn define(&mut self, terms: &ProductTerms, now: UnixMs) -> Result<Decided<Vec<(SkuId, StockCount)>>, Refusal> {
        let now = self.tick(now);
        self.books.check_terms(terms)?;
        let opened = self.books.set_terms(terms);
        let entries: Vec<_> = opened.iter().map(|new| self.opening(new.no, &new.sku, terms)).collect();
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

    /// Sets stock aside for one buyer.
    pub fn hold(&mut self, ask: &HoldAsk, now: UnixMs) -> Result<Decided<View>, Refusal> {
        let now = self.tick(now);
        let skus = self.books.find_all(&ask.lines)?;
        if let Some(known) = self.keys.recall(ask.key)? {
            return self.first_answer(known).map(Decided::again);
        }
        let terms = self.books.terms(&skus)?;
        let total = offer(&ask.lines, &terms, now)?;
        self.check_limits(ask, &skus, &terms)?;
        self.check_stock(ask, &skus)?;
        if self.closed || self.holds.open() >= self.config.holds_open_max {
            return Err(Refusal::BUSY);
        }
        self.check_room_for_key()?;
        Ok(self.make_hold(ask, &skus, total, now))
    }

    fn check_room_for_key(&self) -> Result<(), Refusal> {
        if self.keys.len() < self.config.keys_max { Ok(()) } else { Err(Refusal::BUSY) }
    }

    /// What a hold's key was answered: the hold as it was made.
    fn first_answer(&self, known: &Known) -> Result<View, Refusal> {
        let Known::Hold(id) = known else {
            return Err(Refusal::KeyReused);
        };
        let view = self.holds.get(id).expect("a hold outlives its key");
        Ok(View { held: view.held.clone(), standing: Standing::new(&view.held) })
    }

    fn check_limits(&self, ask: &HoldAsk, skus: &[u32], terms: &[&Terms]) -> Result<(), Refusal> {
        let person = self.people.get(&ask.sub);
        for (no, terms) in skus.iter().zip(terms) {
            let product = self.books.book(*no).product_no;
            let of_product = ask.lines.iter().zip(skus).filter(|(_, no)| self.books.book(**no).product_no == product);
            let wanted: u64 = of_product.map(|(line, _)| u64::from(line.quantity)).sum();
            if let Some(limit) = terms.limit_per_order.filter(|limit| wanted > u64::from(*limit)) {
                return Err(Refusal::LimitReached { limit, have: 0 });
            }
            let have = person.map_or(0, |person| self.people.pieces(person.no, product, ask.show.as_deref()));
            let with_these = u64::from(have) + wanted;
            if let Some(limit) = terms.limit_per_user.filter(|limit| with_these > u64::from(*limit)) {
                return Err(Refusal::LimitReached { limit, have });
            }
        }
        let (open, limit) = (person.map_or(0, |person| person.open), self.config.holds_open_per_person_max);
        if open >= limit { Err(Refusal::LimitReached { limit, have: open }) } else { Ok(()) }
    }

    fn check_stock(&self, ask: &HoldAsk, skus: &[u32]) -> Result<(), Refusal> {
        for (line, no) in ask.lines.iter().zip(skus) {
            let available = self.books.book(*no).count.available;
            if available < u64::from(line.quantity) {
                return Err(Refusal::SoldOut { sku: line.sku.clone(), available });
            }
        }
        Ok(())
    }

    fn make_hold(&mut self, ask: &HoldAsk, skus: &[u32], total: Money, now: UnixMs) -> Decided<View> {
        let terms = self.books.terms(skus).expect("terms that were checked");
        let lines = terms::priced(&ask.lines, &terms);
        let (person, new_person) = self.people.meet(&ask.sub);
        person.open += 1;
        let held = Arc::new(Held {
            tx: self.last + 1,
            id: hold_id(now, &ask.seed.id),
            person: person.no,
            sub: ask.sub.clone(),
            merchant: self.books.book(skus[0]).merchant.clone(),
            room: ask.room.clone(),
            show: ask.show.clone(),
            shown_as: ask.shown_as.clone(),
            lines,
            total,
            made_at: now,
            held_until: now.plus(self.config.hold_time()),
            nonce: ask.seed.nonce,
        });
        let view = View { standing: Standing::new(&held), held };
        let entries = self.move_lines(&view.held, EntryType::Held).expect("stock that was checked");
        self.count_lines(&view.held);
        self.keys.remember(ask.key, Known::Hold(view.held.id), now);
        self.holds.add(view.clone(), true);
        let tx = self.step(Step::Held, &view, entries, now, StepExtra { key: Some(ask.key), new_person, reason: None });
        Decided::anew(view, tx)
    }

    /// One entry for each line of a hold. `None`, and nothing done, when a line has not so many pieces.
    fn move_lines(&mut self, held: &Held, kind: EntryType) -> Option<Vec<Entry>> {
        let nos: Vec<u32> = held.lines.iter().map(|line| self.books.find(&line.sku).expect("a held SKU").no).collect();
        let possible = |(line, no): (&crate::protocol::HoldLine, &u32)| {
            kind.moves(self.books.book(*no).count, line.quantity.into()).is_some()
        };
        if !held.lines.iter().zip(&nos).all(possible) {
            return None;
        }
        let entries = held.lines.iter().zip(&nos).map(|(line, no)| self.books.enter(*no, kind, line.quantity.into()));
        Some(entries.map(|entry| entry.expect("a move that was checked")).collect())
    }

    fn count_lines(&mut self, held: &Held) {
        for line in &held.lines {
            let product = self.books.product(&line.product, &held.merchant);
            self.people.count(held.person, product, held.show.as_ref(), line.quantity);
        }
    }

    fn give_back_lines(&mut self, held: &Held) {
        for line in &held.lines {
            let product = self.books.product(&line.product, &held.merchant);
            self.people.give_back(held.person, product, held.show.as_ref(), line.quantity);
        }
    }

    /// The transaction of a hold's step, with its private message and its place in the lists.
    fn step(&mut self, step: Step, view: &View, entries: Vec<Entry>, at: UnixMs, extra: StepExtra) -> Tx {
        let no = self.last + 1;
        let person = self.people.known(&view.held.sub);
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
        let what = What::Hold(HoldStep {
            step,
            held: view.held.clone(),
            standing: view.standing.clone(),
            new_person: extra.new_person,
            n,
            message_before,
            order_before,
            reason: extra.reason,
        });
        self.tx(at, entries, extra.key, what)
    }

    /// Makes a hold an order.
    ///
    /// By a merchant or admin it says that money was taken: when the hold has ended, stock is taken again, and when there
    /// is none the order is `refund_due`. By the buyer it is refused once the time is over.
    pub fn confirm(
        &mut self,
        by: &Party,
        id: HoldId,
        payment: Option<Arc<str>>,
        now: UnixMs,
    ) -> Result<Decided<View>, Refusal> {
        let now = self.tick(now);
        let view = self.holds.visible(&id, by)?;
        let money_taken = !matches!(by, Party::Buyer(_));
        match view.standing.state {
            State::Paid | State::RefundDue | State::Refunded => Ok(Decided::again(view)),
            State::Held if money_taken || now < view.standing.expires_at => {
                let entries = self.move_lines(&view.held, EntryType::Confirmed).expect("what is held can be sold");
                Ok(self.place(view, State::Paid, entries, payment, now))
            }
            State::Cancelled | State::Expired if money_taken => Ok(self.confirm_late(view, payment, now)),
            State::Held | State::Cancelled | State::Expired => Err(Refusal::HoldExpired),
        }
    }

    fn confirm_late(&mut self, view: View, payment: Option<Arc<str>>, now: UnixMs) -> Decided<View> {
        let Some(mut entries) = self.move_lines(&view.held, EntryType::Held) else {
            return self.place(view, State::RefundDue, Vec::new(), payment, now);
        };
        entries.extend(self.move_lines(&view.held, EntryType::Confirmed).expect("what is held can be sold"));
        self.count_lines(&view.held);
        self.place(view, State::Paid, entries, payment, now)
    }

    fn place(
        &mut self,
        mut view: View,
        state: State,
        entries: Vec<Entry>,
        payment: Option<Arc<str>>,
        now: UnixMs,
    ) -> Decided<View> {
        if view.standing.state == State::Held {
            self.people.known(&view.held.sub).open -= 1;
        }
        let refunded = vec![0; view.held.lines.len()].into();
        view.standing.placed = Some(Arc::new(Placed { tx: self.last + 1, at: now, payment, refunded }));
        let step = if state == State::RefundDue { Step::RefundDue } else { Step::Paid };
        self.move_to(&mut view, state, now);
        let tx = self.step(step, &view, entries, now, StepExtra::default());
        Decided::anew(view, tx)
    }

    fn move_to(&mut self, view: &mut View, state: State, now: UnixMs) {
        view.standing.state = state;
        self.holds.stand(&view.held.id, view.standing.clone(), now);
    }

    /// Gives a hold's stock back at once.
    pub fn cancel(&mut self, by: &Party, id: HoldId, now: UnixMs) -> Result<Decided<View>, Refusal> {
        let now = self.tick(now);
        let view = self.holds.visible(&id, by)?;
        match view.standing.state {
            State::Held => Ok(self.end(view, State::Cancelled, now)),
            State::Cancelled => Ok(Decided::again(view)),
            State::Expired => Err(Refusal::HoldExpired),
            State::Paid | State::RefundDue | State::Refunded => Err(Refusal::AlreadyConfirmed),
        }
    }

    /// Lets the hold that has been due for the longest expire.
    pub fn expire_next(&mut self, now: UnixMs) -> Option<Decided<View>> {
        let now = self.tick(now);
        let id = self.holds.next_due(now)?;
        let view = self.holds.get(&id).expect("a due hold is in memory").clone();
        Some(self.end(view, State::Expired, now))
    }

    fn end(&mut self, mut view: View, state: State, now: UnixMs) -> Decided<View> {
        let (kind, step) = match state {
            State::Cancelled => (EntryType::Cancelled, Step::Cancelled),
            _ => (EntryType::Expired, Step::Expired),
        };
        let entries = self.move_lines(&view.held, kind).expect("what is held can be given back");
        self.give_back_lines(&view.held);
        self.people.known(&view.held.sub).open -= 1;
        self.move_to(&mut view, state, now);
        let tx = self.step(step, &view, entries, now, StepExtra::default());
        Decided::anew(view, tx)
    }

    /// Gives a hold more time, once; again it has the same answer.
    pub fn extend(&mut self, by: &Party, id: HoldId, now: UnixMs) -> Result<Decided<View>, Refusal> {
        let now = self.tick(now);
        let mut view = self.holds.visible(&id, by)?;
        match view.standing.state {
            State::Held if now < view.standing.expires_at => {}
            State::Held | State::Cancelled | State::Expired => return Err(Refusal::HoldExpired),
            State::Paid | State::RefundDue | State::Refunded => return Err(Refusal::AlreadyConfirmed),
        }
        if view.standing.extended(&view.held) {
            return Ok(Decided::again(view));
        }
        view.standing.expires_at = view.standing.expires_at.plus(self.config.extend_time());
        self.move_to(&mut view, State::Held, now);
        let tx = self.step(Step::Extended, &view, Vec::new(), now, StepExtra::default());
        Ok(Decided::anew(view, tx))
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
        let tx = self.tx(now, vec![entry], Some(ask.key), What::Adjusted { reason: ask.reason.clone(), count });
        Ok(Decided::anew(count, tx))
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
        self.holds.invite(view, read_at, now);
    }

    /// Keys of holds that are remembered.
    pub fn hold_keys(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keys.iter().filter(|(_, known)| matches!(known, Known::Hold(_))).map(|(key, _)| *key)
    }

    /// The transaction of a person's newest message; 0 is none.
    pub fn newest_message(&self, sub: &Sub) -> u64 {
        self.people.get(sub).map_or(0, |person| person.message_tx)
    }

    /// The transaction that placed the newest order that `by` may see; 0 is none.
    pub fn newest_order(&self, by: &Party) -> u64 {
        match by {
            Party::Buyer(sub) => self.people.get(sub).map_or(0, |person| person.order_tx),
            Party::Merchant { merchant, .. } => self.sales.of_merchant.get(merchant).copied().unwrap_or(0),
            Party::Admin { .. } => self.sales.of_all,
        }
    }
}

#[derive(Default)]
struct StepExtra {
    key: Option<Key>,
    new_person: bool,
    reason: Option<Arc<str>>,
}

/// A UUIDv7 whose time is the ledger's own, so that ids sort as the transactions do.
fn hold_id(now: UnixMs, random: &[u8; 10]) -> HoldId {
    let millis = u64::try_from(now.0).unwrap_or(0);
    HoldId::from_bytes(*Builder::from_unix_timestamp_millis(millis, random).as_uuid().as_bytes())
}
