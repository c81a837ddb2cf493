//! What a follower has reported lately, oldest first: enough to find the common ancestor after a reorganisation.

use std::collections::VecDeque;

use custos_domain::BlockRef;

/// Blocks remembered. A reorganisation that goes deeper sends the follower back to the cursor.
const REMEMBERED: usize = 512;

/// The end of the reported branch: numbers rise by one.
#[derive(Debug, Default)]
pub(crate) struct Branch {
    blocks: VecDeque<BlockRef>,
}

impl Branch {
    /// A branch that stands on `base`, which needs no report.
    pub(crate) fn on(base: BlockRef) -> Self {
        Self { blocks: VecDeque::from([base]) }
    }

    /// The newest block.
    pub(crate) fn newest(&self) -> Option<BlockRef> {
        self.blocks.back().copied()
    }

    /// The block at `number`, if it is remembered.
    pub(crate) fn at(&self, number: u64) -> Option<BlockRef> {
        self.blocks.iter().rev().find(|block| block.number == number).copied()
    }

    /// All that is remembered, newest first.
    pub(crate) fn newest_first(&self) -> Vec<BlockRef> {
        self.blocks.iter().rev().copied().collect()
    }

    /// A block on the newest was reported.
    pub(crate) fn push(&mut self, block: BlockRef) {
        if self.blocks.len() >= REMEMBERED {
            self.blocks.pop_front();
        }
        self.blocks.push_back(block);
    }

    /// Forgets everything above `ancestor`; how many blocks that was.
    pub(crate) fn cut(&mut self, ancestor: BlockRef) -> u64 {
        let before = self.blocks.len();
        self.blocks.retain(|block| block.number <= ancestor.number);
        u64::try_from(before.saturating_sub(self.blocks.len())).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use custos_testkit::block;

    use super::*;

    #[test]
    fn memory_is_bounded_and_cut_at_the_ancestor() {
        let mut branch = Branch::on(block("a", 0));
        (1..=1_000).for_each(|number| branch.push(block("a", number)));
        assert_eq!(branch.newest_first().len(), REMEMBERED);
        assert_eq!(branch.at(488), None);
        assert_eq!(branch.at(489), Some(block("a", 489)));
        assert_eq!(branch.cut(block("a", 990)), 10);
        assert_eq!(branch.newest(), Some(block("a", 990)));
    }
}
