//! Messages between shards: each is taken once and in order, however often it is sent.

use std::sync::Arc;

use custos_messages::{Link, Mail, Postmark, Source};
use custos_runtime::replay::verify;
use custos_runtime::shard::{Manifest, ShardStop, StateRoot};

use crate::stage::diary::{Diary, told};
use crate::stage::faults::{Fault, Point};
use crate::stage::{INBOX, PARTITIONS, Stage, shard};

/// Puts what accounts/0 says at `sequence` into the inbox of accounts/1.
fn deliver(stage: &Stage, sequence: u64, text: &str) {
    let link = Some(Link { from: shard(0), to: shard(1), sequence });
    let mark = Postmark { link, ..Postmark::default() };
    stage.append(INBOX, 1, Mail::Accounts(told(text)).seal(&stage.keyring, Source::Accounts, mark));
}

fn run(stage: &Stage, partition: u32) {
    assert!(matches!(stage.run(partition), ShardStop::Released));
}

#[test]
fn what_is_not_struck_off_is_sent_again_after_a_takeover_and_taken_once() {
    let stage = Stage::new();
    stage.put(0, "tell:1:one tell:1:two tell:0:self");
    run(&stage, 0);
    assert_eq!(stage.outbox(0).len(), 3, "delivered, and not struck off yet");
    run(&stage, 0);
    let (_, sent) = stage.journal.bounds(INBOX, 1).unwrap();
    assert_eq!(sent, 4, "sent twice");
    run(&stage, 1);
    assert_eq!(stage.heard(1, "told"), ["one", "two"]);
    run(&stage, 0);
    assert_eq!(stage.heard(0, "told"), ["self"]);
    assert!(stage.metrics.text().contains("custos_dropped_total{part=\"accounts\",code=\"link-repeat\"}"));
}

/// Every transaction asks for another one, so that the shard goes on until what it waits for has come.
fn keep_going(stage: &mut Stage) {
    let (journal, record) = (Arc::clone(&stage.journal), stage.request("x", Postmark::default()));
    stage.settings.interrupt = Some(Arc::new(move |point| {
        if point == "committed" {
            journal.appender().unwrap().append(INBOX, 0, record.clone()).unwrap();
        }
    }));
}

fn nothing_pending(manifest: &Manifest) -> bool {
    manifest.outbox_root == StateRoot::default().digest()
}

#[test]
fn what_is_delivered_is_struck_off_with_a_later_transaction() {
    let mut stage = Stage::new();
    stage.put(0, "tell:1:one");
    run(&stage, 0);
    assert_eq!(stage.outbox(0).len(), 1);
    stage.put(0, "x");
    keep_going(&mut stage);
    assert!(matches!(stage.run_until(0, |manifest, _| nothing_pending(manifest)), ShardStop::Released));
    assert_eq!(stage.outbox(0).len(), 0);
    let (_, sent) = stage.journal.bounds(INBOX, 1).unwrap();
    assert!(matches!(stage.run_until(0, |_, _| true), ShardStop::Released));
    assert_eq!(stage.journal.bounds(INBOX, 1).unwrap().1, sent, "what is struck off is not sent again");
    verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap();
}

#[test]
fn messages_wait_for_a_log_that_does_not_take_them_and_keep_their_order() {
    let mut stage = Stage::new();
    stage.put(0, "tell:1:one");
    stage.put(0, "tell:1:two");
    stage.faults.refuse_appends(INBOX, 1, 2);
    keep_going(&mut stage);
    assert!(matches!(stage.run_until(0, |manifest, _| manifest.next > 2 && nothing_pending(manifest)), ShardStop::Released));
    run(&stage, 1);
    assert_eq!(stage.heard(1, "told"), ["one", "two"]);
}

#[test]
fn a_repeat_is_dropped_and_a_gap_is_put_aside_until_it_is_filled() {
    let stage = Stage::new();
    deliver(&stage, 1, "one");
    deliver(&stage, 1, "one");
    deliver(&stage, 3, "three");
    deliver(&stage, 4, "four");
    run(&stage, 1);
    assert_eq!(stage.heard(1, "told"), ["one"]);
    assert_eq!(stage.quarantined(1), ["link-gap", "link-gap"]);
    for (sequence, text) in [(2, "two"), (3, "three"), (2, "two"), (4, "four")] {
        deliver(&stage, sequence, text);
    }
    run(&stage, 1);
    assert_eq!(stage.heard(1, "told"), ["one", "two", "three", "four"]);
    assert_eq!(stage.quarantined(1).len(), 2);
}

#[test]
fn the_place_on_a_link_is_kept_over_takeovers() {
    let stage = Stage::new();
    for sequence in 1..=5 {
        deliver(&stage, sequence, &sequence.to_string());
        deliver(&stage, sequence, &sequence.to_string());
        stage.faults.fail(Point::CommitAfter, 1, Fault::Unknown);
        stage.run_through(1);
    }
    assert_eq!(stage.heard(1, "told"), ["1", "2", "3", "4", "5"]);
    assert_eq!(stage.quarantined(1), Vec::<String>::new());
}
