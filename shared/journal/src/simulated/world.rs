//! The world around the brokers: the clock, the network that loses and delays, processes that die; all of it from the seed.
//!
//! Every call of anybody first lets the world go on a little (late requests arrive, markers are written, time passes), so whatever can
//! happen between two calls does happen in some run. With virtual time nothing ever waits: who would wait moves the clock.

use std::collections::BTreeMap;
use std::fmt::{Arguments, Write as _};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use custos_domain::Timestamp;
use custos_messages::Topic;

use super::broker::{Broker, Moment};
use super::chance::{Chance, Rate};
use super::protocol::{Code, Place, Reply, Request, RequestKind};
use super::{Counts, SimulatedSettings, SimulatedTime};
use crate::JournalError;

/// When virtual time begins: 1 January 2026.
const BEGINNING: u64 = 1_767_225_600_000;
/// How long who waits in real time sleeps before it lets the world go on.
const TICK: Duration = Duration::from_millis(20);
/// How far a broker's clock is off at most.
const BROKER_CLOCK_MOST_MS: u64 = 30_000;
/// For so long at most a new leader does not know of everything that was committed, and at least it leads when it does.
const LEADER_MOST_MS: u64 = 2_000;
/// The longest time that a write takes.
const SLOW_WRITE_MOST_MS: u64 = 12_000;
/// The longest time that a client stands still.
const PAUSE_MOST_MS: u64 = 20_000;

/// Called before each request, outside of the world's lock: it may use the same cluster.
pub(super) type Hook = Box<dyn FnMut(RequestKind) + Send>;

pub(super) struct Core {
    pub(super) settings: SimulatedSettings,
    world: Mutex<World>,
    changed: Condvar,
    hook: Mutex<Option<Hook>>,
}

pub(super) struct World {
    settings: SimulatedSettings,
    clock: Clock,
    pub(super) chance: Chance,
    pub(super) broker: Broker,
    /// How far ahead each leader's clock is; one that is not here is right. What is behind is so by what all others are ahead.
    broker_clocks: BTreeMap<Place, u64>,
    /// What new leaders know of, and until when that is all of it.
    behind: BTreeMap<Place, (u64, Duration)>,
    late: Vec<Request>,
    /// The next request of each of these kinds is held back, until it is released.
    to_hold: Vec<RequestKind>,
    held: Vec<Request>,
    /// Processes, and whether they live.
    processes: BTreeMap<u64, bool>,
    trace: Trace,
    pub(super) counts: Counts,
}

enum Clock {
    Virtual(Duration),
    Real(Instant, u64),
}

/// What became of a request, as its sender sees it.
pub(super) enum Fate {
    Answered(Result<Reply, Code>),
    /// No answer, and the connection is gone.
    Silence,
    /// The sender is dead.
    Dead,
}

/// Everything that happened, as a hash and on demand as text.
struct Trace {
    hasher: blake3::Hasher,
    line: String,
    story: Option<Vec<String>>,
}

impl Core {
    pub(super) fn new(settings: SimulatedSettings) -> Self {
        let clock = match settings.time {
            SimulatedTime::Virtual => Clock::Virtual(Duration::ZERO),
            SimulatedTime::Real => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Clock::Real(Instant::now(), u64::try_from(since.as_millis()).unwrap_or(BEGINNING))
            }
        };
        let world = World {
            settings,
            clock,
            chance: Chance::new(settings.seed),
            broker: Broker::new(settings.verification, settings.transaction_timeout),
            broker_clocks: BTreeMap::new(),
            behind: BTreeMap::new(),
            late: Vec::new(),
            to_hold: Vec::new(),
            held: Vec::new(),
            processes: BTreeMap::new(),
            trace: Trace { hasher: blake3::Hasher::new(), line: String::new(), story: settings.story.then(Vec::new) },
            counts: Counts::default(),
        };
        Self { settings, world: Mutex::new(world), changed: Condvar::new(), hook: Mutex::new(None) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_hook(&self, hook: Option<Hook>) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Wakes who waits.
    pub(super) fn changed(&self) {
        self.changed.notify_all();
    }

    /// Sends one request of a process and says what its sender sees of it.
    pub(super) fn send(&self, process: u64, request: Request) -> Fate {
        // Taken out while it runs, so that its own requests do not call it again.
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut hook) = hook {
            hook(request.kind());
            let mut place = self.hook.lock().unwrap_or_else(PoisonError::into_inner);
            if place.is_none() {
                *place = Some(hook);
            }
        }
        let fate = self.lock().send(process, request);
        self.changed();
        fate
    }

