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

/// How long one attempt of a resumable call runs before it is judged and repeated.
const ATTEMPT: Duration = Duration::from_secs(5);

/// The transactional producer of one shard.
pub(super) struct Transactor {
    producer: ThreadedProducer<Deliveries>,
    machine: Machine,
    partition: u32,
    /// The partition as the library counts.
    place: i32,
    answer_timeout: Duration,
}

/// How a transaction ended, as far as the client can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At the first attempt, in this time.
    Plain(Duration),
    /// After a repeated call.
    Repeated,
}

enum Verdict {
    Fenced,
    Fatal,
    Abort,
    Retry,
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
        Ok(Self { producer, machine, partition, place: native(partition)?, answer_timeout: settings.answer_timeout })
    }

    pub(super) fn begin(&self) -> Result<(), JournalError> {
        self.producer.begin_transaction().map_err(|error| self.ended(&error))
    }

    /// Hands a record for the shard's own partition of `topic` to the producer.
    pub(super) fn send(&self, topic: Topic, record: &Record, receipt: &Arc<Receipt>) -> Result<(), JournalError> {
        let until = Instant::now() + self.answer_timeout;
        loop {
            let Err(error) = send(&self.producer, (topic, self.place), record, receipt) else { return Ok(()) };
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) || Instant::now() >= until {
                return Err(self.undelivered(Undelivered::Refused(error)));
            }
            // The queue empties at the pace of the cluster; the producer's own thread serves it.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for a receipt; on failure ends the transaction as far as possible and says what is known.
    pub(super) fn await_receipt(&self, receipt: &Receipt) -> Result<Option<i64>, JournalError> {
        receipt.wait(Instant::now() + self.answer_timeout).map_err(|trouble| self.undelivered(trouble))
    }

    /// Commits. Every record must be acknowledged before. What is timed is the end of the transaction alone.
    pub(super) fn commit(&self) -> Result<End, JournalError> {
        // An acknowledged record counts as in flight until its report is disposed of, and the library's flush sleeps 100 ms for
        // that; it takes microseconds.
        let until = Instant::now() + self.answer_timeout;
        while self.producer.in_flight_count() > 0 {
            if Instant::now() >= until {
                return Err(self.undelivered(Undelivered::Late));
            }
            std::thread::yield_now();
        }
        self.end(|| self.producer.commit_transaction(Timeout::Never))
    }

    /// Aborts, and drops what was not sent yet.
    pub(super) fn abort(&self) -> Result<End, JournalError> {
        self.end(|| self.producer.abort_transaction(ATTEMPT))
    }

    fn end(&self, call: impl Fn() -> Result<(), KafkaError>) -> Result<End, JournalError> {
        let begun = Instant::now();
        let until = begun + self.answer_timeout;
        let mut end = None;
        loop {
            let Err(error) = call() else { return Ok(end.unwrap_or_else(|| End::Plain(begun.elapsed()))) };
            match judge(&error) {
                Verdict::Retry if Instant::now() < until => end = Some(End::Repeated),
                _ => return Err(self.ended(&error)),
            }
        }
    }

    fn undelivered(&self, trouble: Undelivered) -> JournalError {
        let reason = match &trouble {
            Undelivered::Refused(error) => error.to_string(),
            Undelivered::Late => "a record was not acknowledged in time".to_owned(),
        };
        if let Some((code, text)) = self.producer.client().fatal_error() {
            return if fences(code) { self.fenced() } else { self.unknown(format!("{reason}; {text}")) };
        }
        // No end was asked for yet, so an abort that succeeds settles the matter.
        match self.abort() {
            Ok(_) => self.aborted(reason),
            Err(JournalError::Fenced { .. }) => self.fenced(),
            Err(_) => self.unknown(reason),
        }
    }

    fn ended(&self, error: &KafkaError) -> JournalError {
        match judge(error) {
            Verdict::Fenced => self.fenced(),
            Verdict::Abort => match self.producer.abort_transaction(ATTEMPT) {
                Ok(()) => self.aborted(error.to_string()),
                Err(second) if matches!(judge(&second), Verdict::Fenced) => self.fenced(),
                Err(second) => self.unknown(format!("{error}; {second}")),
            },
            Verdict::Fatal | Verdict::Retry => self.unknown(error.to_string()),
        }
    }

    pub(super) const fn fenced(&self) -> JournalError {
        JournalError::Fenced { machine: self.machine.name(), partition: self.partition }
    }

    pub(super) const fn unknown(&self, reason: String) -> JournalError {
        JournalError::Unknown { machine: self.machine.name(), partition: self.partition, reason }
    }

    const fn aborted(&self, reason: String) -> JournalError {
        JournalError::Aborted { machine: self.machine.name(), partition: self.partition, reason }
    }
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
