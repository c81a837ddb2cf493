//! The runtime's own records in a shard's state topic: header, manifest, timers and links.
//!
//! Keys begin with a byte below 0x10; a machine's keys begin above. Compatibility: fields are only ever added, and the manifest
//! names its schema; a shard refuses a schema that it does not know.

use custos_domain::{Digest, Timestamp};
use custos_journal::LogIdentity;
use custos_messages::wire::{write_bytes, write_message, write_number};
use custos_messages::{Headers, Machine, Record, ShardName, Topic};
use custos_saga::machine::{LOGIC, StateError, TimerId};
use prost::Message as _;

use super::root::StateRoot;
use crate::wire::state as wire;

const HEADER: u8 = 0x00;
const MANIFEST: u8 = 0x01;
const TIMER: u8 = 0x02;
const LINK_OUT: u8 = 0x03;
const PENDING: u8 = 0x04;
const LINK_IN: u8 = 0x05;
const SCHEMA: u32 = 1;
/// What the value of a pending message has besides its record: topic, partition, and a few bytes for each field.
const PENDING_ROOM: usize = 160;

/// Where a shard stands: the last record of each of its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Counts the shard's transactions, acquisitions included.
    pub transaction: u64,
    /// Rises with each takeover.
    pub attempt: u32,
    /// Offset of the first input that is not applied.
    pub next: u64,
    /// The last applied input.
    pub last: Option<LastInput>,
    /// Sequence of the partition's last event.
    pub event_sequence: u64,
    /// Its hash.
    pub event_hash: Digest,
    /// Multiset hash of the state records that the inbox alone decides: the machine's, timers and links. A replay gives the same.
    pub state_root: Digest,
    /// Multiset hash of the messages that are not struck off. When one is struck off is the host's doing, so a replay may differ.
    pub outbox_root: Digest,
    /// The logic in force after it.
    pub logic: u32,
    /// The logic that the shard began with.
    pub first_logic: u32,
    /// The log that this belongs to.
    pub log: LogIdentity,
    /// Where the owner answers operators.
    pub owner: String,
}

/// The last input that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastInput {
    /// Its offset.
    pub offset: u64,
    /// Digest of the record.
    pub digest: Digest,
    /// The shard's time after it.
    pub at: Timestamp,
}

/// One of the runtime's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeRecord {
    /// A transaction begins.
    Header,
    /// A transaction ends.
    Manifest(Manifest),
    /// A timer is armed.
    Timer(TimerId, Timestamp),
    /// The last number given out to a shard.
    LinkOut(ShardName, u64),
    /// A message not yet struck off.
    Pending(PendingId, PendingMessage),
    /// The last number taken from a shard.
    LinkIn(ShardName, u64),
}

/// A message's place on its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PendingId {
    /// The receiver.
    pub to: ShardName,
    /// The number.
    pub sequence: u64,
}

/// A message that leaves after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMessage {
    /// Where to.
    pub topic: Topic,
    /// The sealed record.
    pub record: Record,
}

impl PendingMessage {
    /// The value of its record while it waits as `id`.
    #[must_use]
    pub fn value(&self, id: PendingId) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.record.size().saturating_add(PENDING_ROOM));
        write_field(1, self.topic.name().as_bytes(), &mut out);
        if id.to.partition != 0 {
            write_number(2, u64::from(id.to.partition), &mut out);
        }
        write_field(3, &self.record.key, &mut out);
        write_field(4, self.record.value.as_deref().unwrap_or_default(), &mut out);
        for (name, value) in &self.record.headers {
            write_message(5, &mut out, |out| {
                write_field(1, name.as_bytes(), out);
                write_field(2, value, out);
            });
        }
        debug_assert_eq!(out, self.form(id).encode_to_vec(), "both ways of writing give the same bytes");
        out
    }

    fn form(&self, id: PendingId) -> wire::Pending {
        let pair = |(name, value): (&str, &[u8])| wire::Pair { name: name.to_owned(), value: value.to_vec() };
        wire::Pending {
            topic: self.topic.name().to_owned(),
            partition: id.to.partition,
            key: self.record.key.clone(),
            value: self.record.value.clone().unwrap_or_default(),
            headers: self.record.headers.iter().map(pair).collect(),
        }
    }
}

