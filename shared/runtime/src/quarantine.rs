//! A record that nobody may act upon, as it is put aside: itself, with where it came from and why in headers of its own.
//!
//! Invariant: whatever the record, its quarantined form is one that the log takes; a shard must never stand still because somebody
//! wrote a record that is just below the log's limit. What is cut off still stands in the log, at the place that the headers name.

use custos_journal::Entry;
use custos_messages::{MAX_MESSAGE_BYTES, Record, Topic};

/// What is kept of the key and of the value of a record that is too large to be kept whole.
const KEPT_BYTES: usize = 16 * 1024;

/// The quarantine's record of `entry`, which was found in `from`.
pub(crate) fn put_aside(from: Topic, entry: &Entry, code: &str, reason: &str) -> Record {
    let bytes = size(&entry.record);
    let mut record = if bytes > MAX_MESSAGE_BYTES { beginning(&entry.record) } else { entry.record.clone() };
    let mut why = vec![
        ("topic", from.name().to_owned()),
        ("partition", entry.partition.to_string()),
        ("offset", entry.offset.to_string()),
        ("code", code.to_owned()),
        ("reason", reason.to_owned()),
    ];
    if bytes > MAX_MESSAGE_BYTES {
        why.push(("bytes", bytes.to_string()));
    }
    record.headers.extend(why.into_iter().map(|(name, value)| (format!("custos_quarantine_{name}"), value.into_bytes())));
    record
}

fn size(record: &Record) -> usize {
    let headers = record.headers.iter().map(|(name, value)| name.len().saturating_add(value.len()));
    let value = record.value.as_ref().map_or(0, Vec::len);
    headers.fold(record.key.len().saturating_add(value), usize::saturating_add)
}

fn beginning(record: &Record) -> Record {
    let cut = |bytes: &[u8]| bytes.iter().copied().take(KEPT_BYTES).collect::<Vec<u8>>();
    Record { key: cut(&record.key), value: record.value.as_deref().map(cut), headers: Vec::new() }
}
