//! Who speaks, proven: each source seals its records with a secret of its own, and a reader opens only what the source may say.
//!
//! Many write to one inbox, so rights on a topic cannot tell a forged signature report or deposit from a true one. The seal is
//! HMAC-SHA-256 over the topic's name, key, value and every header named `content-type`, `ce_…` or `custos_…`, so a record cannot be
//! moved to another topic either; `traceparent` is left out. Deliberately absent: replay protection; links and idempotency give it.

use std::collections::BTreeMap;

use custos_domain::{Digest, Timestamp};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::envelope::{CONTENT_TYPE, Held};
use crate::{
    DecodeError, Envelope, EnvelopeError, Link, Mail, Message, MessageId, Record, ReplyTo, Source, TimerDue, Topic,
    TraceParent,
};

/// Key, value and headers of a record together are at most this long.
pub const MAX_MESSAGE_BYTES: usize = 512 * 1024;

pub(crate) const AUTH: &str = "custos_auth";
/// What a seal is over besides key, value and headers: the names of purpose and topic, and lengths.
const SEAL_ROOM: usize = 384;

/// The secret of one source: 32 random bytes. Wiped when dropped; never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret {
    bytes: [u8; 32],
    key_id: [u8; 8],
}

/// Secrets by source: those that this process seals with, and those of the sources that it listens to.
#[derive(Clone, Default)]
pub struct Keyring {
    /// The first of a source's secrets seals; all of them open.
    secrets: BTreeMap<Source, Vec<Secret>>,
}

/// Why a record is not acted upon. It goes into quarantine under its [`Rejection::code`].
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// Longer than [`MAX_MESSAGE_BYTES`].
    #[error("the record has {0} bytes, more than any message may have")]
    Oversized(usize),
    /// Its headers are not an envelope.
    #[error("the record has no readable envelope")]
    Envelope(#[source] EnvelopeError),
    /// The seal is absent or false, or no secret of the source is known here.
    #[error("the record is not sealed by {}", .0.name())]
    Unauthenticated(Source),
    /// The source may not say this, or not here.
    #[error("{} may not say `{kind}` here", .from.name())]
    NotAllowed {
        /// Who said it.
        from: Source,
        /// What it said.
        kind: String,
    },
    /// The payload is not the message that its type claims.
    #[error("the record's payload cannot be read")]
    Undecodable(#[source] DecodeError),
}

impl Rejection {
    /// The stable name under which it is counted and quarantined.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Oversized(_) => "oversized",
            Self::Envelope(_) => "malformed-envelope",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::NotAllowed { .. } => "not-allowed",
            Self::Undecodable(_) => "undecodable",
        }
    }
}

/// What travels with a message besides itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Postmark {
    /// See [`Envelope::time`].
    pub time: Option<Timestamp>,
    /// See [`Envelope::link`].
    pub link: Option<Link>,
    /// See [`Envelope::reply_to`].
    pub reply_to: Option<ReplyTo>,
    /// See [`Envelope::trace`].
    pub trace: Option<TraceParent>,
}

impl Secret {
    /// The secret of 32 bytes; `None` for any other number of bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        let [a, b, c, d, e, f, g, h, ..] = Digest::of_parts("custos 2026 source key id", &[&bytes]).0;
        Some(Self { bytes, key_id: [a, b, c, d, e, f, g, h] })
    }

    /// What may be printed: eight bytes that name the secret and tell nothing about it.
    #[must_use]
    pub const fn key_id(&self) -> [u8; 8] {
        self.key_id
    }

    /// Key id and authentication code of `record`, as `custos_auth` carries them.
    fn seal(&self, topic: Topic, record: &Record) -> Vec<u8> {
        // HMAC takes a key of any length; the error type is for algorithms that do not.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.bytes) else { return Vec::new() };
        let value = record.value.as_deref().unwrap_or_default();
        // Gathered first: a code over some sixty short pieces takes longer to feed than to compute.
        let mut said = Vec::with_capacity(record.size().saturating_add(SEAL_ROOM));
        let mut part = |bytes: &[u8]| {
            said.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            said.extend_from_slice(bytes);
        };
        part(b"custos 2026 source seal");
        part(topic.name().as_bytes());
        part(&record.key);
        part(if record.value.is_some() { b"value" } else { b"tombstone" });
        part(value);
        for (name, value) in record.headers.as_pairs().filter(|(name, _)| sealed(name)) {
            part(name);
            part(value);
        }
        mac.update(&said);
        let code: [u8; 32] = mac.finalize().into_bytes().into();
        [self.key_id.as_slice(), &code].concat()
    }
}

fn sealed(header: &[u8]) -> bool {
    let own = header.starts_with(b"custos_") && header != AUTH.as_bytes();
    own || header.starts_with(b"ce_") || header == CONTENT_TYPE.as_bytes()
}

impl Keyring {
    /// A keyring of one secret for each source that this process seals as or listens to.
    #[must_use]
    pub fn new(secrets: BTreeMap<Source, Secret>) -> Self {
        Self { secrets: secrets.into_iter().map(|(source, secret)| (source, vec![secret])).collect() }
    }

