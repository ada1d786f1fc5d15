//! A hash map in many parts, so that growing never holds up its owner for long.
//!
//! One map of a million entries stops for tens of milliseconds when it doubles. Here each part doubles by itself,
//! at a time of its own, in a hundredth of that.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
};

const PARTS: usize = 256;

#[derive(Debug)]
pub struct SplitMap<K, V> {
    parts: Vec<HashMap<K, V>>,
    splitter: RandomState,
}

impl<K: Eq + Hash, V> SplitMap<K, V> {
    /// A map with room for `expected` entries before any part has to grow.
    pub fn with_capacity(expected: usize) -> Self {
        let parts = (0..PARTS).map(|_| HashMap::with_capacity(expected / PARTS)).collect();
        Self { parts, splitter: RandomState::new() }
    }

    fn part(&self, key: &K) -> usize {
        (self.splitter.hash_one(key) >> 56) as usize
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.parts[self.part(key)].get(key)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let part = self.part(key);
        self.parts[part].get_mut(key)
    }

    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let part = self.part(&key);
        self.parts[part].insert(key, value)
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let part = self.part(key);
        self.parts[part].remove(key)
    }

    /// The value of `key`, put there by `make` when it is new.
    pub fn or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let part = self.part(&key);
        self.parts[part].entry(key).or_insert_with(make)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_found_until_it_is_taken_out() {
        let mut map = SplitMap::with_capacity(0);
        for n in 0..10_000u32 {
            assert_eq!(map.insert(n, n), None);
        }
        for n in (0..10_000).step_by(2) {
            assert_eq!(map.remove(&n), Some(n));
        }
        assert_eq!(map.iter().count(), 5_000);
        assert!((0..10_000).all(|n| map.get(&n).is_some() == (n % 2 == 1)));
        let largest = map.parts.iter().map(HashMap::len).max();
        assert!(largest < Some(100), "the parts share the load: {largest:?}");
    }
}
