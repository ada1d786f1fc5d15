//! The same frames as server-sent events.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use serde::Deserialize;

use super::{
    Answer, App, Peer,
    extract::{Ids, bearer},
    query,
};
use crate::{
    id::RoomId,
    protocol::{ErrorCode, Fault},
    session::{Heard, Listener, Next},
};

#[derive(Deserialize)]
struct EventsQuery {
    /// `EventSource` cannot send headers.
    token: Option<String>,
}

pub(super) async fn events(
    State(app): State<App>,
    peer: Peer,
    Ids(room): Ids<RoomId>,
    headers: HeaderMap,
    uri: Uri,
) -> Answer {
    let asked: EventsQuery = query(&uri)?;
    let token = bearer(&headers)?.map(str::to_owned).or(asked.token);
    let token = token.ok_or_else(|| Fault::new(ErrorCode::Unauthorized, "this needs a token"))?;
    let person = app.shop.person(&token)?;
    let shop = app.rehearsals.at(&room)?;
    let Some(place) = shop.limits.connect(peer.0.ip()) else {
        return Err(Fault::new(ErrorCode::RateLimited, "too many connections of one address")
            .retry_after(5_000)
            .into());
    };
    if let Err(wait) = shop.limits.arrive() {
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        return Err(Fault::new(ErrorCode::Busy, "too many come at once").retry_after(wait).into());
    }
    let last = headers.get("last-event-id").and_then(|v| v.to_str().ok());
    let listener = Listener::enter(&shop, &person, &room, last, Some(place)).await?;
    Ok(respond(listener, Counted::new(app.streams.clone())))
}

/// Counts the streams that are open.
struct Counted(Arc<AtomicU64>);

impl Counted {
    fn new(streams: Arc<AtomicU64>) -> Self {
        streams.fetch_add(1, Ordering::Relaxed);
        Self(streams)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn respond(listener: Listener, counted: Counted) -> Response {
    let chunks = stream::unfold((listener, counted), |(mut listener, counted)| async move {
        let chunk = match listener.next().await {
            Next::Heard(heard) => encode(&heard),
            Next::Silence => Bytes::from_static(b":\n\n"),
            Next::End => return None,
        };
        Some((Ok::<_, Infallible>(chunk), (listener, counted)))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(chunks)).into_response()
}

/// JSON has no raw line breaks, so that one `data` line holds it.
fn encode(heard: &Heard) -> Bytes {
    let mut chunk = BytesMut::with_capacity(heard.text.len() + 64);
    if let Some(id) = &heard.id {
        chunk.put_slice(b"id: ");
        chunk.put_slice(id.as_bytes());
        chunk.put_u8(b'\n');
    }
    chunk.put_slice(b"data: ");
    chunk.put_slice(&heard.text);
    chunk.put_slice(b"\n\n");
    chunk.freeze()
}
