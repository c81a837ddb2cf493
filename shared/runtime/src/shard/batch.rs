//! One transaction in the making: inputs are applied one by one, and everything they cause is collected.
//!
//! Invariants: an input is applied exactly once or quarantined, in the transaction that moves past it; what an input causes depends
//! on the state and the record alone, never on the host.

use std::sync::Arc;

use custos_domain::{Digest, Timestamp, partition_of};
use custos_journal::Entry;
use custos_messages::events::{Event, Position};
use custos_messages::gateway::{GatewayReply, Outcome};
use custos_messages::{
    Activate, Envelope, Keyring, Link, Message, Postmark, Record, Rejection, ReplyTo, ShardName, Source, TimerDue, Topic,
};
use custos_saga::machine::{Cause, Command, Context, Effects, Machine, Outbound, Reply, TimerChange, TimerId, View};
use tracing::span::EnteredSpan;

use super::defences::{Defence, Defences};
use super::memory::{Memory, Overlay};
use super::records::{LastInput, Manifest, PendingId, PendingMessage};
use super::root::Roots;
use super::takeover::input_digest;
use crate::quarantine::put_aside;
use crate::telemetry::adopt_trace;

/// What never changes while a shard is held.
#[derive(Clone)]
pub struct Identity {
    /// The shard.
    pub shard: ShardName,
    /// Partitions of every machine.
    pub partitions: u32,
    /// As whom it signs.
    pub source: Source,
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// Whether questions without effect leave ahead of the commit.
    pub ahead: bool,
}

/// Why an input was put aside.
#[derive(Debug, thiserror::Error)]
pub enum Poison {
    /// Unreadable, unauthenticated or not allowed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A number is missing on its link: what lies between was lost or is still to come.
    #[error("link {from}: number {found} arrived, {expected} was expected")]
    LinkGap {
        /// The sender.
        from: ShardName,
        /// The next number.
        expected: u64,
        /// The number that came.
        found: u64,
    },
    /// The sender of the record is not the machine whose link it claims: it would use up that machine's numbers.
    #[error("a message on the link of {0} that {0} did not send")]
    ForeignLink(ShardName),
    /// Meant for another shard.
    #[error("a message for {0} arrived here")]
    Misrouted(ShardName),
    /// An order to go back: there is none.
    #[error("an order to activate logic {found}, while logic {active} is in force")]
    LogicBehind {
        /// The logic in force.
        active: u32,
        /// The logic that was ordered.
        found: u32,
    },
    /// Its key belongs to another partition. Seals do not name partitions: a record that somebody repeats in another one is authentic
    /// there, and would be acted upon a second time by a shard that has never seen it.
    #[error("a message for partition {0} of this machine arrived here")]
    Strayed(u32),
}

impl Poison {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::LinkGap { .. } => "link-gap",
            Self::ForeignLink(_) => "foreign-link",
            Self::Misrouted(_) | Self::Strayed(_) => "misrouted",
            Self::LogicBehind { .. } => "logic-behind",
        }
    }
}

/// An input that activates a logic which this binary does not have. It can be neither applied nor skipped: from it on the shard is
/// another binary's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the input at offset {offset} activates logic {wanted}; this binary knows up to {newest}")]
pub struct UnknownLogic {
    /// Where.
    pub offset: u64,
    /// The logic that was ordered.
    pub wanted: u32,
    /// The newest that this binary knows.
    pub newest: u32,
}

/// What happened to the inputs of a batch, for metrics and fault injection.
#[derive(Debug, Default)]
pub struct Tally {
    /// Inputs applied.
    pub applied: u64,
    /// Inputs that were of no use, by code.
    pub dropped: Vec<&'static str>,
    /// Inputs put aside, by code.
    pub quarantined: Vec<&'static str>,
    /// Steps that sagas reached, as `step`.
    pub steps: Vec<String>,
}

/// An input of this transaction. Its digest is taken when the transaction ends: only the last one's is written.
struct Latest {
    offset: u64,
    at: Timestamp,
    record: Record,
}

