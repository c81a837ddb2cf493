//! What a log remembers when it is closed and opened again.

use custos_messages::{Machine, Topic};

use super::{Reopen, commit, end, names, read_until, record, restored, said, same, state_until, unique, whole};
use crate::Start;

const MACHINE: Machine = Machine::Accounts;

pub(super) fn committed_survives(open: Reopen<'_>) -> Result<(), String> {
    let tag = unique("survives");
    let journal = said("open", open())?;
    let (state, events) = (end(journal.as_ref(), Topic::State(MACHINE), 0)?, end(journal.as_ref(), Topic::Events, 1)?);
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    said("commit", commit(shard.as_mut(), &tag, "a"))?;
    let appender = said("appender", journal.appender())?;
    let offset = said("append", appender.append(Topic::Events, 1, record(&tag, "appended")))?;
    said("begin", shard.begin(record(&tag, "open.header")))?;
    drop((shard, appender, journal));

    let journal = said("open again", open())?;
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    same("a restore", &restored(shard.as_mut(), &tag)?, &whole("a"))?;
    let mut feed = said("read", journal.read(Topic::Events, 1, Start::At(events)))?;
    let entries = read_until(feed.as_mut(), &tag, "appended")?;
    same("the offset", &entries.last().map(|entry| entry.offset), &Some(offset))?;
    said("commit", commit(shard.as_mut(), &tag, "b"))?;
    let seen = state_until(journal.as_ref(), MACHINE, &tag, (state, "b.manifest"))?;
    same("the state", &seen, &[whole("a"), whole("b")].concat())
}

pub(super) fn acknowledged_survives(open: Reopen<'_>) -> Result<(), String> {
    let (tag, group) = (unique("remembered"), unique("group"));
    let journal = said("open", open())?;
    let appender = said("appender", journal.appender())?;
    let records = ["0", "1", "2"].map(|name| (Topic::WalletCommands, 0, record(&tag, name)));
    said("append_all", appender.append_all(records.into()))?;
    let mut feed = said("consume", journal.consume(Topic::WalletCommands, &group))?;
    let entries = read_until(feed.as_mut(), &tag, "2")?;
    let last = entries.last().map_or(0, |entry| entry.offset);
    said("acknowledge", feed.acknowledge(0, last - 1))?;
    drop((feed, appender, journal));

    let journal = said("open again", open())?;
    let mut feed = said("consume", journal.consume(Topic::WalletCommands, &group))?;
    let entries = read_until(feed.as_mut(), &tag, "2")?;
    same("what comes again", &names(&tag, &entries), &vec!["2".to_owned()])
}

pub(super) fn identity_survives(open: Reopen<'_>) -> Result<(), String> {
    let journal = said("open", open())?;
    let shard = said("acquire", journal.acquire(MACHINE, 1))?;
    let first = said("identity", shard.identity())?;
    drop((shard, journal));
    let journal = said("open again", open())?;
    let shard = said("acquire", journal.acquire(MACHINE, 1))?;
    same("the identity", &said("identity", shard.identity())?, &first)
}
