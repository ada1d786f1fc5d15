//! What handlers take from a request: bearer, JSON body, SDP body, idempotency key, ids in the path.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    RequestPartsExt,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, header, request::Parts},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;

use super::{App, Config, error::Problem};
use crate::{
    protocol::{ErrorCode, Fault},
    session::Person,
};

/// The address that a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Somebody with a valid bearer token.
pub struct Bearer(pub Person);

/// Somebody with a valid bearer token, or nobody; a bad token is still refused.
pub struct MaybeBearer(pub Option<Person>);

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

impl FromRequestParts<App> for MaybeBearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let person = bearer(&parts.headers)?.map(|token| app.shop.person(token)).transpose()?;
        Ok(Self(person))
    }
}

impl FromRequestParts<App> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let MaybeBearer(person) = MaybeBearer::from_request_parts(parts, app).await?;
        person.map(Self).ok_or_else(|| Fault::new(ErrorCode::Unauthorized, "this needs a token").into())
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
