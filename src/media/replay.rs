//! Which numbers of a stream were already used: 16 bits from the wire made into an index that never wraps, and a
//! window that lets each index pass once.

/// Where a stream's first sequence number is put, so that numbers before it have an index too.
const FIRST_CYCLE: u64 = 1 << 16;

/// Why an index may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    Repeated,
    TooOld,
}

/// The last `64 * WORDS` indices up to the highest one seen.
///
/// It is asked only after a packet was authenticated: a forged packet never moves it.
#[derive(Clone, Debug)]
pub struct Window<const WORDS: usize> {
    top: Option<u64>,
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Default for Window<WORDS> {
    fn default() -> Self {
        Self { top: None, seen: [0; WORDS] }
    }
}

impl<const WORDS: usize> Window<WORDS> {
    const SIZE: u64 = 64 * WORDS as u64;

    /// The highest index so far.
    pub fn top(&self) -> Option<u64> {
        self.top
    }

    /// The index nearest to the highest one that ends in these 16 bits.
    pub fn index_of(&self, sequence: u16) -> u64 {
        let Some(top) = self.top else { return FIRST_CYCLE + u64::from(sequence) };
        let distance = sequence.wrapping_sub(top as u16) as i16;
        top.saturating_add_signed(i64::from(distance))
    }

    /// Lets `index` pass, once.
    pub fn pass(&mut self, index: u64) -> Result<(), Stale> {
        match self.top {
            None => self.top = Some(index),
            Some(top) if index > top => self.rise(top, index),
            Some(top) if top - index >= Self::SIZE => return Err(Stale::TooOld),
            Some(_) => {}
        }
        let (word, bit) = Self::place(index);
        if self.seen[word] & bit != 0 {
            return Err(Stale::Repeated);
        }
        self.seen[word] |= bit;
        Ok(())
    }

    /// Whether `index` passed and is still in the window.
    pub fn contains(&self, index: u64) -> bool {
        let (word, bit) = Self::place(index);
        let inside = self.top.is_some_and(|top| index <= top && top - index < Self::SIZE);
        inside && self.seen[word] & bit != 0
    }

    fn rise(&mut self, top: u64, index: u64) {
        if index - top >= Self::SIZE {
            self.seen = [0; WORDS];
        } else {
            for skipped in top + 1..=index {
                let (word, bit) = Self::place(skipped);
                self.seen[word] &= !bit;
            }
        }
        self.top = Some(index);
    }

    fn place(index: u64) -> (usize, u64) {
        let slot = index % Self::SIZE;
        ((slot / 64) as usize, 1 << (slot % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_index_goes_on_over_a_wrap() {
        let mut window = Window::<2>::default();
        for sequence in [65_534u16, 65_535, 0, 1] {
            let index = window.index_of(sequence);
            window.pass(index).unwrap();
        }
        assert_eq!(window.top(), Some(FIRST_CYCLE + 65_537));
        assert_eq!(window.index_of(65_535), FIRST_CYCLE + 65_535);
    }

    #[test]
    fn a_late_index_passes_once_and_a_very_late_one_never() {
        let mut window = Window::<1>::default();
        window.pass(1_000).unwrap();
        assert_eq!(window.pass(990), Ok(()));
        assert_eq!(window.pass(990), Err(Stale::Repeated));
        assert_eq!(window.pass(1_000 - 64), Err(Stale::TooOld));
        assert_eq!(window.pass(1_000 - 63), Ok(()));
    }

    proptest! {
        /// Against an oracle that remembers everything.
        #[test]
        fn no_index_passes_twice(steps in proptest::collection::vec(-80i64..300, 1..400)) {
            let mut window = Window::<2>::default();
            let mut passed = HashSet::new();
            let mut top = 100_000u64;
            for step in steps {
                let index = top.saturating_add_signed(step);
                let expected = if passed.contains(&index) && index + 128 > top {
                    Err(Stale::Repeated)
                } else if index + 128 <= top && !passed.is_empty() {
                    Err(Stale::TooOld)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.pass(index), expected);
                if expected.is_ok() {
                    top = if passed.is_empty() { index } else { top.max(index) };
                    passed.insert(index);
                }
            }
        }
    }
}
