//! A reader of one partition, committed records only, at an explicit offset: no group, no fall back.

use std::time::{Duration, Instant};

use custos_messages::Topic;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::settings::KafkaSettings;
use super::watermarks::goes_on;
use super::wire::{entry, failure, halts, native, native_offset};
use crate::bracket::{PartitionReader, Seen};
use crate::{Entry, JournalError};

/// What a reader's client reports beside records. That a partition has come to its end is an answer, not an error.
pub(super) struct Reports;

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(%error, reason, "kafka reader");
        }
    }
}

impl ConsumerContext for Reports {}

pub(super) struct Reader {
    consumer: BaseConsumer<Reports>,
    topic: Topic,
    partition: u32,
    next: u64,
    /// Whether the log's end was seen after the last record, and after the last seek.
    ended: bool,
    answer_timeout: Duration,
}

impl Reader {
    pub(super) fn open(settings: &KafkaSettings, topic: Topic, partition: u32, offset: u64) -> Result<Self, JournalError> {
        let consumer = settings.reader().create_with_context(Reports).map_err(|error| failure("open a reader", &error))?;
        let answer_timeout = settings.answer_timeout;
        let mut reader = Self { consumer, topic, partition, next: offset, ended: false, answer_timeout };
        reader.seek(offset)?;
        Ok(reader)
    }

    /// Whether nothing more stood in the log when it was last looked at.
    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    /// Lost connections mend themselves; what does not ends the reading.
    fn judge(&self, error: &KafkaError) -> Result<(), JournalError> {
        let code = error.rdkafka_error_code();
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) || code.is_some_and(halts) {
            return Err(JournalError::Misconfigured(format!(
                "{}[{}] cannot be read at {}: {error}",
                self.topic.name(),
                self.partition,
                self.next
            )));
        }
        tracing::debug!(%error, topic = self.topic.name(), partition = self.partition, "kafka reader");
        goes_on(&self.consumer, self.topic, self.partition, error, self.answer_timeout)
    }
}

impl PartitionReader for Reader {
    fn seek(&mut self, offset: u64) -> Result<(), JournalError> {
        let operation = "assign a partition";
        let mut place = TopicPartitionList::new();
        place
            .add_partition_offset(self.topic.name(), native(self.partition)?, Offset::Offset(native_offset(offset)?))
            .map_err(|error| failure(operation, &error))?;
        // A new assignment also drops what was fetched for the old one.
        self.consumer.assign(&place).map_err(|error| failure(operation, &error))?;
        self.next = offset;
        self.ended = false;
        Ok(())
    }

    fn next(&self) -> u64 {
        self.next
    }

    fn see(&mut self, wait: Duration) -> Result<Seen, JournalError> {
        let until = Instant::now() + wait;
        loop {
            let wait = until.saturating_duration_since(Instant::now());
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    let entry = entry(&message)?;
                    // What was fetched before a seek may still arrive: it is not what was asked for.
                    if entry.offset < self.next {
                        continue;
                    }
                    self.next = entry.offset.saturating_add(1);
                    self.ended = false;
                    return Ok(Seen::Record(entry));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.ended = true;
                    return Ok(Seen::End);
                }
                Some(Err(error)) => self.judge(&error)?,
                None if wait.is_zero() => return Ok(Seen::Nothing),
                None => {}
            }
        }
    }

    fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let until = Instant::now() + wait;
        let mut entries = Vec::new();
        while entries.len() < most {
            let left = if entries.is_empty() { until.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            match self.see(left)? {
                Seen::Record(entry) => entries.push(entry),
                Seen::End if entries.is_empty() => {}
                Seen::End | Seen::Nothing => break,
            }
        }
        Ok(entries)
    }
}
