//! The loop of one shard: poll, apply, commit. In production it has a thread of its own.
//!
//! Invariants: one open transaction at a time and none while idle; the inbox position moves only with a commit; whatever the log
//! leaves undecided is settled by taking the shard over again, never by guessing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use custos_domain::Timestamp;
use custos_journal::{Appender, Entry, Journal, JournalError, Remedy, ShardLog, Transaction};
use custos_messages::{Postmark, TimerDue, Topic};
use custos_saga::machine::{Machine, TimerId};

use super::Question;
use super::batch::{Batch, Identity, UnknownLogic};
use super::courier::{Courier, Parcel, chain};
use super::defences::{Defence, Defences};
use super::fold::Folded;
use super::herald::Herald;
use super::memory::Memory;
use super::progress::{Condition, Progress};
use super::records::{Manifest, PendingId, header};
use super::takeover::{TakeoverError, take_over_under};
use crate::metrics::ShardMetrics;
use crate::pace::{Clock, Hands, Turn};

/// Called at named points, so that faults can be injected there.
pub type Interrupt = Arc<dyn Fn(&str) + Send + Sync>;

/// Gives what is known of a shard that is about to be taken over.
pub type HeadStart = Arc<dyn Fn() -> Option<Folded> + Send + Sync>;

/// How a shard runs.
#[derive(Clone)]
pub struct ShardSettings {
    /// Most inputs of one transaction.
    pub batch_records: usize,
    /// Longest time from a transaction's first input to its commit.
    pub batch_time: Duration,
    /// How long a transaction that has asked ahead of its commit stays open for the answers, while some are due.
    pub hold_time: Duration,
    /// A transaction of so many inputs is not held open: it is worth its commit already.
    pub hold_below: usize,
    /// How long the loop waits for input before it looks at timers, questions and its orders.
    pub idle_wait: Duration,
    /// How often an armed, due timer is put into the inbox again.
    pub timer_again: Duration,
    /// A record whose time lies further ahead of the host's clock stops the shard.
    pub clock_lead_max: Duration,
    /// Whether questions without effect leave ahead of the commit.
    pub ahead: bool,
    /// Where the owner answers operators, for the manifest.
    pub advertise: String,
    /// Fault injection; `None` in production, where points are not even named.
    pub interrupt: Option<Interrupt>,
    /// Whose time it runs on.
    pub clock: Clock,
    /// Who carries what leaves it.
    pub hands: Hands,
    /// What keeps others' faults from doing harm: all, but in tests that show what each is for.
    pub defences: Defences,
}

impl ShardSettings {
    /// Production values.
    #[must_use]
    pub fn new(advertise: String) -> Self {
        Self {
            batch_records: 1_000,
            batch_time: Duration::from_millis(20),
            hold_time: Duration::from_millis(10),
            hold_below: 64,
            idle_wait: Duration::from_millis(25),
            timer_again: Duration::from_secs(1),
            clock_lead_max: Duration::from_secs(600),
            ahead: true,
            advertise,
            interrupt: None,
            clock: Clock::HOST,
            hands: Hands::Threads,
            defences: Defences::ALL,
        }
    }
}

