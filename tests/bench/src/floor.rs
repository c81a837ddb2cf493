//! The floor: the records of a three-step saga, as many and as long as the real ones, through the same journal under the same batch
//! rule, with nothing decided, opened, sealed or hashed. What `sagas` costs beyond it is what Custos costs.
//!
//! The records are taken from one real saga; only keys are rewritten, so that each saga has its own: a saga's number, and the step
//! that the record leads to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use custos_domain::Timestamp;
use custos_journal::{Entry, JournalError, LogIdentity, Transaction};
use custos_messages::compliance::Screen;
use custos_messages::{Headers, Machine, Postmark, Record, ShardName, Source, Topic};
use custos_runtime::service::Service as _;
use custos_runtime::shard::{Batch, Herald, Identity, Manifest, Memory, ShardSettings};
use serde_json::Value;

use crate::echo::{Echo, EchoMachine, start_message};
use crate::load::{Begin, Watch};
use crate::rig::{Hand, Rig};
use crate::sagas::{Course, account};
use crate::side::Side;

/// The floor's own topics: those of a machine that does not run here, so that it can stand beside the product on one log.
const MACHINE: Machine = Machine::Treasury;
const INBOX: Topic = Topic::Inbox(MACHINE);
const COMMANDS: Topic = Topic::WalletCommands;
const AT: Timestamp = Timestamp(1_700_000_000_000);
/// Most commands of one look of the service, and how long it looks.
const LOOK: (usize, Duration) = (256, Duration::from_millis(100));

/// What one input makes a shard write.
#[derive(Clone, Debug, Default)]
struct Written {
    commands: Vec<Record>,
    events: Vec<Record>,
    state: Vec<Record>,
}

/// Every record of one saga.
#[derive(Clone, Debug)]
struct Story {
    /// The start, then each answer.
    heard: Vec<Record>,
    /// What each makes the shard write.
    written: Vec<Written>,
    manifest: Record,
}

impl Story {
    /// Runs one real saga and keeps its records.
    fn record(rig: &Rig) -> Result<Self> {
        let shard = ShardName { machine: Machine::Accounts, partition: 0 };
        let keyring = Arc::clone(&rig.keyring);
        let identity = Identity { shard, partitions: 1, source: Source::Accounts, keyring, ahead: true };
        let mut memory = Memory::<EchoMachine>::default();
        let mut manifest = manifest();
        let start = start_message(1, account(1))?.seal(&rig.keyring, Source::Gateway, Postmark::default());
        let mut story = Self { heard: vec![start], written: Vec::new(), manifest: manifest.record() };
        while let Some(heard) = story.heard.get(story.written.len()).cloned() {
            let mut batch = Batch::<EchoMachine>::on(&manifest);
            let entry = Entry { partition: 0, offset: manifest.next, at: Some(AT), record: heard };
            batch.take(&identity, &memory, entry, AT);
            let commands: Vec<Record> = batch.ahead.drain(..).map(|(_, _, record)| record).collect();
            for command in &commands {
                let (_, screen) = rig.keyring.open_message::<Screen>(Topic::ComplianceCommands, command)?;
                let answer = tokio::runtime::Builder::new_current_thread().build()?.block_on(Echo.handle(screen))?;
                let seal = |mail: &custos_messages::Mail| mail.seal(&rig.keyring, Source::Compliance, Postmark::default());
                story.heard.extend(answer.iter().map(seal));
            }
            let (state, roots) = batch.overlay.records(&memory);
            let events = batch.outputs.drain(..).map(|(_, record)| record).collect();
            manifest = Manifest { next: batch.next, last: batch.last(), state_root: roots.state.digest(), ..manifest };
            memory.merge(batch.overlay, roots);
            story.written.push(Written { commands, events, state });
        }
        anyhow::ensure!(story.heard.len() == 4, "a saga hears its start and three answers, not {}", story.heard.len());
        story.manifest = manifest.record();
        Ok(story)
    }
}

fn manifest() -> Manifest {
    Manifest::first(LogIdentity {
        cluster: "a cluster's id of 22".to_owned(),
        inbox: INBOX.name().to_owned(),
        state: Topic::State(Machine::Accounts).name().to_owned(),
        partitions: 1,
    })
}

