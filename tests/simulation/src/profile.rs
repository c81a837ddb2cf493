//! What one seed has to live with: a random subset of everything that can go wrong, each kind with a rate of its own, so that rare
//! combinations are met because the other kinds do not drown them.

use std::time::Duration;

use custos_journal::{Defences, Faults, Rate, SimulatedSettings};

use crate::chance::Chance;
use crate::diary::Telling;
use crate::process::ProcessFaults;
use crate::world::Interleaving;

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
    /// What the log does against it.
    pub defences: Defences,
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
            process: ProcessFaults { kill: 0, kill_at_point: 0, pause: 0, jump: 0, drift: 0 },
            interleaving: Interleaving { turns: 0, absence: 0 },
            ahead: true,
            follow: true,
            checkpoints: false,
            batch_records: 1_000,
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
        Self {
            partitions: if chance.coin() { 2 } else { 1 },
            orchestrators: chance.between(1, 3),
            services: chance.between(1, 2),
            accounts: chance.between(2, 6),
            operations: chance.between(20, 80),
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
