//! A copy of the log to which somebody did something, with no keys, with the keys of the event log, and with all keys and the whole
//! log: each is found, and named by its partition and place; the last by a head alone that was noted before.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use custos_domain::Timestamp;
use custos_e2e::{Hand, LogCopy, World};
use custos_journal::Entry;
use custos_messages::events::Event;
use custos_messages::{Chained, Keyring, Topic};
use custos_runtime::audit::Head;
use futures::future::try_join_all;

use crate::audit::{Earlier, trusting};
use crate::rewritten;

/// A copy on disk, and what an audit of it must say.
pub struct Case {
    pub name: &'static str,
    pub log: PathBuf,
    pub trusts: Vec<String>,
    /// None if it must be proven.
    pub finding: Option<String>,
    /// What it must say besides.
    pub says: &'static str,
}

/// The event log of one partition as it is, and where it is tampered with.
struct Original {
    copy: LogCopy,
    partition: u32,
    entries: Vec<Entry>,
    events: Vec<Event>,
    /// The record that is tampered with, well before the trusted head's.
    at: usize,
    noted: Head,
}

type Records = fn(&Original, &Keyring) -> anyhow::Result<(Vec<Entry>, String)>;
type Events = fn(&mut Vec<Event>, usize) -> anyhow::Result<()>;

/// What somebody without keys does, and what somebody who has them does to a single record.
const RECORDS: [(&str, Records); 6] = [
    ("altered", altered),
    ("removed", removed),
    ("reordered", reordered),
    ("cut-off", cut_off),
    ("inserted-with-a-seal", inserted_with_a_seal),
    ("replaced-with-a-seal", replaced_with_a_seal),
];
/// What somebody with the keys does, who then chains and seals everything anew.
const EVENTS: [(&str, Events); 4] = [
    ("altered-and-chained", |events, at| {
        events.get_mut(at).context("an event")?.at = Timestamp(1);
        Ok(())
    }),
    ("removed-and-chained", |events, at| {
        events.remove(at);
        Ok(())
    }),
    ("inserted-and-chained", |events, at| {
        events.insert(at, events.get(at).context("an event")?.clone());
        Ok(())
    }),
    ("reordered-and-chained", |events, at| {
        events.swap(at, at + 1);
        Ok(())
    }),
];

pub async fn what_was_done_to_a_copy_is_found_and_named(world: &mut World, earlier: &Earlier) -> anyhow::Result<()> {
    let folder = world.installation.folder().join("copies");
    let made = |hand: &Hand| {
        let mut made = cases(hand, earlier, &folder)?;
        made.extend(rewritten::cases(hand, earlier, &folder)?);
        Ok(made)
    };
    let cases = world.in_the_log(made).await?;
    let count = cases.len();
    try_join_all(cases.iter().map(|case| holds(world, case))).await?;
    eprintln!("{count} audits of copies");
    Ok(())
}

async fn holds(world: &World, case: &Case) -> anyhow::Result<()> {
    let audit = world.installation.audit_of(&case.log, &trusting(&case.trusts)).await?;
    let said = format!("{}: exit code {:?}\n{}{}", case.name, audit.code, audit.out, audit.err);
    ensure!(audit.out.contains(case.says), "`{}` is expected: {said}", case.says);
    match &case.finding {
        None => ensure!(audit.code == Some(0) && audit.out.ends_with("audit: proven\n"), "nothing is wrong: {said}"),
        Some(finding) => {
            ensure!(audit.code == Some(1) && audit.out.ends_with("audit: not proven\n"), "{said}");
            ensure!(audit.out.contains(finding), "`{finding}` is expected: {said}");
            ensure!(audit.out.matches("FOUND").count() == 1, "nothing else is wrong: {said}");
        }
    }
    Ok(())
}

