//! How a shard lives on a cluster whose transactions can be torn: written once, against the few things that a cluster offers.
//!
//! The transaction protocol spoken here lets a delayed end hit a later transaction. So a transaction is written as a bracket
//! (header, then outputs and state, then manifest, each acknowledged before the next, then its end), and a producer whose
//! transaction did not end plainly and quickly is made anew before the next. What runs on Kafka is what runs on the simulated cluster.
//!
//! Deliberately absent: connections, encodings and retries of single requests, which are the cluster's client.

mod shard;

use std::time::Duration;

use custos_messages::{Machine, Record, Topic};

pub(crate) use shard::Shard;

use crate::{Entry, JournalError, LogIdentity};

/// One of the rules that keep torn transactions from doing harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defence {
    /// The header is acknowledged before anything else is sent: whatever is torn leaves its trace in the state topic.
    HeaderAcknowledged,
    /// Outputs and state are acknowledged before the manifest is sent: no manifest stands for outputs that are gone.
    BodyAcknowledged,
    /// After a slow end the producer is made anew: a repeated end that is still under way hits nothing.
    RenewalAfterSlowEnd,
    /// A shard is not read before everything in its state partition is decided.
    StateDecided,
    /// A transaction that the cluster has forgotten to end is ended by the next owner: the shard does not stand still for ever.
    ForgottenEnded,
    /// The end that a reader sees is the log's only if the leader knows of all that was committed: one that is new may not.
    EndConfirmed,
}

/// The defences in force. All of them, but in tests that show what each is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defences {
    header_acknowledged: bool,
    body_acknowledged: bool,
    renewal_after_slow_end: bool,
    state_decided: bool,
    forgotten_ended: bool,
    end_confirmed: bool,
}

impl Defences {
    /// All of them.
    pub const ALL: Self = Self {
        header_acknowledged: true,
        body_acknowledged: true,
        renewal_after_slow_end: true,
        state_decided: true,
        forgotten_ended: true,
        end_confirmed: true,
    };

    /// These without `defence`.
    #[must_use]
    pub const fn without(mut self, defence: Defence) -> Self {
        match defence {
            Defence::HeaderAcknowledged => self.header_acknowledged = false,
            Defence::BodyAcknowledged => self.body_acknowledged = false,
            Defence::RenewalAfterSlowEnd => self.renewal_after_slow_end = false,
            Defence::StateDecided => self.state_decided = false,
            Defence::ForgottenEnded => self.forgotten_ended = false,
            Defence::EndConfirmed => self.end_confirmed = false,
        }
        self
    }

    const fn hold(self, defence: Defence) -> bool {
        match defence {
            Defence::HeaderAcknowledged => self.header_acknowledged,
            Defence::BodyAcknowledged => self.body_acknowledged,
            Defence::RenewalAfterSlowEnd => self.renewal_after_slow_end,
            Defence::StateDecided => self.state_decided,
            Defence::ForgottenEnded => self.forgotten_ended,
            Defence::EndConfirmed => self.end_confirmed,
        }
    }
}

impl Default for Defences {
    fn default() -> Self {
        Self::ALL
    }
}

/// What a shard is told about limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// An end of a transaction that took longer counts as repeated.
    pub(crate) commit_slow: Duration,
    /// How long a call waits for the cluster.
    pub(crate) answer_timeout: Duration,
    /// How long an acquisition waits for transactions of others to be decided.
    pub(crate) decided_timeout: Duration,
    /// The largest record: key, value and headers.
    pub(crate) record_bytes_max: usize,
    pub(crate) defences: Defences,
}

/// What a shard needs of a cluster.
pub(crate) trait Cluster: Send + Sync {
    type Transactor: Transactor;
    type Reader: PartitionReader;

    fn terms(&self) -> Terms;
    fn identity(&self, machine: Machine) -> Result<LogIdentity, JournalError>;
    /// Opens the shard's producer: fences its former owner and ends the transaction that it left open.
    fn open_transactor(&self, machine: Machine, partition: u32) -> Result<Self::Transactor, JournalError>;
    /// A reader of committed records from `offset` on.
    fn open_reader(&self, topic: Topic, partition: u32, offset: u64) -> Result<Self::Reader, JournalError>;
    /// First and next offset for a reader of committed records.
    fn committed(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError>;
    /// First and next offset, whatever is committed.
    fn all(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError>;
    /// Time since some fixed moment; never goes back.
    fn now(&self) -> Duration;
    fn pause(&self, span: Duration);
}

/// The transactional producer of one shard. It is dropped with the first error but [`Verdict::Retry`].
pub(crate) trait Transactor: Send {
    /// Counts records that somebody waits for together.
    type Receipt: Default + Send;

    fn begin(&mut self) -> Result<(), Trouble>;
    /// Hands a record for the shard's own partition of `topic` over; what becomes of it stands on the receipt.
    fn send(&mut self, topic: Topic, record: &Record, receipt: &mut Self::Receipt) -> Result<(), Trouble>;
    /// Waits until every record of the receipt is acknowledged, and returns the offset given last.
    fn await_receipt(&mut self, receipt: &Self::Receipt) -> Result<Option<u64>, Trouble>;
    /// Waits until nothing is under way any more, so that the end that follows is timed alone.
    fn settle(&mut self) -> Result<(), Trouble>;
    /// One attempt to commit; may be repeated after [`Verdict::Retry`].
    fn commit(&mut self) -> Result<(), Trouble>;
    /// One attempt to abort, which also drops what was not sent yet; may be repeated after [`Verdict::Retry`].
    fn abort(&mut self) -> Result<(), Trouble>;
    /// The error that has ended this producer for good, if one has.
    fn fatal(&self) -> Option<Trouble>;
}

/// What an error of a producer means, by its flags and never by its code; the code only tells fencing from other ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The producer has ended: another owner has its id.
    Fenced,
    /// The producer has ended.
    Fatal,
    /// The transaction must be aborted.
    Abort,
    /// The same call again.
    Retry,
}

/// An error of a producer.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
}

/// A reader of one partition, committed records only, at an explicit offset: no group, no fall back.
pub(crate) trait PartitionReader: Send {
    /// The next record is that at `offset`, or the first after it.
    fn seek(&mut self, offset: u64) -> Result<(), JournalError>;
    /// One after the last record read, or where the reader was put.
    fn next(&self) -> u64;
    /// The next record, waiting for so long.
    fn see(&mut self, wait: Duration) -> Result<Seen, JournalError>;
    /// Up to `most` records; waits only for the first.
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError>;
}

/// What a reader saw next.
pub(crate) enum Seen {
    Record(Entry),
    /// Nothing more stands in the log now.
    End,
    /// Time is up.
    Nothing,
}

/// Refuses a record that the log does not take, before anything of it is sent.
pub(crate) fn check_size(topic: Topic, record: &Record, most: usize) -> Result<(), JournalError> {
    let bytes = record.size();
    if bytes > most {
        return Err(JournalError::TooLarge { topic: topic.name(), bytes });
    }
    Ok(())
}
