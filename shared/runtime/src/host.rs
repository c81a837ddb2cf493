//! The host of a machine: joins the machine's group, runs a thread for each shard that it is given, and gives shards up in time.
//!
//! Invariants: membership only assigns, the log fences. A fenced shard is taken again only under a newer assignment; an
//! undecided one is taken over again at once; one that cannot be taken over stands still, pages, and does not disturb the others.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use custos_journal::{Assignment, Journal, JournalError, Membership};
use custos_messages::{Keyring, ShardName, Source};
use custos_saga::machine::Machine;

use crate::metrics::Metrics;
use crate::observer::Observer;
use crate::ops::{Answer, Desk, Fact};
use crate::shard::{
    Condition, HeadStart, Identity, Progress, Question, ShardContext, ShardSettings, ShardStop, chain, run_shard,
};
use crate::standby::{Handover, Standby, StandbySettings};

/// Everything that a host needs.
pub struct HostSettings<M: Machine> {
    /// The log.
    pub journal: Arc<dyn Journal>,
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// This process's name in the group.
    pub member: String,
    /// Partitions of every machine.
    pub partitions: u32,
    /// How shards run.
    pub shard: ShardSettings,
    /// How the shards of others are followed.
    pub standby: StandbySettings,
    /// Counters.
    pub metrics: Metrics,
    /// Tells an operator what a state knows about a subject.
    pub inspect: Inspect<M>,
}

/// What a state knows about a subject, as named facts; empty when nothing.
pub type Inspect<M> = fn(&BTreeMap<<M as Machine>::Key, <M as Machine>::Entity>, &str) -> Vec<(String, String)>;

impl<M: Machine> Clone for HostSettings<M> {
    fn clone(&self) -> Self {
        Self {
            journal: Arc::clone(&self.journal),
            keyring: Arc::clone(&self.keyring),
            member: self.member.clone(),
            partitions: self.partitions,
            shard: self.shard.clone(),
            standby: self.standby.clone(),
            metrics: self.metrics.clone(),
            inspect: self.inspect,
        }
    }
}

/// How long a host that cannot reach the log waits.
const PAUSE: Duration = Duration::from_millis(500);
/// How often the host looks at its membership.
const LOOK: Duration = Duration::from_millis(100);
/// How often the group is told how far shards have come.
const NOTE_EVERY: Duration = Duration::from_secs(1);

