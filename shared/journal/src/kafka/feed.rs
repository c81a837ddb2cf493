//! Feeds: records for services and readers, in a group or from a position.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use custos_messages::Topic;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::reader::Reader;
use super::settings::KafkaSettings;
use super::watermarks::goes_on;
use super::wire::{entry, failure, halts, native, native_offset};
use crate::bracket::PartitionReader;
use crate::{Entry, Feed, JournalError};

/// How long an acknowledgement may stay unwritten: so much is read again after a crash.
const ACKNOWLEDGE_EVERY: Duration = Duration::from_millis(250);

/// One partition from a position on.
pub(super) struct PartitionFeed(Reader);

impl PartitionFeed {
    pub(super) fn open(settings: &KafkaSettings, topic: Topic, partition: u32, offset: u64) -> Result<Self, JournalError> {
        Reader::open(settings, topic, partition, offset).map(Self)
    }
}

impl Feed for PartitionFeed {
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        self.0.poll(most, wait)
    }

    fn acknowledge(&mut self, _partition: u32, _offset: u64) -> Result<(), JournalError> {
        Ok(())
    }

    fn at_end(&self) -> bool {
        self.0.ended()
    }
}

/// A topic shared in a group, at least once.
pub(super) struct GroupFeed {
    consumer: BaseConsumer<Acknowledged>,
    topic: Topic,
    written: Instant,
    answer_timeout: Duration,
}

/// What is acknowledged and not written to the group yet: the next offset of each partition held.
struct Acknowledged {
    topic: Topic,
    next: Mutex<BTreeMap<u32, u64>>,
}

impl ClientContext for Acknowledged {}

impl ConsumerContext for Acknowledged {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if !matches!(rebalance, Rebalance::Revoke(_)) {
            return;
        }
        if consumer.assignment_lost() {
            // Others hold the partitions already: what is not written is read again there.
            self.take();
        } else if let Err(error) = self.write(consumer, CommitMode::Sync) {
            tracing::warn!(%error, topic = self.topic.name(), "acknowledgements were not written before a rebalance");
        }
    }
}

impl Acknowledged {
    fn take(&self) -> BTreeMap<u32, u64> {
        std::mem::take(&mut *self.next.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, consumer: &BaseConsumer<Self>, mode: CommitMode) -> Result<(), JournalError> {
        let next = self.take();
        if next.is_empty() {
            return Ok(());
        }
        let operation = "acknowledge";
        let mut places = TopicPartitionList::new();
        for (partition, offset) in next {
            places
                .add_partition_offset(self.topic.name(), native(partition)?, Offset::Offset(native_offset(offset)?))
                .map_err(|error| failure(operation, &error))?;
        }
        consumer.commit(&places, mode).map_err(|error| failure(operation, &error))
    }
}

impl GroupFeed {
    pub(super) fn join(settings: &KafkaSettings, topic: Topic, group: &str) -> Result<Self, JournalError> {
        let context = Acknowledged { topic, next: Mutex::new(BTreeMap::new()) };
        let consumer: BaseConsumer<Acknowledged> =
            settings.group_reader(group).create_with_context(context).map_err(|error| failure("open a feed", &error))?;
        consumer.subscribe(&[topic.name()]).map_err(|error| failure("subscribe", &error))?;
        Ok(Self { consumer, topic, written: Instant::now(), answer_timeout: settings.answer_timeout })
    }

    fn write_in_time(&mut self) -> Result<(), JournalError> {
        if self.written.elapsed() < ACKNOWLEDGE_EVERY {
            return Ok(());
        }
        self.written = Instant::now();
        self.consumer.context().write(&self.consumer, CommitMode::Async)
    }
}

impl Feed for GroupFeed {
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        self.write_in_time()?;
        let until = Instant::now() + wait;
        let mut entries = Vec::new();
        while entries.len() < most {
            let left = if entries.is_empty() { until.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            match self.consumer.poll(left) {
                Some(Ok(message)) => entries.push(entry(&message)?),
                Some(Err(error)) => {
                    let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
                    if fatal || error.rdkafka_error_code().is_some_and(halts) {
                        return Err(failure("read in a group", &error));
                    }
                    tracing::debug!(%error, topic = self.topic.name(), "kafka group");
                    goes_on(&self.consumer, self.topic, 0, &error, self.answer_timeout)?;
                }
                None if left.is_zero() => break,
                None => {}
            }
        }
        Ok(entries)
    }

    fn acknowledge(&mut self, partition: u32, offset: u64) -> Result<(), JournalError> {
        {
            let mut next = self.consumer.context().next.lock().unwrap_or_else(PoisonError::into_inner);
            next.insert(partition, offset.saturating_add(1));
        }
        self.write_in_time()
    }
}

impl Drop for GroupFeed {
    fn drop(&mut self) {
        // Queued before the consumer leaves, which waits for what is queued; closing also revokes, which writes the rest.
        if let Err(error) = self.consumer.context().write(&self.consumer, CommitMode::Async) {
            tracing::debug!(%error, topic = self.topic.name(), "acknowledgements were not written at the end");
        }
    }
}
