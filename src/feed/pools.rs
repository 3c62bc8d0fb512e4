//! Lists that many keys have in common are kept once: a million keys of a thousand agents have few different ones.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use ipnet::IpNet;

use crate::gate::Grant;
use crate::types::id::RoleId;

/// A pool with fewer lists is not looked through for those that nobody has any more.
const SWEEP_LEN_MIN: usize = 1_024;

/// The lists of keys.
#[derive(Default)]
pub(super) struct Pools {
    pub(super) grants: Pool<Grant>,
    pub(super) roles: Pool<RoleId>,
    pub(super) networks: Pool<IpNet>,
}

/// Equal lists, once each.
pub(super) struct Pool<T> {
    lists: HashSet<Arc<[T]>>,
    // When the pool has grown to this, lists that nobody else has are dropped.
    sweep_at: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { lists: HashSet::new(), sweep_at: SWEEP_LEN_MIN }
    }
}

impl<T: Clone + Eq + Hash> Pool<T> {
    /// The one list that is equal to this one.
    pub(super) fn share(&mut self, list: &[T]) -> Arc<[T]> {
        if list.is_empty() {
            return Arc::default();
        }
        if let Some(known) = self.lists.get(list) {
            return Arc::clone(known);
        }
        if self.lists.len() >= self.sweep_at {
            self.lists.retain(|list| Arc::strong_count(list) > 1);
            self.sweep_at = (2 * self.lists.len()).max(SWEEP_LEN_MIN);
        }
        let new: Arc<[T]> = list.into();
        self.lists.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_are_one_and_others_are_not() {
        let mut pool = Pool::default();
        let (one, other) = (pool.share(&["a", "b"]), pool.share(&["a", "b"]));
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &pool.share(&["b", "a"])));
        assert!(pool.share(&[]).is_empty());
    }

    #[test]
    fn lists_that_nobody_has_any_more_leave_the_pool() {
        let mut pool = Pool::default();
        let kept = pool.share(&[usize::MAX]);
        for number in 0..100 * SWEEP_LEN_MIN {
            pool.share(&[number]);
        }
        assert!(pool.lists.len() <= SWEEP_LEN_MIN, "{}", pool.lists.len());
        assert!(Arc::ptr_eq(&kept, &pool.share(&[usize::MAX])), "what somebody has stays the one");
    }
}
