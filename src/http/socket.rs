//! The WebSocket upgrade (RFC 6455 section 4.2): here the handshake, then the socket moves to a shard.

use std::io;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::{Instrument, debug};

use super::{Answer, App, Peer, extract::Ids};
use crate::{
    fanout::{Fanout, Socket},
    id::RoomId,
    protocol::{ErrorCode, Fault, SUBPROTOCOL},
    session::Live,
};

pub(super) async fn upgrade(
    State(app): State<App>,
    peer: Peer,
    Ids(room): Ids<RoomId>,
    mut request: Request,
) -> Answer {
    let headers = request.headers();
    let accept = handshake(headers)?;
    let deflates = app.fanout.deflates() && offers_deflate(headers);
    if let Some(origin) = headers.get(header::ORIGIN)
        && !app.allows(origin, headers.get(header::HOST))
    {
        return Err(Fault::forbidden("pages of this origin may not use this server").into());
    }
    let shop = app.rehearsals.at(&room)?;
    let room = shop.room(&room)?;
    let Some(place) = shop.limits.connect(peer.0.ip()) else {
        return Err(Fault::new(ErrorCode::RateLimited, "too many connections of one address")
            .retry_after(5_000)
            .into());
    };
    let upgraded = request.extensions_mut().remove::<OnUpgrade>();
    let upgraded = upgraded.ok_or_else(|| Fault::new(ErrorCode::Malformed, "this connection cannot be upgraded"))?;

    // A browser is told no status of an upgrade that is refused, but the close code and its reason.
    let live = match shop.limits.arrive() {
        Ok(()) => Live::new(shop.clone(), room, Some(place)),
        Err(wait) => Live::turned_away(shop.clone(), room, Some(place), wait),
    };
    let fanout = app.fanout.clone();
    #[expect(clippy::let_underscore_future, reason = "it ends when the upgrade is done or the connection is gone")]
    let _ = tokio::spawn(
        async move {
            match upgraded.await {
                Ok(upgraded) => move_to_shard(&fanout, upgraded, deflates, live),
                Err(error) => debug!(%error, "an upgrade did not happen"),
            }
        }
        .in_current_span(),
    );
    Ok(switching(&accept, deflates))
}

/// Checks the handshake's headers; the answer is the `Sec-WebSocket-Accept` value.
fn handshake(headers: &HeaderMap) -> Result<String, Fault> {
    let has = |name: header::HeaderName, token: &str| {
        let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        values.flat_map(|v| v.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
    };
    let wrong = |why: &'static str| Err(Fault::new(ErrorCode::Malformed, why));
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return wrong("this address is for WebSockets");
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
        return wrong("the WebSocket version must be 13");
    }
    if !has(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return wrong("the subprotocol must be maishou.v1.json");
    }
    match headers.get(header::SEC_WEBSOCKET_KEY) {
        Some(key) => Ok(derive_accept_key(key.as_bytes())),
        None => wrong("Sec-WebSocket-Key is missing"),
    }
}

/// What permessage-deflate is agreed on with: nobody refers back to earlier messages, so that one compressed frame
/// serves everybody, and a connection keeps no window (RFC 7692 section 7.1.1).
const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Whether one of the offers is a permessage-deflate that we can keep: any but one that limits our window, which one
/// frame for all cannot follow (RFC 7692 sections 5 and 7.1.2.1).
fn offers_deflate(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|v| v.to_str().ok());
    offers.flat_map(|v| v.split(',')).any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        let known = |parameter: &str| {
            let name = parameter.split('=').next().unwrap_or_default().trim();
            ["server_no_context_takeover", "client_no_context_takeover", "client_max_window_bits"].contains(&name)
        };
        parts.next() == Some("permessage-deflate") && parts.all(known)
    })
}

fn switching(accept: &str, deflates: bool) -> Response {
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept.parse().expect("base64 fits a header")),
        (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL)),
    ];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    if deflates {
        response.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(DEFLATE));
    }
    response
}

fn move_to_shard(fanout: &Fanout, upgraded: Upgraded, deflates: bool, live: Live) {
    let socket = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => plain(parts.io.into_inner(), parts.read_buf, deflates),
        Err(upgraded) => match upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>() {
            Ok(parts) => tls(parts.io.into_inner(), parts.read_buf, deflates),
            Err(_) => return debug!("an upgraded connection is of an unknown kind"),
        },
    };
    let moved = socket.map_err(|e| e.to_string());
    let adopted = moved.and_then(|socket| fanout.adopt(socket, Box::new(live)).map_err(|e| e.to_string()));
    if let Err(error) = adopted {
        debug!(error, "a socket was not adopted");
    }
}

fn plain(stream: TcpStream, read_ahead: Bytes, deflates: bool) -> io::Result<Socket> {
    Ok(Socket { stream: stream.into_std()?, tls: None, read_ahead, deflates })
}

fn tls(stream: TlsStream<TcpStream>, read_ahead: Bytes, deflates: bool) -> io::Result<Socket> {
    let (stream, session) = stream.into_inner();
    Ok(Socket { stream: stream.into_std()?, tls: Some(Box::new(session)), read_ahead, deflates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deflate_is_agreed_on_unless_it_would_limit_our_window() {
        let offers = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(text));
            offers_deflate(&headers)
        };
        assert!(offers("permessage-deflate"));
        assert!(offers("permessage-deflate; client_max_window_bits"));
        assert!(offers("x-other, permessage-deflate; client_no_context_takeover; server_no_context_takeover"));
        assert!(offers("permessage-deflate; server_max_window_bits=10, permessage-deflate"), "the second one");
        assert!(!offers("permessage-deflate; server_max_window_bits=10"));
        assert!(!offers("permessage-deflate; surprise"));
        assert!(!offers("x-webkit-deflate-frame"));
        assert!(!offers_deflate(&HeaderMap::new()));
    }
}
