//! Why a projector stops, and what it tries again.

use custos_journal::JournalError;
use custos_messages::Rejection;
use custos_readmodel::ReadError;

/// Why the projector stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// The log does not give its events.
    #[error("the event log cannot be read")]
    Journal(#[from] JournalError),
    /// Accounts has sealed an event for this place that this program cannot read: it is older than the one that wrote it.
    #[error("partition {partition}, offset {offset}: the event cannot be read by this program")]
    Unreadable {
        /// The partition.
        partition: u32,
        /// The offset.
        offset: u64,
        /// Why.
        #[source]
        source: Rejection,
    },
    /// The read model stands before what was folded into it: it was emptied.
    #[error("partition {partition}: the read model went back; the log is folded again from there")]
    WentBack {
        /// The partition.
        partition: u32,
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
            Self::WentBack { .. } => Remedy::Retry,
            Self::Unreadable { .. } | Self::Thread { .. } | Self::Crashed(_) => Remedy::Halt,
        }
    }
}
