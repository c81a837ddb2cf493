//! The crate's one error enum: what can go wrong when the chain is driven from inside the process.
//!
//! Errors that a JSON-RPC client sees are `rpc::RpcError`; refusals of the pool are `PoolRefusal`.

use std::{io, net::SocketAddr};

use alloy::primitives::{B256, TxHash};

use crate::pool::PoolRefusal;

/// Why a call on `DevChain` failed. Nothing is retried inside; a call that failed changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum DevChainError {
    /// The development chain listens on loopback only.
    #[error("the development chain refuses to listen on {address}: it is not a loopback address")]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The listener could not be opened.
    #[error("listening on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The thread that mines at intervals could not be started.
    #[error("starting the interval miner")]
    StartMiner(#[source] io::Error),
    /// The pool refused a transaction.
    #[error("the pool refused transaction {hash}")]
    Refused {
        /// Hash of the transaction.
        hash: TxHash,
        /// The pool's reason, in geth's words.
        #[source]
        source: Box<PoolRefusal>,
    },
    /// Bytes that are no signed transaction.
    #[error("decoding a raw transaction")]
    Decode(#[source] PoolRefusal),
    /// A replacement block names a transaction that cannot be executed there.
    #[error("transaction {hash} cannot stand in a replacement block: {reason}")]
    NotExecutable {
        /// Hash of the transaction.
        hash: TxHash,
        /// The machine's reason.
        reason: String,
    },
    /// More blocks were to be dropped than lie above genesis.
    #[error("cannot drop {depth} blocks: the head is at {head}")]
    TooDeep {
        /// Blocks to drop.
        depth: u64,
        /// Number of the head.
        head: u64,
    },
    /// More replacement blocks were given than the branch will have.
    #[error("{given} replacement blocks were given for a branch of {blocks}")]
    TooManyBlocks {
        /// Blocks given.
        given: usize,
        /// Blocks that the branch has.
        blocks: u64,
    },
    /// A fee above 2^64 - 1 wei fits no header.
    #[error("a base fee of {wei} wei fits no header")]
    BaseFee {
        /// The fee asked for.
        wei: u128,
    },
    /// No such block, or its state is no longer kept.
    #[error("the state of block {block} is not kept")]
    StateGone {
        /// Hash of the block.
        block: B256,
    },
    /// Signing with a development key.
    #[error("signing with a development key")]
    Sign(#[source] k256::ecdsa::Error),
}
