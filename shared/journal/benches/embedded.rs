//! Three-step sagas on the embedded log without any machine: what the log itself allows.
//!
//! A saga is a start in the inbox and three questions to an echo service; each input writes a header, a command or an event, two
//! state records and a manifest, of 250 bytes each. From the append of the start to the commit of the last transaction.
//! `cargo bench -p custos-journal` prints, for each number of sagas in flight, throughput and latencies.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::float_arithmetic, reason = "rates for people")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use custos_journal::{EmbeddedJournal, Journal, JournalError, ShardLog, Start, Transaction, contract};
use custos_messages::{Headers, Machine, Record, Topic};

const MACHINE: Machine = Machine::Accounts;
const INBOX: Topic = Topic::Inbox(MACHINE);
const WAIT: Duration = Duration::from_millis(50);
/// Inputs of one transaction, at most.
const BATCH: usize = 1_000;

fn record(saga: u64, step: u8) -> Record {
    let mut value = vec![0; 250];
    if let Some(first) = value.first_mut() {
        *first = step;
    }
    Record { key: saga.to_be_bytes().to_vec(), value: Some(value), headers: Headers::new() }
}

fn saga(record: &Record) -> (u64, u8) {
    let key = record.key.as_slice().try_into().map_or(0, u64::from_be_bytes);
    (key, record.value.as_ref().and_then(|value| value.first()).copied().unwrap_or(0))
}

/// The shard: asks until the third answer, then says so in an event.
fn run_shard(mut shard: Box<dyn ShardLog>, stop: &AtomicBool) -> Result<(), JournalError> {
    while !stop.load(Ordering::Relaxed) {
        let inputs = shard.poll(BATCH, WAIT)?;
        if inputs.is_empty() {
            continue;
        }
        shard.begin(record(0, 0))?;
        let mut transaction = Transaction { manifest: record(1, 0), ..Transaction::default() };
        for input in &inputs {
            let (id, step) = saga(&input.record);
            let topic = if step < 3 { Topic::ComplianceCommands } else { Topic::Events };
            transaction.outputs.push((topic, record(id, step + 1)));
            transaction.state.extend([record(id + 2, step), record(id + (1 << 40), step)]);
        }
        shard.commit(transaction)?;
    }
    Ok(())
}

/// The echo service.
fn run_service(journal: &dyn Journal, stop: &AtomicBool) -> Result<(), JournalError> {
    let (mut feed, appender) = (journal.consume(Topic::ComplianceCommands, "echo")?, journal.appender()?);
    while !stop.load(Ordering::Relaxed) {
        let commands = feed.poll(BATCH, WAIT)?;
        let Some(last) = commands.last().map(|entry| (entry.partition, entry.offset)) else { continue };
        appender.append_all(commands.into_iter().map(|entry| (INBOX, entry.partition, entry.record)).collect())?;
        feed.acknowledge(last.0, last.1)?;
    }
    Ok(())
}

/// Keeps `flight` sagas going until `count` have ended; their latencies.
fn drive(journal: &dyn Journal, flight: u64, count: u64) -> Result<Vec<Duration>, JournalError> {
    let (mut feed, appender) = (journal.read(Topic::Events, 0, Start::Latest)?, journal.appender()?);
    let (mut started, mut latencies, mut next) = (HashMap::new(), Vec::new(), 0);
    while u64::try_from(latencies.len()).unwrap_or(count) < count {
        let room = (flight - u64::try_from(started.len()).unwrap_or(flight)).min(count - next);
        let starts: Vec<_> = (next..next + room).map(|id| (INBOX, 0, record(id, 0))).collect();
        started.extend((next..next + room).map(|id| (id, Instant::now())));
        next += room;
        if !starts.is_empty() {
            appender.append_all(starts)?;
        }
        for entry in feed.poll(BATCH, WAIT)? {
            latencies.extend(started.remove(&saga(&entry.record).0).map(|start| start.elapsed()));
        }
    }
    latencies.sort_unstable();
    Ok(latencies)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    for (flight, count) in [(1, 300), (16, 3_000), (1_000, 50_000)] {
        let journal = EmbeddedJournal::open(&dir.path().join(flight.to_string()))?;
        journal.provision(&contract::PROVISION)?;
        let shard = journal.acquire(MACHINE, 0)?;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let shard = scope.spawn(|| run_shard(shard, &stop));
            let service = scope.spawn(|| run_service(&journal, &stop));
            let begin = Instant::now();
            let latencies = drive(&journal, flight, count);
            let took = begin.elapsed();
            stop.store(true, Ordering::Relaxed);
            let ended = [shard, service].into_iter().map(|thread| thread.join());
            ended.into_iter().try_for_each(|end| end.map_err(|_| "a thread panicked")?.map_err(Box::<dyn Error>::from))?;
            let latencies = latencies?;
            let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied().unwrap_or_default();
            let rate = f64::from(u32::try_from(count)?) / took.as_secs_f64();
            println!("{flight:5} in flight: {rate:8.0} sagas/s, p50 {:?}, p99 {:?}", at(50), at(99));
            Ok::<_, Box<dyn Error>>(())
        })?;
    }
    Ok(())
}
