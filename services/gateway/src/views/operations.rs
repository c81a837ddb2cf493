//! Operations: what was asked for, where it stands, how it ended (AIP-151).

use custos_messages::events::{Refusal, Request};
use custos_readmodel::{Operation, OperationKind, OperationStatus, Payment, ReadError, ReadModel};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::approvals::ApprovalView;
use super::events::{because, phase_word, request_data};
use super::{AddressView, Block, Money, Registry, time};
use crate::headers::write_position;
use crate::problem::Code;

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationView {
    /// `operations/` and the id.
    pub name: String,
    /// The id.
    pub id: String,
    /// Whether it has ended. What is done never changes.
    pub done: bool,
    /// Where it stands.
    pub metadata: OperationMetadata,
    /// What it made, once done as asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub response: Option<Value>,
    /// Why it was refused, once done otherwise: everything it held was given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<OperationRefusal>,
}

/// Where an operation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationMetadata {
    /// `withdrawal`, `transfer`, `deposit` or `issue-address`.
    pub kind: String,
    /// `running`, `parked` (waits for a human), `completed` or `refused`.
    pub status: String,
    /// The account.
    pub account: String,
    /// What was asked for.
    #[schema(value_type = Object)]
    pub request: Value,
    /// The step that it reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// `asked`, `done` or `undone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Whether officers are asked and have not settled it.
    pub awaits_approval: bool,
    /// Why it waits for a human, by code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<String>,
    /// When it began.
    pub started_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Its newest event.
    pub position: String,
    /// Its steps in order; empty in lists.
    pub steps: Vec<StepView>,
}

/// A step of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// Its name in the saga's table.
    pub step: String,
    /// `asked`, `done` or `undone`.
    pub phase: String,
    /// When.
    pub at: String,
}

/// Why an operation was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationRefusal {
    /// A code of the problem catalogue.
    pub code: String,
    /// `/problems/` and the code.
    pub r#type: String,
    /// The code in words.
    pub title: String,
    /// What adds to it: findings of a screening, the step that waited, the reason of a refused payment.
    pub because: Vec<String>,
}

/// A page of operations, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationPage {
    /// The operations.
    pub items: Vec<OperationView>,
    /// The cursor of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A withdrawal with everything that it rests on and led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WithdrawalView {
    /// The operation.
    pub operation: OperationView,
    /// What screenings found, in order.
    pub screenings: Vec<ScreeningRecord>,
    /// What officers were asked and said, if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalView>,
    /// The payment, once treasury has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment: Option<PaymentView>,
    /// Every signature that exists, in order.
    pub signatures: Vec<SignatureRecord>,
}

/// What a screening found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScreeningRecord {
    /// The step that asked.
    pub step: String,
    /// Whether nothing was found.
    pub clear: bool,
    /// What was found, by code.
    pub codes: Vec<String>,
    /// Versions of the lists and rules that the answer rests on.
    pub versions: Vec<String>,
    /// When it was answered.
    pub at: String,
}

/// A signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignatureRecord {
    /// The transaction.
    pub tx: String,
    /// Its nonce.
    pub nonce: u64,
    /// From 1; above 1 it replaces the former.
    pub attempt: u32,
    /// Digest of the signed bytes.
    pub digest: String,
    /// When.
    pub at: String,
}

/// A payment in treasury's hands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PaymentView {
    /// `taken`, `signed`, `seen`, `final` or `impossible`.
    pub status: String,
    /// The transaction that was signed last, or that is in a block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx: Option<String>,
    /// Its nonce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<u64>,
    /// Signatures made.
    pub attempts: u64,
    /// The block that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<Block>,
    /// What the chain was paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee: Option<Money>,
    /// Whether the transaction did what it was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<bool>,
}

impl OperationRefusal {
    fn of(refusal: &Refusal) -> Self {
        let row = Code::of(refusal).row();
        Self {
            code: row.name.to_owned(),
            r#type: format!("/problems/{}", row.name),
            title: row.title.to_owned(),
            because: because(refusal),
        }
    }
}

