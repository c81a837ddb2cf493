//! Readers without a group: of one partition, and of several.

use std::collections::BTreeMap;
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
    next: u64,
    /// Whether the log's end was seen after the last record, and after the last seek.
    ended: bool,
}

impl Reader {
    pub(super) fn open(
        core: &Arc<Core>,
        process: u64,
        (topic, partition): (Topic, u32),
        offset: u64,
    ) -> Result<Self, JournalError> {
        core.lock().alive("open a reader", process)?;
        Ok(Self { core: Arc::clone(core), process, topic, partition, next: offset, ended: false })
    }
}

impl PartitionReader for Reader {
    fn seek(&mut self, offset: u64) -> Result<(), JournalError> {
        self.next = offset;
        self.ended = false;
        Ok(())
    }

    fn next(&self) -> u64 {
        self.next
    }

    fn see(&mut self, _wait: Duration) -> Result<Seen, JournalError> {
        let (topic, partition, next) = (self.topic, self.partition, self.next);
        let look = |world: &mut World| world.entry((topic, partition), next);
        match self.core.wait(self.process, Duration::ZERO, look)? {
            Some(entry) => {
                self.next = entry.offset.saturating_add(1);
                self.ended = false;
                Ok(Seen::Record(entry))
            }
            None => {
                self.ended = true;
                Ok(Seen::End)
            }
        }
    }

    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let (topic, partition, next) = (self.topic, self.partition, self.next);
        let look = |world: &mut World| {
            let entries = world.entries((topic, partition), next, most)?;
            Ok((!entries.is_empty()).then_some(entries))
        };
        let entries = self.core.wait(self.process, wait, look)?.unwrap_or_default();
        self.ended = entries.is_empty();
        self.next = entries.last().map_or(next, |entry| entry.offset.saturating_add(1));
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
    fn entry(&self, place: (Topic, u32), from: u64) -> Result<Option<Entry>, JournalError> {
        let (topic, number) = place;
        let no_such = || JournalError::Misconfigured(format!("{} has no partition {number}", topic.name()));
        let partition = self.broker.partition(place).ok_or_else(no_such)?;
        if from < partition.first() || from > partition.high() {
            return Err(JournalError::Misconfigured(format!("{}[{number}] cannot be read at {from}", topic.name())));
        }
        let found = partition.visible(from, self.committed_only());
        Ok(found.and_then(|(offset, stored)| {
            let record = stored.record.clone()?;
            Some(Entry { partition: number, offset, at: Some(stored.at), record })
        }))
    }

    /// Up to `most` records; sometimes fewer than there are.
    fn entries(&mut self, place: (Topic, u32), from: u64, most: usize) -> Result<Vec<Entry>, JournalError> {
        let short = self.happens(|faults| faults.short_read);
        let most = if short { self.chance.place(most.min(8)).saturating_add(1).min(most) } else { most };
        let mut entries = Vec::new();
        let mut next = from;
        while entries.len() < most
            && let Some(entry) = self.entry(place, next)?
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
            let entries = self.entries((topic, partition), next, most)?;
            if let Some(last) = entries.last() {
                places.insert(partition, last.offset.saturating_add(1));
                *served = partition;
                return Ok(Some(entries));
            }
        }
        Ok(None)
    }
}
