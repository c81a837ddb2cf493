//! One shard in the hands of a host: taken over, run, and taken over again, turn by turn, until it is given up.
//!
//! Invariants: an undecided shard is taken over again after a short pause; a fenced one only once its assignment has stood for so long
//! that the group would have said otherwise; one that cannot be taken over stands still, pages, and waits to be given up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use custos_messages::{ShardName, Source};
use custos_saga::machine::Machine;

use super::{HostSettings, Inspect, LOOK, PAUSE};
use crate::metrics::{Owned, ShardMetrics};
use crate::ops::{Answer, Desk, Fact};
use crate::pace::Turn;
use crate::shard::{Condition, HeadStart, Identity, Progress, Question, Running, ShardContext, ShardStop, chain};
use crate::standby::Handover;

/// How long the assignment of a fenced shard must stand before it is taken over again: well above a session of the group, within which
/// a host whose shard was given to another learns of it. Without an end a shard that nobody else has would lie idle: a late request
/// of a producer's own beginning fences it, and no newer assignment follows.
const FENCED: Duration = Duration::from_secs(20);

/// A shard that a host holds.
pub(super) struct Holding<M: Machine> {
    settings: HostSettings<M>,
    desk: Desk,
    shard: ShardName,
    handover: Option<Handover>,
    metrics: ShardMetrics,
    progress: Progress,
    stop: Arc<AtomicBool>,
    running: Option<Box<Running<M>>>,
    /// From the first attempt to take it over until it is fenced or given up.
    owned: Option<Owned>,
    stands_still: bool,
    /// Fenced, and not to be taken over before.
    fenced_until: Option<Instant>,
}

/// What a holding says after one turn.
pub(super) enum Held {
    /// It goes on.
    On(Turn),
    /// It is not held any more.
    Over,
}

impl<M: Machine> Holding<M> {
    /// A shard that is to be taken over at the first turn.
    pub(super) fn new(
        settings: HostSettings<M>,
        desk: Desk,
        partition: u32,
        handover: Option<Handover>,
        (stop, progress): (Arc<AtomicBool>, Progress),
    ) -> Self {
        let shard = ShardName { machine: M::KIND, partition };
        let metrics = settings.metrics.shard(shard);
        desk.show(shard, progress.clone());
        Self {
            settings,
            desk,
            shard,
            handover,
            metrics,
            progress,
            stop,
            running: None,
            owned: None,
            stands_still: false,
            fenced_until: None,
        }
    }

    /// Raised when it must be given up.
    pub(super) fn order(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// One turn.
    pub(super) fn step(&mut self) -> Held {
        if self.stop.load(Ordering::Acquire) {
            return Held::Over;
        }
        let fenced = self.fenced_until.is_some_and(|until| self.settings.shard.clock.now() < until);
        if self.stands_still || fenced {
            return Held::On(Turn::Wait(LOOK));
        }
        // A machine that panics would panic again on the same input: the shard stands still and pages, like any other halt.
        let turned = catch_unwind(AssertUnwindSafe(|| self.turn())).unwrap_or(Err(ShardStop::Panicked));
        match turned {
            Ok(turn) => Held::On(turn),
            Err(stop) => self.stopped(&stop),
        }
    }

    fn turn(&mut self) -> Result<Turn, ShardStop> {
        if let Some(running) = &mut self.running {
            return running.step();
        }
        self.fenced_until = None;
        self.owned.get_or_insert_with(|| self.metrics.own());
        self.running = Some(Box::new(Running::open(self.context())?));
        Ok(Turn::Again)
    }

    fn stopped(&mut self, stop: &ShardStop) -> Held {
        let shard = self.shard;
        self.running = None;
        self.desk.close(shard);
        match stop {
            ShardStop::Released => Held::Over,
            ShardStop::Fenced(error) => {
                tracing::warn!(%shard, error = %chain(error), "the shard is fenced; waiting for what the group says of it");
                self.fenced_until = Some(self.settings.shard.clock.now() + FENCED);
                self.owned = None;
                self.progress.become_condition(Condition::TakingOver);
                Held::On(Turn::Wait(LOOK))
            }
            ShardStop::TakeOver(error) => {
                tracing::warn!(%shard, error = %chain(error), "taking the shard over again");
                Held::On(Turn::Wait(PAUSE / 5))
            }
            ShardStop::CourierLost => Held::On(Turn::Wait(PAUSE)),
            refused => {
                self.metrics.halted(true);
                self.progress.become_condition(Condition::Halted(chain(refused)));
                tracing::error!(%shard, code = "CUST-0001", error = %chain(refused), "the shard stands still: a human must look");
                self.stands_still = true;
                Held::On(Turn::Wait(LOOK))
            }
        }
    }

    fn context(&self) -> ShardContext<M> {
        let (ask, questions) = channel();
        self.desk.open(self.shard, inspector::<M>(ask, self.settings.inspect));
        let (settings, partition) = (&self.settings, self.shard.partition);
        let known = self.handover.clone().map(|handover| -> HeadStart { Arc::new(move || handover.take(partition)) });
        ShardContext {
            journal: Arc::clone(&settings.journal),
            identity: Identity {
                shard: self.shard,
                partitions: settings.partitions,
                source: source_of(self.shard),
                keyring: Arc::clone(&settings.keyring),
                ahead: settings.shard.ahead,
            },
            settings: settings.shard.clone(),
            stop: Arc::clone(&self.stop),
            questions,
            metrics: self.metrics.clone(),
            head_start: known,
            progress: self.progress.clone(),
        }
    }
}

impl<M: Machine> Drop for Holding<M> {
    fn drop(&mut self) {
        self.running = None;
        self.desk.close(self.shard);
        if self.stands_still {
            self.metrics.halted(false);
        }
        self.desk.hide(self.shard);
        if let Some(handover) = &self.handover {
            handover.release(self.shard.partition);
        }
    }
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
        let question: Question<M> = Box::new(move |memory| {
            let facts = inspect(&memory.entities, &memory.settled, &subject)
                .into_iter()
                .map(|(name, value)| Fact { name, value })
                .collect();
            // Nobody waits any more if this fails.
            drop(tell.send(facts));
        });
        ask.lock().unwrap_or_else(PoisonError::into_inner).send(question).ok()?;
        told.recv_timeout(Duration::from_secs(5)).ok()
    })
}
