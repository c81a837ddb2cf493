//! A record that nobody may act upon, as it is put aside: itself, with where it came from and why in headers of its own.
//!
//! Invariant: whatever the record, its quarantined form is one that the log takes; a shard must never stand still because somebody
//! wrote a record that is just below the log's limit. What is cut off still stands in the log, at the place that the headers name.

use custos_journal::{Appender, Entry, Journal, JournalError};
use custos_messages::{Headers, MAX_MESSAGE_BYTES, Record, Rejection, Topic};

use crate::metrics::Metrics;

/// What is kept of the key and of the value of a record that is too large to be kept whole.
const KEPT_BYTES: usize = 16 * 1024;

/// The way into quarantine of a reader that is no shard: a service, the projector, a follower, a gateway.
///
/// At least once: a reader without a memory of its own puts a record aside again when it meets it again after a restart. Whoever
/// reads the quarantine goes by topic, partition and offset.
pub struct Quarantine {
    appender: Box<dyn Appender>,
    partitions: u32,
    metrics: Metrics,
    part: &'static str,
}

impl Quarantine {
    /// The way of `part`, which names it in the metrics.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub fn open(journal: &dyn Journal, metrics: Metrics, part: &'static str) -> Result<Self, JournalError> {
        Ok(Self { appender: journal.appender()?, partitions: journal.partitions(Topic::Quarantine)?, metrics, part })
    }

    /// Puts aside a record that is not to be trusted or read, durably, and counts it.
    ///
    /// # Errors
    /// As for [`Self::put`].
    pub fn reject(&self, from: Topic, entry: &Entry, rejection: &Rejection) -> Result<(), JournalError> {
        self.put(from, entry, rejection.code(), &rejection.to_string())
    }

    /// Puts `entry`, which was found in `from`, aside under `code`, durably, and counts it.
    ///
    /// # Errors
    /// The log does not take it; the caller must not go past the record.
    pub fn put(&self, from: Topic, entry: &Entry, code: &'static str, reason: &str) -> Result<(), JournalError> {
        // Replies have as many partitions as there may be gateways, and the quarantine as many as there are shards.
        let partition = entry.partition.checked_rem(self.partitions).unwrap_or(0);
        self.appender.append(Topic::Quarantine, partition, put_aside(from, entry, code, reason))?;
        self.metrics.put_aside(self.part, code);
        Ok(())
    }
}

/// The quarantine's record of `entry`, which was found in `from`.
pub(crate) fn put_aside(from: Topic, entry: &Entry, code: &str, reason: &str) -> Record {
    let bytes = entry.record.size();
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
    record.headers.extend(why.into_iter().map(|(name, value)| (format!("custos_quarantine_{name}"), value)));
    record
}

fn beginning(record: &Record) -> Record {
    let cut = |bytes: &[u8]| bytes.iter().copied().take(KEPT_BYTES).collect::<Vec<u8>>();
    Record { key: cut(&record.key), value: record.value.as_deref().map(cut), headers: Headers::new() }
}
