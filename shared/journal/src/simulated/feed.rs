//! A member of a group of readers: at least once.
//!
//! What is acknowledged is written a little later, as the client does: a process that dies hears it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use custos_messages::Topic;

use super::group::GroupName;
use super::world::{Core, World};
use crate::{Entry, Feed, JournalError};

/// How long an acknowledgement may stay unwritten.
const ACKNOWLEDGE_EVERY: Duration = Duration::from_millis(250);

pub(super) struct GroupFeed {
    core: Arc<Core>,
    seat: Seat,
}

struct Seat {
    process: u64,
    name: GroupName,
    member: u64,
    generation: u64,
    /// The member's partitions, and what it wants next of each.
    next: BTreeMap<u32, u64>,
    served: u32,
    acknowledged: BTreeMap<u32, u64>,
    written: Duration,
    session: Duration,
}

impl GroupFeed {
    pub(super) fn join(core: &Arc<Core>, process: u64, topic: Topic, group: &str) -> Result<Self, JournalError> {
        let name = (group.to_owned(), topic);
        let mut world = core.lock();
        world.alive("join a group", process)?;
        let now = world.now().since_start;
        let member = world.broker.groups.join(&name, now);
        drop(world);
        core.changed();
        let seat = Seat {
            process,
            name,
            member,
            generation: 0,
            next: BTreeMap::new(),
            served: u32::MAX,
            acknowledged: BTreeMap::new(),
            written: now,
            session: core.settings.session_timeout,
        };
        Ok(Self { core: Arc::clone(core), seat })
    }
}

impl Seat {
    /// Shows that the member lives, and takes over what a change of members brought.
    fn follow(&mut self, world: &mut World) {
        let now = world.now().since_start;
        if !world.broker.groups.beat(&self.name, self.member, (now, self.session)) {
            world.note(format_args!("a reader of {} was late and joins again", self.name.1.name()));
            self.acknowledged.clear();
            self.member = world.broker.groups.join(&self.name, now);
        }
        let partitions = world.broker.count(self.name.1);
        if world.broker.groups.share(&self.name, self.member, self.generation, partitions).is_some() {
            self.write(world);
        }
        let Some(share) = world.broker.groups.share(&self.name, self.member, self.generation, partitions) else { return };
        self.generation = share.generation;
        let before = std::mem::take(&mut self.next);
        self.next = share.next;
        // Who keeps a partition goes on where it stands.
        for (partition, next) in before {
            self.next.entry(partition).and_modify(|from| *from = next.max(*from));
        }
    }

    fn write(&mut self, world: &mut World) {
        self.written = world.now().since_start;
        let places = std::mem::take(&mut self.acknowledged);
        if !places.is_empty() && !world.broker.groups.acknowledge(&self.name, self.member, places) {
            world.note(format_args!("a late acknowledgement in {} is refused", self.name.1.name()));
        }
    }

    fn write_in_time(&mut self, world: &mut World) {
        if world.now().since_start.saturating_sub(self.written) >= ACKNOWLEDGE_EVERY {
            self.write(world);
        }
    }
}

impl Feed for GroupFeed {
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let Self { core, seat } = self;
        let process = seat.process;
        let look = |world: &mut World| {
            seat.write_in_time(world);
            seat.follow(world);
            world.take_turn(seat.name.1, &mut seat.next, &mut seat.served, most)
        };
        Ok(core.wait(process, wait, look)?.unwrap_or_default())
    }

    fn acknowledge(&mut self, partition: u32, offset: u64) -> Result<(), JournalError> {
        let mut world = self.core.lock();
        world.alive("acknowledge", self.seat.process)?;
        self.seat.acknowledged.insert(partition, offset.saturating_add(1));
        self.seat.write_in_time(&mut world);
        Ok(())
    }
}

impl Drop for GroupFeed {
    fn drop(&mut self) {
        let mut world = self.core.lock();
        // The dead neither write nor leave: the group notices by their silence.
        if world.is_alive(self.seat.process) {
            self.seat.write(&mut world);
            world.broker.groups.leave(&self.seat.name, self.seat.member);
        }
        drop(world);
        self.core.changed();
    }
}
