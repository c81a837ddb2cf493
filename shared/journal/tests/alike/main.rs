//! The simulated log and Kafka do the same with the same calls: random scripts run on both, and what can be seen is compared.
//!
//! Left out, because Kafka itself leaves it open: offsets behind a transaction that was not committed (whether its header had left
//! already is a matter of luck), and how soon a marker stands.

#![expect(clippy::print_stdout, reason = "what was compared is what a reader of the test's output wants")]

mod late;

use std::error::Error;
use std::time::{Duration, Instant};

use custos_journal::{
    Appender, Entry, Feed, Journal, JournalError, KafkaJournal, KafkaSettings, Reach, ShardLog, SimulatedCluster,
    SimulatedSettings, Start, Transaction, contract,
};
use custos_messages::{Headers, Machine, Record, Topic};
use custos_parts::{require, start_kafka};

const MACHINE: Machine = Machine::Treasury;
const INBOX: Topic = Topic::Inbox(MACHINE);
const STATE: Topic = Topic::State(MACHINE);
const SCRIPTS: u64 = 10;
const STEPS: u64 = 24;
const PATIENCE: Duration = Duration::from_secs(60);

type Failure = Box<dyn Error>;

/// What a script does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Append(u64),
    Commit {
        outputs: u64,
        state: u64,
    },
    Begin,
    Finish,
    Abort,
    Acquire,
    /// A former owner tries to commit.
    Former,
    Restore,
    RestoreFrom(u64),
    Poll(u64),
    InboxAt(u64),
}

/// The script of a seed: the same for both logs.
fn script(seed: u64) -> Vec<Step> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut below = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % bound
    };
    let mut step = || match below(16) {
        0..3 => Step::Append(1 + below(3)),
        3..6 => Step::Commit { outputs: below(3), state: below(4) },
        6 => Step::Begin,
        7 => Step::Finish,
        8 => Step::Abort,
        9 => Step::Acquire,
        10 => Step::Former,
        11 => Step::Restore,
        12 => Step::RestoreFrom(below(20)),
        13 | 14 => Step::Poll(below(12)),
        _ => Step::InboxAt(below(12)),
    };
    (0..STEPS).map(|_| step()).collect()
}

struct Stage<'a> {
    journal: &'a dyn Journal,
    appender: Box<dyn Appender>,
    owner: Box<dyn ShardLog>,
    former: Option<Box<dyn ShardLog>>,
    tag: String,
    written: u64,
    appended: u64,
    /// Where this script's records begin: inbox, state, events.
    base: [u64; 3],
    /// Whether offsets are still the same on every log.
    exact: bool,
    open: bool,
}

impl<'a> Stage<'a> {
    fn new(journal: &'a dyn Journal, tag: String) -> Result<Self, Failure> {
        let owner = journal.acquire(MACHINE, 0)?;
        let start = |topic| journal.bounds(topic, 0).map(|(_, next)| next);
        let base = [start(INBOX)?, start(STATE)?, start(Topic::Events)?];
        let appender = journal.appender()?;
        Ok(Self { journal, appender, owner, former: None, tag, written: 0, appended: 0, base, exact: true, open: false })
    }

    fn record(&mut self, what: &str) -> Record {
        self.written += 1;
        let key = format!("{}/{what}-{}", self.tag, self.written);
        Record { key: key.clone().into(), value: Some(key.into()), headers: Headers::new() }
    }

    fn transaction(&mut self, outputs: u64, state: u64) -> Transaction {
        let outputs = (0..outputs).map(|_| (Topic::Events, self.record("event"))).collect();
        let state = (0..state).map(|_| self.record("state")).collect();
        Transaction { outputs, state, manifest: self.record("manifest") }
    }

