//! Runs a stateless service: consume its commands in a group, answer, acknowledge.
//!
//! Invariants: a command is acknowledged only after its replies are durable; a record that cannot be read or is not authentic is
//! put aside with its reason before it is acknowledged; a command that has to wait is tried again, with a pause that grows to a bound,
//! and let go when the service's patience is over, so that no command holds up the others for ever: whoever waits asks again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use custos_journal::{Entry, Feed, Journal, JournalError, Remedy};
use custos_messages::{Envelope, Keyring, Mail, Rejection, TraceParent};
use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::runtime::Handle;
use tracing::Instrument;

use crate::metrics::Metrics;
use crate::pace::{Clock, Turn, turn_until};
use crate::post::Post;
use crate::quarantine::Quarantine;
use crate::service::{Service, Setback};
use crate::shard::chain;
use crate::telemetry::{adopt_trace, current_trace};

/// What a service needs around it.
#[derive(Clone)]
pub struct ServeSettings {
    /// The log.
    pub journal: Arc<dyn Journal>,
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// Partitions of every machine.
    pub partitions: u32,
    /// Counters.
    pub metrics: Metrics,
    /// Where its asynchronous work runs.
    pub work: Work,
    /// Whose time it runs on.
    pub clock: Clock,
    /// Commands dealt with at the same time.
    pub parallel: usize,
}

/// Where a service's asynchronous work runs.
#[derive(Clone, Debug)]
pub enum Work {
    /// On this runtime; a turn of the loop waits until every command is answered.
    Tokio(Handle),
    /// In the loop's own turns: nothing that a command waits for needs a runtime. A turn never waits.
    Own,
}