/// A field of bytes or text, which is not written while it is empty.
fn write_field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        write_bytes(number, bytes, out);
    }
}

/// Whether a state key belongs to the runtime.
#[must_use]
pub fn is_runtime_key(key: &[u8]) -> bool {
    key.first().is_some_and(|first| *first < 0x10)
}

/// Whether a state key belongs to the outbox, whose records come and go with the host's deliveries.
#[must_use]
pub fn is_outbox_key(key: &[u8]) -> bool {
    key.first() == Some(&PENDING)
}

/// Whether a record is a manifest, by its key.
#[must_use]
pub fn is_manifest(record: &Record) -> bool {
    record.key == [MANIFEST]
}

/// Whether a record is a header, by its key.
#[must_use]
pub fn is_header(record: &Record) -> bool {
    record.key == [HEADER]
}

fn shard_bytes(prefix: u8, shard: ShardName) -> Vec<u8> {
    let machine = match shard.machine {
        Machine::Accounts => 1,
        Machine::Treasury => 2,
        Machine::Chain => 3,
    };
    let mut key = vec![prefix, machine];
    key.extend_from_slice(&shard.partition.to_be_bytes());
    key
}

fn read_shard(bytes: &[u8]) -> Option<(ShardName, &[u8])> {
    let (machine, rest) = bytes.split_first()?;
    let machine = match machine {
        1 => Machine::Accounts,
        2 => Machine::Treasury,
        3 => Machine::Chain,
        _ => return None,
    };
    let (partition, rest) = rest.split_first_chunk::<4>()?;
    Some((ShardName { machine, partition: u32::from_be_bytes(*partition) }, rest))
}

/// The key of a timer.
#[must_use]
pub fn timer_key(id: &TimerId) -> Vec<u8> {
    let mut key = vec![TIMER];
    key.extend_from_slice(&id.0);
    key
}

/// The key of the last number given out to `to`.
#[must_use]
pub fn link_out_key(to: ShardName) -> Vec<u8> {
    shard_bytes(LINK_OUT, to)
}

/// The key of the last number taken from `from`.
#[must_use]
pub fn link_in_key(from: ShardName) -> Vec<u8> {
    shard_bytes(LINK_IN, from)
}

/// The key of a message not yet struck off.
#[must_use]
pub fn pending_key(id: PendingId) -> Vec<u8> {
    let mut key = shard_bytes(PENDING, id.to);
    key.extend_from_slice(&id.sequence.to_be_bytes());
    key
}

/// The first record of a transaction.
#[must_use]
pub fn header(transaction: u64, attempt: u32) -> Record {
    let value = wire::Header { transaction, attempt }.encode_to_vec();
    Record { key: vec![HEADER], value: Some(value), headers: Headers::new() }
}

impl Manifest {
    /// Where a shard on `log` stands that has heard nothing.
    #[must_use]
    pub fn first(log: LogIdentity) -> Self {
        let empty = StateRoot::default().digest();
        Self {
            transaction: 1,
            attempt: 1,
            next: 0,
            last: None,
            event_sequence: 0,
            event_hash: Digest([0; 32]),
            state_root: empty,
            outbox_root: empty,
            logic: LOGIC,
            first_logic: LOGIC,
            log,
            owner: String::new(),
        }
    }

    /// Its record.
    #[must_use]
    pub fn record(&self) -> Record {
        let value = wire::Manifest {
            schema: SCHEMA,
            transaction: self.transaction,
            attempt: self.attempt,
            next: self.next,
            last: self.last.map(|last| wire::LastInput {
                offset: last.offset,
                digest: last.digest.0.to_vec(),
                at_ms: last.at.0,
            }),
            event_sequence: self.event_sequence,
            event_hash: self.event_hash.0.to_vec(),
            state_root: self.state_root.0.to_vec(),
            outbox_root: self.outbox_root.0.to_vec(),
            logic: self.logic,
            first_logic: self.first_logic,
            cluster: self.log.cluster.clone(),
            inbox_topic: self.log.inbox.clone(),
            state_topic: self.log.state.clone(),
            partitions: self.log.partitions,
            owner: self.owner.clone(),
        };
        Record { key: vec![MANIFEST], value: Some(value.encode_to_vec()), headers: Headers::new() }
    }

