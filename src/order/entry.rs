//! Entries: the lines of a SKU's public chain.
//!
//! # Format
//!
//! Entry `n` of a SKU is hashed as the SHA-256 of its canonical JSON (RFC 8785): the object with `n`, `at`, `type`,
//! `quantity`, `tx`, `prev`, with `holder` and `reason` when it has them, and with `sku`, without `hash`. `prev` is the
//! hash of entry `n - 1`; that of the first is 64 zeros. Digests are written in lower-case hex.
//!
//! `quantity` is how many pieces moved: `opened` and `adjusted` change the stock, `held` moves from available to held,
//! `confirmed` from held to sold, `cancelled` and `expired` from held to available, `refunded` from sold to available
//! (0 when the pieces do not come back).

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{self, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    clock::UnixMs,
    id::{HoldId, SEQ_MAX},
    protocol::StockCount,
};

/// A SHA-256, written in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// What stands as `prev` in a chain's first entry.
    pub const ZERO: Self = Self([0; 32]);

    pub fn of(bytes: &[u8]) -> Self {
        let digest = digest::digest(&SHA256, bytes);
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    fn write(&self, to: &mut Vec<u8>) {
        write_hex(&self.0, to);
    }
}

pub(super) fn write_hex(bytes: &[u8], to: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        to.push(DIGITS[usize::from(byte >> 4)]);
        to.push(DIGITS[usize::from(byte & 15)]);
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    write_hex(bytes, &mut text);
    String::from_utf8(text).expect("hex digits are ASCII")
}

/// The bytes of lower-case hex; `None` when it is not that.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        from_hex(&text).map(Self).ok_or_else(|| de::Error::custom("a digest is 64 digits of lower-case hex"))
    }
}

/// Who holds, as the public sees it: SHA-256 over the hold's id and its nonce, both as texts. Only who knows the nonce
/// can tell whose entry it is.
pub fn holder(hold: &HoldId, nonce: &[u8; 16]) -> Digest {
    let mut text = Vec::with_capacity(68);
    text.extend_from_slice(hold.write_text(&mut [0; 36]).as_bytes());
    write_hex(nonce, &mut text);
    Digest::of(&text)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum EntryType {
    Opened = 0,
    Adjusted = 1,
    Held = 2,
    Confirmed = 3,
    Cancelled = 4,
    Expired = 5,
    Refunded = 6,
}

impl EntryType {
    const ALL: [Self; 7] =
        [Self::Opened, Self::Adjusted, Self::Held, Self::Confirmed, Self::Cancelled, Self::Expired, Self::Refunded];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Adjusted => "adjusted",
            Self::Held => "held",
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refunded => "refunded",
        }
    }

    /// Its number where the store keeps it.
    pub(super) fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The counts after `quantity` pieces moved this way. `None` when there are not so many: no such entry is made.
    pub fn moves(self, count: StockCount, quantity: i64) -> Option<StockCount> {
        let StockCount { mut available, mut held, mut sold, entry } = count;
        let pieces = || u64::try_from(quantity).ok();
        match self {
            Self::Opened | Self::Adjusted => available = available.checked_add_signed(quantity)?,
            Self::Held => (available, held) = (available.checked_sub(pieces()?)?, held.checked_add(pieces()?)?),
            Self::Confirmed => (held, sold) = (held.checked_sub(pieces()?)?, sold.checked_add(pieces()?)?),
            Self::Cancelled | Self::Expired => {
                (held, available) = (held.checked_sub(pieces()?)?, available.checked_add(pieces()?)?);
            }
            Self::Refunded => (sold, available) = (sold.checked_sub(pieces()?)?, available.checked_add(pieces()?)?),
        }
        let stock = available.checked_add(held)?.checked_add(sold)?;
        (stock < SEQ_MAX).then_some(StockCount { available, held, sold, entry: entry + 1 })
    }
}

impl FromStr for EntryType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// An entry as it is exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRecord {
    pub n: u64,
    pub at: UnixMs,
    #[serde(rename = "type")]
    pub kind: EntryType,
    pub quantity: i64,
    /// Entries of one command, on whichever SKUs, have the same.
    pub tx: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub prev: Digest,
    pub hash: Digest,
}

