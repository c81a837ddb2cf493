//! A reader of one partition, committed records only, at an explicit offset: no group, no fall back.

use std::time::{Duration, Instant};

use custos_messages::Topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::settings::KafkaSettings;
use super::wire::{entry, failure, halts, native, native_offset};
use crate::{Entry, JournalError};

pub(super) struct Reader {
    consumer: BaseConsumer,
    topic: Topic,
    partition: u32,
    next: u64,
    /// Whether the log's end was seen after the last record, and after the last seek.
    ended: bool,
}

/// What a reader saw next.
pub(super) enum Seen {
    Record(Entry),
    /// Nothing more stands in the log now.
    End,
    /// Time is up.
    Nothing,
}

impl Reader {
    pub(super) fn open(settings: &KafkaSettings, topic: Topic, partition: u32, offset: u64) -> Result<Self, JournalError> {
        let consumer = settings.reader().create().map_err(|error| failure("open a reader", &error))?;
        let mut reader = Self { consumer, topic, partition, next: offset, ended: false };
        reader.seek(offset)?;
        Ok(reader)
    }

    /// The next record is that at `offset`, or the first after it.
    pub(super) fn seek(&mut self, offset: u64) -> Result<(), JournalError> {
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

    /// One after the last record read, or where the reader was put.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Whether nothing more stood in the log when it was last looked at.
    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    /// The next record, waiting until `until`.
    pub(super) fn see(&mut self, until: Instant) -> Result<Seen, JournalError> {
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

    /// Up to `most` records; waits only for the first.
    pub(super) fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<Entry>, JournalError> {
        let until = Instant::now() + wait;
        let mut entries = Vec::new();
        while entries.len() < most {
            let until = if entries.is_empty() { until } else { Instant::now() };
            match self.see(until)? {
                Seen::Record(entry) => entries.push(entry),
                Seen::End if entries.is_empty() => {}
                Seen::End | Seen::Nothing => break,
            }
        }
        Ok(entries)
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
        Ok(())
    }
}
