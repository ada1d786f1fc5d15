//! A hold and the order that it may become: what is fixed when it is made, and how it stands.

use std::sync::Arc;

use crate::{
    clock::UnixMs,
    id::{HoldId, MerchantId, Money, RoomId, Sub},
    order::{
        entry::{Digest, hex, holder},
        request::Party,
    },
    protocol::{Hold, HoldLine, HoldState, Order, OrderLine, OrderState, PrivateBody},
};

/// What is fixed when a hold is made.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    /// The number of the transaction that made it.
    pub tx: u64,
    pub id: HoldId,
    pub person: u64,
    pub sub: Sub,
    pub merchant: MerchantId,
    pub room: Option<RoomId>,
    pub show: Option<Arc<str>>,
    pub shown_as: Option<Arc<str>>,
    /// One line per SKU.
    pub lines: Arc<[HoldLine]>,
    pub total: Money,
    pub made_at: UnixMs,
    /// When it would expire if it were never extended.
    pub held_until: UnixMs,
    pub nonce: [u8; 16],
}

impl Held {
    pub fn holder(&self) -> Digest {
        holder(&self.id, &self.nonce)
    }
}

/// Where a hold has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Held,
    Cancelled,
    Expired,
    Paid,
    /// Money was taken when no stock was left.
    RefundDue,
    Refunded,
}

impl State {
    const ALL: [Self; 6] = [Self::Held, Self::Cancelled, Self::Expired, Self::Paid, Self::RefundDue, Self::Refunded];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Paid => "paid",
            Self::RefundDue => "refund_due",
            Self::Refunded => "refunded",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// A hold that is an order and in this state.
    pub fn of_order(state: OrderState) -> Self {
        match state {
            OrderState::Paid => Self::Paid,
            OrderState::RefundDue => Self::RefundDue,
            OrderState::Refunded => Self::Refunded,
        }
    }
}

/// How a hold stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub state: State,
    pub expires_at: UnixMs,
    /// The order, once money was taken.
    pub placed: Option<Arc<Placed>>,
}

/// What makes a hold an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The number of the transaction that placed it.
    pub tx: u64,
    pub at: UnixMs,
    pub payment: Option<Arc<str>>,
    /// Pieces of each line that were refunded.
    pub refunded: Box<[u32]>,
}

impl Standing {
    /// As every hold stands when it is made.
    pub fn new(held: &Held) -> Self {
        Self { state: State::Held, expires_at: held.held_until, placed: None }
    }

    pub fn extended(&self, held: &Held) -> bool {
        self.expires_at > held.held_until
    }

    /// Pieces of each line that count against the buyer's limits.
    pub fn counted(&self, held: &Held) -> Box<[u32]> {
        let counts = matches!(self.state, State::Held | State::Paid);
        let refunded = |index: usize| self.placed.as_ref().map_or(0, |placed| placed.refunded[index]);
        let of_line = |(index, line): (usize, &HoldLine)| if counts { line.quantity - refunded(index) } else { 0 };
        held.lines.iter().enumerate().map(of_line).collect()
    }
}

/// One step in a hold's life: what a private message tells its buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Step {
    Held = 0,
    Extended = 1,
    Cancelled = 2,
    Expired = 3,
    Paid = 4,
    RefundDue = 5,
    Refunded = 6,
}

impl Step {
    const ALL: [Self; 7] =
        [Self::Held, Self::Extended, Self::Cancelled, Self::Expired, Self::Paid, Self::RefundDue, Self::Refunded];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Extended => "extended",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Paid => "paid",
            Self::RefundDue => "refund_due",
            Self::Refunded => "refunded",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == text)
    }

    /// Its number where the store keeps it.
    pub(super) fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.code() == code)
    }

    /// The body of the message about this step, after which the hold stood as `view` says.
    pub fn told(self, view: &View) -> PrivateBody {
        match self {
            Self::Held => PrivateBody::HoldCreated { hold: view.hold_with_nonce() },
            Self::Extended => PrivateBody::HoldExtended { hold: view.hold_with_nonce() },
            Self::Cancelled => PrivateBody::HoldCancelled { hold: view.hold_with_nonce() },
            Self::Expired => PrivateBody::HoldExpired { hold: view.hold_with_nonce() },
            Self::Paid => PrivateBody::OrderPaid { order: view.order_without_buyer() },
            Self::RefundDue => PrivateBody::OrderRefundDue { order: view.order_without_buyer() },
            Self::Refunded => PrivateBody::OrderRefunded { order: view.order_without_buyer() },
        }
    }
}

