//! The standby of a machine: follows the state partitions of the shards that this host does not hold, and keeps checkpoints of all of
//! them, so that a takeover reads only the tail.
//!
//! Invariants: what is handed over is a hint and never believed: the takeover checks it like what it reads itself, and throws it
//! away if it does not fit. A standby never delays a takeover: it gives what it has, or nothing. Memory: keys and values of the
//! followed shards as of their last manifest, and at most one transaction of each. Deliberately absent: decoded state; what is
//! followed is not understood here.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use custos_journal::{Feed, Journal, JournalError, LogIdentity, Remedy};
use custos_messages::{Machine, ShardName, Topic};

use crate::checkpoint;
use crate::metrics::StandbyMetrics;
use crate::pace::{Clock, Hands, Turn, turn_until};
use crate::shard::{Folded, chain, fold};

/// How a standby works.
#[derive(Clone, Debug)]
pub struct StandbySettings {
    /// Whether shards that are not held are followed. Costs the memory of their states.
    pub follow: bool,
    /// Where checkpoints are kept, in a folder that no other process uses; without it, none are.
    pub checkpoints: Option<PathBuf>,
    /// How often a shard may get a new checkpoint.
    pub checkpoint_every: Duration,
    /// How many records must have followed the last checkpoint before there is a new one.
    pub checkpoint_records: u64,
    /// How long the host may get shards before it begins to follow the others.
    pub settle: Duration,
    /// Whose time it runs on.
    pub clock: Clock,
    /// Whether it has a thread.
    pub hands: Hands,
}

impl Default for StandbySettings {
    fn default() -> Self {
        Self {
            follow: true,
            checkpoints: None,
            checkpoint_every: Duration::from_secs(60),
            checkpoint_records: 20_000,
            settle: Duration::from_secs(3),
            clock: Clock::HOST,
            hands: Hands::Threads,
        }
    }
}

/// Most records that one look takes.
const BATCH: usize = 1_000;
/// So close to the end of a state partition nothing was compacted yet.
const NEAR_END: u64 = 10_000;
/// How long one look waits for records.
const LOOK: Duration = Duration::from_millis(100);
/// How long a standby that cannot read the log waits.
const PAUSE: Duration = Duration::from_secs(1);

/// The standby of a machine on this host. Its thread, if it has one, ends when this is dropped.
pub struct Standby {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Where there is no thread: what it would do, and when it may go on.
    own: Option<(Following, Instant)>,
}

/// What hands over to the shards of this host.
#[derive(Clone)]
pub struct Handover(Arc<Shared>);

struct Shared {
    machine: Machine,
    partitions: u32,
    journal: Arc<dyn Journal>,
    settings: StandbySettings,
    metrics: StandbyMetrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Shards that this host holds; all others are followed.
    held: BTreeSet<u32>,
    followed: BTreeMap<u32, Arc<Folded>>,
    /// Rises whenever other shards are to be followed.
    generation: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn shard(&self, partition: u32) -> ShardName {
        ShardName { machine: self.machine, partition }
    }

    /// The checkpoint of a shard, if there is a usable one.
    fn checkpoint(&self, partition: u32) -> Option<Folded> {
        let folder = self.settings.checkpoints.as_ref()?;
        let shard = self.shard(partition);
        let identity = self.journal.identity(self.machine);
        let log: LogIdentity =
            identity.map_err(|error| tracing::debug!(%shard, error = %chain(&error), "no checkpoint")).ok()?;
        match checkpoint::read(folder, shard, &log) {
            Ok(found) => found,
            Err(error) => {
                self.metrics.refused();
                tracing::warn!(%shard, error = %chain(&error), "a checkpoint is ignored");
                None
            }
        }
    }
}

impl Handover {
    /// What is known of a shard that is about to be taken over: what was followed, else its checkpoint. From now on the shard is
    /// held here, and not followed.
    #[must_use]
    pub fn take(&self, partition: u32) -> Option<Folded> {
        let followed = {
            let mut state = self.0.lock();
            state.held.insert(partition);
            state.generation = state.generation.saturating_add(1);
            state.followed.remove(&partition)
        };
        // A checkpoint may be under way from the same fold: then it is copied.
        let followed = followed.map(Arc::unwrap_or_clone).filter(|folded| folded.manifest().is_some());
        followed.or_else(|| self.0.checkpoint(partition))
    }

    /// The shard is not held here any more, and followed again.
    pub fn release(&self, partition: u32) {
        let mut state = self.0.lock();
        state.held.remove(&partition);
        state.generation = state.generation.saturating_add(1);
    }

    /// The offset up to which a shard is followed; `None` if it is not.
    #[must_use]
    pub fn followed_to(&self, partition: u32) -> Option<u64> {
        self.0.lock().followed.get(&partition).map(|folded| folded.next())
    }
}

