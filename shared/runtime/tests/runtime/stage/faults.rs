//! A log that fails on purpose, and remembers what was asked of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use custos_journal::{
    Appender, Assignment, Entry, Feed, Journal, JournalError, LogIdentity, Membership, Provision, Reach, ShardLog, Start,
    Transaction,
};
use custos_messages::{Machine, Record, Topic};

/// Where a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    BeginBefore,
    BeginAfter,
    CommitBefore,
    CommitAfter,
}

/// How it fails.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Unknown,
    Aborted,
    Fenced,
}

#[derive(Default)]
pub struct Faults {
    inner: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    /// After how many calls at this point which fault comes, once.
    next: Option<(Point, usize, Fault)>,
    /// Records that a torn transaction left at the end of the state partition.
    torn: Vec<Record>,
    /// Every transaction that was to be committed.
    commits: Vec<Transaction>,
    /// Appends and acknowledgements, in order.
    trace: Vec<String>,
    /// So many appends to a partition of a topic fail with `Unavailable`.
    refused: Option<(Topic, u32, usize)>,
    deadline: Option<Instant>,
    /// The last note of each partition to the group.
    notes: BTreeMap<u32, u64>,
}

impl Faults {
    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.inner.lock().unwrap()
    }

    pub fn fail(&self, point: Point, after: usize, fault: Fault) {
        self.plan().next = Some((point, after, fault));
    }

    /// Whether the fault is still to come.
    pub fn waits(&self) -> bool {
        self.plan().next.is_some()
    }

    pub fn leave_torn(&self, records: Vec<Record>) {
        self.plan().torn = records;
    }

    pub fn refuse_appends(&self, topic: Topic, partition: u32, times: usize) {
        self.plan().refused = Some((topic, partition, times));
    }

    /// No fault comes any more.
    pub fn clear(&self) {
        self.plan().next = None;
    }

    pub fn commits(&self) -> Vec<Transaction> {
        self.plan().commits.clone()
    }

    pub fn trace(&self) -> Vec<String> {
        self.plan().trace.clone()
    }

    pub fn noted(&self, partition: u32) -> Option<u64> {
        self.plan().notes.get(&partition).copied()
    }

    pub fn set_deadline(&self, deadline: Instant) {
        self.plan().deadline = Some(deadline);
    }

    fn trip(&self, at: Point, machine: Machine, partition: u32) -> Result<(), JournalError> {
        let mut plan = self.plan();
        let Some((point, after, fault)) = plan.next.take() else { return Ok(()) };
        if point != at || after > 0 {
            plan.next = Some((point, if point == at { after - 1 } else { after }, fault));
            return Ok(());
        }
        let (machine, reason) = (machine.name(), "as planned".to_owned());
        Err(match fault {
            Fault::Unknown => JournalError::Unknown { machine, partition, reason },
            Fault::Aborted => JournalError::Aborted { machine, partition, reason },
            Fault::Fenced => JournalError::Fenced { machine, partition },
        })
    }

    fn appended(&self, topic: Topic, partition: u32) -> Result<(), JournalError> {
        let mut plan = self.plan();
        if let Some((of, at, times)) = plan.refused
            && (of, at) == (topic, partition)
            && times > 0
        {
            plan.refused = Some((of, at, times - 1));
            return Err(JournalError::Unavailable { operation: "append", reason: "as planned".to_owned() });
        }
        Ok(())
    }
}

pub struct Faulty {
    pub inner: Arc<dyn Journal>,
    pub faults: Arc<Faults>,
}

impl Journal for Faulty {
    fn join(&self, machine: Machine, member: &str) -> Result<Box<dyn Membership>, JournalError> {
        let inner = self.inner.join(machine, member)?;
        Ok(Box::new(FaultyMembership { inner, faults: Arc::clone(&self.faults) }))
    }

    fn acquire(&self, machine: Machine, partition: u32) -> Result<Box<dyn ShardLog>, JournalError> {
        let inner = self.inner.acquire(machine, partition)?;
        Ok(Box::new(FaultyShard { inner, faults: Arc::clone(&self.faults), machine, partition }))
    }

    fn appender(&self) -> Result<Box<dyn Appender>, JournalError> {
        Ok(Box::new(FaultyAppender { inner: self.inner.appender()?, faults: Arc::clone(&self.faults) }))
    }

    fn consume(&self, topic: Topic, group: &str) -> Result<Box<dyn Feed>, JournalError> {
        Ok(Box::new(FaultyFeed { inner: self.inner.consume(topic, group)?, faults: Arc::clone(&self.faults) }))
    }

    fn read(&self, topic: Topic, partition: u32, from: Start) -> Result<Box<dyn Feed>, JournalError> {
        self.inner.read(topic, partition, from)
    }

