//! The event log's chain: each event of a partition has the next number and carries the hash of its predecessor.
//!
//! Invariant: the hash covers the place, the type, the key and the payload, and nothing that may differ on replay.

use custos_domain::{Digest, HashContext, push_hex};

use crate::envelope::{Held, read_hex, read_number};
use crate::events::Event;
use crate::keyring::{AUTH, envelope_of};
use crate::{EnvelopeError, Keyring, Message, Postmark, Record, Source, Topic, TraceParent};

static CHAIN: HashContext = HashContext::new("custos 2026 event chain");

const SEQUENCE: &str = "custos_sequence";
const PREVIOUS: &str = "custos_previous";
const HASH: &str = "custos_hash";

/// The place of an event in its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chained {
    /// Dense, from 1.
    pub sequence: u64,
    /// The hash of the event before; [`Chained::GENESIS`] before the first.
    pub previous: Digest,
    /// The hash of this event.
    pub hash: Digest,
}

/// The hash of an event: its predecessor's, its place, its type, its key and its payload.
#[must_use]
pub fn event_hash(previous: &Digest, partition: u32, sequence: u64, kind: &str, key: &[u8], value: &[u8]) -> Digest {
    let place = (partition.to_be_bytes(), sequence.to_be_bytes());
    CHAIN.digest(&[&previous.0, &place.0, &place.1, key, kind.as_bytes(), value])
}

impl Chained {
    /// What stands before the first event of a partition.
    pub const GENESIS: Digest = Digest([0; 32]);

    /// The place after (`sequence`, `previous`) in `partition`, for `event`: `sequence` is the new event's own number.
    #[must_use]
    pub fn place(event: &Event, partition: u32, sequence: u64, previous: Digest) -> Self {
        let hash = event_hash(&previous, partition, sequence, event.kind(), &event.key(), &event.encode());
        Self { sequence, previous, hash }
    }

    /// Reads the place of a record of the event log.
    ///
    /// # Errors
    /// A header is absent, repeated or malformed.
    pub fn read(record: &Record) -> Result<Self, EnvelopeError> {
        let digest =
            |name| Held::under(name, &record.headers).parsed(name, read_hex)?.map(Digest).ok_or(EnvelopeError::Absent(name));
        let sequence = Held::under(SEQUENCE, &record.headers).parsed(SEQUENCE, read_number)?;
        Ok(Self {
            sequence: sequence.ok_or(EnvelopeError::Absent(SEQUENCE))?,
            previous: digest(PREVIOUS)?,
            hash: digest(HASH)?,
        })
    }

    /// Whether `record`, found in `partition`, has the hash that it claims.
    #[must_use]
    pub fn holds(&self, partition: u32, kind: &str, record: &Record) -> bool {
        let value = record.value.as_deref().unwrap_or_default();
        self.hash == event_hash(&self.previous, partition, self.sequence, kind, &record.key, value)
    }
}

impl Keyring {
    /// The sealed record of `event` at its place. Its time is the event's.
    #[must_use]
    pub fn seal_event(&self, event: &Event, place: &Chained, trace: Option<TraceParent>) -> Record {
        self.seal_placed(event, event.encode(), place, trace)
    }

    /// The place after `previous` in `partition` for `event`, whose own number is `sequence`, and its sealed record there. The event is
    /// written once: the hash and the record are over the same bytes.
    #[must_use]
    pub fn chain_event(
        &self,
        event: &Event,
        (partition, sequence): (u32, u64),
        previous: Digest,
        trace: Option<TraceParent>,
    ) -> (Chained, Record) {
        let value = event.encode();
        let hash = event_hash(&previous, partition, sequence, event.kind(), &event.key(), &value);
        let place = Chained { sequence, previous, hash };
        let record = self.seal_placed(event, value, &place, trace);
        (place, record)
    }

    fn seal_placed(&self, event: &Event, value: Vec<u8>, place: &Chained, trace: Option<TraceParent>) -> Record {
        let mark = Postmark { time: Some(event.at), trace, ..Postmark::default() };
        let mut headers = envelope_of(event, &value, Source::Accounts, mark).headers();
        headers.push(SEQUENCE, place.sequence.to_string());
        headers.push_with(PREVIOUS, |out| push_hex(out, &place.previous.0));
        headers.push_with(HASH, |out| push_hex(out, &place.hash.0));
        debug_assert_eq!(headers.get(AUTH), None, "a record is sealed once");
        self.seal_record(Source::Accounts, Topic::Events, Record { key: event.key(), value: Some(value), headers })
    }
}
