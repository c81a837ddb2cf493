//! One partition as its leader keeps it: entries with offsets, who writes, what is open, what was aborted.
//!
//! An entry's offset is one above the last one's, and markers take offsets, too. What was appended and told to nobody may be lost
//! with the broker; everything else stays.

use std::collections::BTreeMap;

use custos_domain::Timestamp;
use custos_messages::Record;

use super::protocol::{Code, Pid, Producer};

/// Batches of a producer that are recognised when they come again.
const BATCHES_KNOWN: usize = 5;

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) at: Timestamp,
    pid: Pid,
    /// `None`: a marker.
    pub(super) record: Option<Record>,
}

/// What a partition knows of one producer.
#[derive(Clone, Debug)]
struct Writer {
    epoch: u16,
    next_sequence: u64,
    /// First sequence and offset of the newest batches.
    batches: Vec<(u64, u64)>,
    /// Where its open transaction begins here.
    open_since: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Partition {
    entries: BTreeMap<u64, Stored>,
    first: u64,
    next: u64,
    /// Below this everything stays, whatever becomes of the broker; readers see nothing beyond.
    high: u64,
    writers: BTreeMap<Pid, Writer>,
    /// The writers as they were at `high`.
    kept: BTreeMap<Pid, Writer>,
    /// For each producer: where an aborted transaction begins, and its marker.
    aborted: BTreeMap<Pid, BTreeMap<u64, u64>>,
}

impl Partition {
    /// Whether a producer of this epoch has a transaction open here.
    pub(super) fn has_open(&self, producer: Producer) -> bool {
        let writer = self.writers.get(&producer.pid);
        writer.is_some_and(|writer| writer.open_since.is_some() && writer.epoch == producer.epoch)
    }

    /// Appends a batch and returns the offset of its first record; a batch that is known gets the offset that it has.
    pub(super) fn append(
        &mut self,
        producer: Producer,
        sequence: u64,
        records: Vec<Record>,
        (at, transactional): (Timestamp, bool),
    ) -> Result<u64, Code> {
        let Producer { pid, epoch } = producer;
        if let Some(writer) = self.writers.get(&pid) {
            if epoch < writer.epoch {
                return Err(Code::Fenced);
            }
            let known = writer.batches.iter().find(|(known, _)| epoch == writer.epoch && *known == sequence);
            if let Some((_, offset)) = known {
                return Ok(*offset);
            }
            let expected = if epoch == writer.epoch { writer.next_sequence } else { 0 };
            if sequence != expected {
                return Err(if sequence < expected { Code::DuplicateSequence } else { Code::OutOfOrder });
            }
        }
        let offset = self.next;
        let writer = self.writers.entry(pid).or_insert(Writer {
            epoch,
            next_sequence: sequence,
            batches: Vec::new(),
            open_since: None,
        });
        if epoch > writer.epoch {
            *writer = Writer { epoch, next_sequence: 0, batches: Vec::new(), open_since: writer.open_since };
        }
        writer.next_sequence = sequence.saturating_add(u64::try_from(records.len()).unwrap_or(u64::MAX));
        writer.batches.push((sequence, offset));
        if writer.batches.len() > BATCHES_KNOWN {
            writer.batches.remove(0);
        }
        if transactional && writer.open_since.is_none() {
            writer.open_since = Some(offset);
        }
        for record in records {
            self.entries.insert(self.next, Stored { at, pid, record: Some(record) });
            self.next = self.next.saturating_add(1);
        }
        Ok(offset)
    }

    /// Writes the marker that ends a producer's transaction here.
    pub(super) fn mark(&mut self, producer: Producer, commit: bool, at: Timestamp) {
        let Producer { pid, epoch } = producer;
        let offset = self.next;
        self.entries.insert(offset, Stored { at, pid, record: None });
        self.next = self.next.saturating_add(1);
        let writer =
            self.writers.entry(pid).or_insert(Writer { epoch, next_sequence: 0, batches: Vec::new(), open_since: None });
        if let Some(first) = writer.open_since.take()
            && !commit
        {
            self.aborted.entry(pid).or_default().insert(first, offset);
        }
        if epoch > writer.epoch {
            *writer = Writer { epoch, next_sequence: 0, batches: Vec::new(), open_since: None };
        }
        self.replicate();
    }

    /// Everything so far stays.
    pub(super) fn replicate(&mut self) {
        if self.high < self.next {
            self.high = self.next;
            self.kept.clone_from(&self.writers);
        }
    }

    /// The broker is lost, and another takes over with what was replicated. Returns how many entries are gone.
    pub(super) fn lose(&mut self) -> usize {
        if self.high == self.next {
            return 0;
        }
        let gone = self.entries.split_off(&self.high);
        self.next = self.high;
        self.writers.clone_from(&self.kept);
        gone.len()
    }

    /// Forgets everything from `offset` on, replicated or not: what no cluster that is set up rightly does.
    pub(super) fn truncate(&mut self, offset: u64) {
        drop(self.entries.split_off(&offset));
        self.next = self.next.min(offset);
        self.high = self.high.min(offset);
        for writer in self.writers.values_mut() {
            writer.open_since = writer.open_since.filter(|first| *first < offset);
        }
        self.kept.clone_from(&self.writers);
    }

    /// Keeps the newest record of each key among what is decided and was written before `until`, as a compacted topic does.
    /// Tombstones stay.
    pub(super) fn compact(&mut self, until: Timestamp) {
        let young = self.entries.iter().find(|(_, stored)| stored.at >= until).map_or(self.next, |(offset, _)| *offset);
        let stable = self.stable().min(young);
        let mut newest: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for (offset, stored) in self.entries.range(..stable) {
            if let Some(record) = &stored.record
                && !self.is_aborted(stored.pid, *offset)
            {
                newest.insert(record.key.clone(), *offset);
            }
        }
        let aborted = &self.aborted;
        self.entries.retain(|offset, stored| {
            let Some(record) = &stored.record else { return true };
            *offset >= stable || (newest.get(&record.key) == Some(offset) && !is_aborted(aborted, stored.pid, *offset))
        });
    }

