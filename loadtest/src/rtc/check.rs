//! Connectivity checks as a controlling agent makes them (RFC 8445). A lite server only answers them; others check back.

use std::net::SocketAddr;

use crypto::RTCCrypto;
use stun::{
    attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, BINDING_SUCCESS, Message, TransactionId},
    textattrs::TextAttribute,
    xoraddr::XorMappedAddress,
};

/// A host candidate found by a check (peer-reflexive, RFC 8445, 5.1.2).
const PRIORITY: u32 = 110 << 24 | 0xFFFF << 8 | 255;

/// A binding request that nominates its path. `tie_breaker` is our number in a conflict of roles.
pub fn request(username: &str, password: &str, tie_breaker: u64, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
    let raw = |typ, value: Vec<u8>| RawAttribute { typ, length: value.len() as u16, value };
    let mut message = Message::new();
    message
        .build(&[
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(TextAttribute::new(ATTR_USERNAME, username.to_owned())),
            Box::new(raw(ATTR_ICE_CONTROLLING, tie_breaker.to_be_bytes().to_vec())),
            Box::new(raw(ATTR_PRIORITY, PRIORITY.to_be_bytes().to_vec())),
            Box::new(raw(ATTR_USE_CANDIDATE, Vec::new())),
            Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto)),
            Box::new(FINGERPRINT),
        ])
        .ok()?;
    Some(message.raw)
}

/// Whether this is a good answer to a check of ours. The socket is connected, so it is the server's; its integrity is
/// proved by the handshake that follows.
pub fn is_answer(datagram: &[u8]) -> bool {
    let mut message = Message::new();
    message.unmarshal_binary(datagram).is_ok() && message.typ == BINDING_SUCCESS
}

/// The answer to a check of the server's, which comes from `server`; none if it is no check made with our `password`.
pub fn answer(datagram: &[u8], server: SocketAddr, password: &str, crypto: &dyn RTCCrypto) -> Option<Vec<u8>> {
    let mut check = Message::new();
    check.unmarshal_binary(datagram).ok().filter(|()| check.typ == BINDING_REQUEST)?;
    MessageIntegrity::check(&mut check, password.as_bytes(), crypto).ok()?;
    let mut message = Message::new();
    message
        .build(&[
            Box::new(BINDING_SUCCESS),
            Box::new(check.transaction_id),
            Box::new(XorMappedAddress { ip: server.ip(), port: server.port() }),
            Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto)),
            Box::new(FINGERPRINT),
        ])
        .ok()?;
    Some(message.raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::RTCCryptoProvider as _;

    const PASSWORD: &str = "a password of 24 letters";

    #[test]
    fn a_check_back_is_answered_and_a_strangers_is_not() {
        let provider = crypto::providers::AwsLcRsProvider::new();
        let server = SocketAddr::from(([127, 0, 0, 1], 4_000));
        let check = request("ours:theirs", PASSWORD, 7, provider.crypto()).unwrap();
        assert!(!is_answer(&check));
        assert!(is_answer(&answer(&check, server, PASSWORD, provider.crypto()).unwrap()));
        assert!(answer(&check, server, "another password, as long", provider.crypto()).is_none());
        assert!(answer(&check[..check.len() - 1], server, PASSWORD, provider.crypto()).is_none());
    }
}
