//! Transactions: whole or nothing, of one owner, in one partition.

use custos_messages::{Machine, Record, Topic};

use super::{
    GLANCE, PROVISION, commit, end, ensure, finish, is_fenced, names, read_until, record, restored, said, same, state_until,
    unique, whole,
};
use crate::{Journal, JournalError, Start, Transaction};

const MACHINE: Machine = Machine::Accounts;
const STATE: Topic = Topic::State(MACHINE);

pub(super) fn provisioning_twice_changes_nothing(journal: &dyn Journal) -> Result<(), String> {
    let before = end(journal, STATE, 0)?;
    same("differences", &said("provision", journal.provision(&PROVISION))?, &Vec::new())?;
    for topic in Topic::ALL {
        let expected = if topic == Topic::GatewayReplies { PROVISION.gateways } else { PROVISION.partitions };
        same(topic.name(), &said("partitions", journal.partitions(topic))?, &expected)?;
    }
    same("the end of the state", &end(journal, STATE, 0)?, &before)
}

pub(super) fn committed_is_whole_and_in_order(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("whole");
    let (state, events) = (end(journal, STATE, 0)?, end(journal, Topic::Events, 0)?);
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    said("commit", commit(shard.as_mut(), &tag, "a"))?;
    said("commit", commit(shard.as_mut(), &tag, "b"))?;
    let seen = state_until(journal, MACHINE, &tag, (state, "b.manifest"))?;
    same("the state", &seen, &[whole("a"), whole("b")].concat())?;
    let mut feed = said("read", journal.read(Topic::Events, 0, Start::At(events)))?;
    let seen = names(&tag, &read_until(feed.as_mut(), &tag, "b.event")?);
    same("the events", &seen, &vec!["a.event".to_owned(), "b.event".to_owned()])
}

pub(super) fn aborted_is_never_visible(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("aborted");
    let start = end(journal, STATE, 0)?;
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    said("begin", shard.begin(record(&tag, "aborted.header")))?;
    said("abort", shard.abort())?;
    said("abort without a transaction", shard.abort())?;
    said("commit", commit(shard.as_mut(), &tag, "a"))?;
    said("begin", shard.begin(record(&tag, "dropped.header")))?;
    drop(shard);
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    said("commit", commit(shard.as_mut(), &tag, "b"))?;
    let expected = [whole("a"), whole("b")].concat();
    same("the state", &state_until(journal, MACHINE, &tag, (start, "b.manifest"))?, &expected)?;
    same("a restore", &restored(shard.as_mut(), &tag)?, &expected)
}

pub(super) fn open_is_invisible(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("open");
    let start = end(journal, STATE, 0)?;
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    let mut feed = said("read", journal.read(STATE, 0, Start::At(start)))?;
    said("begin", shard.begin(record(&tag, "a.header")))?;
    let seen = said("poll", feed.poll(1_000, GLANCE))?;
    same("while it is open", &names(&tag, &seen), &Vec::new())?;
    said("commit", finish(shard.as_mut(), &tag, "a"))?;
    let seen = read_until(feed.as_mut(), &tag, "a.manifest")?;
    same("after its commit", &names(&tag, &seen), &whole("a"))
}

pub(super) fn former_owner_is_fenced(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("former");
    let start = end(journal, STATE, 0)?;
    let mut former = said("acquire", journal.acquire(MACHINE, 0))?;
    said("commit", commit(former.as_mut(), &tag, "a"))?;
    let mut owner = said("acquire", journal.acquire(MACHINE, 0))?;
    is_fenced("the former owner's transaction", &commit(former.as_mut(), &tag, "late"))?;
    said("commit", commit(owner.as_mut(), &tag, "b"))?;
    is_fenced("the former owner's next transaction", &commit(former.as_mut(), &tag, "later"))?;
    said("commit", commit(owner.as_mut(), &tag, "c"))?;
    let expected = [whole("a"), whole("b"), whole("c")].concat();
    same("the state", &state_until(journal, MACHINE, &tag, (start, "c.manifest"))?, &expected)
}

