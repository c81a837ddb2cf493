//! A shard that counts without pause while brokers come and go.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use custos_journal::{Appender, Journal, JournalError, KafkaJournal, KafkaSettings, Remedy, ShardLog};
use custos_messages::Machine;
use custos_parts::Cluster;

use crate::cluster::PATIENCE;
use crate::counting::judge::{Kept, Report, judge};
use crate::counting::{INBOX, Owner, SharedDiary, input, take_over};

/// Inputs of one step.
const INPUTS: u64 = 3;

/// The shard's place in the log, as soon as the brokers give it.
pub fn acquired(journal: &KafkaJournal, machine: Machine, partition: u32) -> Box<dyn ShardLog> {
    let until = Instant::now() + PATIENCE;
    loop {
        match journal.acquire(machine, partition) {
            Ok(log) => return log,
            Err(error) => assert!(error.remedy() == Remedy::Retry && Instant::now() < until, "{error}"),
        }
    }
}

/// What happened to a shard, and when.
pub struct Shard {
    pub journal: KafkaJournal,
    pub partition: u32,
    pub diary: SharedDiary,
    /// Moments at which a transaction was committed.
    pub commits: Mutex<Vec<Instant>>,
    /// Errors that owners and clients met, by what is to be done.
    pub errors: Mutex<Vec<String>>,
    /// Inputs that were acknowledged.
    pub acknowledged: AtomicU64,
}

impl Shard {
    pub fn new(cluster: &Cluster, partition: u32) -> Self {
        let journal = KafkaJournal::new(KafkaSettings::new(cluster.bootstrap(), "counting")).unwrap();
        let diary = SharedDiary::default();
        Self {
            journal,
            partition,
            diary,
            commits: Mutex::default(),
            errors: Mutex::default(),
            acknowledged: AtomicU64::new(0),
        }
    }

    fn note(&self, what: &str, error: &JournalError) {
        self.errors.lock().unwrap().push(format!("{what}: {:?}: {error}", error.remedy()));
    }

    fn put(&self, appender: &dyn Appender, number: u64) {
        match appender.append(INBOX, self.partition, input(number)) {
            Ok(_) => drop(self.acknowledged.fetch_add(1, Ordering::Relaxed)),
            // It may stand in the inbox all the same: the inbox says so.
            Err(error) => self.note("append", &error),
        }
    }

    /// Appends and counts until it is told to end.
    pub fn run(&self, end: &AtomicBool) {
        let appender = self.journal.appender().unwrap();
        let mut owner: Option<Owner> = None;
        let mut number = 1;
        while !end.load(Ordering::Relaxed) {
            for _ in 0..INPUTS {
                self.put(appender.as_ref(), number);
                number += 1;
            }
            let Some(mut current) = owner.take().or_else(|| self.take()) else { continue };
            match current.serve(10, 0) {
                Ok(served) => {
                    if served {
                        self.commits.lock().unwrap().push(Instant::now());
                    }
                    owner = Some(current);
                }
                Err(error) => self.note("serve", &error),
            }
        }
    }

    fn take(&self) -> Option<Owner> {
        let taken = take_over(&self.journal, self.partition, &self.diary, true);
        taken.map_err(|error| self.note("take over", &error)).ok()
    }

    /// The first commit after a moment, from that moment on.
    pub fn commit_after(&self, moment: Instant) -> Duration {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.commits.lock().unwrap().iter().find(|at| **at > moment).copied();
            if let Some(at) = found {
                return at - moment;
            }
            assert!(Instant::now() < until, "no commit within {PATIENCE:?}: {:#?}", self.errors.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything comes to rest under a last owner, and is judged.
    pub fn conclude(&self, kept: Kept) -> Result<Report, String> {
        let until = Instant::now() + PATIENCE;
        let mut owner: Option<Owner> = None;
        let (_, end) = self.journal.bounds(INBOX, self.partition).map_err(|error| error.to_string())?;
        while owner.as_ref().is_none_or(|owner| owner.next() < end) {
            if Instant::now() > until {
                return Err(format!("the shard does not come to rest: {:#?}", self.errors.lock().unwrap()));
            }
            let Some(mut current) = owner.take().or_else(|| self.take()) else { continue };
            match current.serve(100, 0) {
                Ok(_) => owner = Some(current),
                Err(error) if error.remedy() == Remedy::Halt => return Err(error.to_string()),
                Err(error) => self.note("serve", &error),
            }
        }
        let mut diary = self.diary.lock().unwrap();
        if let Some(violation) = diary.violation.take() {
            return Err(violation);
        }
        let report = judge(&self.journal, self.partition, &diary, kept)?;
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        if report.inputs < acknowledged {
            return Err(format!("{acknowledged} inputs were acknowledged, {} are there", report.inputs));
        }
        Ok(report)
    }
}
