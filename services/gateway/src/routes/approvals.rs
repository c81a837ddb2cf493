//! Approvals: what waits for officers, what they sign, and their decisions.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use custos_domain::{Digest, OfficerId};
use custos_messages::accounts::{AccountsInput, Decision, Verdict};
use custos_messages::gateway::Subject;

use super::{fresh, next, page};
use crate::auth::Officer;
use crate::door::{Entrance, enter, lane};
use crate::headers::idempotency_key;
use crate::problem::{Code, Problem};
use crate::reading::{self, Body, Fields, Params};
use crate::server::App;
use crate::views::{ApprovalPage, ApprovalSummary, ApprovalView, DecisionBody, ProblemBody, Receipt};

/// Withdrawals that wait for officers, oldest first.
#[utoipa::path(
    get, path = "/v1/approvals", tag = "approvals", operation_id = "listApprovals",
    params(
        ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query), ("Custos-Position" = Option<String>, Header),
    ),
    responses((status = 200, description = "A page.", body = ApprovalPage)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<ApprovalPage>, Problem> {
    let request = page(&app, "approvals", params)?;
    fresh(&app, &headers).await?;
    let found = app.model.awaiting_approval(request).await?;
    let items = found.items.iter().map(|row| ApprovalSummary::of(&app.registry, row)).collect();
    Ok(Json(ApprovalPage { items, next_cursor: next(&app, "approvals", found.next) }))
}

/// What officers are asked about a withdrawal: the bytes to sign, and who has decided.
#[utoipa::path(
    get, path = "/v1/approvals/{operation}", tag = "approvals", operation_id = "readApproval",
    params(("operation" = String, Path), ("Custos-Position" = Option<String>, Header)),
    responses(
        (status = 200, description = "The approval.", body = ApprovalView),
        (status = 404, description = "Officers were not asked about it.", body = ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    Path(operation): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<ApprovalView>, Problem> {
    params.finish()?;
    let saga = reading::operation(&operation)?;
    fresh(&app, &headers).await?;
    let found = app.model.operation(&saga).await?.ok_or(Problem::new(Code::UnknownOperation))?;
    let approval = ApprovalView::load(&app.model, &app.registry, &found).await?;
    approval.map(Json).ok_or(Problem::saying(Code::UnknownOperation, "officers were not asked about this operation"))
}

/// Hand in an officer's signed decision. Repeating it changes nothing.
#[utoipa::path(
    post, path = "/v1/approvals/{operation}", tag = "approvals", operation_id = "decide", request_body = DecisionBody,
    params(
        ("operation" = String, Path), ("Idempotency-Key" = String, Header),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: answer when the operation is done, or after N s, at most 30."),
    ),
    responses(
        (status = 200, description = "The operation is done within the wait.", body = Receipt),
        (status = 202, description = "Counted, or unknown: see `outcome`.", body = Receipt),
        (status = 400, description = "Malformed.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "In progress, or nothing to decide.", body = ProblemBody,
            content_type = "application/problem+json"),
        (status = 422, description = "The decision does not count.", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn decide(
    _: Officer,
    State(app): State<Arc<App>>,
    Path(operation): Path<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let saga = reading::operation(&operation)?;
    let key = idempotency_key(&headers)?;
    let mut fields = Fields::of(&body)?;
    let officer = fields.text("officer", "malformed-id", OfficerId::new);
    let verdict = fields.text("verdict", "unknown-verdict", |word| match word {
        "approve" => Ok(Verdict::Approve),
        "reject" => Ok(Verdict::Reject),
        _ => Err("is neither `approve` nor `reject`"),
    });
    let intent = fields.text("digest", "malformed-digest", Digest::parse);
    let signature = fields.text("signature", "malformed-signature", |digits| {
        let mut bytes = [0; 64];
        hex::decode_to_slice(digits, &mut bytes).map(|()| bytes.to_vec()).map_err(|_| "is 128 hexadecimal digits")
    });
    let read = officer.zip(verdict).zip(intent.zip(signature));
    let ((officer, verdict), (intent, signature)) = fields.finish(read)?;
    let entrance = Entrance {
        lane: lane(&[b"decision", &saga.to_bytes(), key.as_str().as_bytes()]),
        input: AccountsInput::Decide(Decision { saga, officer, verdict, intent, signature }),
        subject: Subject::Operation(saga),
    };
    enter(&app, &headers, entrance).await
}
