//! Rooms: make, list, snapshot, show, shelf, pin.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    Answer, App,
    extract::{Bearer, Ids, Json},
    json as answer, ok,
};
use crate::{
    id::{ProductId, RoomId},
    protocol::{Event, Fault},
    room::Handle,
    session::RoomBody,
};

fn summary(room: &Handle) -> serde_json::Value {
    let (facts, brief) = (room.facts(), room.brief());
    json!({
        "id": facts.id,
        "title": facts.title,
        "show": { "running": brief.running, "live": brief.live, "started_at": brief.started_at },
        "viewers": room.audience().tally().viewers,
    })
}

pub(super) async fn create(State(app): State<App>, Bearer(person): Bearer, Json(body): Json<RoomBody>) -> Answer {
    let room = app.shop.make_room(&person, body).await?;
    let mut response = answer(StatusCode::CREATED, &summary(&room));
    let location = format!("/v1/rooms/{}", room.facts().id);
    response.headers_mut().insert("location", location.parse().expect("a room's id fits a header"));
    Ok(response)
}

pub(super) async fn list(State(app): State<App>) -> Response {
    let rooms: Vec<_> = app.shop.rooms.list().iter().map(summary).collect();
    ok(&json!({ "rooms": rooms }))
}

pub(super) async fn snapshot(State(app): State<App>, Ids(room): Ids<RoomId>) -> Answer {
    Ok(ok(&app.shop.snapshot(&room).await?))
}

#[derive(Deserialize)]
pub(super) struct ShowBody {
    action: String,
}

pub(super) async fn show(
    State(app): State<App>,
    Bearer(person): Bearer,
    Ids(room): Ids<RoomId>,
    Json(body): Json<ShowBody>,
) -> Answer {
    let start = match body.action.as_str() {
        "start" => true,
        "end" => false,
        _ => return Err(Fault::malformed("action", "action is start or end").into()),
    };
    Ok(event(app.shop.run_show(&person, &room, start).await?))
}

#[derive(Deserialize)]
pub(super) struct ShelfBody {
    products: Vec<ProductId>,
    #[serde(default)]
    planned_seconds: BTreeMap<ProductId, u32>,
}

pub(super) async fn shelf(
    State(app): State<App>,
    Bearer(person): Bearer,
    Ids(room): Ids<RoomId>,
    Json(body): Json<ShelfBody>,
) -> Answer {
    Ok(event(app.shop.set_shelf(&person, &room, &body.products, body.planned_seconds).await?))
}

#[derive(Deserialize)]
pub(super) struct PinBody {
    product: ProductId,
    explain_seconds: Option<u32>,
}

pub(super) async fn pin(
    State(app): State<App>,
    Bearer(person): Bearer,
    Ids(room): Ids<RoomId>,
    Json(body): Json<PinBody>,
) -> Answer {
    Ok(event(app.shop.pin(&person, &room, body.product, body.explain_seconds).await?))
}

pub(super) async fn unpin(State(app): State<App>, Bearer(person): Bearer, Ids(room): Ids<RoomId>) -> Answer {
    Ok(event(app.shop.unpin(&person, &room).await?))
}

/// The event that a command made; null when things already were so.
fn event(event: Option<Event>) -> Response {
    ok(&json!({ "event": event })).into_response()
}
