//! Tokens: reading, signing, and the name that the public of a room knows a person by.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};

use crate::{
    clock::UnixMs,
    id::{MerchantId, RoomId, Sub, Who},
    order::Party,
    protocol::{Claims, ErrorCode, Fault, Role},
    room::{Author, RoomFacts},
};

/// The least bytes of a secret that `serve` starts with.
pub const SECRET_LEN_MIN: usize = 32;
/// Characters of a `who`.
const WHO_LEN: usize = 12;
/// The longest token that is looked at, in bytes.
const TOKEN_LEN_MAX: usize = 8 * 1024;

/// Signs tokens with the secret, takes those signed with it or with the one before.
#[derive(Clone)]
pub struct Keyring(Arc<Keys>);

struct Keys {
    sign: EncodingKey,
    verify: Vec<DecodingKey>,
    who: hmac::Key,
}

impl Keyring {
    pub fn new(secret: &str, previous: &str) -> Self {
        let secrets = [secret, previous].into_iter().filter(|s| !s.is_empty());
        Self(Arc::new(Keys {
            sign: EncodingKey::from_secret(secret.as_bytes()),
            verify: secrets.map(|s| DecodingKey::from_secret(s.as_bytes())).collect(),
            who: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
        }))
    }

    /// Reads a token. Refused with `unauthorized` when it is not signed by us, has ended at `now`, or lacks a claim.
    pub fn person(&self, token: &str, now: UnixMs) -> Result<Person, Fault> {
        let refused = |why: &'static str| Fault::new(ErrorCode::Unauthorized, why);
        if token.len() > TOKEN_LEN_MAX {
            return Err(refused("the token is too long"));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        // The end is checked below against our own clock, to the millisecond.
        validation.validate_exp = false;
        let read = |key| jsonwebtoken::decode::<Claims>(token, key, &validation);
        let claims =
            self.0.verify.iter().find_map(|key| read(key).ok()).ok_or_else(|| refused("the token is not valid"))?;
        let claims = claims.claims;
        if claims.exp.saturating_mul(1_000) <= now.0 {
            return Err(refused("the token has ended"));
        }
        if claims.role == Role::Merchant && claims.merchant.is_none() {
            return Err(refused("a merchant's token names the merchant"));
        }
        Ok(Person { claims: Arc::new(claims), keyring: self.clone() })
    }

    pub fn sign(&self, claims: &Claims) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.0.sign).expect("claims are plain data")
    }

    /// Stable in the room and useless elsewhere: HMAC over room and `sub`, cut to 12 characters.
    pub fn who(&self, room: &RoomId, sub: &Sub) -> Who {
        let mut mac = hmac::Context::with_key(&self.0.who);
        mac.update(room.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(sub.as_str().as_bytes());
        let text = URL_SAFE_NO_PAD.encode(mac.sign().as_ref());
        Who(text[..WHO_LEN].into())
    }
}

/// Somebody with a valid token.
#[derive(Clone)]
pub struct Person {
    claims: Arc<Claims>,
    keyring: Keyring,
}

impl Person {
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    pub fn sub(&self) -> &Sub {
        &self.claims.sub
    }

    pub fn role(&self) -> Role {
        self.claims.role
    }

    pub fn ends_at(&self) -> UnixMs {
        UnixMs(self.claims.exp.saturating_mul(1_000))
    }

    pub fn who(&self, room: &RoomId) -> Who {
        self.keyring.who(room, &self.claims.sub)
    }

    /// The person as the room's public sees them. The anchor's role is that of the room's anchor only.
    pub fn author(&self, room: &RoomFacts) -> Author {
        let who = self.who(&room.id);
        let name = self.claims.name.as_deref().and_then(crate::room::text::name);
        let name = name.unwrap_or_else(|| format!("Guest {}", &who.as_str()[..4]));
        let role = match self.claims.role {
            Role::Anchor if self.claims.sub != room.anchor => Role::Viewer,
            role => role,
        };
        Author { who, name, role }
    }

    /// One character of the name and a mask, for the notice that something was sold.
    pub fn masked_name(&self) -> Option<String> {
        let name = self.claims.name.as_deref().and_then(crate::room::text::name)?;
        name.chars().next().map(|first| format!("{first}**"))
    }

    /// How the desk knows this person.
    pub fn party(&self) -> Party {
        let sub = self.claims.sub.clone();
        match (self.claims.role, &self.claims.merchant) {
            (Role::Admin, _) => Party::Admin { sub },
            (Role::Merchant, Some(merchant)) => Party::Merchant { sub, merchant: merchant.clone() },
            _ => Party::Buyer(sub),
        }
    }

    /// The merchant whose goods this person keeps: their own, or for an admin any.
    pub fn merchant(&self) -> Option<&MerchantId> {
        self.claims.merchant.as_ref().filter(|_| self.claims.role == Role::Merchant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::RoomScope;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn claims(exp: i64) -> Claims {
        Claims {
            sub: "alice".parse().unwrap(),
            exp,
            room: RoomScope::Any,
            role: Role::Viewer,
            merchant: None,
            can: None,
            name: Some("Alice".into()),
            region: None,
            promoter: None,
            sim: false,
            jti: None,
        }
    }

    #[test]
    fn a_token_is_good_until_its_end_and_under_its_key_only() {
        let keyring = Keyring::new(SECRET, "");
        let token = keyring.sign(&claims(100));
        assert!(keyring.person(&token, UnixMs(99_999)).is_ok());
        assert!(keyring.person(&token, UnixMs(100_000)).is_err());
        let other = Keyring::new(&SECRET.replace('0', "z"), "");
        assert!(other.person(&token, UnixMs(0)).is_err());
        let rotated = Keyring::new(&SECRET.replace('0', "z"), SECRET);
        assert!(rotated.person(&token, UnixMs(0)).is_ok());
    }

    #[test]
    fn an_unsigned_token_is_no_token() {
        let keyring = Keyring::new(SECRET, "");
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims(100)).unwrap());
        let none = format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#));
        assert!(keyring.person(&none, UnixMs(0)).is_err());
    }

    #[test]
    fn a_who_is_stable_in_a_room_and_different_in_the_next() {
        let keyring = Keyring::new(SECRET, "");
        let (a, b): (RoomId, RoomId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let alice: Sub = "alice".parse().unwrap();
        assert_eq!(keyring.who(&a, &alice), keyring.who(&a, &alice));
        assert_ne!(keyring.who(&a, &alice), keyring.who(&b, &alice));
        assert_eq!(keyring.who(&a, &alice).as_str().len(), 12);
    }
}
