//! The fold of a state partition: what its records say as of the last manifest, and the records after it.
//!
//! Takeover, standby and checkpoint fold with the same code. Invariant: `committed` is the state as of `manifest`, never of half a
//! transaction. Whether it is the state that the manifest means is not decided here but at the takeover, by the state root: a
//! fold that began at a place may have missed a tombstone that the log no longer has.

use std::collections::{BTreeMap, BTreeSet};

use custos_journal::{Entry, Journal, JournalError, Start};
use custos_messages::{Record, ShardName, Topic};

use super::records::{Manifest, is_header, is_manifest};
use super::root::Roots;
use crate::replay::each_batch;

/// A manifest in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seated {
    /// Its offset in the state partition.
    pub offset: u64,
    /// The record's value.
    pub value: Vec<u8>,
}

/// The fold of a state partition up to some offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    manifest: Option<Seated>,
    committed: BTreeMap<Vec<u8>, Vec<u8>>,
    open: Vec<Record>,
    next: u64,
    bytes: usize,
    records: u64,
    foreign: bool,
}

impl Folded {
    /// What a checkpoint holds.
    pub(crate) fn resting_on(manifest: Seated, committed: BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let bytes = committed.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum();
        Self { next: manifest.offset, manifest: Some(manifest), committed, bytes, ..Self::default() }
    }

    /// Nothing yet, of a log whose first offset is `first`.
    #[must_use]
    pub fn beginning_at(first: u64) -> Self {
        Self { next: first, ..Self::default() }
    }

    /// Takes the next record in; one from before [`Self::next`] changes nothing.
    pub fn see(&mut self, entry: Entry) {
        if entry.offset < self.next {
            return;
        }
        self.next = entry.offset.saturating_add(1);
        self.records = self.records.saturating_add(1);
        let record = entry.record;
        if let Some(manifest) = self.manifest.as_ref().filter(|manifest| manifest.offset == entry.offset) {
            // Read again after a rewind: it must still be what stands there.
            let same = is_manifest(&record) && record.value.as_deref() == Some(manifest.value.as_slice());
            self.foreign |= !same;
            return;
        }
        if is_header(&record) {
            return;
        }
        if !is_manifest(&record) {
            self.open.push(record);
            return;
        }
        self.manifest = Some(Seated { offset: entry.offset, value: record.value.unwrap_or_default() });
        for record in std::mem::take(&mut self.open) {
            self.change(record);
        }
    }

    fn change(&mut self, Record { key, value, .. }: Record) {
        let length = key.len();
        let (added, old) = match value {
            Some(value) => (length.saturating_add(value.len()), self.committed.insert(key, value)),
            None => (0, self.committed.remove(&key)),
        };
        let removed = old.map_or(0, |old| length.saturating_add(old.len()));
        self.bytes = self.bytes.saturating_add(added).saturating_sub(removed);
    }

    /// The same as of its last manifest, to be continued by reading again from that manifest on: so whoever continues it meets
    /// either that very manifest or, if the log was compacted, a newer one. `None` without a manifest.
    #[must_use]
    pub fn rewound(mut self) -> Option<Self> {
        self.next = self.manifest.as_ref()?.offset;
        self.open = Vec::new();
        self.records = 0;
        Some(self)
    }

    /// The last manifest.
    #[must_use]
    pub const fn manifest(&self) -> Option<&Seated> {
        self.manifest.as_ref()
    }

    /// State records by key, as of the last manifest.
    #[must_use]
    pub const fn committed(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.committed
    }

    /// Keys that were written after the last manifest.
    #[must_use]
    pub fn torn(&self) -> BTreeSet<Vec<u8>> {
        self.open.iter().map(|record| record.key.clone()).collect()
    }

