//! A reader of several partitions of one topic, each from an offset of its own: one client for all of them, no group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use custos_messages::Topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::reader::Reports;
use super::settings::KafkaSettings;
use super::watermarks::goes_on;
use super::wire::{entry, failure, halts, native, native_offset};
use crate::{Entry, Feed, JournalError};

pub(super) struct Follower {
    consumer: BaseConsumer<Reports>,
    topic: Topic,
    next: BTreeMap<u32, u64>,
    answer_timeout: Duration,
}

impl Follower {
    pub(super) fn open(settings: &KafkaSettings, topic: Topic, places: &[(u32, u64)]) -> Result<Self, JournalError> {
        let operation = "follow partitions";
        let consumer: BaseConsumer<Reports> =
            settings.reader().create_with_context(Reports).map_err(|error| failure(operation, &error))?;
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            list.add_partition_offset(topic.name(), native(*partition)?, Offset::Offset(native_offset(*offset)?))
                .map_err(|error| failure(operation, &error))?;
        }
        consumer.assign(&list).map_err(|error| failure(operation, &error))?;
        Ok(Self { consumer, topic, next: places.iter().copied().collect(), answer_timeout: settings.answer_timeout })
    }
}

impl Feed for Follower {
    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let until = Instant::now() + wait;
        let mut entries: Vec<Entry> = Vec::new();
        while entries.len() < most {
            let left = if entries.is_empty() { until.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            match self.consumer.poll(left) {
                Some(Ok(message)) => {
                    let entry = entry(&message)?;
                    let Some(next) = self.next.get_mut(&entry.partition).filter(|next| entry.offset >= **next) else {
                        continue;
                    };
                    *next = entry.offset.saturating_add(1);
                    entries.push(entry);
                }
                // That a partition has come to its end is no news here.
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => {
                    let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
                    if fatal || error.rdkafka_error_code().is_some_and(halts) {
                        return Err(failure("follow partitions", &error));
                    }
                    tracing::debug!(%error, topic = self.topic.name(), "kafka follower");
                    goes_on(&self.consumer, self.topic, 0, &error, self.answer_timeout)?;
                }
                None if left.is_zero() => break,
                None => {}
            }
        }
        Ok(entries)
    }

    fn acknowledge(&mut self, _partition: u32, _offset: u64) -> Result<(), JournalError> {
        Ok(())
    }
}
