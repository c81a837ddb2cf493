//! What the policy says about one chain, in the form that the tree asks for.

use std::collections::BTreeMap;

use custos_domain::{AssetId, ChainId, NodeName, WalletId};
use custos_policy::Policy;

/// The rules of a chain.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Shards of each machine.
    pub(crate) partitions: u32,
    /// The node whose head is the canonical one.
    pub(crate) first: NodeName,
    /// The nodes that must agree besides it.
    pub(crate) others: Vec<NodeName>,
    /// Blocks kept below the tip, and the most that may wait for their parents.
    pub(crate) kept: u64,
    pub(crate) mark_every: u64,
    /// Blocks until final, per asset of the chain; at least 1.
    pub(crate) confirmations: BTreeMap<AssetId, u64>,
    /// The smallest of them.
    pub(crate) shallowest: u64,
    /// The largest of them: also the finality of spends, since a spend may move any asset.
    pub(crate) deepest: u64,
    /// The wallet whose spends are followed.
    pub(crate) wallet: WalletId,
}

impl Rules {
    /// The rules of `chain`; none if the policy does not know it, or gives it no node or no asset.
    pub(crate) fn of(policy: &Policy, chain: &ChainId) -> Option<Self> {
        let entry = policy.chains.get(chain)?;
        let (first, others) = entry.nodes.split_first()?;
        let confirmations: BTreeMap<AssetId, u64> = policy
            .assets
            .values()
            .filter(|known| known.asset.chain == *chain)
            .map(|known| (known.asset.id.clone(), u64::from(known.confirmations.max(1))))
            .collect();
        Some(Self {
            partitions: policy.partitions,
            first: first.clone(),
            others: others.to_vec(),
            kept: u64::from(entry.kept_blocks.max(1)),
            mark_every: u64::from(entry.mark_every.max(1)),
            shallowest: *confirmations.values().min()?,
            deepest: *confirmations.values().max()?,
            confirmations,
            wallet: WalletId::omnibus(&policy.tenant, chain),
        })
    }

    /// Whether `node` is one of the configured nodes.
    pub(crate) fn knows(&self, node: &NodeName) -> bool {
        self.nodes().any(|known| known == node)
    }

    /// Every configured node.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        std::iter::once(&self.first).chain(&self.others)
    }
}