impl OperationView {
    /// The operation as lists show it: without steps and response.
    pub(crate) fn summary(registry: &Registry, operation: &Operation) -> Self {
        Self {
            name: format!("operations/{}", operation.saga),
            id: operation.saga.to_string(),
            done: operation.status.is_final(),
            metadata: OperationMetadata {
                kind: operation.kind.as_str().to_owned(),
                status: operation.status.as_str().to_owned(),
                account: operation.account.to_string(),
                request: request_data(registry, &operation.request),
                step: operation.step.clone(),
                phase: operation.phase.map(|phase| phase_word(phase).to_owned()),
                awaits_approval: operation.awaits_approval,
                parked: operation.parked.clone(),
                started_at: time(operation.started_at),
                updated_at: time(operation.updated_at),
                ended_at: operation.ended_at.map(time),
                position: write_position(operation.position),
                steps: Vec::new(),
            },
            response: None,
            error: operation.refusal.as_ref().map(OperationRefusal::of),
        }
    }

    /// The whole operation.
    pub(crate) async fn load(model: &ReadModel, registry: &Registry, operation: Operation) -> Result<Self, ReadError> {
        let mut view = Self::summary(registry, &operation);
        let steps = model.steps(&operation.saga).await?;
        view.metadata.steps = steps
            .into_iter()
            .map(|step| StepView { step: step.step, phase: phase_word(step.phase).to_owned(), at: time(step.at) })
            .collect();
        if operation.status == OperationStatus::Completed {
            view.response = Some(response(model, registry, &operation).await?);
        }
        Ok(view)
    }
}

/// What a completed operation made.
async fn response(model: &ReadModel, registry: &Registry, operation: &Operation) -> Result<Value, ReadError> {
    match operation.kind {
        OperationKind::IssueAddress => {
            let rows = model.addresses(&operation.account).await?;
            let issued = rows.into_iter().find(|row| row.saga == Some(operation.saga)).map(AddressView::from);
            Ok(json!({ "address": issued }))
        }
        OperationKind::Withdrawal => {
            let payment = model.payment(&operation.saga).await?;
            Ok(json!({ "payment": payment.map(|payment| PaymentView::of(registry, operation, &payment)) }))
        }
        OperationKind::Transfer | OperationKind::Deposit => Ok(request_data(registry, &operation.request)),
    }
}

impl PaymentView {
    fn of(registry: &Registry, operation: &Operation, payment: &Payment) -> Self {
        let fee_asset = match &operation.request {
            Request::Withdrawal { fee_asset, .. } => Some(fee_asset),
            _ => None,
        };
        let included = payment.included.as_ref();
        Self {
            status: payment.status.as_str().to_owned(),
            tx: payment.tx.map(|tx| tx.to_string()),
            nonce: payment.nonce,
            attempts: payment.attempts,
            block: included.map(|inclusion| inclusion.block.into()),
            fee: included.zip(fee_asset).map(|(inclusion, asset)| registry.money(asset, inclusion.fee)),
            succeeded: included.map(|inclusion| inclusion.succeeded),
        }
    }
}

impl WithdrawalView {
    pub(crate) async fn load(model: &ReadModel, registry: &Registry, operation: Operation) -> Result<Self, ReadError> {
        let saga = operation.saga;
        let screenings = model.screenings(&saga).await?.into_iter().map(|row| ScreeningRecord {
            step: row.step,
            clear: row.clear,
            codes: row.codes,
            versions: row.versions,
            at: time(row.at),
        });
        let signatures = model.signatures(&saga).await?.into_iter().map(|row| SignatureRecord {
            tx: row.tx.to_string(),
            nonce: row.nonce,
            attempt: row.attempt,
            digest: row.digest.to_string(),
            at: time(row.at),
        });
        let payment = model.payment(&saga).await?;
        Ok(Self {
            screenings: screenings.collect(),
            approval: ApprovalView::load(model, registry, &operation).await?,
            payment: payment.map(|payment| PaymentView::of(registry, &operation, &payment)),
            signatures: signatures.collect(),
            operation: OperationView::load(model, registry, operation).await?,
        })
    }
}
