//! What crosses a process boundary: the topics, the envelope, every message, and who may say it.
//!
//! The types here are the domain's view of the wire. Their Protobuf form lives in `proto/`, is generated at build time and stays
//! inside this crate; decoding yields these types or an error, never a half-read message. Wire names are protocol names,
//! field numbers are never reused, and an unknown enum value is a decode error.

pub mod accounts;
pub mod blockchain;
pub mod chain;
pub mod compliance;
pub mod events;
pub mod gateway;
pub mod treasury;
pub mod wallet;
pub mod watch;

pub mod wire;

mod chained;
mod codec;
mod conversions;
mod envelope;
mod headers;
mod keyring;
mod outward;
mod record;
mod source;
mod streams;
mod topic;

/// The generated messages. They stay inside this crate.
mod proto {
    #![allow(missing_docs, clippy::all, clippy::as_conversions)]
    include!(concat!(env!("OUT_DIR"), "/custos.v1.rs"));

    /// The numbers of their fields, as the contract says them.
    #[allow(non_snake_case, non_upper_case_globals, dead_code)]
    pub mod numbers {
        include!(concat!(env!("OUT_DIR"), "/custos.v1.numbers.rs"));
    }
}

use custos_domain::Timestamp;

pub use chained::{Chained, event_hash};
pub use codec::{DecodeError, Message};
pub use envelope::EnvelopeError;
pub use headers::Headers;
pub use keyring::{Keyring, MAX_MESSAGE_BYTES, Postmark, Rejection, Secret};
pub use record::{Envelope, Link, MessageId, Record, ReplyTo, ShardName, TraceParent};
pub use source::Source;
pub use topic::{Machine, Topic};

/// A policy as its signer published it: the bytes of a policy record and the Ed25519 signature over them.
/// Opaque here; `custos-policy` verifies and reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPolicy {
    /// The encoded policy.
    pub bytes: Vec<u8>,
    /// Ed25519 over `"custos-policy" || bytes`, 64 bytes.
    pub signature: Vec<u8>,
}

/// The runtime's own message: a timer of a shard is due. It travels in the inbox of the machine that armed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerDue {
    /// The timer's name.
    pub timer: Vec<u8>,
    /// The moment for which it was armed.
    pub due: Timestamp,
}

/// The runtime's own message: from this input on the shard runs this logic. It stands once in every partition of every inbox, at an
/// offset of its own in each; no shard ever goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activate {
    /// The logic, one more than the one in force.
    pub logic: u32,
}

/// A message for a machine's inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mail {
    /// To accounts.
    Accounts(accounts::AccountsInput),
    /// To treasury.
    Treasury(treasury::TreasuryInput),
    /// To chain.
    Chain(chain::ChainInput),
}
