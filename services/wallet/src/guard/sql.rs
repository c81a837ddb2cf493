//! The guard in SQL: one set of statements for PostgreSQL and SQLite.
//!
//! Every claim begins by writing the one row of `signing_state`, which makes claims of all signers follow one another. The
//! uniqueness that the guard promises stands in the schema as well, as a second line. Records are only ever added; each carries a
//! running digest over all before it, which is what a checkpoint names. Amounts are sixteen big-endian bytes.

use std::time::Duration;

use custos_domain::{Amount, ChainId, CommandId, Digest, IntentId, TxHash, WalletId};
use custos_messages::treasury::SignRefusal;
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Row, Transaction};

use super::{Binding, Claim, FirstLimit, Grant, Guard, Holder, Known, Outcome, Verdict, Whose, rule};
use crate::WalletError;
use crate::checkpoint::Mark;
use crate::settings::GuardUrl;
use crate::transaction::SignedBytes;

/// Raised with every change of the tables.
const SCHEMA_VERSION: i64 = 3;
/// One signer needs one connection at a time; a few more keep repeats from queueing behind a claim.
const CONNECTIONS_MAX: u32 = 4;
const ACQUIRE_WITHIN: Duration = Duration::from_secs(10);
const DAY_MS: u64 = 86_400_000;
/// In `house_day`, for an intent that is not the house's.
const NOT_HOUSE: i64 = -1;

/// `BYTES` stands for the database's own type, here and below.
const STATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS signing_state (
        id BIGINT PRIMARY KEY CHECK (id = 1),
        schema_version BIGINT NOT NULL,
        policy_version BIGINT NOT NULL CHECK (policy_version >= 0)
    )";
const TABLES: [&str; 6] = [
    "CREATE TABLE IF NOT EXISTS signing_intents (
        intent BYTES PRIMARY KEY CHECK (length(intent) = 32),
        content BYTES NOT NULL CHECK (length(content) = 32),
        wallet BYTES NOT NULL CHECK (length(wallet) = 16),
        chain TEXT NOT NULL,
        nonce BIGINT NOT NULL CHECK (nonce >= 0),
        house_day BIGINT NOT NULL
    )",
    // At a nonce, one payment of a client and one no-op of the house: at most one of them is ever mined.
    "CREATE UNIQUE INDEX IF NOT EXISTS signing_client_nonces ON signing_intents (wallet, nonce) WHERE house_day < 0",
    "CREATE UNIQUE INDEX IF NOT EXISTS signing_house_nonces ON signing_intents (wallet, nonce) WHERE house_day >= 0",
    // What else is signed at a nonce is asked with every claim, of clients and of the house together.
    "CREATE INDEX IF NOT EXISTS signing_nonces ON signing_intents (wallet, nonce)",
    "CREATE TABLE IF NOT EXISTS signing_attempts (
        seq BIGINT PRIMARY KEY CHECK (seq >= 1),
        intent BYTES NOT NULL REFERENCES signing_intents (intent),
        attempt BYTES NOT NULL UNIQUE CHECK (length(attempt) = 32),
        max_fee_per_gas BYTES NOT NULL CHECK (length(max_fee_per_gas) = 16),
        max_priority_fee_per_gas BYTES NOT NULL CHECK (length(max_priority_fee_per_gas) = 16),
        policy_version BIGINT NOT NULL,
        tx BYTES NOT NULL UNIQUE CHECK (length(tx) = 32),
        raw BYTES NOT NULL,
        running BYTES NOT NULL CHECK (length(running) = 32)
    )",
    "CREATE TABLE IF NOT EXISTS signing_refusals (
        command BYTES PRIMARY KEY CHECK (length(command) = 32),
        reason BIGINT NOT NULL
    )",
];
/// The reasons as they stand in `signing_refusals`, for ever.
const REASONS: [(i64, SignRefusal); 10] = [
    (1, SignRefusal::OutsideIntent),
    (2, SignRefusal::OutsideEnvelope),
    (3, SignRefusal::NotApproved),
    (4, SignRefusal::PolicyRefused),
    (5, SignRefusal::IntentTaken),
    (6, SignRefusal::NonceTaken),
    (7, SignRefusal::WeakReplacement),
    (8, SignRefusal::Expired),
    (9, SignRefusal::HouseRefused),
    (10, SignRefusal::UnknownWallet),
];
const STATE_ROW: &str =
    "INSERT INTO signing_state (id, schema_version, policy_version) VALUES (1, $1, 0) ON CONFLICT (id) DO NOTHING";
