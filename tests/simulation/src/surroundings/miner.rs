//! Time on the chain: blocks, fee spikes, reorganisations, lost transactions, and nodes that fall behind, fall silent and lie.

use std::time::Duration;

use alloy::primitives::Address;
use custos_testkit::address;

use crate::actor::{Actor, Step};
use crate::chance::Chance;
use crate::diary::Diary;
use crate::surroundings::chain::Paused;
use crate::surroundings::chain::{Fate, Lie, Network, Pays, SharedNetwork};
use crate::surroundings::facts::SharedFacts;
use crate::surroundings::house::CONFIRMATIONS;
use crate::time::WorldClock;

/// From block to block.
const EVERY: Duration = Duration::from_secs(12);
const BASE_FEE: u128 = 1_000_000_000;
/// A spike asks so many times more than usual.
const SPIKE: u64 = 400;
/// Deeper than finality, by so much at most.
const BELOW_FINALITY: u64 = 4;
/// So many times as often does the chain go wrong where it concerns a payment: they are few.
const MALICE: u64 = 5;
/// Blocks in which a payment is young.
const YOUNG: usize = 5;

/// What may go wrong on the chain, at each block once in so many; never if zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainFaults {
    /// Reorganisations above finality.
    pub reorganisation: u64,
    /// Reorganisations below finality.
    pub deep_reorganisation: u64,
    /// Fee spikes.
    pub spike: u64,
    /// A transaction that all pools forget.
    pub lost: u64,
    /// A node that falls behind.
    pub behind: u64,
    /// A node that stops to answer, or answers with errors, or forgets, or hides a block.
    pub lie: u64,
    /// A node that shows a block of its own, with a deposit that never was.
    pub private: u64,
    /// A token that refuses transfers.
    pub pause: u64,
}

impl ChainFaults {
    /// About half of the kinds: what a run has to live with.
    #[must_use]
    pub fn drawn(chance: &mut Chance) -> Self {
        let mut rate = |least: u64, most: u64| {
            let rate = chance.between(least, most);
            if chance.coin() { rate } else { 0 }
        };
        Self {
            reorganisation: rate(4, 30),
            deep_reorganisation: rate(40, 200),
            spike: rate(10, 60),
            lost: rate(5, 30),
            behind: rate(5, 30),
            lie: rate(5, 30),
            private: rate(10, 60),
            pause: rate(20, 60),
        }
    }
}

/// The miner, and everything that happens to a chain.
pub struct Miner {
    network: SharedNetwork,
    clock: WorldClock,
    diary: Diary,
    facts: SharedFacts,
    chance: Chance,
    faults: ChainFaults,
    /// How many blocks each node lags, and for how many blocks more it does and lies.
    behind: Vec<(u64, u64)>,
    spike_left: u64,
    pause_left: u64,
    /// When the next block is due: nothing that happens in the world makes it come sooner.
    next_at: Duration,
}

impl Miner {
    /// The miner of `network`.
    #[must_use]
    pub fn new(
        network: SharedNetwork,
        clock: WorldClock,
        diary: Diary,
        facts: SharedFacts,
        chance: Chance,
        faults: ChainFaults,
    ) -> Self {
        let behind = vec![(0, 0); network.lock().nodes().len()];
        Self { network, clock, diary, facts, chance, faults, behind, spike_left: 0, pause_left: 0, next_at: Duration::ZERO }
    }

    /// From now on nothing goes wrong.
    pub fn heal(&mut self) {
        self.faults = ChainFaults::default();
        (self.spike_left, self.pause_left) = (0, 0);
        self.behind.iter_mut().for_each(|node| *node = (0, 0));
        let mut network = self.network.lock();
        network.set_base_fee(BASE_FEE);
        network.heal();
    }

    fn weather(&mut self, network: &mut Network) {
        self.spike_left = self.spike_left.saturating_sub(1);
        if self.spike_left == 0 && self.chance.once_in(self.faults.spike) {
            self.spike_left = self.chance.between(2, 40);
            let times = self.chance.between(2, SPIKE);
            network.set_base_fee(BASE_FEE.saturating_mul(times.into()));
            self.diary.note("chain", format_args!("fees rise {times} times for {} blocks", self.spike_left));
            self.diary.sometimes("fees rise beyond what was offered");
        } else if self.spike_left == 0 {
            network.set_base_fee(BASE_FEE.saturating_mul(self.chance.between(80, 120).into()) / 100);
        }
        self.pause_left = self.pause_left.saturating_sub(1);
        let pause = if network.token_waits() { malicious(self.faults.pause) } else { self.faults.pause };
        if self.pause_left == 0 && self.chance.once_in(pause) {
            self.pause_left = self.chance.between(2, 20);
            network.pause(Paused::Yes);
            self.diary.note("chain", format_args!("the token refuses transfers for {} blocks", self.pause_left));
            self.diary.sometimes("a token refuses transfers");
        } else if self.pause_left == 0 {
            network.pause(Paused::No);
        }
    }

