//! One run from a seed: owners that come, die and are superseded at any request, a log in which everything goes wrong, and in the end
//! the question whether everything was counted once.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use custos_journal::{
    Appender, Faults, Journal, JournalError, Provision, Rate, Remedy, SimulatedCluster, SimulatedJournal, SimulatedSettings,
};

use crate::counting::judge::{Kept, Report, judge};
use crate::counting::{INBOX, Owner, SharedDiary, input, take_over};

/// What a run does.
#[derive(Clone, Copy)]
pub struct Plan {
    pub settings: SimulatedSettings,
    /// Whether a takeover puts back what a torn transaction has changed.
    pub repair: bool,
}

/// Steps of a run before the log heals.
const STEPS: u64 = 25;
/// Runs at a time.
const THREADS: usize = 3;
/// Calls that a run may need after that.
const PATIENCE: u64 = 300;

/// Draws what the test itself decides, apart from what the log draws.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed)
    }

    pub const fn below(&mut self, bound: u64) -> u64 {
        // Xorshift; the state is never zero for long enough to matter.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed ^= mixed >> 32;
        mixed = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^= mixed >> 32;
        mixed % bound
    }
}

impl Plan {
    /// Everything that a seed decides, with all defences.
    pub fn drawn(seed: u64) -> Self {
        let settings = SimulatedSettings::new(seed);
        // Above the longest time that the shard is without an owner, as the rule for the real topics has it.
        let compaction_lag = Duration::from_secs(300);
        Self { settings: SimulatedSettings { faults: Faults::drawn(seed), compaction_lag, ..settings }, repair: true }
    }

    pub fn run(self) -> Result<Report, String> {
        self.run_and_tell().0
    }

    /// As [`Self::run`], with what happened, if the settings ask for it.
    pub fn run_and_tell(self) -> (Result<Report, String>, Vec<String>) {
        let mut run = Run::new(self);
        let cluster = Arc::clone(&run.cluster);
        for _ in 0..STEPS {
            run.step();
        }
        let outcome = run.conclude();
        (outcome, cluster.story())
    }
}

/// How far a sweep goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Through all seeds.
    TheEnd,
    /// Until something is broken.
    Found,
}

/// The runs of many seeds, on several threads: what they met together, and which broke something, in order.
pub fn sweep(seeds: Range<u64>, plan: impl Fn(u64) -> Plan + Sync, until: Until) -> (Report, Vec<(u64, String)>) {
    let next = AtomicU64::new(seeds.start);
    let found = AtomicBool::new(false);
    let work = || {
        let mut done = (Report::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || (until == Until::Found && found.load(Ordering::Relaxed)) {
                return done;
            }
            match plan(seed).run() {
                Ok(report) => done.0 = done.0.with(&report),
                Err(violation) => {
                    found.store(true, Ordering::Relaxed);
                    done.1.push((seed, violation));
                }
            }
        }
    };
    let (mut sum, mut violations) = (Report::default(), Vec::new());
    std::thread::scope(|scope| {
        for thread in [(); THREADS].map(|()| scope.spawn(work)) {
            let (report, found) = thread.join().unwrap();
            sum = sum.clone().with(&report);
            violations.extend(found);
        }
    });
    violations.sort();
    (sum, violations)
}

struct Run {
    plan: Plan,
    cluster: Arc<SimulatedCluster>,
    dice: Dice,
    diary: SharedDiary,
    client: Option<(SimulatedJournal, Box<dyn Appender>)>,
    process: SimulatedJournal,
    owner: Option<Owner>,
    /// Owners that do not know yet that they are none.
    former: Vec<Owner>,
}

impl Run {
    fn new(plan: Plan) -> Self {
        let cluster = Arc::new(SimulatedCluster::new(plan.settings));
        let process = cluster.process();
        process.provision(&Provision { partitions: 1, gateways: 1, replication: 1 }).unwrap();
        let diary = SharedDiary::default();
        let mut dice = Dice::new(plan.settings.seed);
        if dice.below(2) == 0 {
            supersede_at_requests(&cluster, &diary, dice.clone(), plan.repair);
        }
        Self { plan, cluster, dice, diary, client: None, process, owner: None, former: Vec::new() }
    }

