//! What the chain machine hears.

use custos_domain::{
    AccountId, Amount, AssetId, BlockHash, BlockRef, ChainId, EthAddress, NodeName, Timestamp, TxHash, WalletId,
};

use crate::SignedPolicy;

/// A message in `chain.inbox`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainInput {
    /// Blockchain: a node's canonical chain has this block.
    Block(Box<BlockReport>),
    /// Operator: a new policy.
    Policy(SignedPolicy),
}

/// A block that a node calls canonical, with all in it that concerns us. Several reports of one block add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockReport {
    /// The node.
    pub node: NodeName,
    /// The chain.
    pub chain: ChainId,
    /// The block.
    pub block: BlockRef,
    /// Its parent.
    pub parent: BlockHash,
    /// The header's time.
    pub time: Timestamp,
    /// Transfers to watched addresses.
    pub transfers: Vec<TransferSeen>,
    /// Transactions from watched hot addresses.
    pub spends: Vec<SpendSeen>,
}

/// A transfer to a watched address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferSeen {
    /// The transaction.
    pub tx: TxHash,
    /// See `Deposit::index`.
    pub index: u32,
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
}

/// A transaction from a watched hot address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendSeen {
    /// The wallet of the hot address.
    pub wallet: WalletId,
    /// The transaction.
    pub tx: TxHash,
    /// Its nonce.
    pub nonce: u64,
    /// Fee paid, in wei: gas used times effective gas price.
    pub fee: Amount,
    /// Receipt status.
    pub succeeded: bool,
}
