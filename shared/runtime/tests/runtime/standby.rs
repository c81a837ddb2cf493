//! A takeover that begins with what a standby knows ends like one that reads everything, or it throws away what it was given.

use std::sync::{Arc, Mutex};

use custos_messages::{Headers, Machine, Record};
use custos_runtime::replay::{standing, verify};
use custos_runtime::shard::{Folded, Opening, ShardStop, Taken, fold, is_manifest, take_over_from};

use crate::crashes::{SCRIPTS, check};
use crate::stage::diary::{self, Diary};
use crate::stage::faults::{Fault, Point};
use crate::stage::{PARTITIONS, STATE, Stage, shard};

fn take(stage: &Stage, known: Option<Folded>) -> Taken<Diary> {
    let mut log = stage.journal.acquire(Machine::Accounts, 0).unwrap();
    take_over_from::<Diary>(shard(0), &mut *log, "here:1", known).unwrap()
}

/// A shard that has heard the scripts, removed records and delivered messages.
fn lived() -> Stage {
    let stage = Stage::new();
    SCRIPTS.iter().for_each(|script| stage.put(0, script));
    stage.put(0, "7 disarm:a");
    assert_eq!(stage.run_through(0), 0);
    stage.put(0, "8 event");
    assert_eq!(stage.run_through(0), 0);
    stage
}

#[test]
fn whatever_a_standby_has_seen_the_takeover_ends_where_a_cold_one_does() {
    let stage = lived();
    let entries = stage.read(STATE, 0);
    let first_manifest = entries.iter().position(|entry| is_manifest(&entry.record)).unwrap();
    let cold = take(&stage, None);
    assert_eq!(cold.opening, Opening::Cold);
    for seen in 0..=entries.len() {
        let warm = take(&stage, Some(stage.known(0, seen)));
        let expected = if seen > first_manifest { Opening::Warm } else { Opening::Cold };
        assert_eq!(warm.opening, expected, "after {seen} records");
        assert_eq!((&warm.memory.entities, &warm.memory.settled), (&cold.memory.entities, &cold.memory.settled));
        assert_eq!((&warm.memory.timers, &warm.memory.due), (&cold.memory.timers, &cold.memory.due));
        assert_eq!((&warm.memory.link_out, &warm.memory.link_in), (&cold.memory.link_out, &cold.memory.link_in));
        assert_eq!((warm.memory.pending, warm.memory.roots), (cold.memory.pending.clone(), cold.memory.roots));
        assert_eq!(warm.manifest.next, cold.manifest.next);
    }
    // The standby that has seen everything reads the last manifest and no more.
    let all = stage.read(STATE, 0).len();
    assert_eq!(take(&stage, Some(stage.known(0, all))).restored, 1);
    verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap();
}