/// Two signers may start at once, and PostgreSQL does not order concurrent `CREATE TABLE IF NOT EXISTS`.
const POSTGRES_SCHEMA_LOCK: &str = "DO $$ BEGIN PERFORM pg_advisory_xact_lock(7305808869229538414); END $$";
/// A signature leaves only after its record is on disk, whatever the server's default is.
const POSTGRES_DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') IN ('off', 'local')";
/// A signer that hangs inside of its transaction holds up every other one: after this long the database ends it. Nothing was
/// recorded then, and nothing has left.
const POSTGRES_ALONE_MOST: &str = "SET idle_in_transaction_session_timeout = '5s'";
const SQLITE_DURABLE: [&str; 3] = ["PRAGMA busy_timeout = 10000", "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Postgres,
    Sqlite,
}

/// The guard in PostgreSQL or SQLite. Has no `Debug`: its connections know the database's password.
#[derive(Clone)]
pub struct SqlGuard {
    pool: AnyPool,
}

impl SqlGuard {
    /// Connects and makes the tables if they are absent.
    ///
    /// # Errors
    /// No connection, or tables of another version of this program.
    pub async fn open(url: &GuardUrl) -> Result<Self, WalletError> {
        let url = url.expose();
        sqlx::any::install_default_drivers();
        let dialect = if url.starts_with("sqlite:") { Dialect::Sqlite } else { Dialect::Postgres };
        let url = match dialect {
            Dialect::Sqlite if !url.contains('?') => format!("{url}?mode=rwc"),
            Dialect::Sqlite | Dialect::Postgres => url.to_owned(),
        };
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_WITHIN)
            .after_connect(move |connection, _| Box::pin(make_durable(connection, dialect)))
            .connect(&url)
            .await
            .map_err(failed("connect"))?;
        let guard = Self { pool };
        guard.prepare(dialect).await?;
        Ok(guard)
    }

    async fn prepare(&self, dialect: Dialect) -> Result<(), WalletError> {
        let (begin, bytes) = match dialect {
            Dialect::Postgres => ("BEGIN", "BYTEA"),
            Dialect::Sqlite => ("BEGIN IMMEDIATE", "BLOB"),
        };
        let prepared = failed("make its tables");
        let mut transaction = self.pool.begin_with(begin).await.map_err(prepared)?;
        if dialect == Dialect::Postgres {
            sqlx::raw_sql(POSTGRES_SCHEMA_LOCK).execute(&mut *transaction).await.map_err(prepared)?;
        }
        // Of another version nothing is touched. Safe: both parts are constants of this file.
        let statement = |table: &str| AssertSqlSafe(table.replace("BYTES", bytes));
        sqlx::query(statement(STATE_TABLE)).execute(&mut *transaction).await.map_err(prepared)?;
        sqlx::query(STATE_ROW).bind(SCHEMA_VERSION).execute(&mut *transaction).await.map_err(prepared)?;
        let row = sqlx::query("SELECT schema_version FROM signing_state WHERE id = 1");
        let found = integer(&row.fetch_one(&mut *transaction).await.map_err(prepared)?, "schema_version")?;
        if found != SCHEMA_VERSION {
            return Err(WalletError::GuardSchema { found, known: SCHEMA_VERSION });
        }
        for table in TABLES {
            sqlx::query(statement(table)).execute(&mut *transaction).await.map_err(prepared)?;
        }
        transaction.commit().await.map_err(prepared)
    }

    /// Begins a transaction that no other signer's claim runs beside, and raises the policy version to `shown`.
    async fn alone(&self, shown: u32) -> Result<Transaction<'static, Any>, WalletError> {
        let locking = failed("take its turn");
        let mut transaction = self.pool.begin().await.map_err(locking)?;
        let turn = "UPDATE signing_state SET policy_version = CASE WHEN policy_version < $1 THEN $1 ELSE policy_version END
                    WHERE id = 1";
        sqlx::query(turn).bind(i64::from(shown)).execute(&mut *transaction).await.map_err(locking)?;
        Ok(transaction)
    }
}

impl Guard for SqlGuard {
    async fn recall(&self, attempt: &Digest, seen: &Mark) -> Result<(Option<SignedBytes>, Mark), WalletError> {
        let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
        prove(&mut connection, seen).await?;
        let signed = signed_before(&mut connection, attempt).await?;
        Ok((signed, head(&mut connection).await?))
    }

