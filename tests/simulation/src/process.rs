//! A process of the system: parts of production that turn by turn do their work on one connection to the log, die together, and are
//! started again.
//!
//! Invariant: nothing of a process survives its death but what it has put into the log, a database or a file.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use custos_blockchain::{BlockchainError, Follower};
use custos_domain::Timestamp;
use custos_journal::{JournalError, SimulatedCluster, SimulatedJournal};
use custos_runtime::host::Host;
use custos_runtime::pace::{Clock, Time, Turn};
use custos_runtime::serve::{ServeStop, Serving};
use custos_runtime::service::Service;
use custos_runtime::shard::{Condition, Interrupt};
use custos_saga::machine::Machine;

use crate::actor::{Actor, Step};
use crate::chance::Chance;
use crate::diary::Diary;
use crate::release::Installed;
use crate::time::WorldClock;

/// How long a part that has nothing to do rests at least.
const REST: Duration = Duration::from_millis(100);
/// How long a host that has nothing to do rests, unless somebody does something: often enough for its group and its timers.
const IDLE: Duration = Duration::from_millis(500);

/// What a process is made of.
pub trait Part: Send {
    /// One bounded piece of work; never waits.
    ///
    /// # Errors
    /// The process ends, as in production.
    fn turn(&mut self) -> Result<Turn, End>;
    /// Why a human would be called, if one would.
    fn halted(&self) -> Option<String> {
        None
    }
}

/// Why a process ends by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The log does not answer: it is started again.
    Log(String),
    /// A human would have to look: nothing that goes wrong here may bring it to that.
    Halted(String),
}

/// What a process is started with.
pub struct Start {
    /// Its connection to the log.
    pub journal: Arc<SimulatedJournal>,
    /// Its clock.
    pub clock: Clock,
    /// Raised when it is to end.
    pub stop: Arc<AtomicBool>,
    /// Called at named points.
    pub interrupt: Interrupt,
    /// The newest logic that its release knows.
    pub logic: u32,
}

/// Starts the parts of a process.
pub type Build = Box<dyn FnMut(&Start) -> Result<Vec<Box<dyn Part>>, String> + Send>;

/// What goes wrong with processes, once in so many turns; never if zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessFaults {
    /// It dies between two turns.
    pub kill: u64,
    /// It dies at a named point; once in so many points.
    pub kill_at_point: u64,
    /// It stands still, up to twenty seconds: longer than sessions and transactions last.
    pub pause: u64,
    /// Its date jumps, up to five minutes forth or back.
    pub jump: u64,
    /// Its date goes too fast or too slow, by so many parts in ten thousand at most.
    pub drift: u64,
}

/// The longest jump of a date: twice that is less than a shard's bound for the log's lead.
const JUMP_MS: u64 = 250_000;
const PAUSE_MS: u64 = 20_000;
const DOWN_MS: u64 = 12_000;

/// The clock of a process: the world's time, and its own belief about the date.
struct OwnTime {
    base: Instant,
    world: WorldClock,
    offset_ms: AtomicI64,
    /// Parts in ten thousand.
    drift: i64,
}

impl Time for OwnTime {
    fn now(&self) -> Instant {
        self.base + self.world.now()
    }

    fn date(&self) -> Timestamp {
        let true_ms = i64::try_from(self.world.date().0).unwrap_or(i64::MAX);
        let since = i64::try_from(self.world.now().as_millis()).unwrap_or(i64::MAX);
        // A clock that drifts is set right now and then, so its error is bounded.
        let drift = (since.saturating_mul(self.drift) / 10_000) % 60_000;
        let believed = true_ms.saturating_add(drift).saturating_add(self.offset_ms.load(Ordering::Relaxed));
        Timestamp(u64::try_from(believed).unwrap_or(0))
    }
}

/// A process in the world.
pub struct Process {
    name: String,
    cluster: Arc<SimulatedCluster>,
    world: WorldClock,
    diary: Diary,
    chance: Chance,
    faults: ProcessFaults,
    base: Instant,
    build: Build,
    installed: Installed,
    running: Option<Running>,
    /// Before this moment nothing of it moves.
    not_before: Duration,
}

