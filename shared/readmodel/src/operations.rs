//! Operations: what was asked for, where it stands, and every event of its story.

use custos_domain::{AccountId, SagaId, Timestamp};
use custos_messages::Message as _;
use custos_messages::events::{Ending, Event, EventBody, Position, Refusal, Request, StepPhase};
use sqlx::any::AnyRow;

use crate::cell::Fields;
use crate::feed::{FeedEvent, read_event};
use crate::names::Named as _;
use crate::page::{List, Order};
use crate::{OperationKind, OperationStatus, Page, PageRequest, ReadError, ReadModel};

/// An operation: one saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which.
    pub saga: SagaId,
    /// Whose.
    pub account: AccountId,
    /// What kind.
    pub kind: OperationKind,
    /// What was asked.
    pub request: Request,
    /// Where it stands.
    pub status: OperationStatus,
    /// The step that it reached, by its name in the saga's table.
    pub step: Option<String>,
    /// Where that step stands.
    pub phase: Option<StepPhase>,
    /// Whether officers are asked and have not settled it.
    pub awaits_approval: bool,
    /// Why it was refused.
    pub refusal: Option<Refusal>,
    /// Why it waits for a human, by code.
    pub parked: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its newest event.
    pub position: Position,
}

/// A step of an operation, as it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationStep {
    /// Its name in the saga's table.
    pub step: String,
    /// What was told about it.
    pub phase: StepPhase,
    /// When.
    pub at: Timestamp,
    /// The event.
    pub position: Position,
}

/// Which operations are wanted; what is `None` does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Of this account.
    pub account: Option<AccountId>,
    /// Of this kind.
    pub kind: Option<OperationKind>,
    /// In this state.
    pub status: Option<OperationStatus>,
}

/// The request and the refusal are read from the very events that told of them.
const SELECT: &str = "SELECT o.*, s.kind AS started_kind, s.payload AS started_payload, \
                      e.kind AS ended_kind, e.payload AS ended_payload FROM operations o \
                      JOIN events s ON s.partition = o.partition AND s.sequence = o.started_sequence \
                      LEFT JOIN events e ON e.partition = o.partition AND e.sequence = o.ended_sequence";

impl ReadModel {
    /// The operation, if it began.
    pub async fn operation(&self, saga: &SagaId) -> Result<Option<Operation>, ReadError> {
        sqlx::query(sqlx::AssertSqlSafe(format!("{SELECT} WHERE o.saga = $1")))
            .bind(saga.to_bytes().to_vec())
            .fetch_optional(self.pool())
            .await
            .map_err(ReadError::sql("operation"))?
            .as_ref()
            .map(read_operation)
            .transpose()
    }

    /// The steps of the operation in order.
    pub async fn steps(&self, saga: &SagaId) -> Result<Vec<OperationStep>, ReadError> {
        let rows = sqlx::query("SELECT * FROM operation_steps WHERE saga = $1 ORDER BY partition, sequence")
            .bind(saga.to_bytes().to_vec())
            .fetch_all(self.pool())
            .await
            .map_err(ReadError::sql("operation steps"))?;
        rows.iter()
            .map(|row| {
                let fields = Fields(row);
                Ok(OperationStep {
                    step: fields.text("step")?,
                    phase: fields.named("phase")?,
                    at: fields.time("happened_at")?,
                    position: crate::clients::position(&fields)?,
                })
            })
            .collect()
    }

    /// Operations, newest first.
    pub async fn operations(&self, filter: OperationFilter, request: PageRequest) -> Result<Page<Operation>, ReadError> {
        let account = filter.account.map(|account| ("o.account", account.as_bytes().into()));
        let kind = filter.kind.map(|kind| ("o.kind", kind.word().into()));
        let status = filter.status.map(|status| ("o.status", status.word().into()));
        let equal = [account, kind, status].into_iter().flatten().collect();
        self.operations_where(equal, Order::NewestFirst, request).await
    }

    /// Withdrawals that wait for officers, oldest first.
    pub async fn awaiting_approval(&self, request: PageRequest) -> Result<Page<Operation>, ReadError> {
        self.operations_where(vec![("o.awaits_approval", true.into())], Order::OldestFirst, request).await
    }

    async fn operations_where(
        &self,
        equal: Vec<(&'static str, crate::cell::Cell)>,
        order: Order,
        request: PageRequest,
    ) -> Result<Page<Operation>, ReadError> {
        let key = ["o.started_at", "o.partition", "o.started_sequence"];
        let names = ["started_at", "partition", "started_sequence"];
        List { select: SELECT, key, names, order, equal }.page(self.pool(), request, read_operation).await
    }

    /// Every event of the saga in order of time, those of a transfer's receiver included.
    pub async fn story(&self, saga: &SagaId) -> Result<Vec<FeedEvent>, ReadError> {
        let rows = sqlx::query("SELECT * FROM events WHERE saga = $1 ORDER BY happened_at, partition, sequence")
            .bind(saga.to_bytes().to_vec())
            .fetch_all(self.pool())
            .await
            .map_err(ReadError::sql("story"))?;
        rows.iter().map(read_event).collect()
    }
}

fn read_operation(row: &AnyRow) -> Result<Operation, ReadError> {
    let fields = Fields(row);
    let contradiction = |column| ReadError::Column { column, problem: "does not name the event that it should" };
    let started =
        Event::decode(&fields.text("started_kind")?, &fields.bytes("started_payload")?).map_err(ReadError::Event)?;
    let EventBody::Started(request) = started.body else { return Err(contradiction("started_sequence")) };
    let refusal = match fields.maybe_text("ended_kind")? {
        None => None,
        Some(kind) => match Event::decode(&kind, &fields.bytes("ended_payload")?).map_err(ReadError::Event)?.body {
            EventBody::Ended(Ending::Completed) => None,
            EventBody::Ended(Ending::Refused(refusal)) => Some(refusal),
            _ => return Err(contradiction("ended_sequence")),
        },
    };
    Ok(Operation {
        saga: fields.saga("saga")?,
        account: fields.account("account")?,
        kind: fields.named("kind")?,
        request,
        status: fields.named("status")?,
        step: fields.maybe_text("step")?,
        phase: fields.maybe_named("phase")?,
        awaits_approval: fields.yes("awaits_approval")?,
        refusal,
        parked: fields.maybe_text("parked_code")?,
        started_at: fields.time("started_at")?,
        updated_at: fields.time("updated_at")?,
        ended_at: fields.maybe_u64("ended_at")?.map(Timestamp),
        position: Position { partition: fields.u32("partition")?, sequence: fields.u64("updated_sequence")? },
    })
}
