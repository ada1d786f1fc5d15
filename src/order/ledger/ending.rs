//! What becomes of a hold: an order, cancelled, expired, or given more time.

use std::sync::Arc;

use crate::{
    clock::UnixMs,
    id::{HoldId, Sub},
    order::{
        entry::EntryType,
        hold::{Placed, State, Step, View},
        ledger::{Decided, Ledger, StepExtra},
        refusal::Refusal,
        request::Party,
        tx::Entries,
    },
};

/// Money that was taken, and who says so.
struct Taken<'a> {
    payment: Option<Arc<str>>,
    by: &'a Sub,
}

impl Ledger {
    /// Makes a hold an order.
    ///
    /// By a merchant or admin it says that money was taken: when the hold has ended, stock is taken again, and when
    /// there is none the order is `refund_due`. By the buyer it is refused once the time is over.
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
                Ok(self.place(view, State::Paid, entries, Taken { payment, by: by.sub() }, now))
            }
            State::Cancelled | State::Expired if money_taken => {
                Ok(self.confirm_late(view, Taken { payment, by: by.sub() }, now))
            }
            State::Held | State::Cancelled | State::Expired => Err(Refusal::HoldExpired),
        }
    }

    fn confirm_late(&mut self, view: View, taken: Taken<'_>, now: UnixMs) -> Decided<View> {
        let Some(mut entries) = self.move_lines(&view.held, EntryType::Held) else {
            return self.place(view, State::RefundDue, Entries::new(), taken, now);
        };
        entries.extend(self.move_lines(&view.held, EntryType::Confirmed).expect("what is held can be sold"));
        self.count_lines(&view.held);
        self.place(view, State::Paid, entries, taken, now)
    }

    fn place(
        &mut self,
        mut view: View,
        state: State,
        entries: Entries,
        taken: Taken<'_>,
        now: UnixMs,
    ) -> Decided<View> {
        if view.standing.state == State::Held {
            self.people.known(view.held.person).open -= 1;
        }
        let tell = (state == State::RefundDue).then(|| taken.by.clone());
        let extra = StepExtra { tell, ..StepExtra::after(&view) };
        let refunded = vec![0; view.held.lines.len()].into();
        let placed = Placed { tx: self.last + 1, at: now, payment: taken.payment, refunded };
        view.standing.placed = Some(Arc::new(placed));
        let step = if state == State::RefundDue { Step::RefundDue } else { Step::Paid };
        self.move_to(&mut view, state, now);
        let tx = self.step(step, &view, entries, now, extra);
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
        self.people.known(view.held.person).open -= 1;
        let extra = StepExtra::after(&view);
        self.move_to(&mut view, state, now);
        let tx = self.step(step, &view, entries, now, extra);
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
        let extra = StepExtra::after(&view);
        view.standing.expires_at = view.standing.expires_at.plus(self.config.extend_time());
        self.move_to(&mut view, State::Held, now);
        let tx = self.step(Step::Extended, &view, Entries::new(), now, extra);
        Ok(Decided::anew(view, tx))
    }
}
