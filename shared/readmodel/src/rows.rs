//! The rows that change over time: operations, deposits and payments.

use custos_domain::{AccountId, IntentId, SagaId, Timestamp, TxHash};
use custos_messages::accounts::{Deposit, Inclusion};
use custos_messages::events::{Event, Request, StepPhase};
use sqlx::any::AnyRow;

use crate::ReadError;
use crate::cell::{Cell, Fields, int, maybe_bytes, maybe_int, maybe_saga, maybe_text};
use crate::names::{DepositStatus, Named as _, OperationKind, OperationStatus, PaymentStatus};

/// A row of `operations`, without what the request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OperationRow {
    pub(crate) saga: SagaId,
    pub(crate) account: AccountId,
    pub(crate) kind: OperationKind,
    pub(crate) status: OperationStatus,
    pub(crate) step: Option<String>,
    pub(crate) phase: Option<StepPhase>,
    pub(crate) awaits_approval: bool,
    /// The cells from `client_key` to `intent`.
    pub(crate) asked: Vec<Cell>,
    pub(crate) refusal: Option<String>,
    pub(crate) parked_code: Option<String>,
    pub(crate) started_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) partition: u32,
    pub(crate) started_sequence: u64,
    pub(crate) updated_sequence: u64,
    pub(crate) ended_sequence: Option<u64>,
}

impl OperationRow {
    /// The operation that `event`, at `sequence` of `partition`, begins.
    pub(crate) fn begin(saga: SagaId, request: &Request, event: &Event, partition: u32, sequence: u64) -> Self {
        Self {
            saga,
            account: event.account,
            kind: OperationKind::of(request),
            status: OperationStatus::Running,
            step: None,
            phase: None,
            awaits_approval: false,
            asked: asked(request),
            refusal: None,
            parked_code: None,
            started_at: event.at,
            updated_at: event.at,
            ended_at: None,
            partition,
            started_sequence: sequence,
            updated_sequence: sequence,
            ended_sequence: None,
        }
    }

    pub(crate) fn read(row: &AnyRow) -> Result<Self, ReadError> {
        let fields = Fields(row);
        let asked = crate::schema::OPERATIONS
            .columns
            .iter()
            .skip_while(|(name, _)| *name != "client_key")
            .take_while(|(name, _)| *name != "refusal")
            .map(|(name, holds)| fields.cell(name, *holds))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            saga: fields.saga("saga")?,
            account: fields.account("account")?,
            kind: fields.named("kind")?,
            status: fields.named("status")?,
            step: fields.maybe_text("step")?,
            phase: fields.maybe_named("phase")?,
            awaits_approval: fields.yes("awaits_approval")?,
            asked,
            refusal: fields.maybe_text("refusal")?,
            parked_code: fields.maybe_text("parked_code")?,
            started_at: fields.time("started_at")?,
            updated_at: fields.time("updated_at")?,
            ended_at: fields.maybe_u64("ended_at")?.map(Timestamp),
            partition: fields.u32("partition")?,
            started_sequence: fields.u64("started_sequence")?,
            updated_sequence: fields.u64("updated_sequence")?,
            ended_sequence: fields.maybe_u64("ended_sequence")?,
        })
    }

    pub(crate) fn cells(self) -> Result<Vec<Cell>, ReadError> {
        let mut cells = vec![
            self.saga.into(),
            self.account.as_bytes().into(),
            self.kind.word().into(),
            self.status.word().into(),
            maybe_text(self.step.as_deref()),
            maybe_text(self.phase.map(StepPhase::word)),
            self.awaits_approval.into(),
        ];
        cells.extend(self.asked);
        cells.extend([
            maybe_text(self.refusal.as_deref()),
            maybe_text(self.parked_code.as_deref()),
            int("time", self.started_at.0)?,
            int("time", self.updated_at.0)?,
            maybe_int("time", self.ended_at.map(|at| at.0))?,
            self.partition.into(),
            int("sequence", self.started_sequence)?,
            int("sequence", self.updated_sequence)?,
            maybe_int("sequence", self.ended_sequence)?,
        ]);
        Ok(cells)
    }
}

