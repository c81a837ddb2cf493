//! Policy: the signed data that machines and the signer decide by. Assets, chains, finality, limits, officers.
//!
//! Invariants: a policy is a versioned record in the log, signed by the bank's policy root; versions only rise; each decision
//! names the version that it rests on. A machine reads no configuration file. Deliberately absent: defaults. Whatever guards
//! money is said in the policy or the policy is refused.

mod approval;
mod attestation;
mod check;
mod codec;
mod signing;
mod text;

/// The generated messages. They stay inside this crate.
mod proto {
    #![allow(missing_docs, clippy::all, clippy::as_conversions)]
    include!(concat!(env!("OUT_DIR"), "/custos.v1.rs"));
}

use std::collections::BTreeMap;

use custos_domain::{Amount, Asset, AssetId, AssetKind, ChainId, Digest, EthAddress, Millis, NodeName, OfficerId, TenantId};

pub use approval::{DecisionError, approved, sign_decision, verify_decision};
pub use attestation::attested;
pub use signing::{read_trusted, verify};

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Rises with every change.
    pub version: u32,
    /// The bank.
    pub tenant: TenantId,
    /// Shards of each machine: accounts, treasury and chain have the same count.
    pub partitions: u32,
    /// Chains.
    pub chains: BTreeMap<ChainId, ChainPolicy>,
    /// The asset registry: nothing else is credited or paid.
    pub assets: BTreeMap<AssetId, AssetPolicy>,
    /// Officers and their Ed25519 public keys.
    pub officers: BTreeMap<OfficerId, [u8; 32]>,
    /// Officers that must agree to a payment at or above its asset's limit.
    pub quorum: u32,
    /// How long an approval is awaited.
    pub approval_wait: Millis,
    /// How long screening is awaited before a withdrawal unwinds.
    pub screening_wait: Millis,
    /// How long after the request a first signature may be made.
    pub intent_validity: Millis,
    /// The signer's Ed25519 public key that its attestations of addresses verify under. `None` only in a policy from before
    /// policies named one: under it, addresses are handed out unverified.
    pub attester: Option<[u8; 32]>,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainPolicy {
    /// The asset that pays fees.
    pub native: AssetId,
    /// The address that pays: the signer refuses if it derives another.
    pub hot: EthAddress,
    /// Every node whose agreement finality needs: one or two.
    pub nodes: Vec<NodeName>,
    /// How many blocks the fork tree keeps below the head: reorganisations down to here are put right.
    pub kept_blocks: u32,
    /// A mark is written every so many blocks.
    pub mark_every: u32,
    /// The largest fee envelope that a request may name, in base units of `native`.
    pub fee_max: Amount,
    /// The envelope of a house no-op.
    pub house_fee_max: Amount,
    /// How long a payment waits for the fee to fall into its envelope, or for the hot wallet to be funded.
    pub fee_wait: Millis,
    /// How often the fee is asked again in that time.
    pub fee_every: Millis,
    /// How often bytes that are not final are given to the node again.
    pub resend_every: Millis,
    /// How long a transaction may stay out of a block before it is replaced with a higher fee.
    pub bump_after: Millis,
}

/// An asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetPolicy {
    /// The registry entry.
    pub asset: Asset,
    /// Blocks on the canonical chain, the including one counted, before a deposit is credited or a payment is final.
    pub confirmations: u32,
    /// From this amount on, a payment needs officers.
    pub approval_from: Amount,
}

/// Why bytes are not a policy in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not signed by the root key.
    #[error("the policy is not signed by the policy root")]
    Signature,
    /// Not a policy.
    #[error("the policy's field `{field}` {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Not Protobuf.
    #[error("malformed policy")]
    Malformed(#[source] prost::DecodeError),
}

impl Policy {
    /// The native asset's policy of `chain`, if both are registered.
    #[must_use]
    pub fn native(&self, chain: &ChainId) -> Option<&AssetPolicy> {
        self.assets.get(&self.chains.get(chain)?.native)
    }

    /// The token of `chain` at `contract`, if it is registered.
    #[must_use]
    pub fn token(&self, chain: &ChainId, contract: &EthAddress) -> Option<&AssetPolicy> {
        self.assets.values().find(|entry| {
            entry.asset.chain == *chain && matches!(&entry.asset.kind, AssetKind::Erc20 { contract: at } if at == contract)
        })
    }

    /// Whether `amount` of `asset` needs officers.
    #[must_use]
    pub fn needs_approval(&self, asset: &AssetId, amount: Amount) -> bool {
        self.assets.get(asset).is_none_or(|entry| amount >= entry.approval_from)
    }
}

/// The digest by which events name a policy.
#[must_use]
pub fn policy_digest(bytes: &[u8]) -> Digest {
    Digest::of(bytes)
}
