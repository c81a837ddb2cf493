//! How fast the projector folds: a log of deposits and withdrawals is made first, then an empty read model on PostgreSQL catches up with it.
//!
//! The events are those of the accounts machine itself, chained and sealed as a shard writes them, on the embedded log, which costs the
//! projector next to nothing to read. What is told: events and sagas for each second, processor time of this process, and how far behind
//! it was. PostgreSQL runs in a container on the same processors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use custos_accounts::Accounts;
use custos_accounts::state::Key;
use custos_domain::{Timestamp, partition_of};
use custos_journal::{EmbeddedJournal, Entry, Journal, Provision};
use custos_messages::{Record, ShardName, Source, Topic};
use custos_parts::start_postgres;
use custos_projector::{Progress, Projector};
use custos_readmodel::{ReadModel, create_schema, drop_schema, in_schema};
use custos_runtime::shard::{Batch, Identity, Memory};
use custos_saga::machine::Machine as _;
use custos_testkit as kit;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::machine::of_clients;
use crate::tape::{Said, first_manifest};
use crate::usage;

/// Events of one append.
const AT_ONCE: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(5);
/// How often the lag is told.
const TELL: Duration = Duration::from_secs(1);

/// What is to be folded.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Partitions of the event log, each with accounts of its own.
    pub partitions: u32,
    /// Accounts of each partition.
    pub clients: u64,
    /// Deposits and withdrawals of each account.
    pub rounds: u64,
    /// How often an empty read model catches up.
    pub runs: u64,
}

/// Measures, and hands each figure to `tell`.
///
/// # Errors
/// The log cannot be made, there is no PostgreSQL, or the projector does not catch up.
pub fn measure(course: Course, mut tell: impl FnMut(&Value) -> Result<()>) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for the embedded log")?;
    let journal: Arc<dyn Journal> = Arc::new(EmbeddedJournal::open(folder.path())?);
    journal.provision(&Provision { partitions: course.partitions, gateways: 1, replication: 1 })?;
    let mut log = Log { events: 0, sagas: 0 };
    for partition in 0..course.partitions {
        log.write(&*journal, partition, course)?;
    }
    let postgres = start_postgres()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for run in 0..course.runs {
        let name = format!("bench_{}_{run}", std::process::id());
        runtime.block_on(create_schema(postgres.url(), &name))?;
        let url = in_schema(postgres.url(), &name);
        let mut figure = runtime.block_on(catch_up(&journal, &url, &log, &mut tell))?;
        runtime.block_on(drop_schema(postgres.url(), &name))?;
        let object = figure.as_object_mut().context("a figure is an object")?;
        object.insert("run".to_owned(), json!(run));
        object.insert("database".to_owned(), json!(postgres.kind()));
        object.insert("partitions".to_owned(), json!(course.partitions));
        tell(&figure)?;
    }
    Ok(())
}

/// How much the log holds.
struct Log {
    events: u64,
    sagas: u64,
}

impl Log {
    /// Writes the events of one shard.
    fn write(&mut self, journal: &dyn Journal, partition: u32, course: Course) -> Result<()> {
        let at_home = |client: &u64| {
            partition_of(kit::account(&format!("client-{client}")).as_bytes(), course.partitions) == partition
        };
        let clients: Vec<u64> = (0..).filter(at_home).take(usize::try_from(course.clients)?).collect();
        let tape = of_clients(&clients, course.rounds)?;
        let ended = tape.state.keys().filter(|key| matches!(key, Key::Finished(_))).count();
        self.sagas = self.sagas.saturating_add(u64::try_from(ended)?);
        let appender = journal.appender()?;
        let events = events(&tape.said, (partition, course.partitions));
        self.events = self.events.saturating_add(u64::try_from(events.len())?);
        for some in events.chunks(AT_ONCE) {
            appender.append_all(some.iter().map(|event| (Topic::Events, partition, event.clone())).collect())?;
        }
        Ok(())
    }
}

/// The events that shard `partition`, of `partitions`, writes when it hears these.
fn events(said: &[Said<Accounts>], (partition, partitions): (u32, u32)) -> Vec<Record> {
    const AT: Timestamp = Timestamp(1_700_000_000_000);
    let keyring = Arc::new(kit::keyring());
    let shard = ShardName { machine: Accounts::KIND, partition };
    let identity = Identity { shard, partitions, source: Source::Accounts, keyring: Arc::clone(&keyring), ahead: true };
    let mut memory = Memory::<Accounts>::default();
    let mut manifest = first_manifest();
    let mut written = Vec::new();
    let mut offset = 0_u64;
    for inputs in said.chunks(AT_ONCE) {
        let mut batch = Batch::<Accounts>::on(&manifest);
        for (source, message) in inputs {
            let record = keyring.seal_message(Topic::Inbox(Accounts::KIND), *source, message, Default::default());
            batch.take(&identity, &memory, Entry { partition, offset, at: Some(AT), record }, AT);
            offset = offset.saturating_add(1);
        }
        let (_, roots) = batch.overlay.records(&memory);
        manifest = batch.manifest(&manifest, &roots);
        let outputs = std::mem::take(&mut batch.outputs);
        written.extend(outputs.into_iter().filter(|(topic, _)| *topic == Topic::Events).map(|(_, record)| record));
        memory.merge(batch.overlay, roots);
    }
    written
}

/// Lets a projector catch up with the log, from nothing.
async fn catch_up(
    journal: &Arc<dyn Journal>,
    url: &str,
    log: &Log,
    tell: &mut impl FnMut(&Value) -> Result<()>,
) -> Result<Value> {
    let model = ReadModel::open(url).await?;
    let projector = Projector::new(Arc::clone(journal), Arc::new(kit::keyring()), model.clone());
    let progress = projector.progress();
    let stop = CancellationToken::new();
    let spent = usage::processor_ms(std::process::id());
    let began = Instant::now();
    let task = tokio::spawn({
        let (projector, stop) = (projector.clone(), stop.clone());
        async move { projector.run(stop).await }
    });
    let mut told = began;
    while progress.events_folded() < log.events {
        ensure!(began.elapsed() < PATIENCE, "{} of {} events are folded", progress.events_folded(), log.events);
        if task.is_finished() {
            bail!("the projector stopped: {:?}", task.await?);
        }
        if told.elapsed() >= TELL {
            told = Instant::now();
            tell(&json!({ "bench": "projector-lag", "folded": progress.events_folded(), "lag": lag(&progress) }))?;
        }
        tokio::time::sleep(LOOK).await;
    }
    let took = began.elapsed();
    let spent = usage::processor_ms(std::process::id()).saturating_sub(spent);
    stop.cancel();
    task.await??;
    ensure!(lag(&progress) == 0, "everything is folded, and the lag is {}", lag(&progress));
    let digest = model.digest().await?;
    model.close().await;
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let rate = |count: u64| count.saturating_mul(1_000_000) / micros;
    Ok(json!({
        "bench": "projector",
        "events": log.events,
        "sagas": log.sagas,
        "took_ms": micros / 1_000,
        "events_per_second": rate(log.events),
        "sagas_per_second": rate(log.sagas),
        "processor_ms": spent,
        "restarts": progress.restarts(),
        // The content, without what differs from database to database: the same log must always give the same.
        "digest": digest.to_string(),
    }))
}

fn lag(progress: &Progress) -> u64 {
    progress.partitions().values().map(|partition| partition.lag()).sum()
}