struct Running {
    journal: Arc<SimulatedJournal>,
    time: Arc<OwnTime>,
    stop: Arc<AtomicBool>,
    parts: Vec<Box<dyn Part>>,
    logic: u32,
}

impl Process {
    /// A process that is started at its first turn.
    #[must_use]
    pub fn new(
        name: &str,
        (cluster, diary): (Arc<SimulatedCluster>, Diary),
        chance: Chance,
        faults: ProcessFaults,
        build: Build,
    ) -> Self {
        let world = WorldClock::new(Arc::clone(&cluster));
        let (base, name, not_before) = (Instant::now(), name.to_owned(), Duration::ZERO);
        let installed = Installed::default();
        Self { name, cluster, world, diary, chance, faults, base, build, installed, running: None, not_before }
    }

    /// The release on its host.
    #[must_use]
    pub fn installed(&self) -> Installed {
        self.installed.clone()
    }

    /// From now on nothing goes wrong with it.
    pub fn heal(&mut self) {
        self.faults = ProcessFaults::default();
        self.not_before = Duration::ZERO;
        if let Some(running) = &self.running {
            running.time.offset_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Whether another release is installed than the one that runs: it is brought as soon as the process does anything.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.logic < self.installed.logic())
    }

    /// Why a human would be called, if one would.
    #[must_use]
    pub fn halted(&self) -> Option<String> {
        self.running.as_ref()?.parts.iter().find_map(|part| part.halted())
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.die("killed");
    }

    /// Ends it as if its host were gone, and keeps it away for a while.
    fn die(&mut self, why: &str) {
        if let Some(running) = self.running.take() {
            running.journal.kill();
            running.stop.store(true, Ordering::Release);
            self.diary.note(&self.name, format_args!("dies: {why}"));
        }
        self.not_before = self.world.now().saturating_add(Duration::from_millis(self.chance.below(DOWN_MS)));
    }

    fn start(&mut self) -> Result<Running, String> {
        let journal = Arc::new(self.cluster.process());
        let drift = i64::try_from(self.chance.between(0, self.faults.drift.saturating_mul(2))).unwrap_or(0);
        let drift = drift.saturating_sub(i64::try_from(self.faults.drift).unwrap_or(0));
        let (base, world) = (self.base, self.world.clone());
        let time = Arc::new(OwnTime { base, world, offset_ms: AtomicI64::new(0), drift });
        let stop = Arc::new(AtomicBool::new(false));
        let interrupt = self.interrupt(&journal);
        let clock = Clock::of(Arc::<OwnTime>::clone(&time));
        let logic = self.installed.logic();
        let start = Start { journal: Arc::clone(&journal), clock, stop: Arc::clone(&stop), interrupt, logic };
        let parts = (self.build)(&start)?;
        self.diary.note(&self.name, format_args!("starts"));
        Ok(Running { journal, time, stop, parts, logic })
    }

    /// At a named point, now and then, the process is dead to the log: it ends at its next turn.
    fn interrupt(&self, journal: &Arc<SimulatedJournal>) -> Interrupt {
        let (victim, diary, name, rate) =
            (Arc::downgrade(journal), self.diary.clone(), self.name.clone(), self.faults.kill_at_point);
        let chance = Mutex::new(self.chance.fork("points"));
        Arc::new(move |point| {
            if chance.lock().unwrap_or_else(PoisonError::into_inner).once_in(rate)
                && let Some(victim) = victim.upgrade()
                && !victim.is_killed()
            {
                diary.note(&name, format_args!("is killed at {point}"));
                diary.sometimes(if point == "committed" { "killed after a commit" } else { "killed at a named point" });
                victim.kill();
            }
        })
    }

