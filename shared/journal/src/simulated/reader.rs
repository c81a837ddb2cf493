//! Readers without a group: of one partition, and of several.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use custos_messages::Topic;

use super::world::{Core, World};
use crate::bracket::{PartitionReader, Seen};
use crate::{Entry, Feed, JournalError};

/// A reader of one partition from a position on.
pub(super) struct Reader {
    core: Arc<Core>,
    process: u64,
    topic: Topic,
    partition: u32,
    committed_only: bool,
    next: u64,
    /// Whether the log's end was seen after the last record, and after the last seek.
    ended: bool,
    /// What was fetched and not shown yet.
    fetched: VecDeque<Entry>,
}

/// Records that one look brings.
const FETCH: usize = 64;

impl Reader {
    pub(super) fn open(
        core: &Arc<Core>,
        process: u64,
        (topic, partition, offset): (Topic, u32, u64),
        committed_only: bool,
    ) -> Result<Self, JournalError> {
        core.lock().alive("open a reader", process)?;
        Ok(Self {
            core: Arc::clone(core),
            process,
            topic,
            partition,
            committed_only,
            next: offset,
            ended: false,
            fetched: VecDeque::new(),
        })
    }
}

impl Reader {
    fn fetch(&self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let (place, next, committed_only) = ((self.topic, self.partition), self.next, self.committed_only);
        let look = |world: &mut World| {
            let entries = world.entries(place, next, most, committed_only)?;
            Ok((!entries.is_empty()).then_some(entries))
        };
        Ok(self.core.wait(self.process, wait, look)?.unwrap_or_default())
    }
}

impl PartitionReader for Reader {
    fn seek(&mut self, offset: u64) -> Result<(), JournalError> {
        self.next = offset;
        self.ended = false;
        self.fetched.clear();
        Ok(())
    }

    fn next(&self) -> u64 {
        self.next
    }

    fn see(&mut self, _wait: Duration) -> Result<Seen, JournalError> {
        if self.fetched.is_empty() {
            self.fetched = self.fetch(FETCH, Duration::ZERO)?.into();
        }
        self.ended = self.fetched.is_empty();
        let Some(entry) = self.fetched.pop_front() else { return Ok(Seen::End) };
        self.next = entry.offset.saturating_add(1);
        Ok(Seen::Record(entry))
    }

    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let ready = self.fetched.len().min(most);
        let entries = if ready > 0 { self.fetched.drain(..ready).collect() } else { self.fetch(most, wait)? };
        self.ended = entries.is_empty();
        self.next = entries.last().map_or(self.next, |entry| entry.offset.saturating_add(1));
        Ok(entries)
    }
}

impl Feed for Reader {
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        PartitionReader::poll(self, most, wait)
    }

    fn acknowledge(&mut self, _partition: u32, _offset: u64) -> Result<(), JournalError> {
        Ok(())
    }

    fn at_end(&self) -> bool {
        self.ended
    }
}

/// A reader of several partitions, without a group.
pub(super) struct Follower {
    pub(super) core: Arc<Core>,
    pub(super) process: u64,
    pub(super) topic: Topic,
    pub(super) next: BTreeMap<u32, u64>,
    /// The partition that was served last: the next poll begins after it.
    pub(super) served: u32,
}

impl Feed for Follower {
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let Self { core, process, topic, next, served } = self;
        let look = |world: &mut World| world.take_turn(*topic, next, served, most);
        Ok(core.wait(*process, wait, look)?.unwrap_or_default())
    }

    fn acknowledge(&mut self, _partition: u32, _offset: u64) -> Result<(), JournalError> {
        Ok(())
    }
}

impl World {
    /// The first record at `from` or after it that readers are shown. A place that the log does not have is an error, never
    /// another place.
    fn entry(&self, place: (Topic, u32), from: u64, committed_only: bool) -> Result<Option<Entry>, JournalError> {
        let (topic, number) = place;
        let no_such = || JournalError::Misconfigured(format!("{} has no partition {number}", topic.name()));
        let partition = self.broker.partition(place).ok_or_else(no_such)?;
        if from < partition.first() || from > partition.high() {
            return Err(JournalError::Misconfigured(format!("{}[{number}] cannot be read at {from}", topic.name())));
        }
        let found = partition.visible(from, committed_only);
        Ok(found.and_then(|(offset, stored)| {
            let record = stored.record.clone()?;
            Some(Entry { partition: number, offset, at: Some(stored.at), record })
        }))
    }

    /// Up to `most` records; sometimes fewer than there are.
    fn entries(
        &mut self,
        place: (Topic, u32),
        from: u64,
        most: usize,
        committed_only: bool,
    ) -> Result<Vec<Entry>, JournalError> {
        let short = self.happens(|faults| faults.short_read);
        let most = if short { self.chance.place(most.min(8)).saturating_add(1).min(most) } else { most };
        let known = self.known_end(place, from);
        let mut entries = Vec::new();
        let mut next = from;
        while entries.len() < most
            && let Some(entry) = self.entry(place, next, committed_only)?.filter(|entry| entry.offset < known)
        {
            next = entry.offset.saturating_add(1);
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The records that come next of the first partition after `served` that has any.
    pub(super) fn take_turn(
        &mut self,
        topic: Topic,
        places: &mut BTreeMap<u32, u64>,
        served: &mut u32,
        most: usize,
    ) -> Result<Option<Vec<Entry>>, JournalError> {
        let after = places.range(served.saturating_add(1)..);
        let turns: Vec<(u32, u64)> = after.chain(places.range(..=*served)).map(|(place, next)| (*place, *next)).collect();
        for (partition, next) in turns {
            let entries = self.entries((topic, partition), next, most, true)?;
            if let Some(last) = entries.last() {
                places.insert(partition, last.offset.saturating_add(1));
                *served = partition;
                return Ok(Some(entries));
            }
        }
        Ok(None)
    }
}
