//! Headers that carry meaning: `Idempotency-Key`, `Prefer`, `Custos-Position`, `Last-Event-ID`.

use std::time::Duration;

use axum::http::HeaderMap;
use custos_domain::IdempotencyKey;
use custos_messages::events::Position;
use custos_readmodel::FeedId;

use crate::problem::{Code, Fault, Problem};

pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";
pub(crate) const POSITION: &str = "custos-position";
const LAST_EVENT_ID: &str = "last-event-id";
/// The longest that a caller may wait for an operation.
const LONGEST_WAIT: u64 = 30;

/// The only header of this name, as text.
fn only<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| fault(name, "is not printable ASCII")),
        (Some(_), Some(_)) => Err(fault(name, "stands more than once")),
    }
}

fn fault(name: &str, problem: impl ToString) -> Problem {
    Problem::fault(Fault::new(format!("header:{name}"), "malformed", problem))
}

/// The idempotency key: a structured-field string (RFC 8941), quotes and all, or a bare token. Both spellings of a key are one key.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let text = only(headers, IDEMPOTENCY_KEY)?.map(str::trim).ok_or_else(|| Problem {
        code: Code::IdempotencyKeyMissing,
        detail: None,
        errors: vec![Fault::new(format!("header:{IDEMPOTENCY_KEY}"), "missing", "every request that writes carries one")],
    })?;
    let key = match text.strip_prefix('"') {
        Some(rest) => quoted(rest),
        None => Some(text.to_owned()).filter(|token| token.bytes().all(is_token)),
    };
    let key = key.ok_or_else(|| fault(IDEMPOTENCY_KEY, "is a quoted string or a token, see RFC 8941"))?;
    IdempotencyKey::new(&key).map_err(|error| fault(IDEMPOTENCY_KEY, error))
}

/// What stands before the closing quote, which must be the end; only `\"` and `\\` are escapes.
fn quoted(rest: &str) -> Option<String> {
    let mut key = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next()? {
            '"' => return letters.next().is_none().then_some(key),
            '\\' => key.push(letters.next().filter(|letter| matches!(letter, '"' | '\\'))?),
            letter => key.push(letter),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
}

/// How long the caller prefers to wait (RFC 7240): at most 30 s. A preference that cannot be read is not honoured.
pub(crate) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut seconds = preferences
        .flat_map(|line| line.split(','))
        .filter_map(|preference| preference.trim().strip_prefix("wait=")?.trim().parse::<u64>().ok());
    seconds.next().filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.min(LONGEST_WAIT)))
}

/// `partition;sequence`: as a write returns it and a read may name it.
pub(crate) fn write_position(position: Position) -> String {
    format!("{};{}", position.partition, position.sequence)
}

/// The position that a read wants to include.
pub(crate) fn position(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let read = |text: &str| {
        let (partition, sequence) = text.trim().split_once(';')?;
        Some(Position { partition: partition.parse().ok()?, sequence: sequence.trim().parse().ok()? })
    };
    match only(headers, POSITION)? {
        None => Ok(None),
        Some(text) => read(text).map(Some).ok_or_else(|| fault(POSITION, "is partition;sequence")),
    }
}

/// Where a stream of events resumes.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<FeedId>, Problem> {
    match only(headers, LAST_EVENT_ID)? {
        None => Ok(None),
        Some(text) => {
            text.trim().parse().map(|id| Some(FeedId(id))).map_err(|_| fault(LAST_EVENT_ID, "is the number of an event"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn both_spellings_of_a_key_are_one_and_every_other_is_refused() {
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["\"abc\""], Some("abc")),
            (&["abc"], Some("abc")),
            (&["8e03978e-40d5-43dd-bc93-6894a57f9324"], Some("8e03978e-40d5-43dd-bc93-6894a57f9324")),
            (&[r#""a \"b\" \\ c""#], Some(r#"a "b" \ c"#)),
            (&["\"\""], None),
            (&["\"abc"], None),
            (&["abc\""], None),
            (&["\"abc\" "], Some("abc")),
            (&["\"abc\";x=1"], None),
            (&["a b"], None),
            (&[r#""a\b""#], None),
            (&["a", "b"], None),
            (&[], None),
        ];
        for (values, expected) in cases {
            let read = idempotency_key(&with(IDEMPOTENCY_KEY, values)).ok();
            assert_eq!(read.as_ref().map(IdempotencyKey::as_str), *expected, "{values:?}");
        }
        assert!(idempotency_key(&with(IDEMPOTENCY_KEY, &[&"k".repeat(256)])).is_err());
    }

    #[test]
    fn waiting_is_bounded_and_positions_are_exact() {
        assert_eq!(wait(&with("prefer", &["respond-async, wait=5"])), Some(Duration::from_secs(5)));
        assert_eq!(wait(&with("prefer", &["wait=3600"])), Some(Duration::from_secs(30)));
        assert_eq!(wait(&with("prefer", &["wait=0"])), None);
        assert_eq!(wait(&with("prefer", &["wait=soon"])), None);
        let at = Position { partition: 3, sequence: 17 };
        assert_eq!(position(&with(POSITION, &[&write_position(at)])).unwrap(), Some(at));
        assert!(position(&with(POSITION, &["3"])).is_err());
        assert!(position(&with(POSITION, &["-1;2"])).is_err());
    }
}
