//! The transactional producer of one shard, and what its errors mean.
//!
//! Errors are judged by their flags, never by their code: fatal ends the producer, abortable ends the transaction, retriable
//! repeats the same call, none of these counts as fatal. The code only tells fencing from other ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use custos_messages::{Machine, Record, Topic};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;

use super::Shared;
use super::delivery::{Deliveries, Receipt, Undelivered};
use super::wire::{failure, halts, headers, native};
use crate::JournalError;
use crate::bracket::{self, Trouble, Verdict};

/// How long one attempt of a resumable call runs before it is judged and repeated.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The transactional producer of one shard.
pub(super) struct Transactor {
    producer: ThreadedProducer<Deliveries>,
    /// The partition as the library counts.
    place: i32,
    answer_timeout: Duration,
}

impl Transactor {
    /// Opens the shard's producer: fences its former owner and ends the transaction that it left open.
    pub(super) fn open(shared: &Shared, machine: Machine, partition: u32) -> Result<Self, JournalError> {
        let operation = "take over the producer of a shard";
        let settings = &shared.settings;
        let config = settings.shard_producer(&format!("custos.{}.{partition}", machine.name()));
        let producer: ThreadedProducer<Deliveries> =
            config.create_with_context(Deliveries).map_err(|error| failure(operation, &error))?;
        shared.producers_opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let until = Instant::now() + settings.answer_timeout;
        loop {
            let Err(error) = producer.init_transactions(ATTEMPT) else { break };
            match judge(&error) {
                Verdict::Retry if Instant::now() < until => {}
                Verdict::Fenced => return Err(JournalError::Fenced { machine: machine.name(), partition }),
                _ if error.rdkafka_error_code().is_some_and(halts) => return Err(failure(operation, &error)),
                _ => return Err(JournalError::Unavailable { operation, reason: error.to_string() }),
            }
        }
        Ok(Self { producer, place: native(partition)?, answer_timeout: settings.answer_timeout })
    }
}

impl bracket::Transactor for Transactor {
    type Receipt = Arc<Receipt>;

    fn begin(&mut self) -> Result<(), Trouble> {
        self.producer.begin_transaction().map_err(|error| judged(&error))
    }

    fn send(&mut self, topic: Topic, record: &Record, receipt: &mut Self::Receipt) -> Result<(), Trouble> {
        let until = Instant::now() + self.answer_timeout;
        loop {
            let Err(error) = send(&self.producer, (topic, self.place), record, receipt) else { return Ok(()) };
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) || Instant::now() >= until {
                return Err(undelivered(&Undelivered::Refused(error)));
            }
            // The queue empties at the pace of the cluster; the producer's own thread serves it.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn await_receipt(&mut self, receipt: &Self::Receipt) -> Result<Option<u64>, Trouble> {
        let last = receipt.wait(Instant::now() + self.answer_timeout).map_err(|trouble| undelivered(&trouble))?;
        Ok(last.and_then(|offset| u64::try_from(offset).ok()))
    }

    /// An acknowledged record counts as in flight until its report is disposed of, and the library's flush sleeps 100 ms for that;
    /// it takes microseconds.
    fn settle(&mut self) -> Result<(), Trouble> {
        let until = Instant::now() + self.answer_timeout;
        while self.producer.in_flight_count() > 0 {
            if Instant::now() >= until {
                return Err(undelivered(&Undelivered::Late));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Trouble> {
        self.producer.commit_transaction(Timeout::Never).map_err(|error| judged(&error))
    }

    fn abort(&mut self) -> Result<(), Trouble> {
        self.producer.abort_transaction(ATTEMPT).map_err(|error| judged(&error))
    }

    fn fatal(&self) -> Option<Trouble> {
        let (code, reason) = self.producer.client().fatal_error()?;
        Some(Trouble { verdict: if fences(code) { Verdict::Fenced } else { Verdict::Fatal }, reason })
    }
}

fn judged(error: &KafkaError) -> Trouble {
    Trouble { verdict: judge(error), reason: error.to_string() }
}

/// A record that does not arrive ends the transaction.
fn undelivered(trouble: &Undelivered) -> Trouble {
    let reason = match trouble {
        Undelivered::Refused(error) => error.to_string(),
        Undelivered::Late => "a record was not acknowledged in time".to_owned(),
    };
    Trouble { verdict: Verdict::Abort, reason }
}

/// Hands one record to a producer, and counts it on its receipt.
pub(super) fn send(
    producer: &ThreadedProducer<Deliveries>,
    (topic, partition): (Topic, i32),
    record: &Record,
    receipt: &Arc<Receipt>,
) -> Result<(), KafkaError> {
    let mut message = BaseRecord::<[u8], [u8], Arc<Receipt>>::with_opaque_to(topic.name(), Arc::clone(receipt))
        .partition(partition)
        .key(&record.key)
        .headers(headers(record));
    if let Some(value) = &record.value {
        message = message.payload(value);
    }
    receipt.expect_one();
    producer.send(message).map_err(|(error, _)| {
        receipt.withdraw_one();
        error
    })
}

fn judge(error: &KafkaError) -> Verdict {
    let KafkaError::Transaction(error) = error else { return Verdict::Fatal };
    if error.is_fatal() {
        if fences(error.code()) { Verdict::Fenced } else { Verdict::Fatal }
    } else if error.txn_requires_abort() {
        Verdict::Abort
    } else if error.is_retriable() {
        Verdict::Retry
    } else {
        Verdict::Fatal
    }
}

const fn fences(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch)
}