    fn follow(&self, topic: Topic, places: &[(u32, u64)]) -> Result<Box<dyn Feed>, JournalError> {
        self.inner.follow(topic, places)
    }

    fn identity(&self, machine: Machine) -> Result<LogIdentity, JournalError> {
        self.inner.identity(machine)
    }

    fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        self.inner.partitions(topic)
    }

    fn bounds(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError> {
        self.inner.bounds(topic, partition)
    }

    fn provision(&self, wanted: &Provision) -> Result<Vec<String>, JournalError> {
        self.inner.provision(wanted)
    }
}

struct FaultyMembership {
    inner: Box<dyn Membership>,
    faults: Arc<Faults>,
}

impl Membership for FaultyMembership {
    fn poll(&mut self, wait: Duration) -> Result<Option<Assignment>, JournalError> {
        self.inner.poll(wait)
    }

    fn released(&mut self, partitions: &[u32]) -> Result<(), JournalError> {
        self.inner.released(partitions)
    }

    fn note(&mut self, partition: u32, next: u64) {
        self.faults.plan().notes.insert(partition, next);
        self.inner.note(partition, next);
    }
}

struct FaultyShard {
    inner: Box<dyn ShardLog>,
    faults: Arc<Faults>,
    machine: Machine,
    partition: u32,
}

impl FaultyShard {
    fn show_torn(&self, visit: &mut dyn FnMut(Entry)) {
        let torn = std::mem::take(&mut self.faults.plan().torn);
        for record in torn {
            visit(Entry { partition: self.partition, offset: u64::MAX, at: None, record });
        }
    }
}

impl ShardLog for FaultyShard {
    fn identity(&self) -> Result<LogIdentity, JournalError> {
        self.inner.identity()
    }

    fn restore(&mut self, visit: &mut dyn FnMut(Entry)) -> Result<(), JournalError> {
        self.inner.restore(visit)?;
        self.show_torn(visit);
        Ok(())
    }

    fn restore_from(&mut self, from: u64, visit: &mut dyn FnMut(Entry)) -> Result<Reach, JournalError> {
        let reach = self.inner.restore_from(from, visit)?;
        if reach == Reach::Whole {
            self.show_torn(visit);
        }
        Ok(reach)
    }

    fn seek(&mut self, next: u64) -> Result<(), JournalError> {
        self.inner.seek(next)
    }

    fn inbox_at(&mut self, offset: u64) -> Result<Option<Entry>, JournalError> {
        self.inner.inbox_at(offset)
    }

    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        if self.faults.plan().deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(JournalError::Misconfigured("the test takes too long".to_owned()));
        }
        self.inner.poll(most, wait)
    }

    fn begin(&mut self, header: Record) -> Result<(), JournalError> {
        self.faults.trip(Point::BeginBefore, self.machine, self.partition)?;
        self.inner.begin(header)?;
        self.faults.trip(Point::BeginAfter, self.machine, self.partition)
    }

    fn commit(&mut self, transaction: Transaction) -> Result<(), JournalError> {
        self.faults.plan().commits.push(transaction.clone());
        self.faults.trip(Point::CommitBefore, self.machine, self.partition)?;
        self.inner.commit(transaction)?;
        self.faults.trip(Point::CommitAfter, self.machine, self.partition)
    }

    fn abort(&mut self) -> Result<(), JournalError> {
        self.inner.abort()
    }

    fn position(&self) -> u64 {
        self.inner.position()
    }
}

struct FaultyAppender {
    inner: Box<dyn Appender>,
    faults: Arc<Faults>,
}

impl Appender for FaultyAppender {
    fn append(&self, topic: Topic, partition: u32, record: Record) -> Result<u64, JournalError> {
        self.faults.appended(topic, partition)?;
        let appended = self.inner.append(topic, partition, record);
        self.faults.plan().trace.push(format!("append {}", topic.name()));
        appended
    }

    fn append_all(&self, records: Vec<(Topic, u32, Record)>) -> Result<(), JournalError> {
        let topics: Vec<Topic> = records.iter().map(|(topic, _, _)| *topic).collect();
        records.iter().try_for_each(|(topic, partition, _)| self.faults.appended(*topic, *partition))?;
        self.inner.append_all(records)?;
        self.faults.plan().trace.extend(topics.iter().map(|topic| format!("append {}", topic.name())));
        Ok(())
    }
}

struct FaultyFeed {
    inner: Box<dyn Feed>,
    faults: Arc<Faults>,
}

impl Feed for FaultyFeed {
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        self.inner.poll(most, wait)
    }

    fn acknowledge(&mut self, partition: u32, offset: u64) -> Result<(), JournalError> {
        self.inner.acknowledge(partition, offset)?;
        self.faults.plan().trace.push(format!("acknowledge {offset}"));
        Ok(())
    }
}
