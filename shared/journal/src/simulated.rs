//! The simulated log: an executable model of Kafka's transactions as librdkafka drives them, in one thread, from a seed.
//!
//! What runs on it is the code that runs on Kafka (`bracket`); the model is everything below: partitions with markers and aborted data,
//! coordinators, producers that repeat what was not answered, groups. A request may be lost, late, or answered in vain; a late
//! `EndTxn` ends whatever is open when it arrives, as the first transaction protocol has it.
//!
//! Invariants: the same seed and the same calls give the same trace (with virtual time and one thread); what was acknowledged stays, unless
//! a test takes it away; nothing happens that Kafka's protocol rules out.
//!
//! Deliberately absent: leaders that move (but for what readers and clocks see of it), offsets inside transactions (nobody uses them), encodings, deletion of old records,
//! late markers of a coordinator that moved, markers forgotten in other partitions than those of state.

mod appender;
mod broker;
mod chance;
mod client;
mod coordinator;
mod feed;
mod group;
mod membership;
mod partition;
mod protocol;
mod reader;
mod seats;
mod world;

use std::sync::Arc;
use std::time::Duration;

use custos_messages::{Machine, Topic};

use crate::bracket::{Cluster, Defences, Shard, Terms};
use crate::{Appender, Feed, Journal, JournalError, LogIdentity, Membership, Provision, ShardLog, Start};

pub use chance::{Faults, Rate};
pub use protocol::RequestKind;

/// Whose time the simulated log runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedTime {
    /// Its own: nothing waits, and who would wait moves the clock. For one thread.
    Virtual,
    /// The host's: who waits is woken. For several threads; nothing is deterministic.
    Real,
}

/// How a simulated log behaves. The spans are those of [`crate::KafkaSettings`].
#[derive(Clone, Copy, Debug)]
pub struct SimulatedSettings {
    /// Everything that chance decides follows from it.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// What keeps torn transactions from doing harm.
    pub defences: Defences,
    /// The brokers' `transaction.partition.verification.enable`.
    pub verification: bool,
    /// Whether all producers of a shard share one transactional id, so that a new one fences whoever came before.
    pub fencing: bool,
    /// Whether a shard is restored from committed records only. All other readers are shown nothing else.
    pub restore_committed: bool,
    /// Whose time it runs on.
    pub time: SimulatedTime,
    /// Whether what happens is kept as text: [`SimulatedCluster::story`].
    pub story: bool,
    /// A transaction open for so long is aborted.
    pub transaction_timeout: Duration,
    /// Pause before a client repeats a request.
    pub retry_backoff: Duration,
    /// An end of a transaction that took longer counts as repeated.
    pub commit_slow: Duration,
    /// How long a call waits for an answer.
    pub answer_timeout: Duration,
    /// How long an acquisition waits for transactions of others to be decided.
    pub decided_timeout: Duration,
    /// A member of a group that is silent for so long is put out.
    pub session_timeout: Duration,
    /// How long a revoked shard may take to be released.
    pub release_timeout: Duration,
    /// State topics' `min.compaction.lag.ms`: what is younger is not compacted.
    pub compaction_lag: Duration,
    /// The largest record: key, value and headers.
    pub record_bytes_max: usize,
}

impl SimulatedSettings {
    /// Virtual time, no faults, all defences, and the spans that production begins with.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            faults: Faults::NONE,
            defences: Defences::ALL,
            verification: true,
            fencing: true,
            restore_committed: true,
            time: SimulatedTime::Virtual,
            story: false,
            transaction_timeout: Duration::from_secs(10),
            retry_backoff: Duration::from_secs(1),
            commit_slow: Duration::from_millis(500),
            answer_timeout: Duration::from_secs(30),
            decided_timeout: Duration::from_secs(45),
            session_timeout: Duration::from_secs(6),
            release_timeout: Duration::from_secs(5),
            compaction_lag: Duration::from_secs(7 * 24 * 3600),
            record_bytes_max: 1_000_000,
        }
    }
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that arrived late.
    pub late_arrivals: u64,
    /// Ends that hit another transaction than the one they meant.
    pub stray_ends: u64,
    /// Processes killed.
    pub kills: u64,
    /// Records lost with a broker, of which nobody was told.
    pub lost_records: u64,
    /// Writes that took long.
    pub slow_writes: u64,
    /// Markers of state partitions that were never written.
    pub markers_forgotten: u64,
    /// New leaders that did not know of everything yet when they were read.
    pub leaders_behind: u64,
    /// Transactional producers opened.
    pub producers_opened: u64,
}

