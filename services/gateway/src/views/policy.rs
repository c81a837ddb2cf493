//! The policy that the door reads requests by.

use custos_domain::AssetKind;
use custos_policy::Policy;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Money;
use super::Registry;

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// Its version.
    pub version: u32,
    /// The newest version that every shard has adopted, once they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopted_version: Option<u32>,
    /// The bank.
    pub tenant: String,
    /// Officers that must agree.
    pub quorum: u32,
    /// Officers by name.
    pub officers: Vec<String>,
    /// How long an approval is awaited, in milliseconds.
    pub approval_wait_ms: u64,
    /// How long screening is awaited, in milliseconds.
    pub screening_wait_ms: u64,
    /// How long after the request a first signature may be made, in milliseconds.
    pub intent_validity_ms: u64,
    /// Registered chains.
    pub chains: Vec<ChainView>,
    /// Registered assets.
    pub assets: Vec<AssetView>,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainView {
    /// CAIP-2.
    pub id: String,
    /// The asset that pays fees.
    pub native: String,
    /// The address that pays.
    pub hot: String,
    /// The largest `fee_max` that a request may name.
    pub fee_max: Money,
}

/// An asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssetView {
    /// Its code.
    pub id: String,
    /// Its chain.
    pub chain: String,
    /// `native` or `erc20`.
    pub kind: String,
    /// The token's contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    /// Decimals of its unit.
    pub decimals: u8,
    /// Blocks before a deposit is credited or a payment final.
    pub confirmations: u32,
    /// From this amount on, a payment needs officers.
    pub approval_from: Money,
}

impl PolicyView {
    pub(crate) fn of(policy: &Policy, registry: &Registry, adopted_version: Option<u32>) -> Self {
        let chains = policy.chains.iter().map(|(id, chain)| ChainView {
            id: id.to_string(),
            native: chain.native.to_string(),
            hot: chain.hot.to_string(),
            fee_max: registry.money(&chain.native, chain.fee_max),
        });
        let assets = policy.assets.iter().map(|(id, entry)| {
            let (kind, contract) = match entry.asset.kind {
                AssetKind::Native => ("native", None),
                AssetKind::Erc20 { contract } => ("erc20", Some(contract.to_string())),
            };
            AssetView {
                id: id.to_string(),
                chain: entry.asset.chain.to_string(),
                kind: kind.to_owned(),
                contract,
                decimals: entry.asset.decimals,
                confirmations: entry.confirmations,
                approval_from: registry.money(id, entry.approval_from),
            }
        });
        Self {
            version: policy.version,
            adopted_version,
            tenant: policy.tenant.to_string(),
            quorum: policy.quorum,
            officers: policy.officers.keys().map(ToString::to_string).collect(),
            approval_wait_ms: policy.approval_wait.0,
            screening_wait_ms: policy.screening_wait.0,
            intent_validity_ms: policy.intent_validity.0,
            chains: chains.collect(),
            assets: assets.collect(),
        }
    }
}