    async fn policy_shown(&self, version: u32, seen: &Mark) -> Result<u32, WalletError> {
        let mut connection = self.pool.acquire().await.map_err(failed("connect"))?;
        prove(&mut connection, seen).await?;
        let highest = policy_version(&mut connection).await?;
        drop(connection);
        if highest >= version {
            return Ok(highest);
        }
        let mut transaction = self.alone(version).await?;
        let highest = policy_version(&mut transaction).await?;
        transaction.commit().await.map_err(failed("commit"))?;
        Ok(highest)
    }

    async fn refuse(
        &self,
        order: &CommandId,
        attempt: &Digest,
        reason: SignRefusal,
        seen: &Mark,
    ) -> Result<Verdict, WalletError> {
        let mut transaction = self.alone(0).await?;
        prove(&mut transaction, seen).await?;
        let head = head(&mut transaction).await?;
        match decided(&mut transaction, order, attempt).await? {
            Some(outcome) => Ok(Verdict { outcome, head }),
            None => record_refusal(transaction, order, reason, head).await,
        }
    }

    async fn claim<S>(&self, claim: &Claim, seen: &Mark, sign: S) -> Result<Verdict, WalletError>
    where
        S: FnOnce() -> Result<SignedBytes, WalletError> + Send,
    {
        let mut transaction = self.alone(claim.policy_version).await?;
        prove(&mut transaction, seen).await?;
        let last = head(&mut transaction).await?;
        if let Some(outcome) = decided(&mut transaction, &claim.order, &claim.attempt).await? {
            return Ok(Verdict { outcome, head: last });
        }
        let grant = match rule(claim, &known(&mut transaction, claim, &last).await?) {
            Ok(grant) => grant,
            Err(reason) => return record_refusal(transaction, &claim.order, reason, last).await,
        };
        if grant == Grant::Fresh {
            insert_intent(&mut transaction, claim).await?;
        }
        let signed = sign()?;
        let next = insert_attempt(&mut transaction, claim, &signed, &last).await?;
        transaction.commit().await.map_err(failed("commit"))?;
        Ok(Verdict { outcome: Outcome::Granted(grant, signed), head: next })
    }
}

async fn make_durable(connection: &mut AnyConnection, dialect: Dialect) -> Result<(), sqlx::Error> {
    match dialect {
        Dialect::Postgres => {
            for setting in [POSTGRES_DURABLE, POSTGRES_ALONE_MOST] {
                sqlx::query(setting).execute(&mut *connection).await?;
            }
            Ok(())
        }
        Dialect::Sqlite => {
            for pragma in SQLITE_DURABLE {
                sqlx::query(pragma).execute(&mut *connection).await?;
            }
            Ok(())
        }
    }
}

/// Proves that the store still holds what `seen` names.
async fn prove(connection: &mut AnyConnection, seen: &Mark) -> Result<(), WalletError> {
    let proving = failed("read its records");
    if seen.count > 0 {
        let row = sqlx::query("SELECT running FROM signing_attempts WHERE seq = $1").bind(whole(seen.count, "seq")?);
        match row.fetch_optional(&mut *connection).await.map_err(proving)? {
            None => {
                let database = head(connection).await?.count;
                return Err(WalletError::RolledBack { checkpoint: seen.count, database });
            }
            Some(row) if digest(&row, "running")? != seen.running => {
                return Err(WalletError::OtherHistory { checkpoint: seen.count });
            }
            Some(_) => {}
        }
    }
    let database = policy_version(connection).await?;
    if database < seen.policy_version {
        return Err(WalletError::PolicyRolledBack { checkpoint: seen.policy_version, database });
    }
    Ok(())
}

async fn head(connection: &mut AnyConnection) -> Result<Mark, WalletError> {
    let row = sqlx::query("SELECT seq, running FROM signing_attempts ORDER BY seq DESC LIMIT 1");
    let policy_version = policy_version(connection).await?;
    match row.fetch_optional(connection).await.map_err(failed("read its records"))? {
        None => Ok(Mark { policy_version, ..Mark::START }),
        Some(row) => Ok(Mark { count: natural(&row, "seq")?, running: digest(&row, "running")?, policy_version }),
    }
}

async fn policy_version(connection: &mut AnyConnection) -> Result<u32, WalletError> {
    let row = sqlx::query("SELECT policy_version FROM signing_state WHERE id = 1");
    let row = row.fetch_one(connection).await.map_err(failed("read its policy version"))?;
    u32::try_from(integer(&row, "policy_version")?).map_err(|_| malformed("policy_version"))
}