struct Held {
    progress: Progress,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Runs the host until `stop` is raised; then gives every shard up.
///
/// # Errors
/// The group cannot be joined, or does not let go of what it revoked. Every shard is given up before this returns.
pub fn run_host<M: Machine>(settings: &HostSettings<M>, desk: &Desk, stop: &AtomicBool) -> Result<(), JournalError> {
    let observer = Observer::start(Arc::clone(&settings.journal), M::KIND, desk.clone(), settings.metrics.clone())
        .map_err(no_thread)?;
    let standby = standby(settings).map_err(no_thread)?;
    let mut membership = settings.journal.join(M::KIND, &settings.member)?;
    let mut held: BTreeMap<u32, Held> = BTreeMap::new();
    let take = |partition| take(settings, desk, partition, standby.as_ref().map(Standby::handover));
    let ended = follow::<M>(&take, stop, &mut *membership, &mut held);
    let all: Vec<u32> = held.keys().copied().collect();
    give_up(&mut held, &all);
    drop(observer);
    ended
}

fn no_thread(error: std::io::Error) -> JournalError {
    JournalError::Unavailable { operation: "start a thread", reason: error.to_string() }
}

/// Follows the assignment until `stop` is raised. What is still held at the end, also after an error, is the caller's to give up.
fn follow<M: Machine>(
    take: &dyn Fn(u32) -> Held,
    stop: &AtomicBool,
    membership: &mut dyn Membership,
    held: &mut BTreeMap<u32, Held>,
) -> Result<(), JournalError> {
    let mut noted = Instant::now();
    while !stop.load(Ordering::Acquire) {
        if noted.elapsed() >= NOTE_EVERY {
            noted = Instant::now();
            note(membership, held);
        }
        match membership.poll(LOOK) {
            Ok(Some(Assignment::Gained(partitions))) => {
                for partition in partitions {
                    give_up(held, &[partition]);
                    held.insert(partition, take(partition));
                }
            }
            Ok(Some(Assignment::Revoked(partitions))) => {
                give_up(held, &partitions);
                membership.released(&partitions)?;
            }
            Ok(Some(Assignment::Lost(partitions))) => give_up(held, &partitions),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(machine = M::KIND.name(), error = %chain(&error), "the group does not answer");
                std::thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

/// Tells the group how far the shards have come. Only lag tools read it.
fn note(membership: &mut dyn Membership, held: &BTreeMap<u32, Held>) {
    for (partition, shard) in held {
        if let Some(place) = shard.progress.standing().place {
            membership.note(*partition, place.next);
        }
    }
}

fn give_up(held: &mut BTreeMap<u32, Held>, partitions: &[u32]) {
    let leaving: Vec<Held> = partitions.iter().filter_map(|partition| held.remove(partition)).collect();
    leaving.iter().for_each(|shard| shard.stop.store(true, Ordering::Release));
    for shard in leaving {
        if shard.thread.join().is_err() {
            tracing::error!("a shard's thread panicked");
        }
    }
}

/// The standby, if there is anything for it to do.
fn standby<M: Machine>(settings: &HostSettings<M>) -> std::io::Result<Option<Standby>> {
    if !settings.standby.follow && settings.standby.checkpoints.is_none() {
        return Ok(None);
    }
    let (journal, metrics) = (Arc::clone(&settings.journal), settings.metrics.standby(M::KIND));
    Standby::start(journal, (M::KIND, settings.partitions), settings.standby.clone(), metrics).map(Some)
}

fn take<M: Machine>(settings: &HostSettings<M>, desk: &Desk, partition: u32, handover: Option<Handover>) -> Held {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let (settings, desk) = (settings.clone(), desk.clone());
    let progress = Progress::default();
    let shown = progress.clone();
    let thread = std::thread::spawn(move || {
        let known = handover.clone().map(|handover| -> HeadStart { Arc::new(move || handover.take(partition)) });
        hold(&settings, &desk, partition, (&seen, &shown, known));
        if let Some(handover) = handover {
            handover.release(partition);
        }
    });
    Held { progress, stop, thread }
}

/// Holds one shard until it is told to stop, is fenced, or cannot go on.
fn hold<M: Machine>(
    settings: &HostSettings<M>,
    desk: &Desk,
    partition: u32,
    (stop, progress, head_start): (&Arc<AtomicBool>, &Progress, Option<HeadStart>),
) {
    let shard = ShardName { machine: M::KIND, partition };
    let metrics = settings.metrics.shard(shard);
    metrics.owned(true);
    desk.show(shard, progress.clone());
    while !stop.load(Ordering::Acquire) {
        let (ask, questions) = channel();
        desk.open(shard, inspector::<M>(ask, settings.inspect));
        let context = ShardContext::<M> {
            journal: Arc::clone(&settings.journal),
            identity: Identity {
                shard,
                partitions: settings.partitions,
                source: source_of(shard),
                keyring: Arc::clone(&settings.keyring),
                ahead: settings.shard.ahead,
            },
            settings: settings.shard.clone(),
            stop: Arc::clone(stop),
            questions,
            metrics: metrics.clone(),
            head_start: head_start.clone(),
            progress: progress.clone(),
        };
        // A machine that panics would panic again on the same input: the shard stands still and pages, like any other halt.
        let ended = catch_unwind(AssertUnwindSafe(|| run_shard(&context))).unwrap_or(ShardStop::Panicked);
        desk.close(shard);
        match ended {
            ShardStop::Released => break,
            ShardStop::Fenced(error) => {
                tracing::warn!(%shard, error = %chain(&error), "another owner has the shard; waiting for a newer assignment");
                break;
            }
            ShardStop::TakeOver(error) => {
                tracing::warn!(%shard, error = %chain(&error), "taking the shard over again");
                std::thread::sleep(PAUSE / 5);
            }
            ShardStop::CourierLost => std::thread::sleep(PAUSE),
            refused => {
                metrics.halted(true);
                progress.become_condition(Condition::Halted(chain(&refused)));
                tracing::error!(%shard, code = "CUST-0001", error = %chain(&refused), "the shard stands still: a human must look");
                while !stop.load(Ordering::Acquire) {
                    std::thread::sleep(LOOK);
                }
                metrics.halted(false);
            }
        }
    }
    desk.hide(shard);
    metrics.owned(false);
}

const fn source_of(shard: ShardName) -> Source {
    match shard.machine {
        custos_messages::Machine::Accounts => Source::Accounts,
        custos_messages::Machine::Treasury => Source::Treasury,
        custos_messages::Machine::Chain => Source::Chain,
    }
}

/// Turns an operator's subject into a question on the shard's own thread.
fn inspector<M: Machine>(ask: Sender<Question<M>>, inspect: Inspect<M>) -> Answer {
    let ask = Mutex::new(ask);
    Arc::new(move |subject: String| {
        let (tell, told) = channel();
        let question: Question<M> = Box::new(move |state| {
            let facts = inspect(state, &subject).into_iter().map(|(name, value)| Fact { name, value }).collect();
            // Nobody waits any more if this fails.
            drop(tell.send(facts));
        });
        ask.lock().unwrap_or_else(PoisonError::into_inner).send(question).ok()?;
        told.recv_timeout(Duration::from_secs(5)).ok()
    })
}
