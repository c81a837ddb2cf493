//! Everything that can stop the adapter, and whether trying again can help.

use custos_domain::{ChainId, NodeName};
use custos_journal::{JournalError, Remedy};
use custos_runtime::service::Setback;

/// Why the adapter could not do what it was asked. A node's "no" to bytes is a `SendOutcome` and never one of these.
#[derive(Debug, thiserror::Error)]
pub enum BlockchainError {
    /// A node serves another chain than the settings say.
    #[error("node {} serves chain {found}, the settings say {expected}", .node.as_str())]
    WrongChain {
        /// The node.
        node: NodeName,
        /// The EIP-155 number of the settings.
        expected: u64,
        /// The node's.
        found: u64,
    },
    /// A node's address cannot be used.
    #[error("the address of node {} {problem}", .node.as_str())]
    Address {
        /// The node.
        node: NodeName,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A command names a chain that the settings do not.
    #[error("chain {0} is not in the settings")]
    UnknownChain(ChainId),
    /// A node cannot be reached.
    #[error("node {} cannot be reached for {method}: {reason}", .node.as_str())]
    Unreachable {
        /// The node.
        node: NodeName,
        /// The JSON-RPC method.
        method: &'static str,
        /// What was seen, without the node's address.
        reason: String,
    },
    /// A node does not answer in time. Whether it did what it was asked is not known.
    #[error("node {} does not answer {method} within {within_ms} ms", .node.as_str())]
    Late {
        /// The node.
        node: NodeName,
        /// The JSON-RPC method.
        method: &'static str,
        /// How long it was given.
        within_ms: u128,
    },
    /// A node answers with an error.
    #[error("node {} refuses {method}: {message} ({code})", .node.as_str())]
    Refused {
        /// The node.
        node: NodeName,
        /// The JSON-RPC method.
        method: &'static str,
        /// The JSON-RPC code.
        code: i64,
        /// The node's words.
        message: String,
    },
    /// A node's answer cannot be read, or contradicts itself.
    #[error("node {} answers {method} with nonsense: {problem}", .node.as_str())]
    Nonsense {
        /// The node.
        node: NodeName,
        /// The JSON-RPC method.
        method: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The node does not have a block that it named a moment ago, usually because the chain was reorganised.
    #[error("node {} no longer has block {number} for {method}", .node.as_str())]
    Gone {
        /// The node.
        node: NodeName,
        /// The JSON-RPC method.
        method: &'static str,
        /// The block's number.
        number: u64,
    },
    /// A thread could not be started.
    #[error("starting a thread to {purpose}")]
    Thread {
        /// What for.
        purpose: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The log cannot be used.
    #[error("the log cannot be used")]
    Log(#[from] JournalError),
}

impl BlockchainError {
    /// Whether the same call may succeed later without a human.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Late { .. }
            | Self::Refused { .. }
            | Self::Nonsense { .. }
            | Self::Gone { .. }
            | Self::Thread { .. } => true,
            Self::WrongChain { .. } | Self::Address { .. } | Self::UnknownChain(_) => false,
            Self::Log(error) => error.remedy() == Remedy::Retry,
        }
    }

    /// What the service's skeleton does about it.
    #[must_use]
    pub fn into_setback(self) -> Setback {
        if self.retryable() { Setback::retry(self) } else { Setback::halt(self) }
    }
}
