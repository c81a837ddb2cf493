//! Groups of readers: who shares a topic, and how far each group has come.
//!
//! A member that is silent for longer than the session is put out: its partitions go to others, and what it acknowledges afterwards
//! is refused. What is acknowledged never goes back.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use custos_messages::Topic;

pub(super) type GroupName = (String, Topic);

#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<GroupName, Group>,
    last_member: u64,
}

#[derive(Debug, Default)]
struct Group {
    members: Vec<Member>,
    generation: u64,
    next: BTreeMap<u32, u64>,
}

#[derive(Debug)]
struct Member {
    id: u64,
    seen: Duration,
}

/// What a member holds at a generation, with where it begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    pub(super) generation: u64,
    pub(super) next: BTreeMap<u32, u64>,
}

impl Groups {
    pub(super) fn join(&mut self, name: &GroupName, now: Duration) -> u64 {
        self.last_member = self.last_member.saturating_add(1);
        let group = self.groups.entry(name.clone()).or_default();
        group.members.push(Member { id: self.last_member, seen: now });
        group.generation = group.generation.saturating_add(1);
        self.last_member
    }

    pub(super) fn leave(&mut self, name: &GroupName, member: u64) {
        if let Some(group) = self.groups.get_mut(name)
            && group.members.iter().any(|one| one.id == member)
        {
            group.members.retain(|one| one.id != member);
            group.generation = group.generation.saturating_add(1);
        }
    }

    /// A sign of life. `false`: the member was put out and must join again.
    pub(super) fn beat(&mut self, name: &GroupName, member: u64, (now, session): (Duration, Duration)) -> bool {
        let Some(group) = self.groups.get_mut(name) else { return false };
        let before = group.members.len();
        group.members.retain(|one| now.saturating_sub(one.seen) <= session);
        if group.members.len() < before {
            group.generation = group.generation.saturating_add(1);
        }
        let found = group.members.iter_mut().find(|one| one.id == member);
        found.is_some_and(|one| {
            one.seen = now;
            true
        })
    }

    /// What a member holds, if that has changed since `generation`.
    pub(super) fn share(&self, name: &GroupName, member: u64, generation: u64, partitions: u32) -> Option<Share> {
        let group = self.groups.get(name)?;
        if group.generation == generation {
            return None;
        }
        let place = group.members.iter().position(|one| one.id == member)?;
        let mine = range(partitions, group.members.len(), place);
        let next = mine.map(|partition| (partition, group.next.get(&partition).copied().unwrap_or(0))).collect();
        Some(Share { generation: group.generation, next })
    }

    /// Everything before `next` is dealt with. Refused to whoever is no member.
    pub(super) fn acknowledge(&mut self, name: &GroupName, member: u64, places: BTreeMap<u32, u64>) -> bool {
        let Some(group) = self.groups.get_mut(name) else { return false };
        if !group.members.iter().any(|one| one.id == member) {
            return false;
        }
        for (partition, next) in places {
            let noted = group.next.entry(partition).or_default();
            *noted = next.max(*noted);
        }
        true
    }
}

/// The part of `partitions` that is due to the member at `place` of `members`: contiguous, the first ones get one more.
pub(super) fn range(partitions: u32, members: usize, place: usize) -> Range<u32> {
    let (Ok(members), Ok(place)) = (u32::try_from(members), u32::try_from(place)) else { return 0..0 };
    let each = partitions.checked_div(members).unwrap_or(0);
    let more = partitions.checked_rem(members).unwrap_or(0);
    let start = each.saturating_mul(place).saturating_add(more.min(place));
    start..start.saturating_add(each).saturating_add(u32::from(place < more))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(6);

    #[test]
    fn a_late_member_is_put_out_and_its_acknowledgements_are_refused() {
        let mut groups = Groups::default();
        let name = ("group".to_owned(), Topic::Events);
        let late = groups.join(&name, Duration::ZERO);
        assert_eq!(groups.share(&name, late, 0, 2).unwrap().next, [(0, 0), (1, 0)].into());
        assert!(groups.acknowledge(&name, late, [(0, 5)].into()));
        let other = groups.join(&name, Duration::from_secs(7));
        assert!(groups.beat(&name, other, (Duration::from_secs(7), SESSION)));
        assert_eq!(groups.share(&name, other, 0, 2).unwrap().next, [(0, 5), (1, 0)].into());
        assert!(!groups.acknowledge(&name, late, [(0, 9)].into()));
        assert!(!groups.beat(&name, late, (Duration::from_secs(7), SESSION)));
        assert!(groups.acknowledge(&name, other, [(0, 3)].into()));
        let third = groups.join(&name, Duration::from_secs(7));
        assert_eq!(groups.share(&name, other, 0, 2).unwrap().next, [(0, 5)].into());
        assert_eq!(groups.share(&name, third, 0, 2).unwrap().next, [(1, 0)].into());
    }
}
