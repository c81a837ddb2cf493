//! The embedded log keeps the contract, and survives what happens to files.

#![expect(clippy::print_stdout, reason = "the names of the checks that passed are what a reader of the test's output wants")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use custos_journal::{Appender, EmbeddedJournal, Journal, JournalError, ShardLog, Start, Transaction, contract};
use custos_messages::{Headers, Machine, Record, Topic};
use proptest::prelude::*;

type Outcome = Result<(), Box<dyn Error>>;

const MACHINE: Machine = Machine::Accounts;
const STATE: Topic = Topic::State(MACHINE);
const FILE: &str = "journal.log";
const FRAME: &[u8] = b"\xC5frame\r\n";

fn open(dir: &Path) -> Result<EmbeddedJournal, JournalError> {
    let journal = EmbeddedJournal::open(dir)?;
    journal.provision(&contract::PROVISION)?;
    Ok(journal)
}

fn record(key: &str) -> Record {
    Record { key: key.into(), value: Some(format!("value of {key}").into()), headers: Headers::from([("ce_type", "t")]) }
}

fn commit(shard: &mut dyn ShardLog, name: &str) -> Result<(), JournalError> {
    shard.begin(record(&format!("{name}.header")))?;
    let state = vec![record(&format!("{name}.1"))];
    shard.commit(Transaction {
        outputs: vec![(Topic::Events, record(name))],
        state,
        manifest: record(&format!("{name}.manifest")),
    })
}

fn keys(journal: &dyn Journal, topic: Topic, partition: u32) -> Result<Vec<String>, JournalError> {
    let mut feed = journal.read(topic, partition, Start::Earliest)?;
    let entries = feed.poll(usize::MAX, Duration::ZERO)?;
    Ok(entries.iter().map(|entry| String::from_utf8_lossy(&entry.record.key).into_owned()).collect())
}

fn whole(names: &[&str]) -> Vec<String> {
    names.iter().flat_map(|name| ["header", "1", "manifest"].map(|part| format!("{name}.{part}"))).collect()
}

/// A closed log of the transactions `a` to `d`: its bytes, and where each frame begins.
fn closed_log(dir: &Path) -> Result<(Vec<u8>, Vec<usize>), Box<dyn Error>> {
    let journal = open(dir)?;
    let mut shard = journal.acquire(MACHINE, 0)?;
    for name in ["a", "b", "c", "d"] {
        commit(shard.as_mut(), name)?;
    }
    drop((shard, journal));
    let bytes = fs::read(dir.join(FILE))?;
    let frames: Vec<usize> =
        (0..bytes.len()).filter(|start| bytes.get(*start..).is_some_and(|rest| rest.starts_with(FRAME))).collect();
    assert_eq!(frames.len(), 5, "topics and four transactions");
    Ok((bytes, frames))
}

#[test]
fn it_keeps_the_contract() -> Outcome {
    let dir = tempfile::tempdir()?;
    let journal = open(dir.path())?;
    for (name, check) in contract::CHECKS {
        println!("{name}");
        check(&journal).map_err(|problem| format!("{name}: {problem}"))?;
    }
    Ok(())
}

#[test]
fn it_keeps_the_contract_a_second_time_on_the_same_log() -> Outcome {
    let dir = tempfile::tempdir()?;
    for _ in 0..2 {
        let journal = open(dir.path())?;
        for (name, check) in contract::CHECKS {
            check(&journal).map_err(|problem| format!("{name}: {problem}"))?;
        }
    }
    Ok(())
}

#[test]
fn it_keeps_the_contract_of_reopening() -> Outcome {
    let dir = tempfile::tempdir()?;
    for (name, check) in contract::REOPEN_CHECKS {
        println!("{name}");
        check(&|| Ok(Arc::new(open(dir.path())?))).map_err(|problem| format!("{name}: {problem}"))?;
    }
    Ok(())
}

#[test]
fn a_second_opener_is_refused_while_the_first_lives() -> Outcome {
    let dir = tempfile::tempdir()?;
    let journal = open(dir.path())?;
    let appender = journal.appender()?;
    assert!(matches!(EmbeddedJournal::open(dir.path()), Err(JournalError::Misconfigured(_))));
    drop(journal);
    assert!(matches!(EmbeddedJournal::open(dir.path()), Err(JournalError::Misconfigured(_))), "a handle is still there");
    drop(appender);
    EmbeddedJournal::open(dir.path())?;
    Ok(())
}

#[test]
fn a_file_cut_anywhere_opens_with_whole_transactions() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (bytes, frames) = closed_log(dir.path())?;
    let [_, _, _, third, last] = frames[..] else { unreachable!("five frames") };
    let content = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for length in (third..content + 16).step_by(11) {
        fs::write(dir.path().join(FILE), &bytes[..length])?;
        let journal = open(dir.path())?;
        let expected: &[&str] = match length {
            _ if length < last => &["a", "b"],
            _ if length < content => &["a", "b", "c"],
            _ => &["a", "b", "c", "d"],
        };
        let seen = keys(&journal, STATE, 0)?;
        // Up to the padding of the last frame either answer is right.
        let padded = (content..content + 8).contains(&length) && seen == whole(&["a", "b", "c"]);
        assert!(padded || seen == whole(expected), "cut to {length} bytes: {seen:?}");
        assert_eq!(keys(&journal, Topic::Events, 0)?.len() * 3, seen.len(), "cut to {length} bytes");
    }
    Ok(())
}

