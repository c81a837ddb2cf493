//! The simulated log keeps the contract; a shard that counts keeps its promises on it; and each of its defences is missed when it is off.

#![expect(clippy::print_stdout, reason = "what a run met is what a reader of the test's output wants")]
#![expect(clippy::unwrap_used, reason = "a test ends where something fails that cannot")]

mod controls;
#[path = "../counting/mod.rs"]
#[allow(dead_code, reason = "each test program uses its own part")]
mod counting;
mod groups;
mod points;
mod run;

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use custos_journal::{Journal, SimulatedCluster, SimulatedSettings, SimulatedTime, contract};

use run::{Plan, Until, sweep};

/// Runs of the property; `CUSTOS_SIMULATED_SEEDS` names another number.
const SEEDS: u64 = 1_000;

type Outcome = Result<(), Box<dyn Error>>;

#[test]
fn it_keeps_the_contract() -> Outcome {
    let settings = SimulatedSettings { time: SimulatedTime::Real, ..SimulatedSettings::new(1) };
    let cluster = SimulatedCluster::new(settings);
    let journal = cluster.process();
    journal.provision(&contract::PROVISION)?;
    for (name, check) in contract::CHECKS {
        println!("{name}");
        check(&journal).map_err(|problem| format!("{name}: {problem}"))?;
    }
    for (name, check) in contract::REOPEN_CHECKS {
        println!("{name}");
        check(&|| Ok(Arc::new(cluster.process()))).map_err(|problem| format!("{name}: {problem}"))?;
    }
    Ok(())
}

#[test]
fn every_input_is_counted_once_whatever_goes_wrong() {
    let begun = Instant::now();
    let seeds = std::env::var("CUSTOS_SIMULATED_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let (sum, violations) = sweep(0..seeds, Plan::drawn, Until::Found);
    println!("seeds {seeds}, {sum}, violations {}, in {:?}", violations.len(), begun.elapsed());
    assert_eq!(violations, [], "a seed shows its story with CUSTOS_SIMULATED_STORY");
    let met = [sum.takeovers, sum.counts.late_arrivals, sum.counts.kills, sum.counts.lost_records];
    assert!(met.iter().all(|count| *count > 0), "{sum}");
}

#[test]
fn a_seed_gives_the_same_trace_and_another_seed_another() {
    let report = |seed| Plan::drawn(seed).run().unwrap();
    for seed in 0..20 {
        assert_eq!(report(seed), report(seed), "seed {seed}");
        assert_ne!(report(seed).trace, report(seed + 1).trace, "seed {seed}");
    }
}

/// Not a check: prints what happened in the seed that `CUSTOS_SIMULATED_STORY` names.
#[test]
fn the_story_of_a_seed_is_told_on_demand() {
    let Ok(seed) = std::env::var("CUSTOS_SIMULATED_STORY") else { return };
    let mut plan = Plan::drawn(seed.parse().unwrap());
    plan.settings.story = true;
    let (outcome, story) = plan.run_and_tell();
    story.iter().for_each(|line| println!("{line}"));
    println!("{outcome:?}");
}
