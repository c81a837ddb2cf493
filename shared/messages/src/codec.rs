//! Bytes to messages and back.
//!
//! Invariant: `decode(kind(m), encode(m)) == m`, and encoding the same message twice gives the same bytes (digests and ids rest on
//! it). Decoding is total: any bytes give a message or a [`DecodeError`].

use crate::MessageId;
use crate::wire::{self, Wire, WireError};

/// Why bytes are not the message that their type claims.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No message of this type belongs here.
    #[error("`{0}` is not a message type of this stream")]
    UnknownKind(String),
    /// Not Protobuf of that message.
    #[error("malformed {kind}")]
    Malformed {
        /// The message type.
        kind: &'static str,
        /// What Protobuf says.
        #[source]
        source: prost::DecodeError,
    },
    /// A field is absent or holds what it may not.
    #[error("{kind}: field `{field}` {problem}")]
    Field {
        /// The message type.
        kind: &'static str,
        /// The field's wire name.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A message with a protocol name and a Protobuf form.
pub trait Message: Sized {
    /// The protocol name, `ce_type`.
    fn kind(&self) -> &'static str;
    /// What it is about: `ce_subject`, an opaque id.
    fn subject(&self) -> String;
    /// The record key, which decides the partition.
    fn key(&self) -> Vec<u8>;
    /// The Protobuf bytes; the same message always gives the same bytes.
    fn encode(&self) -> Vec<u8>;
    /// The message of type `kind` in `bytes`.
    ///
    /// # Errors
    /// An unknown kind, malformed Protobuf, a missing field, a wrong length, an unknown enum value.
    fn decode(kind: &str, bytes: &[u8]) -> Result<Self, DecodeError>;
    /// The derived identity.
    fn id(&self) -> MessageId {
        MessageId::derive(self.kind(), &self.subject(), &self.encode())
    }
}

impl DecodeError {
    /// The error for a message type that does not belong to the stream; a long name is cut.
    pub(crate) fn unknown(kind: &str) -> Self {
        Self::UnknownKind(kind.chars().take(80).collect())
    }
}

/// Reads the message of type `kind`.
pub(crate) fn read<T>(kind: &'static str, bytes: &[u8]) -> Result<T, DecodeError>
where
    T: Wire<Proto: prost::Message + Default>,
{
    wire::from_bytes(bytes).map_err(|problem| match problem {
        WireError::Malformed(source) => DecodeError::Malformed { kind, source },
        WireError::Field(fault) => DecodeError::Field { kind, field: fault.field, problem: fault.problem },
    })
}
