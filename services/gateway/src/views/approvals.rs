//! What officers are asked, what they sign, and what they said.

use custos_domain::Digest;
use custos_messages::accounts::{Decision, Verdict};
use custos_readmodel::{Operation, ReadError, ReadModel};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::events::{request_data, verdict_word};
use super::{Registry, time};

/// A withdrawal that waits for officers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalSummary {
    /// The operation.
    pub operation: String,
    /// The account that pays.
    pub account: String,
    /// What was asked for.
    #[schema(value_type = Object)]
    pub request: Value,
    /// When the withdrawal began.
    pub started_at: String,
}

/// A page of pending approvals, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalPage {
    /// The approvals.
    pub items: Vec<ApprovalSummary>,
    /// The cursor of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What officers are asked about a withdrawal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    /// The operation.
    pub operation: String,
    /// Whether it still waits.
    pub pending: bool,
    /// What was asked for, as the events tell it. The intent's bytes decide.
    #[schema(value_type = Object)]
    pub request: Value,
    /// The canonical bytes of the intent, hexadecimal.
    pub intent: String,
    /// Their BLAKE3 digest, computed from the bytes above. Officers compute it again.
    pub digest: String,
    /// What an officer signs to approve, hexadecimal: `custos-decision`, 1, digest.
    pub approve_bytes: String,
    /// What an officer signs to reject, hexadecimal: `custos-decision`, 0, digest.
    pub reject_bytes: String,
    /// How many officers must agree.
    pub quorum: u32,
    /// When they were asked.
    pub asked_at: String,
    /// What they said.
    pub decisions: Vec<DecisionRecord>,
}

/// What an officer said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionRecord {
    /// Who.
    pub officer: String,
    /// `approve` or `reject`.
    pub verdict: String,
    /// About which intent.
    pub digest: String,
    /// The policy in which the officer's key stands.
    pub policy_version: u32,
    /// When.
    pub at: String,
}

impl ApprovalSummary {
    pub(crate) fn of(registry: &Registry, operation: &Operation) -> Self {
        Self {
            operation: operation.saga.to_string(),
            account: operation.account.to_string(),
            request: request_data(registry, &operation.request),
            started_at: time(operation.started_at),
        }
    }
}

impl ApprovalView {
    /// What officers were asked last about the operation, if they were.
    pub(crate) async fn load(
        model: &ReadModel,
        registry: &Registry,
        operation: &Operation,
    ) -> Result<Option<Self>, ReadError> {
        let Some(asked) = model.approvals(&operation.saga).await?.into_iter().next() else { return Ok(None) };
        // The digest is of the bytes that are shown, so that nobody signs for bytes that they did not see.
        let digest = Digest::of(&asked.intent);
        if digest != asked.digest {
            return Err(ReadError::Column { column: "intent", problem: "does not have the digest that was asked for" });
        }
        let decisions = model.decisions(&operation.saga).await?.into_iter().map(|decision| DecisionRecord {
            officer: decision.officer.to_string(),
            verdict: verdict_word(decision.verdict).to_owned(),
            digest: decision.digest.to_string(),
            policy_version: decision.policy_version,
            at: time(decision.at),
        });
        Ok(Some(Self {
            operation: operation.saga.to_string(),
            pending: operation.awaits_approval,
            request: request_data(registry, &operation.request),
            approve_bytes: hex::encode(Decision::signed_bytes(Verdict::Approve, &digest)),
            reject_bytes: hex::encode(Decision::signed_bytes(Verdict::Reject, &digest)),
            intent: hex::encode(asked.intent),
            digest: digest.to_string(),
            quorum: asked.quorum,
            asked_at: time(asked.asked_at),
            decisions: decisions.collect(),
        }))
    }
}