#[test]
fn a_last_transaction_with_any_wrong_byte_is_cut_and_the_log_goes_on() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (bytes, frames) = closed_log(dir.path())?;
    let last = frames[4];
    let content = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for wrong in (last..content).step_by(13) {
        let mut damaged = bytes.clone();
        damaged[wrong] ^= 0x10;
        fs::write(dir.path().join(FILE), &damaged)?;
        let journal = open(dir.path())?;
        assert_eq!(keys(&journal, STATE, 0)?, whole(&["a", "b", "c"]), "byte {wrong}");
        let mut shard = journal.acquire(MACHINE, 0)?;
        commit(shard.as_mut(), "e")?;
        drop((shard, journal));
        assert_eq!(keys(&open(dir.path())?, STATE, 0)?, whole(&["a", "b", "c", "e"]), "byte {wrong}");
    }
    Ok(())
}

#[test]
fn damage_to_what_was_acknowledged_refuses_to_open() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (bytes, frames) = closed_log(dir.path())?;
    for wrong in (0..frames[4]).step_by(17) {
        let mut damaged = bytes.clone();
        damaged[wrong] ^= 0x10;
        fs::write(dir.path().join(FILE), &damaged)?;
        let opened = EmbeddedJournal::open(dir.path()).map(drop);
        assert!(matches!(opened, Err(JournalError::Misconfigured(_))), "byte {wrong}: {opened:?}");
        assert_eq!(fs::read(dir.path().join(FILE))?, damaged, "the file must be left as it is");
    }
    Ok(())
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Append { partition: u32, count: u8 },
    Commit { partition: u32, records: u8 },
    Abort { partition: u32 },
    TakeOver { partition: u32 },
    CommitOfFormerOwner { partition: u32 },
    Acknowledge { partition: u32, share: u8 },
    Reopen,
    ReopenTorn { garbage: Vec<u8> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = 0..2_u32;
    let step = prop_oneof![
        4 => (partition.clone(), 1..4_u8).prop_map(|(partition, count)| Step::Append { partition, count }),
        4 => (partition.clone(), 0..4_u8).prop_map(|(partition, records)| Step::Commit { partition, records }),
        1 => partition.clone().prop_map(|partition| Step::Abort { partition }),
        1 => partition.clone().prop_map(|partition| Step::TakeOver { partition }),
        1 => partition.clone().prop_map(|partition| Step::CommitOfFormerOwner { partition }),
        2 => (partition, any::<u8>()).prop_map(|(partition, share)| Step::Acknowledge { partition, share }),
        1 => Just(Step::Reopen),
        1 => prop::collection::vec(any::<u8>(), 1..200).prop_map(|garbage| Step::ReopenTorn { garbage }),
    ];
    prop::collection::vec(step, 1..30)
}

/// What the log must say.
#[derive(Default)]
struct Model {
    written: BTreeMap<(Topic, u32), Vec<Record>>,
    acknowledged: BTreeMap<u32, u64>,
    number: u32,
}

impl Model {
    /// A record that there was never before, with one of few keys.
    fn fresh(&mut self) -> Record {
        self.number += 1;
        let value = (!self.number.is_multiple_of(5)).then(|| self.number.to_be_bytes().to_vec());
        Record { key: vec![u8::try_from(self.number % 7).unwrap_or(0)], value, headers: Headers::new() }
    }

    fn write(&mut self, topic: Topic, partition: u32, record: &Record) {
        self.written.entry((topic, partition)).or_default().push(record.clone());
    }

    fn transaction(&mut self, records: u8) -> (Record, Transaction) {
        let header = self.fresh();
        let outputs = (0..records).map(|_| (Topic::Events, self.fresh())).collect();
        let state = (0..records).map(|_| self.fresh()).collect();
        (header, Transaction { outputs, state, manifest: self.fresh() })
    }

