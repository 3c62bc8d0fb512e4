//! A map whose copies share what is equal in them: a copy costs nothing, a change copies the few nodes above what changed.
//!
//! A tree over the bits of a keyed hash: branches of sixteen, leaves of up to thirty-two entries. With a million entries a
//! change copies five small nodes, and reading passes four branches. Whoever holds a copy reads it as it was, with no lock
//! and no counting; see docs/decisions/0014-one-memory-replaced-whole.md.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::quality::RandomState;

/// Bits of the hash that a branch looks at.
const BITS: u32 = 4;
const BRANCHES: usize = 1 << BITS;
/// A leaf with more entries becomes a branch.
const LEAF_MAX: usize = 32;
/// Below this the hash has no bits left that the mark of an entry does not use, and a leaf may grow.
const DEPTH_MAX: u32 = 14;

/// See the module.
#[derive(Clone)]
pub struct Map<K, V> {
    // Keyed anew for each map: nobody outside can choose keys that meet in one leaf.
    hasher: RandomState,
    root: Arc<Node<K, V>>,
    len: usize,
}

#[derive(Clone)]
enum Node<K, V> {
    Branch([Arc<Node<K, V>>; BRANCHES]),
    Leaf(Leaf<K, V>),
}

#[derive(Clone)]
struct Leaf<K, V> {
    // The top bits of each entry's hash, next to each other: most entries are told apart without being touched.
    marks: [u8; LEAF_MAX],
    entries: Vec<(K, V)>,
}

impl<K: Eq + Hash + Clone, V: Clone> Map<K, V> {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self { hasher: RandomState::default(), root: Arc::new(Node::EMPTY), len: 0 }
    }

    /// What is stored under `key`.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        let (mut node, mut depth) = (&self.root, 0);
        loop {
            match &**node {
                Node::Branch(branches) => node = branches.get(branch(hash, depth))?,
                Node::Leaf(leaf) => return leaf.entries.get(leaf.find(hash, key)?).map(|(_, value)| value),
            }
            depth += 1;
        }
    }

    /// Stores, in place of what was there. Other copies of the map keep what they have.
    pub fn insert(&mut self, key: K, value: V) {
        let hash = self.hasher.hash_one(&key);
        if insert(&mut self.root, (&self.hasher, 0), hash, (key, value)) {
            self.len += 1;
        }
    }

    /// Removes what is stored under `key`, if anything is.
    pub fn remove(&mut self, key: &K) {
        // Without this look a key that is not there would copy the way to its place.
        if self.get(key).is_some() {
            remove(&mut self.root, (&self.hasher, 0), self.hasher.hash_one(key), key);
            self.len -= 1;
        }
    }

    /// What is stored under `key`, to be changed in place. Other copies of the map keep what they have.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let hash = self.hasher.hash_one(key);
        let (mut node, mut depth) = (Arc::make_mut(&mut self.root), 0);
        loop {
            match node {
                Node::Branch(branches) => node = Arc::make_mut(branches.get_mut(branch(hash, depth))?),
                Node::Leaf(leaf) => {
                    let at = leaf.find(hash, key)?;
                    return leaf.entries.get_mut(at).map(|(_, value)| value);
                }
            }
            depth += 1;
        }
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut waiting = vec![&*self.root];
        let leaves = std::iter::from_fn(move || {
            loop {
                match waiting.pop()? {
                    Node::Branch(branches) => waiting.extend(branches.iter().map(|branch| &**branch)),
                    Node::Leaf(leaf) => return Some(leaf.entries.iter()),
                }
            }
        });
        leaves.flatten().map(|(key, value)| (key, value))
    }

    /// Gives back memory that growing took ahead: after a load.
    pub fn shrink(&mut self) {
        shrink(&mut self.root);
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Eq + Hash + Clone, V: Clone> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map.shrink();
        map
    }
}

impl<K, V> Node<K, V> {
    const EMPTY: Self = Self::Leaf(Leaf { marks: [0; LEAF_MAX], entries: Vec::new() });
}

impl<K: Eq, V> Leaf<K, V> {
    fn find(&self, hash: u64, key: &K) -> Option<usize> {
        let is = |at: &usize| self.entries.get(*at).is_some_and(|(known, _)| known == key);
        if self.entries.len() > LEAF_MAX {
            return (0..self.entries.len()).find(is);
        }
        let mark = mark(hash);
        let marked = self.marks.iter().enumerate().filter(|(_, known)| **known == mark);
        marked.map(|(at, _)| at).find(is)
    }

    fn push(&mut self, hash: u64, entry: (K, V)) {
        if let Some(place) = self.marks.get_mut(self.entries.len()) {
            *place = mark(hash);
        }
        self.entries.push(entry);
    }
}

/// Which way a branch at this depth leads.
fn branch(hash: u64, depth: u32) -> usize {
    usize::try_from(hash >> (depth * BITS)).unwrap_or(usize::MAX) & (BRANCHES - 1)
}