pub(super) fn acquisition_aborts_what_is_open(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("taken");
    let start = end(journal, STATE, 0)?;
    let mut former = said("acquire", journal.acquire(MACHINE, 0))?;
    said("begin", former.begin(record(&tag, "late.header")))?;
    let mut owner = said("acquire", journal.acquire(MACHINE, 0))?;
    same("a restore", &restored(owner.as_mut(), &tag)?, &Vec::new())?;
    is_fenced("the former owner's commit", &finish(former.as_mut(), &tag, "late"))?;
    said("commit", commit(owner.as_mut(), &tag, "a"))?;
    same("the state", &state_until(journal, MACHINE, &tag, (start, "a.manifest"))?, &whole("a"))
}

pub(super) fn touches_its_own_partition_only(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("own");
    let ends = |partition| Topic::ALL.map(|topic| end(journal, topic, partition));
    let (other, own) = (ends(1), end(journal, STATE, 0)?);
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    said("commit", commit(shard.as_mut(), &tag, "a"))?;
    same("the other partitions", &ends(1), &other)?;
    let grown = end(journal, STATE, 0)?;
    ensure(grown >= own + 4, || format!("the own partition went from {own} to {grown}"))
}

pub(super) fn too_large_is_refused(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("large");
    let start = end(journal, STATE, 0)?;
    let large = || Record { value: Some(vec![7; 32 << 20]), ..record(&tag, "large") };
    let inbox = Topic::Inbox(MACHINE);
    let before = end(journal, inbox, 0)?;
    let appender = said("appender", journal.appender())?;
    is_too_large("an append", &appender.append(inbox, 0, large()))?;
    same("the inbox", &end(journal, inbox, 0)?, &before)?;
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    said("begin", shard.begin(record(&tag, "large.header")))?;
    let transaction = Transaction {
        outputs: vec![(Topic::Events, record(&tag, "large.event"))],
        state: vec![large()],
        manifest: record(&tag, "large.manifest"),
    };
    is_too_large("a commit", &shard.commit(transaction))?;
    drop(shard);
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    said("commit", commit(shard.as_mut(), &tag, "a"))?;
    same("the state", &state_until(journal, MACHINE, &tag, (start, "a.manifest"))?, &whole("a"))
}

fn is_too_large<T>(what: &str, result: &Result<T, JournalError>) -> Result<(), String> {
    match result {
        Err(JournalError::TooLarge { .. }) => Ok(()),
        Err(error) => Err(format!("{what}: {error:?} instead of TooLarge")),
        Ok(_) => Err(format!("{what}: done instead of TooLarge")),
    }
}

pub(super) fn restore_shows_the_newest(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("newest");
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    said("commit", commit(shard.as_mut(), &tag, "a"))?;
    said("begin", shard.begin(record(&tag, "b.header")))?;
    let changed = Record { value: Some(b"changed".to_vec()), ..record(&tag, "a.1") };
    let gone = Record { value: None, ..record(&tag, "a.2") };
    let manifest = record(&tag, "b.manifest");
    said("commit", shard.commit(Transaction { outputs: Vec::new(), state: vec![changed, gone], manifest }))?;
    drop(shard);
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    let mut entries = Vec::new();
    said("restore", shard.restore(&mut |entry| entries.push(entry)))?;
    let newest = |name: &str| {
        let key = record(&tag, name).key;
        entries.iter().rev().find(|entry| entry.record.key == key).map(|entry| entry.record.value.clone())
    };
    same("a changed value", &newest("a.1"), &Some(Some(b"changed".to_vec())))?;
    ensure(newest("a.2").flatten().is_none(), || "a deleted value is still there".to_owned())?;
    same("an older manifest", &newest("a.manifest"), &Some(Some(b"a.manifest".to_vec())))?;
    let last = entries.last().map(|entry| entry.record.clone());
    same("the last record", &last, &Some(record(&tag, "b.manifest")))
}

pub(super) fn identity_is_stable(journal: &dyn Journal) -> Result<(), String> {
    let shard = said("acquire", journal.acquire(MACHINE, 0))?;
    let first = said("identity", shard.identity())?;
    let shard = said("acquire", journal.acquire(MACHINE, 0))?;
    same("the identity", &said("identity", shard.identity())?, &first)?;
    same("its partitions", &first.partitions, &PROVISION.partitions)?;
    let other = said("acquire", journal.acquire(Machine::Chain, 0))?;
    let other = said("identity", other.identity())?;
    same("the cluster", &other.cluster, &first.cluster)?;
    ensure(other.inbox != first.inbox && other.state != first.state, || format!("two machines share topics: {other:?}"))
}
