//! The next blocks of a node's chain, fetched and looked through several at a time.
//!
//! Invariants: a stretch is a chain, each block the parent of the next by hash, however often the node's chain was reorganised
//! while it was fetched; what was found comes in the order of the blocks, or not at all. Deliberately absent: what a block that
//! stands on another than the one reported last means, which the follower decides.

use std::num::NonZeroU64;

use futures::stream::{self, StreamExt, TryStreamExt};

use crate::BlockchainError;
use crate::node::{Block, Node};
use crate::scan::{Found, Scene, scan};

/// Blocks in one stretch: what is kept in memory, and what a failed request costs to be fetched again.
const BLOCKS_MAX: u64 = 32;
/// Requests to the node at a time. A busy block with its traces may be some ten megabytes.
const AT_ONCE: usize = 8;

/// The blocks from `first` on, up to `wanted` of them: as many as the node has and a stretch holds.
pub(crate) async fn fetch(node: &Node, first: u64, wanted: NonZeroU64) -> Result<Vec<Block>, BlockchainError> {
    let end = first.saturating_add(wanted.get().min(BLOCKS_MAX));
    let mut coming = stream::iter(first..end).map(|number| node.block_at(number)).buffered(AT_ONCE);
    let mut blocks: Vec<Block> = Vec::new();
    while let Some(Some(block)) = coming.try_next().await? {
        if blocks.last().is_some_and(|last| last.hash != block.parent_hash) {
            break;
        }
        blocks.push(block);
    }
    Ok(blocks)
}

/// What concerns us in each of these blocks.
pub(crate) async fn look_through(scene: &Scene<'_>, blocks: &[Block]) -> Result<Vec<Found>, BlockchainError> {
    stream::iter(blocks).map(|block| scan(scene, block)).buffered(AT_ONCE).try_collect().await
}