    fn keys(&self, entries: &[Entry], base: u64) -> String {
        let ours = entries.iter().filter(|entry| entry.record.key.starts_with(format!("{}/", self.tag).as_bytes()));
        let shown = ours.map(|entry| {
            let key = String::from_utf8_lossy(&entry.record.key).into_owned();
            let key = key.rsplit('/').next().unwrap_or_default().to_owned();
            if self.exact { format!("{key}@{}", entry.offset - base) } else { key }
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    fn step(&mut self, step: Step) -> Result<String, Failure> {
        match step {
            Step::Append(count) => {
                let mut offsets = Vec::new();
                for _ in 0..count {
                    let record = self.record("input");
                    offsets.push(self.appender.append(INBOX, 0, record)? - self.base[0]);
                }
                self.appended += count;
                Ok(format!("{offsets:?}"))
            }
            Step::Commit { outputs, state } => {
                let begun = self.begin();
                let transaction = self.transaction(outputs, state);
                self.open = false;
                Ok(format!("{begun}, {}", told(self.owner.commit(transaction))))
            }
            Step::Begin => {
                self.open = true;
                Ok(self.begin())
            }
            Step::Finish => {
                let transaction = self.transaction(1, 1);
                self.open = false;
                Ok(told(self.owner.commit(transaction)))
            }
            Step::Abort => {
                self.exact &= !self.open;
                self.open = false;
                Ok(told(self.owner.abort()))
            }
            Step::Acquire => {
                self.exact &= !self.open;
                self.open = false;
                let next = self.journal.acquire(MACHINE, 0)?;
                self.former = Some(std::mem::replace(&mut self.owner, next));
                Ok(String::new())
            }
            Step::Former => {
                let transaction = self.transaction(1, 1);
                let header = self.record("former");
                let Some(former) = &mut self.former else { return Ok("nobody".into()) };
                // Whether it is told at the beginning or at the end is a matter of luck; that it is told is not.
                let outcome = former.abort().and_then(|()| former.begin(header)).and_then(|()| former.commit(transaction));
                Ok(told(outcome))
            }
            Step::Restore | Step::RestoreFrom(_) if self.open => Ok("not while a transaction is open".into()),
            Step::Restore => {
                let mut entries = Vec::new();
                self.owner.restore(&mut |entry| entries.push(entry))?;
                Ok(self.keys(&entries, self.base[1]))
            }
            Step::RestoreFrom(after) => {
                let mut entries = Vec::new();
                let reach = self.owner.restore_from(self.base[1] + after, &mut |entry| entries.push(entry))?;
                let whole = reach == Reach::Whole;
                Ok(if self.exact { format!("{whole} {}", self.keys(&entries, self.base[1])) } else { String::new() })
            }
            Step::Poll(after) => self.poll(after),
            Step::InboxAt(after) => {
                let found = self.owner.inbox_at(self.base[0] + after)?;
                Ok(self.keys(found.as_slice(), self.base[0]))
            }
        }
    }

    fn begin(&mut self) -> String {
        let header = self.record("header");
        told(self.owner.begin(header))
    }

    fn poll(&mut self, after: u64) -> Result<String, Failure> {
        let wanted = self.appended.saturating_sub(after);
        if wanted == 0 {
            return Ok(String::new());
        }
        self.owner.seek(self.base[0] + after)?;
        let until = Instant::now() + PATIENCE;
        let mut entries = Vec::new();
        while u64::try_from(entries.len())? < wanted && Instant::now() < until {
            entries.extend(self.owner.poll(2, Duration::from_millis(200))?);
        }
        Ok(format!("{} then {}", self.keys(&entries, self.base[0]), self.owner.position() - self.base[0]))
    }

    /// Everything that a reader of committed records is shown in the end.
    fn conclude(mut self) -> Result<Vec<String>, Failure> {
        // Ends what is open.
        self.exact &= !self.open;
        drop(self.journal.acquire(MACHINE, 0)?);
        let mut lines = Vec::new();
        for (topic, base) in [(INBOX, self.base[0]), (STATE, self.base[1]), (Topic::Events, self.base[2])] {
            let last = self.record("last");
            self.appender.append(topic, 0, last.clone())?;
            let mut feed = self.journal.read(topic, 0, Start::At(base))?;
            let entries = read_until(feed.as_mut(), &last.key)?;
            lines.push(format!("{}: {}", topic.name(), self.keys(&entries, base)));
        }
        Ok(lines)
    }
}

fn read_until(feed: &mut dyn Feed, key: &[u8]) -> Result<Vec<Entry>, Failure> {
    let until = Instant::now() + PATIENCE;
    let mut entries: Vec<Entry> = Vec::new();
    while entries.last().is_none_or(|entry| entry.record.key != key) {
        if Instant::now() > until {
            return Err("the last record did not come".into());
        }
        entries.extend(feed.poll(100, Duration::from_millis(200))?);
    }
    Ok(entries)
}

fn told(outcome: Result<(), JournalError>) -> String {
    match outcome {
        Ok(()) => "done".to_owned(),
        Err(error) => format!("{:?}", error.remedy()),
    }
}

/// Everything that a script can see.
fn seen(journal: &dyn Journal, seed: u64) -> Result<Vec<String>, Failure> {
    let mut stage = Stage::new(journal, format!("script-{seed}"))?;
    let mut lines = Vec::new();
    for step in script(seed) {
        let line = stage.step(step).map_err(|error| format!("seed {seed}, {step:?}: {error}"))?;
        lines.push(format!("{step:?}: {line}"));
    }
    lines.extend(stage.conclude()?);
    Ok(lines)
}

#[test]
fn random_scripts_see_the_same_on_the_simulated_log_and_on_kafka() -> Result<(), Failure> {
    let Some(kafka) = require("kafka", start_kafka()) else { return Ok(()) };
    // A loaded machine must not make the producers suspicious: a renewal is a transaction less that is alike.
    let settings =
        KafkaSettings { commit_slow: Duration::from_secs(20), ..KafkaSettings::new(kafka.bootstrap(), "alike-test") };
    let real = KafkaJournal::new(settings)?;
    let model = SimulatedCluster::new(SimulatedSettings::new(1)).process();
    real.provision(&contract::PROVISION)?;
    model.provision(&contract::PROVISION)?;
    let mut lines = 0;
    for seed in 0..SCRIPTS {
        let (expected, found) = (seen(&real, seed)?, seen(&model, seed)?);
        assert_eq!(found, expected, "seed {seed}: the model, then Kafka");
        lines += found.len();
    }
    println!("{SCRIPTS} scripts, {lines} observations, all alike");
    Ok(())
}

#[test]
fn random_scripts_see_the_same_twice_on_the_simulated_log() -> Result<(), Failure> {
    for seed in 0..200 {
        let run = |number| -> Result<Vec<String>, Failure> {
            let process = SimulatedCluster::new(SimulatedSettings::new(number)).process();
            process.provision(&contract::PROVISION)?;
            seen(&process, seed)
        };
        // What chance decides differs, what can be seen does not.
        assert_eq!(run(1)?, run(2)?, "seed {seed}");
    }
    Ok(())
}