impl Standby {
    /// Begins to follow the shards of `machine` that are not held.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn open(
        journal: Arc<dyn Journal>,
        (machine, partitions): (Machine, u32),
        settings: StandbySettings,
        metrics: StandbyMetrics,
    ) -> std::io::Result<Self> {
        let state = Mutex::new(State { generation: 1, ..State::default() });
        let (clock, hands) = (settings.clock.clone(), settings.hands);
        let shared = Arc::new(Shared { machine, partitions, journal, settings, metrics, state });
        let stop = Arc::new(AtomicBool::new(false));
        let mut following = Following::new(Arc::clone(&shared), Arc::clone(&stop));
        let (mut thread, mut own) = (None, None);
        match hands {
            Hands::Own => own = Some((following, clock.now())),
            Hands::Threads => {
                let (name, seen) = (format!("standby {}", machine.name()), Arc::clone(&stop));
                let run = move || {
                    let Ok(()) = turn_until::<Infallible>(&seen, || Ok(following.turn(LOOK)));
                };
                thread = Some(std::thread::Builder::new().name(name).spawn(run)?);
            }
        }
        Ok(Self { shared, stop, thread, own })
    }

    /// One turn of a standby without a thread; never waits.
    pub fn step(&mut self) {
        let clock = &self.shared.settings.clock;
        if let Some((following, not_before)) = &mut self.own
            && clock.now() >= *not_before
            && let Turn::Wait(span) = following.turn(Duration::ZERO)
        {
            *not_before = clock.now() + span;
        }
    }

    /// What hands over to shards.
    #[must_use]
    pub fn handover(&self) -> Handover {
        Handover(Arc::clone(&self.shared))
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of a standby panicked");
        }
        self.shared.metrics.holds(0, 0);
    }
}

/// The side that follows.
struct Following {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    began: Instant,
    /// Of which generation the feed is; `None` without anything to read.
    feed: Option<Box<dyn Feed>>,
    generation: u64,
    /// Where the newest checkpoint of each shard stands, and when it was looked at.
    checkpointed: BTreeMap<u32, (u64, Instant)>,
    /// Shards whose checkpoint turned out not to fit the log.
    distrusted: BTreeSet<u32>,
}

impl Following {
    fn new(shared: Arc<Shared>, stop: Arc<AtomicBool>) -> Self {
        let began = shared.settings.clock.now();
        let (checkpointed, distrusted) = (BTreeMap::new(), BTreeSet::new());
        Self { shared, stop, began, feed: None, generation: 0, checkpointed, distrusted }
    }

    /// One turn, waiting at most `patience` for records.
    fn turn(&mut self, patience: Duration) -> Turn {
        if self.shared.settings.clock.since(self.began) < self.shared.settings.settle {
            return Turn::Wait(LOOK.min(self.shared.settings.settle));
        }
        self.step(patience).unwrap_or_else(|error| {
            self.set_back(&error);
            tracing::warn!(machine = self.shared.machine.name(), error = %chain(&error), "the standby cannot follow");
            Turn::Wait(PAUSE)
        })
    }

    fn step(&mut self, patience: Duration) -> Result<Turn, JournalError> {
        self.checkpoint_what_is_due()?;
        let generation = self.shared.lock().generation;
        if generation != self.generation {
            self.reopen(generation)?;
        }
        let Some(feed) = &mut self.feed else { return Ok(Turn::Wait(LOOK)) };
        let entries = feed.poll(BATCH, patience)?;
        let mut foreign = BTreeSet::new();
        let mut state = self.shared.lock();
        for entry in entries {
            let partition = entry.partition;
            if let Some(folded) = state.followed.get_mut(&partition) {
                let folded = Arc::make_mut(folded);
                folded.see(entry);
                if folded.is_of_another_log() {
                    foreign.insert(partition);
                }
            }
        }
        let bytes = state.followed.values().map(|folded| folded.bytes()).fold(0, usize::saturating_add);
        self.shared.metrics.holds(state.followed.len(), bytes);
        drop(state);
        foreign.into_iter().for_each(|partition| self.begin_anew(partition));
        Ok(Turn::Again)
    }

    fn now(&self) -> Instant {
        self.shared.settings.clock.now()
    }

    /// What was known of a shard is not what its log says.
    fn begin_anew(&mut self, partition: u32) {
        tracing::warn!(shard = %self.shared.shard(partition), "what was known of a shard does not fit its log: begun anew");
        self.shared.metrics.refused();
        self.distrusted.insert(partition);
        self.checkpointed.insert(partition, (0, self.now()));
        let mut state = self.shared.lock();
        state.followed.remove(&partition);
        state.generation = state.generation.saturating_add(1);
    }

    /// After an error everything is opened again; what was followed is kept, unless its place may be gone.
    fn set_back(&mut self, error: &JournalError) {
        self.feed = None;
        let mut state = self.shared.lock();
        if error.remedy() == Remedy::Halt {
            state.followed.clear();
        }
        state.generation = state.generation.saturating_add(1);
    }

