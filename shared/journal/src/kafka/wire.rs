//! Records as the client library has them, both ways.

use std::panic::{AssertUnwindSafe, catch_unwind};

use custos_domain::Timestamp;
use custos_messages::Record;
use rdkafka::Timestamp as BrokerTime;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::types::RDKafkaErrorCode;

use crate::{Entry, JournalError};

/// A partition's number as the library counts.
pub(super) fn native(partition: u32) -> Result<i32, JournalError> {
    i32::try_from(partition).map_err(|_| JournalError::Misconfigured(format!("there is no partition {partition}")))
}

/// An offset as the library counts.
pub(super) fn native_offset(offset: u64) -> Result<i64, JournalError> {
    i64::try_from(offset).map_err(|_| JournalError::Misconfigured(format!("there is no offset {offset}")))
}

pub(super) fn headers(record: &Record) -> OwnedHeaders {
    record.headers.iter().fold(OwnedHeaders::new_with_capacity(record.headers.len()), |headers, (name, value)| {
        headers.insert(Header { key: name, value: Some(value) })
    })
}

pub(super) fn entry(message: &BorrowedMessage<'_>) -> Result<Entry, JournalError> {
    let misplaced = || JournalError::Misconfigured(format!("{} has a record with no place", message.topic()));
    let at = match message.timestamp() {
        BrokerTime::LogAppendTime(millis) => u64::try_from(millis).ok().map(Timestamp),
        BrokerTime::CreateTime(_) | BrokerTime::NotAvailable => None,
    };
    Ok(Entry {
        partition: u32::try_from(message.partition()).map_err(|_| misplaced())?,
        offset: u64::try_from(message.offset()).map_err(|_| misplaced())?,
        at,
        record: Record {
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers_of(message),
        },
    })
}

/// A message's headers; none where a name is no text. The client library panics on such a name, and nobody who may write must be able to end
/// a reader. Without an envelope the record is put aside like any other that cannot be read.
fn headers_of(message: &BorrowedMessage<'_>) -> custos_messages::Headers {
    let read = || {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        headers.map(|header| (header.key, header.value.unwrap_or_default())).collect()
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_default()
}

/// What an error outside of transactions means: the cluster is set up wrongly, or does not answer now.
pub(super) fn failure(operation: &'static str, error: &KafkaError) -> JournalError {
    let wrong = matches!(error, KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_))
        || error.rdkafka_error_code().is_some_and(halts);
    if wrong {
        JournalError::Misconfigured(format!("{operation}: {error}"))
    } else {
        JournalError::Unavailable { operation, reason: error.to_string() }
    }
}

/// Whether only a human can mend what this code says.
pub(super) const fn halts(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedVersion
            | Code::AutoOffsetReset
            | Code::OffsetOutOfRange
            | Code::FencedInstanceId
    )
}

/// Whether this code is said of a partition that is not there, and as well of one that has just lost its leader: which of the two it
/// is, only the cluster tells: [`super::watermarks::goes_on`].
pub(super) const fn perhaps_gone(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition)
}
