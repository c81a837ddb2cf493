//! The audit finds every change to the event log, and a trusted head finds even those of somebody who has the keys.

use custos_domain::{Digest, Timestamp};
use custos_journal::Entry;
use custos_messages::events::Event;
use custos_messages::{Chained, Headers, Record, Topic};
use custos_runtime::audit::{AuditFinding, AuditReport, Head, audit_events, audit_records, heads};
use custos_runtime::shard::ShardStop;

use crate::stage::{Stage, header};

const EVENTS: u64 = 12;

struct Copy {
    stage: Stage,
    entries: Vec<Entry>,
}

/// The event log of a shard with [`EVENTS`] events, as a copy that may be tampered with.
fn copy() -> Copy {
    let stage = Stage::new();
    (0..EVENTS).for_each(|_| stage.put(0, "event"));
    assert!(matches!(stage.run(0), ShardStop::Released));
    let entries = stage.read(Topic::Events, 0);
    Copy { stage, entries }
}

impl Copy {
    fn audit(&self, trusted: Option<Head>) -> Result<AuditReport, AuditFinding> {
        audit_records(self.entries.iter().cloned(), &self.stage.keyring, 0, trusted)
    }

    fn found(&self) -> AuditFinding {
        self.audit(None).unwrap_err()
    }

    /// Offsets as a log would give them.
    fn renumber(&mut self) {
        (0..).zip(&mut self.entries).for_each(|(offset, entry)| entry.offset = offset);
    }

    fn event(&self, at: usize) -> (Event, Chained) {
        let record = &self.entries[at].record;
        let (_, event) = self.stage.keyring.open_message::<Event>(Topic::Events, record).unwrap();
        (event, Chained::read(record).unwrap())
    }

    /// What somebody does who has the keys and the log: writes the events `from` on again, chained and sealed anew.
    fn forge(&mut self, change: impl Fn(&mut Vec<Event>)) {
        let mut events: Vec<Event> = (0..self.entries.len()).map(|at| self.event(at).0).collect();
        change(&mut events);
        let mut previous = Chained::GENESIS;
        let sealed = (1..).zip(&events).map(|(sequence, event)| {
            let place = Chained::place(event, 0, sequence, previous);
            previous = place.hash;
            let record = self.stage.keyring.seal_event(event, &place, None);
            Entry { partition: 0, offset: sequence - 1, at: Some(event.at), record }
        });
        self.entries = sealed.collect();
    }
}

#[test]
fn an_untouched_log_is_proven_and_its_head_can_be_written_down() {
    let copy = copy();
    let report = audit_events(&*copy.stage.journal, &copy.stage.keyring, 0, None, None).unwrap();
    assert_eq!((report.head.sequence, report.repeats, report.accounts, report.trusted), (EVENTS, 0, 1, None));
    assert_eq!(copy.audit(None).unwrap(), report);
    let written = report.head.to_string();
    assert_eq!(written, format!("0:12:{}", hex::encode(report.head.hash.0)));
    let trusted: Head = written.parse().unwrap();
    assert_eq!(copy.audit(Some(trusted)).unwrap().trusted, Some(trusted));
    let empty = Head { partition: 1, sequence: 0, hash: Chained::GENESIS };
    assert_eq!(heads(&*copy.stage.journal).unwrap(), [report.head, empty]);
    // The log grows: the head that was trusted is still in it.
    copy.stage.put(0, "event");
    assert!(matches!(copy.stage.run(0), ShardStop::Released));
    let report = audit_events(&*copy.stage.journal, &copy.stage.keyring, 0, Some(trusted), None).unwrap();
    assert_eq!(report.head.sequence, EVENTS + 1);
}

#[test]
fn a_head_is_written_in_one_way() {
    for wrong in ["", "0", "0:1", "0:1:00", "x:1:00", "0:-1:00", "0:1:zz", &format!("0:1:{}", "0".repeat(66))] {
        assert!(wrong.parse::<Head>().is_err(), "{wrong}");
    }
    assert!(format!(" 3:17:{}\n", "0a".repeat(32)).parse::<Head>().is_ok());
}