/// A transaction in the making.
pub struct Batch<M: Machine> {
    /// State changes.
    pub overlay: Overlay<M>,
    /// Records for other topics.
    pub outputs: Vec<(Topic, Record)>,
    /// Questions that leave before the commit.
    pub ahead: Vec<(Topic, u32, Record)>,
    /// Answers of services that are due: questions asked ahead in this transaction, less the answers that it has heard. Only how long
    /// the transaction stays open rests on it.
    due: u64,
    /// Answers that leave after the commit.
    pub replies: Vec<(u32, Record)>,
    /// Where the shard will stand.
    pub next: u64,
    /// The last input before this transaction.
    before: Option<LastInput>,
    /// The last input of this transaction.
    latest: Option<Latest>,
    /// The last event's sequence.
    pub event_sequence: u64,
    /// The last event's hash.
    pub event_hash: Digest,
    /// The logic in force after the last input.
    pub logic: u32,
    /// The input that this binary cannot apply, if it has come: nothing after it is taken, and the shard stands before it.
    pub beyond: Option<UnknownLogic>,
    /// What happened.
    pub tally: Tally,
    defences: Defences,
}

impl<M: Machine> Batch<M> {
    /// A batch on top of what is committed.
    #[must_use]
    pub fn on(manifest: &Manifest) -> Self {
        Self {
            overlay: Overlay::default(),
            outputs: Vec::new(),
            ahead: Vec::new(),
            due: 0,
            replies: Vec::new(),
            next: manifest.next,
            before: manifest.last,
            latest: None,
            event_sequence: manifest.event_sequence,
            event_hash: manifest.event_hash,
            logic: manifest.logic,
            beyond: None,
            tally: Tally::default(),
            defences: Defences::ALL,
        }
    }

    /// Where the shard stands once this is committed, on top of `before`, with these roots.
    #[must_use]
    pub fn manifest(&self, before: &Manifest, roots: &Roots) -> Manifest {
        Manifest {
            transaction: before.transaction.saturating_add(1),
            next: self.next,
            last: self.last(),
            event_sequence: self.event_sequence,
            event_hash: self.event_hash,
            state_root: roots.state.digest(),
            outbox_root: roots.outbox.digest(),
            logic: self.logic,
            ..before.clone()
        }
    }

    /// The last input: of this transaction, or else the one that stood before it.
    #[must_use]
    pub fn last(&self) -> Option<LastInput> {
        let latest = self.latest.as_ref().map(|Latest { offset, at, record }| LastInput {
            offset: *offset,
            digest: input_digest(record),
            at: *at,
        });
        latest.or(self.before)
    }

    /// The same with these defences alone: for tests.
    #[must_use]
    pub(super) fn under(self, defences: Defences) -> Self {
        Self { defences, ..self }
    }

    /// Whether an answer to a question that this transaction asked ahead of its commit is likely to come soon.
    #[must_use]
    pub const fn awaits_answers(&self) -> bool {
        self.due > 0
    }

    /// Strikes off messages that are durable in their inboxes.
    pub fn strike_off(&mut self, delivered: Vec<PendingId>) {
        for id in delivered {
            self.overlay.pending.insert(id, None);
        }
    }

    /// Applies one input, or puts it aside; does nothing any more once an input has come that this binary cannot apply.
    pub fn take(&mut self, identity: &Identity, memory: &Memory<M>, entry: Entry, time: Timestamp) {
        if self.beyond.is_some() {
            return;
        }
        let (next, latest) = (self.next, self.latest.take());
        let last = latest.as_ref().map(|latest| latest.at).or(self.before.map(|before| before.at));
        let earliest = last.filter(|_| self.defences.hold(Defence::TimeClamp));
        let at = earliest.map_or(time, |earliest| time.max(earliest));
        self.next = entry.offset.saturating_add(1);
        if let Err(poison) = self.hear(identity, memory, &entry, at) {
            self.tally.quarantined.push(poison.code());
            let from = Topic::Inbox(identity.shard.machine);
            let record = put_aside(from, &entry, poison.code(), &poison.to_string());
            self.outputs.push((Topic::Quarantine, record));
        }
        if self.beyond.is_some() {
            (self.next, self.latest) = (next, latest);
        } else {
            self.latest = Some(Latest { offset: entry.offset, at, record: entry.record });
        }
    }

