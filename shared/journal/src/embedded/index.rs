//! What the file says, in memory: where each record is, which topics exist, how far groups have come, who owns what.
//!
//! Invariants: everything here is durable already, but for ownership, membership and assignment, which end with the process.
//! Offsets of a partition are dense from 0. Costs 8 bytes for each record that the file holds, and for each key of a state
//! topic the key and about 100 bytes; of a deleted key 16 bytes, until [`TOMBSTONE_RECORDS`] more records stand in its partition.

use std::collections::{BTreeMap, HashMap, VecDeque};

use custos_domain::Timestamp;
use custos_messages::{Machine, Topic};

use super::format::Item;
use super::groups::Groups;
use super::members::Members;

/// How many records a tombstone of a state topic outlives in what a restore yields. More than a checkpoint is old when the next one is
/// written: whoever begins with an older state than that has to read all of it anew.
const TOMBSTONE_RECORDS: u64 = 65_536;

/// The most partitions of a topic: far more than an installation of one file has work for, and little memory.
pub(super) const PARTITIONS_MAX: u32 = 4_096;

/// Where a record lies in the file: 24 bits of length, 40 bits of position (one TiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Place {
    /// The largest position.
    pub(super) const LAST: u64 = (1 << 40) - 1;
    /// The longest record.
    pub(super) const LONGEST: u64 = (1 << 24) - 1;

    /// `None` if either is too large.
    pub(super) fn new(position: u64, length: u64) -> Option<Self> {
        (position <= Self::LAST && length <= Self::LONGEST).then_some(Self(length << 40 | position))
    }

    /// Where the record begins.
    pub(super) const fn position(self) -> u64 {
        self.0 & Self::LAST
    }

    /// Where it ends.
    pub(super) const fn end(self) -> u64 {
        self.position() + (self.0 >> 40)
    }
}

/// Places of one partition by offset, in pieces of one size: a list in one piece would hold room for as many again, and copy itself each
/// time it is full.
#[derive(Debug, Default)]
struct Places {
    pieces: Vec<Vec<Place>>,
}

/// Places of a piece.
const PIECE: usize = 1_024;

impl Places {
    fn len(&self) -> usize {
        let last = self.pieces.last().map_or(0, Vec::len);
        self.pieces.len().saturating_sub(1).saturating_mul(PIECE).saturating_add(last)
    }

    fn push(&mut self, place: Place) {
        match self.pieces.last_mut() {
            Some(last) if last.len() < PIECE => last.push(place),
            _ => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(place);
                self.pieces.push(piece);
            }
        }
    }

    /// Up to `most` from `offset` on.
    fn from(&self, offset: usize, most: usize) -> Vec<Place> {
        let pieces = self.pieces.get(offset / PIECE..).unwrap_or_default();
        pieces.iter().flatten().skip(offset % PIECE).take(most).copied().collect()
    }
}

/// One partition of one topic.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Where each record is.
    places: Places,
    /// The time of the newest.
    pub(super) newest: Timestamp,
    live: Live,
}

/// The newest record of each key of a state topic: what a compacted topic would still hold.
#[derive(Debug, Default)]
struct Live {
    by_key: HashMap<Box<[u8]>, u64>,
    by_offset: BTreeMap<u64, Place>,
    /// The younger ones, in order. One may stand here although its key has been written again since.
    tombstones: VecDeque<(u64, Place)>,
}

/// Everything that is shared under the one lock.
#[derive(Debug, Default)]
pub(super) struct Index {
    topics: BTreeMap<Topic, Vec<Partition>>,
    /// Raised by each take-over of a shard.
    pub(super) epochs: BTreeMap<(Machine, u32), u64>,
    pub(super) groups: Groups,
    pub(super) members: BTreeMap<Machine, Members>,
    /// Why the store is unusable, once it is.
    pub(super) broken: Option<String>,
}

impl Partition {
    /// The offset after the last.
    pub(super) fn next(&self) -> u64 {
        super::format::wide(self.places.len())
    }

    /// Where up to `most` records from `offset` on are.
    pub(super) fn from(&self, offset: u64, most: usize) -> Vec<Place> {
        usize::try_from(offset).map_or_else(|_| Vec::new(), |offset| self.places.from(offset, most))
    }

    /// What a compacted topic would still hold, in order.
    pub(super) fn live(&self) -> Vec<Place> {
        self.live_from(0)
    }

    /// The same from `offset` on.
    pub(super) fn live_from(&self, offset: u64) -> Vec<Place> {
        self.live.from(offset)
    }
}

impl Live {
    fn note(&mut self, offset: u64, place: Place, key: &[u8], tombstone: bool) {
        let older = match self.by_key.get_mut(key) {
            Some(_) if tombstone => self.by_key.remove(key),
            Some(newest) => Some(std::mem::replace(newest, offset)),
            None if tombstone => None,
            None => self.by_key.insert(key.into(), offset),
        };
        if let Some(older) = older {
            self.by_offset.remove(&older);
        }
        if tombstone {
            self.tombstones.push_back((offset, place));
        } else {
            self.by_offset.insert(offset, place);
        }
        while self.tombstones.pop_front_if(|(old, _)| *old + TOMBSTONE_RECORDS < offset).is_some() {}
    }