    /// Opens a feed on all shards that are not held, each from where it was followed to.
    fn reopen(&mut self, generation: u64) -> Result<(), JournalError> {
        self.feed = None;
        self.generation = generation;
        if !self.shared.settings.follow {
            return Ok(());
        }
        let (held, known) = {
            let state = self.shared.lock();
            (state.held.clone(), state.followed.keys().copied().collect::<BTreeSet<u32>>())
        };
        for partition in (0..self.shared.partitions).filter(|partition| !held.contains(partition)) {
            if !known.contains(&partition) {
                let begun = self.begin(partition)?;
                self.shared.lock().followed.insert(partition, Arc::new(begun));
            }
        }
        let mut places = Vec::new();
        {
            let mut guard = self.shared.lock();
            let state = &mut *guard;
            // Meanwhile a shard may have been taken.
            state.followed.retain(|partition, _| !state.held.contains(partition));
            places.extend(state.followed.iter().map(|(partition, folded)| (*partition, folded.next())));
        }
        for place in &mut places {
            let (first, end) = self.shared.journal.bounds(Topic::State(self.shared.machine), place.0)?;
            if place.1 < first || place.1 > end {
                let fresh = Arc::new(Folded::beginning_at(first));
                place.1 = first;
                if let Some(folded) = self.shared.lock().followed.get_mut(&place.0) {
                    *folded = fresh;
                }
            }
        }
        if !places.is_empty() {
            self.feed = Some(self.shared.journal.follow(Topic::State(self.shared.machine), &places)?);
        }
        Ok(())
    }

    /// Where following a shard begins: at its checkpoint, or at the first record of the log.
    fn begin(&mut self, partition: u32) -> Result<Folded, JournalError> {
        let known = if self.distrusted.contains(&partition) { None } else { self.shared.checkpoint(partition) };
        if let Some(found) = known {
            self.checkpointed.insert(partition, (found.next(), self.now()));
            return Ok(found);
        }
        let (first, _) = self.shared.journal.bounds(Topic::State(self.shared.machine), partition)?;
        Ok(Folded::beginning_at(first))
    }

    /// Writes a checkpoint of each shard that has moved far enough since its last one.
    fn checkpoint_what_is_due(&mut self) -> Result<(), JournalError> {
        let Some(folder) = self.shared.settings.checkpoints.clone() else { return Ok(()) };
        let every = self.shared.settings.checkpoint_every;
        for partition in 0..self.shared.partitions {
            let looked = self.checkpointed.get(&partition).copied();
            let rests = looked.is_some_and(|(_, at)| self.shared.settings.clock.since(at) < every);
            if rests || self.stop.load(Ordering::Acquire) {
                continue;
            }
            let last = looked.map_or(0, |(last, _)| last);
            self.checkpointed.insert(partition, (last, self.now()));
            let Some(folded) = self.newer(partition, last)? else { continue };
            let shard = self.shared.shard(partition);
            // A file that does not fit would slow down every takeover that tries it.
            if !folded.fits() {
                self.begin_anew(partition);
                continue;
            }
            match checkpoint::write(&folder, shard, &folded) {
                Ok(()) => {
                    self.checkpointed.insert(partition, (rests_at(&folded), self.now()));
                    self.distrusted.remove(&partition);
                    self.shared.metrics.written();
                }
                Err(error) => tracing::warn!(%shard, error = %chain(&error), "a checkpoint was not written"),
            }
        }
        Ok(())
    }

    /// The fold of a shard, if enough records followed its last checkpoint, which rests at `last`.
    fn newer(&self, partition: u32, last: u64) -> Result<Option<Arc<Folded>>, JournalError> {
        let (followed, held) = {
            let state = self.shared.lock();
            (state.followed.get(&partition).map(Arc::clone), state.held.contains(&partition))
        };
        let enough = |offset: u64| offset.saturating_sub(last) >= self.shared.settings.checkpoint_records.max(1);
        let shard = self.shared.shard(partition);
        let (_, end) = self.shared.journal.bounds(Topic::State(self.shared.machine), partition)?;
        if let Some(folded) = followed {
            // Where the log was compacted, a manifest may have outlived what it was about: only near the end must the fold fit.
            let caught_up = end.saturating_sub(folded.next()) <= NEAR_END;
            return Ok(Some(folded).filter(|folded| caught_up && enough(rests_at(folded))));
        }
        if !held || !enough(end) {
            return Ok(None);
        }
        // The owner's state is decoded, and its thread has better things to do: the file itself is continued by the tail of the log.
        let known = if self.distrusted.contains(&partition) { None } else { self.shared.checkpoint(partition) };
        let folded = match fold(&*self.shared.journal, shard, known)? {
            Some(folded) => Some(folded),
            None => fold(&*self.shared.journal, shard, None)?,
        };
        Ok(folded.map(Arc::new).filter(|folded| enough(rests_at(folded))))
    }
}

/// The offset of the manifest that a fold rests on; 0 without one.
fn rests_at(folded: &Folded) -> u64 {
    folded.manifest().map_or(0, |manifest| manifest.offset)
}
