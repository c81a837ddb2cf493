//! The host of a machine: joins the machine's group, runs each shard that it is given (on a thread, or in its own turns), and gives
//! shards up in time.
//!
//! Invariants: membership only assigns, the log fences. A fenced shard is taken again under a newer assignment, or when the one that it
//! was held under has stood for long; an undecided one is taken over again at once; one that cannot be taken over stands still, pages,
//! and does not disturb the others.

mod holding;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use custos_journal::{Assignment, Journal, JournalError, Membership};
use custos_messages::Keyring;
use custos_saga::machine::{Machine, Settled};

use self::holding::Holding;
use crate::metrics::Metrics;
use crate::observer::Observer;
use crate::ops::Desk;
use crate::pace::{Hands, Turn, turn_until, wait};
use crate::shard::{Progress, ShardSettings, chain};
use crate::standby::{Standby, StandbySettings};

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
pub type Inspect<M> = fn(&BTreeMap<<M as Machine>::Key, <M as Machine>::Entity>, &Settled, &str) -> Vec<(String, String)>;

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

/// A host in the group.
pub struct Host<M: Machine> {
    settings: HostSettings<M>,
    desk: Desk,
    membership: Box<dyn Membership>,
    held: BTreeMap<u32, Held<M>>,
    /// Has a thread of its own, so there is none where there are no threads.
    _observer: Option<Observer>,
    standby: Option<Standby>,
    noted: Instant,
    /// Whose turn is next, where the host runs its shards itself: the membership's and the standby's at zero, then the shards'.
    turn: u32,
}

struct Held<M: Machine> {
    progress: Progress,
    stop: Arc<AtomicBool>,
    hands: Runner<M>,
}

enum Runner<M: Machine> {
    Thread(JoinHandle<()>),
    Own(Box<Holding<M>>),
}

/// Runs the host until `stop` is raised; then gives every shard up.
///
/// # Errors
/// The group cannot be joined, or does not let go of what it revoked. Every shard is given up before this returns.
pub fn run_host<M: Machine>(settings: &HostSettings<M>, desk: &Desk, stop: &AtomicBool) -> Result<(), JournalError> {
    let mut host = Host::open(settings.clone(), desk.clone())?;
    turn_until(stop, || host.look(LOOK))
}

fn no_thread(error: std::io::Error) -> JournalError {
    JournalError::Unavailable { operation: "start a thread", reason: error.to_string() }
}

impl<M: Machine> Host<M> {
    /// Joins the group.
    ///
    /// # Errors
    /// The group cannot be joined, or there is no thread.
    pub fn open(settings: HostSettings<M>, desk: Desk) -> Result<Self, JournalError> {
        let observer = match settings.shard.hands {
            Hands::Threads => {
                let (journal, metrics) = (Arc::clone(&settings.journal), settings.metrics.clone());
                Some(Observer::start(journal, M::KIND, desk.clone(), metrics).map_err(no_thread)?)
            }
            Hands::Own => None,
        };
        let standby = standby(&settings).map_err(no_thread)?;
        let membership = settings.journal.join(M::KIND, &settings.member)?;
        let noted = settings.shard.clock.now();
        Ok(Self { settings, desk, membership, held: BTreeMap::new(), _observer: observer, standby, noted, turn: 0 })
    }

