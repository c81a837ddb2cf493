//! The envelope in a record's headers: CloudEvents 1.0 in binary mode, and Custos' own `custos_…` headers.
//!
//! Invariants: `read` after `write` gives the same envelope; a header that is known may stand once only and must hold exactly what
//! `write` would have written. Headers that are not known are left to whoever put them there.

use custos_domain::{Timestamp, hex_text};

use crate::{Envelope, Link, Machine, MessageId, Record, ReplyTo, ShardName, Source, TraceParent};

pub(crate) const CONTENT_TYPE: &str = "content-type";
const PROTOBUF: &str = "application/protobuf";
const SPEC_VERSION: &str = "ce_specversion";
const ID: &str = "ce_id";
const KIND: &str = "ce_type";
const SOURCE: &str = "ce_source";
const SUBJECT: &str = "ce_subject";
const TIME: &str = "ce_time";
const TRACE: &str = "traceparent";
const LINK: &str = "custos_link";
const REPLY_TO: &str = "custos_reply_to";

/// What is wrong with the headers of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A header that every message has is not there.
    #[error("header `{0}` is absent")]
    Absent(&'static str),
    /// It stands more than once.
    #[error("header `{0}` stands more than once")]
    Repeated(&'static str),
    /// It does not hold what it must.
    #[error("header `{0}` is malformed")]
    Malformed(&'static str),
}

impl Envelope {
    /// The headers, in a fixed order.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        let mut headers = vec![
            header(CONTENT_TYPE, PROTOBUF),
            header(SPEC_VERSION, "1.0"),
            header(ID, hex_text(&self.id.0)),
            header(KIND, self.kind.as_str()),
            header(SOURCE, format!("custos/{}", self.source.name())),
            header(SUBJECT, self.subject.as_str()),
        ];
        // An event's own headers and the seal are still to come.
        headers.reserve(8);
        headers.extend(self.time.map(|time| header(TIME, write_time(time))));
        headers.extend(self.link.map(|link| header(LINK, write_link(&link))));
        headers.extend(self.reply_to.map(|to| header(REPLY_TO, format!("{}/{}", to.instance, hex_text(&to.correlation)))));
        headers.extend(self.trace.as_ref().map(|trace| header(TRACE, trace.0.as_str())));
        headers
    }

    /// Reads the envelope of a record.
    ///
    /// # Errors
    /// The first header that is absent, repeated or malformed.
    pub fn read(record: &Record) -> Result<Self, EnvelopeError> {
        exactly(record, CONTENT_TYPE, PROTOBUF)?;
        exactly(record, SPEC_VERSION, "1.0")?;
        Ok(Self {
            id: parsed(record, ID, read_id)?.ok_or(EnvelopeError::Absent(ID))?,
            kind: parsed(record, KIND, read_token)?.ok_or(EnvelopeError::Absent(KIND))?,
            source: parsed(record, SOURCE, read_source)?.ok_or(EnvelopeError::Absent(SOURCE))?,
            subject: parsed(record, SUBJECT, |text| Some(text.to_owned()))?.ok_or(EnvelopeError::Absent(SUBJECT))?,
            time: parsed(record, TIME, read_time)?,
            trace: parsed(record, TRACE, |text| Some(TraceParent(text.to_owned())))?,
            link: parsed(record, LINK, read_link)?,
            reply_to: parsed(record, REPLY_TO, read_reply_to)?,
        })
    }
}

fn header(name: &str, text: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.to_owned(), text.into())
}

/// The only header of this name, as text.
pub(crate) fn text<'a>(record: &'a Record, name: &'static str) -> Result<Option<&'a str>, EnvelopeError> {
    let mut found = record.headers.iter().filter(|(known, _)| known == name);
    let first = found.next();
    if found.next().is_some() {
        return Err(EnvelopeError::Repeated(name));
    }
    first.map(|(_, bytes)| std::str::from_utf8(bytes).map_err(|_| EnvelopeError::Malformed(name))).transpose()
}

/// The only header of this name, read by `read`, which must accept one spelling of each value.
pub(crate) fn parsed<T>(
    record: &Record,
    name: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, EnvelopeError> {
    text(record, name)?.map(|text| read(text).ok_or(EnvelopeError::Malformed(name))).transpose()
}

fn exactly(record: &Record, name: &'static str, expected: &str) -> Result<(), EnvelopeError> {
    match text(record, name)? {
        None => Err(EnvelopeError::Absent(name)),
        Some(text) if text == expected => Ok(()),
        Some(_) => Err(EnvelopeError::Malformed(name)),
    }
}

/// Lower-case hexadecimal of exactly `N` bytes.
pub(crate) fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (!text.bytes().any(|digit| digit.is_ascii_uppercase())).then_some(bytes)
}

