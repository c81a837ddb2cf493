//! The chain as a client may see it: up to the true head, or some blocks behind it when the node lies about its head.

use std::sync::Arc;

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{B256, TxHash},
};

use crate::{block::Block, chain::Chain, rpc::RpcError, world::World};

pub(super) struct View<'a> {
    pub(super) chain: &'a Chain,
    head: u64,
}

impl<'a> View<'a> {
    pub(super) fn new(chain: &'a Chain, behind: u64) -> Self {
        Self { chain, head: chain.head().number().saturating_sub(behind) }
    }

    pub(super) fn head(&self) -> &'a Arc<Block> {
        self.chain.by_number(self.head).unwrap_or_else(|| self.chain.head())
    }

    /// The number that a tag means. `pending` is the head: what only the pool knows is no block.
    pub(super) fn number(&self, tag: BlockNumberOrTag) -> u64 {
        let settings = &self.chain.settings;
        match tag {
            BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => self.head,
            BlockNumberOrTag::Safe => self.head.saturating_sub(settings.safe_depth),
            BlockNumberOrTag::Finalized => self.head.saturating_sub(settings.finalized_depth),
            BlockNumberOrTag::Earliest => 0,
            BlockNumberOrTag::Number(number) => number,
        }
    }

    pub(super) fn by_number(&self, tag: BlockNumberOrTag) -> Option<&'a Arc<Block>> {
        let number = self.number(tag);
        self.chain.by_number(number).filter(|_| number <= self.head)
    }

    /// Side blocks too.
    pub(super) fn by_hash(&self, hash: B256) -> Option<&'a Arc<Block>> {
        self.chain.by_hash(hash).filter(|block| block.number() <= self.head)
    }

    pub(super) fn by_id(&self, id: BlockId) -> Result<Option<&'a Arc<Block>>, RpcError> {
        match id {
            BlockId::Number(tag) => Ok(self.by_number(tag)),
            BlockId::Hash(wanted) => {
                let block = self.by_hash(wanted.block_hash);
                let canonical = wanted.require_canonical.unwrap_or_default();
                if canonical && block.is_some_and(|block| !self.chain.is_canonical(block)) {
                    return Err(RpcError::server("hash is not currently canonical"));
                }
                Ok(block)
            }
        }
    }

    pub(super) fn place(&self, hash: &TxHash) -> Option<(&'a Arc<Block>, usize)> {
        self.chain.place(hash).filter(|(block, _)| block.number() <= self.head)
    }

    /// A block and the state after it.
    pub(super) fn state(&self, id: Option<BlockId>) -> Result<(&'a Arc<Block>, &'a World), RpcError> {
        let block = self.by_id(id.unwrap_or_default())?.ok_or_else(|| RpcError::server("header not found"))?;
        let gone =
            || RpcError::server(format!("missing trie node {} (path ) state is not available", block.header.state_root));
        Ok((block, self.chain.world(block).ok_or_else(gone)?))
    }
}
