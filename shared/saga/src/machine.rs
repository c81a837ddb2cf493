//! A deterministic machine: a fold over its inbox, with its state as ordered records and its deeds as data.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use custos_domain::Timestamp;
use custos_messages::blockchain::BlockchainCommand;
use custos_messages::compliance::Screen;
use custos_messages::events::{Event, Refusal};
use custos_messages::gateway::Subject;
use custos_messages::wallet::WalletCommand;
use custos_messages::watch::WatchRecord;
use custos_messages::{Mail, Message, Source};

pub use crate::settled::{Place, Remains, Settled};
pub use crate::touched::Touched;

/// The newest logic of the machines of this binary: all of them switch together.
pub const LOGIC: u32 = 1;

/// What a machine is.
///
/// # Laws
/// `apply` is a function of its arguments; it changes state only through `state`, and what it wants done it returns. It never
/// panics on any input: what it cannot use it reports as [`Effects::dropped`] or an alarm.
pub trait Machine: Send + 'static {
    /// What it hears.
    type Input: Message + Debug + Send;
    /// Names a state record. `encode_key` keeps the order.
    type Key: Ord + Hash + Clone + Debug + Send;
    /// A state record.
    type Entity: Clone + PartialEq + Debug + Send;

    /// Which machine this is.
    const KIND: custos_messages::Machine;
    /// The newest logic that it knows. It knows the one before, too: until the switch that one is in force, and a replay meets it
    /// again. Which of the two is in force stands in [`Context::logic`].
    const LOGIC: u32 = LOGIC;

    /// Applies one input.
    fn apply(state: &mut View<'_, Self::Key, Self::Entity>, input: Cause<Self::Input>, context: &Context) -> Effects;

    /// The bytes of a key. Distinct keys have distinct bytes. The first byte is above 0x0f: lower ones belong to the runtime.
    fn encode_key(key: &Self::Key) -> Vec<u8>;
    /// The bytes of a record: the same record always gives the same bytes, and they name their schema.
    fn encode_entity(entity: &Self::Entity) -> Vec<u8>;
    /// Reads a record back, whatever schema it was written with.
    fn decode(key: &[u8], value: &[u8]) -> Result<(Self::Key, Self::Entity), StateError>;

    /// What is left of a record that never changes again: the runtime keeps that in its stead once the record is committed, and the
    /// machine finds it with [`View::settled`]. The record stands in the log as it was written, and the state root goes over it there.
    ///
    /// # Laws
    /// What settles is never removed, and put again only as it was. The machine decides by what is left even where the record
    /// itself is still there: where a transaction ended must not show.
    fn settle(_key: &Self::Key, _entity: &Self::Entity) -> Option<(Place, Remains)> {
        None
    }
}

/// Why a state record cannot be read. The shard stops: a machine never runs on half a state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The key has no known form.
    #[error("state key {0} has no known form")]
    Key(String),
    /// The value names a schema that this binary does not know.
    #[error("state record {key} has schema {schema}, which this binary does not know")]
    Schema {
        /// The key, in hexadecimal.
        key: String,
        /// The schema it names.
        schema: u32,
    },
    /// A field is absent or holds what it may not.
    #[error("state record {key}: field `{field}` is absent or wrong")]
    Field {
        /// The key, in hexadecimal.
        key: String,
        /// The field.
        field: &'static str,
    },
    /// Not Protobuf.
    #[error("state record {key} is malformed")]
    Malformed {
        /// The key, in hexadecimal.
        key: String,
        /// What Protobuf says.
        #[source]
        source: prost::DecodeError,
    },
}

/// What an input is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause<I> {
    /// A message, authenticated as from `source`.
    Message {
        /// Who said it.
        source: Source,
        /// What was said.
        message: I,
    },
    /// A timer that was armed and is due. It is disarmed now.
    Timer(TimerId),
}

/// Where and when an input is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The log's time of the input, never earlier than that of the input before.
    pub at: Timestamp,
    /// The shard's partition.
    pub partition: u32,
    /// Partitions of each machine.
    pub partitions: u32,
    /// The logic version in force.
    pub logic: u32,
}

