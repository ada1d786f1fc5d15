//! The demo's own: tokens for whoever asks from this machine.

use std::net::IpAddr;

use axum::{
    extract::State,
    http::{HeaderMap, header},
};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, App, Peer, extract::Json, ok};
use crate::{
    id::{MerchantId, RoomId, Sub},
    protocol::{Claims, Fault, Role, RoomScope},
};

const TTL_SECONDS: i64 = 12 * 3600;

#[derive(Deserialize)]
pub(super) struct TokenBody {
    room: RoomId,
    role: Role,
    user: Sub,
    name: Option<String>,
}

/// `{room, role, user}` -> `{token}`, to a loopback peer, Host and Origin only. The anchor is always the room's own.
pub(super) async fn token(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    Json(body): Json<TokenBody>,
) -> Answer {
    let named = |name| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let host_is_near = named(header::HOST).is_some_and(is_loopback);
    let origin_is_near = named(header::ORIGIN).is_none_or(|o| o.split_once("://").is_some_and(|(_, h)| is_loopback(h)));
    if !(host_is_near && origin_is_near && peer.0.ip().to_canonical().is_loopback()) {
        return Err(Fault::forbidden("the demo gives tokens to this machine only").into());
    }
    let room = app.rehearsals.at(&body.room)?.room(&body.room)?;
    let sub = if body.role == Role::Anchor { room.facts().anchor.clone() } else { body.user };
    let claims = Claims {
        sub,
        exp: app.shop.clock.wall().0 / 1_000 + TTL_SECONDS,
        room: RoomScope::One(body.room),
        role: body.role,
        merchant: (body.role == Role::Merchant).then(MerchantId::main),
        can: None,
        name: body.name,
        region: None,
        promoter: None,
        sim: false,
        jti: None,
    };
    Ok(ok(&json!({ "token": app.shop.keyring.sign(&claims) })))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_this_machine_is_loopback() {
        for near in ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:80", "[::1]:8080", "[::1]"] {
            assert!(is_loopback(near), "{near}");
        }
        for far in ["evil.example", "127.0.0.1.evil.example:80", "192.0.2.1", "localhost.evil.example", ""] {
            assert!(!is_loopback(far), "{far}");
        }
    }
}