/// The record with the key of saga `number` and `step`, as long as before.
fn keyed(record: &Record, number: u64, step: u8) -> Record {
    let mut key = number.to_be_bytes().to_vec();
    key.push(step);
    key.extend(record.key.iter().skip(key.len()));
    Record { key, ..record.clone() }
}

/// Saga and step of a key.
fn read_key(key: &[u8]) -> Option<(u64, u8)> {
    let (number, rest) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), *rest.first()?))
}

/// The state record with a key of saga `number`: its first byte says what it is, so it stays.
fn of_saga(record: &Record, number: u64) -> (Vec<u8>, Option<Vec<u8>>) {
    let kind = record.key.iter().take(1).copied();
    let key = kind.chain(number.to_be_bytes()).chain(record.key.iter().skip(9).copied()).collect();
    (key, record.value.clone())
}

/// Runs all levels and hands each figure to `tell`.
///
/// # Errors
/// The log fails, or a saga does not end.
pub fn measure(rig: &Rig, course: &Course, mut tell: impl FnMut(&Value) -> Result<()>) -> Result<()> {
    let mut next = 0;
    for ahead in &course.ahead {
        let mut side = side(rig, *ahead, next)?;
        for in_flight in &course.in_flight {
            tell(&side.level(rig, course.plan(*in_flight))?.1)?;
        }
        next = side.next;
    }
    Ok(())
}

/// The floor, running; numbers begin at `next`.
///
/// # Errors
/// No saga can be recorded, or the log cannot be used.
pub fn side(rig: &Rig, ahead: bool, next: u64) -> Result<Side> {
    let story = Arc::new(Story::record(rig)?);
    let begin = begin(rig, &story)?;
    let (watch, ends) = Watch::new();
    let transactions = Arc::new(AtomicU64::new(0));
    // Before the first start: what stands in the inboxes by now was heard under another setting.
    let from: Result<Vec<_>, _> = (0..rig.partitions).map(|partition| rig.journal.bounds(INBOX, partition)).collect();
    let mut hands = vec![echo(rig, &story)];
    for (partition, (_, from)) in (0..rig.partitions).zip(from?) {
        let (journal, story) = (Arc::clone(&rig.journal), Arc::clone(&story));
        let shard = Shard { partition, from, story, watch: watch.clone(), transactions: Arc::clone(&transactions), ahead };
        hands.push(Hand::new(move |stop| {
            if let Err(error) = shard.run(&*journal, stop) {
                eprintln!("a shard of the floor stopped: {error}");
            }
        }));
    }
    let counted = Box::new(move || (0, transactions.load(Ordering::Relaxed)));
    Ok(Side { name: "floor", ahead, begin, ends, counted, next, _hands: hands })
}

fn partition_of(number: u64, partitions: u32) -> u32 {
    // Lanes take every fourth number, so the higher digits decide.
    u32::try_from((number / 4) % u64::from(partitions.max(1))).unwrap_or(0)
}

fn begin(rig: &Rig, story: &Arc<Story>) -> Result<Begin> {
    let appender = rig.journal.appender()?;
    let start = story.heard.first().context("a saga has a start")?.clone();
    let partitions = rig.partitions;
    Ok(Arc::new(move |numbers| {
        let records = numbers.iter().map(|number| (INBOX, partition_of(*number, partitions), keyed(&start, *number, 0)));
        Ok(appender.append_all(records.collect())?)
    }))
}

