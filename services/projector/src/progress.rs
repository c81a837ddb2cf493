//! How far a projector is, for metrics and health.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use custos_messages::events::Position;
use custos_readmodel::Arrival;

/// How far a projector is. Cheap to clone; all clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<u32, PartitionProgress>,
    folded: u64,
    restarts: u64,
}

/// How far a projector is in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionProgress {
    /// The last event that is in the read model.
    pub position: Option<Position>,
    /// The offset after it.
    pub next_offset: u64,
    /// The offset after the last record that the log had when it was last asked.
    pub end_offset: u64,
}

impl PartitionProgress {
    /// Offsets between the read model and the end of the log. The log's own markers count, so it may rest above nothing.
    #[must_use]
    pub const fn lag(&self) -> u64 {
        self.end_offset.saturating_sub(self.next_offset)
    }
}

impl Progress {
    /// Every partition.
    #[must_use]
    pub fn partitions(&self) -> BTreeMap<u32, PartitionProgress> {
        self.state().partitions.clone()
    }

    /// Events that this process folded.
    #[must_use]
    pub fn events_folded(&self) -> u64 {
        self.state().folded
    }

    /// How often it began again after something failed.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.state().restarts
    }

    pub(crate) fn starts(&self, partition: u32, next_offset: Option<u64>, position: Option<Position>) {
        let mut state = self.state();
        let progress = state.partitions.entry(partition).or_default();
        (progress.position, progress.next_offset) = (position, next_offset.unwrap_or(0));
    }

    pub(crate) fn restarted(&self) {
        let mut state = self.state();
        state.restarts = state.restarts.saturating_add(1);
    }

    /// The log ends at `end_offset` now.
    pub(crate) fn log_ends(&self, partition: u32, end_offset: u64) {
        self.state().partitions.entry(partition).or_default().end_offset = end_offset;
    }

    pub(crate) fn folded(&self, batch: &[Arrival], count: u64) {
        let mut state = self.state();
        state.folded = state.folded.saturating_add(count);
        for arrival in batch {
            let progress = state.partitions.entry(arrival.partition).or_default();
            // A repeat of an old event comes late and moves nothing back.
            let position = Position { partition: arrival.partition, sequence: arrival.place.sequence };
            if progress.position.is_none_or(|last| last.sequence < position.sequence) {
                progress.position = Some(position);
            }
            progress.next_offset = progress.next_offset.max(arrival.offset.saturating_add(1));
            progress.end_offset = progress.end_offset.max(progress.next_offset);
        }
    }

    /// Figures stay usable whatever happened to a thread that held them.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