    fn compare(&self, journal: &dyn Journal) -> Outcome {
        for ((topic, partition), expected) in &self.written {
            let mut feed = journal.read(*topic, *partition, Start::Earliest)?;
            let entries = feed.poll(usize::MAX, Duration::ZERO)?;
            let offsets: Vec<u64> = entries.iter().map(|entry| entry.offset).collect();
            let records: Vec<Record> = entries.into_iter().map(|entry| entry.record).collect();
            assert_eq!(&records, expected, "{topic:?} {partition}");
            assert_eq!(offsets, (0..u64::try_from(expected.len())?).collect::<Vec<_>>());
        }
        for partition in 0..2 {
            let written = self.written.get(&(STATE, partition)).cloned().unwrap_or_default();
            let newest =
                |place: usize, record: &Record| !written.iter().skip(place + 1).any(|later| later.key == record.key);
            // A tombstone stays for a while, also after its key was written again.
            let shown = |place: usize, record: &Record| record.value.is_none() || newest(place, record);
            let places = written.iter().enumerate().filter(|(place, record)| shown(*place, record));
            let expected: Vec<Record> = places.map(|(_, record)| record.clone()).collect();
            let mut restored = Vec::new();
            journal.acquire(MACHINE, partition)?.restore(&mut |entry| restored.push(entry.record))?;
            assert_eq!(restored, expected, "a restore of shard {partition}");
        }
        let mut feed = journal.consume(Topic::Inbox(MACHINE), "group")?;
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        loop {
            let entries = feed.poll(usize::MAX, Duration::ZERO)?;
            let Some(first) = entries.first() else { break };
            next.insert(first.partition, first.offset);
        }
        for partition in 0..2 {
            let end = self.written.get(&(Topic::Inbox(MACHINE), partition)).map_or(0, Vec::len);
            let acknowledged = self.acknowledged.get(&partition).copied().unwrap_or(0);
            let expected = (acknowledged < u64::try_from(end)?).then_some(acknowledged);
            assert_eq!(next.get(&partition).copied(), expected, "the group in partition {partition}");
        }
        Ok(())
    }
}

struct Life {
    journal: EmbeddedJournal,
    appender: Box<dyn Appender>,
    shards: [Box<dyn ShardLog>; 2],
}

impl Life {
    fn begin(dir: &Path) -> Result<Self, JournalError> {
        let journal = open(dir)?;
        let (appender, shards) = (journal.appender()?, [journal.acquire(MACHINE, 0)?, journal.acquire(MACHINE, 1)?]);
        Ok(Self { journal, appender, shards })
    }

    fn shard(&mut self, partition: u32) -> &mut dyn ShardLog {
        let [first, second] = &mut self.shards;
        if partition == 0 { first.as_mut() } else { second.as_mut() }
    }

    fn take(&mut self, model: &mut Model, step: &Step) -> Outcome {
        match step {
            Step::Append { partition, count } => {
                let records: Vec<Record> = (0..*count).map(|_| model.fresh()).collect();
                for record in &records {
                    model.write(Topic::Inbox(MACHINE), *partition, record);
                }
                let all = records.into_iter().map(|record| (Topic::Inbox(MACHINE), *partition, record));
                self.appender.append_all(all.collect())?;
            }
            Step::Commit { partition, records } => {
                let (header, transaction) = model.transaction(*records);
                model.write(STATE, *partition, &header);
                transaction.outputs.iter().for_each(|(topic, record)| model.write(*topic, *partition, record));
                let state = transaction.state.iter().chain([&transaction.manifest]);
                state.for_each(|record| model.write(STATE, *partition, record));
                self.shard(*partition).begin(header)?;
                self.shard(*partition).commit(transaction)?;
            }
            Step::Abort { partition } => {
                let (header, _) = model.transaction(1);
                self.shard(*partition).begin(header)?;
                self.shard(*partition).abort()?;
            }
            Step::TakeOver { partition } => {
                let taken = self.journal.acquire(MACHINE, *partition)?;
                let [first, second] = &mut self.shards;
                *(if *partition == 0 { first } else { second }) = taken;
            }
            Step::CommitOfFormerOwner { partition } => {
                let (header, transaction) = model.transaction(2);
                self.shard(*partition).begin(header)?;
                let owner = self.journal.acquire(MACHINE, *partition)?;
                let refused = self.shard(*partition).commit(transaction);
                assert!(matches!(refused, Err(JournalError::Fenced { .. })), "{refused:?}");
                let [first, second] = &mut self.shards;
                *(if *partition == 0 { first } else { second }) = owner;
            }
            Step::Acknowledge { partition, share } => {
                let end = model.written.get(&(Topic::Inbox(MACHINE), *partition)).map_or(0, Vec::len);
                let Some(offset) = (usize::from(*share) * end / 256).checked_sub(1) else { return Ok(()) };
                let offset = u64::try_from(offset)?;
                self.journal.consume(Topic::Inbox(MACHINE), "group")?.acknowledge(*partition, offset)?;
                let next = model.acknowledged.entry(*partition).or_default();
                *next = (*next).max(offset + 1);
            }
            Step::Reopen | Step::ReopenTorn { .. } => {}
        }
        Ok(())
    }
}

fn live(steps: &[Step]) -> Outcome {
    let dir = tempfile::tempdir()?;
    let mut model = Model::default();
    let mut life = Life::begin(dir.path())?;
    for step in steps {
        if matches!(step, Step::Reopen | Step::ReopenTorn { .. }) {
            model.compare(&life.journal)?;
            drop(life);
            if let Step::ReopenTorn { garbage } = step {
                let mut bytes = fs::read(dir.path().join(FILE))?;
                bytes.extend(garbage);
                fs::write(dir.path().join(FILE), bytes)?;
            }
            life = Life::begin(dir.path())?;
        } else {
            life.take(&mut model, step)?;
        }
    }
    model.compare(&life.journal)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_random_life_says_what_a_simple_model_says(steps in steps()) {
        let lived = live(&steps);
        prop_assert!(lived.is_ok(), "{lived:?}");
    }
}
