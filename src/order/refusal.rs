//! Why the desk says no. A refusal is a normal answer: nothing of it is kept.

use serde_json::json;

use crate::{
    clock::UnixMs,
    id::{Money, SkuId},
    protocol::{ErrorCode, Fault},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Malformed {
        param: &'static str,
        message: &'static str,
    },
    UnknownSku,
    /// No such hold, or another's.
    UnknownHold,
    /// No such order, or another's.
    UnknownOrder,
    /// The key was accepted before with another body.
    KeyReused,
    NotStarted {
        at: UnixMs,
    },
    PriceChanged {
        sku: SkuId,
        price: Money,
    },
    /// `have` is what counts against the limit now.
    LimitReached {
        limit: u32,
        have: u32,
    },
    SoldOut {
        sku: SkuId,
        available: u64,
    },
    /// The hold's time is over, or it was cancelled.
    HoldExpired,
    /// The hold is an order already.
    AlreadyConfirmed,
    /// More than what is left to refund.
    RefundTooLarge,
    StockBelowHeld {
        held: u64,
        sold: u64,
    },
    /// The product belongs to another merchant.
    ProductTaken,
    /// The SKU belongs to another product.
    Taken {
        sku: SkuId,
    },
    Busy {
        retry_after_ms: u64,
    },
    /// The store could not be read. The log says why.
    Failed,
}

impl Refusal {
    pub(super) fn malformed(param: &'static str, message: &'static str) -> Self {
        Self::Malformed { param, message }
    }

    pub(super) const BUSY: Self = Self::Busy { retry_after_ms: 500 };
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed { param, message } => Fault::malformed(param, message),
            Refusal::UnknownSku => Fault::not_found("sku"),
            Refusal::UnknownHold => Fault::not_found("hold"),
            Refusal::UnknownOrder => Fault::not_found("order"),
            Refusal::KeyReused => Fault::new(ErrorCode::KeyReused, "this key was used with another body"),
            Refusal::NotStarted { at } => {
                Fault::new(ErrorCode::NotStarted, "the sale has not started").detail(json!({ "starts_at": at }))
            }
            Refusal::PriceChanged { sku, price } => Fault::new(ErrorCode::PriceChanged, "the price has changed")
                .detail(json!({ "sku": sku, "price": price })),
            Refusal::LimitReached { limit, have } => Fault::new(ErrorCode::LimitReached, "a limit is reached")
                .detail(json!({ "limit": limit, "have": have })),
            Refusal::SoldOut { sku, available } => {
                Fault::new(ErrorCode::SoldOut, "not enough left").detail(json!({ "sku": sku, "available": available }))
            }
            Refusal::HoldExpired => Fault::new(ErrorCode::HoldExpired, "the hold has ended"),
            Refusal::AlreadyConfirmed => Fault::new(ErrorCode::Conflict, "the hold is an order already"),
            Refusal::RefundTooLarge => Fault::new(ErrorCode::Conflict, "more than is left to refund"),
            Refusal::StockBelowHeld { held, sold } => {
                Fault::new(ErrorCode::StockBelowHeld, "below what is held and sold")
                    .detail(json!({ "held": held, "sold": sold }))
            }
            Refusal::ProductTaken => Fault::new(ErrorCode::Conflict, "the product belongs to another merchant"),
            Refusal::Taken { sku } => {
                Fault::new(ErrorCode::Conflict, "the SKU belongs to another product").detail(json!({ "sku": sku }))
            }
            Refusal::Busy { retry_after_ms } => {
                Fault::new(ErrorCode::Busy, "too much at once; try again").retry_after(retry_after_ms)
            }
            Refusal::Failed => Fault::new(ErrorCode::Internal, "the order store could not be read"),
        }
    }
}