fn cases(hand: &Hand, earlier: &Earlier, folder: &std::path::Path) -> anyhow::Result<Vec<Case>> {
    let original = Original::read(hand, earlier)?;
    let mut cases = Vec::new();
    let mut add = |name, entries: Vec<Entry>, trusts: &[String], finding, says| -> anyhow::Result<()> {
        let log = folder.join(format!("{name}-{}", cases.len()));
        let mut copy = original.copy.clone();
        *copy.records(Topic::Events, original.partition)? = entries;
        copy.write(&log)?;
        cases.push(Case { name, log, trusts: trusts.to_vec(), finding, says });
        Ok(())
    };
    let named = |finding: String| Some(format!("events/{}: FOUND: {finding}", original.partition));
    add("untouched", original.entries.clone(), &[], None, "no trusted head was given")?;
    add("untouched", original.entries.clone(), &earlier.heads, None, "holds the trusted head")?;
    let (entries, says) =
        (original.with_a_foreign_record(hand.keyring())?, "2 records are no sealed events and are put aside");
    add("inserted", entries, &[], None, says)?;
    for (name, tamper) in RECORDS {
        let (entries, finding) = tamper(&original, hand.keyring())?;
        add(name, entries, &[], named(finding), "")?;
    }
    for (name, tamper) in EVENTS {
        let mut events = original.events.clone();
        tamper(&mut events, original.at)?;
        let entries = original.chained(events, hand.keyring())?;
        let unlike_the_shard = original.unlike_the_shard(&entries)?;
        let (hash, Head { sequence, hash: noted, .. }) = (hash_at(&entries, original.noted.sequence)?, original.noted);
        let rewritten = format!(
            "offset {}: event {sequence} has hash {hash}, and had {} when it was noted: history was rewritten",
            sequence - 1,
            hex::encode(noted.0)
        );
        add(name, entries.clone(), &[], named(unlike_the_shard), "")?;
        add(name, entries, &earlier.heads, named(rewritten), "")?;
    }
    Ok(cases)
}

impl Original {
    fn read(hand: &Hand, earlier: &Earlier) -> anyhow::Result<Self> {
        let mut copy = LogCopy::of(hand)?;
        let heads = earlier.heads.iter().map(|head| Ok(head.parse()?)).collect::<anyhow::Result<Vec<Head>>>()?;
        let noted = heads.into_iter().max_by_key(|head| head.sequence).context("a head")?;
        let entries = copy.records(Topic::Events, noted.partition)?.clone();
        let mut events = Vec::new();
        for (expected, entry) in (1..).zip(&entries) {
            let place = Chained::read(&entry.record)?;
            ensure!(place.sequence == expected, "event {} stands where {expected} must", place.sequence);
            events.push(hand.keyring().open_message::<Event>(Topic::Events, &entry.record)?.1);
        }
        ensure!(events.len() > usize::try_from(noted.sequence)? + 3, "something was told after the head was noted");
        let at = usize::try_from(noted.sequence)? / 2;
        Ok(Self { copy, partition: noted.partition, entries, events, at, noted })
    }

    fn entry(&self, at: usize) -> anyhow::Result<&Entry> {
        self.entries.get(at).context("a record")
    }

    /// The events chained and sealed by somebody who has the keys, as the shard would have told them.
    fn chained(&self, events: Vec<Event>, keyring: &Keyring) -> anyhow::Result<Vec<Entry>> {
        let (mut previous, mut sequences, mut entries) = (Chained::GENESIS, BTreeMap::new(), Vec::new());
        for (sequence, mut event) in (1..).zip(events) {
            let own: &mut u64 = sequences.entry(event.account).or_default();
            *own += 1;
            event.sequence = *own;
            let place = Chained::place(&event, self.partition, sequence, previous);
            previous = place.hash;
            let record = keyring.seal_event(&event, &place, None);
            entries.push(Entry { record, ..self.entry(0)?.clone() });
        }
        Ok(entries)
    }