/// Why a shard stopped running.
#[derive(Debug, thiserror::Error)]
pub enum ShardStop {
    /// It was told to.
    #[error("given up")]
    Released,
    /// Another owner has it.
    #[error("another owner has the shard")]
    Fenced(#[source] JournalError),
    /// It must be taken over again.
    #[error("to be taken over again")]
    TakeOver(#[source] JournalError),
    /// It cannot be taken over.
    #[error("cannot be taken over")]
    Refused(#[source] TakeoverError),
    /// The log cannot be used.
    #[error("the log cannot be used")]
    Log(#[source] JournalError),
    /// The log gave an input that was applied already: its reader does not stand where it was put.
    #[error("the log gave the input at offset {offset}, but the shard stands at {next}")]
    OffsetRepeated {
        /// What came.
        offset: u64,
        /// What is next.
        next: u64,
    },
    /// An input has no broker time: time must be part of the log.
    #[error("the input at offset {0} has no broker time")]
    NoTime(u64),
    /// An input's time lies too far ahead.
    #[error("the input at offset {offset} is dated {ahead_ms} ms ahead of this host's clock")]
    TimeJump {
        /// Where.
        offset: u64,
        /// How far.
        ahead_ms: u64,
    },
    /// The next input activates a logic that this binary does not have.
    #[error(transparent)]
    Logic(UnknownLogic),
    /// What leaves the shard cannot leave: the shard is taken over again, which sends it again.
    #[error("the courier ended")]
    CourierLost,
    /// The machine panicked: a defect, whatever the input.
    #[error("the machine panicked")]
    Panicked,
    /// The operating system refused a thread.
    #[error("no thread for what leaves the shard")]
    Thread(#[source] std::io::Error),
}

impl From<JournalError> for ShardStop {
    fn from(error: JournalError) -> Self {
        match error.remedy() {
            Remedy::Retry | Remedy::TakeOver => Self::TakeOver(error),
            Remedy::Drop => Self::Fenced(error),
            Remedy::Halt => Self::Log(error),
        }
    }
}

/// What a shard needs from its host.
pub struct ShardContext<M: Machine> {
    /// The log.
    pub journal: Arc<dyn Journal>,
    /// Who it is.
    pub identity: Identity,
    /// How it runs.
    pub settings: ShardSettings,
    /// Raised when the shard must be given up.
    pub stop: Arc<AtomicBool>,
    /// Operators' questions.
    pub questions: Receiver<Question<M>>,
    /// Counters.
    pub metrics: ShardMetrics,
    /// What a standby or a checkpoint knows of it.
    pub head_start: Option<HeadStart>,
    /// Where the shard stands, for others to see.
    pub progress: Progress,
}

/// Most due timers that one look puts into the inbox.
const TIMERS_AT_ONCE: usize = 1_000;
/// How often the pause doubles before a timer is put into the inbox of a lagging shard again.
const TOLD_DOUBLINGS: u32 = 6;

/// A shard that was taken over and runs, turn by turn.
pub struct Running<M: Machine> {
    context: ShardContext<M>,
    log: Box<dyn ShardLog>,
    courier: Courier,
    herald: Herald,
    memory: Memory<M>,
    manifest: Manifest,
    delivered: Vec<PendingId>,
    timers_told: Instant,
    told: BTreeMap<TimerId, Told>,
    /// When the inbox was last seen with nothing in it.
    drained: Instant,
}

/// A due timer that was put into the inbox.
struct Told {
    due: Timestamp,
    at: Instant,
    times: u32,
}

impl Told {
    /// Whether to put it there again. While the shard lags, what was put there still stands before it: saying it ever again at the
    /// same pace would make the lag grow for as long as it lasts.
    fn is_again(&self, again: Duration, drained: Instant, now: Instant) -> bool {
        let patience = if drained > self.at { 1 } else { 1 << self.times.min(TOLD_DOUBLINGS) };
        now.saturating_duration_since(self.at) >= again.saturating_mul(patience)
    }
}

/// Takes the shard over and runs it until it must stop.
pub fn run_shard<M: Machine>(context: ShardContext<M>) -> ShardStop {
    let stop = Arc::clone(&context.stop);
    let run = || {
        let mut running = Running::open(context)?;
        // A turn waits inside of its poll.
        while !stop.load(Ordering::Acquire) {
            running.step()?;
        }
        Ok(())
    };
    match run() {
        Ok(()) => ShardStop::Released,
        Err(stop) => stop,
    }
}

fn parcels(pending: impl Iterator<Item = (PendingId, super::records::PendingMessage)>) -> Vec<Parcel> {
    pending
        .map(|(id, message)| Parcel {
            topic: message.topic,
            partition: id.to.partition,
            record: message.record,
            id: Some(id),
        })
        .collect()
}

impl<M: Machine> Running<M> {
    /// Takes the shard over.
    ///
    /// # Errors
    /// It cannot be taken over, or not now.
    pub fn open(context: ShardContext<M>) -> Result<Self, ShardStop> {
        let clock = context.settings.clock.clone();
        let began = clock.now();
        let shard = context.identity.shard;
        context.progress.become_condition(Condition::TakingOver);
        let mut log = context.journal.acquire(shard.machine, shard.partition)?;
        let known = context.head_start.as_ref().and_then(|known| known());
        let taken = take_over_under::<M>(shard, &mut *log, &context.settings.advertise, known, context.settings.defences)
            .map_err(|error| match error {
                TakeoverError::Journal { source, .. } => ShardStop::from(source),
                other => ShardStop::Refused(other),
            })?;
        context.metrics.taken_over(taken.opening, clock.since(began));
        let appender: Arc<dyn Appender> = context.journal.appender()?.into();
        let (mut courier, herald) = match context.settings.hands {
            Hands::Threads => (
                Courier::start(&shard.to_string(), Arc::clone(&appender)).map_err(ShardStop::Thread)?,
                Herald::start(&shard.to_string(), appender).map_err(ShardStop::Thread)?,
            ),
            Hands::Own => (Courier::own(Arc::clone(&appender), clock.clone()), Herald::own(appender)),
        };
        tracing::info!(
            %shard,
            attempt = taken.manifest.attempt,
            next = taken.manifest.next,
            restored = taken.restored,
            opening = taken.opening.name(),
            took_ms = u64::try_from(clock.since(began).as_millis()).unwrap_or(u64::MAX),
            "shard taken over"
        );
        let (memory, manifest) = (taken.memory, taken.manifest);
        context.progress.committed(&manifest, &memory, clock.now());
        courier.send(parcels(memory.pending.iter().map(|(id, message)| (*id, message.clone()))));
        Ok(Self {
            context,
            log,
            courier,
            herald,
            memory,
            manifest,
            delivered: Vec::new(),
            timers_told: began,
            told: BTreeMap::new(),
            drained: began,
        })
    }

    /// One turn: what is due is put into the inbox, and what the inbox holds is applied and committed. Waits for input as long as the
    /// settings say.
    ///
    /// # Errors
    /// The shard cannot go on.
    pub fn step(&mut self) -> Result<Turn, ShardStop> {
        if self.courier.is_lost() {
            return Err(ShardStop::CourierLost);
        }
        self.answer_questions();
        self.tell_timers();
        let carried = self.courier.walk();
        let settings = &self.context.settings;
        let entries = self.log.poll(settings.batch_records, settings.idle_wait)?;
        if entries.is_empty() {
            self.drained = settings.clock.now();
            return Ok(if carried { Turn::Again } else { Turn::Wait(Duration::ZERO) });
        }
        self.transact(entries)?;
        Ok(Turn::Again)
    }

    fn answer_questions(&self) {
        while let Ok(question) = self.context.questions.try_recv() {
            question(&self.memory);
        }
    }

    /// Puts a due-record of every armed, due timer into the inbox. The host's clock only wakes: what the log's time finds early
    /// stays armed, and is put there again.
    fn tell_timers(&mut self) {
        let clock = &self.context.settings.clock;
        if clock.since(self.timers_told) < self.context.settings.timer_again / 4 {
            return;
        }
        let moment = clock.now();
        self.timers_told = moment;
        let now = clock.date();
        let identity = &self.context.identity;
        let again = self.context.settings.timer_again;
        self.told.retain(|id, told| self.memory.timers.get(id) == Some(&told.due));
        let mut records = Vec::new();
        for (due, id) in self.memory.due.iter().take_while(|(due, _)| *due <= now).take(TIMERS_AT_ONCE) {
            let before = self.told.get(id);
            if before.is_some() && !self.context.settings.defences.hold(Defence::TimerAgain) {
                continue;
            }
            if before.is_some_and(|told| !told.is_again(again, self.drained, moment)) {
                continue;
            }
            let times = before.map_or(0, |told| told.times.saturating_add(1));
            self.told.insert(id.clone(), Told { due: *due, at: moment, times });
            records.push(timer_parcel(identity, id, *due));
        }
        self.courier.send(records);
    }

    fn transact(&mut self, first: Vec<Entry>) -> Result<(), ShardStop> {
        let settings = &self.context.settings;
        let began = settings.clock.now();
        let transaction = self.manifest.transaction.saturating_add(1);
        self.log.begin(header(transaction, self.manifest.attempt))?;
        let mut batch = Batch::<M>::on(&self.manifest).under(settings.defences);
        self.delivered.extend(self.courier.delivered());
        batch.strike_off(self.delivered.clone());
        let mut room = settings.batch_records.saturating_sub(first.len());
        self.apply_all(&mut batch, first)?;
        self.herald.ask(std::mem::take(&mut batch.ahead));
        while room > 0 && batch.beyond.is_none() && settings.clock.since(began) < settings.batch_time {
            let small = settings.batch_records.saturating_sub(room) < settings.hold_below;
            let hold = if small && batch.awaits_answers() { settings.hold_time } else { Duration::ZERO };
            let more = self.log.poll(room, hold.saturating_sub(settings.clock.since(began)))?;
            if more.is_empty() {
                break;
            }
            room = room.saturating_sub(more.len());
            self.apply_all(&mut batch, more)?;
            self.herald.ask(std::mem::take(&mut batch.ahead));
        }
        if let Some(interrupt) = &settings.interrupt {
            interrupt("open-transaction");
            batch.tally.steps.iter().for_each(|step| interrupt(&format!("open-transaction:{step}")));
        }
        let (beyond, moved) = (batch.beyond, batch.next > self.manifest.next);
        if moved {
            self.commit(batch, began)?;
        }
        match beyond {
            None => Ok(()),
            Some(unknown) => {
                // What came before it is committed; the header alone is not worth a transaction.
                self.log.abort()?;
                Err(ShardStop::Logic(unknown))
            }
        }
    }

    fn apply_all(&self, batch: &mut Batch<M>, entries: Vec<Entry>) -> Result<(), ShardStop> {
        for entry in entries {
            if entry.offset < batch.next {
                return Err(ShardStop::OffsetRepeated { offset: entry.offset, next: batch.next });
            }
            let time = self.time_of(&entry)?;
            batch.take(&self.context.identity, &self.memory, entry, time);
        }
        Ok(())
    }

    fn time_of(&self, entry: &Entry) -> Result<Timestamp, ShardStop> {
        let at = entry.at.ok_or(ShardStop::NoTime(entry.offset))?;
        let ahead_ms = at.since(self.context.settings.clock.date()).0;
        let bound = u64::try_from(self.context.settings.clock_lead_max.as_millis()).unwrap_or(u64::MAX);
        if ahead_ms > bound {
            return Err(ShardStop::TimeJump { offset: entry.offset, ahead_ms });
        }
        Ok(at)
    }

    fn commit(&mut self, mut batch: Batch<M>, began: Instant) -> Result<(), ShardStop> {
        self.herald.settle()?;
        let (state, roots) = batch.overlay.records(&self.memory);
        let manifest = batch.manifest(&self.manifest, &roots);
        let record = manifest.record();
        self.log.commit(Transaction { outputs: std::mem::take(&mut batch.outputs), state, manifest: record })?;
        self.delivered.clear();
        self.manifest = manifest;
        let posted: Vec<_> =
            batch.overlay.pending.iter().filter_map(|(id, message)| message.clone().map(|message| (*id, message))).collect();
        let replies = batch.replies.drain(..).map(|(instance, record)| Parcel {
            topic: Topic::GatewayReplies,
            partition: instance,
            record,
            id: None,
        });
        let mut leaving: Vec<Parcel> = replies.collect();
        leaving.extend(parcels(posted.into_iter()));
        let tally = std::mem::take(&mut batch.tally);
        self.memory.merge(batch.overlay, roots);
        self.courier.send(leaving);
        let now = self.context.settings.clock.now();
        self.context.metrics.committed(&tally, now.saturating_duration_since(began));
        self.context.progress.committed(&self.manifest, &self.memory, now);
        if let Some(interrupt) = &self.context.settings.interrupt {
            interrupt("committed");
            tally.steps.iter().for_each(|step| interrupt(step));
        }
        Ok(())
    }
}

fn timer_parcel(identity: &Identity, id: &TimerId, due: Timestamp) -> Parcel {
    let topic = Topic::Inbox(identity.shard.machine);
    let message = TimerDue { timer: id.0.to_vec(), due };
    let record = identity.keyring.seal_message(topic, identity.source, &message, Postmark::default());
    Parcel { topic, partition: identity.shard.partition, record, id: None }
}

/// Whether and how a stop is worth reporting; a release is not.
#[must_use]
pub fn describe(stop: &ShardStop) -> String {
    chain(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_told_ever_more_rarely_while_the_shard_lags_and_at_once_when_it_does_not() {
        let again = Duration::from_secs(1);
        let told =
            |seconds_ago, times| Told { due: Timestamp(1), at: Instant::now() - Duration::from_secs(seconds_ago), times };
        let (long_ago, now) = (Instant::now() - Duration::from_secs(3_600), Instant::now());
        for (seconds_ago, times, lagging, drained) in [
            (0, 0, false, false),
            (2, 0, true, true),
            (3, 2, false, true),
            (5, 2, true, true),
            (63, 9, false, true),
            (65, 9, true, true),
        ] {
            let told = told(seconds_ago, times);
            assert_eq!(told.is_again(again, long_ago, now), lagging, "{seconds_ago} s, {times} times, lagging");
            assert_eq!(told.is_again(again, now, now), drained, "{seconds_ago} s, {times} times, drained");
        }
    }
}
