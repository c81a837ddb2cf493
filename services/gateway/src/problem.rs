//! The problems that the bank can meet (RFC 9457), each with a stable code.
//!
//! Invariants: the table in [`Code::row`] is the only place where a code has a status; `docs/errors/api.md` is written from it.
//! A problem tells nothing about other clients and nothing about the inside.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use custos_messages::events::Refusal;
use custos_readmodel::{ReadError, Remedy};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What became of a request that was answered with a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing was tried, nothing changed.
    None,
    /// Decided, and the answer is no: nothing changed.
    Refused,
    /// It may or may not be carried out. Repeat the request with the same key to learn which.
    Unknown,
}

/// A stable code of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A field, parameter or header is malformed.
    InvalidRequest,
    /// The body is no JSON object.
    InvalidJson,
    /// The header is absent.
    IdempotencyKeyMissing,
    /// A cursor that this list did not give.
    InvalidCursor,
    /// No or no valid API key.
    Unauthenticated,
    /// The role does not allow it.
    Forbidden,
    /// No such route or thing.
    NotFound,
    /// No such account.
    UnknownAccount,
    /// No such operation.
    UnknownOperation,
    /// Not this method.
    MethodNotAllowed,
    /// The body is too long.
    BodyTooLarge,
    /// Not JSON.
    UnsupportedMediaType,
    /// The same key is being accepted right now.
    RequestInProgress,
    /// The same key with another body.
    KeyReused,
    /// See [`Refusal::InsufficientFunds`].
    InsufficientFunds,
    /// See [`Refusal::UnknownAsset`].
    UnknownAsset,
    /// See [`Refusal::UnknownChain`].
    UnknownChain,
    /// See [`Refusal::ZeroAmount`].
    ZeroAmount,
    /// See [`Refusal::FeeAbovePolicy`].
    FeeAbovePolicy,
    /// See [`Refusal::SameAccount`].
    SameAccount,
    /// See [`Refusal::Screening`].
    Screening,
    /// See [`Refusal::TimedOut`].
    TimedOut,
    /// See [`Refusal::Rejected`].
    Rejected,
    /// See [`Refusal::Payment`].
    PaymentRefused,
    /// See [`Refusal::Impossible`].
    Impossible,
    /// See [`Refusal::ReceiverRefused`].
    ReceiverRefused,
    /// See [`Refusal::NothingToDecide`].
    NothingToDecide,
    /// See [`Refusal::BadDecision`].
    BadDecision,
    /// See [`Refusal::NoPolicy`].
    NoPolicy,
    /// See [`Refusal::Unseen`].
    Unseen,
    /// The read model has not reached the position.
    ReadModelBehind,
    /// The read model does not answer.
    ReadModelUnavailable,
    /// The log does not answer.
    LogUnavailable,
    /// The blockchain service does not answer.
    BlockchainUnavailable,
    /// Too many requests at once.
    Overloaded,
    /// The request took too long.
    RequestTimeout,
    /// A defect.
    Internal,
}

/// A row of the catalogue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) status: u16,
    pub(crate) title: &'static str,
    pub(crate) retryable: bool,
    pub(crate) outcome: Outcome,
    pub(crate) advice: &'static str,
}

const fn wrong(name: &'static str, status: u16, title: &'static str, advice: &'static str) -> Row {
    Row { name, status, title, retryable: false, outcome: Outcome::None, advice }
}

const fn refused(name: &'static str, status: u16, title: &'static str, advice: &'static str) -> Row {
    Row { name, status, title, retryable: false, outcome: Outcome::Refused, advice }
}

const fn again(name: &'static str, status: u16, outcome: Outcome, title: &'static str, advice: &'static str) -> Row {
    Row { name, status, title, retryable: true, outcome, advice }
}

impl Code {
    /// Every code, in the order of the catalogue.
    pub const ALL: [Self; 37] = [
        Self::InvalidRequest,
        Self::InvalidJson,
        Self::IdempotencyKeyMissing,
        Self::InvalidCursor,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::UnknownAccount,
        Self::UnknownOperation,
        Self::MethodNotAllowed,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::RequestInProgress,
        Self::KeyReused,
        Self::InsufficientFunds,
        Self::UnknownAsset,
        Self::UnknownChain,
        Self::ZeroAmount,
        Self::FeeAbovePolicy,
        Self::SameAccount,
        Self::Screening,
        Self::TimedOut,
        Self::Rejected,
        Self::PaymentRefused,
        Self::Impossible,
        Self::ReceiverRefused,
        Self::NothingToDecide,
        Self::BadDecision,
        Self::NoPolicy,
        Self::Unseen,
        Self::ReadModelBehind,
        Self::ReadModelUnavailable,
        Self::LogUnavailable,
        Self::BlockchainUnavailable,
        Self::Overloaded,
        Self::RequestTimeout,
        Self::Internal,
    ];

