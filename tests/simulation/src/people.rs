//! Who uses the system, and who watches over money: a bank without a chain, or a bank with all that surrounds it.

use std::sync::Arc;

use custos_journal::SimulatedCluster;

use crate::chance::{Chance, Streams};
use crate::clients::Clients;
use crate::diary::Diary;
use crate::ledger::EventOracle;
use crate::profile::Profile;
use crate::surroundings::bank::{Bank, Workload};
use crate::surroundings::chain::SharedNetwork;
use crate::surroundings::facts::SharedFacts;
use crate::surroundings::forger::Forger;
use crate::surroundings::guard::GuardBase;
use crate::surroundings::house::House;
use crate::surroundings::miner::Miner;
use crate::surroundings::money::MoneyOracle;
use crate::surroundings::officers::Officers;
use crate::surroundings::outside::Outside;
use crate::time::WorldClock;
use crate::world::{Seat, World};

/// The longest pause between two requests of the bank, in milliseconds.
const PAUSE_MS: u64 = 60_000;

/// What people know of their world.
pub struct Known<'a> {
    /// What it is made of.
    pub profile: &'a Profile,
    /// Its diary.
    pub diary: &'a Diary,
    /// What the events say.
    pub facts: &'a SharedFacts,
    /// A connection to the log.
    pub log: &'a dyn Fn() -> Outside,
    /// Its chance.
    pub streams: &'a Streams,
    /// Its time.
    pub cluster: &'a Arc<SimulatedCluster>,
}

/// What is outside of the log, and outlives every process.
pub struct Outsiders {
    /// What the bank has decided.
    pub house: House,
    /// The chain.
    pub network: SharedNetwork,
    /// The signing guard's database.
    pub guard: GuardBase,
}

/// Who uses the system.
pub enum People {
    /// Accounts, deposits from nowhere, and transfers.
    Clients {
        /// The clients.
        clients: Seat<Clients>,
        /// The reader of events.
        events: Seat<EventOracle>,
    },
    /// A bank that pays out, and everybody around it.
    Town(Box<Town>),
}

/// Everybody around a bank that pays out.
pub struct Town {
    bank: Seat<Bank>,
    miner: Seat<Miner>,
    forger: Seat<Forger>,
    guard: GuardBase,
    money: Seat<MoneyOracle>,
    events: Seat<EventOracle>,
}

impl Outsiders {
    /// What surrounds the bank at its beginning.
    #[must_use]
    pub fn new(house: House, cluster: &Arc<SimulatedCluster>, diary: &Diary, faults: &Chance, profile: &Profile) -> Self {
        let network = house.network(WorldClock::new(Arc::clone(cluster)).date().0 / 1_000);
        let of_guard = profile.outside.map(|outside| outside.guard).unwrap_or_default();
        let guard = GuardBase::new(faults.fork("guard"), of_guard, diary.clone());
        Self { house, network, guard }
    }
}

impl People {
    /// Seats them.
    #[must_use]
    pub fn seat(world: &World, known: &Known<'_>, outside: Option<Outsiders>) -> Self {
        let Known { profile, diary, facts, log, streams, cluster } = known;
        let clock = WorldClock::new(Arc::clone(cluster));
        let Some(Outsiders { house, network, guard }) = outside else {
            let wanted = (profile.accounts, profile.operations);
            let told = ((*diary).clone(), clock, (*facts).clone());
            let clients = world.seat(Clients::new(told, log(), streams.workload.fork("clients"), wanted));
            let events = world.seat(EventOracle::new((*facts).clone(), (*diary).clone(), log(), profile.reading));
            return Self::Clients { clients, events };
        };
        let around = profile.outside.unwrap_or_default();
        let (workload, faults) = (&streams.workload, &streams.faults);
        let wanted = Workload {
            accounts: profile.accounts,
            operations: profile.operations,
            pause_ms: PAUSE_MS,
            doubled: 8,
            reused: 8,
        };
        let (facts, diary) = (|| (*facts).clone(), || (*diary).clone());
        let (chance, time) = (workload.fork("bank"), || clock.clone());
        let bank = Bank::new(house.clone(), network.clone(), facts(), diary(), time(), log(), chance, wanted);
        let chance = faults.fork("chain");
        let miner = Miner::new(network.clone(), time(), diary(), facts(), chance, around.chain);
        let chance = faults.fork("forger");
        let forger = Forger::new(network.clone(), guard.clone(), diary(), log(), chance, around.forged);
        let money = MoneyOracle::new(house, network, guard.clone(), facts(), diary(), log());
        // One who only counts: what money moved is told to the other.
        let events = EventOracle::new(SharedFacts::default(), diary(), log(), profile.reading);
        world.seat(Officers::new(facts(), diary(), time(), log(), workload.fork("officers")));
        Self::Town(Box::new(Town {
            bank: world.seat(bank),
            miner: world.seat(miner),
            forger: world.seat(forger),
            guard,
            money: world.seat(money),
            events: world.seat(events),
        }))
    }

    /// Whether there is anything outside of the log.
    #[must_use]
    pub const fn outsiders(&self) -> bool {
        matches!(self, Self::Town(_))
    }

    /// Whether everything was asked, answered and said.
    #[must_use]
    pub fn asked(&self) -> bool {
        match self {
            Self::Clients { clients, .. } => clients.lock().done(),
            Self::Town(town) => town.bank.lock().done(),
        }
    }

    /// From now on nothing goes wrong outside.
    pub fn heal(&self) {
        if let Self::Town(town) = self {
            town.miner.lock().heal();
            town.guard.heal();
            town.forger.lock().heal();
        }
    }

    /// Oracles look at what is new.
    pub fn look(&self) {
        let events = match self {
            Self::Clients { events, .. } => events,
            Self::Town(town) => {
                town.money.lock().look();
                &town.events
            }
        };
        events.lock().look();
    }

    /// Clients ask for a little more.
    pub fn remind(&self) {
        if let Self::Clients { clients, .. } = self {
            clients.lock().remind();
        }
    }

    /// Everything must be settled now.
    pub fn at_rest(&self) {
        self.look();
        if let Self::Town(town) = self {
            town.money.lock().at_rest();
        }
    }
}
