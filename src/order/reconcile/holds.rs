//! Holds: what their steps make of them against what their rows say.

use std::sync::Arc;

use super::{Audit, Difference, EntryRow, HoldRecord, MessageRecord, StepRecord, report::Differences};
use crate::{
    clock::UnixMs,
    id::SkuId,
    order::{
        entry::EntryType,
        hold::{Held, Placed, Standing, State, Step},
        store::HoldRow,
    },
    protocol::HoldLine,
};

/// A hold on its way to what its row says.
#[derive(Debug)]
pub(super) struct Followed {
    row: HoldRow,
    now: Standing,
}

impl Followed {
    fn made(row: HoldRow) -> Self {
        Self { now: Standing::new(&row.held), row }
    }

    /// One whose steps had led to what its row says.
    fn settled(row: HoldRow) -> Self {
        Self { now: row.standing.clone(), row }
    }

    fn is_settled(&self) -> bool {
        self.now == self.row.standing
    }

    pub fn tx(&self) -> u64 {
        self.row.held.tx
    }

    pub fn compare(&self, differences: &mut Differences) {
        let place = || format!("hold {}", self.row.held.id);
        let (said, found) = (&self.row.standing, &self.now);
        differences.compare(place, "state", said.state.as_str(), found.state.as_str());
        differences.compare(place, "end", said.expires_at.0, found.expires_at.0);
        let order = |standing: &Standing| standing.placed.as_ref().map_or((0, 0), |placed| (placed.tx, placed.at.0));
        differences.compare(place, "transaction of the order", order(said).0, order(found).0);
        differences.compare(place, "time of the order", order(said).1, order(found).1);
        let refunded = |standing: &Standing| pieces(standing.placed.as_ref().map(|placed| &*placed.refunded));
        differences.compare(place, "pieces refunded", refunded(said), refunded(found));
    }

    /// How the hold stands after a step; `None` when there is no such step from where it stands.
    fn after(&self, tx: u64, at: UnixMs, step: &StepRecord) -> Option<Standing> {
        let (now, said) = (&self.now, &self.row.standing);
        let became = |state| Standing { state, ..now.clone() };
        let over = matches!(now.state, State::Cancelled | State::Expired);
        match step.step {
            Step::Held => None,
            Step::Extended if now.state == State::Held => {
                let later = now.expires_at.0.saturating_add(1);
                Some(Standing { expires_at: said.expires_at.max(UnixMs(later)), ..now.clone() })
            }
            Step::Cancelled if now.state == State::Held => Some(became(State::Cancelled)),
            Step::Expired if now.state == State::Held && at >= now.expires_at => Some(became(State::Expired)),
            Step::Paid if now.state == State::Held || over => Some(self.placed(State::Paid, tx, at)),
            Step::RefundDue if over => Some(self.placed(State::RefundDue, tx, at)),
            Step::Refunded => self.refunded(step.refunded.as_deref()?),
            _ => None,
        }
    }

    fn placed(&self, state: State, tx: u64, at: UnixMs) -> Standing {
        let payment = self.row.standing.placed.as_ref().and_then(|placed| placed.payment.clone());
        let refunded = vec![0; self.row.held.lines.len()].into();
        let placed = Some(Arc::new(Placed { tx, at, payment, refunded }));
        Standing { state, expires_at: self.now.expires_at, placed }
    }

    fn refunded(&self, refunded: &[u32]) -> Option<Standing> {
        let (lines, placed) = (&self.row.held.lines, self.now.placed.as_ref()?);
        let fits = |line: &HoldLine, before: u32, now: u32| (before..=line.quantity).contains(&now);
        let all_fit = lines.iter().zip(&placed.refunded).zip(refunded).all(|((line, old), new)| fits(line, *old, *new));
        if refunded.len() != lines.len() || !all_fit || *refunded == *placed.refunded {
            return None;
        }
        let whole = lines.iter().zip(refunded).all(|(line, refunded)| line.quantity == *refunded);
        let state = match self.now.state {
            State::Paid | State::RefundDue if whole => State::Refunded,
            State::Paid => State::Paid,
            _ => return None,
        };
        let placed = Placed { refunded: refunded.into(), ..Placed::clone(placed) };
        Some(Standing { state, expires_at: self.now.expires_at, placed: Some(Arc::new(placed)) })
    }

