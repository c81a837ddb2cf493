//! The embedded log's file, after a crash, a bad disk, or somebody's editor.
//!
//! The first byte of an input says how far it is wrong: `f` a whole file, `t` a tail behind a good log, `b` the body of a frame that
//! carries a true checksum, as only a defect of the writer or an attacker would make it.

use std::path::Path;
use std::time::Duration;

use custos_journal::{EmbeddedJournal, Entry, Journal, JournalError, Provision, Start};
use custos_messages::{Headers, Machine, Record, Topic};

use super::Target;

pub const TARGET: Target = Target { name: "journal", seeds, run, words: WORDS, mutations: 150 };

const WORDS: &[&str] = &["\u{1}\u{a}\0\0\0\0", "\u{2}\u{a}\u{1}\0\0\0", "frame\r\n"];
const FILE_MAGIC: [u8; 8] = *b"CUSTOS\x00\x01";
const FRAME_MAGIC: [u8; 8] = *b"\xC5frame\r\n";
const FRAME_HEADER: usize = 32;
const ALIGNMENT: usize = 8;
const WAIT: Duration = Duration::from_millis(50);

fn seeds() -> Vec<Vec<u8>> {
    let whole = good();
    let tail = &whole[32..];
    let body = &tail[FRAME_HEADER..];
    let length = usize::try_from(u64::from_le_bytes(tail[16..24].try_into().expect("eight bytes"))).expect("a length");
    let second = &body[length..];
    vec![
        [b"f", whole.as_slice()].concat(),
        [b"t", second].concat(),
        [b"b", &body[..length]].concat(),
        [b"b", second.get(FRAME_HEADER..).unwrap_or_default()].concat(),
    ]
}

/// A log with two records, as the product writes it, without the zeros behind it.
fn good() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = EmbeddedJournal::open(folder.path()).expect("a new log");
    let provision = Provision { partitions: 1, gateways: 1, replication: 1 };
    assert!(journal.provision(&provision).expect("topics").is_empty());
    let appender = journal.appender().expect("the log");
    for value in [Some(b"value".to_vec()), None] {
        let record = Record { key: b"key".to_vec(), value, headers: Headers::from([("ce_type", "x")]) };
        appender.append(Topic::Inbox(Machine::Accounts), 0, record).expect("the log takes it");
    }
    drop((appender, journal));
    let mut bytes = std::fs::read(folder.path().join(FILE)).expect("the log was written");
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end.next_multiple_of(ALIGNMENT));
    bytes
}

const FILE: &str = "journal.log";

fn run(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind {
        b'f' => tried(rest, &[]),
        b't' => {
            let good = good();
            let known = opened(&good).expect("a good log is opened");
            tried(&[good.as_slice(), rest].concat(), &known);
        }
        b'b' => tried(&framed(rest), &[]),
        _ => {}
    }
}

/// A log of one frame with this body.
fn framed(body: &[u8]) -> Vec<u8> {
    let name = [7; 16];
    let mut file = [&FILE_MAGIC[..], &name].concat();
    file.extend(digest(&[&FILE_MAGIC, &name]));
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
    let (place, length) = (wide(file.len()).to_le_bytes(), wide(body.len()).to_le_bytes());
    file.extend(FRAME_MAGIC);
    file.extend(digest(&[&place, &length, &place, &body]));
    file.extend(length);
    file.extend(place);
    file.extend(body);
    file
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn digest(parts: &[&[u8]]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut sum = [0; 8];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// What the log holds begins with `known`; it holds the same when it is opened again; a refused log is left as it is.
fn tried(file: &[u8], known: &[Entry]) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(FILE), file).expect("the log can be written");
    match contents(folder.path()) {
        Ok(held) => {
            assert!(held.starts_with(known), "what was durable is still there");
            let again = contents(folder.path()).expect("a log that was opened is opened again");
            assert_eq!(again, held, "opening changes nothing twice");
        }
        Err(JournalError::Misconfigured(problem)) => {
            assert!(!problem.is_empty());
            assert_eq!(
                std::fs::read(folder.path().join(FILE)).expect("it is there"),
                file,
                "what is refused is left as it is"
            );
        }
        // An intact frame whose items contradict each other.
        Err(JournalError::Store { .. }) => {
            assert_eq!(
                std::fs::read(folder.path().join(FILE)).expect("it is there"),
                file,
                "what is refused is left as it is"
            );
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn opened(file: &[u8]) -> Result<Vec<Entry>, JournalError> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(FILE), file).expect("the log can be written");
    contents(folder.path())
}

fn contents(folder: &Path) -> Result<Vec<Entry>, JournalError> {
    let journal = EmbeddedJournal::open(folder)?;
    let mut held = Vec::new();
    for topic in Topic::ALL {
        let partitions = match journal.partitions(topic) {
            Ok(partitions) => partitions.min(4),
            Err(_) => continue,
        };
        for partition in 0..partitions {
            let (first, end) = journal.bounds(topic, partition)?;
            assert!(first <= end);
            let mut feed = journal.read(topic, partition, Start::Earliest)?;
            let mut next = first;
            while next < end {
                let entries = feed.poll(1_000, WAIT)?;
                assert!(!entries.is_empty(), "{}/{partition} ends at {next} and not at {end}", topic.name());
                next = entries.last().map_or(end, |entry| entry.offset.saturating_add(1));
                held.extend(entries);
            }
        }
    }
    Ok(held)
}
