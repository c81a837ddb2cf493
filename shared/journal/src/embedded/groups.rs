//! Consumer groups: who shares a topic, which partitions are whose, and how far each group has come.
//!
//! Invariants: at one generation each partition belongs to one member; what is acknowledged never goes back; a member that gains
//! a partition begins after the last acknowledged record, so nothing is lost and what was not acknowledged comes again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use custos_messages::Topic;

use super::format::wide;
use super::index::{Index, Place};
use super::writer::{Core, Work};
use crate::{Entry, Feed, JournalError};

/// All groups of the log.
#[derive(Debug, Default)]
pub(super) struct Groups {
    next: BTreeMap<(String, Topic), BTreeMap<u32, u64>>,
    sharing: BTreeMap<(String, Topic), Sharing>,
    last_member: u64,
}

/// Who shares one topic in one group.
#[derive(Debug, Default)]
struct Sharing {
    members: Vec<u64>,
    generation: u64,
}

/// The part of `partitions` that is due to the member at `place` of `members`: contiguous, the first ones get one more.
pub(super) fn range(partitions: u32, members: usize, place: usize) -> Range<u32> {
    let (partitions, members, place) = (u64::from(partitions), wide(members), wide(place));
    let (each, more) = (partitions.checked_div(members).unwrap_or(0), partitions.checked_rem(members).unwrap_or(0));
    let start = each * place + more.min(place);
    let end = start + each + u64::from(place < more);
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    narrow(start)..narrow(end)
}

impl Groups {
    /// Everything before `next` is dealt with.
    pub(super) fn acknowledge(&mut self, group: String, topic: Topic, partition: u32, next: u64) {
        let noted = self.next.entry((group, topic)).or_default().entry(partition).or_default();
        *noted = next.max(*noted);
    }

    /// The place of every group: group, topic, partition, next offset.
    pub(super) fn acknowledged(&self, group: &(String, Topic), partition: u32) -> u64 {
        self.next.get(group).and_then(|places| places.get(&partition)).copied().unwrap_or(0)
    }

    fn join(&mut self, group: (String, Topic)) -> u64 {
        self.last_member += 1;
        let sharing = self.sharing.entry(group).or_default();
        sharing.members.push(self.last_member);
        sharing.generation += 1;
        self.last_member
    }

    fn leave(&mut self, group: &(String, Topic), member: u64) {
        if let Some(sharing) = self.sharing.get_mut(group) {
            sharing.members.retain(|other| *other != member);
            sharing.generation += 1;
        }
    }
}

/// A member of a group.
pub(super) struct GroupFeed {
    core: Arc<Core>,
    group: (String, Topic),
    member: u64,
    generation: u64,
    /// My partitions and what I want next of each.
    next: BTreeMap<u32, u64>,
    /// The partition that was served last: the next poll begins after it.
    served: u32,
}

impl GroupFeed {
    /// Joins.
    pub(super) fn join(core: Arc<Core>, topic: Topic, group: &str) -> Result<Self, JournalError> {
        let group = (group.to_owned(), topic);
        let member = {
            let mut index = core.store.lock();
            if index.partitions(topic) == 0 {
                return Err(super::no_such(topic, 0));
            }
            index.groups.join(group.clone())
        };
        core.store.wake(topic);
        Ok(Self { core, group, member, generation: 0, next: BTreeMap::new(), served: u32::MAX })
    }

    /// Takes over what a change of members brought.
    fn follow(&mut self, index: &Index) {
        let Some(sharing) = index.groups.sharing.get(&self.group) else { return };
        if sharing.generation == self.generation {
            return;
        }
        self.generation = sharing.generation;
        let place = sharing.members.iter().position(|member| *member == self.member);
        let mine = place.map_or(0..0, |place| range(index.partitions(self.group.1), sharing.members.len(), place));
        self.next.retain(|partition, _| mine.contains(partition));
        for partition in mine {
            let groups = &index.groups;
            self.next.entry(partition).or_insert_with(|| groups.acknowledged(&self.group, partition));
        }
    }

