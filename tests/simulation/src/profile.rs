//! What one seed has to live with: a random subset of everything that can go wrong, each kind with a rate of its own, so that rare
//! combinations are met because the other kinds do not drown them.

use std::time::Duration;

use custos_journal::{Defence, Defences, Faults, Rate, SimulatedSettings};
use custos_runtime::shard;

use crate::chance::Chance;
use crate::diary::Telling;
use crate::ledger::Reading;
use crate::process::ProcessFaults;
use crate::surroundings::guard::GuardFaults;
use crate::surroundings::house;
use crate::surroundings::miner::ChainFaults;
use crate::world::Interleaving;

/// One world in so many has a chain, a signer, officers and a forger.
const OUTSIDE: u64 = 6;
/// One of those in so many is long.
const LONG: u64 = 3;
/// In one in so many the release changes.
const ROLLING: u64 = 6;
/// In one in so many of those with a chain the policy changes.
const NEXT_POLICY: u64 = 3;

/// What a world is made of, and what goes wrong in it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Everything follows from it.
    pub seed: u64,
    /// Shards of each machine.
    pub partitions: u32,
    /// Processes that host all three machines.
    pub orchestrators: u64,
    /// Processes of each service.
    pub services: u64,
    /// Clients' accounts.
    pub accounts: u64,
    /// What the bank asks for.
    pub operations: u64,
    /// What goes wrong with the log.
    pub log: Faults,
    /// What the log's clients do against it.
    pub defences: Defences,
    /// What its brokers do against it.
    pub brokers: Brokers,
    /// What shards do against it.
    pub shards: shard::Defences,
    /// How the reader of events reads.
    pub reading: Reading,
    /// The end of an inbox is lost, acknowledged or not: what no cluster that is set up rightly does.
    pub cut: bool,
    /// What goes wrong with processes.
    pub process: ProcessFaults,
    /// Who acts in the middle of a request.
    pub interleaving: Interleaving,
    /// Whether questions without effect leave ahead of the commit.
    pub ahead: bool,
    /// Whether shards of others are followed.
    pub follow: bool,
    /// Whether checkpoints are kept.
    pub checkpoints: bool,
    /// Most inputs of one transaction.
    pub batch_records: usize,
    /// A question of a transfer or a withdrawal is never answered, one in so many; none if zero.
    pub unanswered: u64,
    /// Whether the next release is brought while all goes on, and its logic activated.
    pub rolling: bool,
    /// Whether a world with a chain has its faults for longer: until payments were made under them, and settled.
    pub long: bool,
    /// A chain, a signer, officers and a forger, if there are any: else deposits come from nowhere and nothing is paid out.
    pub outside: Option<Around>,
}

/// What brokers do, and what a shard believes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brokers {
    /// `transaction.partition.verification.enable`.
    pub verification: bool,
    /// A new owner of a shard fences the one before.
    pub fencing: bool,
    /// A shard is restored from committed records only.
    pub committed: bool,
}

/// What goes wrong around the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around {
    /// On the chain.
    pub chain: ChainFaults,
    /// With the signing guard's database.
    pub guard: GuardFaults,
    /// One order in so many is forged; none if zero.
    pub forged: u64,
    /// Whether the next policy comes into force while all goes on.
    pub next_policy: bool,
    /// A defence that is taken away.
    pub without: Option<house::Defence>,
}

impl Brokers {
    /// As they must be.
    pub const RIGHT: Self = Self { verification: true, fencing: true, committed: true };
}

impl Around {
    /// What a seed draws.
    #[must_use]
    pub fn drawn(chance: &mut Chance) -> Self {
        let chain = ChainFaults::drawn(chance);
        let mut rate = |least: u64, most: u64| {
            let rate = chance.between(least, most);
            if chance.coin() { rate } else { 0 }
        };
        let guard = GuardFaults { refused: rate(5, 40), unanswered: rate(5, 40) };
        let forged = rate(2, 6);
        Self { chain, guard, forged, next_policy: chance.fork("policy").once_in(NEXT_POLICY), without: None }
    }
}

