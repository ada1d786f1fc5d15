//! Connectivity checks as an ICE-lite server sees them: read a binding request, answer it (RFC 8445, 8489).

use std::net::SocketAddr;

use crypto::RTCCrypto;
use stun::{
    attributes::{
        ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType, RawAttribute,
    },
    error_code::CODE_ROLE_CONFLICT,
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, Setter},
    xoraddr::XorMappedAddress,
};

/// A binding request that is well formed and not yet authenticated.
pub struct Request {
    message: Message,
    /// The half of USERNAME that we chose: it names the peer.
    pub local_ufrag: String,
    /// The peer chose this path.
    pub nominates: bool,
    /// The peer thinks that we are in control; a lite agent never is.
    role_conflict: bool,
}

impl Request {
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let mut message = Message::new();
        message.unmarshal_binary(datagram).ok()?;
        if message.typ != BINDING_REQUEST {
            return None;
        }
        FINGERPRINT.check(&message).ok()?;

        let username = protected(&message, ATTR_USERNAME)?.value.clone();
        let local_ufrag = std::str::from_utf8(&username).ok()?.split(':').next()?.to_owned();
        let nominates = protected(&message, ATTR_USE_CANDIDATE).is_some();
        let role_conflict = protected(&message, ATTR_ICE_CONTROLLED).is_some();
        Some(Self { message, local_ufrag, nominates, role_conflict })
    }

    /// Whether the sender knows the password that we gave this peer.
    pub fn is_authentic(&mut self, password: &str, crypto: &dyn RTCCrypto) -> bool {
        MessageIntegrity::check(&mut self.message, password.as_bytes(), crypto).is_ok()
    }

    /// The answer, and whether the check succeeded: on a conflict of roles it asks the peer to change hers.
    pub fn answer(&self, from: SocketAddr, password: &str, crypto: &dyn RTCCrypto) -> Option<(Vec<u8>, bool)> {
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto);
        // A dual-stack socket shows IPv4 peers as mapped addresses; the peer knows itself by the plain one.
        let mapped = XorMappedAddress { ip: from.ip().to_canonical(), port: from.port() };
        let succeeds = !self.role_conflict;

        let mut parts: Vec<Box<dyn Setter + '_>> = Vec::with_capacity(5);
        if succeeds {
            parts.extend([Box::new(BINDING_SUCCESS) as Box<dyn Setter>, Box::new(self.message.transaction_id)]);
            parts.push(Box::new(mapped));
        } else {
            parts.extend([Box::new(BINDING_ERROR) as Box<dyn Setter>, Box::new(self.message.transaction_id)]);
            parts.push(Box::new(CODE_ROLE_CONFLICT));
        }
        parts.push(Box::new(integrity));
        parts.push(Box::new(FINGERPRINT));

        let mut response = Message::new();
        response.build(&parts).ok()?;
        Some((response.raw, succeeds))
    }
}

/// An attribute that MESSAGE-INTEGRITY covers: one behind it could have been added by anybody.
fn protected(message: &Message, wanted: AttrType) -> Option<&RawAttribute> {
    let covered = message.attributes.0.iter().take_while(|attribute| attribute.typ != ATTR_MESSAGE_INTEGRITY);
    covered.into_iter().find(|attribute| attribute.typ == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::RTCCryptoProvider;
    use proptest::prelude::*;
    use stun::{attributes::ATTR_ICE_CONTROLLING, error_code::ErrorCodeAttribute, message::Getter};

    const PASSWORD: &str = "a password of 24 letters";

    fn provider() -> crypto::providers::AwsLcRsProvider {
        crypto::providers::AwsLcRsProvider::new()
    }

    fn request(attributes: &[(AttrType, &[u8])], unprotected: &[(AttrType, &[u8])]) -> Vec<u8> {
        let provider = provider();
        let mut message = Message::new();
        message.set_type(BINDING_REQUEST);
        message.new_transaction_id().unwrap();
        message.write_header();
        message.add(ATTR_USERNAME, b"ours:theirs");
        for (kind, value) in attributes {
            message.add(*kind, value);
        }
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(PASSWORD.into(), provider.crypto());
        integrity.add_to(&mut message).unwrap();
        for (kind, value) in unprotected {
            message.add(*kind, value);
        }
        FINGERPRINT.add_to(&mut message).unwrap();
        message.raw
    }

    #[test]
    fn a_check_is_answered_with_the_address_it_came_from() {
        let mut request = Request::parse(&request(&[(ATTR_ICE_CONTROLLING, &[1; 8])], &[])).unwrap();
        assert_eq!(request.local_ufrag, "ours");
        assert!(request.is_authentic(PASSWORD, provider().crypto()));
        assert!(!request.is_authentic("another", provider().crypto()));

        let from: SocketAddr = "[::ffff:10.1.2.3]:4000".parse().unwrap();
        let (answer, succeeds) = request.answer(from, PASSWORD, provider().crypto()).unwrap();
        let mut message = Message::new();
        message.unmarshal_binary(&answer).unwrap();
        assert!(succeeds && message.typ == BINDING_SUCCESS);
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&message).unwrap();
        assert_eq!((mapped.ip.to_string().as_str(), mapped.port), ("10.1.2.3", 4000));
        assert!(MessageIntegrity::check(&mut message, PASSWORD.as_bytes(), provider().crypto()).is_ok());
    }

    #[test]
    fn a_peer_that_wants_to_be_controlled_is_told_487() {
        let request = Request::parse(&request(&[(ATTR_ICE_CONTROLLED, &[1; 8])], &[])).unwrap();
        let (answer, succeeds) = request.answer("[::1]:1".parse().unwrap(), PASSWORD, provider().crypto()).unwrap();
        let mut message = Message::new();
        message.unmarshal_binary(&answer).unwrap();
        let mut code = ErrorCodeAttribute::default();
        code.get_from(&message).unwrap();
        assert!(!succeeds && message.typ == BINDING_ERROR && code.code.0 == 487);
    }

    #[test]
    fn a_nomination_behind_the_integrity_does_not_count() {
        assert!(Request::parse(&request(&[(ATTR_USE_CANDIDATE, &[])], &[])).unwrap().nominates);
        assert!(!Request::parse(&request(&[], &[(ATTR_USE_CANDIDATE, &[])])).unwrap().nominates);
    }

    proptest! {
        #[test]
        fn no_datagram_panics(at in 0usize..80, byte in any::<u8>(), cut in 0usize..120) {
            let mut datagram = request(&[(ATTR_ICE_CONTROLLING, &[1; 8])], &[]);
            let index = at % datagram.len();
            datagram[index] = byte;
            datagram.truncate(datagram.len().saturating_sub(cut));
            if let Some(mut request) = Request::parse(&datagram) {
                let _ = request.is_authentic(PASSWORD, provider().crypto());
                let _ = request.answer("127.0.0.1:1".parse().unwrap(), PASSWORD, provider().crypto());
            }
        }
    }
}
