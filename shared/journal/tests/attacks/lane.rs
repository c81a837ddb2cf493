//! A shard that counts, on real Kafka, whose requests pass a proxy: what an attack is made against.

use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use custos_journal::{Appender, Defences, Journal, JournalError, KafkaJournal, KafkaSettings, Provision, Remedy};
use custos_parts::{Api, Cluster, Deed, Fate, Observation, PartError, Proxy, Rule, When, start_cluster};

use crate::counting::judge::{Kept, Report, judge};
use crate::counting::{INBOX, Owner, SharedDiary, input, take_over};

/// How long something may take that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// One broker and its front.
pub struct Stage {
    _cluster: Cluster,
    /// Partitions that no lane has used yet.
    unused: Mutex<Range<u32>>,
    pub proxy: Proxy,
    /// Not through the proxy: for inputs, and for the question in the end.
    pub direct: KafkaJournal,
    pub appender: Box<dyn Appender>,
}

impl Stage {
    pub fn open(partitions: u32) -> Result<Self, PartError> {
        let proxy = Proxy::open()?;
        let cluster = start_cluster(&[vec![proxy.port()]])?;
        proxy.forward_to(cluster.target(0, 0).unwrap());
        let direct = KafkaJournal::new(KafkaSettings::new(cluster.bootstrap(), "direct")).unwrap();
        direct.provision(&Provision { partitions, gateways: 1, replication: 1 }).unwrap();
        let appender = direct.appender().unwrap();
        Ok(Self { _cluster: cluster, unused: Mutex::new(0..partitions), proxy, direct, appender })
    }

    /// A partition in which nothing stands yet.
    pub fn fresh(&self) -> u32 {
        self.unused.lock().unwrap().next().expect("the stage was opened with as many partitions as are needed")
    }
}

/// One shard with its own client name, so that what is done to it is done to no other.
pub struct Lane<'a> {
    pub stage: &'a Stage,
    pub name: String,
    pub partition: u32,
    pub journal: KafkaJournal,
    pub diary: SharedDiary,
    owner: Option<Owner>,
    next_input: u64,
    /// What the proxy saw, apart from what is being waited for.
    pub seen: Vec<Observation>,
}

/// The settings of production, with its pause and its bound for a slow end ten times shorter: an attack takes a tenth of the time.
pub fn settings(stage: &Stage, name: &str, defences: Defences) -> KafkaSettings {
    KafkaSettings {
        retry_backoff: Duration::from_millis(100),
        commit_slow: Duration::from_millis(50),
        defences,
        ..KafkaSettings::new(stage.proxy.address(), name)
    }
}

impl<'a> Lane<'a> {
    /// A lane of its own on a fresh partition.
    pub fn new(stage: &'a Stage, defences: Defences) -> Self {
        let partition = stage.fresh();
        let name = format!("lane-{partition}");
        let journal = KafkaJournal::new(settings(stage, &name, defences)).unwrap();
        let diary = SharedDiary::default();
        Self { stage, name, partition, journal, diary, owner: None, next_input: 1, seen: Vec::new() }
    }

    pub fn put(&mut self, count: u64) {
        for _ in 0..count {
            self.stage.appender.append(INBOX, self.partition, input(self.next_input)).unwrap();
            self.next_input += 1;
        }
    }

    pub fn rule(&self, when: When, deed: Deed) {
        self.stage.proxy.rule(Rule { client: self.name.clone(), when, deed });
    }

    pub fn release(&self) -> usize {
        self.stage.proxy.release(&self.name)
    }

    /// Takes the observations made so far into the lane's own memory.
    pub fn look(&mut self) -> &[Observation] {
        self.seen.extend(self.stage.proxy.take_observations(&self.name));
        &self.seen
    }

    /// Waits until a request of this kind has passed since the place `from` in what was seen.
    pub fn await_passed(&mut self, api: Api, from: usize) {
        let until = Instant::now() + PATIENCE;
        while !self.look().iter().skip(from).any(|seen| seen.api == api && seen.fate == Fate::Passed) {
            assert!(Instant::now() < until, "{}: no {api:?} has passed", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The owner; when there is none, the shard is taken over as often as it takes.
    pub fn owner(&mut self) -> Result<&mut Owner, String> {
        let until = Instant::now() + PATIENCE;
        while self.owner.is_none() {
            match take_over(&self.journal, self.partition, &self.diary, true) {
                Ok(owner) => self.owner = Some(owner),
                Err(error) if error.remedy() == Remedy::Halt => return Err(self.violation(&error)),
                Err(error) if Instant::now() > until => return Err(format!("{} has no owner: {error}", self.name)),
                Err(_) => {}
            }
        }
        self.owner.as_mut().ok_or_else(|| "no owner".to_owned())
    }

    fn violation(&self, error: &JournalError) -> String {
        let found = self.diary.lock().unwrap().violation.take();
        found.unwrap_or_else(|| format!("the shard stands still: {error}"))
    }

    /// Does something with the owner, who is gone if it fails.
    pub fn act(&mut self, act: impl FnOnce(&mut Owner) -> Result<(), JournalError>) -> Result<Option<JournalError>, String> {
        let outcome = act(self.owner()?);
        if outcome.is_err() {
            self.owner = None;
        }
        Ok(outcome.err())
    }

    /// One transaction with everything that stands in the inbox; `None` if it was committed.
    pub fn transact(&mut self, most: usize) -> Result<Option<JournalError>, String> {
        let until = Instant::now() + PATIENCE;
        self.act(|owner| {
            // A reader that was just opened needs a moment to be given what stands there.
            while !owner.serve(most, 0)? {
                assert!(Instant::now() < until, "the inbox is empty");
            }
            Ok(())
        })
    }

    /// Serves until everything in the inbox is counted.
    pub fn drain(&mut self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        let (_, end) = self.stage.direct.bounds(INBOX, self.partition).map_err(|error| error.to_string())?;
        while self.owner()?.next() < end {
            if Instant::now() > until {
                return Err(format!("{} does not come to rest", self.name));
            }
            self.act(|owner| owner.serve(100, 0).map(drop))?;
        }
        Ok(())
    }

    /// Everything comes to rest under a last owner, and is judged.
    pub fn conclude(&mut self) -> Result<Report, String> {
        self.stage.proxy.forget(&self.name);
        self.owner = None;
        self.drain()?;
        if let Some(violation) = self.diary.lock().unwrap().violation.take() {
            return Err(violation);
        }
        let mut report = judge(&self.stage.direct, self.partition, &self.diary.lock().unwrap(), Kept::All)?;
        report.counts.producers_opened = self.journal.producers_opened();
        Ok(report)
    }
}
