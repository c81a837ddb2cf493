//! The logic switches at an input of the log: every owner, replay and audit meets the logic that ran.

use custos_messages::{Activate, Postmark, Source, Topic};
use custos_runtime::audit::audit_events;
use custos_runtime::replay::{ReplayError, last_manifest, replay, verify};
use custos_runtime::shard::{ShardStop, TakeoverError};
use custos_saga::machine::Machine;

use crate::stage::diary::{Diary, DiaryOf};
use crate::stage::faults::{Fault, Point};
use crate::stage::{INBOX, PARTITIONS, Stage, shard};

type Next = DiaryOf<2>;

fn order(stage: &Stage, logic: u32, source: Source) {
    stage.append(INBOX, 0, stage.keyring.seal_message(INBOX, source, &Activate { logic }, Postmark::default()));
}

/// Runs shard 0 until its inbox is applied, or it stops by itself.
fn run<M: Machine>(stage: &Stage) -> ShardStop {
    let (_, end) = stage.journal.bounds(INBOX, 0).unwrap();
    stage.run_machine::<M>(0, move |manifest, _| manifest.next >= end)
}

fn through<M: Machine>(stage: &Stage) -> usize {
    for again in 0..10 {
        match run::<M>(stage) {
            ShardStop::Released => return again,
            ShardStop::TakeOver(_) => {}
            other => panic!("{}", custos_runtime::shard::describe(&other)),
        }
    }
    panic!("the shard never came through");
}

fn proven<M: Machine>(stage: &Stage) {
    verify::<M>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap_or_else(|error| panic!("{error}"));
    let report = audit_events(&*stage.journal, &stage.keyring, 0, None, None).unwrap();
    assert_eq!(report.head.hash, stage.manifest(0).event_hash);
}

#[test]
fn the_logic_switches_at_its_input_wherever_a_call_fails_and_replay_and_audit_meet_what_ran() {
    let mut tripped = 0;
    for point in [Point::BeginBefore, Point::BeginAfter, Point::CommitBefore, Point::CommitAfter] {
        for after in 0..5 {
            let stage = Stage::new();
            stage.put(0, "a event");
            stage.put(0, "b");
            stage.put(0, "c event");
            order(&stage, 2, Source::Operator);
            stage.put(0, "d event");
            stage.put(0, "e");
            stage.faults.fail(point, after, Fault::Unknown);
            tripped += through::<Next>(&stage);
            assert_eq!(stage.heard(0, "requests"), ["a event", "b", "c event", "7:d event", "1:e"], "{point:?} {after}");
            let manifest = stage.manifest(0);
            assert_eq!((manifest.logic, manifest.first_logic, manifest.event_sequence), (2, 1, 5));
            assert_eq!(stage.quarantined(0), Vec::<String>::new());
            proven::<Next>(&stage);
        }
    }
    assert_eq!(tripped, 4 * 4);
}

#[test]
fn until_the_order_the_newer_binary_does_as_the_older_one_did() {
    let stage = Stage::new();
    stage.put(0, "a event");
    assert!(matches!(run::<Diary>(&stage), ShardStop::Released));
    stage.put(0, "b event");
    assert_eq!(through::<Next>(&stage), 0);
    stage.put(0, "c event");
    assert!(matches!(run::<Diary>(&stage), ShardStop::Released), "back to the older binary before the switch");
    assert_eq!(stage.heard(0, "requests"), ["a event", "b event", "c event"]);
    proven::<Diary>(&stage);
    proven::<Next>(&stage);
}

#[test]
fn a_binary_that_does_not_know_the_logic_applies_what_comes_before_and_stands_still_there() {
    let stage = Stage::new();
    stage.put(0, "a");
    stage.put(0, "b");
    stage.put(0, "c");
    order(&stage, 2, Source::Operator);
    stage.put(0, "d");
    let stop = run::<Diary>(&stage);
    assert!(matches!(stop, ShardStop::Logic(unknown) if (unknown.offset, unknown.wanted, unknown.newest) == (3, 2, 1)));
    let manifest = stage.manifest(0);
    assert_eq!((manifest.next, manifest.logic, stage.heard(0, "requests").len()), (3, 1, 3));
    // Again and again the same, and nothing is put aside.
    assert!(matches!(run::<Diary>(&stage), ShardStop::Logic(_)));
    assert_eq!((stage.manifest(0).next, stage.quarantined(0)), (3, Vec::new()));
    let found = replay::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap_err();
    assert!(matches!(found, ReplayError::Logic { .. }), "{found}");
    proven::<Diary>(&stage);
    // The newer binary takes it from there; after that the older one is refused.
    assert_eq!(through::<Next>(&stage), 0);
    assert_eq!(stage.heard(0, "requests"), ["a", "b", "c", "1:d"]);
    proven::<Next>(&stage);
    let refused = run::<Diary>(&stage);
    assert!(matches!(refused, ShardStop::Refused(TakeoverError::Logic { found: 2, newest: 1, .. })), "{refused:?}");
    // So is one that has forgotten it, and one that is two ahead knows nothing of the beginning.
    stage.put(0, "e");
    assert!(matches!(run::<DiaryOf<4>>(&stage), ShardStop::Refused(TakeoverError::Logic { .. })));
    assert_eq!(through::<DiaryOf<3>>(&stage), 0);
    let found = verify::<DiaryOf<3>>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap_err();
    assert!(matches!(found, ReplayError::FirstLogic { first: 1, newest: 3, .. }), "{found}");
}

#[test]
fn no_order_goes_back_the_same_order_again_does_nothing_and_only_the_operator_gives_one() {
    let stage = Stage::new();
    order(&stage, 2, Source::Gateway);
    order(&stage, 2, Source::Accounts);
    order(&stage, 1, Source::Operator);
    stage.put(0, "a");
    order(&stage, 2, Source::Operator);
    order(&stage, 2, Source::Operator);
    order(&stage, 1, Source::Operator);
    stage.put(0, "b");
    assert_eq!(through::<Next>(&stage), 0);
    assert_eq!(stage.heard(0, "requests"), ["a", "1:b"]);
    assert_eq!(stage.quarantined(0), ["not-allowed", "not-allowed", "logic-behind"]);
    assert_eq!(stage.manifest(0).logic, 2);
    assert_eq!(stage.read(Topic::Events, 0).len(), 1);
    proven::<Next>(&stage);
}

#[test]
fn a_manifest_of_another_logic_than_the_inbox_says_is_found() {
    let stage = Stage::new();
    stage.put(0, "a");
    assert!(matches!(run::<Diary>(&stage), ShardStop::Released));
    let mut manifest = last_manifest(&*stage.journal, shard(0)).unwrap().unwrap();
    assert_eq!(manifest, stage.manifest(0));
    manifest.logic = 2;
    stage.append(crate::stage::STATE, 0, manifest.record());
    let found = verify::<Next>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap_err();
    assert!(matches!(found, ReplayError::Differs { what: "the logic", .. }), "{found}");
}