    fn from(&self, offset: u64) -> Vec<Place> {
        let living = self.by_offset.range(offset..).map(|(offset, place)| (*offset, *place));
        let gone = self.tombstones.iter().copied().filter(|(gone, _)| *gone >= offset);
        let mut all: Vec<(u64, Place)> = living.chain(gone).collect();
        all.sort_unstable_by_key(|(offset, _)| *offset);
        all.into_iter().map(|(_, place)| place).collect()
    }
}

impl Index {
    /// Partitions of a topic; 0 if it does not exist.
    pub(super) fn partitions(&self, topic: Topic) -> u32 {
        self.topics.get(&topic).map_or(0, |list| u32::try_from(list.len()).unwrap_or(u32::MAX))
    }

    /// One partition.
    pub(super) fn partition(&self, topic: Topic, partition: u32) -> Option<&Partition> {
        self.topics.get(&topic)?.get(usize::try_from(partition).ok()?)
    }

    /// Takes in what a durable frame says. `place` is where the item lies in the file.
    /// `Err` names what contradicts what is known already.
    pub(super) fn apply(&mut self, place: Option<Place>, item: Item) -> Result<(), &'static str> {
        match item {
            Item::Topic(_, partitions) if partitions > PARTITIONS_MAX => {
                return Err("more partitions than a topic may have");
            }
            Item::Topic(topic, partitions) => {
                let wanted = usize::try_from(partitions).map_err(|_| "more partitions than this machine can hold")?;
                let list = self.topics.entry(topic).or_default();
                if list.len() > wanted {
                    return Err("a topic loses partitions");
                }
                list.resize_with(wanted, Partition::default);
            }
            Item::Acknowledged { group, topic, partition, next } => self.groups.acknowledge(group, topic, partition, next),
            Item::Record(topic, entry) => {
                let list = self.topics.get_mut(&topic).ok_or("a record of a topic that does not exist")?;
                let slot = usize::try_from(entry.partition).ok().and_then(|number| list.get_mut(number));
                let slot = slot.ok_or("a record of a partition that does not exist")?;
                if entry.offset != slot.next() {
                    return Err("an offset is not the next");
                }
                let place = place.ok_or("a record beyond the largest file")?;
                slot.places.push(place);
                slot.newest = slot.newest.max(entry.at.unwrap_or_default());
                if matches!(topic, Topic::State(_)) {
                    slot.live.note(entry.offset, place, &entry.record.key, entry.record.value.is_none());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_keeps_position_and_length() {
        let place = Place::new(Place::LAST, Place::LONGEST).unwrap();
        assert_eq!((place.position(), place.end()), (Place::LAST, Place::LAST + Place::LONGEST));
        assert_eq!(Place::new(Place::LAST + 1, 0), None);
        assert_eq!(Place::new(0, Place::LONGEST + 1), None);
    }

    #[test]
    fn places_in_pieces_are_a_list() {
        let place = |number: usize| Place::new(u64::try_from(number).unwrap(), 1).unwrap();
        let (mut places, mut list) = (Places::default(), Vec::new());
        for number in 0..2 * PIECE + 3 {
            assert_eq!(places.len(), list.len());
            places.push(place(number));
            list.push(place(number));
        }
        for (offset, most) in
            [(0, 5), (PIECE - 1, 3), (PIECE, PIECE + 1), (5, 9_999), (2 * PIECE + 2, 1), (2 * PIECE + 3, 1), (9_999, 1)]
        {
            let rest = list.get(offset..).unwrap_or_default();
            assert_eq!(places.from(offset, most), rest.iter().copied().take(most).collect::<Vec<_>>(), "{offset} {most}");
        }
    }

    #[test]
    fn a_topic_of_more_partitions_than_there_may_be_is_refused_before_there_is_room_for_them() {
        let mut index = Index::default();
        assert!(index.apply(None, Item::Topic(Topic::Events, u32::MAX)).is_err());
        assert_eq!(index.partitions(Topic::Events), 0);
        assert!(index.apply(None, Item::Topic(Topic::Events, PARTITIONS_MAX)).is_ok());
    }

    #[test]
    fn only_the_newest_of_a_key_lives_and_tombstones_leave_in_the_end() {
        let mut live = Live::default();
        let note = |live: &mut Live, offset, key: &[u8], tombstone| {
            live.note(offset, Place::new(offset, 1).unwrap(), key, tombstone);
        };
        let offsets = |live: &Live, from| live.from(from).into_iter().map(Place::position).collect::<Vec<_>>();
        note(&mut live, 0, b"a", false);
        note(&mut live, 1, b"b", true);
        note(&mut live, 2, b"a", false);
        assert_eq!(offsets(&live, 0), [1, 2]);
        note(&mut live, 3, b"a", true);
        note(&mut live, 4, b"a", false);
        note(&mut live, 5, b"a", true);
        assert_eq!((offsets(&live, 0), offsets(&live, 4)), (vec![1, 3, 5], vec![5]));
        note(&mut live, TOMBSTONE_RECORDS + 4, b"c", false);
        assert_eq!(offsets(&live, 0), [5, TOMBSTONE_RECORDS + 4]);
        assert_eq!(live.by_key.len(), 1);
    }
}
