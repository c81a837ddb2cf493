//! Taking a shard over: what is refused, and what is repaired.

use custos_domain::Digest;
use custos_messages::{Headers, Machine, Record};
use custos_runtime::shard::{Manifest, ShardStop, TakeoverError, provision_shard};

use crate::stage::faults::{Fault, Point};
use crate::stage::{STATE, Stage, diary, shard};

fn refusal(stop: ShardStop) -> TakeoverError {
    match stop {
        ShardStop::Refused(error) => error,
        other => panic!("not refused: {other:?}"),
    }
}

/// Two inputs are applied, then the manifest says something else.
fn after(change: impl FnOnce(&mut Manifest)) -> TakeoverError {
    let stage = Stage::new();
    stage.put(0, "event");
    stage.put(0, "arm:a:60000");
    assert!(matches!(stage.run(0), ShardStop::Released));
    let mut manifest = stage.manifest(0);
    change(&mut manifest);
    stage.append(STATE, 0, manifest.record());
    refusal(stage.run(0))
}

#[test]
fn without_a_manifest_a_shard_is_refused() {
    let stage = Stage::bare();
    stage.put(0, "event");
    assert!(matches!(refusal(stage.run_until(0, |_, _| false)), TakeoverError::NoManifest(name) if name == shard(0)));
}

#[test]
fn on_another_log_a_shard_is_refused() {
    type Change = fn(&mut Manifest);
    let cases: [(&str, Change); 4] = [
        ("cluster", |manifest| manifest.log.cluster.push('x')),
        ("inbox topic", |manifest| manifest.log.inbox.push('x')),
        ("state topic", |manifest| manifest.log.state.push('x')),
        ("partition count", |manifest| manifest.log.partitions += 1),
    ];
    for (expected, change) in cases {
        assert!(matches!(after(change), TakeoverError::OtherLog { what, .. } if what == expected), "{expected}");
    }
}

#[test]
fn when_the_last_input_is_another_a_shard_is_refused() {
    let changed = after(|manifest| manifest.last.as_mut().unwrap().digest = Digest([1; 32]));
    assert!(matches!(changed, TakeoverError::InputChanged { offset: 1, .. }));
    let beyond = after(|manifest| manifest.last.as_mut().unwrap().offset = 7);
    assert!(matches!(beyond, TakeoverError::InputChanged { offset: 7, .. }));
}

#[test]
fn when_the_state_does_not_match_its_roots_a_shard_is_refused() {
    assert!(matches!(after(|manifest| manifest.state_root = Digest([1; 32])), TakeoverError::StateRoot(_)));
    assert!(matches!(after(|manifest| manifest.outbox_root = Digest([1; 32])), TakeoverError::StateRoot(_)));
}

#[test]
fn a_logic_that_this_binary_does_not_know_is_refused() {
    assert!(matches!(after(|manifest| manifest.logic = 2), TakeoverError::Logic { found: 2, newest: 1, .. }));
    assert!(matches!(after(|manifest| manifest.logic = 0), TakeoverError::Logic { found: 0, newest: 1, .. }));
}

#[test]
fn provisioning_writes_one_manifest_and_refuses_a_state_without_one() {
    let stage = Stage::new();
    let mut log = stage.journal.acquire(Machine::Accounts, 0).unwrap();
    assert!(!provision_shard(shard(0), &mut *log).unwrap());
    let stage = Stage::bare();
    stage.append(STATE, 0, page("requests", "0"));
    let mut log = stage.journal.acquire(Machine::Accounts, 0).unwrap();
    assert!(matches!(provision_shard(shard(0), &mut *log), Err(TakeoverError::Headless(_))));
}

fn page(name: &str, value: &str) -> Record {
    Record { key: diary::key(name), value: Some(value.as_bytes().to_vec()), headers: Headers::new() }
}

#[test]
fn the_acquisition_repairs_what_a_torn_transaction_left() {
    let stage = Stage::new();
    stage.put(0, "event");
    assert!(matches!(stage.run(0), ShardStop::Released));
    let before = stage.manifest(0);
    // A page that the torn transaction changed, one that it made, and one that it removed.
    let gone = Record { value: None, ..page("requests", "") };
    for (torn, expected) in
        [(page("requests", "9\ntorn"), Some("1\nevent")), (page("fresh", "9\ntorn"), None), (gone, Some("1\nevent"))]
    {
        stage.faults.leave_torn(vec![torn.clone()]);
        assert!(matches!(stage.run(0), ShardStop::Released));
        let acquisition = stage.faults.commits().pop().unwrap();
        let repair = vec![Record { value: expected.map(|text| text.as_bytes().to_vec()), ..torn }];
        assert_eq!(acquisition.state, repair);
        let after = stage.manifest(0);
        assert_eq!((after.next, after.state_root), (before.next, before.state_root));
    }
    assert_eq!(stage.manifest(0).attempt, before.attempt + 3);
    stage.put(0, "event");
    assert!(matches!(stage.run(0), ShardStop::Released));
    assert_eq!(stage.heard(0, "requests"), ["event", "event"]);
}

#[test]
fn what_is_torn_in_the_log_itself_is_gone_after_the_next_transaction() {
    let stage = Stage::new();
    stage.append(STATE, 0, page("fresh", "9\ntorn"));
    stage.put(0, "x");
    assert!(matches!(stage.run(0), ShardStop::Released));
    assert_eq!(stage.heard(0, "fresh"), Vec::<String>::new());
    assert_eq!(stage.heard(0, "requests"), ["x"]);
}

#[test]
fn an_acquisition_that_fails_changes_nothing_but_the_attempt() {
    for point in [Point::BeginBefore, Point::BeginAfter, Point::CommitBefore, Point::CommitAfter] {
        let stage = Stage::new();
        stage.faults.fail(point, 0, Fault::Unknown);
        assert!(matches!(stage.run(0), ShardStop::TakeOver(_)), "{point:?}");
        stage.put(0, "x");
        assert!(matches!(stage.run(0), ShardStop::Released));
        assert_eq!(stage.heard(0, "requests"), ["x"], "{point:?}");
        assert_eq!(stage.manifest(0).attempt, if point == Point::CommitAfter { 3 } else { 2 });
    }
}
