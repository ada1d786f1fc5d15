//! A hash map in many parts, so that growing never holds up its owner for long.
//!
//! One map of a million entries stops for tens of milliseconds when it doubles. Here each part doubles by itself,
//! at a time of its own, in a hundredth of that. A key is hashed once for each use.

use std::hash::{BuildHasher, Hash};

use hashbrown::{
    DefaultHashBuilder, HashTable,
    hash_table::{Entry, OccupiedEntry},
};

const PARTS: usize = 256;

#[derive(Debug)]
pub struct SplitMap<K, V> {
    parts: Vec<HashTable<(K, V)>>,
    hasher: DefaultHashBuilder,
}

impl<K: Eq + Hash, V> SplitMap<K, V> {
    /// A map with room for `expected` entries before any part has to grow.
    pub fn with_capacity(expected: usize) -> Self {
        let parts = (0..PARTS).map(|_| HashTable::with_capacity(expected / PARTS)).collect();
        Self { parts, hasher: DefaultHashBuilder::default() }
    }

    /// The hash of a key, and the part that it is in. A part tells its entries apart by other bits of the hash: the
    /// highest seven and the lowest.
    fn place(&self, key: &K) -> (u64, usize) {
        let hash = self.hasher.hash_one(key);
        (hash, (hash >> 32) as usize % PARTS)
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        let (hash, part) = self.place(key);
        self.parts[part].find(hash, |(k, _)| k == key).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (hash, part) = self.place(key);
        self.parts[part].find_mut(hash, |(k, _)| k == key).map(|(_, value)| value)
    }

    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    fn entry(&mut self, key: &K) -> Entry<'_, (K, V)> {
        let (hash, part) = self.place(key);
        let hasher = &self.hasher;
        self.parts[part].entry(hash, |(k, _)| k == key, |(k, _)| hasher.hash_one(k))
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.entry(&key) {
            Entry::Occupied(mut entry) => Some(std::mem::replace(&mut entry.get_mut().1, value)),
            Entry::Vacant(entry) => {
                entry.insert((key, value));
                None
            }
        }
    }

    /// Puts in what is not there yet. What is there stays, and the value comes back.
    pub fn add(&mut self, key: K, value: V) -> Option<V> {
        match self.entry(&key) {
            Entry::Occupied(_) => Some(value),
            Entry::Vacant(entry) => {
                entry.insert((key, value));
                None
            }
        }
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        match self.entry(key) {
            Entry::Occupied(entry) => Some(OccupiedEntry::remove(entry).0.1),
            Entry::Vacant(_) => None,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.iter().flatten().map(|(key, value)| (key, value))
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
            assert_eq!(map.insert(n, n), Some(n));
            assert_eq!(map.add(n, 0), Some(0));
        }
        for n in (0..10_000).step_by(2) {
            assert_eq!(map.remove(&n), Some(n));
            assert_eq!(map.remove(&n), None);
        }
        assert_eq!(map.iter().count(), 5_000);
        assert!((0..10_000).all(|n| map.get(&n).is_some() == (n % 2 == 1)));
        let largest = map.parts.iter().map(HashTable::len).max();
        assert!(largest < Some(100), "the parts share the load: {largest:?}");
    }
}