/// Why a service stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeStop {
    /// The log cannot be used.
    #[error("the log cannot be used")]
    Log(#[from] JournalError),
    /// The service says that it cannot go on.
    #[error("{service} cannot go on")]
    Halted {
        /// Which.
        service: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

const LOOK: Duration = Duration::from_millis(100);
const MOST: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Runs `service` on the calling thread until `stop` is raised.
///
/// # Errors
/// The log cannot be used, or the service halts.
pub fn run_service<S: Service>(service: &Arc<S>, settings: &ServeSettings, stop: &Arc<AtomicBool>) -> Result<(), ServeStop>
where
    S::Command: Clone,
{
    let mut serving = Serving::open(Arc::clone(service), settings.clone(), Arc::clone(stop))?;
    turn_until(stop, || serving.step())
}

/// A service at work, turn by turn.
pub struct Serving<S: Service> {
    service: Arc<S>,
    settings: ServeSettings,
    stop: Arc<AtomicBool>,
    feed: Box<dyn Feed>,
    post: Post,
    quarantine: Quarantine,
    /// What cannot be read, to be put aside.
    poison: VecDeque<(Entry, Rejection)>,
    /// Commands that are being answered.
    answers: Option<Answers>,
    /// Replies that are not durable yet.
    owed: Replies,
    /// What is to be acknowledged once all of that is done.
    done: BTreeMap<u32, u64>,
}

type Answers = Pin<Box<dyn Stream<Item = Vec<Result<Option<Replies>, ServeStop>>> + Send>>;

impl<S: Service> Serving<S>
where
    S::Command: Clone,
{
    /// Joins the service's group.
    ///
    /// # Errors
    /// The log cannot be used.
    pub fn open(service: Arc<S>, settings: ServeSettings, stop: Arc<AtomicBool>) -> Result<Self, ServeStop> {
        let feed = settings.journal.consume(S::COMMANDS, S::NAME)?;
        let post = Post::new(&*settings.journal, Arc::clone(&settings.keyring), S::SOURCE, settings.partitions)?;
        let quarantine = Quarantine::open(&*settings.journal, settings.metrics.clone(), S::NAME)?;
        let (poison, owed, done) = (VecDeque::new(), Replies::new(), BTreeMap::new());
        Ok(Self { service, settings, stop, feed, post, quarantine, poison, answers: None, owed, done })
    }

    /// One turn: what is begun is ended, else commands are taken. A call of the log that may succeed later is made again then.
    ///
    /// # Errors
    /// The log cannot be used, or the service halts.
    pub fn step(&mut self) -> Result<Turn, ServeStop> {
        match self.turn() {
            Err(ServeStop::Log(error)) if error.remedy() == Remedy::Retry => {
                tracing::warn!(service = S::NAME, error = %chain(&error), "the log does not answer, or does not take what was said");
                Ok(Turn::Wait(FIRST_PAUSE))
            }
            turned => turned,
        }
    }

    fn turn(&mut self) -> Result<Turn, ServeStop> {
        if self.done.is_empty() {
            let patience = if matches!(self.settings.work, Work::Own) { Duration::ZERO } else { LOOK };
            let entries = self.feed.poll(MOST, patience)?;
            if entries.is_empty() {
                return Ok(if patience.is_zero() { Turn::Wait(LOOK) } else { Turn::Again });
            }
            self.done = entries.iter().map(|entry| (entry.partition, entry.offset)).collect();
            let (commands, poison) = sort::<S>(&self.settings, entries);
            self.poison = poison.into();
            self.answers = Some(self.answer_all(commands));
        }
        while let Some((entry, rejection)) = self.poison.front() {
            self.quarantine.reject(S::COMMANDS, entry, rejection)?;
            self.poison.pop_front();
        }
        if let Some(turn) = self.reply()? {
            return Ok(turn);
        }
        while let Some((partition, offset)) = self.done.first_key_value() {
            self.feed.acknowledge(*partition, *offset)?;
            self.done.pop_first();
        }
        Ok(Turn::Again)
    }

    /// Posts replies as soon as they are there, so that a command that has to wait holds back no other's. `None`: all are durable.
    fn reply(&mut self) -> Result<Option<Turn>, ServeStop> {
        loop {
            if !self.owed.is_empty() {
                self.post.send_all(&self.owed)?;
                self.owed.clear();
            }
            let Some(answers) = &mut self.answers else { return Ok(None) };
            let some = match &self.settings.work {
                Work::Tokio(handle) => handle.block_on(answers.next()),
                Work::Own => match answers.next().now_or_never() {
                    Some(some) => some,
                    None => return Ok(Some(Turn::Wait(FIRST_PAUSE))),
                },
            };
            let Some(some) = some else {
                self.answers = None;
                continue;
            };
            let (mut halted, mut interrupted) = (None, false);
            for answered in some {
                match answered {
                    Ok(Some(more)) => self.owed.extend(more),
                    Ok(None) => interrupted = true,
                    Err(stop) => halted = Some(stop),
                }
            }
            if let Some(halted) = halted {
                self.last_words();
                return Err(halted);
            }
            if interrupted {
                self.last_words();
                // Nothing is acknowledged: whoever takes the partition over answers all of it again.
                return Ok(Some(Turn::Wait(FIRST_PAUSE)));
            }
        }
    }

    /// Says what was answered before the end, if the log takes it: nothing of it is acknowledged, so it will be answered again.
    fn last_words(&mut self) {
        if !self.owed.is_empty()
            && let Err(error) = self.post.send_all(&std::mem::take(&mut self.owed))
        {
            tracing::warn!(service = S::NAME, error = %chain(&error), "what was said last is not in the log");
        }
    }

    fn answer_all(&self, commands: Vec<(Envelope, S::Command)>) -> Answers {
        let (service, settings, stop) = (Arc::clone(&self.service), self.settings.clone(), Arc::clone(&self.stop));
        let parallel = settings.parallel.max(1);
        // Of all that were taken together: they are acknowledged together, and nothing is taken before.
        let until = S::PATIENCE.map(|patience| settings.clock.now() + patience);
        let answers = commands.into_iter().map(move |(envelope, command)| {
            let span = tracing::info_span!("process", service = S::NAME, kind = %envelope.kind, id = ?envelope.id);
            adopt_trace(&span, envelope.trace.as_ref());
            answer(Arc::clone(&service), settings.clone(), (command, until), Arc::clone(&stop)).instrument(span)
        });
        Box::pin(futures::stream::iter(answers).buffer_unordered(parallel).ready_chunks(MOST))
    }
}

type Sorted<C> = (Vec<(Envelope, C)>, Vec<(Entry, Rejection)>);

/// Reads the records. A command that stands there several times is answered once: whoever waits repeats it, so a service that has
/// fallen behind finds many of one kind, and would never catch up if it answered each.
fn sort<S: Service>(settings: &ServeSettings, entries: Vec<Entry>) -> Sorted<S::Command> {
    let (mut commands, mut poison) = (Vec::new(), Vec::new());
    let mut known = BTreeSet::new();
    let mut repeats = 0;
    for entry in entries {
        match settings.keyring.open_message::<S::Command>(S::COMMANDS, &entry.record) {
            Ok((envelope, command)) if known.insert(envelope.id) => commands.push((envelope, command)),
            Ok(_) => repeats += 1,
            Err(rejection) => poison.push((entry, rejection)),
        }
    }
    if repeats > 0 {
        settings.metrics.dropped(S::NAME, "repeat", repeats);
    }
    (commands, poison)
}

type Replies = Vec<(Mail, Option<TraceParent>)>;

async fn answer<S: Service>(
    service: Arc<S>,
    settings: ServeSettings,
    (command, until): (S::Command, Option<Instant>),
    stop: Arc<AtomicBool>,
) -> Result<Option<Replies>, ServeStop>
where
    S::Command: Clone,
{
    let mut pause = FIRST_PAUSE;
    while !stop.load(Ordering::Acquire) {
        match service.handle(command.clone()).await {
            Ok(replies) => {
                settings.metrics.answered(S::NAME);
                let trace = current_trace();
                return Ok(Some(replies.into_iter().map(|reply| (reply, trace.clone())).collect()));
            }
            Err(Setback::Halt(source)) => return Err(ServeStop::Halted { service: S::NAME, source }),
            Err(Setback::Retry(source)) => {
                settings.metrics.set_back(S::NAME);
                if until.is_some_and(|until| settings.clock.now() >= until) {
                    tracing::error!(service = S::NAME, error = %chain(&*source), "let go without an answer: it will be asked again");
                    settings.metrics.dropped(S::NAME, "given-up", 1);
                    return Ok(Some(Vec::new()));
                }
                tracing::warn!(service = S::NAME, error = %chain(&*source), "to be tried again");
                settings.clock.sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    Ok(None)
}