    /// The entries of the step to `after`: type, SKU, pieces. Of a refund either all pieces come back or none.
    fn entries(&self, after: &Standing, step: Step, restock: bool) -> Vec<(EntryType, &SkuId, i64)> {
        let lines = &self.row.held.lines;
        let all = |kind| lines.iter().map(move |line| (kind, &line.sku, i64::from(line.quantity)));
        match (step, self.now.state) {
            (Step::Paid, State::Held) => all(EntryType::Confirmed).collect(),
            (Step::Paid, _) => all(EntryType::Held).chain(all(EntryType::Confirmed)).collect(),
            (Step::Cancelled, _) => all(EntryType::Cancelled).collect(),
            (Step::Expired, _) => all(EntryType::Expired).collect(),
            (Step::Refunded, State::Paid) => {
                let refunded = |standing: &Standing, index: usize| {
                    standing.placed.as_ref().map_or(0, |placed| i64::from(placed.refunded[index]))
                };
                let back = |index| refunded(after, index) - refunded(&self.now, index);
                let touched = lines.iter().enumerate().filter(|(index, _)| back(*index) > 0);
                let pieces = |index| if restock { back(index) } else { 0 };
                touched.map(|(index, line)| (EntryType::Refunded, &line.sku, pieces(index))).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Audit {
    pub(super) fn made(&mut self, tx: u64, hold: HoldRecord, entries: &[EntryRow]) {
        self.holds += 1;
        let HoldRecord { row, message_before } = hold;
        let held = &row.held;
        let message = MessageRecord { person: held.person, n: row.n, before: message_before };
        self.people.named(tx, held.person, &held.sub, &mut self.differences);
        self.people.message(tx, &message, &mut self.differences);
        self.made_right(held);
        let expected: Vec<_> =
            held.lines.iter().map(|line| (EntryType::Held, &line.sku, i64::from(line.quantity))).collect();
        self.compare_entries(tx, held, &expected, entries);
        for line in held.lines.iter() {
            match row.standing.state {
                State::Held => self.chains.hold(&line.sku, line.quantity.into()),
                State::Paid | State::Refunded => self.chains.sell(&line.sku, line.quantity.into()),
                State::Cancelled | State::Expired | State::RefundDue => {}
            }
        }
        self.people.made(held, &row.standing.counted(held));
        let followed = Followed::made(row);
        if !followed.is_settled() {
            self.followed.insert(tx, followed);
        }
    }

    /// What is fixed when a hold is made fits together.
    fn made_right(&mut self, held: &Held) {
        let place = || format!("hold {}", held.id);
        let sum = |sum: i128, line: &HoldLine| sum + i128::from(line.price.amount) * i128::from(line.quantity);
        self.differences.compare(place, "total", i128::from(held.total.amount), held.lines.iter().fold(0, sum));
        let millis = held.id.as_bytes()[..6].iter().fold(0, |millis, byte| millis << 8 | i64::from(*byte));
        self.differences.compare(place, "time in the id", millis, held.made_at.0);
    }

    pub(super) fn stepped(
        &mut self,
        (tx, at): (u64, UnixMs),
        step: &StepRecord,
        earlier: Option<HoldRow>,
        entries: &[EntryRow],
    ) {
        let followed = self.followed.remove(&step.hold).or(earlier.map(Followed::settled));
        let Some(mut followed) = followed.filter(|followed| followed.tx() < tx) else {
            self.differences.add(|| Difference::new(format!("transaction {tx}"), "hold", step.hold, "none before it"));
            return;
        };
        self.told(tx, step, &followed);
        match followed.after(tx, at, step) {
            Some(after) => self.move_on(tx, step, &mut followed, after, entries),
            None => {
                let place = format!("transaction {tx}, hold {}", followed.row.held.id);
                let found = format!("not possible when {}", followed.now.state.as_str());
                self.differences.add(|| Difference::new(place, "step", step.step.as_str(), found));
            }
        }
        let (held, still_open) = (&followed.row.held, followed.now.state == State::Held);
        self.people.stepped(tx, held, &step.counted, &followed.row.standing.counted(held), still_open);
        if !followed.is_settled() {
            self.followed.insert(step.hold, followed);
        }
    }

    /// The message, the lists and what the step says of the time before it.
    fn told(&mut self, tx: u64, step: &StepRecord, followed: &Followed) {
        let held = &followed.row.held;
        let place = || format!("transaction {tx}, hold {}", held.id);
        self.differences.compare(place, "person", step.message.person, held.person);
        let message = MessageRecord { person: held.person, ..step.message };
        self.people.message(tx, &message, &mut self.differences);
        let counted = followed.now.counted(held);
        self.differences.compare(place, "pieces that counted", pieces(Some(&step.counted)), pieces(Some(&counted)));
        let words = |has: bool| if has { "one" } else { "none" };
        self.differences.compare(place, "key", words(step.has_key), words(step.step == Step::Refunded));
        if matches!(step.step, Step::Paid | Step::RefundDue) {
            self.people.order(tx, held, step.order_before, &mut self.differences);
        } else if step.order_before.is_some() {
            self.differences.add(|| Difference::new(place(), "order before", "some", "none"));
        }
    }

    fn move_on(&mut self, tx: u64, step: &StepRecord, followed: &mut Followed, after: Standing, entries: &[EntryRow]) {
        let held = &followed.row.held;
        let place = || format!("transaction {tx}, hold {}", held.id);
        let refunded = after.placed.as_ref().map(|placed| &*placed.refunded);
        self.differences.compare(place, "pieces refunded", pieces(step.refunded.as_deref()), pieces(refunded));
        let restock = entries.iter().any(|entry| entry.entry.quantity != 0);
        let expected = followed.entries(&after, step.step, restock);
        self.compare_entries(tx, held, &expected, entries);
        for (kind, sku, back) in expected {
            if kind == EntryType::Refunded {
                self.chains.sell(sku, -back);
            }
        }
        if after.state == State::RefundDue && followed.row.standing.state == State::Refunded {
            held.lines.iter().for_each(|line| self.chains.sell(&line.sku, -i64::from(line.quantity)));
        }
        followed.now = after;
    }

    fn compare_entries(&mut self, tx: u64, held: &Held, expected: &[(EntryType, &SkuId, i64)], found: &[EntryRow]) {
        let place = || format!("transaction {tx}, hold {}", held.id);
        let same = |(entry, (kind, sku, pieces)): (&EntryRow, &(EntryType, &SkuId, i64))| {
            let said = (entry.entry.kind, Some(entry.sku_no), entry.entry.quantity);
            said == (*kind, self.chains.no(sku), *pieces)
        };
        if found.len() != expected.len() || !found.iter().zip(expected).all(same) {
            let said: Vec<_> =
                found.iter().map(|e| format!("{} {}", e.entry.kind.as_str(), e.entry.quantity)).collect();
            let due: Vec<_> = expected.iter().map(|(kind, sku, n)| format!("{} {n} of {sku}", kind.as_str())).collect();
            self.differences.add(|| Difference::new(place(), "entries", listed(&said), listed(&due)));
        }
        if found.is_empty() {
            return;
        }
        let holder = Some(held.holder());
        for entry in found.iter().filter(|entry| entry.entry.holder != holder) {
            let place = self.chains.place(entry);
            self.differences.add(|| Difference::new(place, "holder", "another", format!("of hold {}", held.id)));
        }
    }
}

fn pieces(of_lines: Option<&[u32]>) -> String {
    of_lines.map_or("none".to_owned(), |pieces| format!("{pieces:?}"))
}

fn listed(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(" and ") }
}
