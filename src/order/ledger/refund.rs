//! Refunds: whole or in part, with the pieces back in stock or not.

use std::sync::Arc;

use crate::{
    clock::UnixMs,
    order::{
        entry::EntryType,
        hold::{Placed, State, Step, View},
        ledger::{Decided, Known, Ledger, StepExtra},
        refusal::Refusal,
        request::{RefundAsk, RefundLine},
        tx::Entries,
    },
    protocol::HoldLine,
};

impl Ledger {
    /// Refunds what is asked of an order, or all that is left. What is refunded no longer counts against limits.
    pub fn refund(&mut self, ask: &RefundAsk, now: UnixMs) -> Result<Decided<View>, Refusal> {
        let now = self.tick(now);
        let known = self.holds.get(&ask.order).filter(|view| ask.by.owns(&view.held.merchant) && view.is_order());
        let view = known.cloned().ok_or(Refusal::UnknownOrder)?;
        match self.keys.recall(ask.key)? {
            None => {}
            Some(Known::Refund(id, refunded)) if *id == ask.order => {
                return Ok(Decided::again(as_refunded(&view, refunded.clone())));
            }
            Some(_) => return Err(Refusal::KeyReused),
        }
        self.check_room_for_key()?;
        let pieces = pieces_of(&view, ask.lines.as_deref())?;
        self.check_sold(&view, &pieces)?;
        let entries = self.take_back(&view, &pieces, ask.restock);
        Ok(self.make_refund(ask, view, &pieces, entries, now))
    }

    /// What is refunded was sold. It was, unless the file was changed by others.
    fn check_sold(&self, view: &View, pieces: &[u32]) -> Result<(), Refusal> {
        let short = |(line, pieces): (&HoldLine, &u32)| {
            self.books.find(&line.sku).is_none_or(|book| book.count.sold < u64::from(*pieces))
        };
        if view.standing.state != State::RefundDue && view.held.lines.iter().zip(pieces).any(short) {
            tracing::error!(order = %view.held.id, "more is to be refunded than was sold");
            return Err(Refusal::Failed);
        }
        Ok(())
    }

    /// The entries of a refund. Pieces that do not come back stay sold; an order that never got stock moves none.
    fn take_back(&mut self, view: &View, pieces: &[u32], restock: bool) -> Entries {
        if view.standing.state == State::RefundDue {
            return Entries::new();
        }
        let mut entries = Entries::new();
        for (line, pieces) in view.held.lines.iter().zip(pieces).filter(|(_, pieces)| **pieces > 0) {
            let no = self.books.find(&line.sku).expect("a sold SKU").no;
            let back = if restock { i64::from(*pieces) } else { 0 };
            entries.push(self.books.enter(no, EntryType::Refunded, back).expect("what is sold can come back"));
            let product = self.books.product(&line.product, &view.held.merchant);
            if !self.people.give_back(view.held.person, product, view.held.show.as_ref(), *pieces) {
                tracing::error!(order = %view.held.id, "more is given back than counted against a limit");
            }
        }
        entries
    }

    fn make_refund(
        &mut self,
        ask: &RefundAsk,
        view: View,
        pieces: &[u32],
        entries: Entries,
        now: UnixMs,
    ) -> Decided<View> {
        let placed = view.standing.placed.as_ref().expect("an order was placed");
        let refunded: Box<[u32]> = placed.refunded.iter().zip(pieces).map(|(before, now)| before + now).collect();
        self.keys.remember(ask.key, Known::Refund(ask.order, refunded.clone()), now);
        let extra = StepExtra { key: Some(ask.key), reason: Some(ask.reason.clone()), ..StepExtra::after(&view) };
        let view = as_refunded(&view, refunded);
        self.holds.stand(&ask.order, view.standing.clone(), now);
        let tx = self.step(Step::Refunded, &view, entries, now, extra);
        Decided::anew(view, tx)
    }
}

/// The order with `refunded` pieces of each line refunded.
pub fn as_refunded(view: &View, refunded: Box<[u32]>) -> View {
    let mut view = view.clone();
    let placed = view.standing.placed.as_ref().expect("an order was placed");
    let whole = view.held.lines.iter().zip(&refunded).all(|(line, refunded)| line.quantity == *refunded);
    view.standing.state = match view.standing.state {
        _ if whole => State::Refunded,
        State::Refunded => State::Paid,
        state => state,
    };
    view.standing.placed = Some(Arc::new(Placed { refunded, ..Placed::clone(placed) }));
    view
}

/// How many pieces of each line are asked back.
fn pieces_of(view: &View, lines: Option<&[RefundLine]>) -> Result<Vec<u32>, Refusal> {
    let refunded = &view.standing.placed.as_ref().expect("an order was placed").refunded;
    let left: Vec<u32> = view.held.lines.iter().zip(refunded).map(|(line, gone)| line.quantity - gone).collect();
    let Some(lines) = lines else {
        return if left.iter().any(|left| *left > 0) { Ok(left) } else { Err(Refusal::RefundTooLarge) };
    };
    let mut pieces = vec![0u32; left.len()];
    for line in lines {
        let at = view.held.lines.iter().position(|held| held.sku == line.sku);
        let at = at.ok_or(Refusal::malformed("lines", "the order has no such SKU"))?;
        pieces[at] = pieces[at].saturating_add(line.quantity);
    }
    if pieces.iter().all(|pieces| *pieces == 0) {
        return Err(Refusal::malformed("lines", "nothing to refund"));
    }
    if view.standing.state == State::RefundDue && pieces != left {
        return Err(Refusal::malformed("lines", "an order without stock is refunded whole"));
    }
    let too_many = pieces.iter().zip(&left).any(|(pieces, left)| pieces > left);
    if too_many { Err(Refusal::RefundTooLarge) } else { Ok(pieces) }
}
