//! The state root: one hash of the state records of a shard, kept up to date by what changes.
//!
//! There are two of them. `state` is over everything that the inbox alone decides, so that a replay of the inbox gives the same;
//! `outbox` is over the messages that are not struck off yet, which also depends on when the host could deliver.
//!
//! A multiset hash: the sum, modulo 2^256, of BLAKE3 over each (key, value). Order does not matter, so adding and taking away one
//! record costs two hashes whatever the size of the state. It detects corruption and divergence between a replay and the log;
//! it is not collision resistant against someone who may choose many records freely, so it proves nothing to an outsider on its own:
//! the hash-chained event log does that.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use custos_domain::{Digest, HashContext};
use foldhash::fast::RandomState;

use super::records::is_outbox_key;

static RECORD: HashContext = HashContext::new("custos 2026 state record");

/// What one record adds to a root.
pub(super) type Limbs = [u64; 4];

/// What records that changed lately added to the root, so that what a record was need not be written and hashed again when it
/// changes once more. A cache: whatever is not in it is made again, and the roots are the same with it and without it.
pub(super) struct Lately<K>(HashMap<K, Limbs, RandomState>);

/// The most records that are remembered; then all are forgotten, which costs each of them one hash.
const LATELY_MAX: usize = 65_536;

impl<K> Default for Lately<K> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Hash + Eq> Lately<K> {
    /// What the record of `key` added.
    pub(super) fn get(&self, key: &K) -> Option<Limbs> {
        self.0.get(key).copied()
    }

    /// The record of `key` adds this now, or is gone.
    pub(super) fn note(&mut self, key: K, limbs: Option<Limbs>) {
        match limbs {
            Some(limbs) => {
                if self.0.len() >= LATELY_MAX {
                    self.0.clear();
                }
                self.0.insert(key, limbs);
            }
            None => drop(self.0.remove(&key)),
        }
    }
}

/// The running root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateRoot([u64; 4]);

/// The roots of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// Over the machine's records, timers and links.
    pub state: StateRoot,
    /// Over the messages that are not struck off.
    pub outbox: StateRoot,
}

impl Roots {
    /// Those of all these records.
    #[must_use]
    pub fn over(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let mut roots = Self::default();
        for (key, value) in records {
            roots.of(is_outbox_key(key)).add(key, value);
        }
        roots
    }

    /// The root that a record belongs to.
    pub(super) const fn of(&mut self, outbox: bool) -> &mut StateRoot {
        if outbox { &mut self.outbox } else { &mut self.state }
    }
}

impl StateRoot {
    /// Adds a record.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.plus(limbs(key, value));
    }

    /// Takes a record away.
    pub fn take(&mut self, key: &[u8], value: &[u8]) {
        self.minus(limbs(key, value));
    }

    pub(super) fn plus(&mut self, limbs: Limbs) {
        let mut carry = false;
        for (sum, limb) in self.0.iter_mut().zip(limbs) {
            let (partial, first) = sum.overflowing_add(limb);
            let (whole, second) = partial.overflowing_add(u64::from(carry));
            *sum = whole;
            carry = first || second;
        }
    }

    pub(super) fn minus(&mut self, limbs: Limbs) {
        let mut borrow = false;
        for (sum, limb) in self.0.iter_mut().zip(limbs) {
            let (partial, first) = sum.overflowing_sub(limb);
            let (whole, second) = partial.overflowing_sub(u64::from(borrow));
            *sum = whole;
            borrow = first || second;
        }
    }

    /// The root as a digest: four limbs, little endian.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        Digest(bytes)
    }
}

/// What a record adds.
pub(super) fn limbs(key: &[u8], value: &[u8]) -> Limbs {
    let hash = RECORD.digest(&[key, value]);
    let mut limbs = [0; 4];
    for (limb, chunk) in limbs.iter_mut().zip(hash.0.chunks_exact(8)) {
        *limb = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
    }
    limbs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_taking_away_undoes_adding() {
        let records: Vec<(Vec<u8>, Vec<u8>)> = (0_u8..50).map(|n| (vec![n], vec![n, n])).collect();
        let mut forward = StateRoot::default();
        let mut backward = StateRoot::default();
        records.iter().for_each(|(key, value)| forward.add(key, value));
        records.iter().rev().for_each(|(key, value)| backward.add(key, value));
        assert_eq!(forward, backward);
        records.iter().for_each(|(key, value)| forward.take(key, value));
        assert_eq!(forward, StateRoot::default());
        assert_ne!(backward, StateRoot::default());
    }
}