#[test]
fn every_input_is_applied_once_wherever_it_fails_and_however_far_the_standby_is_behind() {
    for behind in 0..3 {
        for point in [Point::BeginBefore, Point::BeginAfter, Point::CommitBefore, Point::CommitAfter] {
            for after in 0..4 {
                let mut stage = Stage::new();
                SCRIPTS.iter().for_each(|script| stage.put(0, script));
                let journal = Arc::clone(&stage.journal);
                let seen = Mutex::new(Vec::new());
                stage.head_start = Some(Arc::new(move || {
                    // What was known some takeovers ago; each takeover sees everything, and says so later.
                    let mut seen = seen.lock().unwrap();
                    seen.push(fold(&*journal, shard(0), None).unwrap());
                    seen.len().checked_sub(1 + behind).and_then(|at| seen[at].clone())
                }));
                stage.faults.fail(point, after, Fault::Unknown);
                let what = format!("{point:?} after {after}, {behind} behind");
                assert_eq!(stage.run_through(0), 1, "{what}");
                stage.put(0, "not-of-use:x");
                let again = stage.run_through(0) + 2;
                assert_eq!(again, 2, "{what}");
                // The last word of the scripts does nothing but be heard.
                assert_eq!(stage.heard(0, "requests").pop().as_deref(), Some("not-of-use:x"), "{what}");
                assert_eq!(stage.opened("misfit"), 0, "{what}");
                let warm = if behind == 0 { 1 } else { 0 };
                assert!(stage.opened("warm") >= warm, "{what}");
                verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
    }
}

#[test]
fn a_warm_takeover_after_a_crash_leaves_the_same_shard_as_a_cold_one() {
    for seen in [3, 6, 11] {
        let mut stage = Stage::new();
        SCRIPTS.iter().for_each(|script| stage.put(0, script));
        stage.faults.fail(Point::CommitAfter, 2, Fault::Unknown);
        assert!(matches!(stage.run(0), ShardStop::TakeOver(_)));
        stage.begin_with(stage.known(0, seen));
        assert!(matches!(stage.run(0), ShardStop::Released));
        assert_eq!((stage.opened("warm"), stage.opened("cold"), stage.opened("misfit")), (1, 1, 0), "{seen}");
        stage.head_start = None;
        check(&stage, "warm");
    }
}

fn page(name: &str, value: Option<&str>) -> Record {
    Record { key: diary::key(name), value: value.map(|text| text.as_bytes().to_vec()), headers: Headers::new() }
}

#[test]
fn a_warm_acquisition_repairs_what_a_torn_transaction_left() {
    let mut stage = Stage::new();
    stage.put(0, "event");
    assert!(matches!(stage.run(0), ShardStop::Released));
    for (torn, expected) in [
        (page("requests", Some("9\ntorn")), Some("1\nevent")),
        (page("fresh", Some("9\ntorn")), None),
        (page("requests", None), Some("1\nevent")),
    ] {
        let all = stage.read(STATE, 0).len();
        stage.begin_with(stage.known(0, all));
        stage.faults.leave_torn(vec![torn.clone()]);
        assert!(matches!(stage.run(0), ShardStop::Released));
        let repair = vec![Record { value: expected.map(|text| text.as_bytes().to_vec()), ..torn }];
        assert_eq!(stage.faults.commits().pop().unwrap().state, repair);
    }
    assert_eq!((stage.opened("warm"), stage.opened("cold")), (3, 1));
}

#[test]
fn torn_records_in_the_log_itself_are_seen_by_standby_and_takeover_alike() {
    let mut stage = Stage::new();
    stage.put(0, "event");
    assert!(matches!(stage.run(0), ShardStop::Released));
    stage.append(STATE, 0, page("fresh", Some("9\ntorn")));
    let all = stage.read(STATE, 0).len();
    stage.begin_with(stage.known(0, all));
    stage.put(0, "x");
    assert!(matches!(stage.run(0), ShardStop::Released));
    assert_eq!(stage.opened("warm"), 1);
    assert_eq!(stage.heard(0, "fresh"), Vec::<String>::new());
    assert_eq!(stage.heard(0, "requests"), ["event", "x"]);
}

/// Runs a shard that is given `known`; it must throw that away and come out right all the same.
fn refuses(mut stage: Stage, known: Folded, what: &str) {
    let (before, state) = standing(&*stage.journal, shard(0)).unwrap();
    stage.begin_with(known);
    let cold = stage.opened("cold");
    stage.put(0, "9");
    assert!(matches!(stage.run(0), ShardStop::Released), "{what}");
    assert_eq!((stage.opened("misfit"), stage.opened("cold"), stage.opened("warm")), (1, cold, 0), "{what}");
    assert!(stage.manifest(0).transaction > before.transaction);
    assert_eq!(stage.heard(0, "requests").pop().as_deref(), Some("9"), "{what}");
    assert_eq!(stage.heard(0, "requests").len(), crate::stage::heard_in(&state, "requests").len() + 1, "{what}");
    verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap();
}

#[test]
fn what_does_not_fit_the_log_is_thrown_away_and_the_takeover_runs_cold() {
    let stage = lived();
    let mut longer = lived().known(0, usize::MAX);
    let last = longer.manifest().unwrap().clone();
    refuses(stage, longer.clone(), "another log, the same offsets");
    longer.see(custos_journal::Entry {
        partition: 0,
        offset: 10_000,
        at: None,
        record: Record { key: vec![0x01], value: Some(last.value), headers: Headers::new() },
    });
    refuses(lived(), longer, "a place that the log does not have");
    // A tombstone that the log no longer had when the standby came by: a record too many.
    let stage = lived();
    let mut extra = Folded::default();
    let entries = stage.read(STATE, 0);
    let ghost = custos_journal::Entry { record: page("ghost", Some("0\n")), ..entries[0].clone() };
    extra.see(ghost);
    entries.into_iter().skip(1).for_each(|entry| extra.see(entry));
    assert!(!extra.fits());
    refuses(stage, extra, "a record that is no longer there");
    // A record that never came.
    let stage = lived();
    let mut short = Folded::default();
    let lost = diary::key("requests");
    stage.read(STATE, 0).into_iter().filter(|entry| entry.record.key != lost).for_each(|entry| short.see(entry));
    refuses(stage, short, "a record that was missed");
}

#[test]
fn a_log_that_was_cut_and_goes_on_otherwise_is_not_joined_to_what_was_known() {
    // The standby saw one transaction more than the log has now, and the log went on from there.
    let stage = Stage::new();
    stage.put(0, "event");
    assert!(matches!(stage.run(0), ShardStop::Released));
    let mut ahead = stage.known(0, usize::MAX);
    let mut manifest = stage.manifest(0);
    manifest.transaction += 1;
    let end = ahead.next();
    ahead.see(custos_journal::Entry { partition: 0, offset: end, at: None, record: manifest.record() });
    refuses(stage, ahead, "one transaction ahead of the log");
}
