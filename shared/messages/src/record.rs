//! Records as the log carries them, and the envelope that travels in their headers (CloudEvents 1.0, binary mode).

use std::fmt;

use custos_domain::{HashContext, Timestamp};

use crate::{Headers, Machine, Source};

static MESSAGE: HashContext = HashContext::new("custos 2026 message");

/// A record before it has a place in the log. No value is a tombstone, allowed only on compacted topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The key, which decides the partition on keyed topics.
    pub key: Vec<u8>,
    /// The payload.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Headers,
}

/// `ce_id`: 32 bytes, derived from what the message says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 32]);

/// One partition of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardName {
    /// The machine.
    pub machine: Machine,
    /// The partition.
    pub partition: u32,
}

/// The place of a message between two shards: the receiver takes the next number, drops what it has, and stops at a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Who sent it.
    pub from: ShardName,
    /// For whom it is.
    pub to: ShardName,
    /// Dense, from 1.
    pub sequence: u64,
}

/// Where a gateway waits for the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The partition of `gateway.replies` that the instance reads.
    pub instance: u32,
    /// The request, among those that wait there.
    pub correlation: [u8; 16],
}

/// A W3C `traceparent`, passed on as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent(pub String);

/// What the headers of a message say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// `ce_id`.
    pub id: MessageId,
    /// `ce_type`: the message's protocol name, such as `custos.withdrawal.requested.v1`.
    pub kind: String,
    /// `ce_source`.
    pub source: Source,
    /// `ce_subject`: an opaque id, never a name.
    pub subject: String,
    /// `ce_time`, when the writer can say it deterministically.
    pub time: Option<Timestamp>,
    /// `traceparent`; excluded from digests and from authentication.
    pub trace: Option<TraceParent>,
    /// `custos_link`, on messages between shards.
    pub link: Option<Link>,
    /// `custos_reply_to`, on requests that somebody waits for.
    pub reply_to: Option<ReplyTo>,
}

impl Record {
    /// Bytes of key, value and headers.
    #[must_use]
    pub fn size(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Vec::len);
        self.key.len().saturating_add(value).saturating_add(self.headers.size())
    }
}

impl MessageId {
    /// The identity of a message of `kind` that says `payload` about `subject`.
    #[must_use]
    pub fn derive(kind: &str, subject: &str, payload: &[u8]) -> Self {
        Self(MESSAGE.digest(&[kind.as_bytes(), subject.as_bytes(), payload]).0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&custos_domain::hex_text(&self.0))
    }
}

impl fmt::Display for ShardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.machine.name(), self.partition)
    }
}
