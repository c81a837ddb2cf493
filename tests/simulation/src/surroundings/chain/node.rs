//! What one node shows of the network, and how it misbehaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::B256;

use super::block::{Block, Mined};
use super::pool::Pool;

/// How a node misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// Not at all.
    #[default]
    None,
    /// It answers nothing.
    Silent,
    /// It takes what is sent to it, and does not answer.
    AcceptsInSilence,
    /// It answers what is sent to it with its hash, and forgets it.
    Forgets,
    /// It refuses everything with an error of its own.
    Broken,
    /// It says that it does not have the block after the one at this height.
    Missing(u64),
}

/// A node.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// How it misbehaves now.
    pub lie: Lie,
    /// Payments that it shows in blocks that do not have them.
    pub ghosts: BTreeMap<B256, Vec<Mined>>,
    pub(super) pool: Pool,
    branch: Vec<Arc<Block>>,
}

impl NodeView {
    pub(super) fn new(name: &str, genesis: &Arc<Block>) -> Self {
        let branch = vec![Arc::clone(genesis)];
        Self { name: name.to_owned(), lie: Lie::None, ghosts: BTreeMap::new(), pool: Pool::default(), branch }
    }

    /// The newest block that it shows.
    #[must_use]
    pub fn head(&self) -> Option<&Arc<Block>> {
        self.branch.last()
    }

    /// The block that it shows at this height.
    #[must_use]
    pub fn at(&self, number: u64) -> Option<&Arc<Block>> {
        self.branch.get(usize::try_from(number).ok()?)
    }

    /// What it shows, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.branch.iter().rev()
    }

    /// What it says is in a block.
    pub(super) fn content<'a>(&'a self, block: &'a Block) -> impl Iterator<Item = &'a Mined> {
        block.mined.iter().chain(self.ghosts.get(&block.hash).into_iter().flatten())
    }

    /// Shows the branch that ends with `head`.
    pub(super) fn follow(&mut self, head: &Arc<Block>, blocks: &BTreeMap<B256, Arc<Block>>) {
        let mut new = Vec::new();
        let mut at = Some(Arc::clone(head));
        while let Some(block) = at {
            if self.at(block.number).is_some_and(|known| known.hash == block.hash) {
                self.branch.truncate(usize::try_from(block.number.saturating_add(1)).unwrap_or(usize::MAX));
                break;
            }
            at = blocks.get(&block.parent).cloned();
            new.push(block);
        }
        self.branch.extend(new.into_iter().rev());
        self.pool.settle(&head.state);
    }
}
