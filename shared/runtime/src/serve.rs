//! Runs a stateless service: consume its commands in a group, answer, acknowledge.
//!
//! Invariants: a command is acknowledged only after its replies are durable; a record that cannot be read or is not authentic is
//! put aside with its reason before it is acknowledged; a command that has to wait is tried again, with a pause that grows to a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use custos_journal::{Entry, Journal, JournalError, Remedy};
use custos_messages::{Envelope, Keyring, Mail, Rejection, TraceParent};
use futures::StreamExt;
use tokio::runtime::Handle;
use tracing::Instrument;

use crate::metrics::Metrics;
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
    pub handle: Handle,
    /// Commands dealt with at the same time.
    pub parallel: usize,
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
    let mut feed = settings.journal.consume(S::COMMANDS, S::NAME)?;
    let post = Post::new(&*settings.journal, Arc::clone(&settings.keyring), S::SOURCE, settings.partitions)?;
    let quarantine = Quarantine::open(&*settings.journal, settings.metrics.clone(), S::NAME)?;
    while !stop.load(Ordering::Acquire) {
        let entries = match feed.poll(MOST, LOOK) {
            Ok(entries) => entries,
            Err(error) if error.remedy() == Remedy::Retry => {
                tracing::warn!(service = S::NAME, error = %chain(&error), "the log does not answer");
                std::thread::sleep(LOOK);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let done: BTreeMap<u32, u64> = entries.iter().map(|entry| (entry.partition, entry.offset)).collect();
        let (commands, poison) = sort::<S>(settings, entries);
        for (entry, rejection) in poison {
            insist(stop, || quarantine.reject(S::COMMANDS, &entry, &rejection))?;
        }
        if answer_all(service, settings, commands, stop, &post)? == Answered::Interrupted {
            return Ok(());
        }
        for (partition, offset) in done {
            insist(stop, || feed.acknowledge(partition, offset))?;
        }
    }
    Ok(())
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

/// The same call until it succeeds, `stop` is raised, or the error does not pass.
fn insist(stop: &AtomicBool, mut call: impl FnMut() -> Result<(), JournalError>) -> Result<(), JournalError> {
    loop {
        match call() {
            Err(error) if error.remedy() == Remedy::Retry && !stop.load(Ordering::Acquire) => {
                tracing::warn!(error = %chain(&error), "the log does not take what was said");
                std::thread::sleep(FIRST_PAUSE);
            }
            other => return other,
        }
    }
}

type Replies = Vec<(Mail, Option<TraceParent>)>;

#[derive(PartialEq, Eq)]
enum Answered {
    /// Every command, and every reply is durable.
    All,
    /// `stop` was raised before the end.
    Interrupted,
}

/// Answers all commands. Replies leave as soon as they are there, so that a command that has to wait holds back no other's.
fn answer_all<S: Service>(
    service: &Arc<S>,
    settings: &ServeSettings,
    commands: Vec<(Envelope, S::Command)>,
    stop: &Arc<AtomicBool>,
    post: &Post,
) -> Result<Answered, ServeStop>
where
    S::Command: Clone,
{
    let answers = commands.into_iter().map(|(envelope, command)| {
        let span = tracing::info_span!("process", service = S::NAME, kind = %envelope.kind, id = ?envelope.id);
        adopt_trace(&span, envelope.trace.as_ref());
        answer(service, settings, command, stop).instrument(span)
    });
    let answers = futures::stream::iter(answers).buffer_unordered(settings.parallel.max(1)).ready_chunks(MOST);
    let mut answers = std::pin::pin!(answers);
    while let Some(some) = settings.handle.block_on(answers.next()) {
        let (mut replies, mut halted, mut interrupted) = (Replies::new(), None, false);
        for answered in some {
            match answered {
                Ok(Some(more)) => replies.extend(more),
                Ok(None) => interrupted = true,
                Err(stop) => halted = Some(stop),
            }
        }
        if !replies.is_empty() {
            insist(stop, || post.send_all(&replies))?;
        }
        match halted {
            Some(halted) => return Err(halted),
            None if interrupted => return Ok(Answered::Interrupted),
            None => {}
        }
    }
    Ok(if stop.load(Ordering::Acquire) { Answered::Interrupted } else { Answered::All })
}

async fn answer<S: Service>(
    service: &Arc<S>,
    settings: &ServeSettings,
    command: S::Command,
    stop: &Arc<AtomicBool>,
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
                tracing::warn!(service = S::NAME, error = %chain(&*source), "to be tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    Ok(None)
}
