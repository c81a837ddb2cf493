//! What every log must do, as checks that run against any [`Journal`]: the Kafka, the embedded and the simulated one pass the same list.
//!
//! Each check writes under names of its own and begins behind what the log holds already, so the list may run again and again
//! on one long-lived cluster; it expects nobody else to write there meanwhile. A check says nothing about how fast a log is,
//! but that a waiting reader is woken. The topics must exist: `journal.provision(&contract::PROVISION)`.

mod groups;
mod reading;
mod reopening;
mod restoring;
mod transactions;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use custos_messages::{Headers, Machine, Record, Topic};

use crate::{Entry, Feed, Journal, JournalError, Provision, ShardLog, Start, Transaction};

/// One check: `Err` says what the log did instead.
pub type Check = fn(&dyn Journal) -> Result<(), String>;

/// Opens the same log anew; the former one and all its handles have been dropped.
pub type Reopen<'a> = &'a dyn Fn() -> Result<Arc<dyn Journal>, JournalError>;

/// One check that closes the log and opens it again.
pub type ReopenCheck = fn(Reopen<'_>) -> Result<(), String>;

/// The topics that the checks expect.
pub const PROVISION: Provision = Provision { partitions: 2, gateways: 2, replication: 1 };

/// Every check that needs one open log.
pub const CHECKS: &[(&str, Check)] = &[
    ("provisioning twice changes nothing", transactions::provisioning_twice_changes_nothing),
    ("a committed transaction is visible whole, in order, manifest last", transactions::committed_is_whole_and_in_order),
    ("an aborted or dropped transaction is never visible", transactions::aborted_is_never_visible),
    ("an open transaction is invisible until its commit", transactions::open_is_invisible),
    ("a former owner cannot commit", transactions::former_owner_is_fenced),
    ("an acquisition aborts the open transaction of the former owner", transactions::acquisition_aborts_what_is_open),
    ("a transaction touches its own partition only", transactions::touches_its_own_partition_only),
    ("a record that is too large is refused and nothing is written", transactions::too_large_is_refused),
    ("a restore shows the newest values in order", transactions::restore_shows_the_newest),
    ("a shard names the same log each time", transactions::identity_is_stable),
    ("a restore from a place shows the rest, in order", restoring::restore_from_a_place_shows_the_rest),
    (
        "a restore from a place that is not there shows nothing and says so",
        restoring::restore_from_a_place_that_is_not_there,
    ),
    ("a restore from a place shows the newest values", restoring::restore_from_a_place_shows_the_newest),
    ("partitions are followed from their places", restoring::partitions_are_followed_from_their_places),
    ("the identity needs no shard", restoring::identity_needs_no_shard),
    ("the inbox is read in order, from any offset", reading::inbox_in_order_from_any_offset),
    ("records carry the log's time", reading::records_carry_time),
    ("an appender keeps its order and tells offsets", reading::appender_keeps_order),
    ("concurrent appends all arrive once", reading::concurrent_appends_arrive_once),
    ("a reader begins at the earliest, the latest or an offset", reading::reader_begins_where_it_is_told),
    ("bounds follow what is written", reading::bounds_follow),
    ("a record of the inbox is found by its offset", reading::inbox_at_finds),
    ("a record survives unchanged: key, value, headers", reading::records_survive_unchanged),
    ("a waiting shard is woken by a record", reading::waiting_shard_is_woken),
    ("a waiting reader is woken by a record", reading::waiting_reader_is_woken),
    ("what a group did not acknowledge comes again, what it did does not", groups::unacknowledged_comes_again),
    ("members of a group share the partitions", groups::members_share_partitions),
    ("groups do not disturb each other", groups::groups_are_independent),
    ("members of a machine share its shards and inherit from who leaves", groups::shards_are_shared_and_inherited),
];

/// Every check that opens the log twice.
pub const REOPEN_CHECKS: &[(&str, ReopenCheck)] = &[
    ("what was committed and appended is there after reopening, what was open is not", reopening::committed_survives),
    ("what a group acknowledged stays so after reopening", reopening::acknowledged_survives),
    ("the log has the same identity after reopening", reopening::identity_survives),
];

/// How long a check waits for what must come. Generous: groups of real brokers take seconds to form.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a check looks for what must not come.
const GLANCE: Duration = Duration::from_millis(300);

/// A name that no other check or run uses.
fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{what}-{nanos:x}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A record `name` of the run `tag`, which says what it is in its key.
fn record(tag: &str, name: &str) -> Record {
    let headers = Headers::from([("ce_type", "contract"), ("tag", tag)]);
    Record { key: format!("{tag}/{name}").into_bytes(), value: Some(name.as_bytes().to_vec()), headers }
}

/// The names of the records of the run `tag`, in order.
fn names(tag: &str, entries: &[Entry]) -> Vec<String> {
    entries.iter().filter_map(|entry| name(tag, entry)).collect()
}

/// The name of a record of the run `tag`; `None` if it is another's.
fn name(tag: &str, entry: &Entry) -> Option<String> {
    let key = std::str::from_utf8(&entry.record.key).ok()?;
    Some(key.strip_prefix(tag)?.strip_prefix('/')?.to_owned())
}

/// Commits the transaction `name` of the run `tag`: records `name.header`, `name.1`, `name.2`, `name.manifest`, and the event
/// `name.event`.
fn commit(shard: &mut dyn ShardLog, tag: &str, name: &str) -> Result<(), JournalError> {
    shard.begin(record(tag, &format!("{name}.header")))?;
    finish(shard, tag, name)
}

/// The second half of [`commit`].
fn finish(shard: &mut dyn ShardLog, tag: &str, name: &str) -> Result<(), JournalError> {
    shard.commit(Transaction {
        outputs: vec![(Topic::Events, record(tag, &format!("{name}.event")))],
        state: vec![record(tag, &format!("{name}.1")), record(tag, &format!("{name}.2"))],
        manifest: record(tag, &format!("{name}.manifest")),
    })
}

/// The state records that [`commit`] writes.
fn whole(name: &str) -> Vec<String> {
    ["header", "1", "2", "manifest"].into_iter().map(|part| format!("{name}.{part}")).collect()
}

/// Reads a feed until the record `last` of the run `tag` has come.
fn read_until(feed: &mut dyn Feed, tag: &str, last: &str) -> Result<Vec<Entry>, String> {
    let deadline = Instant::now() + PATIENCE;
    let mut entries = Vec::new();
    while !entries.iter().any(|entry| name(tag, entry).as_deref() == Some(last)) {
        ensure(Instant::now() < deadline, || format!("`{last}` did not come; these did: {:?}", names(tag, &entries)))?;
        entries.extend(said("poll", feed.poll(1_000, GLANCE))?);
    }
    Ok(entries)
}

/// The committed state records of the run `tag` from `start` up to `last`.
fn state_until(
    journal: &dyn Journal,
    machine: Machine,
    tag: &str,
    (start, last): (u64, &str),
) -> Result<Vec<String>, String> {
    let mut feed = said("read", journal.read(Topic::State(machine), 0, Start::At(start)))?;
    Ok(names(tag, &read_until(feed.as_mut(), tag, last)?))
}

/// What a restore shows of the run `tag`.
fn restored(shard: &mut dyn ShardLog, tag: &str) -> Result<Vec<String>, String> {
    let mut entries = Vec::new();
    said("restore", shard.restore(&mut |entry| entries.push(entry)))?;
    let rising = entries.windows(2).all(|pair| matches!(pair, [a, b] if a.offset < b.offset));
    ensure(rising, || "a restore is out of order".to_owned())?;
    Ok(names(tag, &entries))
}

fn end(journal: &dyn Journal, topic: Topic, partition: u32) -> Result<u64, String> {
    said("bounds", journal.bounds(topic, partition)).map(|(_, next)| next)
}

fn said<T>(operation: &str, result: Result<T, JournalError>) -> Result<T, String> {
    result.map_err(|error| format!("{operation}: {error:?}"))
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    ensure(found == expected, || format!("{what}: found {found:?}, expected {expected:?}"))
}

fn is_fenced<T>(what: &str, result: &Result<T, JournalError>) -> Result<(), String> {
    match result {
        Err(JournalError::Fenced { .. }) => Ok(()),
        Err(error) => Err(format!("{what}: {error:?} instead of Fenced")),
        Ok(_) => Err(format!("{what}: done instead of Fenced")),
    }
}
