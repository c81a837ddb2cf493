//! The file's bytes: a header that names the log, then frames, each of which is one whole transaction, append or note.
//!
//! Invariants: a frame is believed only with its checksum, which covers its place in the file; what follows the last frame is
//! zeros; every frame names the length of the file that was durable when it was written, so that a torn tail (never
//! acknowledged, may be cut) can be told from damage to acknowledged data (must not be cut). All numbers are little-endian.
//! The version of the format is in the file's first bytes; a change of the format changes them.

use custos_domain::Timestamp;
use custos_messages::{Headers, Record, Topic};

use crate::Entry;

/// First bytes of the file: what it is, and version 1 of the format.
pub(super) const FILE_MAGIC: [u8; 8] = *b"CUSTOS\x00\x01";
/// Bytes of the file's header: magic, id of the log, checksum.
pub(super) const FILE_HEADER: usize = 32;
/// Bytes before the body of a frame: magic, checksum, length of the body, durable length of the file.
pub(super) const FRAME_HEADER: usize = 32;
/// Frames begin at multiples of this, so that a search for one need not try every byte.
pub(super) const ALIGNMENT: usize = 8;

const FRAME_MAGIC: [u8; 8] = *b"\xC5frame\r\n";
const RECORD: u8 = 1;
const TOPIC: u8 = 2;
const ACKNOWLEDGED: u8 = 3;

/// What a frame says, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A record in its place.
    Record(Topic, Entry),
    /// A topic exists and has this many partitions.
    Topic(Topic, u32),
    /// A group has dealt with everything before `next`.
    Acknowledged {
        /// The group.
        group: String,
        /// What it consumes.
        topic: Topic,
        /// The partition.
        partition: u32,
        /// The offset that it wants next.
        next: u64,
    },
}

/// The beginning of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHeader {
    /// See [`checksum`].
    pub(super) sum: [u8; 8],
    /// Bytes of the body.
    pub(super) length: u64,
    /// How long the file was, durably, when this frame was written.
    pub(super) durable: u64,
}

/// The first [`FILE_HEADER`] bytes of the log that is called `id`.
pub(super) fn file_header(id: [u8; 16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_HEADER);
    bytes.extend_from_slice(&FILE_MAGIC);
    bytes.extend_from_slice(&id);
    bytes.extend_from_slice(&digest(&[&FILE_MAGIC, &id]));
    bytes
}

/// The id of the log, if `bytes` begin with an intact header of this version.
pub(super) fn read_file_header(bytes: &[u8]) -> Option<[u8; 16]> {
    let id: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
    (bytes.get(..FILE_HEADER)? == file_header(id)).then_some(id)
}

/// The frame of `body` at `place` of a file that is durable up to `durable`.
pub(super) fn push_frame(out: &mut Vec<u8>, place: u64, durable: u64, mut body: Vec<u8>) {
    while !body.len().is_multiple_of(ALIGNMENT) {
        body.push(0);
    }
    let length = wide(body.len());
    out.extend_from_slice(&FRAME_MAGIC);
    out.extend_from_slice(&checksum(place, length, durable, &body));
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(&body);
}

/// The header of a frame, if `bytes` begin with one.
pub(super) fn read_frame_header(bytes: &[u8]) -> Option<FrameHeader> {
    let mut cursor = Cursor(bytes);
    let magic: [u8; 8] = cursor.array()?;
    let sum = cursor.array()?;
    let length = cursor.u64()?;
    let durable = cursor.u64()?;
    (magic == FRAME_MAGIC).then_some(FrameHeader { sum, length, durable })
}

/// What a frame must carry to be believed: a digest of its place, lengths and body.
pub(super) fn checksum(place: u64, length: u64, durable: u64, body: &[u8]) -> [u8; 8] {
    digest(&[&place.to_le_bytes(), &length.to_le_bytes(), &durable.to_le_bytes(), body])
}

/// Appends a record in its place; returns the bytes that it takes. [`read_record`] reads it back from there.
pub(super) fn push_record(body: &mut Vec<u8>, topic: Topic, entry: &Entry) -> usize {
    let start = body.len();
    body.push(RECORD);
    body.push(topic_number(topic));
    body.extend_from_slice(&entry.partition.to_le_bytes());
    body.extend_from_slice(&entry.offset.to_le_bytes());
    body.extend_from_slice(&entry.at.map_or(u64::MAX, |at| at.0).to_le_bytes());
    push_bytes(body, &entry.record.key);
    body.push(u8::from(entry.record.value.is_some()));
    push_bytes(body, entry.record.value.as_deref().unwrap_or_default());
    body.extend_from_slice(&wide(entry.record.headers.len()).to_le_bytes());
    body.extend_from_slice(entry.record.headers.as_bytes());
    body.len() - start
}

/// Appends the word that a topic exists.
pub(super) fn push_topic(body: &mut Vec<u8>, topic: Topic, partitions: u32) {
    body.push(TOPIC);
    body.push(topic_number(topic));
    body.extend_from_slice(&partitions.to_le_bytes());
}

