//! The one seam to the log: what machines need ([`ShardLog`]), what services and readers need ([`Feed`]), and what everyone may
//! do ([`Appender`]), behind one [`Journal`].
//!
//! Invariants: a transaction is visible whole or not at all to whoever reads committed; only the newest acquirer of a shard can
//! commit to it; offsets of a partition rise and are never reused; a record's time is the log's, one log's times may step back
//! (the runtime clamps). All calls block and belong on a thread of their own, never on an async worker. Only this crate knows
//! rdkafka and the embedded store. There are three implementations, and all pass the same contract: Kafka; the embedded store; and a
//! simulated cluster for tests, a model of Kafka's transactions with faults from a seed, on which the same code writes transactions.

mod bracket;
pub mod contract;
mod embedded;
mod kafka;
mod simulated;

pub use bracket::{Defence, Defences};
pub use embedded::EmbeddedJournal;
pub use kafka::{KafkaJournal, KafkaSettings};
pub use simulated::{
    Counts, Faults, Rate, RequestKind, SimulatedCluster, SimulatedJournal, SimulatedSettings, SimulatedTime,
};

use std::time::Duration;

use custos_domain::Timestamp;
use custos_messages::{Machine, Record, Topic};

/// A record in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// The log's time; `None` if the record carries no broker time.
    pub at: Option<Timestamp>,
    /// The record.
    pub record: Record,
}

/// Which log this is: a shard's manifest names it, and a shard never runs on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster's id.
    pub cluster: String,
    /// The ids of the machine's inbox and state topics.
    pub inbox: String,
    /// See `inbox`.
    pub state: String,
    /// Partitions of the inbox.
    pub partitions: u32,
}

/// A change of the shards that a member of a machine's group holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// These partitions are to be taken over.
    Gained(Vec<u32>),
    /// These are to be given up: finish or abort now, then call [`Membership::released`].
    Revoked(Vec<u32>),
    /// These belong to somebody else already: no further call to the log for them.
    Lost(Vec<u32>),
}

/// Everything that one transaction writes, in the order of the bracket. All of it goes to the shard's own partition.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Records for other topics: events, commands, watch list, quarantine.
    pub outputs: Vec<(Topic, Record)>,
    /// Changed state records; no value is a tombstone.
    pub state: Vec<Record>,
    /// The manifest: the last record of the transaction in the state topic.
    pub manifest: Record,
}

/// What went wrong with the log. What to do is [`JournalError::remedy`].
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another owner has the shard.
    #[error("shard {machine}/{partition} is owned by another")]
    Fenced {
        /// The machine.
        machine: &'static str,
        /// The partition.
        partition: u32,
    },
    /// The outcome of a commit is not known: the shard must be taken over again.
    #[error("the outcome of a transaction of shard {machine}/{partition} is not known: {reason}")]
    Unknown {
        /// The machine.
        machine: &'static str,
        /// The partition.
        partition: u32,
        /// What was seen.
        reason: String,
    },
    /// The transaction was aborted; nothing of it is visible. The shard must be rewound.
    #[error("a transaction of shard {machine}/{partition} was aborted: {reason}")]
    Aborted {
        /// The machine.
        machine: &'static str,
        /// The partition.
        partition: u32,
        /// What was seen.
        reason: String,
    },
    /// The log cannot be reached now.
    #[error("{operation}: the log does not answer: {reason}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// What was seen.
        reason: String,
    },
    /// A record is larger than the log takes.
    #[error("a record of {bytes} bytes for {topic} is larger than the log takes")]
    TooLarge {
        /// The topic.
        topic: &'static str,
        /// Key, value and headers.
        bytes: usize,
    },
    /// The log is not as it must be: missing topic, wrong partitions, wrong settings, open transactions of others.
    #[error("{0}")]
    Misconfigured(String),
    /// The embedded store failed.
    #[error("{operation}: the embedded store failed")]
    Store {
        /// What was tried.
        operation: &'static str,
        /// What it says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What to do about a [`JournalError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The same call again, after a pause.
    Retry,
    /// Drop the shard and take it over again (rule 2).
    TakeOver,
    /// Drop the shard; another owner has it.
    Drop,
    /// Stop and page: a human must look.
    Halt,
}

impl JournalError {
    /// What to do. Total: every error has one answer.
    #[must_use]
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Fenced { .. } => Remedy::Drop,
            Self::Unknown { .. } | Self::Aborted { .. } => Remedy::TakeOver,
            Self::Unavailable { .. } => Remedy::Retry,
            Self::TooLarge { .. } | Self::Misconfigured(_) | Self::Store { .. } => Remedy::Halt,
        }
    }
}

/// A log.
pub trait Journal: Send + Sync {
    /// Joins the group that shares a machine's shards. Membership only assigns; [`Journal::acquire`] fences.
    fn join(&self, machine: Machine, member: &str) -> Result<Box<dyn Membership>, JournalError>;

    /// Takes a shard: fences and aborts its former owner, and waits until everything in its state partition is decided.
    /// The returned log is positioned nowhere: call [`ShardLog::restore`], then [`ShardLog::seek`].
    fn acquire(&self, machine: Machine, partition: u32) -> Result<Box<dyn ShardLog>, JournalError>;

