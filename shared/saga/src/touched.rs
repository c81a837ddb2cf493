//! The records that a transaction has touched so far.
//!
//! Every input looks records up many times, and a transaction goes through them once. So they stand in a hash table, the only one in a
//! crate that machines are made of. Invariants: its order is never shown, because whatever goes through it comes out in the order of the
//! keys; and its hashes are the same in every run. Whoever could choose keys so that they fall into one place gains nothing: keys are
//! hashes themselves, and a transaction is bounded.

#![allow(clippy::disallowed_types, reason = "see the module: the order of the table is never shown")]

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::ops::RangeInclusive;

use foldhash::fast::FixedState;

/// Records as they stand now; `None` is removed.
#[derive(Clone, Debug)]
pub struct Touched<K, E>(HashMap<K, Option<E>, FixedState>);

impl<K, E> Default for Touched<K, E> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Ord + Hash, E> Touched<K, E> {
    /// What stands under `key`, if it was touched.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&Option<E>> {
        self.0.get(key)
    }

    /// The record of `key`, to be changed; `untouched` gives the one to begin with.
    pub(crate) fn get_mut(&mut self, key: K, untouched: impl FnOnce(&K) -> Option<E>) -> Option<&mut E> {
        match self.0.entry(key) {
            Entry::Occupied(touched) => touched.into_mut().as_mut(),
            Entry::Vacant(place) => {
                let begun = untouched(place.key())?;
                place.insert(Some(begun)).as_mut()
            }
        }
    }

    /// Sets or removes the record of `key`.
    pub fn insert(&mut self, key: K, entity: Option<E>) {
        self.0.insert(key, entity);
    }

    /// Whether nothing was touched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys in `range` under which a record stands.
    pub(crate) fn standing_in(&self, range: &RangeInclusive<K>) -> BTreeSet<K>
    where
        K: Clone,
    {
        let standing = self.0.iter().filter(|(key, entity)| entity.is_some() && range.contains(*key));
        standing.map(|(key, _)| key.clone()).collect()
    }

    /// Everything that was touched, in the order of the keys.
    #[must_use]
    pub fn in_order(&self) -> Vec<(&K, &Option<E>)> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }
}

impl<K: Ord, E> IntoIterator for Touched<K, E> {
    type Item = (K, Option<E>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    /// Everything that was touched, in the order of the keys.
    fn into_iter(self) -> Self::IntoIter {
        let mut all: Vec<_> = self.0.into_iter().collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_comes_out_in_the_order_of_its_keys_whatever_the_order_of_the_touches() {
        let mut touched = Touched::<u64, u64>::default();
        for key in (0..1_000).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            touched.insert(key, (key % 3 != 0).then_some(key));
        }
        assert_eq!(touched.get_mut(7, |key| Some(*key)).copied(), Some(7));
        assert_eq!(touched.get_mut(8, |_| None), None);
        assert_eq!(touched.get(&8), None, "what never stood is not touched by being asked for");
        let shown: Vec<u64> = touched.in_order().into_iter().map(|(key, _)| *key).collect();
        assert_eq!(shown.len(), 1_001);
        assert!(shown.is_sorted());
        let standing = touched.standing_in(&(0..=u64::MAX));
        assert!(standing.iter().all(|key| touched.get(key).is_some_and(Option::is_some)));
        let taken: Vec<u64> = touched.into_iter().map(|(key, _)| key).collect();
        assert_eq!(taken, shown);
    }
}