    /// Follows the assignment for one turn, waiting at most `patience` for a change of it.
    ///
    /// # Errors
    /// The group does not let go of what it revoked.
    pub fn look(&mut self, patience: Duration) -> Result<Turn, JournalError> {
        let clock = self.settings.shard.clock.clone();
        if clock.since(self.noted) >= NOTE_EVERY {
            self.noted = clock.now();
            self.note();
        }
        match self.membership.poll(patience) {
            Ok(Some(Assignment::Gained(partitions))) => {
                for partition in partitions {
                    self.give_up(&[partition]);
                    let taken = self.take(partition);
                    self.held.insert(partition, taken);
                }
            }
            Ok(Some(Assignment::Revoked(partitions))) => {
                self.give_up(&partitions);
                self.membership.released(&partitions)?;
            }
            Ok(Some(Assignment::Lost(partitions))) => self.give_up(&partitions),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(machine = M::KIND.name(), error = %chain(&error), "the group does not answer");
                return Ok(Turn::Wait(PAUSE));
            }
        }
        Ok(Turn::Again)
    }

    /// One turn of a host that runs its shards itself: of the membership and the standby, or of one shard. Never waits.
    ///
    /// # Errors
    /// As for [`Self::look`].
    pub fn step(&mut self) -> Result<Turn, JournalError> {
        let due = self.held.range(self.turn..).next().map(|(partition, _)| *partition);
        let Some(partition) = due else {
            self.turn = 0;
            if let Some(standby) = &mut self.standby {
                standby.step();
            }
            return self.look(Duration::ZERO).map(|turn| match turn {
                Turn::Again => Turn::Wait(LOOK),
                wait @ Turn::Wait(_) => wait,
            });
        };
        self.turn = partition.saturating_add(1);
        let Some(Held { hands: Runner::Own(holding), .. }) = self.held.get_mut(&partition) else { return Ok(Turn::Again) };
        match holding.step() {
            holding::Held::On(turn) => Ok(turn),
            // Nothing of it is left but its place, which the group may give to somebody else or to this host again.
            holding::Held::Over => {
                self.held.remove(&partition);
                Ok(Turn::Again)
            }
        }
    }

    /// Where the shards stand that are held here.
    #[must_use]
    pub fn standing(&self) -> BTreeMap<u32, crate::shard::Standing> {
        self.held.iter().map(|(partition, held)| (*partition, held.progress.standing())).collect()
    }

    /// Tells the group how far the shards have come. Only lag tools read it.
    fn note(&mut self) {
        for (partition, shard) in &self.held {
            if let Some(place) = shard.progress.standing().place {
                self.membership.note(*partition, place.next);
            }
        }
    }

    fn give_up(&mut self, partitions: &[u32]) {
        let leaving: Vec<Held<M>> = partitions.iter().filter_map(|partition| self.held.remove(partition)).collect();
        leaving.iter().for_each(|shard| shard.stop.store(true, Ordering::Release));
        for shard in leaving {
            if let Runner::Thread(thread) = shard.hands
                && thread.join().is_err()
            {
                tracing::error!("a shard's thread panicked");
            }
        }
    }

    fn take(&self, partition: u32) -> Held<M> {
        let (stop, progress) = (Arc::new(AtomicBool::new(false)), Progress::default());
        let handover = self.standby.as_ref().map(Standby::handover);
        let (settings, desk) = (self.settings.clone(), self.desk.clone());
        let (seen, shown) = (Arc::clone(&stop), progress.clone());
        let hold = move || Holding::new(settings, desk, partition, handover, (seen, shown));
        let hands = match self.settings.shard.hands {
            Hands::Threads => Runner::Thread(std::thread::spawn(move || run(hold()))),
            Hands::Own => Runner::Own(Box::new(hold())),
        };
        Held { progress, stop, hands }
    }
}

/// Runs a shard on the calling thread until it is not held any more.
fn run<M: Machine>(mut holding: Holding<M>) {
    let stop = holding.order();
    while let holding::Held::On(turn) = holding.step() {
        if let Turn::Wait(span) = turn {
            wait(&stop, span);
        }
    }
}

impl<M: Machine> Drop for Host<M> {
    fn drop(&mut self) {
        let all: Vec<u32> = self.held.keys().copied().collect();
        self.give_up(&all);
    }
}

/// The standby, if there is anything for it to do.
fn standby<M: Machine>(settings: &HostSettings<M>) -> std::io::Result<Option<Standby>> {
    if !settings.standby.follow && settings.standby.checkpoints.is_none() {
        return Ok(None);
    }
    let (journal, metrics) = (Arc::clone(&settings.journal), settings.metrics.standby(M::KIND));
    Standby::open(journal, (M::KIND, settings.partitions), settings.standby.clone(), metrics).map(Some)
}
