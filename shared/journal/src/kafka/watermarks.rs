//! What the cluster says about topics: partitions, where they begin, where they end for readers of committed records and for all.

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use std::time::{Duration, Instant};

use custos_messages::Topic;

use super::settings::KafkaSettings;
use super::wire::{failure, native, perhaps_gone};
use crate::{JournalError, Remedy};

/// Two clients that only ask questions: one sees committed records, one sees all.
pub(super) struct Watermarks {
    committed: BaseConsumer,
    all: BaseConsumer,
    answer_timeout: Duration,
}

impl Watermarks {
    pub(super) fn new(settings: &KafkaSettings) -> Result<Self, JournalError> {
        let client = |isolation: &str| -> Result<BaseConsumer, JournalError> {
            let mut config = settings.client();
            config.set("isolation.level", isolation).set("allow.auto.create.topics", "false");
            config.create().map_err(|error| failure("open a client", &error))
        };
        Ok(Self {
            committed: client("read_committed")?,
            all: client("read_uncommitted")?,
            answer_timeout: settings.answer_timeout,
        })
    }

    /// Partitions of a topic that exists and has a leader for each.
    pub(super) fn partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        let found = partitions(&self.committed, topic, self.answer_timeout);
        self.serve();
        found
    }

    /// The same, waiting for leaders that are being chosen: for what begins, and holds nothing that others wait for.
    pub(super) fn await_partitions(&self, topic: Topic) -> Result<u32, JournalError> {
        let until = Instant::now() + self.answer_timeout;
        loop {
            match self.partitions(topic) {
                Err(error) if error.remedy() == Remedy::Retry && Instant::now() < until => std::thread::sleep(ASK_AGAIN),
                found => return found,
            }
        }
    }

    /// Which topics the cluster has.
    pub(super) fn there(&self) -> Result<Vec<Topic>, JournalError> {
        let metadata = self
            .committed
            .client()
            .fetch_metadata(None, self.answer_timeout)
            .map_err(|error| failure("list topics", &error))?;
        self.serve();
        Ok(metadata.topics().iter().filter_map(|found| Topic::from_name(found.name())).collect())
    }

    /// First and next offset for a reader of committed records.
    pub(super) fn committed(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError> {
        self.ask(&self.committed, topic, partition)
    }

    /// First and next offset, whatever is committed.
    pub(super) fn all(&self, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError> {
        self.ask(&self.all, topic, partition)
    }

    /// The cluster's id.
    pub(super) fn cluster(&self) -> Result<String, JournalError> {
        let unknown =
            || JournalError::Unavailable { operation: "ask for the cluster's id", reason: "no answer in time".to_owned() };
        self.committed.client().fetch_cluster_id(self.answer_timeout).ok_or_else(unknown)
    }

    fn ask(&self, client: &BaseConsumer, topic: Topic, partition: u32) -> Result<(u64, u64), JournalError> {
        let operation = "ask where a partition begins and ends";
        let number = native(partition)?;
        let until = Instant::now() + self.answer_timeout;
        let (low, high) = loop {
            let answer = client.fetch_watermarks(topic.name(), number, self.answer_timeout);
            self.serve();
            match answer {
                Ok(bounds) => break bounds,
                Err(error) if Instant::now() < until && error.rdkafka_error_code().is_some_and(passes) => {
                    std::thread::sleep(ASK_AGAIN);
                }
                Err(error) if error.rdkafka_error_code().is_some_and(perhaps_gone) => {
                    there(client, topic, partition, self.answer_timeout)?;
                    return Err(failure(operation, &error));
                }
                Err(error) => return Err(failure(operation, &error)),
            }
        };
        match (u64::try_from(low), u64::try_from(high)) {
            (Ok(low), Ok(high)) => Ok((low, high)),
            _ => Err(JournalError::Unavailable { operation, reason: format!("bounds {low} and {high}") }),
        }
    }

    /// Takes what the clients have to say out of their queues; only the log lines matter, and those the library writes itself.
    fn serve(&self) {
        for client in [&self.committed, &self.all] {
            if let Some(Err(error)) = client.poll(Duration::ZERO) {
                tracing::debug!(%error, "kafka client");
            }
        }
    }
}

/// Partitions of a topic that exists and has a leader for each.
fn partitions<C: ConsumerContext>(client: &BaseConsumer<C>, topic: Topic, within: Duration) -> Result<u32, JournalError> {
    let operation = "describe a topic";
    let metadata = client.fetch_metadata(Some(topic.name()), within).map_err(|error| failure(operation, &error))?;
    let missing = || JournalError::Misconfigured(format!("there is no topic {}", topic.name()));
    let found = metadata.topics().iter().find(|found| found.name() == topic.name()).ok_or_else(missing)?;
    if let Some(error) = found.error() {
        let code = RDKafkaErrorCode::from(error);
        let error = KafkaError::MetadataFetch(code);
        return Err(if perhaps_gone(code) { missing() } else { failure(operation, &error) });
    }
    if found.partitions().is_empty() {
        return Err(missing());
    }
    if found.partitions().iter().any(|partition| partition.leader() < 0) {
        return Err(JournalError::Unavailable { operation, reason: format!("{} has no leader", topic.name()) });
    }
    u32::try_from(found.partitions().len()).map_err(|_| missing())
}

/// An error where the cluster does not have the partition, or cannot tell.
fn there<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: Topic,
    partition: u32,
    within: Duration,
) -> Result<(), JournalError> {
    let count = partitions(client, topic, within)?;
    if partition < count {
        Ok(())
    } else {
        Err(JournalError::Misconfigured(format!("{} has {count} partitions: there is no {partition}", topic.name())))
    }
}

/// Whether reading may go on after `error`, which came in the place of a record: not where the cluster says that it does not have the
/// topic, or not the partition (the first one stands for the topic, which never lacks it). What it cannot tell now mends itself, or is said again.
pub(super) fn goes_on<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: Topic,
    partition: u32,
    error: &KafkaError,
    within: Duration,
) -> Result<(), JournalError> {
    if !error.rdkafka_error_code().is_some_and(perhaps_gone) {
        return Ok(());
    }
    match there(client, topic, partition, within) {
        Err(gone) if gone.remedy() == Remedy::Halt => Err(gone),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Pause before the same question, when a partition is just getting its leader.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Whether this code is that of a partition that is just getting its leader.
const fn passes(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::NotLeaderForPartition | Code::LeaderNotAvailable | Code::OffsetNotAvailable)
}