#[test]
fn an_altered_record_is_found() {
    let cases: [fn(&mut Record); 4] = [
        |record| *record.value.as_mut().unwrap().last_mut().unwrap() ^= 1,
        |record| record.key.push(0),
        |record| record.headers.retain(|name, _| name != "custos_auth"),
        |record| {
            let mut hash = record.headers.get("custos_hash").unwrap().to_vec();
            hash[0] = if hash[0] == b'f' { b'0' } else { b'f' };
            let headers = record.headers.iter();
            record.headers =
                headers.map(|(name, value)| (name, if name == "custos_hash" { hash.as_slice() } else { value })).collect();
        },
    ];
    for change in cases {
        let mut copy = copy();
        change(&mut copy.entries[5].record);
        assert!(matches!(copy.found(), AuditFinding::Unsealed { offset: 5, .. }));
    }
}

#[test]
fn what_somebody_without_the_keys_put_in_between_is_counted_and_the_chain_is_proven_around_it() {
    let mut copy = copy();
    let (mut sealed_for_elsewhere, mut unsealed) = (copy.entries[7].clone(), copy.entries[5].clone());
    let (event, place) = copy.event(7);
    let elsewhere = Chained::place(&event, 1, place.sequence, place.previous);
    sealed_for_elsewhere.record = copy.stage.keyring.seal_event(&event, &elsewhere, None);
    unsealed.record.headers.clear();
    copy.entries.insert(5, unsealed.clone());
    copy.entries.insert(2, sealed_for_elsewhere);
    copy.renumber();
    let report = copy.audit(None).unwrap();
    assert_eq!((report.head.sequence, report.foreign, report.repeats), (EVENTS, 2, 0));
    // At the end it may be what somebody made of the last event; the shard's state tells.
    copy.entries.push(unsealed);
    copy.renumber();
    assert!(matches!(copy.found(), AuditFinding::Unsealed { .. }));
}

#[test]
fn an_event_log_that_is_not_what_the_shards_state_says_is_found() {
    let stage = copy().stage;
    let audit = |shard| audit_events(&*stage.journal, &stage.keyring, 0, None, Some(shard));
    let head = audit_events(&*stage.journal, &stage.keyring, 0, None, None).unwrap().head;
    assert_eq!(audit(head).unwrap().head, head);
    let other = Head { hash: Digest([1; 32]), ..head };
    assert!(matches!(audit(other), Err(AuditFinding::OtherThanShard { shard, .. }) if shard == other));
    let more = Head { sequence: EVENTS + 1, ..head };
    assert!(matches!(audit(more), Err(AuditFinding::ShortOfShard { last: EVENTS, .. })));
    let noise = Record { key: b"k".to_vec(), value: Some(vec![7]), headers: Headers::new() };
    stage.append(Topic::Events, 0, noise);
    assert_eq!(audit(head).unwrap().foreign, 1);
    assert!(matches!(audit(more), Err(AuditFinding::Unsealed { .. })), "the event that is missing may be what was altered");
}

#[test]
fn a_removed_record_is_found() {
    for at in [0, 5] {
        let mut copy = copy();
        copy.entries.remove(at);
        copy.renumber();
        let expected = u64::try_from(at).unwrap() + 1;
        let found = copy.found();
        assert!(
            matches!(found, AuditFinding::Missing { expected: next, found, .. } if next == expected && found == next + 1)
        );
    }
}

#[test]
fn records_in_another_order_are_found() {
    let mut copy = copy();
    copy.entries.swap(4, 5);
    assert!(matches!(copy.found(), AuditFinding::Misplaced { .. } | AuditFinding::Missing { .. }));
    copy.renumber();
    assert!(matches!(copy.found(), AuditFinding::Missing { offset: 4, expected: 5, found: 6 }));
    let mut other = self::copy();
    other.entries[3].partition = 1;
    assert!(matches!(other.found(), AuditFinding::Misplaced { offset: 3, .. }));
}

#[test]
fn an_inserted_record_is_found_even_if_it_is_sealed() {
    let mut copy = copy();
    let (mut event, place) = copy.event(5);
    event.at = Timestamp(1);
    let forged = Chained::place(&event, 0, place.sequence, place.previous);
    let record = copy.stage.keyring.seal_event(&event, &forged, None);
    copy.entries.insert(6, Entry { record, ..copy.entries[5].clone() });
    copy.renumber();
    assert!(matches!(copy.found(), AuditFinding::Second { offset: 6, sequence: 6 }));
    // In its place instead: the next one no longer follows.
    copy.entries.remove(5);
    copy.renumber();
    assert!(matches!(copy.found(), AuditFinding::Unchained { offset: 6, sequence: 7 }));
}

