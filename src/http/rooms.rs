//! Rooms: make, list, snapshot, show, shelf, pin.

use std::collections::BTreeMap;

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, App,
    extract::{Bearer, Ids, Json, MaybeToken},
    json as answer, ok,
};
use crate::{
    id::{ProductId, RoomId},
    protocol::{Claims, ErrorCode, Event, Fault, RoomScope},
    room::Handle,
    session::{Person, RehearsalBody, RoomBody, is_rehearsal},
};

fn summary(room: &Handle) -> serde_json::Value {
    let (facts, brief) = (room.facts(), room.brief());
    json!({
        "id": facts.id,
        "title": facts.title,
        "rehearsal_of": facts.rehearsal_of(),
        "show": { "running": brief.running, "live": brief.live, "started_at": brief.started_at },
        "viewers": room.audience().tally().viewers,
    })
}

/// A room, or a rehearsal of one.
pub(super) enum CreateBody {
    Rehearsal(RehearsalBody),
    Room(RoomBody),
}

impl<'de> Deserialize<'de> for CreateBody {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let body = Value::deserialize(from)?;
        let rehearsal = body.get("rehearsal_of").is_some_and(|of| !of.is_null());
        let read = match rehearsal {
            true => serde_json::from_value(body).map(Self::Rehearsal),
            false => serde_json::from_value(body).map(Self::Room),
        };
        read.map_err(serde::de::Error::custom)
    }
}

pub(super) async fn create(
    State(app): State<App>,
    Bearer { person, shop }: Bearer,
    Json(body): Json<CreateBody>,
) -> Answer {
    let (room, body) = match body {
        CreateBody::Rehearsal(body) => rehearse(&app, &person, body).await?,
        CreateBody::Room(body) => {
            let room = shop.make_room(&person, body).await?;
            let body = summary(&room);
            (room, body)
        }
    };
    let mut response = answer(StatusCode::CREATED, &body);
    let location = format!("/v1/rooms/{}", room.facts().id);
    response.headers_mut().insert("location", location.parse().expect("a room's id fits a header"));
    Ok(response)
}

/// The answer has a token for the rehearsal, of the same person in the same role: hers for the real room does not open
/// it.
async fn rehearse(app: &App, person: &Person, body: RehearsalBody) -> Result<(Handle, Value), Fault> {
    let rehearsal = app.rehearsals.make(person, body).await?;
    let facts = rehearsal.room.facts();
    let ends_at = app.rehearsals.ends_at(facts);
    let own = person.claims();
    let claims = Claims { room: RoomScope::One(facts.id.clone()), exp: own.exp.min(ends_at.0 / 1_000), ..own.clone() };
    let mut body = summary(&rehearsal.room);
    body["ends_at"] = json!(ends_at);
    body["token"] = app.shop.keyring.sign(&claims).into();
    Ok((rehearsal.room.clone(), body))
}

/// Ends a rehearsal. A real room stays: the law asks for its tape.
pub(super) async fn end(State(app): State<App>, MaybeToken(person): MaybeToken, Ids(room): Ids<RoomId>) -> Answer {
    let person = person.ok_or_else(|| Fault::new(ErrorCode::Unauthorized, "this needs a token"))?;
    if !is_rehearsal(&room) {
        app.shop.room(&room)?;
        person.may_enter(&room)?;
        person.may_operate()?;
        return Err(Fault::new(ErrorCode::Conflict, "a room stays; only rehearsals are ended").into());
    }
    app.rehearsals.end_by(&person, &room).await?;
    Ok(ok(&json!({ "ended": room })))
}

pub(super) async fn list(State(app): State<App>) -> Response {
    let rooms: Vec<_> = app.shop.rooms.list().iter().map(summary).collect();
    ok(&json!({ "rooms": rooms }))
}

pub(super) async fn snapshot(State(app): State<App>, Ids(room): Ids<RoomId>) -> Answer {
    let shop = app.rehearsals.at(&room)?;
    let snapshot = shop.snapshot(&room).await?;
    if shop.rehearsal_of.is_none() {
        return Ok(ok(&snapshot));
    }
    let handle = shop.room(&room)?;
    let mut body = serde_json::to_value(&snapshot).expect("a snapshot is plain data");
    body["state_hash"] = handle.state_hash().await?.into();
    body["ends_at"] = json!(app.rehearsals.ends_at(handle.facts()));
    Ok(ok(&body))
}

#[derive(Deserialize)]
pub(super) struct ShowBody {
    action: String,
}

pub(super) async fn show(
    Bearer { person, shop }: Bearer,
    Ids(room): Ids<RoomId>,
    Json(body): Json<ShowBody>,
) -> Answer {
    let start = match body.action.as_str() {
        "start" => true,
        "end" => false,
        _ => return Err(Fault::malformed("action", "action is start or end").into()),
    };
    Ok(event(shop.run_show(&person, &room, start).await?))
}

#[derive(Deserialize)]
pub(super) struct ShelfBody {
    products: Vec<ProductId>,
    #[serde(default)]
    planned_seconds: BTreeMap<ProductId, u32>,
}

pub(super) async fn shelf(
    Bearer { person, shop }: Bearer,
    Ids(room): Ids<RoomId>,
    Json(body): Json<ShelfBody>,
) -> Answer {
    Ok(event(shop.set_shelf(&person, &room, &body.products, body.planned_seconds).await?))
}

#[derive(Deserialize)]
pub(super) struct PinBody {
    product: ProductId,
    explain_seconds: Option<u32>,
}

pub(super) async fn pin(Bearer { person, shop }: Bearer, Ids(room): Ids<RoomId>, Json(body): Json<PinBody>) -> Answer {
    Ok(event(shop.pin(&person, &room, body.product, body.explain_seconds).await?))
}

pub(super) async fn unpin(Bearer { person, shop }: Bearer, Ids(room): Ids<RoomId>) -> Answer {
    Ok(event(shop.unpin(&person, &room).await?))
}

/// The event that a command made; null when things already were so.
fn event(event: Option<Event>) -> Response {
    ok(&json!({ "event": event })).into_response()
}
