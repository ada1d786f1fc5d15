//! Making a hold: what is looked at, in the order of the contract, and what is set aside.

use std::sync::Arc;

use smallvec::SmallVec;
use uuid::Builder;

use crate::{
    clock::UnixMs,
    id::{HoldId, Money, SkuId},
    order::{
        entry::EntryType,
        hold::{Held, Standing, Step, View},
        ledger::{
            Decided, Known, Ledger, StepExtra,
            terms::{Terms, offer, priced},
        },
        refusal::Refusal,
        request::HoldAsk,
    },
};

impl Ledger {
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
        drop(terms);
        self.check_stock(ask, &skus)?;
        if self.closed || self.holds.open() >= self.config.holds_open_max {
            return Err(Refusal::BUSY);
        }
        self.check_room_for_key()?;
        Ok(self.make_hold(ask, &skus, total, now))
    }

    pub(super) fn check_room_for_key(&self) -> Result<(), Refusal> {
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
        let person = self.people.number(&ask.sub);
        for (no, terms) in skus.iter().zip(terms) {
            let product = self.books.book(*no).product_no;
            let of_product = ask.lines.iter().zip(skus).filter(|(_, no)| self.books.book(**no).product_no == product);
            let wanted: u64 = of_product.map(|(line, _)| u64::from(line.quantity)).sum();
            if let Some(limit) = terms.limit_per_order.filter(|limit| wanted > u64::from(*limit)) {
                return Err(Refusal::LimitReached { limit, have: 0 });
            }
            let have = person.map_or(0, |person| self.people.pieces(person, product, ask.show.as_deref()));
            let with_these = u64::from(have) + wanted;
            if let Some(limit) = terms.limit_per_user.filter(|limit| with_these > u64::from(*limit)) {
                return Err(Refusal::LimitReached { limit, have });
            }
        }
        let open = person.and_then(|person| self.people.get(person)).map_or(0, |person| person.open);
        let limit = self.config.holds_open_per_person_max;
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
        let names: SmallVec<[&SkuId; 4]> = skus.iter().map(|no| &self.books.book(*no).sku).collect();
        let lines = priced(&ask.lines, &names, &terms, self.lines_before.as_ref());
        drop((names, terms));
        self.lines_before = Some(lines.clone());
        let known = self.people.number(&ask.sub);
        let person = known.unwrap_or_else(|| self.people.add(ask.sub.clone()));
        self.people.known(person).open += 1;
        let show = ask.show.as_ref().map(|show| self.people.show_name(show));
        let held = Arc::new(Held {
            tx: self.last + 1,
            id: hold_id(now, &ask.seed.id),
            person,
            sub: ask.sub.clone(),
            merchant: self.books.book(skus[0]).merchant.clone(),
            room: ask.room.clone(),
            show,
            shown_as: ask.shown_as.clone(),
            lines,
            total,
            made_at: now,
            held_until: now.plus(self.config.hold_time()),
            nonce: ask.seed.nonce,
        });
        let view = View { standing: Standing::new(&held), held };
        let entries = self.enter_lines(&view.held, skus, EntryType::Held).expect("stock that was checked");
        for (line, no) in view.held.lines.iter().zip(skus) {
            let product = self.books.book(*no).product_no;
            self.people.count(person, product, view.held.show.as_ref(), line.quantity);
        }
        self.keys.remember(ask.key, Known::Hold(view.held.id), now);
        assert!(self.holds.add(view.clone(), true), "hold {} was made twice", view.held.id);
        let tx = self.step(
            Step::Held,
            &view,
            entries,
            now,
            StepExtra { key: Some(ask.key), new_person: known.is_none(), ..StepExtra::default() },
        );
        Decided::anew(view, tx)
    }
}

/// A UUIDv7 whose time is the ledger's own, so that ids sort as the transactions do.
fn hold_id(now: UnixMs, random: &[u8; 10]) -> HoldId {
    let millis = u64::try_from(now.0).unwrap_or(0);
    HoldId::from_bytes(*Builder::from_unix_timestamp_millis(millis, random).as_uuid().as_bytes())
}
