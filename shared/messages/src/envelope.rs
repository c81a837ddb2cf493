//! The envelope in a record's headers: CloudEvents 1.0 in binary mode, and Custos' own `custos_…` headers.
//!
//! Invariants: `read` after `write` gives the same envelope; a header that is known may stand once only and must hold exactly what
//! `write` would have written. Headers that are not known are left to whoever put them there.

use std::io::Write as _;

use custos_domain::{Timestamp, push_hex};

use crate::{Envelope, Headers, Link, Machine, MessageId, Record, ReplyTo, ShardName, Source, TraceParent};

pub(crate) const CONTENT_TYPE: &str = "content-type";
const PROTOBUF: &str = "application/protobuf";
const SPEC_VERSION: &str = "ce_specversion";
const VERSION: &str = "1.0";
const ID: &str = "ce_id";
const KIND: &str = "ce_type";
const SOURCE: &str = "ce_source";
const ISSUER: &[u8] = b"custos/";
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

/// Room for all headers of a message, an event's own and the seal among them.
const ROOM: usize = 896;

impl Envelope {
    /// The headers, in a fixed order.
    #[must_use]
    pub fn headers(&self) -> Headers {
        let mut headers = Headers::with_room(ROOM);
        headers.push(CONTENT_TYPE, PROTOBUF);
        headers.push(SPEC_VERSION, VERSION);
        headers.push_with(ID, |out| push_hex(out, &self.id.0));
        headers.push(KIND, &self.kind);
        headers.push_with(SOURCE, |out| {
            out.extend_from_slice(ISSUER);
            out.extend_from_slice(self.source.name().as_bytes());
        });
        headers.push(SUBJECT, &self.subject);
        if let Some(time) = self.time {
            headers.push(TIME, write_time(time));
        }
        if let Some(link) = self.link {
            headers.push_with(LINK, |out| write_link(&link, out));
        }
        if let Some(to) = self.reply_to {
            headers.push_with(REPLY_TO, |out| write_reply_to(&to, out));
        }
        if let Some(trace) = &self.trace {
            headers.push(TRACE, &trace.0);
        }
        headers
    }

    /// Reads the envelope of a record.
    ///
    /// # Errors
    /// The first header that is absent, repeated or malformed.
    pub fn read(record: &Record) -> Result<Self, EnvelopeError> {
        let found = Found::of(&record.headers);
        found.content_type.exactly(CONTENT_TYPE, PROTOBUF)?;
        found.version.exactly(SPEC_VERSION, VERSION)?;
        Ok(Self {
            id: found.id.parsed(ID, read_id)?.ok_or(EnvelopeError::Absent(ID))?,
            kind: found.kind.parsed(KIND, read_token)?.ok_or(EnvelopeError::Absent(KIND))?,
            source: found.source.parsed(SOURCE, read_source)?.ok_or(EnvelopeError::Absent(SOURCE))?,
            subject: found.subject.parsed(SUBJECT, |text| Some(text.to_owned()))?.ok_or(EnvelopeError::Absent(SUBJECT))?,
            time: found.time.parsed(TIME, read_time)?,
            trace: found.trace.parsed(TRACE, |text| Some(TraceParent(text.to_owned())))?,
            link: found.link.parsed(LINK, read_link)?,
            reply_to: found.reply_to.parsed(REPLY_TO, read_reply_to)?,
        })
    }
}

/// What stands under each name of an envelope, found in one pass.
#[derive(Default)]
struct Found<'a> {
    content_type: Held<'a>,
    version: Held<'a>,
    id: Held<'a>,
    kind: Held<'a>,
    source: Held<'a>,
    subject: Held<'a>,
    time: Held<'a>,
    trace: Held<'a>,
    link: Held<'a>,
    reply_to: Held<'a>,
}

/// What stands under one name.
#[derive(Clone, Copy, Default)]
pub(crate) enum Held<'a> {
    #[default]
    Nothing,
    One(&'a [u8]),
    More,
}

