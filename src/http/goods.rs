//! Products, stock and its ledger.

use axum::{
    http::{StatusCode, Uri},
    response::Response,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    Answer,
    extract::{Bearer, IdempotencyKey, Ids, Json, MaybeBearer, Shown},
    ok,
    orders::replayed,
    query,
};
use crate::{
    id::{ProductId, SkuId},
    order::StockChange,
    protocol::Fault,
    session::ProductBody,
};

/// Entries of a ledger page, at most and when no number is asked for.
const LEDGER_PAGE_MAX: usize = 1_000;

pub(super) async fn put(
    Bearer { person, shop }: Bearer,
    Ids(id): Ids<ProductId>,
    Json(body): Json<ProductBody>,
) -> Answer {
    Ok(ok(&shop.put_product(&person, id, body).await?))
}

pub(super) async fn get(Shown(shop): Shown, Ids(id): Ids<ProductId>) -> Answer {
    Ok(ok(&shop.product(&id)?))
}

#[derive(Deserialize)]
pub(super) struct StockBody {
    delta: Option<i64>,
    set: Option<u64>,
    reason: String,
}

pub(super) async fn adjust(
    Bearer { person, shop }: Bearer,
    IdempotencyKey(key): IdempotencyKey,
    Ids(sku): Ids<SkuId>,
    Json(body): Json<StockBody>,
) -> Answer {
    let change = match (body.delta, body.set) {
        (Some(delta), None) => StockChange::Delta(delta),
        (None, Some(set)) => StockChange::Set(set),
        _ => return Err(Fault::malformed("delta", "either delta or set").into()),
    };
    let (count, again) = shop.adjust_stock(&person, &sku, key, change, &body.reason).await?;
    Ok(replayed(StatusCode::OK, again, &json!({ "sku": sku, "stock": count })))
}

#[derive(Deserialize)]
pub(super) struct LedgerQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

pub(super) async fn ledger(MaybeBearer { person, shop }: MaybeBearer, Ids(sku): Ids<SkuId>, uri: Uri) -> Answer {
    let asked: LedgerQuery = query(&uri)?;
    let limit = asked.limit.unwrap_or(LEDGER_PAGE_MAX).clamp(1, LEDGER_PAGE_MAX);
    Ok(ok(&shop.ledger(person.as_ref(), &sku, asked.after, limit).await?))
}

pub(super) async fn keys(Shown(shop): Shown) -> Response {
    ok(&json!({ "keys": [shop.desk.public_key()] }))
}
