//! Membership in the group that shares a machine's shards among the members of this process.
//!
//! Invariants: a shard is held by at most one member; it is given to the next only after its holder has released it or left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use custos_messages::{Machine, Topic};

use super::groups::range;
use super::writer::Core;
use crate::{Assignment, JournalError, Membership};

/// The members of one machine's group, in the order in which they joined.
#[derive(Debug, Default)]
pub(super) struct Members {
    list: Vec<Member>,
    last: u64,
}

#[derive(Debug)]
struct Member {
    id: u64,
    held: BTreeSet<u32>,
    /// Of those held, what it was told to give up.
    leaving: BTreeSet<u32>,
}

impl Members {
    fn join(&mut self) -> u64 {
        self.last += 1;
        self.list.push(Member { id: self.last, held: BTreeSet::new(), leaving: BTreeSet::new() });
        self.last
    }

    fn leave(&mut self, id: u64) {
        self.list.retain(|member| member.id != id);
    }

    fn release(&mut self, id: u64, partitions: &[u32]) {
        if let Some(member) = self.list.iter_mut().find(|member| member.id == id) {
            member.held.retain(|partition| !partitions.contains(partition));
            member.leaving.retain(|partition| !partitions.contains(partition));
        }
    }

    /// The next change for a member: first what it must give up, then what is free for it.
    fn change(&mut self, id: u64, partitions: u32) -> Option<Assignment> {
        let place = self.list.iter().position(|member| member.id == id)?;
        let mine = range(partitions, self.list.len(), place);
        let taken: BTreeSet<u32> = self.list.iter().flat_map(|member| member.held.iter().copied()).collect();
        let member = self.list.get_mut(place)?;
        let excess = |partition: &u32| !mine.contains(partition) && !member.leaving.contains(partition);
        let revoked: Vec<u32> = member.held.iter().copied().filter(excess).collect();
        if !revoked.is_empty() {
            member.leaving.extend(&revoked);
            return Some(Assignment::Revoked(revoked));
        }
        let gained: Vec<u32> = mine.filter(|partition| !taken.contains(partition)).collect();
        if gained.is_empty() {
            return None;
        }
        member.held.extend(&gained);
        Some(Assignment::Gained(gained))
    }
}

/// One member's seat. Leaves when dropped.
pub(super) struct Seat {
    core: Arc<Core>,
    machine: Machine,
    id: u64,
}

impl Seat {
    /// Joins.
    pub(super) fn join(core: Arc<Core>, machine: Machine) -> Result<Self, JournalError> {
        let topic = Topic::Inbox(machine);
        let id = {
            let mut index = core.store.lock();
            if index.partitions(topic) == 0 {
                return Err(super::no_such(topic, 0));
            }
            index.members.entry(machine).or_default().join()
        };
        core.store.wake_members();
        Ok(Self { core, machine, id })
    }
}

impl Membership for Seat {
    fn poll(&mut self, wait: Duration) -> Result<Option<Assignment>, JournalError> {
        let (machine, id) = (self.machine, self.id);
        self.core.store.wait_as_member(Instant::now() + wait, |index| {
            let partitions = index.partitions(Topic::Inbox(machine));
            index.members.get_mut(&machine)?.change(id, partitions)
        })
    }

    fn released(&mut self, partitions: &[u32]) -> Result<(), JournalError> {
        if let Some(members) = self.core.store.lock().members.get_mut(&self.machine) {
            members.release(self.id, partitions);
        }
        self.core.store.wake_members();
        Ok(())
    }

    /// Nothing reads it: the embedded log has no lag tools.
    fn note(&mut self, _partition: u32, _next: u64) {}
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(members) = self.core.store.lock().members.get_mut(&self.machine) {
            members.leave(self.id);
        }
        self.core.store.wake_members();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_goes_to_the_newcomer_only_after_its_release() {
        let mut members = Members::default();
        let first = members.join();
        assert_eq!(members.change(first, 4), Some(Assignment::Gained(vec![0, 1, 2, 3])));
        let second = members.join();
        assert_eq!(members.change(second, 4), None);
        assert_eq!(members.change(first, 4), Some(Assignment::Revoked(vec![2, 3])));
        assert_eq!(members.change(first, 4), None);
        members.release(first, &[2]);
        assert_eq!(members.change(second, 4), Some(Assignment::Gained(vec![2])));
        members.leave(first);
        assert_eq!(members.change(second, 4), Some(Assignment::Gained(vec![0, 1, 3])));
    }

    #[test]
    fn a_shard_that_returns_before_its_release_is_gained_again_after_it() {
        let mut members = Members::default();
        let first = members.join();
        members.change(first, 2);
        let second = members.join();
        assert_eq!(members.change(first, 2), Some(Assignment::Revoked(vec![1])));
        members.leave(second);
        assert_eq!(members.change(first, 2), None);
        members.release(first, &[1]);
        assert_eq!(members.change(first, 2), Some(Assignment::Gained(vec![1])));
    }
}
