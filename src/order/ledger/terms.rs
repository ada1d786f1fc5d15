//! On what terms SKUs are offered, and whether a hold's lines agree with them.

use std::sync::Arc;

use crate::{
    clock::UnixMs,
    id::{Currency, MerchantId, Money, ProductId, SkuId},
    order::{refusal::Refusal, request::ProductTerms},
    protocol::{HoldLine, LineRequest},
};

/// The terms of one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub product: ProductId,
    pub merchant: MerchantId,
    pub price: Money,
    pub limit_per_user: Option<u32>,
    pub limit_per_order: Option<u32>,
    pub on_sale_at: Option<UnixMs>,
}

impl From<&ProductTerms> for Terms {
    fn from(terms: &ProductTerms) -> Self {
        Self {
            product: terms.product.clone(),
            merchant: terms.merchant.clone(),
            price: terms.price,
            limit_per_user: terms.limit_per_user,
            limit_per_order: terms.limit_per_order,
            on_sale_at: terms.on_sale_at,
        }
    }
}

/// What is to be paid for `lines` on `terms` (one for each line). Refused, in this order, when they cannot be one
/// order, when the sale has not started, and when the buyer saw another price.
pub fn offer(lines: &[LineRequest], terms: &[&Terms], now: UnixMs) -> Result<Money, Refusal> {
    let total = total(lines, terms)?;
    if let Some(at) = terms.iter().filter_map(|t| t.on_sale_at).filter(|at| *at > now).max() {
        return Err(Refusal::NotStarted { at });
    }
    for (line, terms) in lines.iter().zip(terms) {
        if line.price.is_some_and(|seen| seen != terms.price) {
            return Err(Refusal::PriceChanged { sku: line.sku.clone(), price: terms.price });
        }
    }
    Ok(total)
}

fn total(lines: &[LineRequest], terms: &[&Terms]) -> Result<Money, Refusal> {
    let Some(first) = terms.first() else {
        return Err(Refusal::malformed("lines", "no lines"));
    };
    if terms.iter().any(|t| t.merchant != first.merchant) {
        return Err(Refusal::malformed("lines", "one hold is of one merchant"));
    }
    let currency: Currency = first.price.currency;
    if terms.iter().any(|t| t.price.currency != currency) {
        return Err(Refusal::malformed("lines", "one hold is in one currency"));
    }
    let sums = lines.iter().zip(terms).map(|(line, t)| t.price.amount.checked_mul(line.quantity.into()));
    let amount = sums.into_iter().try_fold(0i64, |sum, line| sum.checked_add(line?));
    let amount = amount.filter(|amount| *amount < 1 << 53);
    amount.map(|amount| Money { amount, currency }).ok_or(Refusal::malformed("lines", "the total is too large"))
}

/// The lines at today's price, of the SKUs with their books' own names: those of the hold `before`, when they are the
/// same. In a rush most are, and share one list.
pub fn priced(
    lines: &[LineRequest],
    skus: &[&SkuId],
    terms: &[&Terms],
    before: Option<&Arc<[HoldLine]>>,
) -> Arc<[HoldLine]> {
    let offered = || lines.iter().zip(skus).zip(terms);
    let same = |(line, ((asked, sku), terms)): (&HoldLine, ((&LineRequest, &&SkuId), &&Terms))| {
        line.quantity == asked.quantity
            && line.price == terms.price
            && line.sku == **sku
            && line.product == terms.product
    };
    if let Some(before) = before
        && before.len() == lines.len()
        && before.iter().zip(offered()).all(same)
    {
        return before.clone();
    }
    let priced = offered().map(|((line, sku), terms)| HoldLine {
        sku: SkuId::clone(sku),
        product: terms.product.clone(),
        quantity: line.quantity,
        price: terms.price,
    });
    priced.collect()
}