/// A simulated cluster. It lives as long as it or one of its processes does.
pub struct SimulatedCluster {
    core: Arc<world::Core>,
}

impl SimulatedCluster {
    /// A cluster without topics: [`Journal::provision`] makes them.
    #[must_use]
    pub fn new(settings: SimulatedSettings) -> Self {
        Self { core: Arc::new(world::Core::new(settings)) }
    }

    /// A new process that uses the cluster.
    #[must_use]
    pub fn process(&self) -> SimulatedJournal {
        let process = self.core.lock().start_process();
        SimulatedJournal { process: Arc::new(Process { core: Arc::clone(&self.core), number: process }) }
    }

    /// Calls `hook` before each request of any process, outside of every lock, so that it can use the cluster itself: this is where
    /// another owner steps in. It is not called for requests that it causes.
    pub fn at_each_request(&self, hook: impl FnMut(RequestKind) + Send + 'static) {
        self.core.set_hook(Some(Box::new(hook)));
    }

    /// From now on nothing goes wrong; what was under way arrives or never will; the hook is forgotten.
    pub fn heal(&self) {
        self.core.set_hook(None);
        self.core.lock().heal();
        self.core.changed();
    }

    /// From now on this goes wrong, instead of what the settings say.
    pub fn set_faults(&self, faults: Faults) {
        self.core.lock().set_faults(faults);
    }

    /// Holds back the next request of this kind, whose sender hears nothing and repeats it.
    pub fn hold_next(&self, kind: RequestKind) {
        self.core.lock().hold_next(kind);
    }

    /// Lets arrive what was held back, in order. Returns how many requests that were.
    pub fn release(&self) -> usize {
        let released = self.core.lock().release();
        self.core.changed();
        released
    }

    /// Lets virtual time pass while nobody calls.
    pub fn pass(&self, span: Duration) {
        let mut world = self.core.lock();
        world.advance(span);
        world.go_on();
    }

    /// Keeps the newest record of each key of a partition, of what is old enough, as a compacted topic does.
    pub fn compact(&self, topic: Topic, partition: u32) {
        let mut world = self.core.lock();
        let until = world.compactable();
        if let Some(partition) = world.broker.partition_mut((topic, partition)) {
            partition.compact(until);
        }
    }

    /// Takes away what a partition holds from `offset` on, acknowledged or not: what an unclean election or a restored volume does.
    pub fn truncate(&self, topic: Topic, partition: u32, offset: u64) {
        if let Some(partition) = self.core.lock().broker.partition_mut((topic, partition)) {
            partition.truncate(offset);
        }
    }

    /// A hash over everything that has happened.
    #[must_use]
    pub fn trace(&self) -> [u8; 32] {
        self.core.lock().trace()
    }

    /// Everything that has happened, one line each, with the milliseconds since the start; empty unless it was asked for.
    #[must_use]
    pub fn story(&self) -> Vec<String> {
        self.core.lock().story()
    }

    /// What has happened so far, in numbers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.core.lock().counts
    }

    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.core.now()
    }
}

/// The log as one process sees it. When the process is killed, every further call of it and of what was opened with it fails.
pub struct SimulatedJournal {
    process: Arc<Process>,
}

struct Process {
    core: Arc<world::Core>,
    number: u64,
}

impl SimulatedJournal {
    /// Kills the process. What it has sent may still arrive.
    pub fn kill(&self) {
        self.process.core.lock().kill(self.process.number);
    }

    /// Whether the process was killed.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        !self.process.core.lock().is_alive(self.process.number)
    }

    fn ask<T>(
        &self,
        operation: &'static str,
        question: impl FnOnce(&mut world::World) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        self.process.ask(operation, question)
    }
}

impl Process {
    fn ask<T>(
        &self,
        operation: &'static str,
        question: impl FnOnce(&mut world::World) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let mut world = self.core.lock();
        world.go_on();
        world.alive(operation, self.number)?;
        question(&mut world)
    }

    fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        self.ask("describe a topic", |world| match world.broker.count(topic) {
            0 => Err(JournalError::Misconfigured(format!("there is no topic {}", topic.name()))),
            count => Ok(count),
        })
    }

    fn bounds(&self, place: (Topic, u32), committed: bool) -> Result<(u64, u64), JournalError> {
        self.ask("ask where a partition begins and ends", |world| {
            let no_such = || JournalError::Misconfigured(format!("{} has no partition {}", place.0.name(), place.1));
            world.catch_up(place);
            let partition = world.broker.partition(place).ok_or_else(no_such)?;
            Ok((partition.first(), if committed { partition.stable() } else { partition.high() }))
        })
    }
}