impl Profile {
    /// Nothing goes wrong.
    #[must_use]
    pub const fn calm(seed: u64) -> Self {
        Self {
            seed,
            partitions: 2,
            orchestrators: 2,
            services: 1,
            accounts: 4,
            operations: 20,
            log: Faults::NONE,
            defences: Defences::ALL,
            brokers: Brokers::RIGHT,
            shards: shard::Defences::ALL,
            reading: Reading::Counted,
            cut: false,
            process: ProcessFaults { kill: 0, kill_at_point: 0, pause: 0, jump: 0, drift: 0 },
            interleaving: Interleaving { turns: 0, absence: 0 },
            ahead: true,
            follow: true,
            checkpoints: false,
            batch_records: 1_000,
            unanswered: 0,
            rolling: false,
            long: false,
            outside: None,
        }
    }

    /// What this seed draws.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let mut chance = Chance::new(seed).fork("profile");
        let mut log = Faults::drawn(chance.draw());
        // Deaths and pauses of this kind befall every caller at once, also those outside of the system.
        log.kill = tame(log.kill, 40);
        log.pause = tame(log.pause, 20);
        log.append_fails = tame(log.append_fails, 300);
        let mut rate = |least: u64, most: u64| {
            let rate = chance.between(least, most);
            if chance.coin() { rate } else { 0 }
        };
        let process = ProcessFaults {
            kill: rate(50, 600),
            kill_at_point: rate(10, 150),
            pause: rate(50, 600),
            jump: rate(50, 600),
            drift: rate(1, 50),
        };
        let interleaving = Interleaving { turns: rate(5, 100), absence: rate(100, 2_000) };
        // Drawn apart from the rest, which stays as it is.
        let mut more = chance.fork("more");
        // The bracket and the renewal after a slow end are two lines against the same thing: the first must do alone.
        let bracket = Defences::ALL.without(Defence::RenewalAfterSlowEnd);
        // Blocks take their time: a world with a chain costs as much as several without.
        let outside = if more.once_in(OUTSIDE) { Some(Around::drawn(&mut more)) } else { None };
        let long = outside.is_some() && more.fork("long").once_in(LONG);
        let operations = if outside.is_some() && !long { 40 } else { 80 };
        Self {
            defences: if more.once_in(4) { bracket } else { Defences::ALL },
            outside,
            unanswered: if more.once_in(6) { more.between(3, 12) } else { 0 },
            rolling: more.once_in(ROLLING),
            long,
            partitions: if chance.coin() { 2 } else { 1 },
            orchestrators: chance.between(1, 3),
            services: chance.between(1, 2),
            accounts: chance.between(2, 6),
            operations: chance.between(20, operations),
            log,
            process,
            interleaving,
            ahead: chance.coin(),
            follow: chance.coin(),
            checkpoints: chance.once_in(4),
            batch_records: if chance.coin() { 1_000 } else { usize::try_from(chance.between(1, 8)).unwrap_or(1) },
            ..Self::calm(seed)
        }
    }

    /// The log of this world.
    #[must_use]
    pub fn cluster(&self, telling: Telling) -> SimulatedSettings {
        SimulatedSettings {
            faults: self.log,
            defences: self.defences,
            verification: self.brokers.verification,
            fencing: self.brokers.fencing,
            restore_committed: self.brokers.committed,
            story: telling == Telling::Story,
            // What was written two minutes ago may be compacted: longer than anybody here is away.
            compaction_lag: Duration::from_secs(120),
            ..SimulatedSettings::new(Chance::new(self.seed).fork("log").draw())
        }
    }
}

fn tame(rate: Rate, most: u16) -> Rate {
    Rate(rate.0.checked_rem(most.saturating_add(1)).unwrap_or(0))
}