    /// Lets time pass for who waits for an answer.
    pub(super) fn pause(&self, span: Duration) {
        let asleep = {
            let mut world = self.lock();
            world.go_on();
            !world.advance(span)
        };
        if asleep {
            std::thread::sleep(span);
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.lock().now().since_start
    }

    /// Looks for something until it is there or the time is up. In virtual time one look, and one more when the time has passed.
    pub(super) fn wait<T>(
        &self,
        process: u64,
        span: Duration,
        mut look: impl FnMut(&mut World) -> Result<Option<T>, JournalError>,
    ) -> Result<Option<T>, JournalError> {
        let mut world = self.lock();
        let until = world.now().since_start.saturating_add(span);
        loop {
            world.go_on();
            world.alive("read", process)?;
            if let Some(found) = look(&mut world)? {
                return Ok(Some(found));
            }
            let left = until.saturating_sub(world.now().since_start);
            if left.is_zero() {
                return Ok(None);
            }
            if !world.advance(left) {
                let waited = self.changed.wait_timeout(world, left.min(TICK));
                world = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

impl World {
    pub(super) fn now(&self) -> Moment {
        let (since_start, beginning) = match &self.clock {
            Clock::Virtual(now) => (*now, BEGINNING),
            Clock::Real(since, beginning) => (since.elapsed(), *beginning),
        };
        let millis = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX);
        Moment { since_start, at: Timestamp(beginning.saturating_add(millis)) }
    }

    /// Moves virtual time; `false` where time is real.
    pub(super) const fn advance(&mut self, span: Duration) -> bool {
        match &mut self.clock {
            Clock::Virtual(now) => {
                *now = now.saturating_add(span);
                true
            }
            Clock::Real(..) => false,
        }
    }

    pub(super) const fn is_virtual(&self) -> bool {
        matches!(self.clock, Clock::Virtual(_))
    }

    pub(super) fn happens(&mut self, rate: impl Fn(&super::Faults) -> Rate) -> bool {
        self.chance.happens(rate(&self.settings.faults))
    }

    pub(super) fn note(&mut self, what: Arguments<'_>) {
        let trace = &mut self.trace;
        trace.line.clear();
        // Writing into a string does not fail.
        if trace.line.write_fmt(what).is_ok() {
            trace.hasher.update(trace.line.as_bytes());
            trace.hasher.update(b"\n");
            if let Some(story) = &mut trace.story {
                let now = match &self.clock {
                    Clock::Virtual(now) => *now,
                    Clock::Real(since, _) => since.elapsed(),
                };
                story.push(format!("{:>10} {}", now.as_millis(), trace.line));
            }
        }
    }

    pub(super) fn trace(&self) -> [u8; 32] {
        *self.trace.hasher.finalize().as_bytes()
    }

    pub(super) fn story(&self) -> Vec<String> {
        self.trace.story.clone().unwrap_or_default()
    }

    pub(super) fn start_process(&mut self) -> u64 {
        let process = u64::try_from(self.processes.len()).unwrap_or(u64::MAX);
        self.processes.insert(process, true);
        process
    }

    pub(super) fn kill(&mut self, process: u64) {
        if let Some(alive) = self.processes.get_mut(&process)
            && std::mem::take(alive)
        {
            self.counts.kills = self.counts.kills.saturating_add(1);
            self.note(format_args!("process {process} dies"));
        }
    }

    pub(super) fn is_alive(&self, process: u64) -> bool {
        self.processes.get(&process).copied().unwrap_or(false)
    }

    pub(super) fn alive(&self, operation: &'static str, process: u64) -> Result<(), JournalError> {
        if self.is_alive(process) {
            return Ok(());
        }
        Err(JournalError::Unavailable { operation, reason: "this process was killed".to_owned() })
    }

    /// From now on nothing goes wrong, and what was on its way arrives or never will.
    pub(super) fn heal(&mut self) {
        for request in std::mem::take(&mut self.late) {
            if self.chance.coin() {
                self.arrive(request);
            }
        }
        self.settings.faults = super::Faults::NONE;
        self.broker_clocks.clear();
        self.behind.clear();
        self.go_on();
    }

    pub(super) const fn set_faults(&mut self, faults: super::Faults) {
        self.settings.faults = faults;
    }

    pub(super) fn hold_next(&mut self, kind: RequestKind) {
        self.to_hold.push(kind);
    }

    /// What was held back arrives, in order. Returns how much that was.
    pub(super) fn release(&mut self) -> usize {
        let held = std::mem::take(&mut self.held);
        let released = held.len();
        for request in held {
            self.arrive(request);
            // Each finds the markers of the one before written.
            self.go_on();
        }
        released
    }

    /// What happens by itself.
    pub(super) fn go_on(&mut self) {
        for (machine, partition) in self.broker.expire(self.now()) {
            self.note(format_args!("{}/{partition}: a transaction is open for too long", machine.name()));
        }
        if !self.late.is_empty() && self.happens(|faults| faults.arrival) {
            self.let_arrive();
        }
        self.write_markers();
        if self.happens(|faults| faults.broker_loss) {
            self.lose_broker();
        }
        if self.happens(|faults| faults.compaction) {
            self.note(format_args!("compaction"));
            let until = self.compactable();
            let states = self.broker.partitions_mut().filter(|((topic, _), _)| matches!(topic, Topic::State(_)));
            states.for_each(|(_, partition)| partition.compact(until));
        }
    }

    /// What was written before this may be compacted.
    pub(super) fn compactable(&self) -> Timestamp {
        let lag = u64::try_from(self.settings.compaction_lag.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.now().at.0.saturating_sub(lag))
    }

    fn write_markers(&mut self) {
        loop {
            let awaiting = self.broker.awaiting_markers();
            if awaiting.is_empty() || self.happens(|faults| faults.marker_late) {
                return;
            }
            let Some(id) = awaiting.get(self.chance.place(awaiting.len())).copied() else { return };
            let now = self.now();
            let (machine, partition) = (id.0.name(), id.1);
            if self.happens(|faults| faults.marker_forgotten) && self.broker.forget_state_marker(id) {
                self.counts.markers_forgotten = self.counts.markers_forgotten.saturating_add(1);
                self.note(format_args!("{machine}/{partition}: the marker of the state partition is forgotten"));
                continue;
            }
            if let Some((place, commit)) = self.broker.write_marker(id, now) {
                self.note(format_args!("{machine}/{partition}: marker in {}, commit {commit}", place.0.name()));
            }
        }
    }

    /// Where readers of a partition that is read from `from` on come to an end, if its leader knows of less than there is.
    pub(super) fn known_end(&mut self, place: Place, from: u64) -> u64 {
        let now = self.now().since_start;
        if let Some((known, _)) = self.behind.get(&place).filter(|(_, until)| now < *until) {
            return *known;
        }
        if !matches!(place.0, Topic::State(_)) || !self.happens(|faults| faults.leader_behind) {
            return u64::MAX;
        }
        let high = self.broker.partition(place).map_or(from, super::partition::Partition::high);
        let known = from.saturating_add(self.chance.below(high.saturating_sub(from)));
        self.note(format_args!("a new leader of {} {} knows of {known} offsets", place.0.name(), place.1));
        self.counts.leaders_behind = self.counts.leaders_behind.saturating_add(1);
        let until = now.saturating_add(Duration::from_millis(self.chance.below(LEADER_MOST_MS)));
        self.behind.insert(place, (known, until));
        known
    }

    /// The leader of a partition says where it ends, so it knows; and it stays leader for longer than it takes to read what it knows.
    pub(super) fn catch_up(&mut self, place: Place) {
        let until = self.now().since_start.saturating_add(Duration::from_millis(LEADER_MOST_MS));
        if let Some(leader) = self.behind.get_mut(&place).filter(|(known, _)| *known != u64::MAX) {
            *leader = (u64::MAX, until);
        }
    }

    fn lose_broker(&mut self) {
        let lost: usize = self.broker.partitions_mut().map(|(_, partition)| partition.lose()).sum();
        self.counts.lost_records = self.counts.lost_records.saturating_add(u64::try_from(lost).unwrap_or(u64::MAX));
        self.note(format_args!("a broker is lost, and {lost} records that nobody was told of"));
    }

    /// One late request arrives; or a connection that was stalled delivers everything that it holds, in order.
    fn let_arrive(&mut self) {
        if self.chance.coin() {
            let place = self.chance.place(self.late.len());
            let request = self.late.remove(place);
            self.arrive(request);
        } else {
            std::mem::take(&mut self.late).into_iter().for_each(|request| self.arrive(request));
        }
    }

    fn arrive(&mut self, request: Request) {
        let kind = request.kind();
        let result = self.apply(request);
        self.counts.late_arrivals = self.counts.late_arrivals.saturating_add(1);
        self.note(format_args!("late {kind:?}: {result:?}"));
    }

    fn apply(&mut self, request: Request) -> Result<Reply, Code> {
        let now = self.dated(&request);
        let result = self.broker.handle(request, now);
        self.counts.stray_ends = self.broker.stray_ends;
        result
    }

    /// Now, with the date that the broker believes in which is to write this.
    fn dated(&mut self, request: &Request) -> Moment {
        let now = self.now();
        let Some(place) = place_of(request) else { return now };
        if self.happens(|faults| faults.broker_clock) {
            let ahead = self.chance.below(BROKER_CLOCK_MOST_MS);
            self.note(format_args!("a new leader of {} {} is {ahead} ms ahead", place.0.name(), place.1));
            self.broker_clocks.insert(place, ahead);
        }
        let ahead = self.broker_clocks.get(&place).copied().unwrap_or(0);
        Moment { at: Timestamp(now.at.0.saturating_add(ahead)), ..now }
    }

    fn send(&mut self, process: u64, request: Request) -> Fate {
        self.go_on();
        if !self.is_alive(process) {
            return Fate::Dead;
        }
        if self.happens(|faults| faults.pause) {
            let span = Duration::from_millis(self.chance.below(PAUSE_MOST_MS));
            self.note(format_args!("process {process} stands still for {span:?}"));
            self.advance(span);
            self.go_on();
        }
        self.advance(Duration::from_millis(1));
        let kind = request.kind();
        if self.happens(|faults| faults.kill) {
            self.kill(process);
            match self.chance.below(3) {
                0 => drop(self.apply(request)),
                1 => self.late.push(request),
                _ => {}
            }
            return Fate::Dead;
        }
        if let Some(place) = self.to_hold.iter().position(|held| *held == kind) {
            self.note(format_args!("{process} {kind:?}: held back"));
            self.to_hold.remove(place);
            self.held.push(request);
            return Fate::Silence;
        }
        let ends = matches!(request, Request::End { .. });
        if self.happens(|faults| if ends { faults.end_late } else { faults.request_late }) {
            self.note(format_args!("{process} {kind:?}: late"));
            self.late.push(request);
            return Fate::Silence;
        }
        if self.happens(|faults| faults.request_lost) {
            self.note(format_args!("{process} {kind:?}: lost"));
            return Fate::Silence;
        }
        let place = place_of(&request);
        if place.is_some() && self.happens(|faults| faults.slow_write) {
            let span = Duration::from_millis(self.chance.below(SLOW_WRITE_MOST_MS));
            self.note(format_args!("{process} {kind:?}: waits {span:?} for the disk"));
            self.counts.slow_writes = self.counts.slow_writes.saturating_add(1);
            self.advance(span);
            self.go_on();
        }
        let result = self.apply(request);
        if self.happens(|faults| faults.reply_lost) {
            self.note(format_args!("{process} {kind:?}: {result:?}, answer lost"));
            return Fate::Silence;
        }
        // An answer says that the record stays.
        if let (Ok(_), Some(partition)) = (&result, place.and_then(|place| self.broker.partition_mut(place))) {
            partition.replicate();
        }
        self.note(format_args!("{process} {kind:?}: {result:?}"));
        Fate::Answered(result)
    }

    /// An append that ends in an error: was it applied, will it be, or never?
    pub(super) fn fail_append(&mut self, process: u64, request: Request) {
        self.note(format_args!("{process} append fails"));
        match self.chance.below(3) {
            0 => drop(self.apply(request)),
            1 => self.late.push(request),
            _ => {}
        }
    }
}

const fn place_of(request: &Request) -> Option<Place> {
    match request {
        Request::Produce { place, .. } => Some(*place),
        Request::Init { .. } | Request::Add { .. } | Request::End { .. } => None,
    }
}