    /// A plain, idempotent, durable writer.
    fn appender(&self) -> Result<Box<dyn Appender>, JournalError>;

    /// Consumes a topic in a group: at least once, committed records only, all members share the partitions.
    fn consume(&self, topic: Topic, group: &str) -> Result<Box<dyn Feed>, JournalError>;

    /// Reads one partition of a topic, committed records only, from `from` on, without a group.
    fn read(&self, topic: Topic, partition: u32, from: Start) -> Result<Box<dyn Feed>, JournalError>;

    /// Reads several partitions of one topic, committed records only, each from its own offset on, without a group and with the
    /// connections of one reader. The order holds within a partition.
    fn follow(&self, topic: Topic, places: &[(u32, u64)]) -> Result<Box<dyn Feed>, JournalError>;

    /// Which log a machine's shards stand on, without taking one of them.
    fn identity(&self, machine: Machine) -> Result<LogIdentity, JournalError>;

    /// Partitions of a topic.
    fn partitions(&self, topic: Topic) -> Result<u32, JournalError>;

    /// First and next offset of a partition, as a reader of committed records sees them.
    fn bounds(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError>;

    /// Creates what is missing of `wanted` and checks the rest: partitions, compaction, retention, time type.
    /// Returns one line for each difference that only a human may mend.
    fn provision(&self, wanted: &Provision) -> Result<Vec<String>, JournalError>;
}

/// How topics should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provision {
    /// Partitions of every topic but `gateway.replies`.
    pub partitions: u32,
    /// Partitions of `gateway.replies`: the most gateway instances there can be.
    pub gateways: u32,
    /// Replicas.
    pub replication: u16,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first record that the log still has.
    Earliest,
    /// After the last record that is committed now.
    Latest,
    /// This offset.
    At(u64),
}

/// Membership in the group of a machine.
pub trait Membership: Send {
    /// The next change of assignment, waiting at most `wait`. Must be called often: it also keeps the membership alive.
    fn poll(&mut self, wait: Duration) -> Result<Option<Assignment>, JournalError>;
    /// The revoked partitions are given up.
    fn released(&mut self, partitions: &[u32]) -> Result<(), JournalError>;
    /// Notes how far a shard has come in its inbox, for lag tools only; nothing rests on it.
    fn note(&mut self, partition: u32, next: u64);
}

/// One shard's place in the log, held by one owner.
pub trait ShardLog: Send {
    /// Which log this is.
    fn identity(&self) -> Result<LogIdentity, JournalError>;
    /// Every committed record of the state partition, in order, tombstones included; ends at the end.
    fn restore(&mut self, visit: &mut dyn FnMut(Entry)) -> Result<(), JournalError>;
    /// As [`Self::restore`], from the offset `from` of the state partition on. What was superseded since may be missing, and so may a
    /// tombstone that is old: what was known before `from` and this tail make the state only if its root says so. Shows nothing
    /// and says [`Reach::OutOfRange`] when the log does not have that place: it begins after it, or ends before it.
    fn restore_from(&mut self, from: u64, visit: &mut dyn FnMut(Entry)) -> Result<Reach, JournalError>;
    /// Positions the inbox: the next [`Self::poll`] returns the record at `next` or the first after it.
    fn seek(&mut self, next: u64) -> Result<(), JournalError>;
    /// The record of the inbox at `offset`, committed, for the comparison of digests; `None` if the log no longer has it.
    fn inbox_at(&mut self, offset: u64) -> Result<Option<Entry>, JournalError>;
    /// Up to `most` committed records of the inbox in order; empty when `wait` passes without any.
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError>;
    /// Opens a transaction with its header, which travels while inputs are collected (bracket, first part).
    fn begin(&mut self, header: Record) -> Result<(), JournalError>;
    /// Writes the rest of the bracket and commits. `Ok` means: visible and durable.
    fn commit(&mut self, transaction: Transaction) -> Result<(), JournalError>;
    /// Aborts the open transaction, if any.
    fn abort(&mut self) -> Result<(), JournalError>;
    /// The next offset that a read-committed reader of the inbox will be given: how far the shard has read.
    fn position(&self) -> u64;
}

/// How far a restore from a place could go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everything from that place to the end was shown.
    Whole,
    /// The log does not have that place; nothing was shown.
    OutOfRange,
}

/// Writes records outside of transactions.
pub trait Appender: Send + Sync {
    /// Appends and waits until the record is durable. Returns its offset.
    fn append(&self, topic: Topic, partition: u32, record: Record) -> Result<u64, JournalError>;
    /// Appends several in order, and waits until all are durable.
    fn append_all(&self, records: Vec<(Topic, u32, Record)>) -> Result<(), JournalError>;
}

/// Records for a reader.
pub trait Feed: Send {
    /// Up to `most` records; empty when `wait` passes without any.
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError>;
    /// In a group: everything up to and including `offset` of `partition` is dealt with. Otherwise without effect.
    fn acknowledge(&mut self, partition: u32, offset: u64) -> Result<(), JournalError>;
    /// Whether the polls so far have come to the end of what was committed: `true` only when nothing more stood in the log at some
    /// moment since this feed was opened. For readers of one partition; a group cannot tell and says `false`.
    fn at_end(&self) -> bool {
        false
    }
}
