//! Folding the log into the tables, one batch per SQL transaction.
//!
//! Any number of projectors may run at once: the row of a partition's position is compared and set at the start of each
//! transaction, so of two that hold the same events one commits, and the other looks again and finds repeats.

use std::collections::{BTreeMap, BTreeSet};

use custos_domain::{Digest, SagaId};
use custos_messages::Message as _;
use custos_messages::events::{Event, Position};
use custos_messages::{Chained, event_hash};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row as _, Transaction};

use crate::cell::{Cell, Fields, bind, insert, int, places};
use crate::columns;
use crate::fold::{Changes, sagas};
use crate::rows::{OperationRow, PaymentRow};
use crate::{Place, ReadError, ReadModel, schema};

/// How often a batch is tried when other projectors are faster.
const ATTEMPTS: u32 = 16;
/// Sagas per question to the database.
const SAGAS: usize = 256;

/// An event of the log in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The partition.
    pub partition: u32,
    /// The offset of its record.
    pub offset: u64,
    /// Its place in the chain, as its headers say.
    pub place: Chained,
    /// The event.
    pub event: Event,
    /// The bytes that the record carries: what the hash covers and what readers are given.
    pub payload: Vec<u8>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events folded.
    pub folded: u64,
    /// Events that were there already.
    pub repeated: u64,
}

/// Folds batches of events into a [`ReadModel`].
#[derive(Clone, Debug)]
pub struct Projection {
    model: ReadModel,
}

impl ReadModel {
    /// A projection into this read model.
    #[must_use]
    pub fn projection(&self) -> Projection {
        Projection { model: self.clone() }
    }
}

impl Projection {
    /// Folds `batch` (any partitions, each in the order of its log) in one SQL transaction, together with the positions.
    /// Idempotent: events that are there already change nothing.
    ///
    /// # Errors
    /// [`ReadError::Gap`] or [`ReadError::Broken`] if a partition's next event is not the next: nothing of the batch is folded.
    /// Whatever the database refuses, such as a journal entry that does not balance.
    pub async fn apply(&mut self, batch: &[Arrival]) -> Result<Applied, ReadError> {
        for _ in 0..ATTEMPTS {
            let before = self.model.places().await?;
            let new = next_events(&before, batch)?;
            let folded = u64::try_from(new.len()).unwrap_or(u64::MAX);
            let repeated = u64::try_from(batch.len()).unwrap_or(u64::MAX).saturating_sub(folded);
            if new.is_empty() || self.commit(&before, &new).await? {
                self.model.folded.send_modify(|count| *count = count.wrapping_add(1));
                return Ok(Applied { folded, repeated });
            }
        }
        let partition = batch.first().map_or(0, |arrival| arrival.partition);
        Err(ReadError::Raced { partition, attempts: ATTEMPTS })
    }

    /// Whether it was committed: `false` means that another projector was faster.
    async fn commit(&self, before: &BTreeMap<u32, Place>, new: &[&Arrival]) -> Result<bool, ReadError> {
        let mut transaction = self.model.pool().begin().await.map_err(ReadError::sql("begin"))?;
        if !take_positions(&mut transaction, before, new).await? {
            transaction.rollback().await.map_err(ReadError::sql("roll back"))?;
            return Ok(false);
        }
        let mut changes = Changes::default();
        load(&mut transaction, &mut changes, new).await?;
        for arrival in new {
            changes.take(arrival)?;
        }
        store(&mut transaction, changes).await?;
        append_events(&mut transaction, new).await?;
        transaction.commit().await.map_err(ReadError::sql("commit"))?;
        Ok(true)
    }
}

/// The events of `batch` that are not there yet, each proven to follow the one before it.
fn next_events<'b>(before: &BTreeMap<u32, Place>, batch: &'b [Arrival]) -> Result<Vec<&'b Arrival>, ReadError> {
    let mut last: BTreeMap<u32, (u64, Digest)> =
        before.iter().map(|(partition, place)| (*partition, (place.position.sequence, place.hash))).collect();
    let mut new = Vec::with_capacity(batch.len());
    for arrival in batch {
        let Arrival { partition, place, .. } = arrival;
        let (sequence, hash) = last.entry(*partition).or_insert((0, Chained::GENESIS));
        if place.sequence <= *sequence {
            continue;
        }
        let expected = sequence.saturating_add(1);
        if place.sequence != expected {
            return Err(ReadError::Gap { partition: *partition, expected, found: place.sequence });
        }
        let broken =
            |expected, found| ReadError::Broken { partition: *partition, sequence: place.sequence, expected, found };
        if place.previous != *hash {
            return Err(broken(*hash, place.previous));
        }
        let event = &arrival.event;
        let own = event_hash(&place.previous, *partition, place.sequence, event.kind(), &event.key(), &arrival.payload);
        if own != place.hash {
            return Err(broken(own, place.hash));
        }
        (*sequence, *hash) = (place.sequence, place.hash);
        new.push(arrival);
    }
    Ok(new)
}