    /// Also opens what `source` sealed with `secret`: for the time of a rotation.
    #[must_use]
    pub fn accepting(mut self, source: Source, secret: Secret) -> Self {
        self.secrets.entry(source).or_default().push(secret);
        self
    }

    /// Whether this keyring has a secret of `source`: to be asked for every source in question before any port opens.
    #[must_use]
    pub fn knows(&self, source: Source) -> bool {
        self.secrets.get(&source).is_some_and(|secrets| !secrets.is_empty())
    }

    /// The record that says `value` under `envelope`, sealed as from the envelope's source. Without a secret of that source the
    /// record carries no seal, and every reader refuses it.
    #[must_use]
    pub fn seal(&self, envelope: &Envelope, topic: Topic, key: Vec<u8>, value: Option<Vec<u8>>) -> Record {
        self.seal_record(envelope.source, topic, Record { key, value, headers: envelope.headers() })
    }

    pub(crate) fn seal_record(&self, source: Source, topic: Topic, mut record: Record) -> Record {
        if let Some(secret) = self.secrets.get(&source).and_then(|secrets| secrets.first()) {
            let seal = secret.seal(topic, &record);
            record.headers.push(AUTH, &seal);
        }
        record
    }

    /// The envelope of a record that its source has sealed for this topic and may say.
    ///
    /// # Errors
    /// See [`Rejection`]; the checks stand in the order oversized, envelope, seal, table.
    pub fn open(&self, topic: Topic, record: &Record) -> Result<Envelope, Rejection> {
        let bytes = record.size();
        if bytes > MAX_MESSAGE_BYTES {
            return Err(Rejection::Oversized(bytes));
        }
        let envelope = Envelope::read(record).map_err(Rejection::Envelope)?;
        if !self.is_sealed(envelope.source, topic, record) {
            return Err(Rejection::Unauthenticated(envelope.source));
        }
        let own_inbox = Some(topic) == envelope.source.machine().map(Topic::Inbox);
        if !envelope.source.may_say(&envelope.kind) || (envelope.kind == TimerDue::KIND && !own_inbox) {
            return Err(Rejection::NotAllowed { from: envelope.source, kind: envelope.kind });
        }
        Ok(envelope)
    }

    fn is_sealed(&self, source: Source, topic: Topic, record: &Record) -> bool {
        let Held::One(seal) = Held::under(AUTH, &record.headers) else { return false };
        let secrets = self.secrets.get(&source).map(Vec::as_slice).unwrap_or_default();
        secrets.iter().filter(|secret| seal.starts_with(&secret.key_id)).any(|secret| {
            let expected = secret.seal(topic, record);
            bool::from(expected.ct_eq(seal))
        })
    }

    /// The sealed record of `message`. The record's key, subject and id are the message's own.
    #[must_use]
    pub fn seal_message<M: Message>(&self, topic: Topic, source: Source, message: &M, mark: Postmark) -> Record {
        let value = message.encode();
        let envelope = envelope_of(message, &value, source, mark);
        self.seal(&envelope, topic, message.key(), Some(value))
    }

    /// The message of a record, and who says it.
    ///
    /// # Errors
    /// See [`Keyring::open`]; then the payload must be what its type claims.
    pub fn open_message<M: Message>(&self, topic: Topic, record: &Record) -> Result<(Envelope, M), Rejection> {
        let envelope = self.open(topic, record)?;
        let message =
            M::decode(&envelope.kind, record.value.as_deref().unwrap_or_default()).map_err(Rejection::Undecodable)?;
        Ok((envelope, message))
    }
}

pub(crate) fn envelope_of<M: Message>(message: &M, value: &[u8], source: Source, mark: Postmark) -> Envelope {
    let (kind, subject) = (message.kind(), message.subject());
    Envelope {
        id: MessageId::derive(kind, &subject, value),
        kind: kind.to_owned(),
        source,
        subject,
        time: mark.time,
        trace: mark.trace,
        link: mark.link,
        reply_to: mark.reply_to,
    }
}

impl Mail {
    /// The inbox that it goes to.
    #[must_use]
    pub const fn topic(&self) -> Topic {
        match self {
            Self::Accounts(_) => Topic::Inbox(crate::Machine::Accounts),
            Self::Treasury(_) => Topic::Inbox(crate::Machine::Treasury),
            Self::Chain(_) => Topic::Inbox(crate::Machine::Chain),
        }
    }

    /// The record key, which decides the partition unless the sender names one.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        match self {
            Self::Accounts(message) => message.key(),
            Self::Treasury(message) => message.key(),
            Self::Chain(message) => message.key(),
        }
    }

    /// The sealed record.
    #[must_use]
    pub fn seal(&self, keyring: &Keyring, source: Source, mark: Postmark) -> Record {
        match self {
            Self::Accounts(message) => keyring.seal_message(self.topic(), source, message, mark),
            Self::Treasury(message) => keyring.seal_message(self.topic(), source, message, mark),
            Self::Chain(message) => keyring.seal_message(self.topic(), source, message, mark),
        }
    }
}
