//! The ground that a demonstration stands on: its folder, its topics on a shared Kafka, its schema in a shared PostgreSQL.
//!
//! Invariants: a demonstration finds its ground empty or does not begin, and touches nothing that it has not made; in the end it takes
//! away what it made, unless it is kept, and then says what is left and which command takes it away.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use custos_journal::{KafkaJournal, KafkaSettings};
use custos_readmodel::{create_schema, drop_schema, in_schema};
use tempfile::TempDir;

use crate::say;

/// Lines of the worker's log that a failed demonstration shows.
const LAST_WORDS: usize = 40;

/// Where a demonstration keeps its things.
pub struct Ground {
    folder: PathBuf,
    /// Removed when dropped; absent when the folder is somebody's wish.
    temporary: Option<TempDir>,
    kafka: Option<String>,
    database: Option<Database>,
}

struct Database {
    url: String,
    schema: String,
}

/// What a demonstration is told about its ground.
pub struct Wishes {
    /// Keep everything here.
    pub keep: Option<PathBuf>,
    /// The brokers.
    pub kafka: Option<String>,
    /// The database.
    pub postgres: Option<String>,
}

impl Ground {
    /// Makes sure that the ground is empty, and claims it.
    ///
    /// # Errors
    /// Something is there already, or a server does not answer.
    pub async fn claim(wishes: Wishes) -> anyhow::Result<Self> {
        let temporary = tempfile::Builder::new().prefix("custos-demo-").tempdir()?;
        let folder = wishes.keep.clone().unwrap_or_else(|| temporary.path().join("home"));
        if folder.exists() {
            bail!("{} exists already: a demonstration starts clean, so name a folder that does not", folder.display());
        }
        if let Some(brokers) = wishes.kafka.clone() {
            tokio::task::spawn_blocking(move || empty(&brokers)).await??;
        }
        let database = match wishes.postgres {
            Some(url) => Some(Database::create(url).await?),
            None => None,
        };
        let temporary = wishes.keep.is_none().then_some(temporary);
        Ok(Self { folder, temporary, kafka: wishes.kafka, database })
    }

    /// The folder of the installation, which does not exist yet.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The address of the demonstration's own schema, if PostgreSQL is used.
    pub fn postgres(&self) -> Option<String> {
        self.database.as_ref().map(|database| in_schema(&database.url, &database.schema))
    }

    /// Its schema's name, if PostgreSQL is used.
    pub fn schema(&self) -> Option<&str> {
        self.database.as_ref().map(|database| database.schema.as_str())
    }

    /// The end of a demonstration that came to one: takes away what it made, unless it is kept.
    ///
    /// # Errors
    /// A server does not answer any more.
    async fn give_back(self) -> anyhow::Result<()> {
        if self.temporary.is_none() {
            self.tell();
            return Ok(());
        }
        if let Some(brokers) = self.kafka.clone() {
            let removing = move || KafkaJournal::new(KafkaSettings::new(brokers, "custos-demo"))?.remove_topics();
            tokio::task::spawn_blocking(removing).await?.context("the demonstration's topics are left on Kafka")?;
        }
        if let Some(Database { url, schema }) = &self.database {
            drop_schema(url, schema).await.with_context(|| format!("the schema {schema} is left in PostgreSQL"))?;
        }
        Ok(())
    }

    /// The same where the demonstration's outcome is known: what cannot be taken away is told, and changes nothing about it.
    pub async fn clear(self) {
        if let Err(error) = self.give_back().await {
            say(&format!("\n{error:#}"));
        }
    }

    /// The end of a demonstration that failed: everything stays for whoever looks into it.
    pub async fn leave(mut self) {
        if !self.folder.exists() {
            // It failed before anything was made but an empty schema, so nobody needs what is left; the failure itself is told.
            drop(self.give_back().await);
            return;
        }
        self.last_words();
        if let Some(temporary) = self.temporary.take() {
            // The folder is told below; from now on it is its finder's.
            drop(temporary.keep());
        }
        self.tell();
    }

    /// The end of what the worker has written: it may say why the demonstration failed.
    fn last_words(&self) {
        let log = self.folder.join("worker.log");
        let Ok(said) = std::fs::read(&log) else { return };
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        let from = lines.len().saturating_sub(LAST_WORDS);
        say(&format!("\nthe last lines of {}", log.display()));
        lines.get(from..).into_iter().flatten().for_each(|line| say(&format!("  {line}")));
    }

    fn tell(&self) {
        say(&format!("\nwhat it leaves, logs included, is in {}", self.folder.display()));
        if let Some(brokers) = &self.kafka {
            say(&format!("its topics stay on Kafka; to remove them: {}", cleaning(brokers)));
        }
        if let Some(Database { schema, .. }) = &self.database {
            say(&format!("its schema stays in PostgreSQL; to remove it: DROP SCHEMA {schema} CASCADE"));
        }
    }
}

impl Database {
    async fn create(url: String) -> anyhow::Result<Self> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            bail!("--postgres takes postgres://USER:PASSWORD@HOST:PORT/DATABASE");
        }
        let mut chance = [0; 6];
        getrandom::fill(&mut chance).map_err(|error| anyhow!("no randomness: {error}"))?;
        let schema = format!("custos_demo_{}", hex::encode(chance));
        create_schema(&url, &schema).await.context("--postgres: a schema for the demonstration cannot be made")?;
        Ok(Self { url, schema })
    }
}

/// A cluster holds one installation: its topics have fixed names. Nothing is written before this is known.
fn empty(brokers: &str) -> anyhow::Result<()> {
    let journal = KafkaJournal::new(KafkaSettings::new(brokers, "custos-demo"))?;
    let there = journal.topics_there().with_context(|| format!("--kafka: no answer from {brokers}"))?;
    if let Some(topic) = there.first() {
        bail!(
            "Kafka at {brokers} holds an installation already ({} is there): a demonstration starts clean and touches nothing that it \
             has not made. If nobody needs it: {}",
            topic.name(),
            cleaning(brokers)
        );
    }
    Ok(())
}

fn cleaning(brokers: &str) -> String {
    format!("kafka-topics.sh --bootstrap-server {brokers} --delete --topic 'custos\\..*'")
}