    /// The last stable offset: everything before it is decided.
    pub(super) fn stable(&self) -> u64 {
        let open = self.writers.values().filter_map(|writer| writer.open_since).min();
        open.unwrap_or(self.high).min(self.high)
    }

    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// Where readers of everything come to the end.
    pub(super) const fn high(&self) -> u64 {
        self.high
    }

    fn is_aborted(&self, pid: Pid, offset: u64) -> bool {
        is_aborted(&self.aborted, pid, offset)
    }

    /// The first record at `from` or after it that a reader is shown.
    pub(super) fn visible(&self, from: u64, committed_only: bool) -> Option<(u64, &Stored)> {
        let end = if committed_only { self.stable() } else { self.high };
        if from >= end {
            return None;
        }
        let mut found = self.entries.range(from..end).filter(|(_, stored)| stored.record.is_some());
        found
            .find(|(offset, stored)| !committed_only || !self.is_aborted(stored.pid, **offset))
            .map(|(offset, stored)| (*offset, stored))
    }
}

fn is_aborted(aborted: &BTreeMap<Pid, BTreeMap<u64, u64>>, pid: Pid, offset: u64) -> bool {
    let before = aborted.get(&pid).and_then(|spans| spans.range(..=offset).next_back());
    before.is_some_and(|(_, marker)| offset < *marker)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(1);

    fn record(key: &str) -> Record {
        Record { key: key.into(), value: Some(Vec::new()), headers: custos_messages::Headers::new() }
    }

    fn put(partition: &mut Partition, epoch: u16, sequence: u64, key: &str) -> Result<u64, Code> {
        let offset = partition.append(Producer { pid: Pid(1), epoch }, sequence, vec![record(key)], (AT, true));
        partition.replicate();
        offset
    }

    fn shown(partition: &Partition) -> Vec<(u64, String)> {
        let mut from = 0;
        let mut all = Vec::new();
        while let Some((offset, stored)) = partition.visible(from, true) {
            all.push((offset, String::from_utf8(stored.record.clone().unwrap().key).unwrap()));
            from = offset + 1;
        }
        all
    }

    #[test]
    fn what_is_open_hides_what_follows_and_markers_take_offsets() {
        let mut partition = Partition::default();
        assert_eq!(put(&mut partition, 0, 0, "a"), Ok(0));
        let plain = partition.append(Producer { pid: Pid(2), epoch: 0 }, 0, vec![record("b")], (AT, false));
        partition.replicate();
        assert_eq!((plain, partition.stable(), partition.high()), (Ok(1), 0, 2));
        partition.mark(Producer { pid: Pid(1), epoch: 0 }, false, AT);
        assert_eq!((shown(&partition), partition.stable()), (vec![(1, "b".into())], 3));
        assert_eq!(put(&mut partition, 0, 1, "c"), Ok(3));
        partition.mark(Producer { pid: Pid(1), epoch: 0 }, true, AT);
        assert_eq!(shown(&partition), [(1, "b".into()), (3, "c".into())]);
    }

    #[test]
    fn a_batch_that_comes_again_is_known_and_a_gap_and_an_old_epoch_are_refused() {
        let mut partition = Partition::default();
        assert_eq!(put(&mut partition, 0, 0, "a"), Ok(0));
        assert_eq!(put(&mut partition, 0, 0, "a"), Ok(0));
        assert_eq!(put(&mut partition, 0, 2, "c"), Err(Code::OutOfOrder));
        assert_eq!(put(&mut partition, 1, 0, "b"), Ok(1));
        assert_eq!(put(&mut partition, 0, 1, "b"), Err(Code::Fenced));
        assert!((1..9).all(|sequence| put(&mut partition, 1, sequence, "d").is_ok()));
        assert_eq!(put(&mut partition, 1, 1, "d"), Err(Code::DuplicateSequence));
    }

    #[test]
    fn a_lost_broker_takes_only_what_nobody_was_told() {
        let mut partition = Partition::default();
        put(&mut partition, 0, 0, "a").unwrap();
        partition.append(Producer { pid: Pid(1), epoch: 0 }, 1, vec![record("b")], (AT, true)).unwrap();
        assert_eq!(partition.lose(), 1);
        assert_eq!(put(&mut partition, 0, 1, "b"), Ok(1));
        partition.mark(Producer { pid: Pid(1), epoch: 0 }, true, AT);
        assert_eq!((partition.lose(), shown(&partition).len()), (0, 2));
    }

    #[test]
    fn compaction_keeps_the_newest_committed_of_each_key() {
        let mut partition = Partition::default();
        for (sequence, (key, commit)) in [("a", true), ("b", true), ("a", true), ("b", false)].into_iter().enumerate() {
            put(&mut partition, 0, u64::try_from(sequence).unwrap(), key).unwrap();
            partition.mark(Producer { pid: Pid(1), epoch: 0 }, commit, AT);
        }
        put(&mut partition, 0, 4, "a").unwrap();
        partition.compact(AT);
        assert_eq!(shown(&partition).len(), 3, "what is young stays");
        partition.compact(Timestamp(2));
        assert_eq!(shown(&partition), [(2, "b".into()), (4, "a".into())]);
        assert_eq!((partition.stable(), partition.high()), (8, 9));
    }
}
