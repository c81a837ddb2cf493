//! A copy of the log, which a test may tamper with before it is audited: whatever the installation's log is, the copy is written as
//! an embedded log's file, byte for byte in the format of `custos-journal`, with the original's times.
//!
//! It holds the topics that an audit reads. Offsets are dense in such a file, while a cluster's have holes where transactions
//! ended; a shard names places of its inbox alone, and nobody writes there in transactions.

use std::path::Path;

use anyhow::{Context, ensure};
use custos_journal::Entry;
use custos_messages::{Machine, Topic};

use crate::hand::Hand;

const FILE_MAGIC: [u8; 8] = *b"CUSTOS\x00\x01";
const FRAME_MAGIC: [u8; 8] = *b"\xC5frame\r\n";
const RECORD: u8 = 1;
const TOPIC: u8 = 2;
const NAME: [u8; 16] = *b"a tampered copy.";
/// What frames are padded to.
const ALIGNMENT: usize = 8;
const RECORDS_IN_FRAME: usize = 100;

/// What stood in the log, by topic and partition.
#[derive(Clone, Debug)]
pub struct LogCopy {
    parts: Vec<(Topic, u32, Vec<Entry>)>,
}

impl LogCopy {
    /// Reads everything that an audit reads.
    ///
    /// # Errors
    /// The log does not answer, or an inbox has a hole.
    pub fn of(hand: &Hand) -> anyhow::Result<Self> {
        let machines = [Machine::Accounts, Machine::Treasury, Machine::Chain];
        let topics = machines.into_iter().flat_map(|machine| [Topic::State(machine), Topic::Inbox(machine)]);
        let mut parts = Vec::new();
        for topic in topics.chain([Topic::Events]) {
            for partition in 0..hand.partitions(topic)? {
                let entries = hand.read(topic, partition, 0)?;
                let dense = (0..).zip(&entries).all(|(offset, entry): (u64, _)| entry.offset == offset);
                ensure!(dense || !matches!(topic, Topic::Inbox(_)), "{}/{partition} has a hole", topic.name());
                parts.push((topic, partition, entries));
            }
        }
        Ok(Self { parts })
    }

    /// The records of a partition, in order.
    ///
    /// # Errors
    /// No such partition is copied.
    pub fn records(&mut self, topic: Topic, partition: u32) -> anyhow::Result<&mut Vec<Entry>> {
        let found = self.parts.iter_mut().find(|part| (part.0, part.1) == (topic, partition));
        found.map(|part| &mut part.2).with_context(|| format!("no {}/{partition}", topic.name()))
    }

    /// Writes the copy as the embedded log in `folder`. Offsets are given anew, as a log would.
    ///
    /// # Errors
    /// The disk fails.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let mut file = FILE_MAGIC.to_vec();
        file.extend(NAME);
        file.extend(digest(&[&FILE_MAGIC, &NAME]));
        let mut topics = Vec::new();
        for (topic, partition, _) in &self.parts {
            // The last partition of a topic is named last, and so the topic's number of them.
            push_place(&mut topics, TOPIC, *topic, partition.saturating_add(1))?;
        }
        push_frame(&mut file, topics)?;
        for (topic, partition, entries) in &self.parts {
            let placed: Vec<(u64, &Entry)> = (0..).zip(entries).collect();
            for some in placed.chunks(RECORDS_IN_FRAME) {
                let mut body = Vec::new();
                for (offset, entry) in some {
                    push_place(&mut body, RECORD, *topic, *partition)?;
                    push_record(&mut body, *offset, entry)?;
                }
                push_frame(&mut file, body)?;
            }
        }
        std::fs::create_dir_all(folder)?;
        Ok(std::fs::write(folder.join("journal.log"), file)?)
    }
}

fn push_frame(file: &mut Vec<u8>, mut body: Vec<u8>) -> anyhow::Result<()> {
    body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
    let place = u64::try_from(file.len())?.to_le_bytes();
    let length = u64::try_from(body.len())?.to_le_bytes();
    file.extend(FRAME_MAGIC);
    file.extend(digest(&[&place, &length, &place, &body]));
    file.extend(length);
    // Everything before it is durable.
    file.extend(place);
    file.extend(body);
    Ok(())
}

fn push_place(body: &mut Vec<u8>, kind: u8, topic: Topic, partition: u32) -> anyhow::Result<()> {
    let number = Topic::ALL.iter().position(|known| *known == topic).context("an unknown topic")?;
    body.extend([kind, u8::try_from(number)?.saturating_add(1)]);
    body.extend(partition.to_le_bytes());
    Ok(())
}

fn push_record(body: &mut Vec<u8>, offset: u64, Entry { at, record, .. }: &Entry) -> anyhow::Result<()> {
    body.extend(offset.to_le_bytes());
    body.extend(at.map_or(u64::MAX, |at| at.0).to_le_bytes());
    push_bytes(body, &record.key)?;
    body.push(u8::from(record.value.is_some()));
    push_bytes(body, record.value.as_deref().unwrap_or_default())?;
    body.extend(u64::try_from(record.headers.len())?.to_le_bytes());
    for (name, value) in &record.headers {
        push_bytes(body, name.as_bytes())?;
        push_bytes(body, value)?;
    }
    Ok(())
}

fn push_bytes(body: &mut Vec<u8>, bytes: &[u8]) -> anyhow::Result<()> {
    body.extend(u64::try_from(bytes.len())?.to_le_bytes());
    body.extend(bytes);
    Ok(())
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