    /// Without a noted head it is the shard's state that says how the log must end.
    fn unlike_the_shard(&self, entries: &[Entry]) -> anyhow::Result<String> {
        let (last, is) = (self.entries.len(), entries.len());
        if is < last {
            return Ok(format!("the log ends at event {is}, and the shard's state says that it has said event {last}"));
        }
        let sequence = u64::try_from(last)?;
        let (found, right) = (hash_at(entries, sequence)?, hash_at(&self.entries, sequence)?);
        Ok(format!("offset {}: event {last} has hash {found}, and {right} by the shard's state", last - 1))
    }

    /// One record that nobody sealed, and one that was sealed for another place.
    fn with_a_foreign_record(&self, keyring: &Keyring) -> anyhow::Result<Vec<Entry>> {
        let mut entries = self.entries.clone();
        let mut unsealed = self.entry(self.at)?.clone();
        unsealed.record.headers.clear();
        let event = self.events.get(self.at).context("an event")?;
        let place = Chained::read(&self.entry(self.at)?.record)?;
        let elsewhere = Chained::place(event, self.partition + 1, place.sequence, place.previous);
        let record = keyring.seal_event(event, &elsewhere, None);
        let foreign = Entry { record, ..unsealed.clone() };
        entries.splice(self.at..self.at, [unsealed, foreign]);
        Ok(entries)
    }
}

pub fn hash_at(entries: &[Entry], sequence: u64) -> anyhow::Result<String> {
    let entry = usize::try_from(sequence)?.checked_sub(1).and_then(|at| entries.get(at));
    Ok(hex::encode(Chained::read(&entry.context("an event")?.record)?.hash.0))
}

fn altered(original: &Original, _: &Keyring) -> anyhow::Result<(Vec<Entry>, String)> {
    let mut entries = original.entries.clone();
    let value = entries.get_mut(original.at).and_then(|entry| entry.record.value.as_mut()).context("a value")?;
    *value.last_mut().context("a byte")? ^= 1;
    Ok((entries, format!("offset {}: not an event that was sealed", original.at)))
}

fn removed(original: &Original, _: &Keyring) -> anyhow::Result<(Vec<Entry>, String)> {
    let mut entries = original.entries.clone();
    entries.remove(original.at);
    Ok((entries, missing(original.at)))
}

fn reordered(original: &Original, _: &Keyring) -> anyhow::Result<(Vec<Entry>, String)> {
    let mut entries = original.entries.clone();
    entries.swap(original.at, original.at + 1);
    Ok((entries, missing(original.at)))
}

fn missing(at: usize) -> String {
    format!("offset {at}: event {} stands where {} must: events were removed or moved", at + 2, at + 1)
}

fn cut_off(original: &Original, _: &Keyring) -> anyhow::Result<(Vec<Entry>, String)> {
    let mut entries = original.entries.clone();
    entries.truncate(original.entries.len() - 2);
    let finding = original.unlike_the_shard(&entries)?;
    Ok((entries, finding))
}

/// Another event under the number of one that stands there.
fn sealed_again(original: &Original, keyring: &Keyring) -> anyhow::Result<Entry> {
    let entry = original.entry(original.at)?;
    let place = Chained::read(&entry.record)?;
    let event = Event { at: Timestamp(1), ..original.events.get(original.at).context("an event")?.clone() };
    let place = Chained::place(&event, original.partition, place.sequence, place.previous);
    Ok(Entry { record: keyring.seal_event(&event, &place, None), ..entry.clone() })
}

fn inserted_with_a_seal(original: &Original, keyring: &Keyring) -> anyhow::Result<(Vec<Entry>, String)> {
    let mut entries = original.entries.clone();
    let after = original.at + 1;
    entries.insert(after, sealed_again(original, keyring)?);
    Ok((entries, format!("offset {after}: a second, different event {after}")))
}

fn replaced_with_a_seal(original: &Original, keyring: &Keyring) -> anyhow::Result<(Vec<Entry>, String)> {
    let mut entries = original.entries.clone();
    *entries.get_mut(original.at).context("a record")? = sealed_again(original, keyring)?;
    let next = original.at + 1;
    Ok((entries, format!("offset {next}: event {} follows another event than the one before it", next + 1)))
}