/// `client_key`, `chain`, `asset`, `amount`, `to_address`, `to_account`, `fee_max`, `fee_asset`, `intent`.
fn asked(request: &Request) -> Vec<Cell> {
    let none = || maybe_text(None);
    let no_bytes = || maybe_bytes(None);
    match request {
        Request::Address { key, chain } => vec![
            key.as_str().into(),
            chain.as_str().into(),
            none(),
            none(),
            no_bytes(),
            no_bytes(),
            none(),
            none(),
            no_bytes(),
        ],
        Request::Withdrawal { key, asset, amount, to, fee_max, fee_asset, intent } => vec![
            key.as_str().into(),
            none(),
            asset.as_str().into(),
            (*amount).into(),
            to.0.as_slice().into(),
            no_bytes(),
            (*fee_max).into(),
            fee_asset.as_str().into(),
            intent.as_bytes().into(),
        ],
        Request::Transfer { key, to, asset, amount } => vec![
            key.as_str().into(),
            none(),
            asset.as_str().into(),
            (*amount).into(),
            no_bytes(),
            to.as_bytes().into(),
            none(),
            none(),
            no_bytes(),
        ],
        Request::Deposit(deposit) => vec![
            none(),
            deposit.chain.as_str().into(),
            deposit.asset.as_str().into(),
            deposit.amount.into(),
            deposit.to.0.as_slice().into(),
            no_bytes(),
            none(),
            none(),
            no_bytes(),
        ],
    }
}

/// A row of `deposits`. What came first (when and where it was seen) the database keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DepositRow {
    pub(crate) deposit: Deposit,
    pub(crate) account: AccountId,
    pub(crate) saga: Option<SagaId>,
    pub(crate) status: DepositStatus,
    pub(crate) seen_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) partition: u32,
    pub(crate) sequence: u64,
}

impl DepositRow {
    pub(crate) fn cells(self) -> Result<Vec<Cell>, ReadError> {
        let deposit = self.deposit;
        Ok(vec![
            deposit.chain.as_str().into(),
            deposit.tx.as_bytes().into(),
            deposit.index.into(),
            self.account.as_bytes().into(),
            maybe_saga(self.saga),
            self.status.word().into(),
            int("block", deposit.block.number)?,
            deposit.block.hash.as_bytes().into(),
            deposit.from.0.as_slice().into(),
            deposit.to.0.as_slice().into(),
            deposit.asset.as_str().into(),
            deposit.amount.into(),
            int("time", self.seen_at.0)?,
            int("time", self.updated_at.0)?,
            self.partition.into(),
            int("sequence", self.sequence)?,
        ])
    }
}

/// A row of `payments`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PaymentRow {
    pub(crate) saga: SagaId,
    pub(crate) status: PaymentStatus,
    pub(crate) intent: Option<IntentId>,
    pub(crate) tx: Option<TxHash>,
    pub(crate) nonce: Option<u64>,
    pub(crate) attempts: u64,
    pub(crate) included: Option<Inclusion>,
    pub(crate) updated_at: Timestamp,
}

impl PaymentRow {
    pub(crate) fn begin(saga: SagaId, at: Timestamp) -> Self {
        Self {
            saga,
            status: PaymentStatus::Taken,
            intent: None,
            tx: None,
            nonce: None,
            attempts: 0,
            included: None,
            updated_at: at,
        }
    }

    pub(crate) fn read(row: &AnyRow) -> Result<Self, ReadError> {
        let fields = Fields(row);
        let tx = fields.maybe_tx("tx")?;
        let nonce = fields.maybe_u64("nonce")?;
        let included = match (tx, nonce, fields.maybe_block("block_number", "block_hash")?) {
            (Some(tx), Some(nonce), Some(block)) => {
                let (fee, succeeded) = (fields.amount("fee")?, fields.yes("succeeded")?);
                Some(Inclusion { tx, nonce, block, fee, succeeded })
            }
            _ => None,
        };
        Ok(Self {
            saga: fields.saga("saga")?,
            status: fields.named("status")?,
            intent: fields.maybe_intent("intent")?,
            tx,
            nonce,
            attempts: fields.u64("attempts")?,
            included,
            updated_at: fields.time("updated_at")?,
        })
    }

    pub(crate) fn cells(self) -> Result<Vec<Cell>, ReadError> {
        let included = self.included.as_ref();
        Ok(vec![
            self.saga.into(),
            self.status.word().into(),
            maybe_bytes(self.intent.as_ref().map(IntentId::as_bytes)),
            maybe_bytes(self.tx.as_ref().map(TxHash::as_bytes)),
            maybe_int("nonce", self.nonce)?,
            int("attempts", self.attempts)?,
            maybe_int("block", included.map(|inclusion| inclusion.block.number))?,
            maybe_bytes(included.map(|inclusion| inclusion.block.hash.as_bytes())),
            maybe_text(included.map(|inclusion| inclusion.fee.to_string()).as_deref()),
            Cell::Int(included.map(|inclusion| i64::from(inclusion.succeeded))),
            int("time", self.updated_at.0)?,
        ])
    }
}
