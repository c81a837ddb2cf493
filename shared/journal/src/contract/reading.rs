//! Appending and reading: order, offsets, time, beginnings, waking.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use custos_messages::{Headers, Machine, Record, Topic};

use super::{GLANCE, PATIENCE, end, ensure, name, names, read_until, record, said, same, unique};
use crate::{Entry, Journal, JournalError, ShardLog, Start};

const MACHINE: Machine = Machine::Treasury;
const INBOX: Topic = Topic::Inbox(MACHINE);
/// A waiting reader must be back this soon after a record; far below [`PATIENCE`], far above what any log needs.
const PROMPT: Duration = Duration::from_secs(5);

/// Appends `count` records of the run `tag` to a partition; their names are their numbers.
fn fill(journal: &dyn Journal, topic: Topic, tag: &str, count: usize) -> Result<Vec<String>, String> {
    let appender = said("appender", journal.appender())?;
    let expected: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    let records = expected.iter().map(|number| (topic, 0, record(tag, number))).collect();
    said("append_all", appender.append_all(records))?;
    Ok(expected)
}

/// Polls a shard until `count` records of the run `tag` have come.
fn take(shard: &mut dyn ShardLog, tag: &str, count: usize) -> Result<Vec<Entry>, String> {
    let deadline = Instant::now() + PATIENCE;
    let mut entries: Vec<Entry> = Vec::new();
    while entries.len() < count {
        ensure(Instant::now() < deadline, || format!("only {:?} came", names(tag, &entries)))?;
        let more = said("poll", shard.poll(3, GLANCE))?;
        ensure(more.len() <= 3, || format!("{} records instead of at most 3", more.len()))?;
        entries.extend(more);
    }
    Ok(entries)
}

pub(super) fn inbox_in_order_from_any_offset(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("order");
    let start = end(journal, INBOX, 0)?;
    let expected = fill(journal, INBOX, &tag, 20)?;
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    said("seek", shard.seek(start))?;
    let entries = take(shard.as_mut(), &tag, 20)?;
    same("the inbox", &names(&tag, &entries), &expected)?;
    let rising = entries.windows(2).all(|pair| matches!(pair, [a, b] if a.offset < b.offset));
    ensure(rising && entries.iter().all(|entry| entry.partition == 0), || format!("offsets or partitions: {entries:?}"))?;
    let last = entries.last().map_or(0, |entry| entry.offset);
    ensure(shard.position() > last, || format!("position {} is not behind {last}", shard.position()))?;
    same("behind the end", &said("poll", shard.poll(3, GLANCE))?, &Vec::new())?;
    let (_, later) = entries.split_at_checked(13).unwrap_or_default();
    said("seek", shard.seek(later.first().map_or(0, |entry| entry.offset)))?;
    same("from the middle", &take(shard.as_mut(), &tag, 7)?, &later.to_vec())
}

pub(super) fn records_carry_time(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("time");
    let start = end(journal, INBOX, 0)?;
    fill(journal, INBOX, &tag, 5)?;
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    said("seek", shard.seek(start))?;
    let times: Vec<_> = take(shard.as_mut(), &tag, 5)?.iter().map(|entry| entry.at.map(|at| at.0)).collect();
    // After 2020, before 2100.
    let plausible = times.iter().all(|at| at.is_some_and(|at| (1_577_836_800_000..4_102_444_800_000).contains(&at)));
    ensure(plausible && times.is_sorted(), || format!("times {times:?}"))
}

pub(super) fn appender_keeps_order(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("appender");
    let start = end(journal, Topic::BlockchainCommands, 0)?;
    let mut expected = fill(journal, Topic::BlockchainCommands, &tag, 50)?;
    let appender = said("appender", journal.appender())?;
    let offset = said("append", appender.append(Topic::BlockchainCommands, 0, record(&tag, "last")))?;
    expected.push("last".to_owned());
    let mut feed = said("read", journal.read(Topic::BlockchainCommands, 0, Start::At(start)))?;
    let entries = read_until(feed.as_mut(), &tag, "last")?;
    same("the records", &names(&tag, &entries), &expected)?;
    same("the offset of the last", &entries.last().map(|entry| entry.offset), &Some(offset))
}

pub(super) fn concurrent_appends_arrive_once(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("concurrent");
    let start = end(journal, Topic::Quarantine, 0)?;
    let appender = said("appender", journal.appender())?;
    let (appender, tag) = (appender.as_ref(), tag.as_str());
    let writer = |thread: usize| -> Result<Vec<(u64, String)>, String> {
        let one = |number: usize| {
            let name = format!("{thread}.{number}");
            let offset = said("append", appender.append(Topic::Quarantine, 0, record(tag, &name)))?;
            Ok((offset, name))
        };
        (0..20).map(one).collect()
    };
    let mut told = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || writer(thread))).collect();
        let join =
            |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().map_err(|_| "a writer panicked".to_owned())?;
        threads.into_iter().map(join).collect::<Result<Vec<Vec<_>>, String>>().map(|lists| lists.concat())
    })?;
    said("append", appender.append(Topic::Quarantine, 0, record(tag, "last")))?;
    told.sort();
    let mut feed = said("read", journal.read(Topic::Quarantine, 0, Start::At(start)))?;
    let entries = read_until(feed.as_mut(), tag, "last")?;
    let found: Vec<_> = entries.iter().filter_map(|entry| Some((entry.offset, name(tag, entry)?))).collect();
    same("offsets and names", &found.split_last().map(|(_, others)| others.to_vec()), &Some(told))
}