    fn hear(&mut self, identity: &Identity, memory: &Memory<M>, entry: &Entry, at: Timestamp) -> Result<(), Poison> {
        let topic = Topic::Inbox(M::KIND);
        let envelope = identity.keyring.open(topic, &entry.record)?;
        belongs_here(identity, &envelope, &entry.record)?;
        if let Some(link) = envelope.link
            && !self.take_number(identity, memory, envelope.source, link)?
        {
            self.tally.dropped.push("link-repeat");
            return Ok(());
        }
        if envelope.source.is_service() {
            self.due = self.due.saturating_sub(1);
        }
        let value = entry.record.value.as_deref().unwrap_or_default();
        if envelope.kind == Activate::KIND {
            let order = Activate::decode(&envelope.kind, value).map_err(Rejection::Undecodable)?;
            return self.activate(order.logic, entry.offset);
        }
        let cause = if envelope.kind == TimerDue::KIND {
            let due = TimerDue::decode(&envelope.kind, value).map_err(Rejection::Undecodable)?;
            let id = TimerId(due.timer.into());
            match self.overlay.timer(memory, &id) {
                Some(armed) if armed <= at => {
                    self.overlay.timers.insert(id.clone(), None);
                    Cause::Timer(id)
                }
                Some(_) => return self.drop_input("timer-early"),
                None => return self.drop_input("timer-not-armed"),
            }
        } else {
            let message = M::Input::decode(&envelope.kind, value).map_err(Rejection::Undecodable)?;
            Cause::Message { source: envelope.source, message }
        };
        self.apply(identity, memory, cause, at, &envelope);
        Ok(())
    }

    /// Switches the logic, from the next input on. The same order again is of no use; one to go back is put aside.
    fn activate(&mut self, wanted: u32, offset: u64) -> Result<(), Poison> {
        match wanted {
            _ if wanted == self.logic => self.drop_input("logic-active"),
            _ if wanted < self.logic => Err(Poison::LogicBehind { active: self.logic, found: wanted }),
            _ if wanted > M::LOGIC && !self.defences.hold(Defence::KnownLogic) => self.drop_input("logic-unknown"),
            // Where this one is in force, the binary knows no other than the next one above.
            _ if wanted > M::LOGIC => {
                self.beyond = Some(UnknownLogic { offset, wanted, newest: M::LOGIC });
                Ok(())
            }
            _ => {
                self.logic = wanted;
                Ok(())
            }
        }
    }

    fn drop_input(&mut self, code: &'static str) -> Result<(), Poison> {
        self.tally.dropped.push(code);
        Ok(())
    }

    /// Whether the message is the next of its link; `false` for a repeat.
    fn take_number(&mut self, identity: &Identity, memory: &Memory<M>, speaker: Source, link: Link) -> Result<bool, Poison> {
        if speaker.machine() != Some(link.from.machine) {
            return Err(Poison::ForeignLink(link.from));
        }
        if link.to != identity.shard {
            return Err(Poison::Misrouted(link.to));
        }
        let taken = self.overlay.taken(memory, link.from);
        let expected = taken.saturating_add(1);
        if !self.defences.hold(Defence::LinkSequence) {
            self.overlay.link_in.insert(link.from, link.sequence.max(taken));
            return Ok(true);
        }
        if link.sequence > expected {
            return Err(Poison::LinkGap { from: link.from, expected, found: link.sequence });
        }
        if link.sequence == expected {
            self.overlay.link_in.insert(link.from, link.sequence);
        }
        Ok(link.sequence == expected)
    }

    fn apply(&mut self, identity: &Identity, memory: &Memory<M>, cause: Cause<M::Input>, at: Timestamp, from: &Envelope) {
        let context =
            Context { at, partition: identity.shard.partition, partitions: identity.partitions, logic: self.logic };
        let _span = span::<M>(from);
        let mut view = View::beside(&memory.settled, &memory.entities, &mut self.overlay.entities);
        let effects = M::apply(&mut view, cause, &context);
        self.tally.applied = self.tally.applied.saturating_add(1);
        self.tally.dropped.extend(effects.dropped);
        self.perform(identity, memory, effects, at, from);
    }

