//! Names of things: ids that people choose, ids that we make, and money.
//!
//! Every id is checked once, where it enters, and is a type of its own from then on.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

/// The longest id that people may choose, in bytes.
pub const NAME_LEN_MAX: usize = 64;
/// The longest `sub` claim, in bytes.
pub const SUB_LEN_MAX: usize = 128;
/// Sequence numbers stay below this, so that a JavaScript number holds them exactly.
pub const SEQ_MAX: u64 = 1 << 53;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct InvalidId {
    what: &'static str,
    rule: &'static str,
}

/// `[A-Za-z0-9][A-Za-z0-9_.-]{0,63}` without `..`.
fn is_chosen_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=NAME_LEN_MAX).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !text.contains("..")
}

macro_rules! chosen_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if is_chosen_name(text) {
                    Ok(Self(text.into()))
                } else {
                    let rule = "1 to 64 characters of A-Z a-z 0-9 _ . - starting with a letter or digit, without \"..\"";
                    Err(InvalidId { what: $what, rule })
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

chosen_id!(
    /// A live room.
    RoomId,
    "room"
);
chosen_id!(
    /// A product on a shelf: one card, one or more SKUs.
    ProductId,
    "product"
);
chosen_id!(
    /// What is counted and sold: a product in one size and colour.
    SkuId,
    "sku"
);
chosen_id!(
    /// Who owns products and gets the money.
    MerchantId,
    "merchant"
);

impl MerchantId {
    /// The merchant of rooms and products that name none.
    pub fn main() -> Self {
        Self("main".into())
    }
}

macro_rules! made_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new UUIDv7: unguessable in its lower 74 bits, sorted by time.
            pub fn make() -> Self {
                Self(Uuid::now_v7())
            }

            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Its one spelling, written into `room`.
            pub fn write_text<'r>(&self, room: &'r mut [u8; 36]) -> &'r str {
                self.0.as_hyphenated().encode_lower(room)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // The hyphenated form only: one id has one spelling.
                let well_formed = text.len() == 36;
                match Uuid::try_parse(text) {
                    Ok(uuid) if well_formed => Ok(Self(uuid)),
                    _ => Err(InvalidId { what: $what, rule: "a UUID that this server made" }),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

made_id!(
    /// Stock set aside for one buyer for a limited time. The order that it becomes keeps this id.
    HoldId,
    "hold"
);
made_id!(
    /// One WHIP, WHEP, `publish` or `watch` session.
    SessionId,
    "session"
);

/// An order has the id of the hold that it was.
pub type OrderId = HoldId;

/// The `sub` claim: who a person is to the shop. Never shown to other people, never logged.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Sub(Arc<str>);

impl Sub {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Sub {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if (1..=SUB_LEN_MAX).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId { what: "sub", rule: "1 to 128 bytes" })
        }
    }
}

impl<'de> Deserialize<'de> for Sub {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Debug for Sub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sub(…)")
    }
}

/// A person as the public of one room knows them: 12 characters, stable in the room, useless elsewhere.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Who(pub Arc<str>);

impl Who {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An ISO 4217 code: three capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a currency is three capital letters")
    }
}

impl FromStr for Currency {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(InvalidId { what: "currency", rule: "three capital letters (ISO 4217)" }),
        }
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount in minor units (fen, cents) of one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    pub amount: i64,
    pub currency: Currency,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_ids_keep_to_their_alphabet() {
        for good in ["a", "A1", "red-dress_2.xl", &"x".repeat(64)] {
            assert!(good.parse::<RoomId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a..b", "a b", "买手", "a/b", &"x".repeat(65)] {
            assert!(bad.parse::<RoomId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_made_id_has_one_spelling() {
        let id = HoldId::make();
        assert_eq!(id.to_string().parse::<HoldId>(), Ok(id));
        assert!(id.to_string().replace('-', "").parse::<HoldId>().is_err());
    }

    #[test]
    fn a_sub_does_not_print() {
        let sub: Sub = "alice@shop".parse().unwrap();
        assert!(!format!("{sub:?}").contains("alice"));
    }
}
