//! Membership in the group that shares a machine's shards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use custos_messages::{Machine, Topic};

use super::seats::Patience;
use super::world::{Core, World};
use crate::{Assignment, JournalError, Membership};

pub(super) struct SimulatedMembership {
    core: Arc<Core>,
    member: Member,
}

struct Member {
    process: u64,
    machine: Machine,
    name: String,
    seat: u64,
    held: BTreeSet<u32>,
    patience: Patience,
}

impl SimulatedMembership {
    pub(super) fn join(core: &Arc<Core>, process: u64, machine: Machine, name: &str) -> Result<Self, JournalError> {
        let mut world = core.lock();
        world.alive("join a group", process)?;
        let now = world.now().since_start;
        let seat = world.broker.seats.entry(machine).or_default().join(name, now);
        drop(world);
        core.changed();
        let patience = Patience { session: core.settings.session_timeout, release: core.settings.release_timeout };
        let member = Member { process, machine, name: name.to_owned(), seat, held: BTreeSet::new(), patience };
        Ok(Self { core: Arc::clone(core), member })
    }
}

impl Member {
    fn change(&mut self, world: &mut World) -> Option<Assignment> {
        let now = world.now().since_start;
        let partitions = world.broker.count(Topic::Inbox(self.machine));
        let seats = world.broker.seats.entry(self.machine).or_default();
        let change = seats.change(self.seat, partitions, now, self.patience).unwrap_or_else(|()| {
            // Put out: others hold the shards, or will.
            self.seat = seats.join(&self.name, now);
            let lost: Vec<u32> = self.held.iter().copied().collect();
            (!lost.is_empty()).then_some(Assignment::Lost(lost))
        });
        match &change {
            Some(Assignment::Gained(partitions)) => self.held.extend(partitions),
            Some(Assignment::Lost(partitions)) => self.held.retain(|held| !partitions.contains(held)),
            Some(Assignment::Revoked(_)) | None => {}
        }
        if let Some(change) = &change {
            world.note(format_args!("{} of {}: {change:?}", self.name, self.machine.name()));
        }
        change
    }
}

impl Membership for SimulatedMembership {
    fn poll(&mut self, wait: Duration) -> Result<Option<Assignment>, JournalError> {
        let Self { core, member } = self;
        let process = member.process;
        let change = core.wait(process, wait, |world| Ok(member.change(world)))?;
        if change.is_some() {
            core.changed();
        }
        Ok(change)
    }

    fn released(&mut self, partitions: &[u32]) -> Result<(), JournalError> {
        let mut world = self.core.lock();
        world.alive("release a shard", self.member.process)?;
        self.member.held.retain(|held| !partitions.contains(held));
        if let Some(seats) = world.broker.seats.get_mut(&self.member.machine) {
            seats.release(self.member.seat, partitions);
        }
        drop(world);
        self.core.changed();
        Ok(())
    }

    /// Nothing reads it: the simulated log has no lag tools.
    fn note(&mut self, _partition: u32, _next: u64) {}
}

impl Drop for SimulatedMembership {
    fn drop(&mut self) {
        let mut world = self.core.lock();
        // The dead do not leave: the group notices by their silence.
        if world.is_alive(self.member.process)
            && let Some(seats) = world.broker.seats.get_mut(&self.member.machine)
        {
            seats.leave(self.member.seat);
        }
        drop(world);
        self.core.changed();
    }
}
