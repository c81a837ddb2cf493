//! A record that never changes again leaves the memory and nothing else: the log keeps it, the root covers it, the machine knows of it.

use custos_messages::Machine;
use custos_runtime::replay::{ReplayError, verify};
use custos_runtime::shard::{Folded, Taken, fold, take_over_from};

use crate::stage::diary::{self, Diary};
use crate::stage::faults::{Fault, Point};
use crate::stage::{PARTITIONS, STATE, Stage, shard};

fn take(stage: &Stage, known: Option<Folded>) -> Taken<Diary> {
    let mut log = stage.journal.acquire(Machine::Accounts, 0).unwrap();
    take_over_from::<Diary>(shard(0), &mut *log, "here:1", known).unwrap()
}

/// How often the page was written to the state topic.
fn written(stage: &Stage, page: &str) -> usize {
    stage.read(STATE, 0).iter().filter(|entry| entry.record.key == diary::key(page)).count()
}

#[test]
fn what_settles_leaves_the_memory_and_stays_in_the_log() {
    let stage = Stage::new();
    stage.put(0, "close:a close:b event");
    assert_eq!(stage.run_through(0), 0);
    for known in [None, fold(&*stage.journal, shard(0), None).unwrap()] {
        let taken = take(&stage, known);
        assert_eq!(taken.memory.settled.len(), 2);
        assert_eq!(taken.memory.entities.keys().collect::<Vec<_>>(), ["requests"]);
        assert_eq!(taken.memory.roots.state.digest(), taken.manifest.state_root);
    }
    assert_eq!((stage.heard(0, "closed-a"), written(&stage, "closed-a")), (vec!["a".to_owned()], 1));
    verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap();
}

#[test]
fn the_machine_knows_of_it_in_the_same_transaction_in_a_later_one_and_after_a_takeover() {
    let stage = Stage::new();
    let mut again: Vec<&str> = Vec::new();
    // Two inputs are one transaction here, and each run begins with a takeover.
    for scripts in [["close:a", "close:a"], ["close:b close:b", "close:c"], ["close:c", "close:a"], ["event", "close:d"]] {
        scripts.iter().for_each(|script| stage.put(0, script));
        assert_eq!(stage.run_through(0), 0);
        again.extend(match scripts[0] {
            "close:a" => &["a"][..],
            "close:b close:b" => &["b"],
            "close:c" => &["c", "a"],
            _ => &[],
        });
        assert_eq!(stage.heard(0, "again"), again);
        verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap();
    }
    for page in ["closed-a", "closed-b", "closed-c", "closed-d"] {
        assert_eq!(written(&stage, page), 1, "{page} is put again as it was, and not written again");
    }
}

#[test]
fn wherever_a_transaction_fails_it_settles_once() {
    for point in [Point::BeginBefore, Point::BeginAfter, Point::CommitBefore, Point::CommitAfter] {
        for after in 0..3 {
            let stage = Stage::new();
            ["close:a event", "close:b", "close:a", "close:c close:b", "event"]
                .iter()
                .for_each(|script| stage.put(0, script));
            stage.faults.fail(point, after, Fault::Unknown);
            assert_eq!(stage.run_through(0), 1, "{point:?} after {after}");
            assert_eq!(stage.heard(0, "again"), ["a", "b"], "{point:?} after {after}");
            assert_eq!(take(&stage, None).memory.settled.len(), 3);
            verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap();
        }
    }
}

#[test]
fn a_settled_record_that_was_altered_in_the_log_is_found_by_root_and_by_replay() {
    let stage = Stage::new();
    stage.put(0, "close:a event");
    assert_eq!(stage.run_through(0), 0);
    let mut altered = Folded::default();
    for mut entry in stage.read(STATE, 0) {
        if entry.record.key == diary::key("closed-a") {
            entry.record.value = Some(b"0\nsomething else".to_vec());
        }
        altered.see(entry);
    }
    assert!(!altered.fits(), "the root goes over what has settled");
    assert!(fold(&*stage.journal, shard(0), None).unwrap().is_some_and(|folded| folded.fits()));
    let replayed: Result<_, ReplayError> = verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS);
    assert!(replayed.unwrap().state.contains_key(&diary::key("closed-a")));
}
