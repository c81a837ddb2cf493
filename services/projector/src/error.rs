//! Why a projector stops, and what it tries again.

use custos_journal::JournalError;
use custos_messages::{EnvelopeError, Rejection};
use custos_readmodel::ReadError;

/// Why the projector stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// The log does not give its events.
    #[error("the event log cannot be read")]
    Journal(#[from] JournalError),
    /// An event is not sealed by accounts, or cannot be read.
    #[error("partition {partition}, offset {offset}: the record is no event of ours")]
    Rejected {
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
        /// Why.
        #[source]
        source: Rejection,
    },
    /// An event does not say where it stands in the chain.
    #[error("partition {partition}, offset {offset}: the event has no place in the chain")]
    Placeless {
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
        /// Why.
        #[source]
        source: EnvelopeError,
    },
    /// The read model does not take the events.
    #[error("the events cannot be folded into the read model")]
    Fold(#[source] ReadError),
    /// A reader's thread could not be started.
    #[error("the thread that reads partition {partition} could not be started")]
    Thread {
        /// The partition.
        partition: u32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A task of this process crashed.
    #[error("a task of the projector crashed")]
    Crashed(#[source] tokio::task::JoinError),
}

/// What to do about a [`ProjectorError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Try again after a pause.
    Retry,
    /// Read again from where the read model stands; if the same event is missing then, stop.
    LookAgain(Gap),
    /// Stop and page.
    Halt,
}

/// A missing event: its partition and sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) partition: u32,
    pub(crate) sequence: u64,
}

impl ProjectorError {
    /// Logs it with all its causes: it is dealt with by trying again after `pause`.
    pub(crate) fn log_retry(&self, pause: std::time::Duration) {
        let error: &(dyn std::error::Error + 'static) = self;
        tracing::warn!(error, ?pause, "the projector tries again");
    }

    pub(crate) fn remedy(&self) -> Remedy {
        match self {
            Self::Journal(cause) => match cause.remedy() {
                custos_journal::Remedy::Retry => Remedy::Retry,
                custos_journal::Remedy::TakeOver | custos_journal::Remedy::Drop | custos_journal::Remedy::Halt => {
                    Remedy::Halt
                }
            },
            Self::Fold(ReadError::Gap { partition, expected, .. }) => {
                Remedy::LookAgain(Gap { partition: *partition, sequence: *expected })
            }
            Self::Fold(cause) => match cause.remedy() {
                custos_readmodel::Remedy::Retry => Remedy::Retry,
                custos_readmodel::Remedy::Halt => Remedy::Halt,
            },
            Self::Rejected { .. } | Self::Placeless { .. } | Self::Thread { .. } | Self::Crashed(_) => Remedy::Halt,
        }
    }
}
