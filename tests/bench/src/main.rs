//! `custos-bench`: prints figures as JSON, one object a line, and where sides are compared closing lines for people. A program, never a test: nothing fails because a machine is slow.
//!
//! Invariants: each figure names what it was measured on; absolute figures are for orientation, ratios of one run count.

mod blocks;
mod codec;
mod echo;
mod floor;
mod instructions;
mod load;
mod machine;
mod pair;
mod parked;
mod payments;
mod projector;
mod restore;
mod rig;
mod sagas;
mod side;
mod size;
mod tape;
mod usage;

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::load::Plan;
use crate::rig::Rig;
use crate::sagas::Course;

/// The same as in `custos`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Figures of Custos, as JSON lines.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Three-step sagas on the real skeleton, from the append of the start to the commit of the end.
    Sagas(Load),
    /// The same records on the same journal without machine, keys and service: what `sagas` is to be compared with.
    Floor(Load),
    /// `sagas` and `floor` alternately in one run, and their ratios at the end.
    Pair(Comparison),
    /// `pair` on a broker process that is started here: the figures to reach on real Kafka.
    Kafka(Comparison),
    /// Inputs per second through each machine, without a journal.
    Machine {
        /// Accounts.
        #[arg(long, default_value_t = 1_000)]
        clients: u64,
        /// Deposits and withdrawals of each.
        #[arg(long, default_value_t = 10)]
        rounds: u64,
    },
    /// Instructions per input of the machines' hot paths, to be compared between commits; needs valgrind.
    Instructions {
        /// Accounts.
        #[arg(long, default_value_t = 50)]
        clients: u64,
        /// Deposits and withdrawals of each.
        #[arg(long, default_value_t = 10)]
        rounds: u64,
    },
    /// Bytes of a live saga, and what many parked sagas cost those that run.
    Parked {
        /// Few parked sagas.
        #[arg(long, default_value_t = 1_000)]
        few: u64,
        /// Many.
        #[arg(long, default_value_t = 1_000_000)]
        many: u64,
    },
    /// Bytes of a permanent idempotency key.
    Keys {
        /// Keys.
        #[arg(long, default_value_t = 1_000_000)]
        keys: u64,
        /// Kept as whole records, to compare with.
        #[arg(long)]
        records: bool,
    },
    /// Events and sagas a second that the projector folds into PostgreSQL, and how far behind it is.
    Projector {
        /// Partitions of the event log.
        #[arg(long, default_value_t = 2)]
        partitions: u32,
        /// Accounts of each partition.
        #[arg(long, default_value_t = 250)]
        clients: u64,
        /// Deposits and withdrawals of each account.
        #[arg(long, default_value_t = 10)]
        rounds: u64,
        /// How often an empty read model catches up.
        #[arg(long, default_value_t = 3)]
        runs: u64,
    },
    /// Plays one path of a machine once, and says how many inputs it had.
    #[command(hide = true)]
    Path {
        /// Which machine.
        subject: machine::Subject,
        /// Which path.
        path: tape::Path,
        /// Accounts.
        #[arg(long)]
        clients: u64,
        /// Deposits and withdrawals of each.
        #[arg(long)]
        rounds: u64,
    },
    /// Taking over a shard with many live sagas.
    Restore {
        /// `embedded`, `kafka`, or `kafka:host:port` with empty topics.
        #[arg(long, default_value = "embedded")]
        log: String,
        /// Live sagas.
        #[arg(long, default_value_t = 100_000)]
        sagas: u64,
    },
    /// Size of the release binary `custos`, if it is built.
    Size,
    /// How to time a clean build; runs nothing.
    Build,
}

#[derive(clap::Args)]
struct Comparison {
    /// `embedded`, `kafka`, or `kafka:host:port` with empty topics.
    #[arg(long)]
    log: Option<String>,
    /// Partitions, each with a shard of its own.
    #[arg(long, default_value_t = 2)]
    partitions: u32,
    /// Sagas in flight, level by level.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 1_000])]
    in_flight: Vec<u64>,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Seconds that count, at each level.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Seconds before them that do not.
    #[arg(long, default_value_t = 2)]
    warm_seconds: u64,
    /// Questions ahead of the commit, on both sides: `on` or `off`.
    #[arg(long, default_value = "on", value_parser = ["on", "off"])]
    ahead: String,
}

impl Comparison {
    fn run(&self, log: &str) -> Result<()> {
        let plan = |in_flight: &u64| Plan {
            in_flight: *in_flight,
            warm: Duration::from_secs(self.warm_seconds),
            measured: Duration::from_secs(self.seconds),
        };
        let plans = self.in_flight.iter().map(plan).collect();
        let course = pair::Course { rounds: self.rounds, plans, ahead: self.ahead == "on" };
        let rig = Rig::open(self.log.as_deref().unwrap_or(log), self.partitions)?;
        pair::measure(&rig, &course, tell, &mut std::io::stdout())
    }
}

#[derive(clap::Args)]
struct Load {
    /// `embedded`, `kafka`, or `kafka:host:port` with empty topics.
    #[arg(long, default_value = "embedded")]
    log: String,
    /// Partitions, each with a shard of its own.
    #[arg(long, default_value_t = 2)]
    partitions: u32,
    /// Sagas in flight, level by level.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 256, 1_000])]
    in_flight: Vec<u64>,
    /// Seconds that count, at each level.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Seconds before them that do not.
    #[arg(long, default_value_t = 2)]
    warm_seconds: u64,
    /// Questions ahead of the commit: `on`, `off`, or both in turn.
    #[arg(long, value_delimiter = ',', default_values = ["on", "off"], value_parser = ["on", "off"])]
    ahead: Vec<String>,
}

impl Load {
    fn course(&self) -> Course {
        Course {
            in_flight: self.in_flight.clone(),
            warm: Duration::from_secs(self.warm_seconds),
            measured: Duration::from_secs(self.seconds),
            ahead: self.ahead.iter().map(|ahead| ahead == "on").collect(),
        }
    }
}

fn tell(figure: &Value) -> Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{figure}")?)
}

fn main() -> Result<()> {
    match Arguments::parse().what {
        What::Sagas(load) => sagas::measure(&Rig::open(&load.log, load.partitions)?, &load.course(), tell),
        What::Floor(load) => floor::measure(&Rig::open(&load.log, load.partitions)?, &load.course(), tell),
        What::Pair(comparison) => comparison.run("embedded"),
        What::Kafka(comparison) => comparison.run("kafka"),
        What::Machine { clients, rounds } => machine::measure(clients, rounds, tell),
        What::Instructions { clients, rounds } => instructions::measure(clients, rounds, tell),
        What::Parked { few, many } => parked::measure(few, many, tell),
        What::Keys { keys, records } => parked::keys(keys, records, tell),
        What::Projector { partitions, clients, rounds, runs } => {
            projector::measure(projector::Course { partitions, clients, rounds, runs }, tell)
        }
        What::Path { subject, path, clients, rounds } => tell(&Value::from(subject.run(path, clients, rounds)?)),
        What::Restore { log, sagas } => tell(&restore::measure(&Rig::open(&log, 1)?, sagas)?),
        What::Size => tell(&size::measure()?),
        What::Build => tell(&size::how_to_time_a_build()),
    }
}
