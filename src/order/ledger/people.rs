//! Persons: what they hold and have ordered, and where their messages are.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::{id::Sub, order::split_map::SplitMap};

#[derive(Debug, Default)]
pub struct Person {
    /// Open holds.
    pub open: u32,
    /// The number of the newest private message, and the transaction that it tells of; 0 is none.
    pub message_n: u64,
    pub message_tx: u64,
    /// The transaction that placed the newest order; 0 is none.
    pub order_tx: u64,
    tabs: SmallVec<[Tab; 1]>,
}

/// What a limit counts: pieces of a product within one show, or outside of shows.
#[derive(Debug)]
struct Tab {
    product: u32,
    show: u32,
    pieces: u32,
    /// Of them those of open holds that were seen while the ledger was taken up.
    seen: u32,
}

/// The number of "outside of shows".
const NO_SHOW: u32 = 0;
/// Persons are kept in parts of so many, so that one more never moves the others.
const PART: usize = 4_096;

/// Persons by their number, from 1 without gaps, and by their `sub`.
#[derive(Debug)]
pub struct People {
    numbers: SplitMap<Sub, u64>,
    parts: Vec<Vec<Person>>,
    shows: HashMap<Arc<str>, u32>,
    /// The show that was asked for last: nearly always the next one too.
    last_show: Option<(Arc<str>, u32)>,
}

impl People {
    pub fn new(expected: usize) -> Self {
        Self { numbers: SplitMap::with_capacity(expected), parts: Vec::new(), shows: HashMap::new(), last_show: None }
    }

    /// A person's number.
    pub fn number(&self, sub: &Sub) -> Option<u64> {
        self.numbers.get(sub).copied()
    }

    /// Everybody's name, in the order of their numbers.
    pub fn subs(&self) -> Vec<&Sub> {
        let mut subs: Vec<_> = self.numbers.iter().collect();
        subs.sort_unstable_by_key(|(_, no)| **no);
        subs.into_iter().map(|(sub, _)| sub).collect()
    }

    pub fn get(&self, no: u64) -> Option<&Person> {
        let at = usize::try_from(no.checked_sub(1)?).ok()?;
        self.parts.get(at / PART)?.get(at % PART)
    }

    pub fn get_mut(&mut self, no: u64) -> Option<&mut Person> {
        let at = usize::try_from(no.checked_sub(1)?).ok()?;
        self.parts.get_mut(at / PART)?.get_mut(at % PART)
    }

    /// Who has a hold.
    pub fn known(&mut self, no: u64) -> &mut Person {
        self.get_mut(no).expect("who has a hold is known")
    }

    pub fn find(&self, sub: &Sub) -> Option<&Person> {
        self.get(self.number(sub)?)
    }

    /// How many there are, which is the number of the last.
    pub fn len(&self) -> u64 {
        let last = self.parts.last().map_or(0, Vec::len);
        (self.parts.len().saturating_sub(1) * PART + last) as u64
    }

    /// Adds somebody who was not known, with the next number.
    pub fn add(&mut self, sub: Sub) -> u64 {
        self.put(Person::default());
        let no = self.len();
        self.numbers.insert(sub, no);
        no
    }

    fn put(&mut self, person: Person) {
        if self.parts.last().is_none_or(|part| part.len() == PART) {
            self.parts.push(Vec::with_capacity(PART));
        }
        self.parts.last_mut().expect("there is one now").push(person);
    }

    /// A person from the store. `false`: the number is not the next, or the name is another's.
    pub fn restore(&mut self, no: u64, sub: Sub) -> bool {
        let fits = no == self.len() + 1 && self.numbers.add(sub, no).is_none();
        if fits {
            self.put(Person::default());
        }
        fits
    }

    /// Everybody, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Person)> {
        (1..).zip(self.parts.iter().flatten())
    }

    /// Everything counted: person, product, show, pieces.
    pub fn all_pieces(&self) -> impl Iterator<Item = (u64, u32, Option<Arc<str>>, u32)> {
        let shows: HashMap<u32, &Arc<str>> = self.shows.iter().map(|(show, no)| (*no, show)).collect();
        let of_person = |(no, person): (u64, &'_ Person)| -> Vec<(u64, u32, u32, u32)> {
            person.tabs.iter().map(|tab| (no, tab.product, tab.show, tab.pieces)).collect()
        };
        let tabs = self.iter().flat_map(of_person);
        tabs.map(move |(no, product, show, pieces)| (no, product, shows.get(&show).map(|s| Arc::clone(s)), pieces))
    }

    /// Pieces that count against a limit.
    pub fn pieces(&self, no: u64, product: u32, show: Option<&str>) -> u32 {
        let show = match show {
            None => NO_SHOW,
            Some(show) => match self.find_show(show) {
                Some(no) => no,
                None => return 0,
            },
        };
        let Some(person) = self.get(no) else { return 0 };
        person.tabs.iter().find(|tab| tab.is(product, show)).map_or(0, |tab| tab.pieces)
    }

    pub fn count(&mut self, no: u64, product: u32, show: Option<&Arc<str>>, pieces: u32) {
        let show = self.show(show);
        let tabs = &mut self.known(no).tabs;
        match tabs.iter_mut().find(|tab| tab.is(product, show)) {
            Some(tab) => tab.pieces = tab.pieces.saturating_add(pieces),
            None => tabs.push(Tab { product, show, pieces, seen: 0 }),
        }
    }

    /// Sees pieces of an open hold that were counted before. `false`: fewer were, as only a damaged file can say.
    pub fn see(&mut self, no: u64, product: u32, show: Option<&Arc<str>>, pieces: u32) -> bool {
        let show = self.show(show);
        let Some(tab) = self.known(no).tabs.iter_mut().find(|tab| tab.is(product, show)) else { return false };
        tab.seen = tab.seen.saturating_add(pieces);
        tab.seen <= tab.pieces
    }

    /// `false`: fewer were counted, as only a damaged file can say. Then none is counted any more.
    pub fn give_back(&mut self, no: u64, product: u32, show: Option<&Arc<str>>, pieces: u32) -> bool {
        let show = self.show(show);
        let tabs = &mut self.known(no).tabs;
        let Some(at) = tabs.iter().position(|tab| tab.is(product, show)) else { return pieces == 0 };
        let counted = tabs[at].pieces;
        tabs[at].pieces = counted.saturating_sub(pieces);
        if counted <= pieces {
            tabs.swap_remove(at);
        }
        counted >= pieces
    }

    /// The one text of a show's name that all its holds share.
    pub fn show_name(&mut self, show: &Arc<str>) -> Arc<str> {
        self.show(Some(show));
        self.last_show.as_ref().map_or_else(|| show.clone(), |(name, _)| name.clone())
    }

    fn find_show(&self, show: &str) -> Option<u32> {
        match &self.last_show {
            Some((last, no)) if **last == *show => Some(*no),
            _ => self.shows.get(show).copied(),
        }
    }

    fn show(&mut self, show: Option<&Arc<str>>) -> u32 {
        let Some(show) = show else { return NO_SHOW };
        if let Some((last, no)) = &self.last_show
            && last == show
        {
            return *no;
        }
        let next = u32::try_from(self.shows.len()).expect("fewer than four billion shows") + 1;
        let (name, no) = match self.shows.get_key_value(show) {
            Some((name, no)) => (name.clone(), *no),
            None => (show.clone(), next),
        };
        self.shows.insert(name.clone(), no);
        self.last_show = Some((name, no));
        no
    }
}

impl Tab {
    fn is(&self, product: u32, show: u32) -> bool {
        self.product == product && self.show == show
    }
}
