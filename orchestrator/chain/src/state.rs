//! What the chain machine remembers: the policy, one tree per chain, and the tree's recent blocks as a record each.
//!
//! Invariant: a block's record exists from its first report until it falls below the tree's floor; the canonical branch is the
//! set of blocks flagged canonical, one per height from the floor to the tip.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use custos_domain::{
    AccountId, Amount, AssetId, BlockHash, BlockRef, ChainId, EthAddress, NodeName, Timestamp, TxHash, WalletId,
};
use custos_messages::SignedPolicy;
use custos_policy::Policy;

/// Names a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The policy in force.
    Policy,
    /// A chain.
    Tree(ChainId),
    /// A recent block of a chain.
    Block(ChainId, BlockRef),
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub enum Entity {
    /// The policy in force.
    Policy(Arc<InForce>),
    /// A chain.
    Tree(Box<Tree>),
    /// A recent block.
    Block(Box<Block>),
}

/// A policy with the bytes that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// As its signer published it; this is what the state keeps.
    pub signed: SignedPolicy,
    /// What it says.
    pub policy: Policy,
}

/// What is known of a chain as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The chain.
    pub chain: ChainId,
    /// The head of the canonical branch; none before the first configured node has spoken.
    pub tip: Option<BlockRef>,
    /// What each node said last.
    pub nodes: BTreeMap<NodeName, NodeView>,
    /// Blocks whose way down to the canonical branch is not known yet.
    pub pending: BTreeSet<BlockRef>,
    /// The lowest height kept.
    pub floor: u64,
    /// The highest canonical block up to which every node agrees at the depth of the slowest finality rule.
    pub settled: Option<BlockRef>,
    /// The last block that marks were written for.
    pub marked: Option<BlockRef>,
    /// The last cursor written to the watch list.
    pub cursor: Option<BlockRef>,
    /// Transfers and spends left out: of nothing, of an unregistered asset, of a foreign wallet.
    pub ignored: u64,
    /// Nodes whose silence was alarmed and that have not caught up since.
    pub silent: BTreeSet<NodeName>,
    /// Heights up to the settled one at which something new was told that may become final yet.
    pub again: BTreeSet<u64>,
}

/// What a node said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// The last block it reported that is not merely below an earlier one.
    pub reported: BlockRef,
    /// The last such block whose way down is known.
    pub head: Option<BlockRef>,
}

/// A block, with all in it that concerns us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The chain.
    pub chain: ChainId,
    /// The block.
    pub at: BlockRef,
    /// Its parent.
    pub parent: BlockHash,
    /// The header's time.
    pub time: Timestamp,
    /// Whether it is on the canonical branch.
    pub canonical: bool,
    /// Whether the nodes' disagreement about this block, or about what is in it, was alarmed.
    pub alarmed: bool,
    /// Deposits by (transaction, index).
    pub transfers: BTreeMap<(TxHash, u32), Transfer>,
    /// Spends by transaction.
    pub spends: BTreeMap<TxHash, Spend>,
}

/// How much of a fact was said to the other machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// Nothing, or taken back.
    Nothing,
    /// Seen.
    Seen,
    /// Final.
    Final,
}

/// A deposit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The sender.
    pub from: EthAddress,
    /// Our address.
    pub to: EthAddress,
    /// Whose address it is.
    pub account: AccountId,
    /// What.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
    /// What was said of it.
    pub said: Said,
    /// Reports of the same block contradict each other about it: it never becomes final.
    pub disputed: bool,
    /// Nodes that say so. It becomes final only when every configured node does.
    pub witnesses: BTreeSet<NodeName>,
}

/// A transaction from a wallet's hot address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The wallet.
    pub wallet: WalletId,
    /// Its nonce.
    pub nonce: u64,
    /// Fee paid, in wei.
    pub fee: Amount,
    /// Receipt status.
    pub succeeded: bool,
    /// What was said of it.
    pub said: Said,
    /// Reports of the same block contradict each other about it: it never becomes final.
    pub disputed: bool,
    /// Nodes that say so. It becomes final only when every configured node does.
    pub witnesses: BTreeSet<NodeName>,
}
