//! Groups: sharing, acknowledging, inheriting.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use custos_messages::{Machine, Topic};

use super::{GLANCE, PATIENCE, PROVISION, ensure, name, names, read_until, record, said, same, unique};
use crate::{Assignment, Feed, Journal, Membership};

const TOPIC: Topic = Topic::ComplianceCommands;

pub(super) fn unacknowledged_comes_again(journal: &dyn Journal) -> Result<(), String> {
    let (tag, group) = (unique("again"), unique("group"));
    let appender = said("appender", journal.appender())?;
    let all: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    said("append_all", appender.append_all(all.iter().map(|name| (TOPIC, 0, record(&tag, name))).collect()))?;
    let mut feed = said("consume", journal.consume(TOPIC, &group))?;
    let entries = read_until(feed.as_mut(), &tag, "9")?;
    same("the first member's records", &names(&tag, &entries), &all)?;
    let fifth = entries.iter().find(|entry| name(&tag, entry).as_deref() == Some("4")).map_or(0, |entry| entry.offset);
    said("acknowledge", feed.acknowledge(0, fifth))?;
    drop(feed);
    let mut feed = said("consume", journal.consume(TOPIC, &group))?;
    let entries = read_until(feed.as_mut(), &tag, "9")?;
    let (_, rest) = all.split_at_checked(5).unwrap_or_default();
    same("the second member's records", &names(&tag, &entries), &rest.to_vec())
}

pub(super) fn members_share_partitions(journal: &dyn Journal) -> Result<(), String> {
    let (tag, group) = (unique("share"), unique("group"));
    let appender = said("appender", journal.appender())?;
    let mut feeds = [said("consume", journal.consume(TOPIC, &group))?, said("consume", journal.consume(TOPIC, &group))?];
    let deadline = Instant::now() + PATIENCE;
    // Who got the record of each round and partition.
    let mut served: BTreeMap<(String, u32), BTreeSet<usize>> = BTreeMap::new();
    for round in 0.. {
        ensure(Instant::now() < deadline, || format!("the members did not share: {served:?}"))?;
        for partition in 0..PROVISION.partitions {
            said("append", appender.append(TOPIC, partition, record(&tag, &round.to_string())))?;
        }
        for (number, feed) in feeds.iter_mut().enumerate() {
            for (name, partition) in serve(feed.as_mut(), &tag)? {
                served.entry((name, partition)).or_default().insert(number);
            }
        }
        let of =
            |round: i32, partition: u32| served.get(&(round.to_string(), partition)).filter(|members| members.len() == 1);
        if (0..=round).any(|round| matches!((of(round, 0), of(round, 1)), (Some(one), Some(other)) if one != other)) {
            return Ok(());
        }
    }
    Ok(())
}

/// Polls once and acknowledges; names and partitions of the records of the run `tag`.
fn serve(feed: &mut dyn Feed, tag: &str) -> Result<Vec<(String, u32)>, String> {
    let mut served = Vec::new();
    for entry in said("poll", feed.poll(1_000, GLANCE))? {
        said("acknowledge", feed.acknowledge(entry.partition, entry.offset))?;
        served.extend(name(tag, &entry).map(|name| (name, entry.partition)));
    }
    Ok(served)
}

pub(super) fn groups_are_independent(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("independent");
    let appender = said("appender", journal.appender())?;
    said("append", appender.append(TOPIC, 1, record(&tag, "only")))?;
    for group in [unique("group"), unique("group")] {
        let mut feed = said("consume", journal.consume(TOPIC, &group))?;
        let entries = read_until(feed.as_mut(), &tag, "only")?;
        for entry in &entries {
            said("acknowledge", feed.acknowledge(entry.partition, entry.offset))?;
        }
        same("each group", &names(&tag, &entries), &vec!["only".to_owned()])?;
    }
    Ok(())
}

struct Member {
    seat: Box<dyn Membership>,
    held: BTreeSet<u32>,
}

impl Member {
    fn join(journal: &dyn Journal, name: &str) -> Result<Self, String> {
        Ok(Self { seat: said("join", journal.join(Machine::Chain, name))?, held: BTreeSet::new() })
    }

    fn follow(&mut self) -> Result<(), String> {
        match said("poll", self.seat.poll(GLANCE))? {
            Some(Assignment::Gained(partitions)) => self.held.extend(partitions),
            Some(Assignment::Revoked(partitions)) => {
                self.held.retain(|partition| !partitions.contains(partition));
                said("released", self.seat.released(&partitions))?;
            }
            Some(Assignment::Lost(partitions)) => self.held.retain(|partition| !partitions.contains(partition)),
            None => {}
        }
        Ok(())
    }
}

pub(super) fn shards_are_shared_and_inherited(journal: &dyn Journal) -> Result<(), String> {
    let all: BTreeSet<u32> = (0..PROVISION.partitions).collect();
    let mut first = Member::join(journal, &unique("first"))?;
    let deadline = Instant::now() + PATIENCE;
    while first.held != all {
        ensure(Instant::now() < deadline, || format!("alone, the first holds {:?}", first.held))?;
        first.follow()?;
    }
    let mut second = Member::join(journal, &unique("second"))?;
    let deadline = Instant::now() + PATIENCE;
    while first.held.len() != 1 || second.held.len() != 1 {
        ensure(Instant::now() < deadline, || format!("two members hold {:?} and {:?}", first.held, second.held))?;
        first.follow()?;
        second.follow()?;
        ensure(first.held.is_disjoint(&second.held), || format!("both hold {:?} and {:?}", first.held, second.held))?;
    }
    drop(second);
    let deadline = Instant::now() + PATIENCE;
    while first.held != all {
        ensure(Instant::now() < deadline, || format!("the one who stayed holds {:?}", first.held))?;
        first.follow()?;
    }
    Ok(())
}
