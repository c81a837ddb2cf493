//! Timers: armed until the state disarms them, and fired by the log's time alone.

use custos_domain::Timestamp;
use custos_messages::{Postmark, Source, TimerDue};
use custos_runtime::replay::{StateRecords, verify};
use custos_runtime::shard::{Manifest, ShardStop};

use crate::stage::diary::Diary;
use crate::stage::faults::{Fault, Point};
use crate::stage::{INBOX, PARTITIONS, Stage, heard_in};

fn fired(count: usize) -> impl Fn(&Manifest, &StateRecords) -> bool + Send + Sync {
    move |_, state| heard_in(state, "timers").len() >= count
}

/// The record that wakes the timer called `name`, whatever the clocks say.
fn wake(stage: &Stage, name: &str) {
    let due = TimerDue { timer: name.as_bytes().to_vec(), due: Timestamp(0) };
    stage.append(INBOX, 0, stage.keyring.seal_message(INBOX, Source::Accounts, &due, Postmark::default()));
}

fn dropped(stage: &Stage, code: &str) -> bool {
    stage.metrics.text().contains(&format!("custos_dropped_total{{part=\"accounts\",code=\"{code}\"}}"))
}

#[test]
fn a_due_timer_fires_once() {
    let stage = Stage::new();
    stage.put(0, "arm:a:0 arm:b:1");
    assert!(matches!(stage.run_until(0, fired(2)), ShardStop::Released));
    wake(&stage, "a");
    stage.put(0, "x");
    assert!(matches!(stage.run(0), ShardStop::Released));
    assert_eq!(stage.heard(0, "timers"), ["a", "b"]);
    assert!(dropped(&stage, "timer-not-armed"));
    verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap();
}

#[test]
fn a_record_that_comes_early_is_dropped_and_the_timer_stays_armed_over_a_takeover() {
    let stage = Stage::new();
    stage.put(0, "arm:a:600000");
    wake(&stage, "a");
    assert!(matches!(stage.run(0), ShardStop::Released));
    assert!(dropped(&stage, "timer-early"));
    // Armed again for now, by another owner: the timer is still known.
    stage.put(0, "disarm:b");
    stage.faults.fail(Point::CommitAfter, 1, Fault::Unknown);
    stage.run_through(0);
    assert_eq!(stage.heard(0, "timers"), Vec::<String>::new());
    stage.put(0, "arm:a:0");
    assert!(matches!(stage.run_until(0, fired(1)), ShardStop::Released));
    assert_eq!(stage.heard(0, "timers"), ["a"]);
}

#[test]
fn a_timer_that_came_due_while_nobody_owned_the_shard_fires_under_the_next_owner() {
    let stage = Stage::new();
    stage.put(0, "arm:a:0");
    assert!(matches!(stage.run(0), ShardStop::Released));
    assert!(matches!(stage.run_until(0, fired(1)), ShardStop::Released));
    assert_eq!(stage.heard(0, "timers"), ["a"]);
}

#[test]
fn a_disarmed_timer_does_not_fire() {
    let stage = Stage::new();
    stage.put(0, "arm:a:0 disarm:a arm:b:0");
    stage.put(0, "arm:c:600000");
    stage.put(0, "disarm:c");
    wake(&stage, "a");
    wake(&stage, "c");
    assert!(matches!(stage.run_until(0, fired(1)), ShardStop::Released));
    wake(&stage, "a");
    wake(&stage, "c");
    assert!(matches!(stage.run(0), ShardStop::Released));
    assert_eq!(stage.heard(0, "timers"), ["b"]);
}
