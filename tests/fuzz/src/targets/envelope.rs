//! A record of the log, headers and all, as anybody with rights on a topic may write it.

use std::sync::OnceLock;

use custos_domain::Timestamp;
use custos_messages::accounts::AccountsInput;
use custos_messages::events::{Event, EventBody};
use custos_messages::{
    Chained, Envelope, Keyring, Link, Machine, Postmark, Record, ReplyTo, ShardName, Source, Topic, TraceParent,
};
use custos_testkit as kit;

use super::Target;
use crate::{join, split};

pub const TARGET: Target = Target { name: "envelope", seeds, run, words: WORDS, mutations: 4_000 };

const WORDS: &[&str] = &[
    "custos/gateway",
    "custos_auth",
    "custos_link",
    "accounts/0>treasury/1;1",
    "ce_time",
    "2026-09-21T14:13:20.042Z",
    "2026-09-21T14:13:60.042Z",
    "+010000-01-01T00:00:00.000Z",
    "1.0",
    "\u{0}",
];

fn seeds() -> Vec<Vec<u8>> {
    let open = AccountsInput::OpenAccount(custos_messages::accounts::OpenAccount {
        tenant: kit::tenant(),
        account: kit::account("client"),
        key: kit::key("client"),
    });
    let shard = |machine, partition| ShardName { machine, partition };
    let mark = Postmark {
        time: Some(Timestamp(1_790_000_000_042)),
        link: Some(Link { from: shard(Machine::Accounts, 0), to: shard(Machine::Treasury, 1), sequence: 17 }),
        reply_to: Some(ReplyTo { instance: 2, correlation: [9; 16] }),
        trace: Some(TraceParent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned())),
    };
    let inbox = Topic::Inbox(Machine::Accounts);
    let event = Event {
        account: kit::account("client"),
        sequence: 1,
        at: Timestamp(1_790_000_000_042),
        saga: None,
        body: EventBody::AccountOpened { tenant: kit::tenant(), key: kit::key("client") },
    };
    let place = Chained::place(&event, 0, 1, Chained::GENESIS);
    let records = [
        kit::keyring().seal_message(inbox, Source::Gateway, &open, Postmark::default()),
        kit::keyring().seal_message(inbox, Source::Gateway, &open, mark),
        kit::keyring().seal_event(&event, &place, None),
    ];
    records.iter().map(write).collect()
}

fn write(record: &Record) -> Vec<u8> {
    let mut parts = vec![record.key.clone(), record.value.clone().unwrap_or_default()];
    parts.extend(record.headers.iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.to_vec()]));
    join(&parts)
}

fn run(input: &[u8]) {
    let parts = split(input);
    let part = |at: usize| parts.get(at).copied().unwrap_or_default().to_vec();
    let headers = parts.get(2..).unwrap_or_default().chunks_exact(2);
    let headers = headers.filter_map(|pair| Some((std::str::from_utf8(pair.first()?).ok()?, pair.get(1)?)));
    let record = Record { key: part(0), value: Some(part(1)), headers: headers.collect() };
    if let Ok(envelope) = Envelope::read(&record) {
        // What is accepted is exactly what would have been written.
        for (name, value) in &envelope.headers() {
            let held: Vec<&[u8]> = record.headers.iter().filter(|(known, _)| *known == name).map(|(_, held)| held).collect();
            assert_eq!(held, [value], "{name}");
        }
        let again = Record { headers: envelope.headers(), ..record.clone() };
        assert_eq!(Envelope::read(&again), Ok(envelope));
    }
    if let Ok(place) = Chained::read(&record) {
        let kind = record.headers.get("ce_type").map(String::from_utf8_lossy).unwrap_or_default();
        // A place is of one partition alone.
        assert!(!(place.holds(0, &kind, &record) && place.holds(1, &kind, &record)));
    }
    static KEYRING: OnceLock<Keyring> = OnceLock::new();
    let known = KEYRING.get_or_init(kit::keyring);
    for topic in Topic::ALL {
        match known.open(topic, &record) {
            Ok(envelope) => assert!(envelope.source.may_say(&envelope.kind)),
            Err(rejection) => assert!(CODES.contains(&rejection.code()), "{}", rejection.code()),
        }
    }
}

/// The names under which records are refused: they stand in metrics and in quarantine, and do not change.
pub const CODES: [&str; 5] = ["oversized", "malformed-envelope", "unauthenticated", "not-allowed", "undecodable"];
