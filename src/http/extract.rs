//! What handlers take from a request: bearer, JSON body, SDP body, idempotency key, ids in the path.

use std::{collections::HashMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    RequestPartsExt,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, header, request::Parts},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use serde::{Deserialize, de::DeserializeOwned};

use super::{App, Config, error::Problem, query};
use crate::{
    id::RoomId,
    protocol::{ErrorCode, Fault},
    session::{Person, Shop},
};

/// The address that a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Somebody with a valid bearer token, and the shop that the token leads to: the real one or a rehearsal's.
pub struct Bearer {
    pub person: Person,
    pub shop: Arc<Shop>,
}

/// Somebody with a valid bearer token, or nobody; a bad token is still refused.
pub struct MaybeBearer {
    pub person: Option<Person>,
    pub shop: Arc<Shop>,
}

/// The shop that something public is read in: a token leads there, and is not asked for.
pub struct Shown(pub Arc<Shop>);

/// Whose token it is, whatever it is for.
pub struct MaybeToken(pub Option<Person>);

/// The `Idempotency-Key` header, which must be there.
pub struct IdempotencyKey(pub String);

/// A JSON body.
pub struct Json<T>(pub T);

/// An `application/sdp` body.
pub struct Sdp(pub String);

/// Parsed parts of the path.
pub struct Ids<T>(pub T);

/// The token of an `Authorization: Bearer` header.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let unreadable = || Fault::new(ErrorCode::Unauthorized, "Authorization is not a bearer token");
    let (scheme, token) = value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or_else(unreadable)?;
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Ok(Some(token.trim())),
        false => Err(unreadable()),
    }
}

/// The room of the path, else that of the query: `?room=`.
async fn named_room(parts: &mut Parts) -> Result<Option<RoomId>, Fault> {
    #[derive(Deserialize)]
    struct Named {
        room: Option<RoomId>,
    }
    if let Ok(Path(in_path)) = parts.extract::<Path<HashMap<String, String>>>().await
        && let Some(room) = in_path.get("room")
    {
        return room.parse().map(Some).map_err(|_| Fault::new(ErrorCode::NotFound, "no such address"));
    }
    Ok(query::<Named>(&parts.uri)?.room)
}

impl FromRequestParts<App> for MaybeBearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let person = bearer(&parts.headers)?.map(|token| app.shop.person(token)).transpose()?;
        let shop = shop_of(app, person.as_ref(), named_room(parts).await?)?;
        Ok(Self { person, shop })
    }
}

fn shop_of(app: &App, person: Option<&Person>, named: Option<RoomId>) -> Result<Arc<Shop>, Fault> {
    match (person, named) {
        (Some(person), named) => app.rehearsals.of(person, named.as_ref()),
        (None, Some(named)) => app.rehearsals.at(&named),
        (None, None) => Ok(app.shop.clone()),
    }
}

impl FromRequestParts<App> for Shown {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = bearer(&parts.headers).ok().flatten();
        let person = token.and_then(|token| app.shop.person(token).ok());
        Ok(Self(shop_of(app, person.as_ref(), named_room(parts).await?)?))
    }
}

impl FromRequestParts<App> for MaybeToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Ok(Self(bearer(&parts.headers)?.map(|token| app.shop.person(token)).transpose()?))
    }
}

impl FromRequestParts<App> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if bearer(&parts.headers)?.is_none() {
            return Err(Fault::new(ErrorCode::Unauthorized, "this needs a token").into());
        }
        let MaybeBearer { person, shop } = MaybeBearer::from_request_parts(parts, app).await?;
        let person = person.ok_or_else(|| Fault::new(ErrorCode::Unauthorized, "this needs a token"))?;
        Ok(Self { person, shop })
    }
}

impl FromRequestParts<App> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let key = parts.headers.get("idempotency-key").and_then(|v| v.to_str().ok());
        let missing = || Fault::malformed("Idempotency-Key", "this needs an Idempotency-Key header");
        Ok(Self(key.ok_or_else(missing)?.to_owned()))
    }
}

impl<T: DeserializeOwned + Send + 'static> FromRequestParts<App> for Ids<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        // An id that cannot exist does not exist.
        let path = parts.extract::<Path<T>>().await;
        path.map(|Path(ids)| Self(ids)).map_err(|_| Fault::new(ErrorCode::NotFound, "no such address").into())
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        require_type(request.headers(), "application/json")?;
        let body = read(request, &app.config).await?;
        app.shop.limits.json(&body)?;
        let parsed = serde_json::from_slice(&body);
        Ok(Self(parsed.map_err(|e| Fault::new(ErrorCode::Malformed, e.to_string()))?))
    }
}

impl FromRequest<App> for Sdp {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        require_type(request.headers(), "application/sdp")?;
        let body = read(request, &app.config).await?;
        let text = String::from_utf8(body.into());
        Ok(Self(text.map_err(|_| Fault::new(ErrorCode::BadOffer, "the offer is not text"))?))
    }
}

pub fn require_type(headers: &HeaderMap, wanted: &'static str) -> Result<(), Fault> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = sent.split(';').next().unwrap_or_default().trim();
    match essence.eq_ignore_ascii_case(wanted) {
        true => Ok(()),
        false => Err(Fault::new(ErrorCode::UnsupportedMediaType, format!("the body must be {wanted}"))),
    }
}

/// The whole body: not longer, and not more slowly, than is configured.
pub async fn read(request: Request, config: &Config) -> Result<Bytes, Fault> {
    let (bytes_max, deadline) = (config.body_bytes_max, Duration::from_secs(config.body_seconds));
    let body = Limited::new(request.into_body(), bytes_max);
    match tokio::time::timeout(deadline, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(Fault::new(ErrorCode::TooLarge, format!("a body has at most {bytes_max} bytes"))),
        Err(_) => Err(Fault::new(ErrorCode::Malformed, "the body came too slowly")),
    }
}

impl FromRequestParts<App> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        let unknown = || Self(SocketAddr::from(([0, 0, 0, 0], 0)));
        Ok(parts.extensions.get::<Self>().copied().unwrap_or_else(unknown))
    }
}