    pub(crate) const fn row(self) -> Row {
        match self {
            Self::InvalidRequest | Self::InvalidJson | Self::IdempotencyKeyMissing | Self::InvalidCursor => self.malformed(),
            Self::Unauthenticated | Self::Forbidden | Self::NotFound | Self::UnknownAccount | Self::UnknownOperation => {
                self.unreachable()
            }
            Self::MethodNotAllowed | Self::BodyTooLarge | Self::UnsupportedMediaType => self.malformed(),
            Self::RequestInProgress | Self::KeyReused => self.repeated(),
            Self::ReadModelBehind
            | Self::ReadModelUnavailable
            | Self::LogUnavailable
            | Self::BlockchainUnavailable
            | Self::Overloaded
            | Self::RequestTimeout => self.unavailable(),
            Self::Internal => Row {
                name: "internal",
                status: 500,
                title: "Something is wrong inside",
                retryable: false,
                outcome: Outcome::Unknown,
                advice: "Tell us the correlation id. After a write, ask for the operation before you repeat it with the same key.",
            },
            _ => self.refusal(),
        }
    }

    const fn malformed(self) -> Row {
        match self {
            Self::InvalidJson => wrong("invalid-json", 400, "The body is not one JSON object", "Mend the body."),
            Self::IdempotencyKeyMissing => wrong(
                "idempotency-key-missing",
                400,
                "The Idempotency-Key header is absent",
                "Send a key of your own, the same for every repeat of the request.",
            ),
            Self::InvalidCursor => wrong(
                "invalid-cursor",
                400,
                "The cursor is not one of this list",
                "Begin at the first page; a cursor belongs to one list with one set of filters.",
            ),
            Self::MethodNotAllowed => {
                wrong("method-not-allowed", 405, "The route does not know this method", "See the API.")
            }
            Self::BodyTooLarge => wrong("body-too-large", 413, "The body is longer than 64 KiB", "Send less."),
            Self::UnsupportedMediaType => {
                wrong("unsupported-media-type", 415, "The body is not application/json", "Set Content-Type.")
            }
            _ => wrong("invalid-request", 400, "The request is malformed", "`errors` names every place. Mend it."),
        }
    }

    const fn unreachable(self) -> Row {
        match self {
            Self::Unauthenticated => {
                wrong("unauthenticated", 401, "No valid API key was given", "Send `Authorization: Bearer custos_…`.")
            }
            Self::Forbidden => wrong("forbidden", 403, "The key's role does not allow this", "Use a key with another role."),
            Self::UnknownAccount => refused("unknown-account", 404, "There is no such account", "Open the account first."),
            Self::UnknownOperation => wrong(
                "unknown-operation",
                404,
                "There is no such operation",
                "It may not have been accepted, or not be read yet.",
            ),
            _ => wrong("not-found", 404, "There is nothing here", "See the API."),
        }
    }

    const fn repeated(self) -> Row {
        match self {
            Self::KeyReused => refused(
                "key-reused",
                422,
                "The idempotency key was used with another body",
                "Keys are permanent. Use a new key for another request.",
            ),
            _ => again(
                "request-in-progress",
                409,
                Outcome::Unknown,
                "A request with this key is being accepted",
                "Repeat it with the same key in a moment.",
            ),
        }
    }

    const fn unavailable(self) -> Row {
        let later = "Repeat it in a moment.";
        let same_key = "Repeat it with the same key in a moment.";
        match self {
            Self::ReadModelBehind => {
                again("read-model-behind", 503, Outcome::None, "The read model has not reached the named position", later)
            }
            Self::ReadModelUnavailable => {
                again("read-model-unavailable", 503, Outcome::None, "The read model does not answer", later)
            }
            Self::LogUnavailable => again("log-unavailable", 503, Outcome::Unknown, "The log does not answer", same_key),
            Self::BlockchainUnavailable => {
                again("blockchain-unavailable", 503, Outcome::None, "The chain cannot be read", later)
            }
            Self::Overloaded => again("overloaded", 503, Outcome::None, "Too many requests at once", later),
            _ => again("request-timeout", 503, Outcome::Unknown, "The request took too long", same_key),
        }
    }

    const fn refusal(self) -> Row {
        match self {
            Self::InsufficientFunds => {
                refused("insufficient-funds", 422, "Not enough is available", "An ether withdrawal also holds `fee_max`.")
            }
            Self::UnknownAsset => refused("unknown-asset", 422, "The asset is not registered", "See `GET /v1/policy`."),
            Self::UnknownChain => refused("unknown-chain", 422, "The chain is not registered", "See `GET /v1/policy`."),
            Self::ZeroAmount => refused("zero-amount", 422, "The amount is nothing", "Name an amount above zero."),
            Self::FeeAbovePolicy => {
                refused("fee-above-policy", 422, "`fee_max` is above the policy's limit", "See `GET /v1/policy`.")
            }
            Self::SameAccount => refused("same-account", 422, "The money would go where it is", "Name another receiver."),
            Self::Screening => refused("screening", 422, "Screening found something", "See the operation's screenings."),
            Self::TimedOut => refused("timed-out", 422, "Nobody answered in time", "Ask again with a new key."),
            Self::Rejected => refused("rejected", 422, "An officer said no", "Talk to the officer."),
            Self::PaymentRefused => {
                refused("payment-refused", 422, "Refused before anything was signed", "The hold is released.")
            }
            Self::Impossible => {
                refused("impossible", 422, "Can never be paid any more, with proof", "The hold is released.")
            }
            Self::ReceiverRefused => refused("receiver-refused", 422, "The receiver does not exist", "Nothing was moved."),
            Self::NothingToDecide => {
                refused("nothing-to-decide", 409, "The operation does not wait for a decision", "See `GET /v1/approvals`.")
            }
            Self::BadDecision => refused(
                "bad-decision",
                422,
                "The decision's officer, digest or signature is wrong",
                "Sign exactly the bytes that `GET /v1/approvals/{operation}` gives.",
            ),
            Self::NoPolicy => refused("no-policy", 409, "No policy is in force yet", "The operator must publish one."),
            _ => refused("unseen", 422, "The deposit left the chain before it was credited", "It may be mined again."),
        }
    }