async fn signed_before(connection: &mut AnyConnection, attempt: &Digest) -> Result<Option<SignedBytes>, WalletError> {
    let row = sqlx::query("SELECT tx, raw FROM signing_attempts WHERE attempt = $1").bind(attempt.0.to_vec());
    match row.fetch_optional(connection).await.map_err(failed("look for the attempt"))? {
        None => Ok(None),
        Some(row) => Ok(Some(SignedBytes { tx: TxHash(fixed(&row, "tx")?), raw: bytes(&row, "raw")? })),
    }
}

/// What was decided before, by whichever signer.
async fn decided(
    connection: &mut AnyConnection,
    order: &CommandId,
    attempt: &Digest,
) -> Result<Option<Outcome>, WalletError> {
    if let Some(signed) = signed_before(connection, attempt).await? {
        return Ok(Some(Outcome::Granted(Grant::Same, signed)));
    }
    let row = sqlx::query("SELECT reason FROM signing_refusals WHERE command = $1").bind(order.0.to_vec());
    let Some(row) = row.fetch_optional(connection).await.map_err(failed("look for a refusal"))? else { return Ok(None) };
    let code = integer(&row, "reason")?;
    let reason = REASONS.iter().find(|(known, _)| *known == code).ok_or(malformed("reason"))?;
    Ok(Some(Outcome::Refused(reason.1)))
}

async fn record_refusal(
    mut transaction: Transaction<'_, Any>,
    order: &CommandId,
    reason: SignRefusal,
    head: Mark,
) -> Result<Verdict, WalletError> {
    let (code, _) = REASONS.iter().find(|(_, known)| *known == reason).ok_or(malformed("reason"))?;
    sqlx::query("INSERT INTO signing_refusals (command, reason) VALUES ($1, $2)")
        .bind(order.0.to_vec())
        .bind(*code)
        .execute(&mut *transaction)
        .await
        .map_err(failed("record a refusal"))?;
    transaction.commit().await.map_err(failed("commit"))?;
    Ok(Verdict { outcome: Outcome::Refused(reason), head })
}

async fn known(connection: &mut AnyConnection, claim: &Claim, last: &Mark) -> Result<Known, WalletError> {
    let reading = failed("look for the intent");
    let row = sqlx::query("SELECT content, wallet, chain, nonce FROM signing_intents WHERE intent = $1")
        .bind(claim.intent.0.to_vec());
    let binding = match row.fetch_optional(&mut *connection).await.map_err(reading)? {
        None => None,
        Some(row) => Some(Binding {
            content: digest(&row, "content")?,
            wallet: WalletId(fixed(&row, "wallet")?),
            chain: ChainId::new(&text(&row, "chain")?).map_err(|_| malformed("chain"))?,
            nonce: natural(&row, "nonce")?,
            highest: highest_fees(connection, &claim.intent).await?,
        }),
    };
    let others = "SELECT intent, house_day FROM signing_intents WHERE wallet = $1 AND nonce = $2 AND intent <> $3
                  ORDER BY house_day DESC LIMIT 1";
    let row =
        sqlx::query(others).bind(claim.wallet.0.to_vec()).bind(whole(claim.nonce, "nonce")?).bind(claim.intent.0.to_vec());
    let holder = match row.fetch_optional(&mut *connection).await.map_err(reading)? {
        None => None,
        Some(row) => {
            let whose = if integer(&row, "house_day")? == NOT_HOUSE { Whose::Client } else { Whose::House };
            let other = IntentId(fixed(&row, "intent")?);
            Some(Holder { whose, highest: highest_fees(connection, &other).await? })
        }
    };
    let house_today = match house_day(claim)? {
        NOT_HOUSE => 0,
        day => {
            let row = sqlx::query("SELECT COUNT(*) AS made FROM signing_intents WHERE wallet = $1 AND house_day = $2")
                .bind(claim.wallet.0.to_vec())
                .bind(day);
            natural(&row.fetch_one(connection).await.map_err(reading)?, "made")?
        }
    };
    Ok(Known { binding, holder, house_today, policy_version: last.policy_version })
}

