//! A plain idempotent producer that waits for its records.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use custos_messages::{Record, Topic};
use rdkafka::producer::{Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use super::Shared;
use super::delivery::{Deliveries, Receipt, Undelivered};
use super::producer::send;
use super::wire::{failure, native};
use crate::bracket::check_size;
use crate::{Appender, JournalError};

const OPERATION: &str = "append";

pub(super) struct KafkaAppender {
    shared: Arc<Shared>,
    /// Made anew after a fatal error, because an idempotent producer never recovers from one.
    producer: Mutex<Arc<ThreadedProducer<Deliveries>>>,
    /// Partitions of the topics written to so far; they never change.
    partitions: Mutex<BTreeMap<Topic, u32>>,
}

impl KafkaAppender {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, JournalError> {
        let producer = Mutex::new(open(&shared)?);
        Ok(Self { shared, producer, partitions: Mutex::new(BTreeMap::new()) })
    }

    fn check(&self, topic: Topic, partition: u32, record: &Record) -> Result<i32, JournalError> {
        check_size(topic, record, self.shared.settings.record_bytes_max)?;
        let mut known = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let partitions = match known.get(&topic) {
            Some(partitions) => *partitions,
            None => {
                let partitions = self.shared.watermarks.partitions(topic)?;
                known.insert(topic, partitions);
                partitions
            }
        };
        if partition >= partitions {
            return Err(JournalError::Misconfigured(format!("{} has no partition {partition}", topic.name())));
        }
        native(partition)
    }

    fn deliver(&self, records: &[(Topic, i32, Record)]) -> Result<Option<i64>, JournalError> {
        let producer = self.producer()?;
        let receipt = Arc::new(Receipt::default());
        let until = Instant::now() + self.shared.settings.answer_timeout;
        for (topic, partition, record) in records {
            loop {
                let Err(error) = send(&producer, (*topic, *partition), record, &receipt) else { break };
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) || Instant::now() >= until {
                    return Err(failure(OPERATION, &error));
                }
                // The queue empties at the pace of the cluster; the producer's own thread serves it.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        receipt.wait(until + LAST_REPORT).map_err(|trouble| match trouble {
            Undelivered::Refused(error) => failure(OPERATION, &error),
            Undelivered::Late => {
                JournalError::Unavailable { operation: OPERATION, reason: "no acknowledgement in time".to_owned() }
            }
        })
    }

    fn producer(&self) -> Result<Arc<ThreadedProducer<Deliveries>>, JournalError> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((code, reason)) = producer.client().fatal_error() {
            tracing::warn!(?code, reason, "the appender's producer is made anew");
            *producer = open(&self.shared)?;
        }
        Ok(Arc::clone(&producer))
    }
}

/// The library reports a record that it gives up at its own deadline; a little later all reports are here.
const LAST_REPORT: Duration = Duration::from_secs(2);

fn open(shared: &Shared) -> Result<Arc<ThreadedProducer<Deliveries>>, JournalError> {
    let config = shared.settings.plain_producer();
    config.create_with_context(Deliveries).map(Arc::new).map_err(|error| failure("open an appender", &error))
}

impl Appender for KafkaAppender {
    fn append(&self, topic: Topic, partition: u32, record: Record) -> Result<u64, JournalError> {
        let place = self.check(topic, partition, &record)?;
        let offset = self.deliver(&[(topic, place, record)])?;
        offset.and_then(|offset| u64::try_from(offset).ok()).ok_or_else(|| JournalError::Unavailable {
            operation: OPERATION,
            reason: "the acknowledgement names no offset".to_owned(),
        })
    }

    fn append_all(&self, records: Vec<(Topic, u32, Record)>) -> Result<(), JournalError> {
        let placed = records
            .into_iter()
            .map(|(topic, partition, record)| Ok((topic, self.check(topic, partition, &record)?, record)))
            .collect::<Result<Vec<_>, JournalError>>()?;
        self.deliver(&placed).map(|_| ())
    }
}