    /// The code's stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The code of a business no.
    #[must_use]
    pub const fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::InsufficientFunds => Self::InsufficientFunds,
            Refusal::UnknownAccount => Self::UnknownAccount,
            Refusal::UnknownAsset => Self::UnknownAsset,
            Refusal::UnknownChain => Self::UnknownChain,
            Refusal::ZeroAmount => Self::ZeroAmount,
            Refusal::FeeAbovePolicy => Self::FeeAbovePolicy,
            Refusal::SameAccount => Self::SameAccount,
            Refusal::Screening { .. } => Self::Screening,
            Refusal::TimedOut { .. } => Self::TimedOut,
            Refusal::Rejected => Self::Rejected,
            Refusal::Payment(_) => Self::PaymentRefused,
            Refusal::Impossible => Self::Impossible,
            Refusal::ReceiverRefused => Self::ReceiverRefused,
            Refusal::NothingToDecide => Self::NothingToDecide,
            Refusal::BadDecision => Self::BadDecision,
            Refusal::NoPolicy => Self::NoPolicy,
            Refusal::Unseen => Self::Unseen,
        }
    }
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// Where: a JSON pointer into the body (`/amount`), or `path:…`, `query:…`, `header:…`.
    pub pointer: String,
    /// What, by stable code.
    pub code: String,
    /// What, for a person.
    pub detail: String,
}

impl Fault {
    pub(crate) fn new(pointer: impl Into<String>, code: &str, detail: impl ToString) -> Self {
        Self { pointer: pointer.into(), code: code.to_owned(), detail: detail.to_string() }
    }
}

/// A problem as the bank reads it: `application/problem+json`, RFC 9457.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemBody {
    /// `/problems/` and the code.
    pub r#type: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What it means here.
    pub detail: String,
    /// The stable code; new codes may appear.
    pub code: String,
    /// The path that was asked.
    pub instance: String,
    /// Names this request in our logs; also in the header `X-Request-Id`.
    pub correlation_id: String,
    /// Whether the same request, with the same key, may succeed later.
    pub retryable: bool,
    /// What became of the request.
    pub outcome: Outcome,
    /// Every place that is wrong.
    pub errors: Vec<Fault>,
}

/// A problem on its way out. The outermost layer gives it its body.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: Option<String>,
    pub(crate) errors: Vec<Fault>,
}

impl Problem {
    pub(crate) const fn new(code: Code) -> Self {
        Self { code, detail: None, errors: Vec::new() }
    }

    pub(crate) fn saying(code: Code, detail: impl ToString) -> Self {
        Self { code, detail: Some(detail.to_string()), errors: Vec::new() }
    }

    pub(crate) const fn faults(errors: Vec<Fault>) -> Self {
        Self { code: Code::InvalidRequest, detail: None, errors }
    }

    pub(crate) fn fault(fault: Fault) -> Self {
        Self::faults(vec![fault])
    }

    /// The body, for a request of `instance`. A read changes nothing, so its outcome is always none.
    pub(crate) fn body(self, instance: &str, correlation_id: &str, reading: bool) -> ProblemBody {
        let row = self.code.row();
        let outcome = if reading { Outcome::None } else { row.outcome };
        ProblemBody {
            r#type: format!("/problems/{}", row.name),
            title: row.title.to_owned(),
            status: row.status,
            detail: self.detail.unwrap_or_else(|| row.advice.to_owned()),
            code: row.name.to_owned(),
            instance: instance.to_owned(),
            correlation_id: correlation_id.to_owned(),
            retryable: row.retryable,
            outcome,
            errors: self.errors,
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match (&error, error.remedy()) {
            (ReadError::Behind { .. }, _) => Self::saying(Code::ReadModelBehind, &error),
            (_, Remedy::Retry) => {
                tracing::warn!(error = %chain(&error), "the read model does not answer");
                Self::new(Code::ReadModelUnavailable)
            }
            (_, Remedy::Halt) => {
                tracing::error!(error = %chain(&error), "the read model cannot be read");
                Self::new(Code::Internal)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// An error with all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line = format!("{line}: {inner}");
        cause = inner.source();
    }
    line
}