pub(super) fn reader_begins_where_it_is_told(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("begin");
    let topic = Topic::WalletCommands;
    fill(journal, topic, &tag, 3)?;
    let mut latest = said("read", journal.read(topic, 0, Start::Latest))?;
    let appender = said("appender", journal.appender())?;
    let offset = said("append", appender.append(topic, 0, record(&tag, "last")))?;
    let seen = read_until(latest.as_mut(), &tag, "last")?;
    same("from the latest", &names(&tag, &seen), &vec!["last".to_owned()])?;
    let mut at = said("read", journal.read(topic, 0, Start::At(offset - 1)))?;
    let seen = read_until(at.as_mut(), &tag, "last")?;
    same("from an offset", &names(&tag, &seen), &vec!["2".to_owned(), "last".to_owned()])?;
    let mut earliest = said("read", journal.read(topic, 0, Start::Earliest))?;
    let seen = read_until(earliest.as_mut(), &tag, "last")?;
    let (first, _) = said("bounds", journal.bounds(topic, 0))?;
    same("the first offset", &seen.first().map(|entry| entry.offset), &Some(first))?;
    same("from the earliest", &names(&tag, &seen).len(), &4)
}

pub(super) fn bounds_follow(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("bounds");
    let (before, other) = (end(journal, Topic::Addresses, 0)?, end(journal, Topic::Addresses, 1)?);
    fill(journal, Topic::Addresses, &tag, 3)?;
    same("the next offset", &end(journal, Topic::Addresses, 0)?, &(before + 3))?;
    same("the other partition", &end(journal, Topic::Addresses, 1)?, &other)?;
    let unknown = journal.bounds(Topic::Addresses, 1_000);
    ensure(unknown.is_err(), || format!("a partition that does not exist has bounds: {unknown:?}"))
}

pub(super) fn inbox_at_finds(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("at");
    let start = end(journal, INBOX, 0)?;
    fill(journal, INBOX, &tag, 3)?;
    let mut shard = said("acquire", journal.acquire(MACHINE, 0))?;
    said("seek", shard.seek(start))?;
    let entries = take(shard.as_mut(), &tag, 3)?;
    said("seek", shard.seek(start))?;
    for entry in &entries {
        same("the record", &said("inbox_at", shard.inbox_at(entry.offset))?.as_ref(), &Some(entry))?;
    }
    let behind = entries.last().map_or(0, |entry| entry.offset + 1);
    same("behind the end", &said("inbox_at", shard.inbox_at(behind))?, &None)?;
    same("the place of the shard is left alone", &take(shard.as_mut(), &tag, 3)?, &entries)
}

pub(super) fn records_survive_unchanged(journal: &dyn Journal) -> Result<(), String> {
    let tag = unique("unchanged");
    let topic = Topic::Addresses;
    let start = end(journal, topic, 1)?;
    let headers = Headers::from([("b", [0, 255].as_slice()), ("a", b"".as_slice()), ("b", b"again".as_slice())]);
    let full = Record { value: Some((0..=255).collect()), headers, ..record(&tag, "full") };
    let empty = Record { value: Some(Vec::new()), headers: Headers::new(), ..record(&tag, "empty") };
    let gone = Record { value: None, ..record(&tag, "gone") };
    let expected = vec![full, empty, gone];
    let appender = said("appender", journal.appender())?;
    said("append_all", appender.append_all(expected.iter().map(|record| (topic, 1, record.clone())).collect()))?;
    let mut feed = said("read", journal.read(topic, 1, Start::At(start)))?;
    let entries = read_until(feed.as_mut(), &tag, "gone")?;
    same("the records", &entries.into_iter().map(|entry| entry.record).collect(), &expected)
}

pub(super) fn waiting_shard_is_woken(journal: &dyn Journal) -> Result<(), String> {
    let mut shard = said("acquire", journal.acquire(MACHINE, 1))?;
    said("seek", shard.seek(end(journal, INBOX, 1)?))?;
    woken(journal, INBOX, &mut |wait| shard.poll(10, wait))
}

pub(super) fn waiting_reader_is_woken(journal: &dyn Journal) -> Result<(), String> {
    let mut feed = said("read", journal.read(Topic::GatewayReplies, 1, Start::Latest))?;
    woken(journal, Topic::GatewayReplies, &mut |wait| feed.poll(10, wait))
}

/// Lets `poll` wait in a thread of its own, appends to partition 1, and looks how long the record took.
fn woken(
    journal: &dyn Journal,
    topic: Topic,
    poll: &mut (dyn FnMut(Duration) -> Result<Vec<Entry>, JournalError> + Send),
) -> Result<(), String> {
    let tag = unique("woken");
    let appender = said("appender", journal.appender())?;
    let (ready, is_ready) = channel();
    let (entries, took) = std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            // A first, short poll, so that a connection is there when the clock starts.
            let first = poll(GLANCE);
            ready.send(()).map_err(|_| "nobody waits for the reader".to_owned())?;
            let deadline = Instant::now() + PATIENCE;
            let mut entries = said("poll", first)?;
            while entries.is_empty() && Instant::now() < deadline {
                entries = said("poll", poll(PATIENCE))?;
            }
            Ok::<_, String>((entries, Instant::now()))
        });
        is_ready.recv().map_err(|_| "the reader has ended".to_owned())?;
        said("append", appender.append(topic, 1, record(&tag, "bell")))?;
        let rung = Instant::now();
        let (entries, back) = waiting.join().map_err(|_| "the reader panicked".to_owned())??;
        Ok::<_, String>((entries, back.saturating_duration_since(rung)))
    })?;
    same("what came", &names(&tag, &entries), &vec!["bell".to_owned()])?;
    ensure(took < PROMPT, || format!("the reader came back after {took:?}"))
}
