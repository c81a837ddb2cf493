//! The services of production as actors: signer, screener, adapter, and a follower for each node, each a process that can die.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use custos_blockchain::{Adapter, BlockchainError, FollowSettings, Follower, LEAD_MAX, Nodes, followers};
use custos_journal::Journal;
use custos_messages::Keyring;
use custos_runtime::metrics::Metrics;
use custos_runtime::pace::{Clock, Turn};
use custos_runtime::serve::{ServeSettings, ServeStop, Serving, Work};
use custos_runtime::service::Service;

use crate::actor::{Actor, Step};
use crate::diary::Diary;
use crate::surroundings::chain::SharedNetwork;
use crate::surroundings::guard::{CheckpointPaper, GuardBase};
use crate::surroundings::house::House;

/// Commands that a service deals with at the same time.
const PARALLEL: usize = 16;

/// Where a service runs: the log as its process sees it, and what it believes of time.
#[derive(Clone)]
pub struct Process {
    /// The log.
    pub journal: Arc<dyn Journal>,
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// Partitions of every machine.
    pub partitions: u32,
    /// Its clock.
    pub clock: Clock,
    /// Where it is told what must never be.
    pub diary: Diary,
}

/// A service at work.
pub struct Server<S: Service> {
    name: String,
    serving: Serving<S>,
    diary: Diary,
}

/// A follower at work.
pub struct Following {
    name: String,
    follower: Follower,
    diary: Diary,
}

impl<S: Service> Server<S>
where
    S::Command: Clone,
{
    /// Joins the service's group.
    ///
    /// # Errors
    /// The log does not answer: the process dies.
    pub fn open(service: S, process: &Process) -> Result<Self, ServeStop> {
        let settings = ServeSettings {
            journal: Arc::clone(&process.journal),
            keyring: Arc::clone(&process.keyring),
            partitions: process.partitions,
            metrics: Metrics::default(),
            work: Work::Own,
            clock: process.clock.clone(),
            parallel: PARALLEL,
        };
        let serving = Serving::open(Arc::new(service), settings, Arc::new(AtomicBool::new(false)))?;
        Ok(Self { name: S::NAME.to_owned(), serving, diary: process.diary.clone() })
    }
}

impl<S: Service> Actor for Server<S>
where
    S::Command: Clone,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn step(&mut self) -> Step {
        match self.serving.step() {
            Ok(turn) => step_of(turn),
            Err(ServeStop::Halted { service, source }) => {
                // A human would have to look: nothing that happens here may bring a service to that.
                self.diary.violation(format!("{service} halts: {source}"));
                Step::Dead
            }
            Err(ServeStop::Log(_)) => Step::Dead,
        }
    }
}

impl Actor for Following {
    fn name(&self) -> &str {
        &self.name
    }

    fn step(&mut self) -> Step {
        match self.follower.step() {
            Ok(turn) => step_of(turn),
            Err(BlockchainError::Log(_)) => Step::Dead,
            Err(error) => {
                self.diary.violation(format!("the follower {} halts: {error}", self.name));
                Step::Dead
            }
        }
    }
}

const fn step_of(turn: Turn) -> Step {
    match turn {
        Turn::Again => Step::Busy,
        Turn::Wait(span) => Step::Idle(span),
    }
}

/// A signer process; `None` if it dies at once.
#[must_use]
pub fn signer(house: &House, base: &GuardBase, paper: &CheckpointPaper, process: &Process) -> Option<Box<dyn Actor>> {
    let wallet = base.signer(house, paper).ok()?;
    Some(Box::new(Server::open(wallet, process).ok()?))
}

/// A screener process; `None` if it dies at once.
#[must_use]
pub fn screener(house: &House, process: &Process) -> Option<Box<dyn Actor>> {
    Some(Box::new(Server::open(house.compliance(), process).ok()?))
}

/// An adapter process; `None` if it dies at once.
#[must_use]
pub fn adapter(house: &House, network: &SharedNetwork, process: &Process) -> Option<Box<dyn Actor>> {
    Some(Box::new(Server::open(Adapter::new(house.nodes(network)), process).ok()?))
}

/// A process that follows every node; `None` if it dies at once.
#[must_use]
pub fn follow(house: &House, network: &SharedNetwork, process: &Process) -> Option<Vec<Box<dyn Actor>>> {
    let settings = FollowSettings {
        journal: Arc::clone(&process.journal),
        keyring: Arc::clone(&process.keyring),
        partitions: process.partitions,
        metrics: Metrics::default(),
        work: Work::Own,
        lead_max: LEAD_MAX,
    };
    let nodes: Nodes = house.nodes(network);
    let all = followers(&nodes, &settings).ok()?;
    let named = all.into_iter().map(|follower| -> Box<dyn Actor> {
        let (name, diary) = (follower.name(), process.diary.clone());
        Box::new(Following { name, follower, diary })
    });
    Some(named.collect())
}