    fn perform(&mut self, identity: &Identity, memory: &Memory<M>, effects: Effects, at: Timestamp, from: &Envelope) {
        let mark = Postmark { time: Some(at), trace: from.trace.clone(), ..Postmark::default() };
        for event in &effects.events {
            self.record_event(identity, event, &mark);
        }
        for ordered in effects.commands {
            let (topic, record) = command_record(identity, &ordered.command, mark.clone());
            let ahead = ordered.ahead || !self.defences.hold(Defence::EffectsAfterCommit);
            if ahead && identity.ahead {
                self.ahead.push((topic, identity.shard.partition, record));
                self.due = self.due.saturating_add(1);
            } else {
                self.outputs.push((topic, record));
            }
        }
        for watch in &effects.watch {
            let record = identity.keyring.seal_message(Topic::Addresses, identity.source, watch, mark.clone());
            self.outputs.push((Topic::Addresses, record));
        }
        for outbound in effects.messages {
            self.post(identity, memory, outbound, &mark);
        }
        for change in effects.timers {
            match change {
                TimerChange::Arm(id, due) => drop(self.overlay.timers.insert(id, Some(due))),
                TimerChange::Disarm(id) => drop(self.overlay.timers.insert(id, None)),
            }
        }
        if let (Some(reply), Some(reply_to)) = (effects.reply, from.reply_to) {
            self.answer(identity, reply, reply_to, mark);
        }
    }

    fn record_event(&mut self, identity: &Identity, event: &Event, mark: &Postmark) {
        let sequence = self.event_sequence.saturating_add(1);
        let at = (identity.shard.partition, sequence);
        let (place, record) = identity.keyring.chain_event(event, at, self.event_hash, mark.trace.clone());
        self.event_sequence = sequence;
        self.event_hash = place.hash;
        if let custos_messages::events::EventBody::Moved { step, .. } = &event.body {
            self.tally.steps.push(step.clone());
        }
        self.outputs.push((Topic::Events, record));
    }

    fn post(&mut self, identity: &Identity, memory: &Memory<M>, outbound: Outbound, mark: &Postmark) {
        let topic = outbound.message.topic();
        let Topic::Inbox(machine) = topic else { return };
        let partition = outbound.partition.unwrap_or_else(|| partition_of(&outbound.message.key(), identity.partitions));
        let to = ShardName { machine, partition };
        let sequence = self.overlay.number(memory, to);
        let link = Link { from: identity.shard, to, sequence };
        let record =
            outbound.message.seal(&identity.keyring, identity.source, Postmark { link: Some(link), ..mark.clone() });
        let pending = PendingMessage { topic, record };
        self.overlay.pending.insert(PendingId { to, sequence }, Some(pending));
    }

    fn answer(&mut self, identity: &Identity, reply: Reply, to: ReplyTo, mark: Postmark) {
        let position = Position { partition: identity.shard.partition, sequence: self.event_sequence };
        let outcome = match reply {
            Reply::Accepted(subject) => Outcome::Accepted { subject, position },
            Reply::Refused(refusal) => Outcome::Refused(refusal),
            Reply::KeyReused => Outcome::KeyReused,
        };
        let reply = GatewayReply { correlation: to.correlation, outcome };
        let record = identity.keyring.seal_message(Topic::GatewayReplies, identity.source, &reply, mark);
        self.replies.push((to.instance, record));
    }
}

/// A link names its shard, an operator speaks to every shard, and a timer that is not armed here does nothing; everything else goes
/// where its key belongs.
/// An input that came with a trace is seen in it. What it causes carries the trace that the input came with, not this span: records are
/// the same whether anybody watches or not.
fn span<M: Machine>(from: &Envelope) -> Option<EnteredSpan> {
    let trace = from.trace.as_ref()?;
    let span = tracing::info_span!("apply", machine = M::KIND.name(), kind = %from.kind, id = ?from.id);
    adopt_trace(&span, Some(trace));
    Some(span.entered())
}

fn belongs_here(identity: &Identity, envelope: &Envelope, record: &Record) -> Result<(), Poison> {
    let anywhere = envelope.link.is_some() || envelope.source == Source::Operator || envelope.kind == TimerDue::KIND;
    let home = partition_of(&record.key, identity.partitions);
    if anywhere || home == identity.shard.partition { Ok(()) } else { Err(Poison::Strayed(home)) }
}

fn command_record(identity: &Identity, command: &Command, mark: Postmark) -> (Topic, Record) {
    let (keyring, source) = (&identity.keyring, identity.source);
    let topic = match command {
        Command::Screen(_) => Topic::ComplianceCommands,
        Command::Wallet(_) => Topic::WalletCommands,
        Command::Blockchain(_) => Topic::BlockchainCommands,
    };
    let record = match command {
        Command::Screen(screen) => keyring.seal_message(topic, source, screen, mark),
        Command::Wallet(order) => keyring.seal_message(topic, source, order, mark),
        Command::Blockchain(order) => keyring.seal_message(topic, source, order, mark),
    };
    (topic, record)
}
