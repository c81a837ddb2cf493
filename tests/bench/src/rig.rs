//! Where things are measured: a log, provisioned and empty, with what belongs to it; removed when dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail};
use custos_journal::{EmbeddedJournal, Journal, KafkaJournal, KafkaSettings, Provision};
use custos_messages::{Keyring, Machine, ShardName};
use custos_parts::{Kafka, start_kafka_process};
use custos_runtime::host::{HostSettings, run_host};
use custos_runtime::metrics::Metrics;
use custos_runtime::ops::Desk;
use custos_runtime::pace::Clock;
use custos_runtime::serve::{ServeSettings, Work, run_service};
use custos_runtime::shard::{Interrupt, ShardSettings, provision_shard};
use custos_runtime::standby::StandbySettings;
use tempfile::TempDir;

use crate::echo::{Echo, EchoMachine};
use crate::usage;

/// A log to measure on.
pub struct Rig {
    /// The log.
    pub journal: Arc<dyn Journal>,
    /// Its name in the figures.
    pub name: String,
    /// Partitions of every machine.
    pub partitions: u32,
    /// The keys of all sources.
    pub keyring: Arc<Keyring>,
    /// The broker's process, if it runs on this machine and was started here.
    pub broker: Option<u32>,
    _held: (Option<TempDir>, Option<Kafka>),
}

impl Rig {
    /// The log that `wanted` names: `embedded`, `kafka` (a plain broker process, started here), or `kafka:host:port` (used as it is).
    ///
    /// # Errors
    /// It cannot be opened, started or provisioned.
    pub fn open(wanted: &str, partitions: u32) -> Result<Self> {
        let (journal, name, broker, held): (Arc<dyn Journal>, _, _, _) = match wanted.split_once(':') {
            None if wanted == "embedded" => {
                let folder = tempfile::tempdir().context("a folder for the embedded log")?;
                let journal = EmbeddedJournal::open(folder.path())?;
                (Arc::new(journal), "embedded".to_owned(), None, (Some(folder), None))
            }
            None if wanted == "kafka" => {
                let kafka = start_kafka_process()?;
                let broker = kafka.process();
                let journal = KafkaJournal::new(KafkaSettings::new(kafka.bootstrap(), "custos-bench"))?;
                (Arc::new(journal), format!("kafka ({})", kafka.kind()), broker, (None, Some(kafka)))
            }
            Some(("kafka", address)) => {
                let journal = KafkaJournal::new(KafkaSettings::new(address, "custos-bench"))?;
                (Arc::new(journal), "kafka (external)".to_owned(), None, (None, None))
            }
            _ => bail!("`{wanted}` is no log: embedded, kafka or kafka:host:port"),
        };
        let differences = journal.provision(&Provision { partitions, gateways: 1, replication: 1 })?;
        if !differences.is_empty() {
            bail!("the log is not as it must be: {}", differences.join("; "));
        }
        // The second is the floor's.
        for machine in [Machine::Accounts, Machine::Treasury] {
            for partition in 0..partitions {
                let mut log = journal.acquire(machine, partition)?;
                provision_shard(ShardName { machine, partition }, &mut *log)?;
            }
        }
        let keyring = Arc::new(custos_testkit::keyring());
        Ok(Self { journal, name, partitions, keyring, broker, _held: held })
    }

    /// Processor milliseconds so far: of this process, and of the broker.
    pub fn processor_ms(&self) -> (u64, u64) {
        (usage::processor_ms(std::process::id()), self.broker.map_or(0, usage::processor_ms))
    }

    /// Runs the echo service until the hand is dropped.
    pub fn echo(&self, handle: &tokio::runtime::Handle) -> Hand {
        let settings = ServeSettings {
            journal: Arc::clone(&self.journal),
            keyring: Arc::clone(&self.keyring),
            partitions: self.partitions,
            metrics: Metrics::default(),
            work: Work::Tokio(handle.clone()),
            clock: Clock::HOST,
            parallel: 256,
        };
        Hand::new(move |stop| {
            if let Err(error) = run_service(&Arc::new(Echo), &settings, stop) {
                eprintln!("the echo stopped: {error}");
            }
        })
    }

    /// Runs the measured machine's shards until the hand is dropped.
    pub fn host(&self, ahead: bool, interrupt: Option<Interrupt>, metrics: &Metrics) -> Hand {
        let shard = ShardSettings { ahead, interrupt, ..ShardSettings::new(String::new()) };
        let settings = HostSettings::<EchoMachine> {
            journal: Arc::clone(&self.journal),
            keyring: Arc::clone(&self.keyring),
            member: "bench".to_owned(),
            partitions: self.partitions,
            shard,
            standby: StandbySettings::default(),
            metrics: metrics.clone(),
            inspect: |_, _, _| Vec::new(),
        };
        Hand::new(move |stop| {
            if let Err(error) = run_host(&settings, &Desk::default(), stop) {
                eprintln!("the host stopped: {error}");
            }
        })
    }
}

/// Something that runs on a thread of its own until this is dropped.
pub struct Hand {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hand {
    /// Runs `work`, which must end soon after the flag is raised.
    pub fn new(work: impl FnOnce(&Arc<AtomicBool>) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        Self { stop, thread: Some(std::thread::spawn(move || work(&seen))) }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("a thread of the bench panicked");
        }
    }
}
