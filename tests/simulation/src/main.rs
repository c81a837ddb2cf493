//! `custos-simulation`: runs seeds, says what was met, and exits with 1 when anything happened that must never happen.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use custos_simulation::catalogue::{CATALOGUE, unmet};
use custos_simulation::control::{CONTROLS, Missed};
use custos_simulation::diary::Telling;
use custos_simulation::profile::Profile;
use custos_simulation::run::{Outcome, run};

/// The whole system in one thread, from a seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many worlds at the same time.
    #[arg(long)]
    threads: Option<usize>,
    /// Tells everything that happens in the first seed.
    #[arg(long)]
    story: bool,
    /// Nothing goes wrong.
    #[arg(long)]
    calm: bool,
    /// Each seed twice: both must leave the same trace.
    #[arg(long)]
    twice: bool,
    /// Fails when a case of the catalogue was never met.
    #[arg(long)]
    complete: bool,
    /// Takes every defence away in turn, and says where it was missed.
    #[arg(long)]
    controls: bool,
}

#[derive(Default)]
struct Sum {
    sagas: u64,
    turns: u64,
    hours: u64,
    violations: BTreeMap<u64, Vec<String>>,
    cases: BTreeMap<&'static str, u64>,
}

#[expect(clippy::print_stdout, reason = "this is a command")]
fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.story {
        let outcome = run(&profile(&arguments, arguments.from), Telling::Story)?;
        outcome.story.iter().for_each(|line| println!("{line}"));
        outcome.violations.iter().for_each(|violation| println!("violation: {violation}"));
        return Ok(if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if arguments.controls {
        return controls();
    }
    let began = Instant::now();
    let sum = run_all(&arguments)?;
    println!("{:>10}  case", "times");
    CATALOGUE.iter().for_each(|case| println!("{:>10}  {case}", sum.cases.get(case).copied().unwrap_or(0)));
    let unmet = unmet(&sum.cases);
    unmet.iter().for_each(|case| println!("never met: {case}"));
    for (seed, violations) in &sum.violations {
        violations.iter().for_each(|violation| println!("seed {seed}: {violation}"));
    }
    let (took, count) = (began.elapsed(), sum.violations.len());
    println!("{} turns, {} hours of virtual time, {} ms", sum.turns, sum.hours, took.as_millis());
    println!("seeds {}, sagas {}, violations {count}", arguments.seeds, sum.sagas);
    let failed = count > 0 || (arguments.complete && !unmet.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One line for each control.
#[expect(clippy::print_stdout, reason = "this is a command")]
fn controls() -> anyhow::Result<ExitCode> {
    let mut all = true;
    for control in CONTROLS {
        let missed = control.missed()?;
        let with_it = missed.as_ref().map(|missed| control.with_it(missed.seed)).transpose()?.unwrap_or_default();
        all &= missed.is_some() && with_it.is_empty();
        match missed {
            Some(Missed { seed, violation }) => println!("{}: seed {seed} of {}: {violation}", control.name, control.within),
            None => println!("{}: NOT MISSED in {} seeds", control.name, control.within),
        }
        with_it.iter().for_each(|violation| println!("    WITH IT: {violation}"));
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn profile(arguments: &Arguments, seed: u64) -> Profile {
    if arguments.calm { Profile::calm(seed) } else { Profile::drawn(seed) }
}

/// One world per thread, each seed once or twice.
fn run_all(arguments: &Arguments) -> anyhow::Result<Sum> {
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from.saturating_add(arguments.seeds);
    let sum = Mutex::new(Sum::default());
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(arguments, &next, end, &sum))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a world panicked")))
    })?;
    Ok(sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn work(arguments: &Arguments, next: &AtomicU64, end: u64, sum: &Mutex<Sum>) -> anyhow::Result<()> {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return Ok(());
        }
        let profile = profile(arguments, seed);
        let mut outcome = run(&profile, Telling::Hash)?;
        if arguments.twice && run(&profile, Telling::Hash)?.trace != outcome.trace {
            outcome.violations.push("a second run leaves another trace".to_owned());
        }
        add(&mut sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner), outcome);
    }
}

fn add(sum: &mut Sum, outcome: Outcome) {
    sum.sagas = sum.sagas.saturating_add(outcome.sagas);
    sum.turns = sum.turns.saturating_add(outcome.turns);
    sum.hours = sum.hours.saturating_add(outcome.lasted.as_secs() / 3_600);
    for (case, times) in outcome.cases {
        let met = sum.cases.entry(case).or_default();
        *met = met.saturating_add(times);
    }
    if !outcome.violations.is_empty() {
        sum.violations.insert(outcome.seed, outcome.violations);
    }
}
