//! Where a shard stands, as its host and operators see it, without asking the shard's thread: it answers also while that thread
//! takes the shard over, is stuck, or has ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use custos_domain::Timestamp;
use custos_saga::machine::Machine;

use super::memory::Memory;
use super::records::{Manifest, PendingId};
use crate::ops::Fact;

/// Where a shard stands. Clones show the same.
#[derive(Clone, Default)]
pub struct Progress(Arc<Mutex<Standing>>);

/// What is known about a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What it is doing.
    pub condition: Condition,
    /// Where it stood after its last commit; `None` before the takeover.
    pub place: Option<Place>,
    /// Records of the inbox that were not applied when it was last looked at.
    pub lag: Option<u64>,
}

/// What a shard is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// It is being taken over.
    #[default]
    TakingOver,
    /// It runs.
    Running,
    /// It stands still until a human has looked, for this reason.
    Halted(String),
}

/// Where a shard stood after a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its transactions so far.
    pub transaction: u64,
    /// Its takeovers so far.
    pub attempt: u32,
    /// The logic in force.
    pub logic: u32,
    /// Offset of the first input that is not applied.
    pub next: u64,
    /// Time of the last input.
    pub last_input: Option<Timestamp>,
    /// Sequence of its partition's last event.
    pub event_sequence: u64,
    /// Records of the machine.
    pub records: usize,
    /// Armed timers.
    pub timers: usize,
    /// When the first of them is due.
    pub next_timer: Option<Timestamp>,
    /// Messages that are not durable in their inboxes yet.
    pub outbox: usize,
    /// The first of them.
    pub waits_for: Option<PendingId>,
    /// When it was committed.
    pub committed: Instant,
}

impl Progress {
    /// What is known now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.lock().clone()
    }

    pub(crate) fn become_condition(&self, condition: Condition) {
        self.lock().condition = condition;
    }

    pub(crate) fn lags(&self, lag: u64) {
        self.lock().lag = Some(lag);
    }

    /// A transaction is committed, the acquisition included.
    pub(crate) fn committed<M: Machine>(&self, manifest: &Manifest, memory: &Memory<M>, now: Instant) {
        let place = Place {
            transaction: manifest.transaction,
            attempt: manifest.attempt,
            logic: manifest.logic,
            next: manifest.next,
            last_input: manifest.last.map(|last| last.at),
            event_sequence: manifest.event_sequence,
            records: memory.entities.len().saturating_add(memory.settled.len()),
            timers: memory.timers.len(),
            next_timer: memory.due.first().map(|(due, _)| *due),
            outbox: memory.pending.len(),
            waits_for: memory.pending.keys().next().copied(),
            committed: now,
        };
        let mut standing = self.lock();
        standing.condition = Condition::Running;
        standing.place = Some(place);
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    /// The same for a person: name and value, in reading order.
    #[must_use]
    pub fn facts(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        let mut tell = |name: &str, value: String| facts.push(Fact { name: name.to_owned(), value });
        tell("condition", self.condition.told());
        if let Some(lag) = self.lag {
            tell("lag", format!("{lag} inputs"));
        }
        let Some(place) = &self.place else { return facts };
        tell("next input", place.next.to_string());
        if let Some(at) = place.last_input {
            tell("last input, log time", format!("{} ms", at.0));
        }
        tell("last commit", format!("{} ms ago", place.committed.elapsed().as_millis()));
        tell("transaction", place.transaction.to_string());
        tell("takeovers", place.attempt.to_string());
        tell("logic", place.logic.to_string());
        tell("event sequence", place.event_sequence.to_string());
        tell("state records", place.records.to_string());
        tell("armed timers", place.timers.to_string());
        if let Some(due) = place.next_timer {
            tell("next timer, log time", format!("{} ms", due.0));
        }
        tell("outbox", place.outbox.to_string());
        if let Some(PendingId { to, sequence }) = place.waits_for {
            tell("outbox, first", format!("number {sequence} to {to}"));
        }
        facts
    }
}

impl Condition {
    fn told(&self) -> String {
        match self {
            Self::TakingOver => "is being taken over".to_owned(),
            Self::Running => "runs".to_owned(),
            Self::Halted(why) => format!("stands still (CUST-0001): {why}"),
        }
    }
}
