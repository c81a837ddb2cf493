//! The signer: the only part of Custos that knows keys.
//!
//! Invariants: it signs exactly what it is given, after checking on its own that policy, approvals, outputs, amount and fee agree;
//! it never signs two transactions for one intent that could both be mined, nor one nonce for two payments; no signature leaves
//! before its record is durable, and a guard that has forgotten a record stops it. The same order gives the same bytes for
//! ever. Deliberately absent: building transactions, choosing nonces and fees, talking to nodes, and any way to export a key.

mod checkpoint;
mod checks;
mod error;
mod guard;
mod keys;
mod keystore;
mod service;
mod settings;
mod signer;
mod transaction;

pub use checkpoint::{Checkpoint, CheckpointFile, CheckpointStore, Mark};
pub use error::WalletError;
pub use guard::{Binding, Claim, FirstLimit, Grant, Guard, Holder, Known, Outcome, SqlGuard, Verdict, Whose, rule};
pub use keys::{DEPOSIT_BRANCH, DerivedAddress, HOT_BRANCH, Keys, attestation_key, hot_address};
pub use keystore::{KeyStore, WorkFactor};
pub use settings::{GuardUrl, PassphraseSource, WalletConfig, WalletSettings};
pub use signer::{Interruption, Wallet};
pub use transaction::SignedBytes;
