//! What the parts of one process share: the log, the keys, health, metrics, the operators' desk, and the order to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use custos_journal::{EmbeddedJournal, Journal, KafkaJournal, KafkaSettings};
use custos_messages::Keyring;
use custos_readmodel::ReadModel;
use custos_runtime::health::Health;
use custos_runtime::metrics::Metrics;
use custos_runtime::ops::Desk;
use custos_runtime::shard::Interrupt;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, LogChoice};
use crate::secrets::read_keyring;

/// What the parts of one process share.
#[derive(Clone)]
pub struct Stage {
    /// The configuration.
    pub config: Arc<Config>,
    /// The log.
    pub journal: Arc<dyn Journal>,
    /// The keys.
    pub keyring: Arc<Keyring>,
    /// How the parts are.
    pub health: Health,
    /// What they count.
    pub metrics: Metrics,
    /// Where shards can be asked.
    pub desk: Desk,
    /// Where asynchronous work runs.
    pub handle: Handle,
    /// Fault injection.
    pub interrupt: Option<Interrupt>,
    stop: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Stage {
    /// Opens what the parts share. Must be called within an asynchronous runtime.
    ///
    /// # Errors
    /// A secret is missing, or the log cannot be opened.
    pub fn open(config: Config, interrupt: Option<Interrupt>) -> anyhow::Result<Self> {
        let keyring = Arc::new(read_keyring(&config.keys)?);
        Ok(Self {
            journal: open_journal(&config.log, &config.member)?,
            config: Arc::new(config),
            keyring,
            health: Health::default(),
            metrics: Metrics::default(),
            desk: Desk::default(),
            handle: Handle::current(),
            interrupt,
            stop: Arc::default(),
            token: CancellationToken::new(),
        })
    }

    /// Tells every part to stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// The order to stop, for threads.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// The order to stop, for tasks.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// The SQL read model.
    ///
    /// # Errors
    /// None is configured, or it cannot be opened.
    pub async fn read_model(&self) -> anyhow::Result<ReadModel> {
        read_model(&self.config).await
    }
}

/// Opens the log that a configuration names.
///
/// # Errors
/// It cannot be opened.
pub fn open_journal(log: &LogChoice, member: &str) -> anyhow::Result<Arc<dyn Journal>> {
    Ok(match log {
        LogChoice::Embedded(folder) => Arc::new(EmbeddedJournal::open(folder).context("the embedded journal")?),
        LogChoice::Kafka(brokers) => {
            Arc::new(KafkaJournal::new(KafkaSettings::new(brokers.clone(), member)).context("Kafka")?)
        }
    })
}

/// Opens the SQL read model that a configuration names.
///
/// # Errors
/// None is configured, or it cannot be opened.
pub async fn read_model(config: &Config) -> anyhow::Result<ReadModel> {
    let url = config.read_model.as_deref().context("`read_model` is not configured")?;
    ReadModel::open(url).await.context("the read model")
}
