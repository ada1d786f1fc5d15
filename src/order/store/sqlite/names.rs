//! Names that many rows have: each is read and checked once, and shared.

use std::{fmt::Debug, str::FromStr, sync::Arc};

use hashbrown::HashMap;
use rusqlite::Row;

use super::rows::{Unreadable, damaged};
use crate::id::{MerchantId, ProductId, RoomId, SkuId, Sub};

#[derive(Debug, Default)]
pub struct Names {
    pub skus: Shared<SkuId>,
    pub products: Shared<ProductId>,
    pub merchants: Shared<MerchantId>,
    pub rooms: Shared<RoomId>,
    pub shows: Shared<Arc<str>>,
    /// Every person, by number from 1. Empty when a row names its person itself.
    pub subs: Vec<Sub>,
}

impl Names {
    /// The person of a row: by her number, or by her name where the row has it.
    pub fn sub(&self, row: &Row<'_>, number: usize, name: usize) -> rusqlite::Result<Sub> {
        if self.subs.is_empty() {
            return super::rows::parsed(row, name);
        }
        let at = usize::try_from(super::rows::number(row, number)?).ok().and_then(|no| no.checked_sub(1));
        let sub = at.and_then(|at| self.subs.get(at)).cloned();
        sub.ok_or_else(|| damaged(number, Unreadable("its buyer is missing")))
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
    pub fn parsed(&mut self, text: &str, column: usize) -> rusqlite::Result<T> {
        self.get_or(text, || text.parse().map_err(|error| damaged(column, error)))
    }

    pub fn of(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
        self.parsed(row.get_ref(column)?.as_str()?, column)
    }

    /// As [`Shared::of`], of a column that may be empty.
    pub fn of_if(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
        row.get_ref(column)?.as_str_or_null()?.map(|text| self.parsed(text, column)).transpose()
    }
}

impl Shared<Arc<str>> {
    pub fn text_if(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Arc<str>>> {
        let text = row.get_ref(column)?.as_str_or_null()?;
        text.map(|text| self.get_or(text, || Ok(Arc::from(text)))).transpose()
    }
}
