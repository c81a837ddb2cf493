//! Money on a quiet log: whatever the chain, the bank and somebody inside do, the books are the chain at the end; and each defence
//! that is taken away is missed.

#![expect(clippy::print_stdout, reason = "what a run met is what a reader of the test's output wants")]

mod world;

use std::collections::BTreeMap;

use custos_simulation::chance::Chance;
use custos_simulation::diary::Telling;
use custos_simulation::surroundings::bank::Workload;
use custos_simulation::surroundings::guard::GuardFaults;
use custos_simulation::surroundings::house::Defence;
use custos_simulation::surroundings::miner::ChainFaults;
use world::{Plan, World};

const WORKLOAD: Workload = Workload { accounts: 6, operations: 40, pause_ms: 10_000, doubled: 8, reused: 8 };
/// Seeds of a run in continuous integration.
const SEEDS: u64 = 3;
/// A defence that is taken away must be missed within so many seeds.
const WITHIN: u64 = 12;
/// Seeds of a long run, that looks at what it meets; `FROM` says where to begin.
const MANY: u64 = 30;

fn long() -> bool {
    std::env::var("CUSTOS_TEST_LONG").is_ok_and(|value| value == "1")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

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
    let (mut cases, mut failed, mut sagas) = (BTreeMap::new(), Vec::new(), 0);
    let from = number("FROM").unwrap_or(0);
    let many = if long() { MANY } else { SEEDS };
    for seed in from..from + many {
        let mut world = World::new(&wild(seed));
        world.live();
        sagas += world.facts.lock().operations.len();
        for (case, count) in world.diary.cases() {
            *cases.entry(case).or_insert(0) += count;
        }
        failed.extend(world.diary.violations().into_iter().map(|violation| format!("seed {seed}: {violation}")));
    }
    println!("{many} seeds from {from}, {sagas} sagas: {cases:#?}");
    assert_eq!(failed, Vec::<String>::new());
}

/// In this seed the chain is replaced down to the first block that is followed, with final deposits in it.
#[test]
fn a_chain_that_is_replaced_from_its_first_block_is_followed_on() {
    let mut world = World::new(&wild(127));
    world.live();
    assert_eq!(world.diary.violations(), Vec::<String>::new());
    for case in ["a reorganisation below finality", "a credited deposit is reversed"] {
        assert!(world.diary.cases().contains_key(case), "{case}");
    }
}

/// One seed with its story: `SEED=7 cargo test -p custos-simulation --test surroundings -- --nocapture story`.
#[test]
fn a_seed_tells_its_story() {
    let seed = number("SEED").unwrap_or(0);
    let told = |telling| {
        let mut world = World::new(&Plan { telling, ..wild(seed) });
        world.live();
        world.diary
    };
    let diary = told(Telling::Story);
    println!("{}\n{:#?}\n{:#?}", diary.story().join("\n"), diary.cases(), diary.violations());
    assert!(!diary.story().is_empty());
    assert_eq!(diary.trace(), told(Telling::Hash).trace(), "telling changes what happens");
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
