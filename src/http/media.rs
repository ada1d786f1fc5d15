//! WHIP (RFC 9725) and WHEP: sessions made by POST, ended by DELETE.

use axum::{
    extract::{OriginalUri, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use super::{
    Answer, App, Peer,
    extract::{self, Bearer, Ids, Sdp},
};
use crate::{
    id::{RoomId, SessionId},
    media,
    protocol::{ErrorCode, Fault},
};

const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

pub(super) async fn whip(
    Bearer { person, shop }: Bearer,
    Ids(room): Ids<RoomId>,
    peer: Peer,
    Sdp(offer): Sdp,
) -> Answer {
    let answer = shop.publish(&person, &room, &offer, Some(peer.0.ip())).await?;
    Ok(created("whip", &room, answer))
}

pub(super) async fn whep(
    Bearer { person, shop }: Bearer,
    Ids(room): Ids<RoomId>,
    peer: Peer,
    Sdp(offer): Sdp,
) -> Answer {
    let answer = shop.watch(&person, &room, &offer, Some(peer.0.ip())).await?;
    Ok(created("whep", &room, answer))
}

/// 201 with the answer, the session's address and its strong ETag.
fn created(kind: &str, room: &RoomId, answer: media::Answer) -> Response {
    let location = format!("/{kind}/{room}/{}", answer.session);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/sdp")),
        (header::LOCATION, location.parse().expect("ids fit a header")),
        (header::ETAG, quoted(&answer.etag).parse().expect("an ETag fits a header")),
        (header::HeaderName::from_static("accept-patch"), HeaderValue::from_static(FRAGMENT)),
    ];
    (StatusCode::CREATED, headers, answer.sdp).into_response()
}

fn quoted(etag: &str) -> String {
    format!("\"{}\"", etag.trim_matches('"'))
}

pub(super) async fn end(
    Bearer { person, shop }: Bearer,
    Ids((room, session)): Ids<(RoomId, SessionId)>,
    OriginalUri(uri): OriginalUri,
) -> Answer {
    shop.etag(&person, &room, session, publishes(&uri))?;
    shop.leave(&person, &room, session)?;
    Ok(StatusCode::OK.into_response())
}

/// Trickled candidates are read and dropped: we are ICE-lite and learn the peer's address from its checks. An ICE
/// restart is not supported, and says so with 422 (RFC 9725 section 4.3).
pub(super) async fn patch(
    State(app): State<App>,
    Bearer { person, shop }: Bearer,
    Ids((room, session)): Ids<(RoomId, SessionId)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    request: Request,
) -> Answer {
    let own = shop.etag(&person, &room, session, publishes(&uri))?;
    extract::require_type(&headers, FRAGMENT)?;
    let body = extract::read(request, &app.config).await?;
    let fragment =
        std::str::from_utf8(&body).map_err(|_| Fault::new(ErrorCode::BadOffer, "the fragment is not text"))?;
    match headers.get(header::IF_MATCH) {
        None => return Err(Fault::new(ErrorCode::PreconditionRequired, "PATCH needs If-Match").into()),
        Some(tag) if tag == "*" => {
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, "ICE restart is not supported").into_response());
        }
        Some(tag) if tag.as_bytes() != quoted(&own).as_bytes() => {
            return Err(Fault::new(ErrorCode::PreconditionFailed, "the session has another ETag").into());
        }
        Some(_) => {}
    }
    shop.candidate(&person, &room, session, fragment).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Whether an address is of a session that publishes (WHIP) or watches (WHEP).
fn publishes(uri: &Uri) -> bool {
    uri.path().starts_with("/whip/")
}

/// GET is answered with 2xx and no content (RFC 9725 section 4.1).
pub(super) async fn nothing() -> StatusCode {
    StatusCode::NO_CONTENT
}

pub(super) async fn options(OriginalUri(uri): OriginalUri) -> Response {
    let session = uri.path().matches('/').count() > 2;
    let (allow, accept) = match session {
        true => ("DELETE, GET, OPTIONS, PATCH", ("accept-patch", FRAGMENT)),
        false => ("GET, OPTIONS, POST", ("accept-post", "application/sdp")),
    };
    (StatusCode::OK, [("allow", allow), accept]).into_response()
}
