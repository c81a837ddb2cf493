//! The world's clock: the simulated cluster's virtual time.

use std::sync::Arc;
use std::time::Duration;

use custos_domain::Timestamp;
use custos_journal::SimulatedCluster;

/// When virtual time begins: 1 January 2026, as in the simulated log.
const BEGINNING: u64 = 1_767_225_600_000;

/// Shows the world's true time. Clones show the same. What a process believes is its own matter.
#[derive(Clone)]
pub struct WorldClock(Arc<SimulatedCluster>);

impl WorldClock {
    /// The clock of a cluster.
    #[must_use]
    pub const fn new(cluster: Arc<SimulatedCluster>) -> Self {
        Self(cluster)
    }

    /// Since the beginning of the world.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.now()
    }

    /// The date: what the brokers stamp on a record.
    #[must_use]
    pub fn date(&self) -> Timestamp {
        let since = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
        Timestamp(BEGINNING.saturating_add(since))
    }
}