/// The top bits, which no branch looks at.
const fn mark(hash: u64) -> u8 {
    hash.to_be_bytes()[0]
}

/// True when the key is new.
fn insert<K: Eq + Hash + Clone, V: Clone>(
    node: &mut Arc<Node<K, V>>,
    (hasher, depth): (&RandomState, u32),
    hash: u64,
    entry: (K, V),
) -> bool {
    match Arc::make_mut(node) {
        Node::Branch(branches) => {
            branches.get_mut(branch(hash, depth)).is_some_and(|below| insert(below, (hasher, depth + 1), hash, entry))
        }
        Node::Leaf(leaf) => {
            if let Some(known) = leaf.find(hash, &entry.0).and_then(|at| leaf.entries.get_mut(at)) {
                known.1 = entry.1;
                return false;
            }
            if leaf.entries.len() < LEAF_MAX || depth >= DEPTH_MAX {
                leaf.push(hash, entry);
                return true;
            }
            let entries = std::mem::take(&mut leaf.entries);
            let mut branches = std::array::from_fn(|_| Arc::new(Node::EMPTY));
            for entry in entries.into_iter().chain([entry]) {
                let hash = hasher.hash_one(&entry.0);
                if let Some(below) = branches.get_mut(branch(hash, depth)) {
                    insert(below, (hasher, depth + 1), hash, entry);
                }
            }
            *node = Arc::new(Node::Branch(branches));
            true
        }
    }
}

/// Branches stay when they empty: what was as large once may be so again.
fn remove<K: Eq + Hash + Clone, V: Clone>(
    node: &mut Arc<Node<K, V>>,
    (hasher, depth): (&RandomState, u32),
    hash: u64,
    key: &K,
) {
    match Arc::make_mut(node) {
        Node::Branch(branches) => {
            if let Some(below) = branches.get_mut(branch(hash, depth)) {
                remove(below, (hasher, depth + 1), hash, key);
            }
        }
        Node::Leaf(leaf) => {
            if let Some(at) = leaf.find(hash, key) {
                leaf.entries.swap_remove(at);
                if let (Some(place), Some((moved, _))) = (leaf.marks.get_mut(at), leaf.entries.get(at)) {
                    *place = mark(hasher.hash_one(moved));
                }
            }
        }
    }
}

fn shrink<K: Clone, V: Clone>(node: &mut Arc<Node<K, V>>) {
    match Arc::make_mut(node) {
        Node::Branch(branches) => branches.iter_mut().for_each(shrink),
        Node::Leaf(leaf) => leaf.entries.shrink_to_fit(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Keys that share a hash on purpose stay apart.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Colliding(u16);

    impl Hash for Colliding {
        fn hash<H: std::hash::Hasher>(&self, to: &mut H) {
            (self.0 % 3).hash(to);
        }
    }

    fn agrees(map: &Map<u16, u32>, model: &HashMap<u16, u32>) {
        assert_eq!(map.len(), model.len());
        let all: HashMap<u16, u32> = map.iter().map(|(key, value)| (*key, *value)).collect();
        assert_eq!(&all, model);
        for key in 0..2_000 {
            assert_eq!(map.get(&key), model.get(&key), "{key}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn a_map_is_what_a_plain_one_would_be_and_its_copies_stay_as_they_were(
            batches in prop::collection::vec(prop::collection::vec((0_u16..2_000, prop::option::weighted(0.7, any::<u32>())), 1..600), 1..5),
        ) {
            let (mut map, mut model) = (Map::new(), HashMap::new());
            let mut copies = Vec::new();
            for batch in batches {
                copies.push((map.clone(), model.clone()));
                for (key, value) in batch {
                    if let Some(value) = value {
                        map.insert(key, value);
                        model.insert(key, value);
                    } else {
                        map.remove(&key);
                        model.remove(&key);
                    }
                }
                agrees(&map, &model);
            }
            for (map, model) in &copies {
                agrees(map, model);
            }
        }
    }

    #[test]
    fn keys_whose_hashes_are_equal_stay_apart() {
        let mut map: Map<Colliding, u16> = (0..500).map(|key| (Colliding(key), key)).collect();
        assert!((0..500).all(|key| map.get(&Colliding(key)) == Some(&key)));
        for key in 0..490 {
            map.remove(&Colliding(key));
        }
        assert_eq!(map.len(), 10);
        assert!((0..500).all(|key| map.get(&Colliding(key)).is_some() == (key >= 490)));
    }

    #[test]
    fn a_value_changed_in_place_is_not_changed_in_a_copy() {
        let mut map: Map<u16, u16> = (0..100).map(|key| (key, key)).collect();
        let copy = map.clone();
        *map.get_mut(&7).unwrap() = 700;
        assert_eq!((map.get(&7), copy.get(&7)), (Some(&700), Some(&7)));
        assert_eq!(map.get_mut(&100), None);
    }
}
