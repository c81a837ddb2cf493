//! The open file and what it says: reading, and waiting for what is not there yet.
//!
//! Invariant: no file is touched under the lock, so that a slow disk never holds up who only looks.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use custos_messages::Topic;

use super::format::read_record;
use super::index::{Index, Place};
use super::{failed, no_such};
use crate::{Entry, JournalError};

/// One read of the file is at most this long, unless a single record is longer.
const WINDOW_BYTES: u64 = 1 << 18;
/// Two records further apart than this are read separately.
const GAP_BYTES: u64 = 1 << 14;

/// The store, shared by the writer and all handles.
pub(super) struct Store {
    /// The log.
    pub(super) file: File,
    /// Its name.
    pub(super) id: [u8; 16],
    index: Mutex<Index>,
    arrived: BTreeMap<Topic, Condvar>,
    moved: Condvar,
}

impl Store {
    /// The store of a recovered file.
    pub(super) fn new(file: File, id: [u8; 16], index: Index) -> Self {
        let arrived = Topic::ALL.into_iter().map(|topic| (topic, Condvar::new())).collect();
        Self { file, id, index: Mutex::new(index), arrived, moved: Condvar::new() }
    }

    /// What the file says. The index is consistent between any two of its calls, so a panic elsewhere does not spoil it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of this topic changed.
    pub(super) fn wake(&self, topic: Topic) {
        if let Some(condvar) = self.arrived.get(&topic) {
            condvar.notify_all();
        }
    }

    /// The members of a machine's group changed, or what they hold.
    pub(super) fn wake_members(&self) {
        self.moved.notify_all();
    }

    /// The store is unusable from now on.
    pub(super) fn break_down(&self, reason: String) {
        self.lock().broken.get_or_insert(reason);
        self.arrived.values().for_each(Condvar::notify_all);
        self.moved.notify_all();
    }

    /// Waits until `take` finds places, or for nothing until `deadline`.
    pub(super) fn wait(
        &self,
        topic: Topic,
        deadline: Instant,
        mut take: impl FnMut(&mut Index) -> Vec<Place>,
    ) -> Result<Vec<Place>, JournalError> {
        let condvar = self.arrived.get(&topic).unwrap_or(&self.moved);
        let found = self.wait_on(condvar, deadline, |index| Some(take(index)).filter(|places| !places.is_empty()))?;
        Ok(found.unwrap_or_default())
    }

    /// Waits until `take` finds a change of membership, or for nothing until `deadline`.
    pub(super) fn wait_as_member<T>(
        &self,
        deadline: Instant,
        take: impl FnMut(&mut Index) -> Option<T>,
    ) -> Result<Option<T>, JournalError> {
        self.wait_on(&self.moved, deadline, take)
    }

    fn wait_on<T>(
        &self,
        condvar: &Condvar,
        deadline: Instant,
        mut take: impl FnMut(&mut Index) -> Option<T>,
    ) -> Result<Option<T>, JournalError> {
        let mut index = self.lock();
        loop {
            if let Some(reason) = &index.broken {
                return Err(failed("wait for records", reason.clone()));
            }
            if let Some(found) = take(&mut index) {
                return Ok(Some(found));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            (index, _) = condvar.wait_timeout(index, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Up to `most` records of a partition from `next` on; empty at `deadline`.
    pub(super) fn poll(
        &self,
        topic: Topic,
        partition: u32,
        next: u64,
        most: usize,
        deadline: Instant,
    ) -> Result<Vec<Entry>, JournalError> {
        let places = self.wait(topic, deadline, |index| {
            index.partition(topic, partition).map(|log| log.from(next, most)).unwrap_or_default()
        })?;
        self.read(&places)
    }

    /// First and next offset of a partition.
    pub(super) fn bounds(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError> {
        let index = self.lock();
        let log = index.partition(topic, partition).ok_or_else(|| no_such(topic, partition))?;
        Ok((0, log.next()))
    }

    /// Whether all these partitions exist.
    pub(super) fn check(&self, mut wanted: impl Iterator<Item = (Topic, u32)>) -> Result<(), JournalError> {
        let index = self.lock();
        let missing = wanted.find(|(topic, partition)| index.partition(*topic, *partition).is_none());
        missing.map_or(Ok(()), |(topic, partition)| Err(no_such(topic, partition)))
    }

    /// The records at `places`, which rise.
    pub(super) fn read(&self, places: &[Place]) -> Result<Vec<Entry>, JournalError> {
        let mut entries = Vec::with_capacity(places.len());
        self.visit(places, &mut |entry| entries.push(entry))?;
        Ok(entries)
    }

    /// Shows the records at `places`, which rise, reading neighbours together.
    pub(super) fn visit(&self, places: &[Place], show: &mut dyn FnMut(Entry)) -> Result<(), JournalError> {
        let mut buffer = Vec::new();
        let mut rest = places;
        while let Some(first) = rest.first() {
            let start = first.position();
            let (mut count, mut end) = (0, start);
            for place in rest {
                let near = place.position() <= end + GAP_BYTES && place.end() - start <= WINDOW_BYTES;
                if count > 0 && !near {
                    break;
                }
                count += 1;
                end = place.end();
            }
            buffer.resize(usize::try_from(end - start).unwrap_or(usize::MAX), 0);
            self.file.read_exact_at(&mut buffer, start).map_err(|source| failed("read records", source))?;
            let (now, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            for place in now {
                let from = usize::try_from(place.position() - start).ok();
                let bytes = from.and_then(|from| buffer.get(from..)).unwrap_or_default();
                let entry = read_record(bytes).ok_or_else(|| failed("read records", "a record changed under our hands"))?;
                show(entry);
            }
            rest = later;
        }
        Ok(())
    }
}
