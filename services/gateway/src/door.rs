//! How a request gets in: one key at a time, durable in the inbox before it is answered, then a short wait for the decision.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use custos_domain::{Digest, SagaId};
use custos_messages::accounts::AccountsInput;
use custos_messages::events::Position;
use custos_messages::gateway::{Outcome, Subject};
use custos_messages::{Mail, ReplyTo};
use custos_readmodel::{Operation, OperationStatus, ReadError};
use tokio::time::{Instant, timeout, timeout_at};

use crate::headers::{self, write_position};
use crate::problem::{Code, Problem, chain};
use crate::server::App;
use crate::views::{OperationView, ProblemBody, Receipt, ReceiptOutcome};

/// A request on its way in.
pub(crate) struct Entrance {
    /// What is asked.
    pub(crate) input: AccountsInput,
    /// What it makes.
    pub(crate) subject: Subject,
    /// What must not be accepted twice at the same time: route and key.
    pub(crate) lane: Vec<u8>,
}

impl Entrance {
    /// A request that starts the operation `saga`.
    pub(crate) fn operation(saga: SagaId, input: AccountsInput) -> Self {
        Self { input, subject: Subject::Operation(saga), lane: lane(&[&saga.to_bytes()]) }
    }
}

/// What a request that starts an operation carries besides its body.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents what the door reads from the headers")]
pub(crate) struct StartHeaders {
    #[param(rename = "Idempotency-Key")]
    idempotency_key: String,
    /// `wait=N`: answer when the operation is done, or after N s, at most 30.
    #[param(rename = "Prefer")]
    prefer: Option<String>,
}

/// How a request that starts an operation is answered.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "documents what the door answers")]
pub(crate) enum Started {
    /// Done within the wait.
    #[response(status = 200)]
    Done(Receipt),
    /// Accepted, or unknown: see `outcome`.
    #[response(status = 202)]
    Accepted(Receipt),
    /// Malformed.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(ProblemBody),
    /// No such account.
    #[response(status = 404, content_type = "application/problem+json")]
    Unknown(ProblemBody),
    /// In progress, or no policy.
    #[response(status = 409, content_type = "application/problem+json")]
    InProgress(ProblemBody),
    /// Refused, or the key was used otherwise.
    #[response(status = 422, content_type = "application/problem+json")]
    Refused(ProblemBody),
}

/// What is known of a request that is in the inbox.
enum Answer {
    /// Accepted, now or before.
    Accepted(Position),
    /// No answer came in time.
    Unknown,
}

/// The digest by which a repeat is known: the route and the canonical values, not their spelling.
pub(crate) fn fingerprint(route: &str, parts: &[&[u8]]) -> Digest {
    let all: Vec<&[u8]> = std::iter::once(route.as_bytes()).chain(parts.iter().copied()).collect();
    Digest::of_parts("custos 2026 request", &all)
}

/// A lane: what concurrent requests must share to wait for each other.
pub(crate) fn lane(parts: &[&[u8]]) -> Vec<u8> {
    Digest::of_parts("custos 2026 gateway lane", parts).as_bytes().to_vec()
}

/// Lets a request in and answers it.
pub(crate) async fn enter(app: &Arc<App>, headers: &HeaderMap, entrance: Entrance) -> Result<Response, Problem> {
    let subject = entrance.subject;
    let answer = ask(app, entrance).await?;
    let wait = headers::wait(headers);
    let operation = match (&answer, subject, wait) {
        (Answer::Accepted(_), Subject::Operation(saga), Some(wait)) => until_done(app, saga, wait).await,
        _ => None,
    };
    Ok(respond(subject, &answer, operation, wait))
}

