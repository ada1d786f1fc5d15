//! A transaction as its row keeps it: one blob.
//!
//! # Format
//!
//! One byte for the version of this format (1), one for what the transaction is, then its parts in the order of the
//! types below, then the CRC-32C of its number (8 bytes) and all before. Numbers are LEB128, those that may be negative
//! zigzagged; CRC and number are little-endian. Texts and lists have their length in front. What may be absent has a
//! byte in front: 0 or 1. Hashes, ids, nonces and keys are as many bytes as they are.
//!
//! What does not change is written once: the names of a SKU when it is opened, everything about a hold when it is made.
//! How a hold stands now is in a table of its own.

use smallvec::SmallVec;

use super::{
    pack::{Pack, Parts, Unpack},
    rows::Unreadable,
};
use crate::{
    clock::UnixMs,
    order::{
        entry::{Digest, EntryType},
        hold::Step,
        request::{Key, KeyId},
        store::ENTRIES_MAX,
        tx::OrderBefore,
    },
    protocol::StockCount,
};

const VERSION: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    pub at: UnixMs,
    /// Why, as the public entries say it.
    pub reason: Option<&'a str>,
    pub entries: SmallVec<[EntryFacts; 1]>,
    pub what: Facts<'a>,
}

/// An entry of a chain. Its time, reason and transaction are those of its record; its holder is that of the hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryFacts {
    pub sku_no: u32,
    pub kind: EntryType,
    pub quantity: i64,
    pub n: u64,
    /// Where the entry before it in its chain is; 0 is none.
    pub row_before: u64,
    pub hash: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Facts<'a> {
    Opened(Vec<OpenedFacts<'a>>),
    Adjusted(AdjustedFacts),
    Made(MadeFacts<'a>),
    Step(StepFacts<'a>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedFacts<'a> {
    pub no: u32,
    pub sku: &'a str,
    pub product: &'a str,
    pub merchant: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdjustedFacts {
    pub key: Key,
    /// The counts that it was answered with.
    pub count: StockCount,
}

/// A hold as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeFacts<'a> {
    pub id: [u8; 16],
    pub person: u64,
    pub sub: &'a str,
    pub room: Option<&'a str>,
    pub show: Option<&'a str>,
    pub shown_as: Option<&'a str>,
    pub lines: SmallVec<[LineFacts; 1]>,
    pub total: i64,
    pub currency: &'a str,
    pub held_until: UnixMs,
    pub nonce: [u8; 16],
    pub key: Key,
    /// The number of the private message about it, and the transaction of the message to the same person before.
    pub n: u64,
    pub message_before: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFacts {
    pub sku_no: u32,
    pub quantity: u32,
    pub price: i64,
}

/// What happened to a hold after it was made. Of each of its lines, `counted`: pieces that counted against the buyer's
/// limits before this step; `refunded`: pieces refunded, after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFacts<'a> {
    pub step: Step,
    /// The transaction that made the hold.
    pub hold: u64,
    /// Who holds, as the step's entries say it.
    pub holder: Option<Digest>,
    pub person: u64,
    pub n: u64,
    pub message_before: u64,
    pub counted: SmallVec<[u32; 2]>,
    pub refunded: Option<SmallVec<[u32; 2]>>,
    pub order_before: Option<OrderBefore>,
    pub key: Option<Key>,
    pub notice: Option<NoticeFacts<'a>>,
}

/// The message about a step to somebody else than its buyer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticeFacts<'a> {
    pub person: u64,
    pub sub: &'a str,
    pub n: u64,
    pub message_before: u64,
}

impl<'a> Record<'a> {
    /// Writes the record of transaction `no` into `to`, in place of what was there.
    pub fn pack(&self, no: u64, to: &mut Vec<u8>) {
        to.clear();
        let mut pack = Pack(to);
        pack.byte(VERSION);
        pack.byte(self.what.code());
        pack.number(self.at.0 as u64);
        pack.optional(self.reason, Pack::text);
        pack.list(&self.entries, EntryFacts::pack);
        match &self.what {
            Facts::Opened(skus) => pack.list(skus, OpenedFacts::pack),
            Facts::Adjusted(adjusted) => adjusted.pack(&mut pack),
            Facts::Made(made) => made.pack(&mut pack),
            Facts::Step(step) => step.pack(&mut pack),
        }
        let check = check(no, to);
        to.extend_from_slice(&check);
    }

    pub fn unpack(no: u64, bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let (body, said) = bytes.split_last_chunk().ok_or(Unreadable("too short"))?;
        if check(no, body) != *said {
            return Err(Unreadable("a record that was changed"));
        }
        let mut parts = Parts(body);
        if parts.byte()? != VERSION {
            return Err(Unreadable("a record of an unknown version"));
        }
        let code = parts.byte()?;
        let (at, reason) = (parts.time()?, parts.optional(Parts::text)?);
        let entries: SmallVec<[EntryFacts; 1]> = parts.list(EntryFacts::unpack)?;
        if entries.len() >= ENTRIES_MAX {
            return Err(Unreadable("more entries than a transaction has"));
        }
        let what = match code {
            0 => Facts::Opened(parts.list(OpenedFacts::unpack)?),
            1 => Facts::Adjusted(AdjustedFacts::unpack(&mut parts)?),
            2 => Facts::Made(MadeFacts::unpack(&mut parts)?),
            3 => Facts::Step(StepFacts::unpack(&mut parts)?),
            _ => return Err(Unreadable("no such kind of transaction")),
        };
        if parts.0.is_empty() { Ok(Self { at, reason, entries, what }) } else { Err(Unreadable("more than a record")) }
    }
}

/// The sum of a record, over its number and its parts.
pub fn check(no: u64, body: &[u8]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(&no.to_le_bytes()), body).to_le_bytes()
}

impl Facts<'_> {
    fn code(&self) -> u8 {
        match self {
            Self::Opened(_) => 0,
            Self::Adjusted(_) => 1,
            Self::Made(_) => 2,
            Self::Step(_) => 3,
        }
    }
}