/// A timer's name: bytes that the machine chooses, unique in the shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(pub Arc<[u8]>);

/// Everything that an input makes a machine do, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Commands to services.
    pub commands: Vec<Ordered>,
    /// Events, in sequence. Only accounts has any.
    pub events: Vec<Event>,
    /// Messages to machines' inboxes. They leave after the commit, in order per destination shard.
    pub messages: Vec<Outbound>,
    /// Watch-list records.
    pub watch: Vec<WatchRecord>,
    /// Timers to arm or disarm, in order.
    pub timers: Vec<TimerChange>,
    /// The answer to whoever waits for this input at a gateway.
    pub reply: Option<Reply>,
    /// Why the input was of no use (a stale reply, a repeat): counted by code.
    pub dropped: Option<&'static str>,
}

/// The answer to a waiting request. The runtime adds the position of the input's last event, or of the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Accepted now or before.
    Accepted(Subject),
    /// A business no.
    Refused(Refusal),
    /// The key was used with another body.
    KeyReused,
}

/// A command and when it may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// The command.
    pub command: Command,
    /// A question without effect may leave ahead of the commit.
    pub ahead: bool,
}

/// A command to one of the services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// To compliance.
    Screen(Screen),
    /// To the signer.
    Wallet(WalletCommand),
    /// To the chain adapter.
    Blockchain(BlockchainCommand),
}

/// A message to another machine (or another shard of the same one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// A partition when the message is for a shard and not for a key.
    pub partition: Option<u32>,
    /// The message.
    pub message: Mail,
}

/// A change of a timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerChange {
    /// Due at this moment. Arming again moves it.
    Arm(TimerId, Timestamp),
    /// No longer due.
    Disarm(TimerId),
}

static NOTHING_SETTLED: Settled = Settled::new();

/// The state as one input sees it: what is committed, and over it what this transaction has changed so far.
///
/// Nothing is cloned but the records that an input touches; an abort drops the overlay.
#[derive(Debug)]
pub struct View<'a, K, E> {
    base: &'a BTreeMap<K, E>,
    settled: &'a Settled,
    overlay: &'a mut Touched<K, E>,
}

impl<'a, K: Ord + Hash + Clone, E: Clone> View<'a, K, E> {
    /// A view of `base` through `overlay`, where nothing has settled.
    pub fn new(base: &'a BTreeMap<K, E>, overlay: &'a mut Touched<K, E>) -> Self {
        Self::beside(&NOTHING_SETTLED, base, overlay)
    }

    /// A view of `base`, and of what has `settled` beside it, through `overlay`.
    pub fn beside(settled: &'a Settled, base: &'a BTreeMap<K, E>, overlay: &'a mut Touched<K, E>) -> Self {
        Self { base, settled, overlay }
    }

    /// What is left of a record that settled in an earlier transaction.
    #[must_use]
    pub fn settled(&self, place: &Place) -> Option<Remains> {
        self.settled.get(place)
    }

    /// The record of `key`.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&E> {
        match self.overlay.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.base.get(key),
        }
    }

    /// The record of `key`, to be changed in place; it is copied into the overlay the first time.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut E> {
        let base = self.base;
        self.overlay.get_mut(key.clone(), |key| base.get(key).cloned())
    }

    /// Sets the record of `key`.
    pub fn put(&mut self, key: K, entity: E) {
        self.overlay.insert(key, Some(entity));
    }

    /// Removes the record of `key`.
    pub fn remove(&mut self, key: &K) {
        self.overlay.insert(key.clone(), None);
    }

    /// The keys in `range`, in order, at most `limit` of them. Looks at everything that the transaction has touched.
    #[must_use]
    pub fn keys(&self, range: std::ops::RangeInclusive<K>, limit: usize) -> Vec<K> {
        let mut found = self.overlay.standing_in(&range);
        let untouched = self.base.range(range).filter(|(key, _)| self.overlay.get(key).is_none());
        found.extend(untouched.map(|(key, _)| key.clone()).take(limit));
        found.into_iter().take(limit).collect()
    }
}