async fn ask(app: &Arc<App>, entrance: Entrance) -> Result<Answer, Problem> {
    let Some(_claimed) = app.room.claim(entrance.lane) else {
        return Err(Problem::new(Code::RequestInProgress));
    };
    let mut seat = app.room.sit().map_err(|error| {
        tracing::error!(error = %chain(&error), "no correlation can be drawn");
        // Nothing is in the inbox, yet the caller cannot tell: repeating with the key settles it.
        Problem::new(Code::LogUnavailable)
    })?;
    let reply_to = ReplyTo { instance: app.instance, correlation: seat.correlation };
    app.post.send_async(Mail::Accounts(entrance.input), Some(reply_to)).await.map_err(|error| {
        tracing::warn!(error = %chain(&error), "the log did not take a request");
        Problem::new(Code::LogUnavailable)
    })?;
    match timeout(app.reply_wait, &mut seat.answer).await {
        Ok(Ok(Outcome::Accepted { subject, position })) if subject == entrance.subject => Ok(Answer::Accepted(position)),
        Ok(Ok(Outcome::Accepted { subject, .. })) => {
            tracing::error!(?subject, expected = ?entrance.subject, "an answer about something else");
            Ok(Answer::Unknown)
        }
        Ok(Ok(Outcome::Refused(refusal))) => Err(Problem::new(Code::of(&refusal))),
        Ok(Ok(Outcome::KeyReused)) => Err(Problem::new(Code::KeyReused)),
        Ok(Err(_)) | Err(_) => Ok(Answer::Unknown),
    }
}

/// The operation when it is done or parked, or as it stands when `wait` is over; `None` if it cannot be read: it is accepted all
/// the same.
async fn until_done(app: &Arc<App>, saga: SagaId, wait: Duration) -> Option<OperationView> {
    let deadline = Instant::now().checked_add(wait)?;
    let read = async {
        match settled(app, saga, deadline).await? {
            Some(operation) => OperationView::load(&app.model, &app.registry, operation).await.map(Some),
            None => Ok(None),
        }
    };
    read.await.unwrap_or_else(|error: ReadError| {
        tracing::warn!(error = %chain(&error), "an accepted operation cannot be read");
        None
    })
}

async fn settled(app: &Arc<App>, saga: SagaId, deadline: Instant) -> Result<Option<Operation>, ReadError> {
    let mut head = app.head.clone();
    loop {
        head.mark_unchanged();
        let operation = app.model.operation(&saga).await?;
        let settled = operation.as_ref().is_some_and(|operation| operation.status != OperationStatus::Running);
        // A gateway that stops keeps nobody waiting.
        let grown = timeout_at(deadline, app.stop.run_until_cancelled(head.changed()));
        if settled || !matches!(grown.await, Ok(Some(Ok(())))) {
            return Ok(operation);
        }
    }
}

fn respond(subject: Subject, answer: &Answer, operation: Option<OperationView>, wait: Option<Duration>) -> Response {
    let (id, account, location) = match subject {
        Subject::Account(account) => (account.to_string(), account, format!("/v1/accounts/{account}")),
        Subject::Operation(saga) => (saga.to_string(), saga.account, format!("/v1/operations/{saga}")),
    };
    let (outcome, position) = match answer {
        Answer::Accepted(position) => (ReceiptOutcome::Accepted, Some(*position)),
        Answer::Unknown => (ReceiptOutcome::Unknown, None),
    };
    let done = operation.as_ref().is_some_and(|operation| operation.done);
    let status = match (answer, subject) {
        (Answer::Accepted(_), Subject::Account(_)) => StatusCode::CREATED,
        _ if done => StatusCode::OK,
        _ => StatusCode::ACCEPTED,
    };
    let detail = match outcome {
        ReceiptOutcome::Accepted => "accepted",
        ReceiptOutcome::Unknown => "the answer did not come in time: repeat the request with the same key to learn it",
    };
    let position_text = position.map(write_position);
    let receipt = Receipt {
        id,
        account: account.to_string(),
        outcome,
        retryable: outcome == ReceiptOutcome::Unknown,
        detail: detail.to_owned(),
        location: location.clone(),
        position: position_text.clone(),
        operation,
    };
    let mut response = (status, Json(receipt)).into_response();
    let waited = wait.filter(|_| outcome == ReceiptOutcome::Accepted).map(|wait| format!("wait={}", wait.as_secs()));
    for (name, value) in [
        (header::LOCATION, Some(location)),
        (HeaderName::from_static(headers::POSITION), position_text),
        (HeaderName::from_static("preference-applied"), waited),
    ] {
        if let Some(Ok(value)) = value.map(|value| HeaderValue::from_str(&value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