impl<'a> Unpack<'a> for EntryFacts {
    fn pack(&self, to: &mut Pack<'_>) {
        to.number(self.sku_no.into());
        to.byte(self.kind.code());
        to.signed(self.quantity);
        to.number(self.n);
        to.number(self.row_before);
        to.bytes(&self.hash.0);
    }

    fn unpack(parts: &mut Parts<'a>) -> Result<Self, Unreadable> {
        Ok(Self {
            sku_no: parts.small()?,
            kind: EntryType::from_code(parts.byte()?).ok_or(Unreadable("no such type of entry"))?,
            quantity: parts.signed()?,
            n: parts.count()?,
            row_before: parts.number()?,
            hash: Digest(parts.bytes()?),
        })
    }
}

impl<'a> Unpack<'a> for OpenedFacts<'a> {
    fn pack(&self, to: &mut Pack<'_>) {
        to.number(self.no.into());
        [self.sku, self.product, self.merchant].into_iter().for_each(|name| to.text(name));
    }

    fn unpack(parts: &mut Parts<'a>) -> Result<Self, Unreadable> {
        Ok(Self { no: parts.small()?, sku: parts.text()?, product: parts.text()?, merchant: parts.text()? })
    }
}

impl<'a> Unpack<'a> for AdjustedFacts {
    fn pack(&self, to: &mut Pack<'_>) {
        self.key.pack(to);
        let StockCount { available, held, sold, entry } = self.count;
        [available, held, sold, entry].into_iter().for_each(|count| to.number(count));
    }

    fn unpack(parts: &mut Parts<'a>) -> Result<Self, Unreadable> {
        let key = Key::unpack(parts)?;
        let (available, held, sold) = (parts.count()?, parts.count()?, parts.count()?);
        Ok(Self { key, count: StockCount { available, held, sold, entry: parts.count()? } })
    }
}

