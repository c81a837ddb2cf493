//! The records that a transaction has touched so far.
//!
//! Every input looks records up many times, and a transaction goes through them once. So they lie in the order in which they were
//! touched first, with an index by hash beside them. Invariants: nothing goes through the index, so no order comes out of it:
//! what is gone through is sorted by key; and hashes are the same in every run. Whoever could choose keys so that they fall into one
//! place gains nothing: keys are hashes themselves, and a transaction is bounded.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hash};
use std::ops::RangeInclusive;

use foldhash::fast::FixedState;

/// Records as they stand now; `None` is removed.
#[derive(Clone, Debug)]
pub struct Touched<K, E> {
    entries: Vec<(K, Option<E>)>,
    /// One more than the number of an entry, or nothing; a power of two of them, at most half of them taken.
    index: Vec<u32>,
}

/// The first size of the index.
const INDEX_MIN: usize = 64;
const FREE: u32 = 0;
/// Keys are hashed alike in every process.
static HASHES: FixedState = FixedState::with_seed(0);

impl<K, E> Default for Touched<K, E> {
    fn default() -> Self {
        Self { entries: Vec::new(), index: Vec::new() }
    }
}

impl<K: Ord + Hash, E> Touched<K, E> {
    /// What stands under `key`, if it was touched.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&Option<E>> {
        let number = self.find(key)?;
        self.entries.get(number).map(|(_, entity)| entity)
    }

    /// The record of `key`, to be changed; `untouched` gives the one to begin with.
    pub(crate) fn get_mut(&mut self, key: K, untouched: impl FnOnce(&K) -> Option<E>) -> Option<&mut E> {
        let number = match self.find(&key) {
            Some(number) => number,
            None => {
                let begun = untouched(&key)?;
                self.append(key, Some(begun))
            }
        };
        self.entries.get_mut(number).and_then(|(_, entity)| entity.as_mut())
    }

    /// Sets or removes the record of `key`.
    pub fn insert(&mut self, key: K, entity: Option<E>) {
        match self.find(&key).and_then(|number| self.entries.get_mut(number)) {
            Some((_, stands)) => *stands = entity,
            None => {
                self.append(key, entity);
            }
        }
    }

    /// Whether nothing was touched.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The keys in `range` under which a record stands.
    pub(crate) fn standing_in(&self, range: &RangeInclusive<K>) -> BTreeSet<K>
    where
        K: Clone,
    {
        let standing = self.entries.iter().filter(|(key, entity)| entity.is_some() && range.contains(key));
        standing.map(|(key, _)| key.clone()).collect()
    }

    /// Everything that was touched, in the order of the keys.
    #[must_use]
    pub fn in_order(&self) -> Vec<(&K, &Option<E>)> {
        let mut all: Vec<_> = self.entries.iter().map(|(key, entity)| (key, entity)).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    /// The number of the entry of `key`.
    fn find(&self, key: &K) -> Option<usize> {
        let mut place = self.place(key)?;
        loop {
            let number = entry_at(*self.index.get(place)?)?;
            if self.entries.get(number).is_some_and(|(known, _)| known == key) {
                return Some(number);
            }
            place = self.after(place);
        }
    }

    /// Puts an entry behind the others; its number.
    fn append(&mut self, key: K, entity: Option<E>) -> usize {
        let number = self.entries.len();
        self.entries.push((key, entity));
        if self.entries.len().saturating_mul(2) > self.index.len() {
            self.index = vec![FREE; self.index.len().saturating_mul(2).max(INDEX_MIN)];
            (0..=number).for_each(|number| self.enter(number));
        } else {
            self.enter(number);
        }
        number
    }

    /// Enters an entry into the index, which has room.
    fn enter(&mut self, number: usize) {
        let Some(mut place) = self.entries.get(number).and_then(|(key, _)| self.place(key)) else { return };
        while self.index.get(place).is_some_and(|taken| *taken != FREE) {
            place = self.after(place);
        }
        if let Some(free) = self.index.get_mut(place) {
            *free = u32::try_from(number.saturating_add(1)).expect("a transaction touches fewer records than it has bytes");
        }
    }

    /// Where the index is looked at first for `key`; nowhere while it is empty.
    fn place(&self, key: &K) -> Option<usize> {
        let last = self.index.len().checked_sub(1)?;
        Some(usize::try_from(HASHES.hash_one(key)).unwrap_or(usize::MAX) & last)
    }

    const fn after(&self, place: usize) -> usize {
        place.wrapping_add(1) & self.index.len().wrapping_sub(1)
    }
}

fn entry_at(taken: u32) -> Option<usize> {
    taken.checked_sub(1).and_then(|number| usize::try_from(number).ok())
}

impl<K: Ord, E> IntoIterator for Touched<K, E> {
    type Item = (K, Option<E>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    /// Everything that was touched, in the order of the keys.
    fn into_iter(mut self) -> Self::IntoIter {
        self.entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        self.entries.into_iter()
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

    #[test]
    fn it_says_what_an_ordered_map_says() {
        let (mut touched, mut map) = (Touched::<u64, u64>::default(), std::collections::BTreeMap::new());
        let mut chance = 0x2545_f491_4f6c_dd1d_u64;
        for round in 0..20_000 {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            let key = chance % 3_000;
            match chance >> 60 {
                0..4 => {
                    touched.insert(key, Some(round));
                    map.insert(key, Some(round));
                }
                4..6 => {
                    touched.insert(key, None);
                    map.insert(key, None);
                }
                6..9 => {
                    let begun = (chance & 1 == 0).then_some(round);
                    let own = touched.get_mut(key, |_| begun).map(|entity| std::mem::replace(entity, round));
                    let theirs = match (map.get_mut(&key), begun) {
                        (Some(stands), _) => stands.as_mut().map(|entity| std::mem::replace(entity, round)),
                        (None, Some(begun)) => {
                            map.insert(key, Some(round));
                            Some(begun)
                        }
                        (None, None) => None,
                    };
                    assert_eq!(own, theirs);
                }
                _ => assert_eq!(touched.get(&key), map.get(&key)),
            }
        }
        assert_eq!(touched.in_order(), map.iter().collect::<Vec<_>>());
    }
}
