//! The words of Custos: money, assets, identities, addresses, time and intents.
//!
//! Invariants: money is an unsigned integer of the smallest unit and never a float; every identity has its own type; nothing
//! here performs I/O, reads a clock or draws a random number. Deliberately absent: any wire or disk format except the one
//! canonical encoding of an [`Intent`], which is what officers and the signing guard put their names to.

mod address;
mod amount;
mod asset;
mod ids;
mod intent;
mod time;

pub use address::{AddressError, EthAddress};
pub use amount::{Amount, AmountError};
pub use asset::{Asset, AssetError, AssetId, AssetKind, ChainId};
pub use ids::{
    AccountId, BlockHash, BlockRef, CommandId, Digest, HashContext, IdError, IdempotencyKey, IntentId, NodeName, OfficerId,
    SagaId, TenantId, TxHash, WalletId, hex_text, partition_of, push_hex,
};
pub use intent::{Fee, Intent, IntentDigest, IntentError};
pub use time::{Millis, Timestamp};
