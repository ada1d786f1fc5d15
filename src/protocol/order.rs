//! Holds, orders and the private messages about them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixMs,
    id::{HoldId, MerchantId, Money, OrderId, ProductId, SkuId},
};

/// One line of a request to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRequest {
    pub sku: SkuId,
    pub quantity: u32,
    /// The price that the buyer saw; refused with `price_changed` when it is no longer true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Money>,
}

/// One line of a hold or order, with the price as it was when the hold was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldLine {
    pub sku: SkuId,
    pub product: ProductId,
    pub quantity: u32,
    /// For one piece.
    pub price: Money,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    Held,
    Confirmed,
    Cancelled,
    Expired,
}

/// Stock set aside for one buyer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub id: HoldId,
    pub state: HoldState,
    pub lines: Arc<[HoldLine]>,
    pub total: Money,
    pub expires_at: UnixMs,
    /// Random bytes in hex: SHA-256 over the hold's id and this is the `holder` in the public ledger entries.
    pub nonce: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    Paid,
    /// Money was taken after the hold had ended and no stock was left.
    RefundDue,
    Refunded,
}

/// One line of an order: as it was held, and what was refunded of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    pub sku: SkuId,
    pub product: ProductId,
    pub quantity: u32,
    /// For one piece.
    pub price: Money,
    /// Pieces that were refunded; absent when none was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refunded: u32,
}

fn is_zero(pieces: &u32) -> bool {
    *pieces == 0
}

/// A confirmed hold. Its id is the hold's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub id: OrderId,
    pub state: OrderState,
    pub merchant: MerchantId,
    pub lines: Vec<OrderLine>,
    pub total: Money,
    /// What was refunded of the total; absent when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refunded_total: Option<Money>,
    /// When it was confirmed.
    pub at: UnixMs,
    /// The buyer's `sub`: only for the merchant and admins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buyer: Option<String>,
    /// The payment's name at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<String>,
}

/// One page of orders, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPage {
    pub orders: Vec<Order>,
    /// Where the next page begins: ask with it as `after`. Absent at the end of the list. A page that asks for one
    /// state may have few orders or none and still not be the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<OrderId>,
}

/// A message to one person, numbered per person from 1: `{"you":{"n":17,"type":"hold.expired",...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Private {
    pub n: u64,
    pub at: UnixMs,
    #[serde(flatten)]
    pub body: PrivateBody,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum PrivateBody {
    #[serde(rename = "hold.created")]
    HoldCreated { hold: Hold },
    #[serde(rename = "hold.extended")]
    HoldExtended { hold: Hold },
    #[serde(rename = "hold.cancelled")]
    HoldCancelled { hold: Hold },
    #[serde(rename = "hold.expired")]
    HoldExpired { hold: Hold },
    #[serde(rename = "order.paid")]
    OrderPaid { order: Order },
    #[serde(rename = "order.refund_due")]
    OrderRefundDue { order: Order },
    #[serde(rename = "order.refunded")]
    OrderRefunded { order: Order },
}