    /// Reads a manifest record's value.
    ///
    /// # Errors
    /// Malformed bytes, a missing field, or a schema that this binary does not know.
    pub fn read(value: &[u8]) -> Result<Self, StateError> {
        let key = || "01".to_owned();
        let wire = wire::Manifest::decode(value).map_err(|source| StateError::Malformed { key: key(), source })?;
        if wire.schema != SCHEMA {
            return Err(StateError::Schema { key: key(), schema: wire.schema });
        }
        let digest = |bytes: &[u8], field| Digest::from_slice(bytes).map_err(|_| StateError::Field { key: key(), field });
        let last = match wire.last {
            Some(last) => Some(LastInput {
                offset: last.offset,
                digest: digest(&last.digest, "last.digest")?,
                at: Timestamp(last.at_ms),
            }),
            None => None,
        };
        Ok(Self {
            transaction: wire.transaction,
            attempt: wire.attempt,
            next: wire.next,
            last,
            event_sequence: wire.event_sequence,
            event_hash: digest(&wire.event_hash, "event_hash")?,
            state_root: digest(&wire.state_root, "state_root")?,
            outbox_root: digest(&wire.outbox_root, "outbox_root")?,
            logic: wire.logic,
            // Shards that are older than this field began with the first logic there was.
            first_logic: wire.first_logic.max(1),
            log: LogIdentity {
                cluster: wire.cluster,
                inbox: wire.inbox_topic,
                state: wire.state_topic,
                partitions: wire.partitions,
            },
            owner: wire.owner,
        })
    }
}

impl RuntimeRecord {
    /// The value of this record; `None` for header and manifest, which are written on their own.
    #[must_use]
    pub fn value(&self) -> Option<Vec<u8>> {
        match self {
            Self::Header | Self::Manifest(_) => None,
            Self::Timer(_, due) => Some(wire::Timer { due_ms: due.0 }.encode_to_vec()),
            Self::LinkOut(_, sequence) => Some(wire::LinkOut { sequence: *sequence }.encode_to_vec()),
            Self::LinkIn(_, sequence) => Some(wire::LinkIn { sequence: *sequence }.encode_to_vec()),
            Self::Pending(id, message) => Some(message.value(*id)),
        }
    }

    /// Reads one of the runtime's records.
    ///
    /// # Errors
    /// An unknown key, malformed bytes, or an unknown topic.
    pub fn read(key: &[u8], value: &[u8]) -> Result<Self, StateError> {
        let shown = || hex::encode(key);
        let unknown = || StateError::Key(shown());
        let malformed = |source| StateError::Malformed { key: shown(), source };
        let (prefix, rest) = key.split_first().ok_or_else(unknown)?;
        let shard = || read_shard(rest).ok_or_else(unknown);
        match *prefix {
            HEADER => Ok(Self::Header),
            MANIFEST => Manifest::read(value).map(Self::Manifest),
            TIMER => {
                let timer = wire::Timer::decode(value).map_err(malformed)?;
                Ok(Self::Timer(TimerId(rest.into()), Timestamp(timer.due_ms)))
            }
            LINK_OUT => Ok(Self::LinkOut(shard()?.0, wire::LinkOut::decode(value).map_err(malformed)?.sequence)),
            LINK_IN => Ok(Self::LinkIn(shard()?.0, wire::LinkIn::decode(value).map_err(malformed)?.sequence)),
            PENDING => {
                let (to, number) = shard()?;
                let sequence = u64::from_be_bytes(number.try_into().map_err(|_| unknown())?);
                let pending = wire::Pending::decode(value).map_err(malformed)?;
                let topic = Topic::from_name(&pending.topic).ok_or(StateError::Field { key: shown(), field: "topic" })?;
                let record = Record {
                    key: pending.key,
                    value: Some(pending.value),
                    headers: pending.headers.into_iter().map(|pair| (pair.name, pair.value)).collect(),
                };
                Ok(Self::Pending(PendingId { to, sequence }, PendingMessage { topic, record }))
            }
            _ => Err(unknown()),
        }
    }
}