/// Answers each command with the answer of its step.
fn echo(rig: &Rig, story: &Arc<Story>) -> Hand {
    let (journal, story, partitions) = (Arc::clone(&rig.journal), Arc::clone(story), rig.partitions);
    Hand::new(move |stop| {
        let answer = || -> Result<(), JournalError> {
            let mut feed = journal.consume(COMMANDS, "floor")?;
            let appender = journal.appender()?;
            while !stop.load(Ordering::Acquire) {
                let entries = feed.poll(LOOK.0, LOOK.1)?;
                let done: BTreeMap<u32, u64> = entries.iter().map(|entry| (entry.partition, entry.offset)).collect();
                let replies = entries.iter().filter_map(|entry| {
                    let (number, step) = read_key(&entry.record.key)?;
                    let reply = story.heard.get(usize::from(step))?;
                    Some((INBOX, partition_of(number, partitions), keyed(reply, number, step)))
                });
                appender.append_all(replies.collect())?;
                for (partition, offset) in done {
                    feed.acknowledge(partition, offset)?;
                }
            }
            Ok(())
        };
        if let Err(error) = answer() {
            eprintln!("the floor's echo stopped: {error}");
        }
    })
}

struct Shard {
    partition: u32,
    from: u64,
    story: Arc<Story>,
    watch: Watch,
    transactions: Arc<AtomicU64>,
    ahead: bool,
}

#[derive(Default)]
struct Open {
    ahead: Vec<(Topic, u32, Record)>,
    outputs: Vec<(Topic, Record)>,
    state: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    ended: Vec<u64>,
    /// Questions asked ahead of the commit, less the answers heard.
    due: usize,
}

impl Shard {
    fn run(&self, journal: &dyn custos_journal::Journal, stop: &AtomicBool) -> Result<(), JournalError> {
        let rule = ShardSettings::new(String::new());
        let mut log = journal.acquire(MACHINE, self.partition)?;
        log.restore(&mut |_| {})?;
        log.seek(self.from)?;
        let mut herald = Herald::start("floor", journal.appender()?.into()).map_err(no_thread)?;
        while !stop.load(Ordering::Acquire) {
            let entries = log.poll(rule.batch_records, rule.idle_wait)?;
            if entries.is_empty() {
                continue;
            }
            let began = Instant::now();
            log.begin(Record { key: vec![0], value: Some(vec![1; 8]), headers: Headers::new() })?;
            let mut open = Open::default();
            let mut room = rule.batch_records.saturating_sub(entries.len());
            self.take(&mut open, &entries);
            while room > 0 && began.elapsed() < rule.batch_time {
                // A transaction that has asked ahead of its commit stays open for the answers.
                herald.ask(std::mem::take(&mut open.ahead));
                let small = rule.batch_records.saturating_sub(room) < rule.hold_below;
                let hold = if small && open.due > 0 { rule.hold_time } else { Duration::ZERO };
                let hold = hold.saturating_sub(began.elapsed());
                let more = log.poll(room, hold)?;
                if more.is_empty() {
                    break;
                }
                room = room.saturating_sub(more.len());
                self.take(&mut open, &more);
            }
            herald.ask(open.ahead);
            herald.settle()?;
            let state = open.state.into_iter().map(|(key, value)| Record { key, value, headers: Headers::new() });
            let manifest = self.story.manifest.clone();
            log.commit(Transaction { outputs: open.outputs, state: state.collect(), manifest })?;
            self.transactions.fetch_add(1, Ordering::Relaxed);
            open.ended.into_iter().for_each(|number| self.watch.ended(number));
        }
        Ok(())
    }

    fn take(&self, open: &mut Open, entries: &[Entry]) {
        for entry in entries {
            let Some((number, step)) = read_key(&entry.record.key) else { continue };
            let Some(written) = self.story.written.get(usize::from(step)) else { continue };
            open.due = open.due.saturating_sub(usize::from(step > 0));
            for command in &written.commands {
                let command = keyed(command, number, step.saturating_add(1));
                if self.ahead {
                    open.ahead.push((COMMANDS, self.partition, command));
                    open.due = open.due.saturating_add(1);
                } else {
                    open.outputs.push((COMMANDS, command));
                }
            }
            let events = written.events.iter().map(|event| (Topic::Events, keyed(event, number, step)));
            open.outputs.extend(events);
            open.state.extend(written.state.iter().map(|record| of_saga(record, number)));
            if usize::from(step).saturating_add(1) == self.story.written.len() {
                open.ended.push(number);
            }
        }
    }
}

fn no_thread(error: std::io::Error) -> JournalError {
    JournalError::Store { operation: "start a thread", source: error.into() }
}