impl<'a> Unpack<'a> for MadeFacts<'a> {
    fn pack(&self, to: &mut Pack<'_>) {
        to.bytes(&self.id);
        to.number(self.person);
        to.text(self.sub);
        [self.room, self.show, self.shown_as].into_iter().for_each(|text| to.optional(text, Pack::text));
        to.list(&self.lines, LineFacts::pack);
        to.signed(self.total);
        to.text(self.currency);
        to.number(self.held_until.0 as u64);
        to.bytes(&self.nonce);
        self.key.pack(to);
        to.number(self.n);
        to.number(self.message_before);
    }

    fn unpack(parts: &mut Parts<'a>) -> Result<Self, Unreadable> {
        Ok(Self {
            id: parts.bytes()?,
            person: parts.count()?,
            sub: parts.text()?,
            room: parts.optional(Parts::text)?,
            show: parts.optional(Parts::text)?,
            shown_as: parts.optional(Parts::text)?,
            lines: parts.list(LineFacts::unpack)?,
            total: parts.signed()?,
            currency: parts.text()?,
            held_until: parts.time()?,
            nonce: parts.bytes()?,
            key: Key::unpack(parts)?,
            n: parts.count()?,
            message_before: parts.count()?,
        })
    }
}

impl<'a> Unpack<'a> for LineFacts {
    fn pack(&self, to: &mut Pack<'_>) {
        to.number(self.sku_no.into());
        to.number(self.quantity.into());
        to.signed(self.price);
    }

    fn unpack(parts: &mut Parts<'a>) -> Result<Self, Unreadable> {
        Ok(Self { sku_no: parts.small()?, quantity: parts.small()?, price: parts.signed()? })
    }
}

impl<'a> Unpack<'a> for StepFacts<'a> {
    fn pack(&self, to: &mut Pack<'_>) {
        to.byte(self.step.code());
        to.number(self.hold);
        to.optional(self.holder, |to, holder| to.bytes(&holder.0));
        [self.person, self.n, self.message_before].into_iter().for_each(|number| to.number(number));
        to.list(&self.counted, |pieces, to| to.number((*pieces).into()));
        to.optional(self.refunded.as_ref(), |to, refunded| {
            to.list(refunded, |pieces, to| to.number((*pieces).into()));
        });
        to.optional(self.order_before, |to, before| {
            [before.of_buyer, before.of_merchant, before.of_all].into_iter().for_each(|tx| to.number(tx));
        });
        to.optional(self.key, |to, key| key.pack(to));
        to.optional(self.notice.as_ref(), |to, notice| notice.pack(to));
    }

    fn unpack(parts: &mut Parts<'a>) -> Result<Self, Unreadable> {
        Ok(Self {
            step: Step::from_code(parts.byte()?).ok_or(Unreadable("no such step of a hold"))?,
            hold: parts.count()?,
            holder: parts.optional(|parts| parts.bytes().map(Digest))?,
            person: parts.count()?,
            n: parts.count()?,
            message_before: parts.count()?,
            counted: parts.list(Parts::small)?,
            refunded: parts.optional(|parts| parts.list(Parts::small))?,
            order_before: parts.optional(|parts| {
                let (of_buyer, of_merchant) = (parts.count()?, parts.count()?);
                Ok(OrderBefore { of_buyer, of_merchant, of_all: parts.count()? })
            })?,
            key: parts.optional(Key::unpack)?,
            notice: parts.optional(NoticeFacts::unpack)?,
        })
    }
}

impl<'a> Unpack<'a> for NoticeFacts<'a> {
    fn pack(&self, to: &mut Pack<'_>) {
        to.number(self.person);
        to.text(self.sub);
        to.number(self.n);
        to.number(self.message_before);
    }

    fn unpack(parts: &mut Parts<'a>) -> Result<Self, Unreadable> {
        Ok(Self { person: parts.count()?, sub: parts.text()?, n: parts.count()?, message_before: parts.count()? })
    }
}

impl<'a> Unpack<'a> for Key {
    fn pack(&self, to: &mut Pack<'_>) {
        to.bytes(&self.id.0);
        to.bytes(&self.body);
    }

