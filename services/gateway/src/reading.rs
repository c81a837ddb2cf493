//! Strict reading of bodies, paths and queries: every problem is named with its place, and all of them together.
//!
//! Invariants: an unknown or repeated field is refused; an amount is a JSON string, never a number; nothing is trimmed or guessed.

use std::collections::BTreeMap;
use std::fmt;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use custos_domain::{AccountId, Amount, AmountError, SagaId};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use crate::problem::{Code, Fault, Problem};

/// The longest body.
pub(crate) const BODY_LIMIT: usize = 64 * 1024;

/// A JSON object whose names are all different.
struct Object(BTreeMap<String, Value>);

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if fields.insert(name, value).is_some() {
                return Err(A::Error::custom("a field stands twice"));
            }
        }
        Ok(Object(fields))
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// The fields of a body that are not read yet, and what is wrong so far.
pub(crate) struct Fields {
    left: BTreeMap<String, Value>,
    faults: Vec<Fault>,
}

impl Fields {
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, Problem> {
        let object: Object = serde_json::from_slice(bytes).map_err(|error| Problem::saying(Code::InvalidJson, error))?;
        Ok(Self { left: object.0, faults: Vec::new() })
    }

    pub(crate) fn fault(&mut self, name: &str, code: &str, detail: impl ToString) {
        self.faults.push(Fault::new(pointer(name), code, detail));
    }

    /// The text of `name`.
    pub(crate) fn string(&mut self, name: &str) -> Option<String> {
        match self.left.remove(name) {
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.fault(name, "not-a-string", "must be a JSON string");
                None
            }
            None => {
                self.fault(name, "missing", "must be given");
                None
            }
        }
    }

    /// The text of `name`, read by `read`; what it says is noted under `code`.
    pub(crate) fn text<T, E: ToString>(
        &mut self,
        name: &str,
        code: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.string(name)?;
        read(&text).map_err(|problem| self.fault(name, code, problem)).ok()
    }

    /// A decimal amount above zero of an asset with `decimals` decimals; when the asset is not known, only that it is a string.
    pub(crate) fn amount(&mut self, name: &str, decimals: Option<u8>, zero: Zero) -> Option<Amount> {
        let text = self.string(name)?;
        match Amount::parse(&text, decimals?) {
            Ok(amount) if amount.is_zero() && zero == Zero::Refused => {
                self.fault(name, "zero-amount", "must be above zero");
                None
            }
            Ok(amount) => Some(amount),
            Err(error) => {
                self.fault(name, amount_code(error), error);
                None
            }
        }
    }

    /// `read`, if nothing is wrong and nothing is left.
    pub(crate) fn finish<T>(mut self, read: Option<T>) -> Result<T, Problem> {
        for name in std::mem::take(&mut self.left).into_keys() {
            self.faults.push(Fault::new(pointer(&name), "unknown-field", "is not a field of this request"));
        }
        match read {
            Some(read) if self.faults.is_empty() => Ok(read),
            _ => Err(Problem::faults(self.faults)),
        }
    }
}

/// Whether an amount may be nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zero {
    Allowed,
    Refused,
}

/// RFC 6901; a long name is cut.
fn pointer(name: &str) -> String {
    let name: String = name.chars().take(80).collect();
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

const fn amount_code(error: AmountError) -> &'static str {
    match error {
        AmountError::Malformed | AmountError::Negative => "malformed-amount",
        AmountError::TooManyDecimals { .. } => "too-many-decimals",
        AmountError::Overflow => "overflow",
    }
}

/// The body of a request that writes.
pub(crate) struct Body(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Problem::new(Code::UnsupportedMediaType));
        }
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(rejection) if rejection.status().as_u16() == 413 => Err(Problem::new(Code::BodyTooLarge)),
            Err(rejection) => Err(Problem::saying(Code::InvalidJson, rejection.body_text())),
        }
    }
}

/// The account that the path names.
pub(crate) fn account(text: &str) -> Result<AccountId, Problem> {
    AccountId::parse(text).map_err(|error| Problem::fault(Fault::new("path:account", "malformed-id", error)))
}

/// The operation that the path names.
pub(crate) fn operation(text: &str) -> Result<SagaId, Problem> {
    SagaId::parse(text).map_err(|error| Problem::fault(Fault::new("path:operation", "malformed-id", error)))
}

/// The parameters of a query that are not read yet.
pub(crate) struct Params {
    left: BTreeMap<String, String>,
    faults: Vec<Fault>,
}

/// Items of a page when none are named.
const LIMIT: u32 = 50;
/// Items of a page at most.
const LIMIT_MAX: u32 = 200;

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) =
            pairs.map_err(|rejection| Problem::fault(Fault::new("query:", "malformed", rejection.body_text())))?;
        let mut params = Self { left: BTreeMap::new(), faults: Vec::new() };
        for (name, value) in pairs {
            if params.left.insert(name.clone(), value).is_some() {
                params.fault(&name, "repeated", "stands more than once");
            }
        }
        Ok(params)
    }
}

impl Params {
    fn fault(&mut self, name: &str, code: &str, detail: impl ToString) {
        let name: String = name.chars().take(80).collect();
        self.faults.push(Fault::new(format!("query:{name}"), code, detail));
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.left.remove(name)
    }

    /// The value of `name`, if it is given, read by `read`.
    pub(crate) fn read<T, E: ToString>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = self.left.remove(name)?;
        read(&text).map_err(|problem| self.fault(name, "malformed", problem)).ok()
    }

    /// How many items a page shall have: 50 when none are named, at most 200.
    pub(crate) fn limit(&mut self) -> u32 {
        let limit = self.read("limit", str::parse::<u32>).unwrap_or(LIMIT);
        if limit == 0 { LIMIT } else { limit.min(LIMIT_MAX) }
    }

    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        for name in std::mem::take(&mut self.left).into_keys() {
            self.fault(&name, "unknown-parameter", "is not a parameter of this list");
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::faults(self.faults)) }
    }
}
