//! A map that is read without a lock and replaced a shard at a time.
//!
//! Copying a million entries for one change would take 100 ms; a change here copies one of 256 shards.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use arc_swap::ArcSwap;

const SHARDS: usize = 256;

type Shard<K, V> = ArcSwap<HashMap<K, Arc<V>>>;

/// See the module. Only one task writes; any number read.
pub struct Sharded<K, V> {
    hasher: RandomState,
    shards: Box<[Shard<K, V>]>,
}

impl<K: Eq + Hash + Clone, V> Sharded<K, V> {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { hasher: RandomState::new(), shards }
    }

    /// What is stored under `key` now.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        self.shard(key)?.load().get(key).cloned()
    }

    /// Stores or, with `None`, removes. Readers see the old state or the new one.
    pub fn set(&self, key: &K, value: Option<V>) {
        let Some(shard) = self.shard(key) else { return };
        let mut changed = HashMap::clone(&shard.load());
        match value {
            Some(value) => changed.insert(key.clone(), Arc::new(value)),
            None => changed.remove(key),
        };
        shard.store(Arc::new(changed));
    }

    /// Replaces everything. Each shard changes at once, the map as a whole does not: nothing may be answered meanwhile.
    pub fn replace(&self, entries: impl IntoIterator<Item = (K, V)>) {
        let mut fresh: Vec<HashMap<K, Arc<V>>> = (0..SHARDS).map(|_| HashMap::new()).collect();
        for (key, value) in entries {
            let at = self.index(&key);
            if let Some(shard) = fresh.get_mut(at) {
                shard.insert(key, Arc::new(value));
            }
        }
        for (shard, mut map) in self.shards.iter().zip(fresh) {
            map.shrink_to_fit();
            shard.store(Arc::new(map));
        }
    }

    /// All entries, shard by shard.
    pub fn entries(&self) -> impl Iterator<Item = (K, Arc<V>)> {
        self.shards.iter().flat_map(|shard| {
            shard.load().iter().map(|(key, value)| (key.clone(), Arc::clone(value))).collect::<Vec<_>>()
        })
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn index(&self, key: &K) -> usize {
        usize::try_from(self.hasher.hash_one(key) >> 56).unwrap_or(0) % SHARDS
    }

    fn shard(&self, key: &K) -> Option<&Shard<K, V>> {
        self.shards.get(self.index(key))
    }
}

impl<K: Eq + Hash + Clone, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_found_and_what_is_replaced_is_gone() {
        let map = Sharded::new();
        for number in 0..1_000 {
            map.set(&number, Some(number * 2));
        }
        assert_eq!((map.len(), map.get(&7).as_deref()), (1_000, Some(&14)));
        map.set(&7, None);
        assert_eq!(map.get(&7), None);
        map.replace([(1, 1)]);
        assert_eq!(map.entries().map(|(key, _)| key).collect::<Vec<_>>(), [1]);
    }
}
