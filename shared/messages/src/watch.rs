//! The watch list: which addresses are ours, and from which block a follower reads on.

use custos_domain::{AccountId, BlockRef, ChainId, EthAddress, WalletId};

/// A record of the compacted `addresses` topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchRecord {
    /// An address of ours. Key: chain and address.
    Address(WatchedAddress),
    /// A restarted follower reads on from here. Written by the chain machine for its chain. Key: chain.
    Cursor {
        /// The chain.
        chain: ChainId,
        /// A canonical block, deep enough to be final for every asset.
        block: BlockRef,
    },
}

/// An address of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedAddress {
    /// The chain.
    pub chain: ChainId,
    /// The address.
    pub address: EthAddress,
    /// Whose deposits arrive here.
    pub account: AccountId,
    /// The wallet that owns the key.
    pub wallet: WalletId,
    /// What it is used for.
    pub role: AddressRole,
}

/// What an address is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressRole {
    /// Receives deposits.
    Deposit,
    /// Pays; its transactions are reported as spends.
    Hot,
}
