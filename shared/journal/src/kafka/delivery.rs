//! Receipts: what became of records that were handed to a producer.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;

/// The producers' context: it hands every delivery to its receipt.
pub(super) struct Deliveries;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Receipt>;

    fn delivery(&self, result: &DeliveryResult<'_>, receipt: Self::DeliveryOpaque) {
        receipt.settle(match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        });
    }
}

/// Several records that somebody waits for together.
#[derive(Default)]
pub(super) struct Receipt {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Default)]
struct State {
    open: usize,
    last: Option<i64>,
    failure: Option<KafkaError>,
}

/// Why a wait for a receipt ended badly.
pub(super) enum Undelivered {
    /// A record was refused.
    Refused(KafkaError),
    /// Time is up, and the outcome is not known.
    Late,
}

impl Receipt {
    /// One record more is on its way. Call before it is sent.
    pub(super) fn expect_one(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open = state.open.saturating_add(1);
    }

    /// A record was not taken after all.
    pub(super) fn withdraw_one(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open = state.open.saturating_sub(1);
    }

    /// A record got its offset, or did not.
    pub(super) fn settle(&self, result: Result<i64, KafkaError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open = state.open.saturating_sub(1);
        match result {
            Ok(offset) => state.last = Some(offset),
            Err(error) => state.failure = state.failure.take().or(Some(error)),
        }
        self.settled.notify_all();
    }

    /// Waits until every record has its offset, and returns the last one given; `None` if there was no record.
    pub(super) fn wait(&self, until: Instant) -> Result<Option<i64>, Undelivered> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(error) = state.failure.take() {
                state.failure = Some(error.clone());
                return Err(Undelivered::Refused(error));
            }
            if state.open == 0 {
                return Ok(state.last);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Undelivered::Late);
            }
            state = self.settled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
