//! What clients and brokers say to each other: the first transaction protocol, which librdkafka speaks.

use custos_messages::{Machine, Record, Topic};

/// A producer's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pid(pub(super) u64);

/// A producer as it presents itself: every new owner of a transactional id raises the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) pid: Pid,
    pub(super) epoch: u16,
}

/// A transactional id: that of a shard.
pub(super) type ShardId = (Machine, u32);

/// A partition of a topic.
pub(super) type Place = (Topic, u32);

/// What a client asks of the brokers. A request that is late is the same request.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// `InitProducerId`: a new owner, or the same one after it lost track of what it has sent.
    Init { id: ShardId, known: Option<Producer> },
    /// `AddPartitionsToTxn`.
    Add { id: ShardId, producer: Producer, places: Vec<Place>, serial: u64 },
    /// `Produce`; with the transactional id, as part of a transaction.
    Produce { id: Option<ShardId>, producer: Producer, sequence: u64, place: Place, records: Vec<Record> },
    /// `EndTxn`. Nothing in it says which transaction is meant: `serial`, the client's own count, is for the tally alone.
    End { id: ShardId, producer: Producer, commit: bool, serial: u64 },
}

/// A kind of request, as tests choose among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// `InitProducerId`.
    Init,
    /// `AddPartitionsToTxn`.
    Add,
    /// `Produce`, to a partition of this topic.
    Produce(Topic),
    /// `EndTxn` that commits.
    Commit,
    /// `EndTxn` that aborts.
    Abort,
}

impl Request {
    pub(super) const fn kind(&self) -> RequestKind {
        match self {
            Self::Init { .. } => RequestKind::Init,
            Self::Add { .. } => RequestKind::Add,
            Self::Produce { place, .. } => RequestKind::Produce(place.0),
            Self::End { commit: true, .. } => RequestKind::Commit,
            Self::End { commit: false, .. } => RequestKind::Abort,
        }
    }
}

/// What the brokers answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Producer(Producer),
    Done,
    /// The offset of the first record.
    Offset(u64),
}

/// Why the brokers refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// `INVALID_PRODUCER_EPOCH` or `PRODUCER_FENCED`.
    Fenced,
    /// `INVALID_PRODUCER_ID_MAPPING`.
    Mapping,
    /// `CONCURRENT_TRANSACTIONS`: the last transaction's markers are not written yet.
    Concurrent,
    /// `INVALID_TXN_STATE`.
    TransactionState,
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    OutOfOrder,
    /// `DUPLICATE_SEQUENCE_NUMBER`: it is in the log, nobody remembers where.
    DuplicateSequence,
    /// `NOT_ENOUGH_REPLICAS`, which old clients are also told when a verification has to wait.
    NotNow,
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    NoSuchPlace,
}
