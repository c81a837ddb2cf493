//! Each input is applied exactly once, wherever a transaction fails.

use std::sync::Arc;
use std::sync::mpsc::channel;

use custos_journal::Entry;
use custos_messages::compliance::Screen;
use custos_messages::gateway::{GatewayReply, Outcome};
use custos_messages::{Postmark, Topic, TraceParent};
use custos_runtime::audit::audit_events;
use custos_runtime::replay::verify;
use custos_runtime::shard::ShardStop;

use crate::stage::diary::Diary;
use crate::stage::faults::{Fault, Point};
use crate::stage::{PARTITIONS, STATE, Stage, header};

pub const SCRIPTS: [&str; 6] =
    ["1 event", "2 event ask", "3 order tell:1:hello", "4 event event", "5 arm:a:60000 tell:1:again", "6 event"];

/// Everything that must hold for a shard that has heard [`SCRIPTS`], whatever happened on the way.
pub fn check(stage: &Stage, what: &str) {
    assert_eq!(stage.heard(0, "requests"), SCRIPTS, "{what}");
    verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap_or_else(|error| panic!("{what}: {error}"));
    let report =
        audit_events(&*stage.journal, &stage.keyring, 0, None, None).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((report.head.sequence, report.repeats, report.accounts), (5, 0, 1), "{what}");
    let manifest = stage.manifest(0);
    assert_eq!((manifest.event_sequence, manifest.event_hash), (5, report.head.hash), "{what}");
    assert_eq!(screens(stage).iter().filter(|(_, ahead)| !ahead).count(), 1, "{what}");
    stage.faults.clear();
    assert!(matches!(stage.run(1), ShardStop::Released));
    assert_eq!(stage.heard(1, "told"), ["hello", "again"], "{what}");
}

/// The screenings asked so far: the id, and whether it is the one that leaves ahead.
fn screens(stage: &Stage) -> Vec<(String, bool)> {
    let open = |entry: &Entry| {
        let record = &entry.record;
        let (_, screen) = stage.keyring.open_message::<Screen>(Topic::ComplianceCommands, record).unwrap();
        (header(record, "ce_id"), screen.sent_count_last_day == 2)
    };
    stage.read(Topic::ComplianceCommands, 0).iter().map(open).collect()
}

#[test]
fn every_input_is_applied_once_whatever_call_fails() {
    let mut tripped = 0;
    for point in [Point::BeginBefore, Point::BeginAfter, Point::CommitBefore, Point::CommitAfter] {
        for fault in [Fault::Unknown, Fault::Aborted, Fault::Fenced] {
            for after in 0..5 {
                let stage = Stage::new();
                SCRIPTS.iter().for_each(|script| stage.put(0, script));
                stage.faults.fail(point, after, fault);
                let again = stage.run_through(0);
                let what = format!("{point:?} {fault:?} after {after}");
                assert_eq!(again, usize::from(!stage.faults.waits()), "{what}");
                tripped += again;
                check(&stage, &what);
            }
        }
    }
    // An acquisition and three transactions; the fifth call never comes.
    assert_eq!(tripped, 4 * 3 * 4);
}

#[test]
fn the_chain_of_manifests_is_dense_over_takeovers() {
    let stage = Stage::new();
    for (at, script) in SCRIPTS.iter().enumerate() {
        stage.put(0, script);
        if at % 2 == 0 {
            stage.faults.fail(Point::CommitAfter, 1, Fault::Unknown);
        }
        stage.run_through(0);
    }
    check(&stage, "six owners");
    let manifests: Vec<_> = stage
        .read(STATE, 0)
        .into_iter()
        .filter(|entry| custos_runtime::shard::is_manifest(&entry.record))
        .map(|entry| custos_runtime::shard::Manifest::read(&entry.record.value.unwrap()).unwrap())
        .collect();
    let numbers: Vec<u64> = manifests.iter().map(|manifest| manifest.transaction).collect();
    assert_eq!(numbers, (1..=u64::try_from(manifests.len()).unwrap()).collect::<Vec<_>>());
    assert!(manifests.windows(2).all(|pair| pair[0].next <= pair[1].next && pair[0].attempt <= pair[1].attempt));
    assert!(manifests.last().unwrap().attempt > 6);
}

#[test]
fn an_aborted_transaction_leaves_no_trace_and_the_overlay_is_dropped() {
    let stage = Stage::new();
    stage.put(0, "event tell:1:hello reply");
    stage.faults.fail(Point::CommitBefore, 1, Fault::Aborted);
    assert!(matches!(stage.run(0), ShardStop::TakeOver(_)));
    assert_eq!(stage.heard(0, "requests"), Vec::<String>::new());
    assert_eq!(stage.read(Topic::Events, 0), []);
    assert_eq!(stage.journal.bounds(crate::stage::INBOX, 1).unwrap().1, 0, "a message left before its commit");
    assert_eq!(stage.run_through(0), 0);
    assert_eq!(stage.heard(0, "requests"), ["event tell:1:hello reply"]);
}