    /// The places of the records that come next, all of one partition, taking turns.
    fn take(&mut self, index: &Index, most: usize) -> Vec<Place> {
        self.follow(index);
        take_turn(index, self.group.1, &mut self.next, &mut self.served, most)
    }
}

/// The places that come next of the first partition after `served` that has any.
fn take_turn(index: &Index, topic: Topic, places: &mut BTreeMap<u32, u64>, served: &mut u32, most: usize) -> Vec<Place> {
    let after = places.range(served.saturating_add(1)..);
    let turns: Vec<(u32, u64)> = after.chain(places.range(..=*served)).map(|(p, next)| (*p, *next)).collect();
    for (partition, next) in turns {
        let found = index.partition(topic, partition).map(|log| log.from(next, most)).unwrap_or_default();
        if !found.is_empty() {
            places.insert(partition, next + wide(found.len()));
            *served = partition;
            return found;
        }
    }
    Vec::new()
}

/// A reader of several partitions, without a group.
pub(super) struct FollowFeed {
    core: Arc<Core>,
    topic: Topic,
    next: BTreeMap<u32, u64>,
    served: u32,
}

impl FollowFeed {
    /// A reader from `places` on, which exist.
    pub(super) fn new(core: Arc<Core>, topic: Topic, places: &[(u32, u64)]) -> Self {
        Self { core, topic, next: places.iter().copied().collect(), served: 0 }
    }
}

impl Feed for FollowFeed {
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let Self { core, topic, next, served } = self;
        let places = core.store.wait(*topic, Instant::now() + wait, |index| take_turn(index, *topic, next, served, most))?;
        core.store.read(&places)
    }

    fn acknowledge(&mut self, _partition: u32, _offset: u64) -> Result<(), JournalError> {
        Ok(())
    }
}

impl Feed for GroupFeed {
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let core = Arc::clone(&self.core);
        let places = core.store.wait(self.group.1, Instant::now() + wait, |index| self.take(index, most))?;
        core.store.read(&places)
    }

    fn acknowledge(&mut self, partition: u32, offset: u64) -> Result<(), JournalError> {
        let (group, topic) = self.group.clone();
        let next = offset.saturating_add(1);
        if self.core.store.lock().groups.acknowledged(&self.group, partition) >= next {
            return Ok(());
        }
        self.core.submit("acknowledge", Work::Acknowledge { group, topic, partition, next }).map(drop)
    }
}

impl Drop for GroupFeed {
    fn drop(&mut self) {
        self.core.store.lock().groups.leave(&self.group, self.member);
        self.core.store.wake(self.group.1);
    }
}

/// A reader of one partition, without a group.
pub(super) struct PlainFeed {
    /// The log.
    pub(super) core: Arc<Core>,
    /// What is read.
    pub(super) topic: Topic,
    /// See `topic`.
    pub(super) partition: u32,
    /// The offset that comes next.
    pub(super) next: u64,
}

impl Feed for PlainFeed {
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let entries = self.core.store.poll(self.topic, self.partition, self.next, most, Instant::now() + wait)?;
        self.next = entries.last().map_or(self.next, |entry| entry.offset + 1);
        Ok(entries)
    }

    fn acknowledge(&mut self, _partition: u32, _offset: u64) -> Result<(), JournalError> {
        Ok(())
    }

    fn at_end(&self) -> bool {
        self.core.store.bounds(self.topic, self.partition).is_ok_and(|(_, end)| self.next >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_cover_every_partition_once() {
        for (partitions, members, expected) in [
            (5, 2, vec![0..3, 3..5]),
            (2, 3, vec![0..1, 1..2, 2..2]),
            (6, 3, vec![0..2, 2..4, 4..6]),
            (0, 2, vec![0..0, 0..0]),
        ] {
            let ranges: Vec<_> = (0..members).map(|place| range(partitions, members, place)).collect();
            assert_eq!(ranges, expected, "{partitions} partitions, {members} members");
        }
    }
}