    fn step(&mut self) {
        for _ in 0..self.dice.below(4) {
            self.append();
        }
        match self.dice.below(20) {
            // It dies between two calls.
            0 => drop(self.owner.take()),
            // Another takes the shard, and this one does not know.
            1 => self.former.extend(self.owner.take()),
            2 => {
                if let Some(owner) = &mut self.owner
                    && owner.dawdle().is_ok()
                {
                    self.former.extend(self.owner.take());
                }
            }
            3 => self.with_owner(Owner::think_better),
            _ => {}
        }
        if !self.former.is_empty() && self.dice.below(3) == 0 {
            let mut former = self.former.swap_remove(0);
            // What comes of it stands in the diary.
            if former.serve(3, 0).is_ok() {
                self.former.push(former);
            }
        }
        let (most, more) = (1 + self.dice.below(3), self.dice.below(3));
        let (most, more) = (usize::try_from(most).unwrap(), usize::try_from(more).unwrap());
        self.with_owner(|owner| owner.serve(most, more).map(drop));
    }

    /// An input, which may or may not arrive: the inbox says which did.
    fn append(&mut self) {
        let number = 1 + self.dice.below(1_000);
        if self.client.as_ref().is_none_or(|(process, _)| process.is_killed()) {
            let process = self.cluster.process();
            let appender = process.appender().unwrap();
            self.client = Some((process, appender));
        }
        if let Some((_, appender)) = &self.client {
            drop(appender.append(INBOX, 0, input(number)));
        }
    }

    /// Does something with the owner; when there is none or it failed, the shard is taken over.
    fn with_owner(&mut self, act: impl FnOnce(&mut Owner) -> Result<(), JournalError>) {
        if self.process.is_killed() {
            self.owner = None;
            self.process = self.cluster.process();
        }
        if let Some(owner) = &mut self.owner
            && act(owner).is_err()
        {
            self.owner = None;
        }
        if self.owner.is_none() {
            let taken = take_over(&self.process, 0, &self.diary, self.plan.repair);
            note_halt(&self.diary, taken.as_ref().err());
            self.owner = taken.ok();
        }
    }

    /// Nothing goes wrong any more: everything must be counted in the end, and once.
    fn conclude(mut self) -> Result<Report, String> {
        self.cluster.heal();
        let taken_back = self.cluster.counts().markers_forgotten > 0;
        if taken_back {
            // What was committed last may be open still, until somebody commits or takes over.
            self.owner = None;
        }
        let reader = self.cluster.process();
        let mut left = PATIENCE;
        let mut idle = 0;
        while idle < 2 {
            let mut drained = false;
            self.with_owner(|owner| {
                drained = !owner.serve(4, 0)?;
                Ok(())
            });
            idle = if drained { idle + 1 } else { 0 };
            left -= 1;
            if let Some(violation) = self.diary.lock().unwrap().violation.take() {
                return Err(violation);
            }
            if left == 0 {
                return Err("the shard did not come to rest".into());
            }
        }
        let compacted = self.plan.settings.faults.compaction != Rate::NEVER;
        if taken_back {
            self.diary.lock().unwrap().twice = None;
        }
        let kept = match (compacted, taken_back) {
            (true, _) => Kept::Newest,
            (false, true) => Kept::TakenBack,
            (false, false) => Kept::All,
        };
        let mut report = judge(&reader, 0, &self.diary.lock().unwrap(), kept)?;
        report.counts = self.cluster.counts();
        report.trace = self.cluster.trace();
        Ok(report)
    }
}

/// An error that only a human mends has no place here.
pub fn note_halt(diary: &SharedDiary, error: Option<&JournalError>) {
    if let Some(error) = error.filter(|error| error.remedy() == Remedy::Halt) {
        diary.lock().unwrap().violation.get_or_insert(format!("the shard stands still: {error}"));
    }
}

/// Now and then, in the middle of what somebody asks, another process takes the shard over and works for a while.
fn supersede_at_requests(cluster: &Arc<SimulatedCluster>, diary: &SharedDiary, mut dice: Dice, repair: bool) {
    let one_in = 10 + dice.below(200);
    let (weak, diary) = (Arc::downgrade(cluster), Arc::clone(diary));
    let kept: Mutex<Vec<Owner>> = Mutex::new(Vec::new());
    cluster.at_each_request(move |_| {
        if dice.below(one_in) != 0 {
            return;
        }
        let Some(cluster) = weak.upgrade() else { return };
        let taken = take_over(&cluster.process(), 0, &diary, repair);
        note_halt(&diary, taken.as_ref().err());
        let Ok(mut owner) = taken else { return };
        for _ in 0..dice.below(3) {
            if owner.serve(2, 1).is_err() {
                return;
            }
        }
        let mut kept = kept.lock().unwrap();
        kept.push(owner);
        if kept.len() > 2 {
            drop(kept.remove(0));
        }
    });
}
