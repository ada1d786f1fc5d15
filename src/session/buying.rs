//! Acts of buyers and merchants on holds and orders. They go to the desk directly: a hot room queues no purchase.

use crate::{
    id::{HoldId, OrderId, RoomId, SkuId},
    order::{Answered, HoldRequest, LedgerExport, Party, RefundLine},
    protocol::{Fault, Hold, LineRequest, Order, OrderPage, OrderState, Role, RoomScope},
    room::Demand,
    session::{Payment, Person, Shop, shop::checked_key},
};

const PAYMENT_LEN_MAX: usize = 200;
/// Orders on one page.
const PAGE_MAX: usize = 200;

impl Shop {
    /// Holds stock for a person. The hold's room is the token's; one with `*` may name it.
    pub async fn hold(
        &self,
        person: &Person,
        key: String,
        lines: Vec<LineRequest>,
        named_room: Option<&str>,
    ) -> Result<Answered<Hold>, Fault> {
        self.may_act(person)?;
        let room = match (&person.claims().room, named_room) {
            (RoomScope::One(room), None) => Some(room.clone()),
            (RoomScope::One(room), Some(named)) if room.as_str() == named => Some(room.clone()),
            (RoomScope::One(_), Some(_)) => return Err(Fault::forbidden("the token is for another room")),
            (RoomScope::Any, None) => None,
            (RoomScope::Any, Some(named)) => {
                let named: RoomId = named.parse().map_err(|e| Fault::malformed("room", format!("{e}")))?;
                self.room(&named)?;
                Some(named)
            }
        };
        checked_key(&key)?;
        self.limits.hold(person.sub())?;
        let handle = room.as_ref().and_then(|r| self.rooms.get(r));
        let asked: Vec<(SkuId, u32)> = lines.iter().map(|l| (l.sku.clone(), l.quantity)).collect();
        let request = HoldRequest {
            sub: person.sub().clone(),
            key,
            show: handle.as_ref().and_then(|h| h.show()),
            shown_as: person.masked_name(),
            lines,
            room,
        };
        let outcome = self.desk.hold(request).await.map_err(Fault::from);
        if let Some(handle) = handle {
            let (outcome, hold) = match &outcome {
                Ok(held) => ("held", Some(held.value.id)),
                Err(fault) => (fault.code.as_str(), None),
            };
            let demand = Demand::Hold { lines: asked, outcome: outcome.to_owned(), hold };
            handle.note(self.clock.now(), &person.who(&handle.facts().id), demand);
        }
        outcome
    }

    /// Confirms: by a merchant or admin always, by the buyer in the sandbox only.
    pub async fn confirm(
        &self,
        person: &Person,
        hold: HoldId,
        payment: Option<String>,
    ) -> Result<Answered<Order>, Fault> {
        self.may_act(person)?;
        if payment.as_ref().is_some_and(|p| p.len() > PAYMENT_LEN_MAX || p.chars().any(char::is_control)) {
            return Err(Fault::malformed("payment", format!("payment has at most {PAYMENT_LEN_MAX} bytes")));
        }
        let party = person.party();
        if matches!(party, Party::Buyer(_)) {
            self.desk.hold_of(party.clone(), hold).await?;
            if self.payment != Payment::Sandbox {
                return Err(Fault::forbidden("your shop confirms when it has your payment"));
            }
        }
        Ok(self.desk.confirm(party, hold, payment).await?)
    }

    pub async fn cancel(&self, person: &Person, hold: HoldId) -> Result<Answered<Hold>, Fault> {
        self.may_act(person)?;
        Ok(self.desk.cancel(buyer(person), hold).await?)
    }

    pub async fn extend(&self, person: &Person, hold: HoldId) -> Result<Answered<Hold>, Fault> {
        self.may_act(person)?;
        Ok(self.desk.extend(buyer(person), hold).await?)
    }

    pub async fn hold_of(&self, person: &Person, hold: HoldId) -> Result<Hold, Fault> {
        self.may_act(person)?;
        Ok(self.desk.hold_of(buyer(person), hold).await?)
    }

    pub async fn order(&self, person: &Person, order: OrderId) -> Result<Order, Fault> {
        self.may_act(person)?;
        Ok(self.desk.order(person.party(), order).await?)
    }

    pub async fn orders(
        &self,
        person: &Person,
        state: Option<OrderState>,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<OrderPage, Fault> {
        self.may_act(person)?;
        Ok(self.desk.orders(person.party(), state, after, limit.clamp(1, PAGE_MAX)).await?)
    }

    pub async fn refund(
        &self,
        person: &Person,
        order: OrderId,
        key: String,
        lines: Option<Vec<RefundLine>>,
        restock: bool,
        reason: &str,
    ) -> Result<Answered<Order>, Fault> {
        self.may_act(person)?;
        checked_key(&key)?;
        let reason = super::shop::checked_text("reason", reason, 200)?;
        if !matches!(person.role(), Role::Merchant | Role::Admin) {
            return Err(Fault::forbidden("only the owning merchant and admins may"));
        }
        Ok(self.desk.refund(person.party(), order, key, lines, restock, reason).await?)
    }

    /// A page of a SKU's chain. Public unless `ledger.public` is off, then for who keeps the SKU.
    pub async fn ledger(
        &self,
        person: Option<&Person>,
        sku: &SkuId,
        after: u64,
        limit: usize,
    ) -> Result<LedgerExport, Fault> {
        let owner = self.desk.merchant_of(sku).ok_or_else(|| Fault::not_found("sku"))?;
        if !self.ledger_public {
            let unknown = || Fault::new(crate::protocol::ErrorCode::Unauthorized, "this ledger needs a token");
            person.ok_or_else(unknown)?.may_keep(&owner, "sku")?;
        }
        Ok(self.desk.ledger(sku, after, limit).await?)
    }
}

/// A hold is its buyer's own: to merchants and admins too, another's does not exist.
fn buyer(person: &Person) -> Party {
    Party::Buyer(person.sub().clone())
}