    /// What befalls it before its turn; `true` if it has no turn then.
    fn befall(&mut self) -> bool {
        if self.chance.once_in(self.faults.kill) {
            self.diary.sometimes("killed between two turns");
            self.die("killed");
            return true;
        }
        if self.chance.once_in(self.faults.pause) {
            let span = Duration::from_millis(self.chance.below(PAUSE_MS));
            self.diary.note(&self.name, format_args!("stands still for {} ms", span.as_millis()));
            self.diary.sometimes("a process stands still");
            self.not_before = self.world.now().saturating_add(span);
            return true;
        }
        if self.chance.once_in(self.faults.jump)
            && let Some(running) = &self.running
        {
            let jump = i64::try_from(self.chance.below(JUMP_MS.saturating_mul(2))).unwrap_or(0);
            let offset = jump.saturating_sub(i64::try_from(JUMP_MS).unwrap_or(0));
            running.time.offset_ms.store(offset, Ordering::Relaxed);
            self.diary.note(&self.name, format_args!("believes that its clock is {offset} ms off"));
            self.diary.sometimes("a host's clock jumps");
        }
        false
    }

    fn work(&mut self) -> Step {
        let Some(running) = &mut self.running else { return Step::Idle(REST) };
        let first = self.chance.place(running.parts.len());
        let mut rest = Duration::from_secs(1);
        for step in 0..running.parts.len() {
            let place = first.saturating_add(step).checked_rem(running.parts.len()).unwrap_or(0);
            let Some(part) = running.parts.get_mut(place) else { continue };
            match part.turn() {
                Ok(Turn::Again) => return Step::Busy,
                Ok(Turn::Wait(span)) => rest = rest.min(span.max(REST)),
                Err(end) => {
                    let (End::Log(why) | End::Halted(why)) = &end;
                    if matches!(end, End::Halted(_)) {
                        self.diary.violation(format!("{} halts: {why}", self.name));
                    }
                    self.die(why);
                    return Step::Dead;
                }
            }
        }
        Step::Idle(rest)
    }
}

impl Actor for Process {
    fn name(&self) -> &str {
        &self.name
    }

    fn step(&mut self) -> Step {
        let now = self.world.now();
        if now < self.not_before {
            return Step::Idle(self.not_before.saturating_sub(now));
        }
        if self.running.as_ref().is_some_and(|running| running.journal.is_killed()) {
            self.die("killed");
            return Step::Dead;
        }
        if self.is_outdated() {
            if self.halted().is_some_and(|why| why.contains("activates logic")) {
                self.diary.sometimes("a shard stands still before a logic that its binary does not know");
            }
            self.die("has another release");
            return Step::Dead;
        }
        if self.running.is_none() {
            match self.start() {
                Ok(running) => self.running = Some(running),
                Err(why) => {
                    self.diary.note(&self.name, format_args!("does not start: {why}"));
                    self.not_before = now.saturating_add(Duration::from_millis(500));
                    return Step::Idle(Duration::from_millis(500));
                }
            }
            return Step::Busy;
        }
        if self.befall() {
            return Step::Idle(REST);
        }
        self.work()
    }
}

impl<M: Machine> Part for Host<M> {
    /// A whole round, up to the first of its shards that has done something.
    fn turn(&mut self) -> Result<Turn, End> {
        let shards = self.standing().len();
        for _ in 0..=shards {
            match self.step().map_err(|error: JournalError| End::Log(error.to_string()))? {
                Turn::Again => return Ok(Turn::Again),
                Turn::Wait(_) => {}
            }
        }
        Ok(Turn::Wait(IDLE))
    }

    fn halted(&self) -> Option<String> {
        self.standing().into_iter().find_map(|(partition, standing)| match standing.condition {
            Condition::Halted(why) => Some(format!("{}/{partition}: {why}", M::KIND.name())),
            Condition::TakingOver | Condition::Running => None,
        })
    }
}

impl<S: Service> Part for Serving<S>
where
    S::Command: Clone,
{
    fn turn(&mut self) -> Result<Turn, End> {
        self.step().map_err(|stop| match stop {
            ServeStop::Log(error) => End::Log(error.to_string()),
            ServeStop::Halted { service, source } => End::Halted(format!("{service}: {source}")),
        })
    }
}

impl Part for Follower {
    fn turn(&mut self) -> Result<Turn, End> {
        self.step().map_err(|error| match error {
            BlockchainError::Log(error) => End::Log(error.to_string()),
            other => End::Halted(format!("{}: {other}", self.name())),
        })
    }
}
