//! A record is acted upon only if its source sealed it, for this topic, and may say it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;

use custos_domain::{AccountId, BlockHash, BlockRef, ChainId, Digest, IdempotencyKey, TenantId, Timestamp};
use custos_messages::accounts::{AccountsInput, OpenAccount};
use custos_messages::chain::{BlockReport, ChainInput};
use custos_messages::events::{Event, EventBody};
use custos_messages::{
    Chained, Keyring, MAX_MESSAGE_BYTES, Machine, Mail, Message, Postmark, Record, Secret, Source, TimerDue, Topic,
    TraceParent,
};

const INBOX: Topic = Topic::Inbox(Machine::Accounts);

fn keyring() -> Keyring {
    let secret = |source: &Source| Secret::new(&Digest::of(source.name().as_bytes()).0).unwrap();
    Keyring::new(Source::ALL.iter().map(|source| (*source, secret(source))).collect())
}

fn request() -> AccountsInput {
    let tenant = TenantId::new("alpha").unwrap();
    let account = AccountId::derive(&tenant, "client-1");
    AccountsInput::OpenAccount(OpenAccount { tenant, account, key: IdempotencyKey::new("client-1").unwrap() })
}

fn sealed() -> Record {
    let mark = Postmark { trace: Some(TraceParent("00-a-b-01".to_owned())), ..Postmark::default() };
    Mail::Accounts(request()).seal(&keyring(), Source::Gateway, mark)
}

fn code(topic: Topic, record: &Record) -> &'static str {
    match keyring().open_message::<AccountsInput>(topic, record) {
        Ok(_) => "opened",
        Err(rejection) => rejection.code(),
    }
}

fn edited(edit: impl FnOnce(&mut Record)) -> Record {
    let mut record = sealed();
    edit(&mut record);
    record
}

fn set(record: &mut Record, name: &str, value: &[u8]) {
    let headers = record.headers.iter();
    record.headers = headers.map(|(known, held)| (known, if known == name { value } else { held })).collect();
}

#[test]
fn what_a_source_sealed_is_opened_with_its_envelope() {
    let (envelope, message) = keyring().open_message::<AccountsInput>(INBOX, &sealed()).unwrap();
    assert_eq!(message, request());
    assert_eq!((envelope.source, envelope.id), (Source::Gateway, request().id()));
}

#[test]
fn every_change_but_of_the_trace_breaks_the_seal() {
    let cases: [(&str, Record, &str); 9] = [
        ("untouched", sealed(), "opened"),
        ("other trace", edited(|r| set(r, "traceparent", b"00-c-d-00")), "opened"),
        ("other key", edited(|r| r.key.push(0)), "unauthenticated"),
        ("other value", edited(|r| r.value = Some(Vec::new())), "unauthenticated"),
        ("no value", edited(|r| r.value = None), "unauthenticated"),
        ("other subject", edited(|r| set(r, "ce_subject", b"somebody")), "unauthenticated"),
        ("other source", edited(|r| set(r, "ce_source", b"custos/operator")), "unauthenticated"),
        ("a link", edited(|r| r.headers.push("custos_link", b"chain/0>accounts/0;1")), "unauthenticated"),
        ("no seal", edited(|r| r.headers.retain(|name, _| name != "custos_auth")), "unauthenticated"),
    ];
    for (what, record, expected) in cases {
        assert_eq!(code(INBOX, &record), expected, "{what}");
    }
    assert_eq!(
        code(Topic::Inbox(Machine::Chain), &sealed()),
        "unauthenticated",
        "a record cannot be moved to another topic"
    );
}

#[test]
fn each_kind_of_defect_has_its_own_code() {
    let ring = keyring();
    let wrong_speaker = ring.seal_message(INBOX, Source::Wallet, &request(), Postmark::default());
    let block = ChainInput::Block(Box::new(BlockReport {
        node: custos_domain::NodeName::new("a").unwrap(),
        chain: ChainId::eip155(31337),
        block: BlockRef { number: 1, hash: BlockHash([1; 32]) },
        parent: BlockHash([0; 32]),
        time: Timestamp(1),
        transfers: Vec::new(),
        spends: Vec::new(),
    }));
    let wrong_stream = ring.seal_message(INBOX, Source::Blockchain, &block, Postmark::default());
    assert_eq!(code(INBOX, &wrong_speaker), "not-allowed");
    assert_eq!(code(INBOX, &wrong_stream), "undecodable");
    assert_eq!(code(INBOX, &Record::default()), "malformed-envelope");
    assert_eq!(code(INBOX, &edited(|r| r.value = Some(vec![0; MAX_MESSAGE_BYTES]))), "oversized");
}

#[test]
fn a_machine_says_timers_to_itself_only() {
    let ring = keyring();
    let timer = TimerDue { timer: vec![1], due: Timestamp(5) };
    let own = ring.seal_message(INBOX, Source::Accounts, &timer, Postmark::default());
    let foreign = ring.seal_message(INBOX, Source::Treasury, &timer, Postmark::default());
    assert_eq!(ring.open_message::<TimerDue>(INBOX, &own).unwrap().1, timer);
    assert_eq!(ring.open(INBOX, &foreign).unwrap_err().code(), "not-allowed");
}

#[test]
fn without_a_secret_nothing_is_sealed_and_nothing_opened_and_rotation_opens_both() {
    let empty = Keyring::new(BTreeMap::new());
    let unsealed = empty.seal_message(INBOX, Source::Gateway, &request(), Postmark::default());
    assert_eq!(code(INBOX, &unsealed), "unauthenticated");
    assert!(empty.open(INBOX, &sealed()).is_err());
    let new = Secret::new(&[7; 32]).unwrap();
    let next = Keyring::new(BTreeMap::from([(Source::Gateway, new.clone())]));
    let record = next.seal_message(INBOX, Source::Gateway, &request(), Postmark::default());
    assert_eq!(code(INBOX, &record), "unauthenticated");
    assert!(keyring().accepting(Source::Gateway, new).open(INBOX, &record).is_ok());
}

#[test]
fn an_event_carries_its_place_and_a_changed_one_breaks_the_chain() {
    let tenant = TenantId::new("alpha").unwrap();
    let event = Event {
        account: AccountId::derive(&tenant, "client-1"),
        sequence: 1,
        at: Timestamp(42),
        saga: None,
        body: EventBody::AccountOpened { tenant, key: IdempotencyKey::new("client-1").unwrap() },
    };
    let place = Chained::place(&event, 3, 1, Chained::GENESIS);
    let record = keyring().seal_event(&event, &place, None);
    let (envelope, read) = keyring().open_message::<Event>(Topic::Events, &record).unwrap();
    assert_eq!((read, envelope.time), (event, Some(Timestamp(42))));
    assert_eq!(Chained::read(&record), Ok(place));
    assert!(place.holds(3, &envelope.kind, &record));
    assert!(!place.holds(2, &envelope.kind, &record));
    assert!(!place.holds(3, "custos.books.marked.v1", &record));
    assert!(!place.holds(3, &envelope.kind, &Record { value: Some(Vec::new()), ..record }));
}