/// Digits without sign or leading zero.
pub(crate) fn read_number<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    text.parse().ok().filter(|number: &T| number.to_string() == text)
}

fn read_id(text: &str) -> Option<MessageId> {
    read_hex(text).map(MessageId)
}

fn read_token(text: &str) -> Option<String> {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-';
    ((1..=128).contains(&text.len()) && text.bytes().all(fine)).then(|| text.to_owned())
}

fn read_source(text: &str) -> Option<Source> {
    Source::from_name(text.strip_prefix("custos/")?)
}

fn write_link(link: &Link) -> String {
    format!("{}>{};{}", link.from, link.to, link.sequence)
}

fn read_link(text: &str) -> Option<Link> {
    let (shards, sequence) = text.split_once(';')?;
    let (from, to) = shards.split_once('>')?;
    Some(Link { from: read_shard(from)?, to: read_shard(to)?, sequence: read_number(sequence)? })
}

fn read_shard(text: &str) -> Option<ShardName> {
    let (machine, partition) = text.split_once('/')?;
    Some(ShardName { machine: Machine::from_name(machine)?, partition: read_number(partition)? })
}

fn read_reply_to(text: &str) -> Option<ReplyTo> {
    let (instance, correlation) = text.split_once('/')?;
    Some(ReplyTo { instance: read_number(instance)?, correlation: read_hex(correlation)? })
}

/// RFC 3339 in UTC with milliseconds. A moment beyond the year 9999 is written as the last one that has a form.
fn write_time(time: Timestamp) -> String {
    let moment = i64::try_from(time.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", moment.unwrap_or(jiff::Timestamp::MAX))
}

fn read_time(text: &str) -> Option<Timestamp> {
    let time = text.parse::<jiff::Timestamp>().ok()?;
    let time = Timestamp(u64::try_from(time.as_millisecond()).ok()?);
    (write_time(time) == text).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        Envelope {
            id: MessageId([7; 32]),
            kind: "custos.withdrawal.requested.v1".to_owned(),
            source: Source::Gateway,
            subject: "a subject".to_owned(),
            time: Some(Timestamp(1_790_000_000_042)),
            trace: Some(TraceParent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned())),
            link: Some(Link {
                from: ShardName { machine: Machine::Accounts, partition: 3 },
                to: ShardName { machine: Machine::Treasury, partition: 0 },
                sequence: 17,
            }),
            reply_to: Some(ReplyTo { instance: 2, correlation: [9; 16] }),
        }
    }

    fn record(headers: Vec<(String, Vec<u8>)>) -> Record {
        Record { key: Vec::new(), value: None, headers }
    }

    #[test]
    fn an_envelope_is_read_as_it_was_written() {
        let full = envelope();
        let bare = Envelope { time: None, trace: None, link: None, reply_to: None, ..envelope() };
        for envelope in [full, bare] {
            assert_eq!(Envelope::read(&record(envelope.headers())), Ok(envelope));
        }
    }

    #[test]
    fn headers_have_their_documented_spelling() {
        let headers = envelope().headers();
        let of =
            |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| String::from_utf8_lossy(value));
        assert_eq!(of("ce_source").unwrap(), "custos/gateway");
        assert_eq!(of("ce_time").unwrap(), "2026-09-21T14:13:20.042Z");
        assert_eq!(of("custos_link").unwrap(), "accounts/3>treasury/0;17");
        assert_eq!(of("custos_reply_to").unwrap(), "2/09090909090909090909090909090909");
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for (name, wrong) in [
            ("content-type", "application/json"),
            ("ce_specversion", "1"),
            ("ce_id", "07"),
            ("ce_type", "Custos Withdrawal"),
            ("ce_source", "gateway"),
            ("ce_source", "custos/nobody"),
            ("ce_time", "2026-09-21T16:13:20.042+02:00"),
            ("ce_time", "2026-09-21T14:13:20Z"),
            ("custos_link", "accounts/03>treasury/0;17"),
            ("custos_link", "accounts/3>treasury/0;+17"),
            ("custos_link", "accounts/3;17"),
            ("custos_reply_to", "2/09"),
        ] {
            let headers = envelope().headers().into_iter();
            let headers = headers.map(|(known, value)| if known == name { header(name, wrong) } else { (known, value) });
            let read = Envelope::read(&record(headers.collect()));
            assert!(matches!(read, Err(EnvelopeError::Malformed(known)) if known == name), "{name}: {wrong}");
        }
        let mut twice = envelope().headers();
        twice.push(header(KIND, "custos.block.seen.v1"));
        assert_eq!(Envelope::read(&record(twice)), Err(EnvelopeError::Repeated(KIND)));
        assert_eq!(Envelope::read(&record(Vec::new())), Err(EnvelopeError::Absent(CONTENT_TYPE)));
    }
}