impl Cluster for Process {
    type Transactor = client::Transactor;
    type Reader = reader::Reader;

    fn terms(&self) -> Terms {
        let settings = &self.core.settings;
        Terms {
            commit_slow: settings.commit_slow,
            answer_timeout: settings.answer_timeout,
            decided_timeout: settings.decided_timeout,
            record_bytes_max: settings.record_bytes_max,
            defences: settings.defences,
        }
    }

    fn identity(&self, machine: Machine) -> Result<LogIdentity, JournalError> {
        let (inbox, state) = (Topic::Inbox(machine), Topic::State(machine));
        Ok(LogIdentity {
            cluster: format!("simulated-{:016x}", self.core.settings.seed),
            inbox: inbox.name().to_owned(),
            state: state.name().to_owned(),
            partitions: self.partitions(inbox)?,
        })
    }

    fn open_transactor(&self, machine: Machine, partition: u32) -> Result<Self::Transactor, JournalError> {
        client::Transactor::open(&self.core, self.number, (machine, partition))
    }

    fn open_reader(&self, topic: Topic, partition: u32, offset: u64) -> Result<Self::Reader, JournalError> {
        let committed_only = self.core.settings.restore_committed || !matches!(topic, Topic::State(_));
        reader::Reader::open(&self.core, self.number, (topic, partition, offset), committed_only)
    }

    fn committed(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError> {
        self.bounds((topic, partition), self.core.settings.restore_committed || !matches!(topic, Topic::State(_)))
    }

    fn all(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError> {
        self.bounds((topic, partition), false)
    }

    fn now(&self) -> Duration {
        self.core.now()
    }

    fn pause(&self, span: Duration) {
        self.core.pause(span);
    }
}

impl Journal for SimulatedJournal {
    fn join(&self, machine: Machine, member: &str) -> Result<Box<dyn Membership>, JournalError> {
        self.process.partitions(Topic::Inbox(machine))?;
        let Process { core, number } = &*self.process;
        Ok(Box::new(membership::SimulatedMembership::join(core, *number, machine, member)?))
    }

    fn acquire(&self, machine: Machine, partition: u32) -> Result<Box<dyn ShardLog>, JournalError> {
        Ok(Box::new(Shard::acquire(Arc::clone(&self.process), machine, partition)?))
    }

    fn appender(&self) -> Result<Box<dyn Appender>, JournalError> {
        Ok(Box::new(appender::SimulatedAppender::new(&self.process.core, self.process.number)?))
    }

    fn consume(&self, topic: Topic, group: &str) -> Result<Box<dyn Feed>, JournalError> {
        self.process.partitions(topic)?;
        Ok(Box::new(feed::GroupFeed::join(&self.process.core, self.process.number, topic, group)?))
    }

    fn read(&self, topic: Topic, partition: u32, from: Start) -> Result<Box<dyn Feed>, JournalError> {
        let (first, next) = self.bounds(topic, partition)?;
        let offset = match from {
            Start::Earliest => first,
            Start::Latest => next,
            Start::At(offset) => offset,
        };
        let Process { core, number } = &*self.process;
        Ok(Box::new(reader::Reader::open(core, *number, (topic, partition, offset), true)?))
    }

    fn follow(&self, topic: Topic, places: &[(u32, u64)]) -> Result<Box<dyn Feed>, JournalError> {
        for (partition, _) in places {
            self.bounds(topic, *partition)?;
        }
        let Process { core, number } = &*self.process;
        let next = places.iter().copied().collect();
        Ok(Box::new(reader::Follower { core: Arc::clone(core), process: *number, topic, next, served: 0 }))
    }

    fn identity(&self, machine: Machine) -> Result<LogIdentity, JournalError> {
        Cluster::identity(&*self.process, machine)
    }

    fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        self.process.partitions(topic)
    }

    fn bounds(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError> {
        self.process.bounds((topic, partition), true)
    }

    fn provision(&self, wanted: &Provision) -> Result<Vec<String>, JournalError> {
        self.ask("create topics", |world| {
            let mut differences = Vec::new();
            for topic in Topic::ALL {
                let partitions = if topic == Topic::GatewayReplies { wanted.gateways } else { wanted.partitions };
                match world.broker.count(topic) {
                    0 => world.broker.create(topic, partitions),
                    found if found == partitions => {}
                    found => differences.push(format!("{}: {found} partitions, wanted {partitions}", topic.name())),
                }
            }
            Ok(differences)
        })
    }
}