#[test]
fn a_sealed_event_with_a_false_hash_or_header_is_found() {
    let mut copy = copy();
    let (event, place) = copy.event(5);
    let false_place = Chained { hash: Digest([1; 32]), ..place };
    copy.entries[5].record = copy.stage.keyring.seal_event(&event, &false_place, None);
    assert!(matches!(copy.found(), AuditFinding::Altered { offset: 5, sequence: 6 }));
    let mut other = self::copy();
    let original = &other.entries[5].record;
    let mut envelope = other.stage.keyring.open(Topic::Events, original).unwrap();
    envelope.time = Some(Timestamp(1));
    let mut record = other.stage.keyring.seal(&envelope, Topic::Events, original.key.clone(), original.value.clone());
    record.headers.retain(|name, _| name != "custos_auth");
    assert_eq!(header(&record, "ce_time"), "1970-01-01T00:00:00.001Z");
    // The chain's headers are part of the seal, so this is refused as unsealed before its time is looked at.
    other.entries[5].record = record;
    assert!(matches!(other.found(), AuditFinding::Unsealed { offset: 5, .. }));
}

#[test]
fn an_event_that_a_torn_transaction_said_twice_is_counted_and_harmless() {
    let mut copy = copy();
    let again: Vec<Entry> = copy.entries[6..].to_vec();
    copy.entries.extend(again);
    copy.renumber();
    assert_eq!(copy.audit(None).unwrap().repeats, 6);
}

#[test]
fn an_account_whose_own_sequence_has_a_hole_is_found() {
    let mut copy = copy();
    copy.forge(|events| drop(events.remove(5)));
    assert!(matches!(copy.found(), AuditFinding::Account { offset: 5, expected: 6, found: 7, .. }));
}

/// The head of the untouched log, and of its middle.
fn trusted(copy: &Copy, at: usize) -> Head {
    let (_, place) = copy.event(at);
    Head { partition: 0, sequence: place.sequence, hash: place.hash }
}

#[test]
fn a_tail_that_was_cut_off_is_found_by_the_trusted_head_alone() {
    let mut copy = copy();
    let head = trusted(&copy, 11);
    copy.entries.truncate(9);
    assert!(copy.audit(None).is_ok(), "the chain in itself holds");
    assert!(matches!(copy.audit(Some(head)), Err(AuditFinding::CutOff { last: 9, .. })));
    copy.entries.clear();
    assert!(matches!(copy.audit(Some(head)), Err(AuditFinding::CutOff { last: 0, .. })));
}

#[test]
fn history_rewritten_with_the_keys_is_found_by_the_trusted_head() {
    let renumber = |events: &mut Vec<Event>| (1..).zip(events).for_each(|(sequence, event)| event.sequence = sequence);
    type Change<'a> = &'a dyn Fn(&mut Vec<Event>);
    let cases: [(&str, Change<'_>); 4] = [
        ("altered", &|events| events[3].at = Timestamp(1)),
        ("removed", &|events| {
            events.remove(3);
            renumber(events);
        }),
        ("inserted", &|events| {
            events.insert(3, events[4].clone());
            renumber(events);
        }),
        ("reordered", &|events| {
            let (a, b) = (events[3].body.clone(), events[4].body.clone());
            (events[3].body, events[4].body) = (b, a);
        }),
    ];
    for (what, change) in cases {
        let mut copy = copy();
        let (before, middle) = (trusted(&copy, 2), trusted(&copy, 8));
        copy.forge(change);
        assert!(copy.audit(None).is_ok(), "{what}: the forged chain in itself holds");
        assert!(copy.audit(Some(before)).is_ok(), "{what}: what came before is what it was");
        let found = copy.audit(Some(middle)).unwrap_err();
        assert!(matches!(found, AuditFinding::Rewritten { offset: 8, trusted, .. } if trusted == middle), "{what}: {found}");
    }
}

#[test]
fn a_head_of_another_partition_is_refused() {
    let copy = copy();
    let head = Head { partition: 1, ..trusted(&copy, 3) };
    assert!(matches!(copy.audit(Some(head)), Err(AuditFinding::OtherPartition { expected: 0, found: 1 })));
}