/// Appends the place of a group.
pub(super) fn push_acknowledged(body: &mut Vec<u8>, group: &str, topic: Topic, partition: u32, next: u64) {
    body.push(ACKNOWLEDGED);
    body.push(topic_number(topic));
    body.extend_from_slice(&partition.to_le_bytes());
    body.extend_from_slice(&next.to_le_bytes());
    push_bytes(body, group.as_bytes());
}

/// The record that begins `bytes`.
pub(super) fn read_record(bytes: &[u8]) -> Option<Entry> {
    match read_item(&mut Cursor(bytes))? {
        Item::Record(_, entry) => Some(entry),
        Item::Topic(..) | Item::Acknowledged { .. } => None,
    }
}

/// Every item of a body with its place and length within; `None` if the body is not what this version writes.
pub(super) fn read_body(body: &[u8]) -> Option<Vec<(usize, usize, Item)>> {
    let mut items = Vec::new();
    let mut cursor = Cursor(body);
    while cursor.0.first().is_some_and(|kind| *kind != 0) {
        let start = body.len() - cursor.0.len();
        let item = read_item(&mut cursor)?;
        items.push((start, body.len() - cursor.0.len() - start, item));
    }
    cursor.0.iter().all(|byte| *byte == 0).then_some(items)
}

fn read_item(cursor: &mut Cursor<'_>) -> Option<Item> {
    let kind: [u8; 1] = cursor.array()?;
    let number: [u8; 1] = cursor.array()?;
    let topic = *Topic::ALL.get(usize::from(u8::from_le_bytes(number)).checked_sub(1)?)?;
    let partition = cursor.u32()?;
    match u8::from_le_bytes(kind) {
        TOPIC => Some(Item::Topic(topic, partition)),
        ACKNOWLEDGED => {
            let next = cursor.u64()?;
            let group = cursor.text()?;
            Some(Item::Acknowledged { group, topic, partition, next })
        }
        RECORD => {
            let offset = cursor.u64()?;
            let at = cursor.u64()?;
            let key = cursor.bytes()?.to_vec();
            let present: [u8; 1] = cursor.array()?;
            let value = cursor.bytes()?;
            let value = (present != [0]).then(|| value.to_vec());
            let headers;
            (headers, cursor.0) = Headers::read(usize::try_from(cursor.u64()?).ok()?, cursor.0)?;
            let at = (at != u64::MAX).then_some(Timestamp(at));
            Some(Item::Record(topic, Entry { partition, offset, at, record: Record { key, value, headers } }))
        }
        _ => None,
    }
}

/// Numbers on disk, from 1; never reused. A new topic takes the next number.
const fn topic_number(topic: Topic) -> u8 {
    use custos_messages::Machine::{Accounts, Chain, Treasury};
    match topic {
        Topic::Inbox(Accounts) => 1,
        Topic::Inbox(Treasury) => 2,
        Topic::Inbox(Chain) => 3,
        Topic::State(Accounts) => 4,
        Topic::State(Treasury) => 5,
        Topic::State(Chain) => 6,
        Topic::ComplianceCommands => 7,
        Topic::WalletCommands => 8,
        Topic::BlockchainCommands => 9,
        Topic::Events => 10,
        Topic::Addresses => 11,
        Topic::GatewayReplies => 12,
        Topic::Quarantine => 13,
    }
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

fn push_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(&wide(bytes.len()).to_le_bytes());
    body.extend_from_slice(bytes);
}

/// A length as 64 bits. No supported machine has wider addresses; saturates rather than wraps.
pub(super) fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(offset: u64, value: Option<&[u8]>) -> Entry {
        let headers = Headers::from([("ce_type", "x"), ("", "")]);
        let record = Record { key: b"key".to_vec(), value: value.map(<[u8]>::to_vec), headers };
        Entry { partition: 3, offset, at: Some(Timestamp(7)), record }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut body = Vec::new();
        let entries = [entry(0, Some(b"value")), entry(1, Some(b"")), entry(2, None)];
        for entry in &entries {
            let start = body.len();
            let length = push_record(&mut body, Topic::Events, entry);
            assert_eq!(read_record(&body[start..start + length]).as_ref(), Some(entry));
        }
        push_topic(&mut body, Topic::Quarantine, 48);
        push_acknowledged(&mut body, "readers", Topic::Events, 1, 9);
        let items: Vec<Item> = read_body(&body).unwrap().into_iter().map(|(_, _, item)| item).collect();
        let [first, second, third] = entries;
        let mut expected: Vec<Item> = [first, second, third].map(|entry| Item::Record(Topic::Events, entry)).into();
        expected.push(Item::Topic(Topic::Quarantine, 48));
        expected.push(Item::Acknowledged { group: "readers".into(), topic: Topic::Events, partition: 1, next: 9 });
        assert_eq!(items, expected);
    }

    #[test]
    fn every_topic_has_the_number_of_its_place() {
        for (place, topic) in Topic::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(topic_number(topic)), place + 1, "{topic:?}");
        }
    }

    #[test]
    fn any_prefix_of_a_body_is_refused_or_whole() {
        let mut body = Vec::new();
        push_record(&mut body, Topic::Events, &entry(0, Some(b"value")));
        for length in 1..body.len() {
            assert_eq!(read_body(&body[..length]), None, "{length} bytes");
        }
    }
}
