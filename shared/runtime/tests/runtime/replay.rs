//! The inbox decides everything: folded again it gives the same bytes, and what was tampered with shows.

use custos_domain::Digest;
use custos_messages::{Headers, Record, Topic};
use custos_runtime::replay::{ReplayError, replay, replay_into, standing, verify};
use custos_runtime::shard::{Manifest, ShardStop};

use crate::stage::diary::{self, Diary};
use crate::stage::faults::{Fault, Point};
use crate::stage::{INBOX, PARTITIONS, STATE, Stage, heard_in, shard};

/// A shard that went through crashes, timers, poison and deliveries.
fn lived() -> Stage {
    let stage = Stage::new();
    for round in 0..4 {
        stage.put(0, &format!("{round} event order tell:1:x tell:0:y ask"));
        stage.put(0, "arm:a:0 event");
        stage.append(INBOX, 0, Record { key: vec![1], value: Some(vec![2]), headers: Headers::new() });
        stage.faults.fail(Point::CommitAfter, 1, Fault::Unknown);
        stage.run_through(0);
    }
    let fired = stage.run_until(0, |_, state| !heard_in(state, "timers").is_empty());
    assert!(matches!(fired, ShardStop::Released));
    stage
}

#[test]
fn two_folds_of_one_inbox_give_the_same_bytes_and_those_of_the_shard() {
    let stage = lived();
    let until = Some(stage.manifest(0).next);
    let fold = || {
        let mut outputs: Vec<(Topic, Record)> = Vec::new();
        let mut keep = |topic, record: &Record| outputs.push((topic, record.clone()));
        let result = replay_into::<Diary>(&*stage.journal, &stage.keyring, (0, PARTITIONS), until, &mut keep).unwrap();
        (result, outputs)
    };
    let (once, outputs) = fold();
    assert_eq!((once.clone(), outputs.clone()), fold());
    let (manifest, state) = standing(&*stage.journal, shard(0)).unwrap();
    assert_eq!(once.state, state);
    assert_eq!(
        (once.state_root, once.event_hash, once.event_sequence, once.next, once.last),
        (manifest.state_root, manifest.event_hash, manifest.event_sequence, manifest.next, manifest.last)
    );
    assert!(once.quarantined >= 4 && once.applied > 8);
    for topic in [Topic::Events, Topic::Quarantine] {
        let written: Vec<Record> = stage.read(topic, 0).into_iter().map(|entry| entry.record).collect();
        let replayed: Vec<Record> =
            outputs.iter().filter(|(to, _)| *to == topic).map(|(_, record)| record.clone()).collect();
        assert_eq!(written, replayed, "{}", topic.name());
    }
    assert_eq!(verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap(), once);
}

#[test]
fn the_root_does_not_depend_on_what_was_delivered() {
    let stage = Stage::new();
    stage.put(0, "tell:1:x");
    assert!(matches!(stage.run(0), ShardStop::Released));
    let told = stage.manifest(0);
    let replayed = replay::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap();
    assert_eq!(told.state_root, replayed.state_root);
    assert_ne!(told.outbox_root, custos_runtime::shard::StateRoot::default().digest());
}

#[test]
fn a_shard_that_has_not_caught_up_is_compared_where_it_stands() {
    let stage = lived();
    stage.put(0, "later event");
    let replayed = verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap();
    assert_eq!(replayed.next, stage.manifest(0).next);
    let whole = replay::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap();
    assert!(whole.next > replayed.next && whole.event_sequence > replayed.event_sequence);
}

#[test]
fn what_differs_is_named() {
    type Change = fn(&mut Manifest);
    let cases: [(&str, Change); 4] = [
        ("the last input", |manifest| manifest.last.as_mut().unwrap().digest = Digest([1; 32])),
        ("the event sequence", |manifest| manifest.event_sequence += 1),
        ("the event hash", |manifest| manifest.event_hash = Digest([1; 32])),
        ("the state root", |manifest| manifest.state_root = Digest([1; 32])),
    ];
    for (expected, change) in cases {
        let stage = lived();
        let mut manifest = stage.manifest(0);
        change(&mut manifest);
        stage.append(STATE, 0, manifest.record());
        let found = verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap_err();
        assert!(matches!(found, ReplayError::Differs { what, .. } if what == expected), "{found}");
    }
}

#[test]
fn a_state_record_that_was_changed_is_named_although_its_root_was_left() {
    let stage = lived();
    let manifest = stage.manifest(0);
    let forged = Record { key: diary::key("requests"), value: Some(b"0\nforged".to_vec()), headers: Headers::new() };
    stage.append(STATE, 0, forged);
    stage.append(STATE, 0, manifest.record());
    let found = verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap_err();
    let expected = hex::encode(diary::key("requests"));
    assert!(matches!(&found, ReplayError::RecordDiffers { key, .. } if *key == expected), "{found}");
}

#[test]
fn an_inbox_that_ends_before_the_shard_stands_and_a_shard_without_manifest_are_refused() {
    let stage = lived();
    let mut manifest = stage.manifest(0);
    manifest.next += 100;
    stage.append(STATE, 0, manifest.record());
    let found = verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap_err();
    assert!(matches!(found, ReplayError::CutOff { .. }), "{found}");
    let bare = Stage::bare();
    let found = verify::<Diary>(&*bare.journal, &bare.keyring, 0, PARTITIONS).unwrap_err();
    assert!(matches!(found, ReplayError::NoManifest(_)), "{found}");
}
