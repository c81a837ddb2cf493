//! The feed: events as they were told, for the bank's consumers, with places that a reader can wait for.

use std::time::Duration;

use custos_domain::{AccountId, Digest, SagaId, Timestamp};
use custos_messages::Message as _;
use custos_messages::accounts::AlarmCode;
use custos_messages::events::{Event, Position};
use sqlx::any::AnyRow;

use crate::cell::{Fields, bind, int};
use crate::clients::position;
use crate::page::{List, Order};
use crate::{Page, PageRequest, ReadError, ReadModel};

/// How often a waiting reader looks when another process folds.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The largest page of events.
const LARGEST: u32 = 1_000;

/// A place in the feed: rises with every event folded, in the order in which events can be read. A reader that has read id n has
/// been able to read every id below n. After a rebuild events have new, higher ids: a reader sees them again, and tells
/// repeats by their [`Position`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedId(pub u64);

/// An event of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    /// Its place in the feed.
    pub id: FeedId,
    /// Its place in the log: its identity for whoever reads twice.
    pub position: Position,
    /// The saga in whose story it stands. For a transfer that was received, the sender's.
    pub saga: Option<SagaId>,
    /// Its protocol name.
    pub kind: String,
    /// The event.
    pub event: Event,
    /// Its Protobuf bytes, as they stand in the log.
    pub payload: Vec<u8>,
    /// Its hash in the chain of its partition.
    pub hash: Digest,
}

/// How far a partition is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The last event folded.
    pub position: Position,
    /// The next offset of the log to read.
    pub next_offset: u64,
    /// The hash of the last event folded.
    pub hash: Digest,
}

/// Something a human must look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmView {
    /// What.
    pub code: AlarmCode,
    /// About what.
    pub subject: String,
    /// In whose books: an account's, or the house's of a shard.
    pub account: AccountId,
    /// The saga, if it is about one.
    pub saga: Option<SagaId>,
    /// When.
    pub at: Timestamp,
    /// The event.
    pub position: Position,
}

impl ReadModel {
    /// Up to `limit` (at most 1000) events after `after`, oldest first: of one account, or of all.
    pub async fn events(&self, account: Option<&AccountId>, after: FeedId, limit: u32) -> Result<Vec<FeedEvent>, ReadError> {
        let limit = i64::from(limit.clamp(1, LARGEST));
        let query =
            match account {
                Some(account) => {
                    sqlx::query("SELECT * FROM events WHERE feed_id > $1 AND account = $3 ORDER BY feed_id LIMIT $2")
                        .bind_all([int("feed id", after.0)?, limit.into(), account.as_bytes().into()])
                }
                None => sqlx::query("SELECT * FROM events WHERE feed_id > $1 ORDER BY feed_id LIMIT $2")
                    .bind_all([int("feed id", after.0)?, limit.into()]),
            };
        let rows = query.fetch_all(self.pool()).await.map_err(ReadError::sql("events"))?;
        rows.iter().map(read_event).collect()
    }

    /// The newest place in the feed.
    pub async fn feed_head(&self) -> Result<FeedId, ReadError> {
        let row = sqlx::query("SELECT head FROM feed").fetch_one(self.pool()).await.map_err(ReadError::sql("feed head"))?;
        Fields(&row).u64("head").map(FeedId)
    }

    /// The event at a place of the log, if it is folded: also how a reader with a [`Position`] finds its place in the feed.
    pub async fn event(&self, position: Position) -> Result<Option<FeedEvent>, ReadError> {
        sqlx::query("SELECT * FROM events WHERE partition = $1 AND sequence = $2")
            .bind_all([position.partition.into(), int("sequence", position.sequence)?])
            .fetch_optional(self.pool())
            .await
            .map_err(ReadError::sql("event"))?
            .as_ref()
            .map(read_event)
            .transpose()
    }

    /// Alarms, newest first.
    pub async fn alarms(&self, request: PageRequest) -> Result<Page<AlarmView>, ReadError> {
        let key = ["happened_at", "partition", "sequence"];
        let list = List { select: "SELECT * FROM alarms", key, names: key, order: Order::NewestFirst, equal: vec![] };
        list.page(self.pool(), request, read_alarm).await
    }

    /// How far the partition is folded; `None` if nothing of it is.
    pub async fn place(&self, partition: u32) -> Result<Option<Place>, ReadError> {
        let row = sqlx::query("SELECT * FROM positions WHERE partition = $1")
            .bind(i64::from(partition))
            .fetch_optional(self.pool())
            .await
            .map_err(ReadError::sql("position"))?;
        let read = |row: &AnyRow| {
            let fields = Fields(row);
            let position = Position { partition, sequence: fields.u64("last_sequence")? };
            Ok(Place { position, next_offset: fields.u64("next_offset")?, hash: fields.digest("last_hash")? })
        };
        row.as_ref().map(read).transpose()
    }

    /// Waits until everything up to `wanted` is folded.
    ///
    /// # Errors
    /// [`ReadError::Behind`] after `timeout`.
    pub async fn wait_for(&self, wanted: Position, timeout: Duration) -> Result<(), ReadError> {
        let Position { partition, sequence } = wanted;
        let mut folded = self.folded.subscribe();
        let reached = async {
            while self.place(partition).await?.is_none_or(|place| place.position.sequence < sequence) {
                // Whichever is first: this process folded something, or it is time to look whether another did.
                let _ = tokio::time::timeout(LOOK_EVERY, folded.changed()).await;
            }
            Ok(())
        };
        tokio::time::timeout(timeout, reached).await.unwrap_or(Err(ReadError::Behind { partition, sequence }))
    }

    /// Waits until the feed may have grown past `after`, at most `timeout`: for a stream of events.
    pub async fn wait_for_feed(&self, after: FeedId, timeout: Duration) -> Result<FeedId, ReadError> {
        let mut folded = self.folded.subscribe();
        let grown = async {
            loop {
                let head = self.feed_head().await?;
                if head > after {
                    return Ok(head);
                }
                let _ = tokio::time::timeout(LOOK_EVERY, folded.changed()).await;
            }
        };
        tokio::time::timeout(timeout, grown).await.unwrap_or(Ok(after))
    }
}

/// Binds several values at once.
trait BindAll<'q>: Sized {
    fn bind_all<const N: usize>(self, cells: [crate::cell::Cell; N]) -> Self;
}

impl BindAll<'_> for sqlx::query::Query<'_, sqlx::Any, sqlx::any::AnyArguments> {
    fn bind_all<const N: usize>(self, cells: [crate::cell::Cell; N]) -> Self {
        cells.into_iter().fold(self, bind)
    }
}

pub(crate) fn read_event(row: &AnyRow) -> Result<FeedEvent, ReadError> {
    let fields = Fields(row);
    let kind = fields.text("kind")?;
    let payload = fields.bytes("payload")?;
    Ok(FeedEvent {
        id: FeedId(fields.u64("feed_id")?),
        position: position(&fields)?,
        saga: fields.maybe_saga("saga")?,
        event: Event::decode(&kind, &payload).map_err(ReadError::Event)?,
        kind,
        payload,
        hash: fields.digest("hash")?,
    })
}

fn read_alarm(row: &AnyRow) -> Result<AlarmView, ReadError> {
    let fields = Fields(row);
    Ok(AlarmView {
        code: fields.named("code")?,
        subject: fields.text("subject")?,
        account: fields.account("account")?,
        saga: fields.maybe_saga("saga")?,
        at: fields.time("happened_at")?,
        position: position(&fields)?,
    })
}
