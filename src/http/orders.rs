//! Holds, orders, private messages.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, Uri},
    response::Response,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Answer, App,
    extract::{self, Bearer, IdempotencyKey, Ids, Json},
    json as answer, ok, query,
};
use crate::{
    id::{HoldId, OrderId, SkuId},
    order,
    protocol::{ErrorCode, Fault, OrderState, command::HoldBody},
};

/// A repeat of an accepted command says so: 200 and `Idempotent-Replayed: true`.
pub(super) fn replayed(first: StatusCode, again: bool, body: &impl Serialize) -> Response {
    let mut response = answer(if again { StatusCode::OK } else { first }, body);
    if again {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

pub(super) async fn hold(
    State(app): State<App>,
    Bearer { person, shop }: Bearer,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<HoldBody>,
) -> Answer {
    let lines = body.lines()?;
    // A token for every room names its rehearsal here too.
    let shop = match body.room.as_deref().and_then(|room| room.parse().ok()) {
        Some(room) => app.rehearsals.of(&person, Some(&room))?,
        None => shop,
    };
    let held = shop.hold(&person, key, lines, body.room.as_deref()).await?;
    let body = json!({ "hold": held.value, "server_time": shop.clock.now() });
    Ok(replayed(StatusCode::CREATED, held.replayed, &body))
}

pub(super) async fn hold_of(Bearer { person, shop }: Bearer, Ids(hold): Ids<HoldId>) -> Answer {
    Ok(ok(&json!({ "hold": shop.hold_of(&person, hold).await?, "server_time": shop.clock.now() })))
}

#[derive(Default, Deserialize)]
struct ConfirmBody {
    payment: Option<String>,
}

pub(super) async fn confirm(
    State(app): State<App>,
    Bearer { person, shop }: Bearer,
    Ids(hold): Ids<HoldId>,
    request: axum::extract::Request,
) -> Answer {
    let body: ConfirmBody = optional_json(extract::read(request, &app.config).await?)?;
    let confirmed = shop.confirm(&person, hold, body.payment).await?;
    Ok(replayed(StatusCode::OK, confirmed.replayed, &json!({ "order": confirmed.value })))
}

/// Bodies that may be left out.
fn optional_json<T: Default + serde::de::DeserializeOwned>(body: Bytes) -> Result<T, Fault> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|e| Fault::new(ErrorCode::Malformed, e.to_string()))
}

pub(super) async fn cancel(Bearer { person, shop }: Bearer, Ids(hold): Ids<HoldId>) -> Answer {
    let cancelled = shop.cancel(&person, hold).await?;
    Ok(replayed(StatusCode::OK, cancelled.replayed, &json!({ "hold": cancelled.value })))
}

pub(super) async fn extend(Bearer { person, shop }: Bearer, Ids(hold): Ids<HoldId>) -> Answer {
    let extended = shop.extend(&person, hold).await?;
    let body = json!({ "hold": extended.value, "server_time": shop.clock.now() });
    Ok(replayed(StatusCode::OK, extended.replayed, &body))
}

#[derive(Deserialize)]
struct OrdersQuery {
    state: Option<OrderState>,
    after: Option<OrderId>,
    limit: Option<usize>,
}

pub(super) async fn list(Bearer { person, shop }: Bearer, uri: Uri) -> Answer {
    let asked: OrdersQuery = query(&uri)?;
    Ok(ok(&shop.orders(&person, asked.state, asked.after, asked.limit.unwrap_or(50)).await?))
}

pub(super) async fn order(Bearer { person, shop }: Bearer, Ids(order): Ids<OrderId>) -> Answer {
    Ok(ok(&json!({ "order": shop.order(&person, order).await? })))
}

#[derive(Deserialize)]
pub(super) struct RefundBody {
    lines: Option<Vec<RefundLine>>,
    restock: bool,
    reason: String,
}

#[derive(Deserialize)]
struct RefundLine {
    sku: SkuId,
    quantity: u32,
}

pub(super) async fn refund(
    Bearer { person, shop }: Bearer,
    IdempotencyKey(key): IdempotencyKey,
    Ids(order): Ids<OrderId>,
    Json(body): Json<RefundBody>,
) -> Answer {
    let lines = body
        .lines
        .map(|lines| lines.into_iter().map(|l| order::RefundLine { sku: l.sku, quantity: l.quantity }).collect());
    let refunded = shop.refund(&person, order, key, lines, body.restock, &body.reason).await?;
    Ok(replayed(StatusCode::OK, refunded.replayed, &json!({ "order": refunded.value })))
}

#[derive(Deserialize)]
struct MessagesQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

pub(super) async fn messages(Bearer { person, shop }: Bearer, uri: Uri) -> Answer {
    let asked: MessagesQuery = query(&uri)?;
    shop.may_act(&person)?;
    let messages = shop.messages(person.sub(), asked.after, asked.limit.unwrap_or(100).clamp(1, 1_000)).await?;
    Ok(ok(&json!({ "messages": messages })))
}
