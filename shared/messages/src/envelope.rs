//! The envelope in a record's headers: CloudEvents 1.0 in binary mode, and Custos' own `custos_…` headers.
//!
//! Invariants: `read` after `write` gives the same envelope; a header that is known may stand once only and must hold exactly what
//! `write` would have written. Headers that are not known are left to whoever put them there.

use std::io::Write as _;

use custos_domain::{Timestamp, push_hex};
use jiff::civil::DateTime;
use jiff::tz::Offset;

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
            headers.push_with(TIME, |out| write_time(time, out));
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
        let bytes = |name: &'static str| name.as_bytes();
        for (name, value) in headers.as_pairs() {
            let held = match name {
                name if name == bytes(CONTENT_TYPE) => &mut found.content_type,
                name if name == bytes(SPEC_VERSION) => &mut found.version,
                name if name == bytes(ID) => &mut found.id,
                name if name == bytes(KIND) => &mut found.kind,
                name if name == bytes(SOURCE) => &mut found.source,
                name if name == bytes(SUBJECT) => &mut found.subject,
                name if name == bytes(TIME) => &mut found.time,
                name if name == bytes(TRACE) => &mut found.trace,
                name if name == bytes(LINK) => &mut found.link,
                name if name == bytes(REPLY_TO) => &mut found.reply_to,
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
        headers.as_pairs().filter(|(known, _)| *known == name.as_bytes()).for_each(|(_, value)| held.add(value));
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

/// RFC 3339 in UTC with milliseconds. A moment beyond the year 9999 is written as the last one that has a form. Digit by digit: the general
/// form of a date, written and read, was a tenth of what a message costs.
fn write_time(time: Timestamp, out: &mut Vec<u8>) {
    let moment = i64::try_from(time.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let at = Offset::UTC.to_datetime(moment.unwrap_or(jiff::Timestamp::MAX));
    let (year, month, day) = (at.year().unsigned_abs(), at.month().unsigned_abs(), at.day().unsigned_abs());
    let (hour, minute, second) = (at.hour().unsigned_abs(), at.minute().unsigned_abs(), at.second().unsigned_abs());
    for (width, number, after) in [
        (4, year, b'-'),
        (2, month.into(), b'-'),
        (2, day.into(), b'T'),
        (2, hour.into(), b':'),
        (2, minute.into(), b':'),
        (2, second.into(), b'.'),
        (3, at.millisecond().unsigned_abs(), b'Z'),
    ] {
        push_digits(width, number, out);
        out.push(after);
    }
}

/// The last `width` digits of `number`.
fn push_digits(width: u32, number: u16, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        let digit = 10_u16.checked_pow(place).and_then(|unit| number.checked_div(unit)).unwrap_or(0) % 10;
        out.push(b'0'.saturating_add(u8::try_from(digit).unwrap_or(0)));
    }
}

fn read_time(text: &str) -> Option<Timestamp> {
    let mut rest = text.as_bytes();
    let mut next = |width: usize, after: u8| {
        let (digits, more) = rest.split_at_checked(width)?;
        let (found, more) = more.split_first()?;
        rest = more;
        let number = digits.iter().try_fold(0_i16, |sum, digit| {
            digit.is_ascii_digit().then(|| sum.checked_mul(10)?.checked_add(i16::from(digit.wrapping_sub(b'0')))).flatten()
        });
        number.filter(|_| *found == after)
    };
    let (year, month, day) = (next(4, b'-')?, next(2, b'-')?, next(2, b'T')?);
    let (hour, minute, second, millisecond) = (next(2, b':')?, next(2, b':')?, next(2, b'.')?, next(3, b'Z')?);
    let small = |number: i16| i8::try_from(number).ok();
    let (month, day) = (small(month)?, small(day)?);
    let nanosecond = i32::from(millisecond).checked_mul(1_000_000)?;
    let at = DateTime::new(year, month, day, small(hour)?, small(minute)?, small(second)?, nanosecond).ok()?;
    let moment = Offset::UTC.to_timestamp(at).ok().filter(|_| rest.is_empty())?;
    Some(Timestamp(u64::try_from(moment.as_millisecond()).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn a_time_is_written_as_the_general_form_has_it_and_read_back(ms in 0_u64..300_000_000_000_000) {
            let mut written = Vec::new();
            write_time(Timestamp(ms), &mut written);
            let text = String::from_utf8(written).unwrap();
            let moment = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap_or(jiff::Timestamp::MAX);
            prop_assert_eq!(&text, &format!("{:.3}", moment));
            prop_assert_eq!(read_time(&text), Some(Timestamp(u64::try_from(moment.as_millisecond()).unwrap())));
        }

        #[test]
        fn what_is_no_time_is_no_time(text in "[0-9TZ:. -]{0,26}") {
            let general = text.parse::<jiff::Timestamp>().ok().filter(|moment| format!("{moment:.3}") == text);
            let expected = general.and_then(|moment| u64::try_from(moment.as_millisecond()).ok()).map(Timestamp);
            prop_assert_eq!(read_time(&text), expected);
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
            ("ce_time", "2026-09-21 14:13:20.042Z"),
            ("ce_time", "2026-09-21T14:13:20.042z"),
            ("ce_time", "2026-09-21T14:13:20.0420Z"),
            ("ce_time", "2026-09-21T14:13:20.042ZZ"),
            ("ce_time", "2026-09-21T14:13:60.042Z"),
            ("ce_time", "2026-02-29T14:13:20.042Z"),
            ("ce_time", "2026-9-21T14:13:20.0042Z"),
            ("ce_time", "+026-09-21T14:13:20.042Z"),
            ("ce_time", "1969-12-31T23:59:59.999Z"),
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
