//! The servers that tests run against, started on free ports of the loopback interface and removed when dropped: Kafka,
//! PostgreSQL and an Ethereum node. `tests/containers/up.sh` brings their images and programs to the machine.
//!
//! Invariants: a test says which part it ran against; a part that is not there is said aloud, and is a failure where `CI=true`.
//! A server that the environment names (`CUSTOS_TEST_KAFKA`, `CUSTOS_TEST_POSTGRES`) is used as it is and never stopped.
//!
//! All calls block; they may be made from an async test, too, because they run on a thread of their own.

mod anvil;
mod cluster;
mod docker;
mod kafka;
mod place;
mod postgres;
mod proxy;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

pub use anvil::{Anvil, start_anvil};
pub use cluster::{Cluster, start_cluster, start_cluster_with};
pub use kafka::{Kafka, start_kafka, start_kafka_process};
pub use place::{contracts, free_port};
pub use postgres::{Postgres, start_postgres};
pub use proxy::{Api, Deed, Fate, Observation, Proxy, Rule, When};

/// Why a part cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The part is not on this machine.
    #[error("{0}; run tests/containers/up.sh")]
    Missing(&'static str),
    /// The container did not start.
    #[error("the container of {image} did not start")]
    Container {
        /// Its image.
        image: String,
        /// What the engine says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The program did not start.
    #[error("{program} did not start")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The program started and was not ready in time.
    #[error("{program} was not ready within {within:?}: {said}")]
    NotReady {
        /// Its name.
        program: &'static str,
        /// How long was waited.
        within: Duration,
        /// The end of its output.
        said: String,
    },
    /// A file of the launcher could not be written or read.
    #[error("{path} cannot be used")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// The part, or `None` after saying clearly that a test was not run and why.
///
/// # Panics
/// Where `CI=true`: there, a test that is not run is a failure.
#[must_use]
pub fn require<T>(name: &str, part: Result<T, PartError>) -> Option<T> {
    match part {
        Ok(part) => Some(part),
        Err(error) => {
            let mut reason = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(source) = cause {
                reason.push_str(": ");
                reason.push_str(&source.to_string());
                cause = source.source();
            }
            // Past the harness, which shows what a test prints only when it fails. Nothing is lost where there is no standard error.
            let _ = writeln!(std::io::stderr(), "{name}: not run: {reason}");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{name}: not run in CI: {reason}");
            None
        }
    }
}

/// Runs `work` on a thread of its own, so that it may block and run a runtime of its own wherever it is called from.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
