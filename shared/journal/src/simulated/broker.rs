//! The brokers together: partitions, coordinators of transactions, and groups. Pure: a request and the time in, an answer out.

use std::collections::BTreeMap;
use std::time::Duration;

use custos_domain::Timestamp;
use custos_messages::{Record, Topic};

use super::coordinator::{Coordinator, Ended};
use super::group::Groups;
use super::partition::Partition;
use super::protocol::{Code, Pid, Place, Producer, Reply, Request, ShardId};
use super::seats::Seats;

pub(super) struct Broker {
    partitions: BTreeMap<Place, Partition>,
    counts: BTreeMap<Topic, u32>,
    ids: BTreeMap<ShardId, Coordinator>,
    last_pid: u64,
    verification: bool,
    transaction_timeout: Duration,
    pub(super) groups: Groups,
    pub(super) seats: BTreeMap<custos_messages::Machine, Seats>,
    /// Ends that hit another transaction than they meant.
    pub(super) stray_ends: u64,
}

/// The two times of a moment: since the start, and as records carry it.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) since_start: Duration,
    pub(super) at: Timestamp,
}

impl Broker {
    pub(super) fn new(verification: bool, transaction_timeout: Duration) -> Self {
        Self {
            partitions: BTreeMap::new(),
            counts: BTreeMap::new(),
            ids: BTreeMap::new(),
            last_pid: 0,
            verification,
            transaction_timeout,
            groups: Groups::default(),
            seats: BTreeMap::new(),
            stray_ends: 0,
        }
    }

    pub(super) fn create(&mut self, topic: Topic, partitions: u32) {
        self.counts.insert(topic, partitions);
        for partition in 0..partitions {
            self.partitions.entry((topic, partition)).or_default();
        }
    }

    /// Partitions of a topic; zero if there is no such topic.
    pub(super) fn count(&self, topic: Topic) -> u32 {
        self.counts.get(&topic).copied().unwrap_or(0)
    }

    pub(super) fn partition(&self, place: Place) -> Option<&Partition> {
        self.partitions.get(&place)
    }

    pub(super) fn partition_mut(&mut self, place: Place) -> Option<&mut Partition> {
        self.partitions.get_mut(&place)
    }

    pub(super) fn partitions_mut(&mut self) -> impl Iterator<Item = (&Place, &mut Partition)> {
        self.partitions.iter_mut()
    }

    /// An id for a producer without transactions.
    pub(super) const fn new_producer(&mut self) -> Producer {
        self.last_pid = self.last_pid.saturating_add(1);
        Producer { pid: Pid(self.last_pid), epoch: 0 }
    }

    pub(super) fn handle(&mut self, request: Request, now: Moment) -> Result<Reply, Code> {
        match request {
            Request::Init { id, known } => {
                if !self.ids.contains_key(&id) {
                    let pid = self.new_producer().pid;
                    self.ids.insert(id, Coordinator::new(pid));
                }
                self.coordinator(id)?.init(known)
            }
            Request::Add { id, producer, places, serial } => {
                if places.iter().any(|place| !self.partitions.contains_key(place)) {
                    return Err(Code::NoSuchPlace);
                }
                self.coordinator(id)?.add(producer, &places, (now.since_start, serial))
            }
            Request::Produce { id, producer, sequence, place, records } => {
                self.produce((id, producer), (place, sequence), records, now)
            }
            Request::End { id, producer, commit, serial } => {
                let ended = self.coordinator(id)?.end(producer, commit, serial)?;
                if ended == Ended::Stray {
                    self.stray_ends = self.stray_ends.saturating_add(1);
                }
                Ok(Reply::Done)
            }
        }
    }

    fn produce(
        &mut self,
        (id, producer): (Option<ShardId>, Producer),
        (place, sequence): (Place, u64),
        records: Vec<Record>,
        now: Moment,
    ) -> Result<Reply, Code> {
        let partition = self.partitions.get_mut(&place).ok_or(Code::NoSuchPlace)?;
        if let Some(id) = id
            && self.verification
            && !partition.has_open(producer)
        {
            self.ids.get(&id).ok_or(Code::Mapping)?.verify(producer, place)?;
        }
        partition.append(producer, sequence, records, (now.at, id.is_some())).map(Reply::Offset)
    }

    fn coordinator(&mut self, id: ShardId) -> Result<&mut Coordinator, Code> {
        self.ids.get_mut(&id).ok_or(Code::Mapping)
    }

    /// Aborts what is open for too long; the shards concerned.
    pub(super) fn expire(&mut self, now: Moment) -> Vec<ShardId> {
        let timeout = self.transaction_timeout;
        let late = self.ids.iter_mut().filter_map(|(id, one)| one.expire(now.since_start, timeout).then_some(*id));
        late.collect()
    }

    /// The ids whose transactions have ended and whose markers are not all written.
    pub(super) fn awaiting_markers(&self) -> Vec<ShardId> {
        self.ids.iter().filter(|(_, one)| one.awaits_markers()).map(|(id, _)| *id).collect()
    }

    /// Forgets that the marker of an id's state partition is due, as if that had been deleted. Returns whether it was due.
    pub(super) fn forget_state_marker(&mut self, id: ShardId) -> bool {
        let coordinator = self.ids.get_mut(&id);
        coordinator.is_some_and(|one| one.forget_markers(|(topic, _)| matches!(topic, Topic::State(_))))
    }

    /// Writes one marker of an id.
    pub(super) fn write_marker(&mut self, id: ShardId, now: Moment) -> Option<(Place, bool)> {
        let (place, producer, commit) = self.ids.get_mut(&id)?.due_marker()?;
        self.partitions.get_mut(&place)?.mark(producer, commit, now.at);
        Some((place, commit))
    }
}
