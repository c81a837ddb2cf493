//! The log on Apache Kafka.
//!
//! Invariants: one transactional producer per shard with a stable id, so that whoever acquires a shard fences its former owner;
//! how a shard uses it stands in `bracket`; readers of shards never fall back to another offset.
//!
//! Deliberately absent: offsets of shards inside transactions (they live in the manifest), idle open transactions, retries of
//! records under a producer that has failed.

mod appender;
mod delivery;
mod feed;
mod follower;
mod membership;
mod producer;
mod reader;
mod settings;
mod topics;
mod watermarks;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use custos_messages::{Machine, Topic};

use crate::bracket::{Cluster, Shard, Terms};
use crate::{Appender, Feed, Journal, JournalError, LogIdentity, Membership, Provision, ShardLog, Start};
pub use settings::KafkaSettings;

/// A log kept by Apache Kafka 4.0 to 4.2.
pub struct KafkaJournal {
    shared: Arc<Shared>,
}

/// What all parts of one journal share.
struct Shared {
    settings: KafkaSettings,
    watermarks: watermarks::Watermarks,
    producers_opened: AtomicU64,
    /// From when the shards count time.
    since: Instant,
}

impl KafkaJournal {
    /// A journal on the cluster that `settings` name. Does not connect yet: a cluster that does not answer shows with the first call.
    ///
    /// # Errors
    /// [`JournalError::Misconfigured`] if the client refuses the settings.
    pub fn new(settings: KafkaSettings) -> Result<Self, JournalError> {
        let watermarks = watermarks::Watermarks::new(&settings)?;
        Ok(Self {
            shared: Arc::new(Shared { settings, watermarks, producers_opened: AtomicU64::new(0), since: Instant::now() }),
        })
    }

    /// Transactional producers opened so far: one for each shard acquired, and one more whenever the end of a transaction was
    /// slow. A figure to watch: it rises when the coordinator is slow or the network drops connections.
    #[must_use]
    pub fn producers_opened(&self) -> u64 {
        self.shared.producers_opened.load(Ordering::Relaxed)
    }

    /// The topics of Custos that the cluster has already.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub fn topics_there(&self) -> Result<Vec<Topic>, JournalError> {
        self.shared.watermarks.there()
    }

    /// Deletes every topic that Custos uses, with everything in it. There is no way back: for installations that were made to be
    /// thrown away. Topics that are not there are none to delete.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub fn remove_topics(&self) -> Result<(), JournalError> {
        topics::remove(&self.shared)
    }
}

impl Cluster for Shared {
    type Transactor = producer::Transactor;
    type Reader = reader::Reader;

    fn terms(&self) -> Terms {
        let settings = &self.settings;
        Terms {
            commit_slow: settings.commit_slow,
            answer_timeout: settings.answer_timeout,
            decided_timeout: settings.decided_timeout,
            record_bytes_max: settings.record_bytes_max,
            defences: settings.defences,
        }
    }

    /// The identity of a machine's log: the cluster's id, the topics, the partitions.
    ///
    /// The client library does not tell topic ids, so a topic that was deleted and made again under its name is not seen here;
    /// it is seen by the digest of the last applied input, which no longer stands at its offset.
    fn identity(&self, machine: Machine) -> Result<LogIdentity, JournalError> {
        let inbox = Topic::Inbox(machine);
        let state = Topic::State(machine);
        let partitions = self.watermarks.partitions(inbox)?;
        let states = self.watermarks.partitions(state)?;
        if partitions != states {
            return Err(JournalError::Misconfigured(format!(
                "{} has {partitions} partitions, {} has {states}: they must be equal",
                inbox.name(),
                state.name()
            )));
        }
        Ok(LogIdentity {
            cluster: self.watermarks.cluster()?,
            inbox: inbox.name().to_owned(),
            state: state.name().to_owned(),
            partitions,
        })
    }

    fn open_transactor(&self, machine: Machine, partition: u32) -> Result<Self::Transactor, JournalError> {
        producer::Transactor::open(self, machine, partition)
    }

    fn open_reader(&self, topic: Topic, partition: u32, offset: u64) -> Result<Self::Reader, JournalError> {
        reader::Reader::open(&self.settings, topic, partition, offset)
    }

    fn committed(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError> {
        self.watermarks.committed(topic, partition)
    }

    fn all(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError> {
        self.watermarks.all(topic, partition)
    }

    fn now(&self) -> Duration {
        self.since.elapsed()
    }

    fn pause(&self, span: Duration) {
        std::thread::sleep(span);
    }
}

impl Journal for KafkaJournal {
    fn join(&self, machine: Machine, member: &str) -> Result<Box<dyn Membership>, JournalError> {
        self.shared.watermarks.await_partitions(Topic::Inbox(machine))?;
        Ok(Box::new(membership::KafkaMembership::join(&self.shared.settings, machine, member)?))
    }

    fn acquire(&self, machine: Machine, partition: u32) -> Result<Box<dyn ShardLog>, JournalError> {
        Ok(Box::new(Shard::acquire(Arc::clone(&self.shared), machine, partition)?))
    }

    fn appender(&self) -> Result<Box<dyn Appender>, JournalError> {
        Ok(Box::new(appender::KafkaAppender::new(Arc::clone(&self.shared))?))
    }

    fn consume(&self, topic: Topic, group: &str) -> Result<Box<dyn Feed>, JournalError> {
        self.shared.watermarks.await_partitions(topic)?;
        Ok(Box::new(feed::GroupFeed::join(&self.shared.settings, topic, group)?))
    }

    fn read(&self, topic: Topic, partition: u32, from: Start) -> Result<Box<dyn Feed>, JournalError> {
        let (first, next) = self.shared.watermarks.committed(topic, partition)?;
        let offset = match from {
            Start::Earliest => first,
            Start::Latest => next,
            Start::At(offset) => offset,
        };
        Ok(Box::new(feed::PartitionFeed::open(&self.shared.settings, topic, partition, offset)?))
    }

    fn follow(&self, topic: Topic, places: &[(u32, u64)]) -> Result<Box<dyn Feed>, JournalError> {
        self.shared.watermarks.partitions(topic)?;
        Ok(Box::new(follower::Follower::open(&self.shared.settings, topic, places)?))
    }

    fn identity(&self, machine: Machine) -> Result<LogIdentity, JournalError> {
        self.shared.identity(machine)
    }

    fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        self.shared.watermarks.partitions(topic)
    }

    fn bounds(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError> {
        self.shared.watermarks.committed(topic, partition)
    }

    fn provision(&self, wanted: &Provision) -> Result<Vec<String>, JournalError> {
        topics::provision(&self.shared, wanted)
    }
}
