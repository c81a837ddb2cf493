//! What can go wrong with the read model, and what to do about it.

use custos_domain::{AddressError, AmountError, AssetError, Digest, IdError};
use custos_messages::DecodeError;

/// Why the read model could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The address of the database is neither `sqlite:` nor `postgres:`.
    #[error("a read model lives at sqlite:///path or postgres://host/database, not at `{scheme}:`")]
    Scheme {
        /// What was given before the colon.
        scheme: String,
    },
    /// A schema's name that PostgreSQL would not take as one word.
    #[error("`{name}` is not a schema's name: small letters, digits and underscores")]
    Schema {
        /// The name.
        name: String,
    },
    /// The schema could not be brought up to date.
    #[error("the schema of the read model could not be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The database refused or did not answer.
    #[error("{operation}: the database refused or did not answer")]
    Sql {
        /// What was tried.
        operation: &'static str,
        /// What it says.
        #[source]
        source: sqlx::Error,
    },
    /// The next event of a partition is not the next: events between are missing.
    #[error("partition {partition}: event {expected} is missing, the log gives {found}")]
    Gap {
        /// The partition.
        partition: u32,
        /// The sequence that was due.
        expected: u64,
        /// The sequence that came.
        found: u64,
    },
    /// An event does not follow the event that the read model has before it.
    #[error("partition {partition}: event {sequence} follows {found}, but the read model stands at {expected}")]
    Broken {
        /// The partition.
        partition: u32,
        /// The event.
        sequence: u64,
        /// The hash of the last event folded.
        expected: Digest,
        /// The hash that the event names as its predecessor's.
        found: Digest,
    },
    /// Other projectors were faster every time.
    #[error("partition {partition}: other projectors were faster {attempts} times in a row")]
    Raced {
        /// The partition.
        partition: u32,
        /// How often it was tried.
        attempts: u32,
    },
    /// A number does not fit into 63 bits.
    #[error("{what} {number} is too large for the database")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// The number.
        number: u64,
    },
    /// A row holds what it may not.
    #[error("column `{column}` holds what it may not: {problem}")]
    Column {
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A row holds an id that is none.
    #[error("column `{column}` holds no id")]
    Id {
        /// The column.
        column: &'static str,
        /// Why.
        #[source]
        source: IdError,
    },
    /// A row holds an asset or chain that is none.
    #[error("column `{column}` holds no asset or chain")]
    Asset {
        /// The column.
        column: &'static str,
        /// Why.
        #[source]
        source: AssetError,
    },
    /// A row holds an amount that is none, or a sum is none.
    #[error("`{column}` is no amount")]
    Amount {
        /// The column or book.
        column: &'static str,
        /// Why.
        #[source]
        source: AmountError,
    },
    /// A row holds an address that is none.
    #[error("column `{column}` holds no address")]
    Address {
        /// The column.
        column: &'static str,
        /// Why.
        #[source]
        source: AddressError,
    },
    /// A stored event cannot be read back.
    #[error("a stored event cannot be read back")]
    Event(#[source] DecodeError),
    /// The read model did not reach a position in time: ask again.
    #[error("the read model did not reach event {sequence} of partition {partition} in time")]
    Behind {
        /// The partition.
        partition: u32,
        /// The sequence that was waited for.
        sequence: u64,
    },
}

/// What to do about a [`ReadError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The same call again, after a pause.
    Retry,
    /// Stop and page: a human must look.
    Halt,
}

impl ReadError {
    /// What to do. Total: every error has one answer.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Sql { source, .. } => sql_remedy(source),
            Self::Raced { .. } | Self::Behind { .. } => Remedy::Retry,
            Self::Scheme { .. }
            | Self::Schema { .. }
            | Self::Migrate(_)
            | Self::Gap { .. }
            | Self::Broken { .. }
            | Self::TooLarge { .. }
            | Self::Column { .. }
            | Self::Id { .. }
            | Self::Asset { .. }
            | Self::Amount { .. }
            | Self::Address { .. }
            | Self::Event(_) => Remedy::Halt,
        }
    }

    pub(crate) fn sql(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Sql { operation, source }
    }
}

/// SQLite: busy (5), locked (6) and their extended codes. PostgreSQL: connection exceptions (08), transaction rollback (40),
/// insufficient resources (53), lock not available (55P03), operator intervention (57).
fn sql_remedy(error: &sqlx::Error) -> Remedy {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            Remedy::Retry
        }
        sqlx::Error::Database(refusal) => match refusal.code().as_deref() {
            Some("5" | "6" | "261" | "262" | "517" | "518" | "773" | "55P03") => Remedy::Retry,
            Some(code) if code.len() == 5 && ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) => {
                Remedy::Retry
            }
            _ => Remedy::Halt,
        },
        _ => Remedy::Halt,
    }
}
