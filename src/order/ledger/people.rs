//! Persons: what they hold and have ordered, and where their messages are.

use std::{collections::HashMap, sync::Arc};

use crate::{id::Sub, order::split_map::SplitMap};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    pub no: u64,
    /// Open holds.
    pub open: u32,
    /// The number of the newest private message, and the transaction that it tells of; 0 is none.
    pub message_n: u64,
    pub message_tx: u64,
    /// The transaction that placed the newest order; 0 is none.
    pub order_tx: u64,
}

/// What a limit counts: pieces of a product, of one person, within one show or outside of shows.
type Tab = (u64, u32, u32);

/// The number of "outside of shows".
const NO_SHOW: u32 = 0;

#[derive(Debug)]
pub struct People {
    by_sub: SplitMap<Sub, Person>,
    last_no: u64,
    pieces: SplitMap<Tab, u32>,
    shows: HashMap<Arc<str>, u32>,
}

impl People {
    pub fn new(expected: usize) -> Self {
        Self {
            by_sub: SplitMap::with_capacity(expected),
            last_no: 0,
            pieces: SplitMap::with_capacity(expected),
            shows: HashMap::new(),
        }
    }

    pub fn get(&self, sub: &Sub) -> Option<&Person> {
        self.by_sub.get(sub)
    }

    /// The person, and whether she is new.
    pub fn meet(&mut self, sub: &Sub) -> (&mut Person, bool) {
        let new = !self.by_sub.contains_key(sub);
        self.last_no += u64::from(new);
        let no = self.last_no;
        let person = self.by_sub.or_insert_with(sub.clone(), || Person { no, ..Person::default() });
        (person, new)
    }

    pub fn known(&mut self, sub: &Sub) -> &mut Person {
        self.by_sub.get_mut(sub).expect("who has a hold is known")
    }

    /// A person from the store. `false`: the number is not the next, or the name is another's.
    pub fn restore(&mut self, no: u64, sub: Sub) -> bool {
        let next = no == self.last_no + 1;
        self.last_no = no;
        next && self.by_sub.insert(sub, Person { no, ..Person::default() }).is_none()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Person> {
        self.by_sub.iter().map(|(_, person)| person)
    }

    /// Everything counted: person, product, show, pieces.
    pub fn all_pieces(&self) -> impl Iterator<Item = (u64, u32, Option<Arc<str>>, u32)> {
        let shows: HashMap<u32, &Arc<str>> = self.shows.iter().map(|(show, no)| (*no, show)).collect();
        let named =
            move |(tab, pieces): (&Tab, &u32)| (tab.0, tab.1, shows.get(&tab.2).map(|s| Arc::clone(s)), *pieces);
        self.pieces.iter().map(named)
    }

    /// Pieces that count against a limit.
    pub fn pieces(&self, person: u64, product: u32, show: Option<&str>) -> u32 {
        let show = match show {
            None => NO_SHOW,
            Some(show) => match self.shows.get(show) {
                Some(no) => *no,
                None => return 0,
            },
        };
        self.pieces.get(&(person, product, show)).copied().unwrap_or(0)
    }

    pub fn count(&mut self, person: u64, product: u32, show: Option<&Arc<str>>, pieces: u32) {
        let tab = (person, product, self.show(show));
        let counted = self.pieces.or_insert_with(tab, || 0);
        *counted = counted.saturating_add(pieces);
    }

    /// `false`: fewer were counted, as only a damaged file can say. Then none is counted any more.
    pub fn give_back(&mut self, person: u64, product: u32, show: Option<&Arc<str>>, pieces: u32) -> bool {
        let tab = (person, product, self.show(show));
        let counted = self.pieces.get(&tab).copied().unwrap_or(0);
        if counted > pieces {
            self.pieces.insert(tab, counted - pieces);
        } else {
            self.pieces.remove(&tab);
        }
        counted >= pieces
    }

    fn show(&mut self, show: Option<&Arc<str>>) -> u32 {
        let Some(show) = show else { return NO_SHOW };
        if let Some(no) = self.shows.get(show) {
            return *no;
        }
        let no = u32::try_from(self.shows.len()).expect("fewer than four billion shows") + 1;
        self.shows.insert(show.clone(), no);
        no
    }
}
