//! Tokens as a shop would mint them, and the wrong ones that nobody should accept.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use maishou::clock::Clock;
use serde_json::{Value, json};

/// Mints tokens under one secret.
#[derive(Clone)]
pub struct Tokens {
    secret: Vec<u8>,
}

impl Tokens {
    pub fn new(secret: &str) -> Self {
        Self { secret: secret.as_bytes().to_vec() }
    }

    pub fn viewer(&self, room: &str, sub: &str) -> String {
        self.mint(&claims(room, "viewer", sub))
    }

    pub fn anchor(&self, room: &str, sub: &str) -> String {
        self.mint(&claims(room, "anchor", sub))
    }

    pub fn admin(&self) -> String {
        self.mint(&claims("*", "admin", "admin"))
    }

    pub fn merchant(&self, merchant: &str) -> String {
        self.mint(&with(claims("*", "merchant", merchant), json!({ "merchant": merchant })))
    }

    /// An assistant who may do only what `can` names.
    pub fn assistant(&self, room: &str, sub: &str, can: &[&str]) -> String {
        self.mint(&with(claims(room, "assistant", sub), json!({ "can": can })))
    }

    /// Signs whatever claims it is given.
    pub fn mint(&self, claims: &Value) -> String {
        encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(&self.secret))
            .expect("claims are signable")
    }

    /// Good in form, signed by somebody else.
    pub fn forged(&self, room: &str, sub: &str) -> String {
        Self::new("a secret that the server has never been told").anchor(room, sub)
    }

    pub fn expired(&self, room: &str, sub: &str) -> String {
        let long_ago = unix_seconds() - 24 * 3600;
        self.mint(&with(claims(room, "viewer", sub), json!({ "exp": long_ago })))
    }

    pub fn without_end(&self, room: &str, sub: &str) -> String {
        let mut claims = claims(room, "viewer", sub);
        claims.as_object_mut().expect("claims are an object").remove("exp");
        self.mint(&claims)
    }

    /// The right key under an algorithm that the contract does not name.
    pub fn other_algorithm(&self, room: &str, sub: &str) -> String {
        let key = EncodingKey::from_secret(&self.secret);
        encode(&Header::new(Algorithm::HS384), &claims(room, "viewer", sub), &key).expect("claims are signable")
    }

    /// `{"alg":"none"}` with an empty signature.
    pub fn unsigned(&self, room: &str, sub: &str) -> String {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let body = URL_SAFE_NO_PAD.encode(claims(room, "admin", sub).to_string());
        format!("{header}.{body}.")
    }
}

/// Claims of a person in a room for the next hour. Her name is her `sub` with a capital.
pub fn claims(room: &str, role: &str, sub: &str) -> Value {
    let mut name = sub.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    json!({ "sub": sub, "exp": unix_seconds() + 3600, "room": room, "role": role, "name": name })
}

/// `claims` with the fields of `more` added or replaced.
pub fn with(mut claims: Value, more: Value) -> Value {
    let (Value::Object(all), Value::Object(more)) = (&mut claims, more) else {
        panic!("claims are objects");
    };
    all.extend(more);
    claims
}

/// Claims that end `left` from now.
pub fn ending_in(claims: Value, left: Duration) -> Value {
    with(claims, json!({ "exp": unix_seconds() + i64::try_from(left.as_secs()).expect("a short time") }))
}

pub fn unix_seconds() -> i64 {
    Clock::start().now().0 / 1000
}
