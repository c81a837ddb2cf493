//! Why the gateway stops, and why the books cannot be compared.

use std::net::SocketAddr;
use std::path::PathBuf;

use custos_domain::ChainId;
use custos_journal::JournalError;
use custos_messages::Source;
use custos_readmodel::ReadError;
use custos_runtime::ops::AskError;

/// Why the gateway did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a list of API keys.
    #[error("{path} is not a list of API keys")]
    Keys {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: toml::de::Error,
    },
    /// An API key's entry is wrong.
    #[error("API key `{id}`: {problem}")]
    Key {
        /// Its id.
        id: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The file is not a cursor secret.
    #[error("{path} does not hold 64 hexadecimal digits")]
    CursorSecret {
        /// Which.
        path: PathBuf,
    },
    /// The operating system gave no randomness.
    #[error("cannot draw randomness")]
    Randomness(#[source] getrandom::Error),
    /// The keyring lacks a secret: requests could not be sealed, or answers not opened.
    #[error("the keyring has no secret of {}", .0.name())]
    Secret(Source),
    /// No partition of `gateway.replies` is this instance's.
    #[error("instance {instance} is not below the {partitions} partitions of the topic of replies")]
    Instance {
        /// This instance.
        instance: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The log cannot be used.
    #[error("{operation}: the log cannot be used")]
    Journal {
        /// What was tried.
        operation: &'static str,
        /// What it says.
        #[source]
        source: JournalError,
    },
    /// The thread that reads replies could not be started.
    #[error("the thread that reads replies could not be started")]
    Thread(#[source] std::io::Error),
    /// The port cannot be opened.
    #[error("cannot listen at {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Serving failed.
    #[error("serving failed")]
    Serve(#[source] std::io::Error),
}

/// Why the books cannot be compared with the chains.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The read model cannot be read.
    #[error("the read model cannot be read")]
    Read(#[from] ReadError),
    /// The blockchain service does not answer for this chain at the block that was asked for.
    #[error("the balances of {chain} cannot be asked")]
    Ask {
        /// The chain.
        chain: ChainId,
        /// Why.
        #[source]
        source: AskError,
    },
    /// A sum does not fit.
    #[error("a sum of the books does not fit into 128 bits")]
    Sum(#[source] custos_domain::AmountError),
}

impl From<custos_domain::AmountError> for BooksError {
    fn from(source: custos_domain::AmountError) -> Self {
        Self::Sum(source)
    }
}
