//! The tables, as migrations and as lists of columns, for both databases.
//!
//! Invariant: a migration that was released never changes. The list of columns is what inserts and the digest rest on; a test
//! holds it against the database.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AssertSqlSafe, Executor as _, Row as _, SqlSafeStr};

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Int,
    Text,
    Bytes,
}

/// A table: its name and its columns in the order of inserts.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, Holds)],
}

/// The migrations in the words of `dialect`.
pub(crate) fn migrator(dialect: Dialect) -> Migrator {
    let (bytes, rules) = match dialect {
        Dialect::Sqlite => ("BLOB", include_str!("../migrations/0002_rules.sqlite.sql")),
        Dialect::Postgres => ("BYTEA", include_str!("../migrations/0002_rules.postgres.sql")),
    };
    let tables = include_str!("../migrations/0001_tables.sql").replace("BYTES", bytes);
    let step = |version, description: &'static str, sql: String| {
        Migration::new(version, Cow::Borrowed(description), MigrationType::Simple, AssertSqlSafe(sql).into_sql_str(), false)
    };
    Migrator::with_migrations(vec![step(1, "tables", tables), step(2, "rules", rules.to_owned())])
}

const SQLITE_TRIGGERS: &str = "SELECT 'DROP TRIGGER ' || quote(name) AS undo FROM sqlite_master WHERE type = 'trigger'";
const POSTGRES_TRIGGERS: &str = "SELECT 'DROP TRIGGER ' || quote_ident(t.tgname) || ' ON ' || t.tgrelid::regclass::text AS undo \
     FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE NOT t.tgisinternal AND n.nspname = current_schema() AND c.relname IN ";

/// Puts the rules of the tables back: whatever triggers stand on them go, and those of the schema come. What somebody dropped,
/// switched off, altered or added to is as it was.
pub(crate) async fn restore_rules(connection: &mut AnyConnection, dialect: Dialect) -> Result<(), sqlx::Error> {
    let (found, rules) = match dialect {
        Dialect::Sqlite => (SQLITE_TRIGGERS.to_owned(), include_str!("../migrations/0002_rules.sqlite.sql")),
        Dialect::Postgres => {
            let names: Vec<String> = ALL.iter().map(|table| format!("'{}'", table.name)).collect();
            let found = format!("{POSTGRES_TRIGGERS}({})", names.join(", "));
            (found, include_str!("../migrations/0002_rules.postgres.sql"))
        }
    };
    for row in sqlx::query(AssertSqlSafe(found)).fetch_all(&mut *connection).await? {
        let undo: String = row.try_get("undo")?;
        connection.execute(AssertSqlSafe(undo)).await?;
    }
    // The migration also begins the feed, which goes on.
    let triggers = rules.split_once("CREATE ").map_or("", |(_, triggers)| triggers);
    let triggers = format!("CREATE {triggers}").replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION");
    connection.execute(sqlx::raw_sql(AssertSqlSafe(triggers))).await.map(drop)
}

macro_rules! tables {
    ($($constant:ident $name:literal [$($holds:ident $column:literal),+ $(,)?])+) => {
        $(pub(crate) const $constant: Table = Table { name: $name, columns: &[$(($column, Holds::$holds)),+] };)+
        /// Every table whose content comes from the log.
        pub(crate) const ALL: &[&Table] = &[$(&$constant),+];
    };
}

tables! {
    POSITIONS "positions" [Int "partition", Int "next_offset", Int "last_sequence", Bytes "last_hash"]
    EVENTS "events" [
        Int "partition", Int "sequence", Int "feed_id", Bytes "account", Int "account_sequence", Bytes "saga", Text "kind",
        Int "happened_at", Bytes "payload", Bytes "hash",
    ]
    ACCOUNTS "accounts" [
        Bytes "account", Text "tenant", Text "client_key", Int "opened_at", Int "partition", Int "sequence",
    ]
    ADDRESSES "addresses" [
        Text "chain", Bytes "address", Bytes "account", Bytes "saga", Bytes "wallet", Text "path", Int "watched_number",
        Bytes "watched_hash", Int "issued_at", Int "partition", Int "sequence",
    ]
    OPERATIONS "operations" [
        Bytes "saga", Bytes "account", Text "kind", Text "status", Text "step", Text "phase", Int "awaits_approval",
        Text "client_key", Text "chain", Text "asset", Text "amount", Bytes "to_address", Bytes "to_account", Text "fee_max",
        Text "fee_asset", Bytes "intent", Text "refusal", Text "parked_code", Int "started_at", Int "updated_at",
        Int "ended_at", Int "partition", Int "started_sequence", Int "updated_sequence", Int "ended_sequence",
    ]
    OPERATION_STEPS "operation_steps" [
        Int "partition", Int "sequence", Bytes "saga", Text "step", Text "phase", Int "happened_at",
    ]
    DEPOSITS "deposits" [
        Text "chain", Bytes "tx", Int "place", Bytes "account", Bytes "saga", Text "status", Int "block_number",
        Bytes "block_hash", Bytes "sender", Bytes "receiver", Text "asset", Text "amount", Int "seen_at", Int "updated_at",
        Int "partition", Int "sequence",
    ]
    PAYMENTS "payments" [
        Bytes "saga", Text "status", Bytes "intent", Bytes "tx", Int "nonce", Int "attempts", Int "block_number",
        Bytes "block_hash", Text "fee", Int "succeeded", Int "updated_at",
    ]
    PAYMENT_SIGNATURES "payment_signatures" [
        Int "partition", Int "sequence", Bytes "saga", Int "attempt", Bytes "tx", Int "nonce", Bytes "digest",
        Int "happened_at",
    ]
    TRANSFERS "transfers" [
        Int "partition", Int "sequence", Bytes "saga", Bytes "sender", Bytes "receiver", Text "asset", Text "amount",
        Int "happened_at",
    ]
    APPROVALS "approvals" [
        Bytes "saga", Bytes "digest", Bytes "intent", Int "quorum", Int "asked_at", Int "partition", Int "sequence",
    ]
    DECISIONS "decisions" [
        Int "partition", Int "sequence", Bytes "saga", Text "officer", Text "verdict", Bytes "digest", Int "policy_version",
        Int "happened_at",
    ]
    SCREENINGS "screenings" [
        Int "partition", Int "sequence", Bytes "saga", Text "step", Int "clear", Text "codes", Text "versions",
        Int "happened_at",
    ]
    MARKS "marks" [
        Int "partition", Text "chain", Text "path", Int "block_number", Bytes "block_hash", Int "marked_at",
    ]
    ALARMS "alarms" [
        Int "partition", Int "sequence", Bytes "account", Bytes "saga", Text "code", Text "subject", Int "happened_at",
    ]
    POLICIES "policies" [Int "partition", Int "version", Bytes "digest", Int "adopted_at", Int "sequence"]
    JOURNAL_ENTRIES "journal_entries" [
        Int "partition", Int "sequence", Bytes "account", Bytes "saga", Text "reason", Text "chain", Int "block_number",
        Bytes "block_hash", Int "happened_at", Int "legs", Int "sealed",
    ]
    JOURNAL_LEGS "journal_legs" [
        Int "partition", Int "sequence", Int "leg", Bytes "holder", Text "book", Text "asset", Int "side", Int "a0",
        Int "a1", Int "a2", Int "a3", Text "chain", Int "block_number",
    ]
    BALANCES "balances" [
        Bytes "holder", Text "book", Text "asset", Int "d0", Int "d1", Int "d2", Int "d3",
    ]
}
