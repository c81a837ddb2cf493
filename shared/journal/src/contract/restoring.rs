//! Restoring from a place, and following state partitions: what a takeover that reads only the tail rests on.

use std::time::Instant;

use custos_messages::{Machine, Record, Topic};

use super::{GLANCE, PATIENCE, commit, end, ensure, names, record, said, same, unique, whole};
use crate::{Entry, Journal, Reach, ShardLog, Transaction};

const MACHINE: Machine = Machine::Accounts;
const STATE: Topic = Topic::State(MACHINE);

/// What a restore from `from` shows of the run `tag`.
fn restored_from(shard: &mut dyn ShardLog, tag: &str, from: u64) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let reach = said("restore from", shard.restore_from(from, &mut |entry| entries.push(entry)))?;
    same("the reach", &reach, &Reach::Whole)?;
    let rising = entries.windows(2).all(|pair| matches!(pair, [a, b] if a.offset < b.offset));
    ensure(rising, || "a restore is out of order".to_owned())?;
    ensure(entries.iter().all(|entry| entry.offset >= from), || format!("something before {from} is shown"))?;
    entries.retain(|entry| super::name(tag, entry).is_some());
    Ok(entries)
}

pub(super) fn restore_from_a_place_shows_the_rest(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("rest");
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    said("commit", commit(shard.as_mut(), &tag, "a"))?;
    drop(shard);
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    let place = end(journal, STATE, 0)?;
    same("at the end", &restored_from(shard.as_mut(), &tag, place)?, &Vec::new())?;
    said("commit", commit(shard.as_mut(), &tag, "b"))?;
    drop(shard);
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    let rest = restored_from(shard.as_mut(), &tag, place)?;
    same("after the place", &names(&tag, &rest), &whole("b"))?;
    let manifest = rest.last().map_or(0, |entry| entry.offset);
    let last = restored_from(shard.as_mut(), &tag, manifest)?;
    same("from the manifest on", &names(&tag, &last), &vec!["b.manifest".to_owned()])?;
    let all = names(&tag, &restored_from(shard.as_mut(), &tag, 0)?);
    same("from the beginning", &all, &[whole("a"), whole("b")].concat())
}

pub(super) fn restore_from_a_place_that_is_not_there(journal: &dyn Journal) -> Result<(), String> {
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    let beyond = end(journal, STATE, 0)?.saturating_add(1);
    let mut shown = 0_u32;
    let reach = said("restore from", shard.restore_from(beyond, &mut |_| shown += 1))?;
    same("beyond the end", &(reach, shown), &(Reach::OutOfRange, 0))
}

/// What was superseded behind the place may be gone; what counts of each key is shown all the same.
pub(super) fn restore_from_a_place_shows_the_newest(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("newest-rest");
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    let place = end(journal, STATE, 0)?;
    said("commit", commit(shard.as_mut(), &tag, "a"))?;
    said("begin", shard.begin(record(&tag, "a.header")))?;
    let changed = Record { value: Some(b"changed".to_vec()), ..record(&tag, "a.1") };
    let gone = Record { value: None, ..record(&tag, "a.2") };
    let manifest = record(&tag, "a.manifest");
    said("commit", shard.commit(Transaction { outputs: Vec::new(), state: vec![changed, gone], manifest }))?;
    drop(shard);
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    let entries = restored_from(shard.as_mut(), &tag, place)?;
    let newest = |name: &str| {
        let key = record(&tag, name).key;
        entries.iter().rev().find(|entry| entry.record.key == key).map(|entry| entry.record.value.clone())
    };
    same("a changed value", &newest("a.1"), &Some(Some(b"changed".to_vec())))?;
    same("a deleted value", &newest("a.2"), &Some(None))?;
    same("the last record", &names(&tag, &entries).pop(), &Some("a.manifest".to_owned()))
}

pub(super) fn partitions_are_followed_from_their_places(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("follow");
    let mut places = Vec::new();
    for partition in 0..2 {
        let mut shard = said("acquire", journal.acquire(MACHINE, partition))?;
        said("commit", commit(shard.as_mut(), &tag, "before"))?;
        drop(shard);
        // An acquisition waits until what was committed has its end.
        drop(said("acquire", journal.acquire(MACHINE, partition))?);
        places.push((partition, end(journal, STATE, partition)?));
        let mut shard = said("acquire", journal.acquire(MACHINE, partition))?;
        said("commit", commit(shard.as_mut(), &tag, "after"))?;
    }
    let mut feed = said("follow", journal.follow(STATE, &places))?;
    let mut seen = Vec::new();
    for late in ["late", "later"] {
        let mut shard = said("acquire", journal.acquire(MACHINE, 1))?;
        said("commit", commit(shard.as_mut(), &tag, late))?;
        let deadline = Instant::now() + PATIENCE;
        let last = format!("{late}.manifest");
        while !names(&tag, &seen).contains(&last) {
            ensure(Instant::now() < deadline, || format!("`{last}` did not come: {:?}", names(&tag, &seen)))?;
            seen.extend(said("poll", feed.poll(3, GLANCE))?);
        }
    }
    let of = |partition| seen.iter().filter(move |entry: &&Entry| entry.partition == partition).cloned().collect::<Vec<_>>();
    let deadline = Instant::now() + PATIENCE;
    let mut first = of(0);
    while names(&tag, &first).len() < 4 {
        ensure(Instant::now() < deadline, || format!("partition 0 showed {:?}", names(&tag, &first)))?;
        first.extend(said("poll", feed.poll(3, GLANCE))?.into_iter().filter(|entry| entry.partition == 0));
    }
    same("partition 0", &names(&tag, &first), &whole("after"))?;
    same("partition 1", &names(&tag, &of(1)), &[whole("after"), whole("late"), whole("later")].concat())
}

pub(super) fn identity_needs_no_shard(journal: &dyn Journal) -> Result<(), String> {
    let shard = said("acquire", journal.acquire(MACHINE, 0))?;
    same("the identity", &said("identity", journal.identity(MACHINE))?, &said("identity", shard.identity())?)
}