impl EntryRecord {
    /// What `hash` must be.
    pub fn digest(&self, sku: &str) -> Digest {
        let content = Content {
            sku,
            n: self.n,
            at: self.at,
            kind: self.kind,
            quantity: self.quantity,
            tx: self.tx,
            holder: self.holder.as_ref(),
            reason: self.reason.as_deref(),
            prev: &self.prev,
        };
        content.digest(&mut Vec::with_capacity(512))
    }
}

/// What is hashed of an entry.
pub(super) struct Content<'a> {
    pub sku: &'a str,
    pub n: u64,
    pub at: UnixMs,
    pub kind: EntryType,
    pub quantity: i64,
    pub tx: u64,
    pub holder: Option<&'a Digest>,
    pub reason: Option<&'a str>,
    pub prev: &'a Digest,
}

impl Content<'_> {
    pub fn digest(&self, scratch: &mut Vec<u8>) -> Digest {
        scratch.clear();
        self.write(scratch);
        Digest::of(scratch)
    }

    /// Canonical JSON by hand: the members are few, known and in the order of their names.
    fn write(&self, to: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        to.extend_from_slice(b"{\"at\":");
        to.extend_from_slice(digits.format(self.at.0).as_bytes());
        if let Some(holder) = self.holder {
            to.extend_from_slice(b",\"holder\":\"");
            holder.write(to);
            to.push(b'"');
        }
        to.extend_from_slice(b",\"n\":");
        to.extend_from_slice(digits.format(self.n).as_bytes());
        to.extend_from_slice(b",\"prev\":\"");
        self.prev.write(to);
        to.extend_from_slice(b"\",\"quantity\":");
        to.extend_from_slice(digits.format(self.quantity).as_bytes());
        if let Some(reason) = self.reason {
            to.extend_from_slice(b",\"reason\":");
            serde_json::to_writer(&mut *to, reason).expect("a Vec takes every write");
        }
        to.extend_from_slice(b",\"sku\":\"");
        to.extend_from_slice(self.sku.as_bytes());
        to.extend_from_slice(b"\",\"tx\":");
        to.extend_from_slice(digits.format(self.tx).as_bytes());
        to.extend_from_slice(b",\"type\":\"");
        to.extend_from_slice(self.kind.as_str().as_bytes());
        to.extend_from_slice(b"\"}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hashed_is_canonical_json() {
        let entry = EntryRecord {
            n: 7,
            at: UnixMs(1_700_000_000_000),
            kind: EntryType::Adjusted,
            quantity: -3,
            tx: 41,
            holder: Some(Digest::of(b"x")),
            reason: Some("盘点 \"count\"\u{7f}\n\u{1}é".to_owned()),
            prev: Digest::of(b"y"),
            hash: Digest::ZERO,
        };
        for entry in [entry.clone(), EntryRecord { holder: None, reason: None, ..entry }] {
            let mut value = serde_json::to_value(&entry).unwrap();
            value.as_object_mut().unwrap().remove("hash");
            value["sku"] = "red_scarf".into();
            let canonical = serde_json_canonicalizer::to_vec(&value).unwrap();
            assert_eq!(entry.digest("red_scarf"), Digest::of(&canonical));
        }
    }

    #[test]
    fn no_move_takes_what_is_not_there() {
        let count = StockCount { available: 2, held: 1, sold: 1, entry: 9 };
        for kind in EntryType::ALL {
            let after = kind.moves(count, 1).unwrap();
            assert_eq!(after.entry, 10);
            let taken = kind.moves(count, if kind == EntryType::Adjusted { -3 } else { 3 });
            assert!(taken.is_none() || kind == EntryType::Opened, "{kind:?}");
        }
    }

    #[test]
    fn hex_has_one_spelling() {
        assert_eq!(from_hex::<2>("00ff"), Some([0, 255]));
        assert_eq!((from_hex::<2>("00FF"), from_hex::<2>("0ff"), from_hex::<1>("é")), (None, None, None));
    }
}