#[test]
fn a_question_leaves_ahead_of_the_commit_and_again_with_the_same_id_after_a_crash() {
    let stage = Stage::new();
    stage.put(0, "order ask");
    stage.faults.fail(Point::CommitBefore, 1, Fault::Aborted);
    assert!(matches!(stage.run(0), ShardStop::TakeOver(_)));
    let first = screens(&stage);
    assert_eq!(first.len(), 1, "the question left, the order did not");
    assert_eq!(stage.run_through(0), 0);
    let ids: Vec<String> = screens(&stage).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == first[0].0));
}

#[test]
fn a_transaction_stays_open_for_the_answer_to_what_it_asked_ahead() {
    let mut stage = Stage::new();
    stage.settings.hold_time = crate::stage::PATIENCE;
    stage.settings.batch_time = crate::stage::PATIENCE;
    stage.put(0, "ask");
    let before = stage.manifest(0);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| stage.run_until(0, |manifest, _| manifest.next >= 2));
        let until = std::time::Instant::now() + crate::stage::PATIENCE;
        while screens(&stage).is_empty() {
            assert!(std::time::Instant::now() < until, "the question did not leave ahead of the commit");
        }
        assert_eq!(stage.manifest(0).next, before.next, "the transaction did not wait for the answer");
        stage.append(crate::stage::INBOX, 0, stage.answer());
        assert!(matches!(run.join().unwrap(), ShardStop::Released));
    });
    let after = stage.manifest(0);
    assert_eq!(after.transaction, before.transaction + 2, "an acquisition, and one transaction for question and answer");
}

#[test]
fn nothing_is_committed_while_a_question_that_it_asked_is_not_durable() {
    let stage = Stage::new();
    stage.put(0, "event ask");
    stage.faults.refuse_appends(Topic::ComplianceCommands, 0, 1);
    assert!(matches!(stage.run(0), ShardStop::TakeOver(_)));
    assert_eq!(stage.heard(0, "requests"), Vec::<String>::new());
    assert_eq!(stage.read(Topic::Events, 0), []);
    assert_eq!(stage.run_through(0), 0);
    assert_eq!((stage.heard(0, "requests").len(), screens(&stage).len()), (1, 1));
}

#[test]
fn switched_off_nothing_leaves_ahead() {
    let stage = Stage::new();
    stage.put(0, "ask");
    let mut batch = custos_runtime::shard::Batch::<Diary>::on(&stage.manifest(0));
    let mut identity = stage.identity(0);
    identity.ahead = false;
    let memory = custos_runtime::shard::Memory::default();
    let entry = stage.read(crate::stage::INBOX, 0).pop().unwrap();
    let time = entry.at.unwrap();
    batch.take(&identity, &memory, entry, time);
    assert_eq!((batch.ahead.len(), batch.outputs.len()), (0, 1));
}

#[test]
fn answers_reach_the_gateway_that_waits_and_one_that_is_not_there_disturbs_nobody() {
    let stage = Stage::new();
    stage.put_for_reply(0, "reply", 99);
    stage.put_for_reply(0, "event reply", 1);
    assert!(matches!(stage.run(0), ShardStop::Released));
    let replies = stage.read(Topic::GatewayReplies, 1);
    let (_, reply) =
        stage.keyring.open_message::<GatewayReply>(Topic::GatewayReplies, &replies.first().unwrap().record).unwrap();
    assert_eq!(reply.correlation, [7; 16]);
    assert!(
        matches!(reply.outcome, Outcome::Accepted { position, .. } if (position.partition, position.sequence) == (0, 1))
    );
    assert_eq!(replies.len(), 1);
}

#[test]
fn a_trace_goes_through_and_does_not_change_what_was_said() {
    let plain = Stage::new();
    let traced = Stage::new();
    plain.put(0, "order");
    let trace = TraceParent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    traced.append(
        crate::stage::INBOX,
        0,
        traced.request("order", Postmark { trace: Some(trace.clone()), ..Postmark::default() }),
    );
    for stage in [&plain, &traced] {
        assert!(matches!(stage.run(0), ShardStop::Released));
    }
    assert_eq!(screens(&plain), screens(&traced));
    let command = traced.read(Topic::ComplianceCommands, 0).pop().unwrap();
    assert_eq!(header(&command.record, "traceparent"), trace.0);
    assert_eq!(plain.manifest(0).last.unwrap().digest, traced.manifest(0).last.unwrap().digest);
}

#[test]
fn an_owner_that_lost_its_shard_can_commit_nothing_more() {
    let mut stage = Stage::new();
    stage.put(0, "event");
    let (tell, told) = channel();
    let journal = Arc::clone(&stage.journal);
    let once = std::sync::Mutex::new(Some(tell));
    stage.settings.interrupt = Some(Arc::new(move |point| {
        if point == "open-transaction"
            && let Some(tell) = once.lock().unwrap().take()
        {
            // Somebody else takes the shard in the middle of the transaction.
            let log = journal.acquire(custos_messages::Machine::Accounts, 0).unwrap();
            tell.send(log).unwrap();
        }
    }));
    assert!(matches!(stage.run(0), ShardStop::Fenced(_)));
    drop(told.recv().unwrap());
    assert_eq!(stage.heard(0, "requests"), Vec::<String>::new());
    assert_eq!(stage.run_through(0), 0);
    assert_eq!(stage.heard(0, "requests"), ["event"]);
}
