//! Values one after another in bytes, and back: damaged bytes are an error and nothing more.

use super::rows::Unreadable;
use crate::{clock::UnixMs, id::SEQ_MAX};

const CUT_OFF: Unreadable = Unreadable("a record that is cut off");
const TOO_LARGE: Unreadable = Unreadable("a number that is too large");

/// What can be packed, and unpacked from bytes that live for `'a`.
pub trait Unpack<'a>: Sized {
    fn pack(&self, to: &mut Pack<'_>);
    fn unpack(parts: &mut Parts<'a>) -> Result<Self, Unreadable>;
}

pub struct Pack<'v>(pub &'v mut Vec<u8>);

impl Pack<'_> {
    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    pub fn optional<T>(&mut self, value: Option<T>, pack: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            pack(self, value);
        }
    }

    pub fn list<T>(&mut self, values: &[T], pack: impl Fn(&T, &mut Self)) {
        self.number(values.len() as u64);
        values.iter().for_each(|value| pack(value, self));
    }
}

/// What is left of packed bytes.
pub struct Parts<'a>(pub &'a [u8]);

impl<'a> Parts<'a> {
    pub fn byte(&mut self) -> Result<u8, Unreadable> {
        let (byte, left) = self.0.split_first().ok_or(CUT_OFF)?;
        self.0 = left;
        Ok(*byte)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, left) = self.0.split_at_checked(len).ok_or(CUT_OFF)?;
        self.0 = left;
        Ok(taken)
    }

    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, left) = self.0.split_first_chunk().ok_or(CUT_OFF)?;
        self.0 = left;
        Ok(*taken)
    }

    pub fn number(&mut self) -> Result<u64, Unreadable> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return Err(TOO_LARGE);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(TOO_LARGE)
    }

    /// A number that can be counted on from.
    pub fn count(&mut self) -> Result<u64, Unreadable> {
        self.number().and_then(|number| if number < SEQ_MAX { Ok(number) } else { Err(TOO_LARGE) })
    }

    pub fn small(&mut self) -> Result<u32, Unreadable> {
        self.number()?.try_into().map_err(|_| TOO_LARGE)
    }

    pub fn time(&mut self) -> Result<UnixMs, Unreadable> {
        self.count().map(|ms| UnixMs(ms as i64))
    }

    pub fn signed(&mut self) -> Result<i64, Unreadable> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub fn text(&mut self) -> Result<&'a str, Unreadable> {
        let len = usize::try_from(self.number()?).map_err(|_| TOO_LARGE)?;
        std::str::from_utf8(self.take(len)?).map_err(|_| Unreadable("a text that is none"))
    }

    pub fn optional<T>(
        &mut self,
        unpack: impl FnOnce(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Unreadable> {
        match self.byte()? {
            0 => Ok(None),
            1 => unpack(self).map(Some),
            _ => Err(Unreadable("neither there nor absent")),
        }
    }

    /// As many values as are said to follow. Each takes a byte or more: a list is never longer than what is left.
    pub fn list<L: FromIterator<T>, T>(
        &mut self,
        unpack: impl Fn(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<L, Unreadable> {
        let len = self.number()?;
        if len > self.0.len() as u64 {
            return Err(CUT_OFF);
        }
        (0..len).map(|_| unpack(self)).collect()
    }
}