    fn accidents(&mut self, network: &mut Network, time: u64) {
        let ours = network.holds_ours(YOUNG);
        let rate = |rate: u64| if ours { malicious(rate) } else { rate };
        let shallow = self.chance.once_in(rate(self.faults.reorganisation));
        let deep = self.chance.once_in(rate(self.faults.deep_reorganisation));
        let finality = u64::from(CONFIRMATIONS);
        let depth = match (deep, shallow) {
            (true, _) => self.chance.between(finality, finality.saturating_add(BELOW_FINALITY)),
            (false, true) => self.chance.between(1, finality.saturating_sub(1)),
            (false, false) => 0,
        };
        if depth > 0 {
            let fate = if self.chance.coin() { Fate::Reinjected } else { Fate::Lost };
            network.reorganise(depth, fate, time);
            self.diary.note("chain", format_args!("{depth} blocks are replaced, what was in them is {fate:?}"));
            self.diary.sometimes(if deep { "a reorganisation below finality" } else { "a reorganisation" });
        }
    }

    /// While it waits for a block: what a block has taken is in no pool.
    fn lose(&mut self, network: &mut Network) {
        if self.chance.once_in(self.faults.lost)
            && let Some(hash) = network.lose_one()
        {
            self.diary.note("chain", format_args!("everybody forgets {hash}"));
            self.diary.sometimes("a transaction is lost from every pool");
        }
    }

    fn nodes(&mut self, network: &mut Network, time: u64) {
        for node in 0..self.behind.len() {
            if let Some((lag, left)) = self.behind.get_mut(node) {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    *lag = 0;
                    if let Some(view) = network.node_mut(node) {
                        view.lie = Lie::None;
                    }
                }
            }
            let idle = self.behind.get(node).is_some_and(|(_, left)| *left == 0);
            if idle && self.chance.once_in(self.faults.behind) {
                let state = (self.chance.between(1, 12), self.chance.between(2, 20));
                self.set(node, state);
                self.diary.sometimes("a node falls behind");
            } else if idle && self.chance.once_in(self.faults.lie) {
                let head = network.head().map_or(0, |head| head.number);
                let lie = match self.chance.below(5) {
                    0 => Lie::Silent,
                    1 => Lie::AcceptsInSilence,
                    2 => Lie::Forgets,
                    3 => Lie::Broken,
                    _ => Lie::Missing(head),
                };
                if let Some(view) = network.node_mut(node) {
                    view.lie = lie;
                    self.diary.note("chain", format_args!("node {}: {lie:?}", view.name));
                }
                let blocks = self.chance.between(2, 20);
                self.set(node, (0, blocks));
                self.diary.sometimes("a node misbehaves");
            } else if idle && self.chance.once_in(self.faults.private) {
                let addresses = self.facts.lock().addresses.clone();
                if let Some((_, to)) = self.chance.pick(&addresses) {
                    let pays = Pays::Ether { to: Address::from(to.0), wei: 7_000_000_000_000_000_000 };
                    network.private_block(node, Address::from(address("forger").0), pays, time);
                    self.diary.note("chain", format_args!("node {node} shows a block of its own, with a deposit to {to}"));
                    self.diary.sometimes("a node shows a deposit that never was");
                    // It goes on to show that branch for a while.
                    let blocks = self.chance.between(2, 6);
                    self.set(node, (u64::MAX, blocks));
                }
            }
            match self.behind.get(node) {
                Some((u64::MAX, _)) => self.lengthen(network, node, time),
                Some((lag, _)) => network.sync(node, *lag),
                None => {}
            }
        }
    }

    /// A node that shows a branch of its own makes it longer.
    fn lengthen(&mut self, network: &mut Network, node: usize, time: u64) {
        let nowhere = Pays::Ether { to: Address::from(address("nobody").0), wei: 1 };
        network.private_block(node, Address::from(address("forger").0), nowhere, time);
    }

    fn set(&mut self, node: usize, state: (u64, u64)) {
        if let Some(known) = self.behind.get_mut(node) {
            *known = state;
        }
    }
}

/// The rate where it concerns a payment; never if zero.
const fn malicious(rate: u64) -> u64 {
    rate.div_ceil(MALICE)
}

impl Actor for Miner {
    fn name(&self) -> &str {
        "chain"
    }

    fn step(&mut self) -> Step {
        let now = self.clock.now();
        if now < self.next_at {
            return Step::Idle(self.next_at.saturating_sub(now));
        }
        self.next_at = now.saturating_add(EVERY);
        let time = self.clock.date().0 / 1_000;
        let shared = self.network.clone();
        let mut network = shared.lock();
        self.weather(&mut network);
        self.lose(&mut network);
        network.mine(time);
        self.accidents(&mut network, time);
        self.nodes(&mut network, time);
        drop(network);
        Step::Idle(EVERY)
    }
}
