//! What the desk is asked.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use smallvec::SmallVec;

use crate::{
    clock::UnixMs,
    id::{MerchantId, Money, OrderId, ProductId, RoomId, SEQ_MAX, SkuId, Sub},
    order::{config::Config, refusal::Refusal},
    protocol::LineRequest,
};

/// The longest idempotency key, in bytes.
pub const KEY_LEN_MAX: usize = 255;
/// The longest reason of an adjustment or refund, in characters.
pub const REASON_LEN_MAX: usize = 200;
/// The longest name of a payment, in bytes.
pub const PAYMENT_LEN_MAX: usize = 255;

/// Who asks. A merchant sees and changes what is sold for her; what is another's is unknown to her.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    Buyer(Sub),
    Merchant { sub: Sub, merchant: MerchantId },
    Admin { sub: Sub },
}

impl Party {
    pub fn sub(&self) -> &Sub {
        match self {
            Self::Buyer(sub) | Self::Merchant { sub, .. } | Self::Admin { sub } => sub,
        }
    }

    /// May change stock and orders of `merchant`.
    pub(super) fn owns(&self, merchant: &MerchantId) -> bool {
        match self {
            Self::Buyer(_) => false,
            Self::Merchant { merchant: own, .. } => own == merchant,
            Self::Admin { .. } => true,
        }
    }
}

/// On what terms a product's SKUs are sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductTerms {
    pub product: ProductId,
    pub merchant: MerchantId,
    pub price: Money,
    /// Pieces of the product that one person may hold and have ordered, together.
    pub limit_per_user: Option<u32>,
    /// Pieces of the product in one hold.
    pub limit_per_order: Option<u32>,
    /// Holds before this are refused with `not_started`.
    pub on_sale_at: Option<UnixMs>,
    /// Each SKU with its opening stock, which counts only when the SKU is new.
    pub skus: Vec<(SkuId, u64)>,
}

/// A request to set stock aside.
#[derive(Clone, Debug)]
pub struct HoldRequest {
    pub sub: Sub,
    /// Accepted once: the same key with the same body has the same answer.
    pub key: String,
    /// Where it is bought.
    pub room: Option<RoomId>,
    /// The running show: limits count within it. Without one they count what was bought outside of shows.
    pub show: Option<String>,
    /// What the room is told of the buyer when she has paid.
    pub shown_as: Option<String>,
    pub lines: Vec<LineRequest>,
}

/// A hold request, checked and with what chance adds: what the ledger decides on.
#[derive(Clone, Debug)]
pub(super) struct HoldAsk {
    pub sub: Sub,
    pub key: Key,
    pub room: Option<RoomId>,
    pub show: Option<Arc<str>>,
    pub shown_as: Option<Arc<str>>,
    /// One per SKU.
    pub lines: Vec<LineRequest>,
    pub seed: Seed,
}

/// Random bytes for one hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed {
    pub id: [u8; 10],
    pub nonce: [u8; 16],
}

impl Seed {
    pub fn random() -> Self {
        Self { id: rand::random(), nonce: rand::random() }
    }
}

#[derive(Clone, Debug)]
pub(super) struct RefundAsk {
    pub by: Party,
    pub order: OrderId,
    pub key: Key,
    /// All that is left, when absent.
    pub lines: Option<Vec<RefundLine>>,
    pub restock: bool,
    pub reason: Arc<str>,
}

#[derive(Clone, Debug)]
pub(super) struct AdjustAsk {
    pub by: Party,
    pub sku: SkuId,
    pub key: Key,
    pub change: StockChange,
    pub reason: Arc<str>,
}

/// How stock is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockChange {
    Delta(i64),
    /// The whole stock: available, held and sold together.
    Set(u64),
}

/// One line of a partial refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundLine {
    pub sku: SkuId,
    pub quantity: u32,
}

/// An idempotency key of one person, and what was asked with it, as digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub id: KeyId,
    pub body: [u8; 16],
}

/// The first half of a SHA-256 over person and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 16]);

impl KeyId {
    /// Refused when the key is empty or too long.
    pub(super) fn of(sub: &Sub, key: &str) -> Result<Self, Refusal> {
        if key.is_empty() || key.len() > KEY_LEN_MAX {
            return Err(Refusal::malformed("key", "a key has 1 to 255 bytes"));
        }
        Ok(Self(half_digest(&[sub.as_str().as_bytes(), key.as_bytes()])))
    }
}

/// The first half of a SHA-256 over parts that cannot run into each other.
fn half_digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut text = SmallVec::<[u8; 512]>::new();
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_le_bytes());
        text.extend_from_slice(part);
    }
    digest(&SHA256, &text).as_ref()[..16].try_into().expect("SHA-256 has 32 bytes")
}