/// A hold at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub held: Arc<Held>,
    pub standing: Standing,
}

impl View {
    pub fn visible_to(&self, by: &Party) -> bool {
        match by {
            Party::Buyer(sub) => *sub == self.held.sub,
            Party::Merchant { merchant, .. } => *merchant == self.held.merchant,
            Party::Admin { .. } => true,
        }
    }

    /// The hold as `by` may see it: only its buyer gets the nonce.
    pub fn hold(&self, by: &Party) -> Hold {
        match by {
            Party::Buyer(_) => self.hold_with_nonce(),
            _ => Hold { nonce: String::new(), ..self.hold_with_nonce() },
        }
    }

    pub fn hold_with_nonce(&self) -> Hold {
        let state = match self.standing.state {
            State::Held => HoldState::Held,
            State::Cancelled => HoldState::Cancelled,
            State::Expired | State::RefundDue => HoldState::Expired,
            State::Paid | State::Refunded => HoldState::Confirmed,
        };
        Hold {
            id: self.held.id,
            state,
            lines: self.held.lines.clone(),
            total: self.held.total,
            expires_at: self.standing.expires_at,
            nonce: hex(&self.held.nonce),
        }
    }

    pub fn is_order(&self) -> bool {
        self.standing.placed.is_some()
    }

    /// The order as `by` may see it: who bought it is for the merchant and admins.
    pub fn order(&self, by: &Party) -> Order {
        let order = self.order_without_buyer();
        match by {
            Party::Buyer(_) => order,
            _ => self.with_buyer(order),
        }
    }

    /// The order as its merchant sees it.
    pub fn with_its_buyer(&self) -> Order {
        self.with_buyer(self.order_without_buyer())
    }

    fn with_buyer(&self, order: Order) -> Order {
        Order { buyer: Some(self.held.sub.as_str().to_owned()), ..order }
    }

    /// What the one is told who confirmed an order for which no stock was left.
    pub fn told_confirmer(&self) -> PrivateBody {
        PrivateBody::OrderRefundDue { order: self.with_its_buyer() }
    }

    fn order_without_buyer(&self) -> Order {
        let placed = self.standing.placed.as_ref();
        let lines = self.order_lines();
        let refunded_total = lines.iter().any(|line| line.refunded > 0).then(|| {
            let of_line = |line: &OrderLine| line.price.amount.saturating_mul(line.refunded.into());
            Money { amount: lines.iter().map(of_line).fold(0, i64::saturating_add), ..self.held.total }
        });
        Order {
            id: self.held.id,
            state: match self.standing.state {
                State::RefundDue => OrderState::RefundDue,
                State::Refunded => OrderState::Refunded,
                _ => OrderState::Paid,
            },
            merchant: self.held.merchant.clone(),
            lines,
            total: self.held.total,
            refunded_total,
            at: placed.map_or(self.held.made_at, |placed| placed.at),
            buyer: None,
            payment: placed.and_then(|placed| placed.payment.as_deref().map(str::to_owned)),
        }
    }

    fn order_lines(&self) -> Vec<OrderLine> {
        let refunded = self.standing.placed.as_ref().map_or(&[][..], |placed| &placed.refunded);
        let line = |(index, line): (usize, &HoldLine)| OrderLine {
            sku: line.sku.clone(),
            product: line.product.clone(),
            quantity: line.quantity,
            price: line.price,
            refunded: refunded.get(index).copied().unwrap_or(0),
        };
        self.held.lines.iter().enumerate().map(line).collect()
    }
}
