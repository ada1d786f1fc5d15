//! Names that many rows have: each is read and checked once, and shared.

use std::{fmt::Debug, str::FromStr, sync::Arc};

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::rows::{Unreadable, damaged};
use crate::{
    id::{Currency, RoomId, Sub},
    order::tx::OpenedSku,
    protocol::HoldLine,
};

#[derive(Debug, Default)]
pub struct Names {
    skus: HashMap<u32, OpenedSku>,
    pub rooms: Shared<RoomId>,
    pub texts: Shared<Arc<str>>,
    pub currencies: Shared<Currency>,
    /// Persons by number from 1, as far as they are known.
    subs: Vec<Sub>,
    /// The lines of the last hold: in a rush most have the same, and share them.
    lines: Option<Arc<[HoldLine]>>,
}

impl Names {
    pub fn learn(&mut self, sku: OpenedSku) {
        self.skus.insert(sku.no, sku);
    }

    pub fn knows(&self, sku_no: u32) -> bool {
        self.skus.contains_key(&sku_no)
    }

    pub fn sku(&self, no: u32) -> rusqlite::Result<&OpenedSku> {
        self.skus.get(&no).ok_or_else(|| damaged(0, Unreadable("a SKU that is not there")))
    }

    /// Lines as they are shared.
    pub fn lines(&mut self, lines: SmallVec<[HoldLine; 1]>) -> Arc<[HoldLine]> {
        match &self.lines {
            Some(before) if **before == *lines => before.clone(),
            _ => self.lines.insert(lines.into_iter().collect()).clone(),
        }
    }

    /// The person who is next by her number.
    pub fn meet(&mut self, sub: Sub) {
        self.subs.push(sub);
    }

    /// Whether a person is known by her number.
    pub fn has_met(&self, person: u64) -> bool {
        person <= self.subs.len() as u64
    }

    /// The name of a person in a row of hers: the one that is shared, when she is known by it.
    pub fn sub(&self, person: u64, text: &str) -> rusqlite::Result<Sub> {
        let at = usize::try_from(person).ok().and_then(|no| no.checked_sub(1));
        match at.and_then(|at| self.subs.get(at)) {
            Some(known) if known.as_str() == text => Ok(known.clone()),
            _ => text.parse().map_err(|error| damaged(0, error)),
        }
    }
}

/// Values by their text.
#[derive(Debug)]
pub struct Shared<T>(HashMap<Box<str>, T>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone> Shared<T> {
    /// The value that `make` makes of `text`, made once.
    fn get_or<E>(&mut self, text: &str, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        if let Some(known) = self.0.get(text) {
            return Ok(known.clone());
        }
        let new = make()?;
        self.0.insert(text.into(), new.clone());
        Ok(new)
    }
}

impl<T> Shared<T>
where
    T: Clone + FromStr<Err: std::error::Error + Send + Sync + 'static> + Debug,
{
    pub fn parsed(&mut self, text: &str) -> rusqlite::Result<T> {
        self.get_or(text, || text.parse().map_err(|error| damaged(0, error)))
    }
}

impl Shared<Arc<str>> {
    pub fn text(&mut self, text: &str) -> Arc<str> {
        let shared: Result<_, std::convert::Infallible> = self.get_or(text, || Ok(Arc::from(text)));
        shared.unwrap_or_else(|never| match never {})
    }
}
