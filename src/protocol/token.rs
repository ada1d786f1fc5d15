//! The claims of a token (JWT HS256).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::{MerchantId, RoomId, Sub};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Anchor,
    Assistant,
    Viewer,
    Merchant,
    Promoter,
    Admin,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anchor => "anchor",
            Self::Assistant => "assistant",
            Self::Viewer => "viewer",
            Self::Merchant => "merchant",
            Self::Promoter => "promoter",
            Self::Admin => "admin",
        }
    }
}

/// What an assistant may do; a list in `can` narrows it, absent means all four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    Pin,
    Moderate,
    Shelf,
    Stock,
}

/// The rooms that a token opens: one, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomScope {
    One(RoomId),
    Any,
}

impl RoomScope {
    pub fn covers(&self, room: &RoomId) -> bool {
        match self {
            Self::One(one) => one == room,
            Self::Any => true,
        }
    }
}

impl Serialize for RoomScope {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(room) => room.serialize(to),
            Self::Any => to.serialize_str("*"),
        }
    }
}

impl<'de> Deserialize<'de> for RoomScope {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text == "*" { Ok(Self::Any) } else { text.parse().map(Self::One).map_err(de::Error::custom) }
    }
}

/// What a token says. Unknown claims are ignored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    pub sub: Sub,
    /// Seconds since 1970, as RFC 7519 has it.
    pub exp: i64,
    pub room: RoomScope,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merchant: Option<MerchantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can: Option<Vec<Power>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Box<str>>,
    /// A promoter's code.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub promoter: Option<Box<str>>,
    /// A simulated person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sim: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<Box<str>>,
}