    fn unpack(parts: &mut Parts<'a>) -> Result<Self, Unreadable> {
        Ok(Self { id: KeyId(parts.bytes()?), body: parts.bytes()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::SEQ_MAX;

    fn key(byte: u8) -> Key {
        Key { id: KeyId([byte; 16]), body: [byte + 1; 16] }
    }

    fn entry(kind: EntryType) -> EntryFacts {
        let (quantity, row_before) = (i64::MIN, u64::MAX >> 1);
        EntryFacts { sku_no: u32::MAX, kind, quantity, n: SEQ_MAX - 1, row_before, hash: Digest::of(b"x") }
    }

    /// One of each, with everything in it that may be absent, and without.
    fn records() -> Vec<Record<'static>> {
        let sku = OpenedFacts { no: 7, sku: "red", product: "scarf", merchant: "main" };
        let count = StockCount { available: 1, held: 2, sold: SEQ_MAX - 1, entry: 4 };
        let made = MadeFacts {
            id: [3; 16],
            person: 9,
            sub: "安",
            room: Some("hall"),
            show: None,
            shown_as: Some(""),
            lines: SmallVec::from_vec(vec![
                LineFacts { sku_no: 0, quantity: 1, price: -1 },
                LineFacts { sku_no: 300, quantity: u32::MAX, price: i64::MAX },
            ]),
            total: i64::MIN,
            currency: "CNY",
            held_until: UnixMs(0),
            nonce: [4; 16],
            key: key(5),
            n: 1,
            message_before: 0,
        };
        let step = StepFacts {
            step: Step::RefundDue,
            hold: 12,
            holder: Some(Digest::of(b"y")),
            person: 9,
            n: 2,
            message_before: 12,
            counted: SmallVec::from_slice(&[0, 1, 2]),
            refunded: Some(SmallVec::from_slice(&[])),
            order_before: Some(OrderBefore { of_buyer: 1, of_merchant: 2, of_all: 3 }),
            key: Some(key(8)),
            notice: Some(NoticeFacts { person: 2, sub: "clerk", n: 5, message_before: 6 }),
        };
        let bare =
            StepFacts { holder: None, refunded: None, order_before: None, key: None, notice: None, ..step.clone() };
        let whats = [
            Facts::Opened(vec![sku]),
            Facts::Adjusted(AdjustedFacts { key: key(1), count }),
            Facts::Made(made),
            Facts::Step(step),
            Facts::Step(bare),
        ];
        let kinds = [EntryType::Opened, EntryType::Refunded];
        let record = |(index, what)| Record {
            at: UnixMs(1_700_000_000_000),
            reason: (index % 2 == 0).then_some("盘点"),
            entries: kinds[..index % 3].iter().map(|kind| entry(*kind)).collect(),
            what,
        };
        whats.into_iter().enumerate().map(record).collect()
    }

    fn packed(record: &Record<'_>, no: u64) -> Vec<u8> {
        let mut bytes = vec![1, 2, 3];
        record.pack(no, &mut bytes);
        bytes
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        for record in records() {
            assert_eq!(Record::unpack(5, &packed(&record, 5)), Ok(record));
        }
    }

    #[test]
    fn any_change_of_a_byte_is_noticed_and_so_is_another_place() {
        for record in records() {
            let bytes = packed(&record, 5);
            assert!(Record::unpack(6, &bytes).is_err());
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                assert!(Record::unpack(5, &changed).is_err(), "byte {at} of {record:?}");
                assert!(Record::unpack(5, &bytes[..at]).is_err());
            }
        }
    }

    #[test]
    fn a_record_of_a_later_version_is_not_guessed_at() {
        let mut bytes = packed(&records()[0], 5);
        bytes.truncate(bytes.len() - 4);
        bytes[0] = VERSION + 1;
        let sum = check(5, &bytes);
        bytes.extend(sum);
        assert_eq!(Record::unpack(5, &bytes), Err(Unreadable("a record of an unknown version")));
    }

    proptest! {
        /// Also when the sum is right: what is unpacked is what would be packed so, or refused.
        #[test]
        fn damaged_bytes_are_refused_or_are_a_record(
            which in 0usize..5,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6),
        ) {
            let mut bytes = packed(&records()[which], 5);
            bytes.truncate(bytes.len() - 4);
            for (at, byte, how) in changes {
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let sum = check(5, &bytes);
            bytes.extend(sum);
            if let Ok(record) = Record::unpack(5, &bytes) {
                let again = packed(&record, 5);
                prop_assert_eq!(Record::unpack(5, &again), Ok(record));
            }
        }
    }
}
