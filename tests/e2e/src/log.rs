//! The installation's log, read after the fact by a reader of committed records.

use std::time::Duration;

use crate::{Ground, World};
use anyhow::Context;
use custos_journal::{EmbeddedJournal, Entry, Journal, KafkaJournal, KafkaSettings, Start};
use custos_messages::Topic;

const AT_ONCE: usize = 1_000;
const WAIT: Duration = Duration::from_millis(100);

/// Every committed record of a topic, by partition and in order. The embedded journal has one owner: stop it first.
///
/// # Errors
/// The log cannot be read.
pub async fn read_all(world: &World, topic: Topic) -> anyhow::Result<Vec<Vec<Entry>>> {
    let (ground, folder) = (world.ground().clone(), world.installation.folder().join("journal"));
    let reading = tokio::task::spawn_blocking(move || {
        let journal: Box<dyn Journal> = match ground {
            Ground::Embedded => Box::new(EmbeddedJournal::open(&folder)?),
            Ground::Servers { kafka, .. } => Box::new(KafkaJournal::new(KafkaSettings::new(kafka, "afterwards"))?),
        };
        let partitions = 0..journal.partitions(topic)?;
        partitions.map(|partition| read_partition(&*journal, topic, partition)).collect::<anyhow::Result<Vec<_>>>()
    });
    reading.await?.with_context(|| format!("reading {topic:?}"))
}

fn read_partition(journal: &dyn Journal, topic: Topic, partition: u32) -> anyhow::Result<Vec<Entry>> {
    let mut feed = journal.read(topic, partition, Start::Earliest)?;
    let mut entries = Vec::new();
    loop {
        let more = feed.poll(AT_ONCE, WAIT)?;
        let over = more.is_empty() && feed.at_end();
        entries.extend(more);
        if over {
            return Ok(entries);
        }
    }
}
