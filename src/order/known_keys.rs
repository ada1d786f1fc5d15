//! Which idempotency keys may be known to the owner thread, for callers who must not be told "sold out" when they won.
//!
//! Counters, found by a part of the key: one is zero when none of the keys that share it is known. That something
//! *may* be known is enough: then the owner is asked, who knows.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::order::request::KeyId;

#[derive(Debug)]
pub struct KnownKeys {
    counters: Box<[AtomicU32]>,
}

impl KnownKeys {
    /// With about one counter for each of `keys_max` keys, so that even when all are there a third of the others is
    /// told to be unknown. Memory is used where keys fall.
    pub fn new(keys_max: usize) -> Self {
        let counters = keys_max.clamp(1 << 10, 1 << 26).next_power_of_two();
        let zeros = Box::into_raw(vec![0u32; counters].into_boxed_slice());
        // SAFETY: the box is ours alone, and an `AtomicU32` has the size, alignment and valid values of a `u32`.
        let counters = unsafe { Box::from_raw(zeros as *mut [AtomicU32]) };
        Self { counters }
    }

    fn counter(&self, key: KeyId) -> &AtomicU32 {
        let [a, b, c, d, ..] = key.0;
        &self.counters[u32::from_le_bytes([a, b, c, d]) as usize & (self.counters.len() - 1)]
    }

    /// One more reason to ask the owner about a key.
    pub fn add(&self, key: KeyId) {
        self.counter(key).fetch_add(1, Ordering::AcqRel);
    }

    /// Takes one such reason back.
    pub fn take_back(&self, key: KeyId) {
        self.counter(key).fetch_sub(1, Ordering::AcqRel);
    }

    pub fn may_have(&self, key: KeyId) -> bool {
        self.counter(key).load(Ordering::Acquire) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> KeyId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.wrapping_mul(0x9E37_79B9).to_le_bytes());
        KeyId(bytes)
    }

    #[test]
    fn a_known_key_is_never_denied_and_most_others_are() {
        let known = KnownKeys::new(100_000);
        (0..10_000).for_each(|n| known.add(key(n)));
        known.add(key(1));
        assert!((0..10_000).all(|n| known.may_have(key(n))));
        let mistaken = (10_000..60_000).filter(|n| known.may_have(key(*n))).count();
        assert!(mistaken < 10_000, "{mistaken} of 50,000 are taken for known");
        (0..10_000).for_each(|n| known.take_back(key(n)));
        assert!(known.may_have(key(1)), "one of its two reasons is left");
        known.take_back(key(1));
        assert!((0..60_000).all(|n| !known.may_have(key(n))));
    }
}