impl<'a> Found<'a> {
    fn of(headers: &'a Headers) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            let held = match name {
                CONTENT_TYPE => &mut found.content_type,
                SPEC_VERSION => &mut found.version,
                ID => &mut found.id,
                KIND => &mut found.kind,
                SOURCE => &mut found.source,
                SUBJECT => &mut found.subject,
                TIME => &mut found.time,
                TRACE => &mut found.trace,
                LINK => &mut found.link,
                REPLY_TO => &mut found.reply_to,
                _ => continue,
            };
            held.add(value);
        }
        found
    }
}

impl<'a> Held<'a> {
    /// What stands under `name`.
    pub(crate) fn under(name: &str, headers: &'a Headers) -> Self {
        let mut held = Self::Nothing;
        headers.iter().filter(|(known, _)| *known == name).for_each(|(_, value)| held.add(value));
        held
    }

    fn add(&mut self, value: &'a [u8]) {
        *self = if matches!(self, Self::Nothing) { Self::One(value) } else { Self::More };
    }

    /// As text. `name` is what an error calls it.
    fn text(self, name: &'static str) -> Result<Option<&'a str>, EnvelopeError> {
        match self {
            Self::Nothing => Ok(None),
            Self::One(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|_| EnvelopeError::Malformed(name)),
            Self::More => Err(EnvelopeError::Repeated(name)),
        }
    }

    /// As `read` reads it, which must accept one spelling of each value.
    pub(crate) fn parsed<T>(
        self,
        name: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, EnvelopeError> {
        self.text(name)?.map(|text| read(text).ok_or(EnvelopeError::Malformed(name))).transpose()
    }

    fn exactly(self, name: &'static str, expected: &str) -> Result<(), EnvelopeError> {
        match self.text(name)? {
            None => Err(EnvelopeError::Absent(name)),
            Some(text) if text == expected => Ok(()),
            Some(_) => Err(EnvelopeError::Malformed(name)),
        }
    }
}

/// Lower-case hexadecimal of exactly `N` bytes.
pub(crate) fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (!text.bytes().any(|digit| digit.is_ascii_uppercase())).then_some(bytes)
}

/// Digits without sign or leading zero.
pub(crate) fn read_number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let fine = text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    fine.then(|| text.parse().ok()).flatten()
}

fn read_id(text: &str) -> Option<MessageId> {
    read_hex(text).map(MessageId)
}

fn read_token(text: &str) -> Option<String> {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-';
    ((1..=128).contains(&text.len()) && text.bytes().all(fine)).then(|| text.to_owned())
}

fn read_source(text: &str) -> Option<Source> {
    let name = text.as_bytes().strip_prefix(ISSUER)?;
    Source::from_name(std::str::from_utf8(name).ok()?)
}

fn write_link(link: &Link, out: &mut Vec<u8>) {
    // Writing into memory does not fail.
    let _ = write!(out, "{}>{};{}", link.from, link.to, link.sequence);
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

fn write_reply_to(to: &ReplyTo, out: &mut Vec<u8>) {
    // Writing into memory does not fail.
    let _ = write!(out, "{}/", to.instance);
    push_hex(out, &to.correlation);
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

    fn record(headers: Headers) -> Record {
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
        let of = |name: &str| headers.get(name).map(String::from_utf8_lossy);
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
            ("custos_link", "accounts/3>treasury/0;017"),
            ("custos_link", "accounts/3>treasury/0;"),
            ("custos_link", "accounts/3>treasury/0;18446744073709551616"),
            ("custos_link", "accounts/3;17"),
            ("custos_reply_to", "2/09"),
        ] {
            let headers = envelope().headers();
            let headers = headers.iter().map(|(known, value)| (known, if known == name { wrong.as_bytes() } else { value }));
            let read = Envelope::read(&record(headers.collect()));
            assert!(matches!(read, Err(EnvelopeError::Malformed(known)) if known == name), "{name}: {wrong}");
        }
        let mut twice = envelope().headers();
        twice.push(KIND, "custos.block.seen.v1");
        assert_eq!(Envelope::read(&record(twice)), Err(EnvelopeError::Repeated(KIND)));
        assert_eq!(Envelope::read(&record(Headers::new())), Err(EnvelopeError::Absent(CONTENT_TYPE)));
    }
}
