//! Each defence is needed: without it something happens that must never happen, in one of the first seeds; with it nothing does.

#![expect(clippy::print_stdout, reason = "in which seed a defence was missed is what a reader of the test's output wants")]

use std::sync::atomic::{AtomicUsize, Ordering};

use custos_runtime::shard;
use custos_simulation::control::{CONTROLS, Control, Tried};
use custos_simulation::diary::Telling;
use custos_simulation::profile::Profile;
use custos_simulation::run::run;

/// With `CUSTOS_TEST_LONG=1` the defences of money too: their worlds have a chain, and take minutes.
#[test]
fn each_defence_is_missed_when_it_is_gone_and_nothing_happens_while_it_is_there() {
    let long = std::env::var("CUSTOS_TEST_LONG").is_ok_and(|value| value == "1");
    let wanted: Vec<&Control> = CONTROLS.iter().filter(|control| long || control.tried == Tried::Always).collect();
    for other in CONTROLS.iter().filter(|control| !long && control.tried != Tried::Always) {
        println!("not asked for: {} (CUSTOS_TEST_LONG=1)", other.name);
    }
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let worker = || {
        while let Some(control) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let missed = control.missed().expect("a world can be built");
            let missed = missed.unwrap_or_else(|| panic!("nobody misses {} in {} seeds", control.name, control.within));
            println!("{}: seed {}: {}", control.name, missed.seed, missed.violation);
            assert_eq!(
                control.with_it(missed.seed).expect("a world can be built"),
                Vec::<String>::new(),
                "{}",
                control.name
            );
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(worker))));
}

/// A volume that was restored, an election that was not clean: what stood in the inbox and was applied is gone, and something else
/// takes its place.
#[test]
fn a_shard_whose_inbox_lost_its_end_stands_still_and_without_the_digest_goes_on_from_another_past() {
    let cut = |seed| Profile { cut: true, partitions: 1, ..Profile::calm(seed) };
    let tells = |violations: &[String], what: &str| violations.iter().any(|violation| violation.contains(what));
    for seed in 0..2 {
        let stood = run(&cut(seed), Telling::Hash).unwrap().violations;
        assert!(tells(&stood, "a shard stands still") && tells(&stood, "is not the one that was applied"), "{stood:?}");
        let shards = shard::Defences::ALL.without(shard::Defence::InputDigest);
        let went_on = run(&Profile { shards, ..cut(seed) }, Telling::Hash).unwrap().violations;
        assert!(!tells(&went_on, "a shard stands still") && tells(&went_on, "by replay"), "{went_on:?}");
        println!("the digest of the last input: seed {seed}: {}", went_on.join("; "));
    }
}
