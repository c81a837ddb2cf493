//! The hand of somebody inside: reads and writes the installation's log past the product, with the installation's own secrets.
//!
//! For hostile tests alone. The embedded log has one owner, so there the product is stopped while the hand is at work; see
//! [`crate::World::in_the_log`].

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use custos_journal::{Appender, EmbeddedJournal, Entry, Journal, KafkaJournal, KafkaSettings, Start};
use custos_messages::{Keyring, Record, Secret, Source, Topic};

use crate::installation::Ground;

const BATCH: usize = 1_000;
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

/// A way into the log. All calls block.
pub struct Hand {
    journal: Box<dyn Journal>,
    appender: Box<dyn Appender>,
    keyring: Keyring,
}

impl Hand {
    pub(crate) fn open(ground: &Ground, folder: &Path) -> anyhow::Result<Self> {
        let journal: Box<dyn Journal> = match ground {
            Ground::Embedded => Box::new(EmbeddedJournal::open(&folder.join("journal"))?),
            Ground::Servers { kafka, .. } => Box::new(KafkaJournal::new(KafkaSettings::new(kafka.clone(), "a-hand"))?),
        };
        let appender = journal.appender()?;
        Ok(Self { journal, appender, keyring: keyring(folder)? })
    }

    /// The secrets of every source.
    #[must_use]
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Partitions of a topic.
    ///
    /// # Errors
    /// The log does not answer.
    pub fn partitions(&self, topic: Topic) -> anyhow::Result<u32> {
        Ok(self.journal.partitions(topic)?)
    }

    /// Everything that is committed in a partition, from an offset on.
    ///
    /// # Errors
    /// The log does not answer.
    pub fn read(&self, topic: Topic, partition: u32, from: u64) -> anyhow::Result<Vec<Entry>> {
        let (first, end) = self.journal.bounds(topic, partition)?;
        let mut next = from.max(first);
        let mut found = Vec::new();
        if next >= end {
            return Ok(found);
        }
        let mut feed = self.journal.read(topic, partition, Start::At(next))?;
        let until = Instant::now() + PATIENCE;
        while next < end && !feed.at_end() {
            if Instant::now() > until {
                bail!("{}/{partition} does not come to its end at {end}", topic.name());
            }
            for entry in feed.poll(BATCH, LOOK)? {
                next = entry.offset.saturating_add(1);
                found.push(entry);
            }
        }
        Ok(found)
    }

    /// Everything that is committed in a topic.
    ///
    /// # Errors
    /// The log does not answer.
    pub fn read_all(&self, topic: Topic) -> anyhow::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for partition in 0..self.partitions(topic)? {
            found.extend(self.read(topic, partition, 0)?);
        }
        Ok(found)
    }

    /// Writes a record: its offset.
    ///
    /// # Errors
    /// The log does not take it.
    pub fn append(&self, topic: Topic, partition: u32, record: Record) -> anyhow::Result<u64> {
        Ok(self.appender.append(topic, partition, record)?)
    }
}

/// The secrets in the installation's folder.
fn keyring(folder: &Path) -> anyhow::Result<Keyring> {
    let mut secrets = BTreeMap::new();
    for source in Source::ALL {
        let path = folder.join("keys").join(format!("{}.key", source.name()));
        let bytes = hex::decode(std::fs::read_to_string(&path)?.trim())?;
        secrets.insert(source, Secret::new(&bytes).with_context(|| path.display().to_string())?);
    }
    Ok(Keyring::new(secrets))
}
