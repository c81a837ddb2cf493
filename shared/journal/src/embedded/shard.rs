//! One shard's place in the log, and the plain writer.
//!
//! Invariant: nothing of a transaction exists anywhere but in memory until its commit is written as one frame.

use std::sync::Arc;
use std::time::{Duration, Instant};

use custos_messages::{Machine, Record, Topic};

use super::format::wide;
use super::writer::{Core, Work};
use super::{fenced, misconfigured, no_such};
use crate::{Appender, Entry, JournalError, LogIdentity, Reach, ShardLog, Transaction};

/// The largest record: what a broker takes by default.
pub(super) const RECORD_BYTES: usize = 1_000_000;
/// The largest transaction or joint append.
const FRAME_BYTES: usize = 1 << 30;
/// What a record costs besides its bytes, at most, for the sum above.
const OVERHEAD_BYTES: usize = 64;

/// A shard, held since the acquisition `epoch`.
pub(super) struct EmbeddedShard {
    core: Arc<Core>,
    machine: Machine,
    partition: u32,
    epoch: u64,
    next: u64,
    open: Option<Record>,
}

impl EmbeddedShard {
    /// Takes the shard from whoever has it.
    pub(super) fn acquire(core: Arc<Core>, machine: Machine, partition: u32) -> Result<Self, JournalError> {
        core.store.check([Topic::Inbox(machine), Topic::State(machine)].into_iter().map(|topic| (topic, partition)))?;
        let epoch = core.submit("acquire a shard", Work::Acquire { machine, partition })?;
        Ok(Self { core, machine, partition, epoch, next: 0, open: None })
    }

    fn check_owner(&self) -> Result<(), JournalError> {
        let owner = self.core.store.lock().epochs.get(&(self.machine, self.partition)).copied();
        if owner == Some(self.epoch) { Ok(()) } else { Err(fenced(self.machine, self.partition)) }
    }
}

/// Which log a machine's shards stand on: the file's own id is part of each name.
pub(super) fn identity(core: &Core, machine: Machine) -> LogIdentity {
    let cluster: String = core.store.id.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = |topic: Topic| format!("{cluster}/{}", topic.name());
    LogIdentity {
        inbox: name(Topic::Inbox(machine)),
        state: name(Topic::State(machine)),
        partitions: core.store.lock().partitions(Topic::Inbox(machine)),
        cluster,
    }
}

impl ShardLog for EmbeddedShard {
    fn identity(&self) -> Result<LogIdentity, JournalError> {
        Ok(identity(&self.core, self.machine))
    }

    fn restore(&mut self, visit: &mut dyn FnMut(Entry)) -> Result<(), JournalError> {
        let topic = Topic::State(self.machine);
        let live = self.core.store.lock().partition(topic, self.partition).map(super::index::Partition::live);
        let live = live.ok_or_else(|| no_such(topic, self.partition))?;
        self.core.store.visit(&live, visit)
    }

    fn restore_from(&mut self, from: u64, visit: &mut dyn FnMut(Entry)) -> Result<Reach, JournalError> {
        let topic = Topic::State(self.machine);
        let rest = self.core.store.lock().partition(topic, self.partition).map(|log| {
            let there = from <= log.next();
            there.then(|| log.live_from(from))
        });
        match rest.ok_or_else(|| no_such(topic, self.partition))? {
            Some(places) => self.core.store.visit(&places, visit).map(|()| Reach::Whole),
            None => Ok(Reach::OutOfRange),
        }
    }

    fn seek(&mut self, next: u64) -> Result<(), JournalError> {
        self.next = next;
        Ok(())
    }

    fn inbox_at(&mut self, offset: u64) -> Result<Option<Entry>, JournalError> {
        let topic = Topic::Inbox(self.machine);
        Ok(self.core.store.poll(topic, self.partition, offset, 1, Instant::now())?.pop())
    }

    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let topic = Topic::Inbox(self.machine);
        let entries = self.core.store.poll(topic, self.partition, self.next, most, Instant::now() + wait)?;
        self.next = entries.last().map_or(self.next, |entry| entry.offset + 1);
        Ok(entries)
    }

    fn begin(&mut self, header: Record) -> Result<(), JournalError> {
        self.check_owner()?;
        if self.open.is_some() {
            return Err(misconfigured("begin: a transaction is open already"));
        }
        check_size(std::iter::once((Topic::State(self.machine), &header)))?;
        self.open = Some(header);
        Ok(())
    }

    fn commit(&mut self, transaction: Transaction) -> Result<(), JournalError> {
        let header = self.open.take();
        self.check_owner()?;
        let header = header.ok_or_else(|| misconfigured("commit: no transaction is open"))?;
        let state = Topic::State(self.machine);
        let mut records = vec![(state, header)];
        records.extend(transaction.outputs);
        records.extend(transaction.state.into_iter().map(|record| (state, record)));
        records.push((state, transaction.manifest));
        check_size(records.iter().map(|(topic, record)| (*topic, record)))?;
        self.core.store.check(records.iter().map(|(topic, _)| (*topic, self.partition)))?;
        let Self { machine, partition, epoch, .. } = *self;
        self.core.submit("commit", Work::Commit { machine, partition, epoch, records }).map(drop)
    }

    fn abort(&mut self) -> Result<(), JournalError> {
        self.open = None;
        self.check_owner()
    }

    fn position(&self) -> u64 {
        self.next
    }
}

/// The plain writer.
pub(super) struct EmbeddedAppender(pub(super) Arc<Core>);

impl Appender for EmbeddedAppender {
    fn append(&self, topic: Topic, partition: u32, record: Record) -> Result<u64, JournalError> {
        check_size(std::iter::once((topic, &record)))?;
        self.0.store.check(std::iter::once((topic, partition)))?;
        self.0.submit("append", Work::Append(vec![(topic, partition, record)]))
    }

    /// All of them are one frame, so they are there together or not at all; nothing may rest on that.
    fn append_all(&self, records: Vec<(Topic, u32, Record)>) -> Result<(), JournalError> {
        check_size(records.iter().map(|(topic, _, record)| (*topic, record)))?;
        self.0.store.check(records.iter().map(|(topic, partition, _)| (*topic, *partition)))?;
        self.0.submit("append", Work::Append(records)).map(drop)
    }
}

fn check_size<'a>(records: impl Iterator<Item = (Topic, &'a Record)>) -> Result<(), JournalError> {
    let mut all: usize = 0;
    for (topic, record) in records {
        let bytes = record.key.len() + record.value.as_ref().map_or(0, Vec::len) + record.headers.as_bytes().len();
        all = all.saturating_add(bytes + OVERHEAD_BYTES);
        if bytes > RECORD_BYTES || all > FRAME_BYTES {
            return Err(JournalError::TooLarge { topic: topic.name(), bytes: bytes.max(all) });
        }
    }
    debug_assert!(wide(RECORD_BYTES) < super::index::Place::LONGEST);
    Ok(())
}
