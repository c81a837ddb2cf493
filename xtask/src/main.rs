//! The one front door for developers: `cargo xtask test`, `ci`, `bless`, `bench`, `chaos`, `simulate`, `soak`, `deny` and `fuzz`.
//!
//! Invariants: what CI runs is what a developer runs; nothing is skipped without being named; a failure anywhere is a failure
//! of the command. Deliberately absent: anything that the product needs at run time.
#![allow(clippy::print_stdout, reason = "a developer reads it")]

mod bless;
mod chaos;
mod deny;
mod fuzz;
mod gate;
mod parts;
mod plan;
mod runner;
mod soak;
mod summary;
mod tally;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "What developers of Custos run")]
struct Front {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Every ring of tests, with real Kafka, PostgreSQL and an Ethereum node. Fetches what it needs.
    Test(runner::Wish),
    /// Exactly what CI runs: format, lints, then `cargo xtask test`.
    Ci,
    /// Writes again what tests compare with the code: rendered sagas, the API's document, published descriptors.
    Bless,
    /// Two of every part under load on real Kafka, PostgreSQL and an Ethereum node, while all of that is attacked.
    Chaos(chaos::Wish),
    /// Figures, as JSON lines; never part of the tests.
    Bench {
        /// What to measure; `help` lists it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        what: Vec<String>,
    },
    /// The whole system in one thread, from seeds: `--seeds N --from S`, or `--story --from S` for one of them in words.
    Simulate {
        /// Which seeds, and how; `--help` lists it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        how: Vec<String>,
    },
    /// Decoders under libFuzzer, guided by coverage; the short runs are part of the tests.
    Fuzz(fuzz::Wish),
    /// Mixed load for a stated time; fails when memory, file handles or threads grow.
    Soak(soak::Wish),
    /// Licences, bans, sources and, where their database can be had, advisories of all dependencies.
    Deny(deny::Wish),
}

fn main() -> ExitCode {
    if let Some(code) = fuzz::compiles() {
        return code;
    }
    let done = match Front::parse().task {
        Task::Test(wish) => runner::test(&wish),
        Task::Ci => gate::ci(),
        Task::Bless => bless::bless(),
        Task::Chaos(wish) => chaos::chaos(&wish),
        Task::Bench { what } => program("custos-bench", &what),
        Task::Simulate { how } => program("custos-simulation", &how),
        Task::Fuzz(wish) => fuzz::fuzz(&wish),
        Task::Soak(wish) => soak::soak(&wish),
        Task::Deny(wish) => deny::deny(&wish),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the checkout.
fn root() -> Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("the folder xtask has a parent")?.to_path_buf())
}

/// Cargo, the same that started us, at the top of the checkout.
fn cargo(arguments: &[&str]) -> Result<Command> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root()?).args(arguments);
    Ok(command)
}

/// Runs a program of the developers, optimised. Standard output is the program's own, so that it can be piped.
fn program(package: &str, arguments: &[String]) -> Result<bool> {
    let mut program = cargo(&["run", "--quiet", "--release", "--package", package, "--"])?;
    Ok(program.args(arguments).status().with_context(|| format!("{package} did not start"))?.success())
}

/// Runs a command to its end, its output our own.
fn must(what: &str, mut command: Command) -> Result<()> {
    println!("==> {what}");
    let status = command.status().with_context(|| format!("{what} did not start"))?;
    if !status.success() {
        bail!("{what}: {status}");
    }
    Ok(())
}
