//! What cannot be acted upon is put aside in the transaction that moves past it, and the shard goes on.

use custos_messages::{
    Headers, Keyring, Link, MAX_MESSAGE_BYTES, Machine, Mail, Postmark, Record, ShardName, Source, Topic,
};
use custos_runtime::replay::verify;
use custos_runtime::shard::ShardStop;

use crate::stage::diary::{Diary, told};
use crate::stage::{INBOX, PARTITIONS, Stage, header, shard};

fn link(from: Machine, to: ShardName) -> Postmark {
    let link = Link { from: ShardName { machine: from, partition: 0 }, to, sequence: 1 };
    Postmark { link: Some(link), ..Postmark::default() }
}

/// Every kind of poison, with the code under which it is put aside.
fn poisons(stage: &Stage) -> Vec<(Record, &'static str)> {
    let raw = |bytes: usize| Record { key: b"k".to_vec(), value: Some(vec![7; bytes]), headers: Headers::new() };
    let good = stage.request("x", Postmark::default());
    let spoilt = |change: &dyn Fn(&mut Record)| {
        let mut record = good.clone();
        change(&mut record);
        record
    };
    let stranger = Keyring::default().accepting(Source::Gateway, custos_testkit::secret(Source::Wallet));
    let alarm = Mail::Accounts(told("forged"));
    let envelope = stage.keyring.open(INBOX, &good).unwrap();
    vec![
        (raw(3), "malformed-envelope"),
        (raw(MAX_MESSAGE_BYTES), "oversized"),
        (raw(999_990), "oversized"),
        (spoilt(&|record| record.value = Some(vec![1])), "unauthenticated"),
        (spoilt(&|record| record.headers.retain(|name, _| name != "custos_auth")), "unauthenticated"),
        (stranger.seal_message(INBOX, Source::Gateway, &told("x"), Postmark::default()), "unauthenticated"),
        (stage.keyring.seal_message(INBOX, Source::Compliance, &told("x"), Postmark::default()), "not-allowed"),
        (stage.keyring.seal(&envelope, INBOX, good.key.clone(), Some(vec![0xff; 9])), "undecodable"),
        (alarm.seal(&stage.keyring, Source::Accounts, link(Machine::Accounts, shard(1))), "misrouted"),
        (alarm.seal(&stage.keyring, Source::Treasury, link(Machine::Accounts, shard(0))), "foreign-link"),
        (stage.request("x", link(Machine::Treasury, shard(0))), "foreign-link"),
    ]
}

#[test]
fn every_poison_is_put_aside_by_its_code_and_the_shard_goes_on() {
    let mut stage = Stage::new();
    stage.settings.batch_records = 1_000;
    let poisons = poisons(&stage);
    stage.put(0, "first");
    poisons.iter().for_each(|(record, _)| stage.append(INBOX, 0, record.clone()));
    stage.put(0, "last");
    assert!(matches!(stage.run(0), ShardStop::Released));
    assert_eq!(stage.heard(0, "requests"), ["first", "last"]);
    assert_eq!(stage.heard(0, "told"), Vec::<String>::new());
    let expected: Vec<&str> = poisons.iter().map(|(_, code)| *code).collect();
    assert_eq!(stage.quarantined(0), expected);
    // One transaction holds them and moves past them.
    let commits = stage.faults.commits();
    let counts: Vec<usize> =
        commits.iter().map(|commit| commit.outputs.iter().filter(|(to, _)| *to == Topic::Quarantine).count()).collect();
    assert_eq!(counts, [0, 0, 0, poisons.len()], "two provisionings, one acquisition, one transaction");
    verify::<Diary>(&*stage.journal, &stage.keyring, 0, PARTITIONS).unwrap();
}

#[test]
fn a_request_repeated_in_the_partition_of_another_shard_is_not_acted_upon_there() {
    let stage = Stage::new();
    stage.put(0, "once");
    let entries = stage.read(INBOX, 0);
    entries.into_iter().for_each(|entry| stage.append(INBOX, 1, entry.record));
    stage.put(1, "its own");
    for partition in 0..PARTITIONS {
        assert!(matches!(stage.run(partition), ShardStop::Released));
    }
    assert_eq!(
        (stage.heard(0, "requests"), stage.heard(1, "requests")),
        (vec!["once".to_owned()], vec!["its own".to_owned()])
    );
    assert_eq!((stage.quarantined(0), stage.quarantined(1)), (Vec::new(), vec!["misrouted".to_owned()]));
}

#[test]
fn a_record_in_quarantine_says_where_it_came_from_and_is_unchanged_unless_it_is_too_large() {
    let stage = Stage::new();
    let small = Record { key: b"k".to_vec(), value: Some(vec![7; 9]), headers: Headers::from([("h", b"\x01")]) };
    let large = Record { value: Some(vec![7; 900_000]), ..small.clone() };
    stage.append(INBOX, 0, small.clone());
    stage.append(INBOX, 0, large);
    assert!(matches!(stage.run(0), ShardStop::Released));
    let aside = stage.read(Topic::Quarantine, 0);
    assert_eq!((&aside[0].record.key, &aside[0].record.value), (&small.key, &small.value));
    assert_eq!(aside[0].record.headers.iter().next(), small.headers.iter().next());
    for (entry, offset) in aside.iter().zip(["0", "1"]) {
        assert_eq!(header(&entry.record, "custos_quarantine_topic"), "custos.accounts.inbox.v1");
        assert_eq!(header(&entry.record, "custos_quarantine_partition"), "0");
        assert_eq!(header(&entry.record, "custos_quarantine_offset"), offset);
        assert_ne!(header(&entry.record, "custos_quarantine_reason"), "");
    }
    assert_eq!(header(&aside[1].record, "custos_quarantine_bytes"), "900003");
    assert!(aside[1].record.value.as_ref().unwrap().len() < MAX_MESSAGE_BYTES);
}

#[test]
fn a_link_borrowed_by_another_source_uses_up_no_number() {
    let stage = Stage::new();
    stage.append(INBOX, 0, stage.request("thief", link(Machine::Accounts, shard(0))));
    stage.append(
        INBOX,
        0,
        Mail::Accounts(told("owner")).seal(&stage.keyring, Source::Accounts, link(Machine::Accounts, shard(0))),
    );
    assert!(matches!(stage.run(0), ShardStop::Released));
    assert_eq!(stage.heard(0, "told"), ["owner"]);
    assert_eq!(stage.quarantined(0), ["foreign-link"]);
}