impl HoldRequest {
    /// The lines with duplicates summed, in the order of their first mention.
    pub(super) fn lines_summed(&self, config: &Config) -> Result<Vec<LineRequest>, Refusal> {
        if self.lines.is_empty() || self.lines.len() > config.lines_per_hold_max {
            return Err(Refusal::malformed("lines", "no lines, or too many"));
        }
        let mut summed: Vec<LineRequest> = Vec::with_capacity(self.lines.len());
        for line in &self.lines {
            let Some(before) = summed.iter_mut().find(|s| s.sku == line.sku) else {
                summed.push(line.clone());
                continue;
            };
            before.quantity = before.quantity.saturating_add(line.quantity);
            if before.price.is_some() && line.price.is_some() && before.price != line.price {
                return Err(Refusal::malformed("price", "one SKU, two prices"));
            }
            before.price = before.price.or(line.price);
        }
        let countable = |line: &LineRequest| (1..=config.quantity_max).contains(&line.quantity);
        if !self.lines.iter().all(countable) || !summed.iter().all(countable) {
            return Err(Refusal::malformed("quantity", "a quantity is at least 1, and not that large"));
        }
        Ok(summed)
    }

    pub(super) fn body(&self) -> [u8; 16] {
        let mut lines = SmallVec::<[u8; 256]>::new();
        for LineRequest { sku, quantity, price } in &self.lines {
            lines.push(sku.as_str().len() as u8);
            lines.extend_from_slice(sku.as_str().as_bytes());
            lines.extend_from_slice(&quantity.to_le_bytes());
            lines.push(u8::from(price.is_some()));
            if let Some(Money { amount, currency }) = price {
                lines.extend_from_slice(&amount.to_le_bytes());
                lines.extend_from_slice(currency.as_str().as_bytes());
            }
        }
        let room = self.room.as_ref().map_or("", RoomId::as_str);
        half_digest(&[b"hold", room.as_bytes(), &lines])
    }
}

pub(super) fn refund_body(order: &str, lines: Option<&[RefundLine]>, restock: bool, reason: &str) -> [u8; 16] {
    let lines = lines.map_or_else(String::new, |lines| {
        lines.iter().map(|line| format!("{}:{};", line.sku, line.quantity)).collect()
    });
    half_digest(&[b"refund", order.as_bytes(), lines.as_bytes(), &[u8::from(restock)], reason.as_bytes()])
}

pub(super) fn adjust_body(sku: &SkuId, change: StockChange, reason: &str) -> [u8; 16] {
    let change = match change {
        StockChange::Delta(delta) => format!("delta {delta}"),
        StockChange::Set(stock) => format!("set {stock}"),
    };
    half_digest(&[b"adjust", sku.as_str().as_bytes(), change.as_bytes(), reason.as_bytes()])
}

impl StockChange {
    pub(super) fn checked(self) -> Result<Self, Refusal> {
        let size = match self {
            Self::Delta(delta) => delta.unsigned_abs(),
            Self::Set(stock) => stock,
        };
        if size < SEQ_MAX { Ok(self) } else { Err(Refusal::malformed("quantity", "too large")) }
    }
}

/// Reasons are public: short, and without characters that rearrange a line.
pub(super) fn checked_reason(reason: &str) -> Result<(), Refusal> {
    let long = reason.chars().count() > REASON_LEN_MAX;
    if long || reason.chars().any(char::is_control) {
        return Err(Refusal::malformed("reason", "up to 200 characters, no control characters"));
    }
    Ok(())
}

pub(super) fn checked_payment(payment: Option<&str>) -> Result<(), Refusal> {
    match payment {
        Some(payment) if payment.is_empty() || payment.len() > PAYMENT_LEN_MAX => {
            Err(Refusal::malformed("payment", "a payment's name has 1 to 255 bytes"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[(&str, u32)]) -> HoldRequest {
        let line = |&(sku, quantity): &(&str, u32)| LineRequest { sku: sku.parse().unwrap(), quantity, price: None };
        HoldRequest {
            sub: "ann".parse().unwrap(),
            key: "k".to_owned(),
            room: None,
            show: None,
            shown_as: None,
            lines: lines.iter().map(line).collect(),
        }
    }

    #[test]
    fn the_same_sku_twice_is_summed() {
        let summed = request(&[("a", 1), ("b", 2), ("a", 3)]).lines_summed(&Config::default()).unwrap();
        let quantities: Vec<_> = summed.iter().map(|l| (l.sku.as_str(), l.quantity)).collect();
        assert_eq!(quantities, [("a", 4), ("b", 2)]);
    }

    #[test]
    fn sums_do_not_slip_past_the_bounds() {
        let config = Config { quantity_max: 5, lines_per_hold_max: 3, ..Config::default() };
        let refused = |lines: &[(&str, u32)]| request(lines).lines_summed(&config).is_err();
        assert!(!refused(&[("a", 5)]));
        assert!(refused(&[]));
        assert!(refused(&[("a", 0)]));
        assert!(refused(&[("a", 3), ("a", 3)]));
        assert!(refused(&[("a", u32::MAX), ("a", 2)]));
        assert!(refused(&[("a", 5), ("b", 0), ("c", 1)]));
        assert!(refused(&[("a", 1), ("a", 1), ("a", 1), ("a", 1)]));
    }

    #[test]
    fn keys_of_two_people_never_meet() {
        let of = |sub: &str, key: &str| KeyId::of(&sub.parse().unwrap(), key).unwrap();
        assert_eq!(of("ann", "1"), of("ann", "1"));
        assert_ne!(of("ann", "1"), of("an", "n1"));
        assert!(KeyId::of(&"ann".parse().unwrap(), "").is_err());
    }
}