    /// The offset that is read next.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Records that were taken in since the beginning, or since it was rewound.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of keys and values that are held as of the last manifest.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether what is held hashes to what the manifest says. Hashes every record.
    #[must_use]
    pub fn fits(&self) -> bool {
        let manifest = self.manifest.as_ref().and_then(|seated| Manifest::read(&seated.value).ok());
        let roots = Roots::over(&self.committed);
        manifest.is_some_and(|manifest| {
            (roots.state.digest(), roots.outbox.digest()) == (manifest.state_root, manifest.outbox_root)
        })
    }

    /// Whether the log turned out not to hold the manifest that this rests on: it is another log, or it was cut and written anew.
    #[must_use]
    pub const fn is_of_another_log(&self) -> bool {
        self.foreign
    }
}

/// Folds what a shard's state partition holds now, continuing `from`, which was rewound; without it, from the first record. The shard
/// may be running. `None` if the log no longer holds what `from` rests on.
///
/// # Errors
/// The log fails.
pub fn fold(journal: &dyn Journal, shard: ShardName, from: Option<Folded>) -> Result<Option<Folded>, JournalError> {
    let topic = Topic::State(shard.machine);
    let (first, end) = journal.bounds(topic, shard.partition)?;
    let mut folded = from.unwrap_or_else(|| Folded::beginning_at(first));
    if folded.next < first || folded.next > end {
        return Ok(None);
    }
    let mut feed = journal.read(topic, shard.partition, Start::At(folded.next))?;
    let take = |entries: Vec<Entry>| {
        entries.into_iter().for_each(|entry| folded.see(entry));
        Ok(())
    };
    each_batch(&mut *feed, end, take, |error| error)?;
    Ok(Some(folded).filter(|folded| !folded.is_of_another_log()))
}

#[cfg(test)]
mod tests {
    use custos_domain::Digest;
    use custos_messages::Headers;

    use super::super::records::header;
    use super::*;

    fn entry(offset: u64, record: Record) -> Entry {
        Entry { partition: 0, offset, at: None, record }
    }

    fn value(key: u8, value: Option<&[u8]>) -> Record {
        Record { key: vec![key], value: value.map(<[u8]>::to_vec), headers: Headers::new() }
    }

    fn manifest(transaction: u64) -> Record {
        let log = custos_journal::LogIdentity {
            cluster: String::new(),
            inbox: String::new(),
            state: String::new(),
            partitions: 1,
        };
        let root = Digest([0; 32]);
        let manifest = Manifest {
            transaction,
            attempt: 1,
            next: 0,
            last: None,
            event_sequence: 0,
            event_hash: root,
            state_root: root,
            outbox_root: root,
            logic: 1,
            first_logic: 1,
            log,
            owner: String::new(),
        };
        manifest.record()
    }

    fn folded() -> Folded {
        let mut folded = Folded::default();
        for (offset, record) in
            [header(1, 1), value(0x20, Some(b"one")), manifest(1), header(2, 1), value(0x20, None)].into_iter().enumerate()
        {
            folded.see(entry(u64::try_from(offset).unwrap(), record));
        }
        folded
    }

    #[test]
    fn half_a_transaction_changes_nothing_and_is_forgotten_by_a_rewind() {
        let folded = folded();
        assert_eq!((folded.committed().len(), folded.torn().len(), folded.bytes(), folded.next()), (1, 1, 4, 5));
        let mut again = folded.clone().rewound().unwrap();
        assert_eq!((again.next(), again.torn().len()), (2, 0));
        for (offset, record) in [(2, manifest(1)), (3, header(2, 1)), (4, value(0x20, None)), (5, manifest(2))] {
            again.see(entry(offset, record));
        }
        assert_eq!((again.committed().len(), again.bytes(), again.is_of_another_log()), (0, 0, false));
        assert_eq!(Folded::default().rewound(), None);
    }

    #[test]
    fn another_record_in_the_place_of_the_manifest_shows() {
        for other in [value(0x20, None), manifest(7), header(1, 1)] {
            let mut folded = folded().rewound().unwrap();
            folded.see(entry(2, other));
            assert!(folded.is_of_another_log());
        }
    }
}
