//! The read model: the event log folded into SQL, for questions that a bank asks about its custody.
//!
//! Invariants: a batch of events and the place in the log move in one SQL transaction; an event is folded once and in order, or
//! not at all; a journal entry that does not balance for every asset cannot be committed, because the database itself refuses it;
//! folding the log again gives the same content ([`ReadModel::digest`]). PostgreSQL and SQLite answer the same queries, and the
//! same tests run on both. Deliberately absent: anything that a machine rests on. Nothing here is the truth; the log is.

mod books;
mod cell;
mod clients;
mod columns;
mod digest;
mod error;
mod feed;
mod fold;
mod limbs;
mod names;
mod operations;
mod page;
mod payments;
mod projection;
mod room;
mod rows;
mod schema;

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, Executor as _};
use tokio::sync::watch;

use crate::schema::Dialect;

pub use books::{BalanceSheet, Discrepancy, Mark, Marks};
pub use clients::{Account, AddressRow, Balances, DepositView, TransferView};
pub use error::{ReadError, Remedy};
pub use feed::{AlarmView, FeedEvent, FeedId, Place};
pub use limbs::Net;
pub use names::{DepositStatus, OperationKind, OperationStatus, PaymentStatus, refusal_code};
pub use operations::{Operation, OperationFilter, OperationStep};
pub use page::{Cursor, Page, PageRequest};
pub use payments::{Approval, DecisionView, Payment, ScreeningView, Signature};
pub use projection::{Applied, Arrival, Projection};
pub use room::{create_schema, drop_schema, in_schema};

/// Connections at once to a server.
const CONNECTIONS: u32 = 8;
/// Connections at once to a file. SQLite writes with one at a time whatever the number, and each keeps pages of its own in memory.
const CONNECTIONS_TO_FILE: u32 = 4;
/// How long a caller waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(10);
/// How often opening is tried when several processes bring the schema up to date at once.
const OPENINGS: u32 = 5;

/// The read model. Cheap to clone; all clones share the connections.
#[derive(Clone, Debug)]
pub struct ReadModel {
    pool: AnyPool,
    dialect: Dialect,
    /// Rises with every batch that this process folds: whoever waits for a position looks again.
    folded: Arc<watch::Sender<u64>>,
}

impl ReadModel {
    /// Opens `sqlite:///path/to/file` (created if absent) or `postgres://user@host/database`, and brings its schema up to date.
    ///
    /// # Errors
    /// Another kind of address, a database that does not answer, or a schema that is newer than this binary's.
    pub async fn open(url: &str) -> Result<Self, ReadError> {
        let (dialect, url) = dialect(url)?;
        sqlx::any::install_default_drivers();
        let options = AnyConnectOptions::from_str(&url).map_err(ReadError::sql("read the database's address"))?;
        let connections = match dialect {
            Dialect::Postgres => CONNECTIONS,
            Dialect::Sqlite => CONNECTIONS_TO_FILE,
        };
        let pool = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE)
            .after_connect(move |connection, _| Box::pin(prepare(connection, dialect)))
            .connect_with(options)
            .await
            .map_err(ReadError::sql("connect"))?;
        migrate(&pool, dialect).await?;
        Ok(Self { pool, dialect, folded: Arc::new(watch::Sender::new(0)) })
    }

    /// Closes all connections; calls after it fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Empties the read model and puts the tables' rules back, so that folding begins again at the start of the log. Feed ids go on
    /// rising: a reader's cursor from before sees events again and misses none. Safe beside running projectors: each sees that its
    /// places went back and starts over.
    pub async fn clear(&self) -> Result<(), ReadError> {
        let clearing = || ReadError::sql("clear the read model");
        let mut transaction = self.pool.begin().await.map_err(clearing())?;
        // Positions come first, as in a projector's transaction. Legs go with their entries: alone they cannot be deleted.
        for table in schema::ALL.iter().filter(|table| table.name != schema::JOURNAL_LEGS.name) {
            let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {}", table.name));
            transaction.execute(sql).await.map_err(clearing())?;
        }
        // The folding that follows is held to them.
        schema::restore_rules(&mut transaction, self.dialect).await.map_err(clearing())?;
        transaction.commit().await.map_err(clearing())
    }

    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }
}

/// SQLite files are created when absent.
fn dialect(url: &str) -> Result<(Dialect, String), ReadError> {
    match url.split(':').next() {
        Some("postgres" | "postgresql") => Ok((Dialect::Postgres, url.to_owned())),
        Some("sqlite") if url.contains('?') => Ok((Dialect::Sqlite, url.to_owned())),
        Some("sqlite") => Ok((Dialect::Sqlite, format!("{url}?mode=rwc"))),
        scheme => Err(ReadError::Scheme { scheme: scheme.unwrap_or_default().chars().take(20).collect() }),
    }
}

/// The read model can be folded again from the log, so SQLite syncs at checkpoints only (`NORMAL`); WAL keeps the file whole.
async fn prepare(connection: &mut AnyConnection, dialect: Dialect) -> Result<(), sqlx::Error> {
    if dialect == Dialect::Sqlite {
        for pragma in [
            "PRAGMA busy_timeout = 10000",
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
            "PRAGMA foreign_keys = ON",
        ] {
            connection.execute(pragma).await?;
        }
    }
    Ok(())
}

/// SQLite has no lock for migrations: of several processes that begin at once, the later find the tables there and look again.
async fn migrate(pool: &AnyPool, dialect: Dialect) -> Result<(), ReadError> {
    let migrator = schema::migrator(dialect);
    let mut tried = 1;
    loop {
        match migrator.run(pool).await {
            Ok(()) => return Ok(()),
            Err(sqlx::migrate::MigrateError::Execute(_) | sqlx::migrate::MigrateError::ExecuteMigration(..))
                if tried < OPENINGS =>
            {
                tried += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(cause) => return Err(ReadError::Migrate(cause)),
        }
    }
}
