//! What a waiting gateway instance hears.

use custos_domain::{AccountId, SagaId};

use crate::events::{Position, Refusal};

/// The answer to a request that waits. Best effort: the truth is in the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayReply {
    /// The request.
    pub correlation: [u8; 16],
    /// The answer.
    pub outcome: Outcome,
}

/// What was decided about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is (or was already) accepted.
    Accepted {
        /// What now exists.
        subject: Subject,
        /// Reads at this position include it.
        position: Position,
    },
    /// A business no. Nothing changed.
    Refused(Refusal),
    /// The same idempotency key was used with another body. Nothing changed.
    KeyReused,
}

/// What a request made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An account.
    Account(AccountId),
    /// A saga.
    Operation(SagaId),
}