/// Compares and sets the position of every partition of the batch, in order of partitions so that two never wait for each
/// other. `false` if one of them is no longer where it was.
async fn take_positions(
    connection: &mut AnyConnection,
    before: &BTreeMap<u32, Place>,
    new: &[&Arrival],
) -> Result<bool, ReadError> {
    let last: BTreeMap<u32, &Arrival> = new.iter().map(|arrival| (arrival.partition, *arrival)).collect();
    let fresh: Vec<Vec<Cell>> = last
        .keys()
        .map(|partition| vec![(*partition).into(), 0_i64.into(), 0_i64.into(), Chained::GENESIS.as_bytes().into()])
        .collect();
    insert(connection, &schema::POSITIONS, fresh, "ON CONFLICT (partition) DO NOTHING").await?;
    for (partition, arrival) in last {
        let (sequence, hash) =
            before.get(&partition).map_or((0, Chained::GENESIS), |place| (place.position.sequence, place.hash));
        let cells = [
            int("offset", arrival.offset.saturating_add(1))?,
            int("sequence", arrival.place.sequence)?,
            arrival.place.hash.as_bytes().into(),
            partition.into(),
            int("sequence", sequence)?,
            hash.as_bytes().into(),
        ];
        let update = sqlx::query(
            "UPDATE positions SET next_offset = $1, last_sequence = $2, last_hash = $3 \
             WHERE partition = $4 AND last_sequence = $5 AND last_hash = $6",
        );
        let done = cells.into_iter().fold(update, bind).execute(&mut *connection).await;
        if done.map_err(ReadError::sql("set a position"))?.rows_affected() != 1 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Loads the rows that the batch may change.
async fn load(transaction: &mut Transaction<'_, Any>, changes: &mut Changes, new: &[&Arrival]) -> Result<(), ReadError> {
    let sagas: Vec<SagaId> = sagas(new).into_iter().collect();
    for row in rows_of(transaction, "operations", &sagas).await? {
        let row = OperationRow::read(&row)?;
        changes.operations.insert(row.saga, row);
    }
    let paying: BTreeSet<SagaId> = new
        .iter()
        .filter(|arrival| arrival.event.kind().starts_with("custos.payment."))
        .filter_map(|arrival| arrival.event.saga)
        .collect();
    let paying: Vec<SagaId> = paying.into_iter().collect();
    for row in rows_of(transaction, "payments", &paying).await? {
        let row = PaymentRow::read(&row)?;
        changes.payments.insert(row.saga, row);
    }
    Ok(())
}

async fn rows_of(connection: &mut AnyConnection, table: &'static str, sagas: &[SagaId]) -> Result<Vec<AnyRow>, ReadError> {
    if columns::are_taken_by(connection) {
        let sql = format!("SELECT * FROM {table} WHERE saga = ANY({})", columns::array_at(schema::Holds::Bytes, 1));
        let cells: Vec<Cell> = sagas.iter().map(|saga| (*saga).into()).collect();
        let query = sqlx::query(AssertSqlSafe(sql)).bind(columns::array(cells.iter()));
        return query.fetch_all(&mut *connection).await.map_err(ReadError::sql(table));
    }
    let mut rows = Vec::new();
    for some in sagas.chunks(SAGAS) {
        let sql = format!("SELECT * FROM {table} WHERE saga IN ({})", places(1, some.len()));
        let query = some.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, saga| bind(query, (*saga).into()));
        rows.extend(query.fetch_all(&mut *connection).await.map_err(ReadError::sql(table))?);
    }
    Ok(rows)
}

async fn store(connection: &mut AnyConnection, changes: Changes) -> Result<(), ReadError> {
    let unsealed = changes.unsealed;
    insert(connection, &schema::ACCOUNTS, changes.accounts, "").await?;
    insert(connection, &schema::ADDRESSES, changes.addresses, "").await?;
    let operations = changes.operations.into_values().map(OperationRow::cells).collect::<Result<_, _>>()?;
    insert(connection, &schema::OPERATIONS, operations, &replacing(&schema::OPERATIONS, "saga", &[])).await?;
    let payments = changes.payments.into_values().map(PaymentRow::cells).collect::<Result<_, _>>()?;
    insert(connection, &schema::PAYMENTS, payments, &replacing(&schema::PAYMENTS, "saga", &[])).await?;
    let deposits = changes.deposits.into_values().map(crate::rows::DepositRow::cells).collect::<Result<_, _>>()?;
    let kept = ["account", "sender", "receiver", "asset", "amount", "seen_at", "partition", "sequence"];
    insert(connection, &schema::DEPOSITS, deposits, &replacing(&schema::DEPOSITS, "chain, tx, place", &kept)).await?;
    insert(connection, &schema::OPERATION_STEPS, changes.steps, "").await?;
    insert(connection, &schema::PAYMENT_SIGNATURES, changes.signatures, "").await?;
    insert(connection, &schema::TRANSFERS, changes.transfers, "").await?;
    insert(connection, &schema::APPROVALS, changes.approvals, "ON CONFLICT (saga, digest) DO NOTHING").await?;
    insert(connection, &schema::DECISIONS, changes.decisions, "").await?;
    insert(connection, &schema::SCREENINGS, changes.screenings, "").await?;
    insert(connection, &schema::ALARMS, changes.alarms, "").await?;
    insert(connection, &schema::POLICIES, changes.policies, "ON CONFLICT (partition, version) DO NOTHING").await?;
    let marks = changes.marks.into_values().collect();
    insert(connection, &schema::MARKS, marks, &replacing(&schema::MARKS, "partition, chain, path", &[])).await?;
    insert(connection, &schema::JOURNAL_ENTRIES, changes.entries, "").await?;
    insert(connection, &schema::JOURNAL_LEGS, changes.legs, "").await?;
    let balances = changes.balances.into_iter().map(|((holder, book, asset), limbs)| {
        let [d0, d1, d2, d3] = limbs.0;
        vec![holder.as_slice().into(), book.into(), asset.as_str().into(), d0.into(), d1.into(), d2.into(), d3.into()]
    });
    let adding = "ON CONFLICT (holder, book, asset) DO UPDATE SET d0 = balances.d0 + excluded.d0, \
                  d1 = balances.d1 + excluded.d1, d2 = balances.d2 + excluded.d2, d3 = balances.d3 + excluded.d3";
    insert(connection, &schema::BALANCES, balances.collect(), adding).await?;
    seal(connection, unsealed).await
}

/// Seals what was posted: here the database refuses an entry that does not balance.
async fn seal(connection: &mut AnyConnection, unsealed: BTreeMap<u32, (u64, u64)>) -> Result<(), ReadError> {
    for (partition, (first, last)) in unsealed {
        let cells = [partition.into(), int("sequence", first)?, int("sequence", last)?];
        let query = sqlx::query("UPDATE journal_entries SET sealed = 1 WHERE partition = $1 AND sequence BETWEEN $2 AND $3");
        let sealing = cells.into_iter().fold(query, bind).execute(&mut *connection).await;
        sealing.map_err(ReadError::sql("seal journal entries"))?;
    }
    Ok(())
}

/// `ON CONFLICT (key) DO UPDATE` of every column but those of the key and those that keep their first value. A deposit keeps its
/// saga when an event names none.
fn replacing(table: &schema::Table, key: &str, kept: &[&str]) -> String {
    let keys: Vec<&str> = key.split(", ").collect();
    let sets: Vec<String> = table
        .columns
        .iter()
        .filter(|(name, _)| !keys.contains(name) && !kept.contains(name))
        .map(|(name, _)| match (table.name, *name) {
            ("deposits", "saga") => "saga = COALESCE(excluded.saga, deposits.saga)".to_owned(),
            _ => format!("{name} = excluded.{name}"),
        })
        .collect();
    format!("ON CONFLICT ({key}) DO UPDATE SET {}", sets.join(", "))
}

/// The feed's ids come last: from here on no other projector gives any out until this one commits, so that whoever reads id n
/// can already read every id below n.
async fn append_events(connection: &mut AnyConnection, new: &[&Arrival]) -> Result<(), ReadError> {
    let count = i64::try_from(new.len()).unwrap_or(i64::MAX);
    let row = sqlx::query("UPDATE feed SET head = head + $1 RETURNING head")
        .bind(count)
        .fetch_one(&mut *connection)
        .await
        .map_err(ReadError::sql("take feed ids"))?;
    let head: i64 = row.try_get("head").map_err(ReadError::sql("take feed ids"))?;
    let ids = head.saturating_sub(count).saturating_add(1)..;
    let rows = new.iter().zip(ids).map(|(arrival, id)| arrival.event_row(id)).collect::<Result<_, _>>()?;
    insert(connection, &schema::EVENTS, rows, "").await
}

impl ReadModel {
    /// Where every partition stands.
    pub async fn places(&self) -> Result<BTreeMap<u32, Place>, ReadError> {
        let rows =
            sqlx::query("SELECT * FROM positions").fetch_all(self.pool()).await.map_err(ReadError::sql("positions"))?;
        rows.iter()
            .map(|row| {
                let fields = Fields(row);
                let position = Position { partition: fields.u32("partition")?, sequence: fields.u64("last_sequence")? };
                let place = Place { position, next_offset: fields.u64("next_offset")?, hash: fields.digest("last_hash")? };
                Ok((position.partition, place))
            })
            .collect()
    }
}
