//! Money on a quiet log: whatever the chain, the bank and somebody inside do, the books are the chain at the end; and each defence
//! that is taken away is missed.

#![expect(clippy::print_stdout, reason = "what a run met is what a reader of the test's output wants")]

mod world;

use std::collections::BTreeMap;
use std::time::Instant;

use custos_simulation::chance::Chance;
use custos_simulation::diary::Telling;
use custos_simulation::surroundings::bank::Workload;
use custos_simulation::surroundings::guard::GuardFaults;
use custos_simulation::surroundings::house::Defence;
use custos_simulation::surroundings::miner::ChainFaults;
use world::{Plan, World};

const WORKLOAD: Workload = Workload { accounts: 6, operations: 40, pause_ms: 10_000, doubled: 8, reused: 8 };
/// Seeds of the run without and with faults of the chain.
const SEEDS: u64 = 3;
/// A defence that is taken away must be missed within so many seeds.
const WITHIN: u64 = 12;
/// Seeds of the look at what a run meets.
const MANY: u64 = 30;

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        workload: WORKLOAD,
        faults: ChainFaults::default(),
        guard: GuardFaults::default(),
        forged: 0,
        without: None,
        telling: Telling::Hash,
    }
}

/// Everything goes wrong that may.
fn wild(seed: u64) -> Plan {
    let mut chance = Chance::new(seed).fork("plan");
    let faults = ChainFaults::drawn(&mut chance);
    let guard = GuardFaults { refused: chance.between(5, 40), unanswered: chance.between(5, 40) };
    Plan { faults, guard, forged: 3, ..plan(seed) }
}

fn violations(plan: &Plan) -> Vec<String> {
    let mut world = World::new(plan);
    world.live();
    world.diary.violations()
}

#[test]
fn on_a_quiet_chain_everything_is_paid_and_the_books_are_the_chain() {
    for seed in 0..SEEDS {
        let mut world = World::new(&plan(seed));
        world.live();
        assert_eq!(world.diary.violations(), Vec::<String>::new(), "seed {seed}");
        let completed = world.diary.cases().get("an operation is completed").copied().unwrap_or(0);
        assert!(completed > 10, "seed {seed}: {completed}");
    }
}

#[test]
fn whatever_the_chain_and_somebody_inside_do_no_money_moves_twice() {
    for seed in 0..SEEDS {
        assert_eq!(violations(&wild(seed)), Vec::<String>::new(), "seed {seed}");
    }
}

/// One seed with its story: `SEED=7 cargo test -p custos-simulation --test surroundings -- --ignored --nocapture story`.
#[test]
#[ignore = "tells a story"]
fn a_seed_tells_its_story() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut world = World::new(&Plan { telling: Telling::Story, ..wild(seed) });
    world.live();
    world.diary.story().iter().for_each(|line| println!("{line}"));
    println!("{:#?}\n{:#?}", world.diary.cases(), world.diary.violations());
}

/// What many seeds meet, and how long they take; `FROM` says where to begin.
#[test]
#[ignore = "takes minutes"]
fn many_seeds_meet_the_interesting_cases_and_violate_nothing() {
    let from: u64 = std::env::var("FROM").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let (mut cases, mut failed, mut sagas) = (BTreeMap::new(), Vec::new(), 0);
    let begun = Instant::now();
    for seed in from..from + MANY {
        let mut world = World::new(&wild(seed));
        world.live();
        sagas += world.facts.lock().operations.len();
        for (case, count) in world.diary.cases() {
            *cases.entry(case).or_insert(0) += count;
        }
        failed.extend(world.diary.violations().into_iter().map(|violation| format!("seed {seed}: {violation}")));
    }
    println!("{MANY} seeds, {sagas} sagas in {:?}: {cases:#?}", begun.elapsed());
    assert_eq!(failed, Vec::<String>::new());
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let mut world = World::new(&wild(seed));
        world.live();
        world.diary.trace()
    };
    assert_eq!(trace(3), trace(3));
    assert_ne!(trace(3), trace(4));
}

#[test]
fn each_defence_that_is_taken_away_is_missed() {
    for defence in [Defence::Guard, Defence::FinalityWait, Defence::AllNodesAgree] {
        let first = |seed| Some((seed, violations(&Plan { without: Some(defence), ..wild(seed) }).into_iter().next()?));
        let found = (0..WITHIN).find_map(first);
        let (seed, violation) = found.unwrap_or_else(|| panic!("{defence:?} is not missed in {WITHIN} seeds"));
        println!("without {defence:?}, seed {seed}: {violation}");
    }
}