/// The highest of each fee field among the intent's attempts.
async fn highest_fees(connection: &mut AnyConnection, intent: &IntentId) -> Result<(Amount, Amount), WalletError> {
    let rows = sqlx::query("SELECT max_fee_per_gas, max_priority_fee_per_gas FROM signing_attempts WHERE intent = $1")
        .bind(intent.0.to_vec())
        .fetch_all(connection)
        .await
        .map_err(failed("look for earlier attempts"))?;
    rows.iter().try_fold((Amount::ZERO, Amount::ZERO), |(fee, tip), row| {
        Ok((fee.max(amount(row, "max_fee_per_gas")?), tip.max(amount(row, "max_priority_fee_per_gas")?)))
    })
}

async fn insert_intent(connection: &mut AnyConnection, claim: &Claim) -> Result<(), WalletError> {
    sqlx::query(
        "INSERT INTO signing_intents (intent, content, wallet, chain, nonce, house_day) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(claim.intent.0.to_vec())
    .bind(claim.content.0.to_vec())
    .bind(claim.wallet.0.to_vec())
    .bind(claim.chain.as_str().to_owned())
    .bind(whole(claim.nonce, "nonce")?)
    .bind(house_day(claim)?)
    .execute(connection)
    .await
    .map_err(failed("record the intent"))?;
    Ok(())
}

async fn insert_attempt(
    connection: &mut AnyConnection,
    claim: &Claim,
    signed: &SignedBytes,
    last: &Mark,
) -> Result<Mark, WalletError> {
    let count = last.count.checked_add(1).ok_or(malformed("seq"))?;
    let running = Digest::of_parts(
        "custos 2026 signing guard record",
        &[
            &last.running.0,
            &count.to_be_bytes(),
            &claim.intent.0,
            &claim.content.0,
            &claim.wallet.0,
            claim.chain.as_str().as_bytes(),
            &claim.nonce.to_be_bytes(),
            &claim.attempt.0,
            &claim.policy_version.to_be_bytes(),
            &signed.raw,
        ],
    );
    sqlx::query(
        "INSERT INTO signing_attempts
         (seq, intent, attempt, max_fee_per_gas, max_priority_fee_per_gas, policy_version, tx, raw, running)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(whole(count, "seq")?)
    .bind(claim.intent.0.to_vec())
    .bind(claim.attempt.0.to_vec())
    .bind(claim.max_fee_per_gas.to_be_bytes().to_vec())
    .bind(claim.max_priority_fee_per_gas.to_be_bytes().to_vec())
    .bind(i64::from(claim.policy_version))
    .bind(signed.tx.0.to_vec())
    .bind(signed.raw.clone())
    .bind(running.0.to_vec())
    .execute(connection)
    .await
    .map_err(failed("record the attempt"))?;
    Ok(Mark { count, running, policy_version: last.policy_version })
}

fn house_day(claim: &Claim) -> Result<i64, WalletError> {
    match claim.first {
        FirstLimit::Until(_) => Ok(NOT_HOUSE),
        FirstLimit::PerDay(_) => whole(claim.at.0.checked_div(DAY_MS).unwrap_or(0), "house_day"),
    }
}

const fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> WalletError + Copy {
    move |source| WalletError::Guard { operation, source }
}

const fn malformed(column: &'static str) -> WalletError {
    WalletError::GuardMalformed { column }
}

fn whole(number: u64, column: &'static str) -> Result<i64, WalletError> {
    i64::try_from(number).map_err(|_| malformed(column))
}

fn integer(row: &AnyRow, column: &'static str) -> Result<i64, WalletError> {
    row.try_get(column).map_err(|_| malformed(column))
}

fn natural(row: &AnyRow, column: &'static str) -> Result<u64, WalletError> {
    u64::try_from(integer(row, column)?).map_err(|_| malformed(column))
}

fn text(row: &AnyRow, column: &'static str) -> Result<String, WalletError> {
    row.try_get(column).map_err(|_| malformed(column))
}

fn bytes(row: &AnyRow, column: &'static str) -> Result<Vec<u8>, WalletError> {
    row.try_get(column).map_err(|_| malformed(column))
}

fn fixed<const N: usize>(row: &AnyRow, column: &'static str) -> Result<[u8; N], WalletError> {
    bytes(row, column)?.try_into().map_err(|_| malformed(column))
}

fn digest(row: &AnyRow, column: &'static str) -> Result<Digest, WalletError> {
    fixed(row, column).map(Digest)
}

fn amount(row: &AnyRow, column: &'static str) -> Result<Amount, WalletError> {
    fixed(row, column).map(Amount::from_be_bytes)
}
