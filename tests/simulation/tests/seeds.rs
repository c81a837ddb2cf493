//! What every change must survive: the first seeds, and some of them twice.

#![expect(clippy::print_stdout, reason = "what a run met is what a reader of the test's output wants")]

use std::sync::atomic::{AtomicU64, Ordering};

use custos_simulation::diary::Telling;
use custos_simulation::profile::Profile;
use custos_simulation::run::run;

/// As many as fit into a minute or two of two cores.
const SEEDS: u64 = 200;

#[test]
fn without_faults_everything_that_is_asked_comes_to_its_end() {
    let outcome = run(&Profile::calm(1), Telling::Hash).unwrap();
    assert_eq!(outcome.violations, Vec::<String>::new());
    // What is refused at the door is no saga.
    assert!(outcome.sagas >= 10, "{outcome:?}");
}

#[test]
fn the_same_seed_leaves_the_same_trace_and_another_seed_another() {
    for seed in 0..4 {
        let [first, second] = [(); 2].map(|()| run(&Profile::drawn(seed), Telling::Hash).unwrap());
        assert_eq!((first.trace, first.turns), (second.trace, second.turns), "seed {seed}");
    }
    let [one, other] = [0, 1].map(|seed| run(&Profile::drawn(seed), Telling::Hash).unwrap().trace);
    assert_ne!(one, other);
}

#[test]
fn whatever_goes_wrong_nothing_is_lost_and_nothing_is_done_twice() {
    let (next, sagas) = (AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return;
            }
            let outcome = run(&Profile::drawn(seed), Telling::Hash).unwrap();
            assert!(outcome.violations.is_empty(), "seed {seed}: {}", outcome.violations.join("\n"));
            sagas.fetch_add(outcome.sagas, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(worker))));
    println!("seeds {SEEDS}, sagas {}, violations 0", sagas.load(Ordering::Relaxed));
    assert!(sagas.load(Ordering::Relaxed) > SEEDS * 10);
}
