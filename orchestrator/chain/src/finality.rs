//! Depth: what has become final, where the nodes disagree, and how far everything has been said.
//!
//! A block is `c` deep when it and the blocks on it number `c`. Something is final only when its block is deep enough on the
//! branch of every configured node, each counted from that node's own head. A spend needs the largest depth of any asset of
//! the chain, because it may have moved any of them.

use custos_domain::BlockRef;
use custos_messages::Mail;
use custos_messages::accounts::{AccountsInput, AlarmCode, BlockMark, MarkPath};
use custos_messages::treasury::{ChainMark, TreasuryInput};
use custos_messages::watch::WatchRecord;
use custos_saga::machine::Outbound;

use crate::hear::Work;
use crate::state::{Entity, Key, Said};

/// Blocks removed below the floor per input, and blocks looked at per height: bounds, far above what occurs.
const SWEEP: usize = 256;

/// How far a node's branch agrees with the canonical one.
struct Agreement {
    /// Height of the node's head.
    head: u64,
    /// Height of the highest canonical block on its branch.
    shared: u64,
}

impl Work<'_, '_> {
    /// Acts on the tree as it is after `reported` was put into it.
    pub(crate) fn act(&mut self, reported: BlockRef) {
        let Some(head) = self.tree.nodes.get(&self.rules.first).and_then(|view| view.head) else { return };
        let held = self.held_against(head);
        let reorganised = !held && self.tree.tip != Some(head) && self.switch(head);
        if self.block(reported).is_some_and(|block| block.canonical) {
            self.announce(reported, Said::Seen, u64::MAX);
        }
        if held {
            return self.dispute_instead(head);
        }
        let agreements = self.agreements();
        self.alarm_disagreement(head, &agreements);
        self.finalise(head, &agreements);
        self.mark(head, reorganised);
        self.prune(head);
    }

    /// The branch stays as it is, and nothing is settled: a human is called, once, for the block that the first node shows in the place
    /// of what is final.
    fn dispute_instead(&mut self, head: BlockRef) {
        if let Some(instead) = self.down_to_canonical(head).0.last() {
            self.dispute(*instead);
        }
    }

    /// One entry per other node; none while a node has no head or shares no block with the canonical branch.
    fn agreements(&self) -> Vec<Option<Agreement>> {
        let agreement = |node| {
            let head = self.tree.nodes.get(node)?.head?;
            let (_, fork) = self.down_to_canonical(head);
            Some(Agreement { head: head.number, shared: fork?.number })
        };
        self.rules.others.iter().map(agreement).collect()
    }

    /// The highest block that is `confirmations` deep on every branch.
    fn reach(&self, head: BlockRef, agreements: &[Option<Agreement>], confirmations: u64) -> Option<u64> {
        let depth = confirmations.saturating_sub(1);
        agreements.iter().try_fold(head.number.checked_sub(depth)?, |reach, agreement| {
            let agreement = agreement.as_ref()?;
            Some(reach.min(agreement.shared).min(agreement.head.checked_sub(depth)?))
        })
    }

    /// Says `Final` of all that is due from the settled block up, and of what was told late of a settled block.
    fn finalise(&mut self, head: BlockRef, agreements: &[Option<Agreement>]) {
        let Some(top) = self.reach(head, agreements, self.rules.shallowest) else { return };
        let unsettled = self.tree.settled.map_or(self.tree.floor, |settled| settled.number.saturating_add(1));
        for height in unsettled..=top {
            self.finalise_at(height, head, agreements);
        }
        let Some(deepest) = self.reach(head, agreements, self.rules.deepest) else { return };
        let below = deepest.saturating_add(1);
        let kept = self.tree.again.split_off(&below);
        for height in std::mem::replace(&mut self.tree.again, kept) {
            self.finalise_at(height, head, agreements);
        }
        if let Some(block) = Some(deepest).filter(|height| *height >= unsettled).and_then(|height| self.canonical_at(height))
        {
            self.tree.settled = Some(block);
        }
    }

    fn finalise_at(&mut self, height: u64, head: BlockRef, agreements: &[Option<Agreement>]) {
        let Some(at) = self.canonical_at(height) else { return };
        let heads = agreements.iter().flatten().map(|agreement| agreement.head);
        let lowest = heads.fold(head.number, u64::min);
        self.announce(at, Said::Final, lowest.saturating_sub(height).saturating_add(1));
    }

    pub(crate) fn canonical_at(&self, height: u64) -> Option<BlockRef> {
        let [from, to] = [[0; 32], [0xff; 32]].map(|hash| BlockRef { number: height, hash: custos_domain::BlockHash(hash) });
        let chain = &self.tree.chain;
        let here = self.state.keys(Key::Block(chain.clone(), from)..=Key::Block(chain.clone(), to), SWEEP);
        here.into_iter().find_map(|key| match self.state.get(&key) {
            Some(Entity::Block(block)) if block.canonical => Some(block.at),
            _ => None,
        })
    }

    /// One alarm per canonical block at which a node went another way, once money in it could become final on both branches.
    fn alarm_disagreement(&mut self, head: BlockRef, agreements: &[Option<Agreement>]) {
        let depth = self.rules.shallowest.saturating_sub(1);
        for agreement in agreements.iter().flatten() {
            let fork = agreement.shared.saturating_add(1);
            let deep = |head: u64| head.checked_sub(depth).is_some_and(|deepest| deepest >= fork);
            if !deep(head.number) || !deep(agreement.head) {
                continue;
            }
            if let Some(at) = self.canonical_at(fork) {
                self.dispute(at);
            }
        }
    }

    /// Calls a human because nodes differ about a block, once for each block.
    fn dispute(&mut self, at: BlockRef) {
        if self.block(at).is_some_and(|block| !block.alarmed)
            && let Some(block) = self.block_mut(at)
        {
            block.alarmed = true;
            self.alarm(AlarmCode::NodesDisagree, at);
        }
    }

    /// Tells every accounts shard, and the wallet's treasury, that all about blocks up to the tip has been said.
    fn mark(&mut self, head: BlockRef, reorganised: bool) {
        let due = match self.tree.marked {
            None => true,
            Some(marked) => reorganised || head.number >= marked.number.saturating_add(self.rules.mark_every),
        };
        if due && self.tree.marked != Some(head) {
            self.tree.marked = Some(head);
            let chain = self.tree.chain.clone();
            for partition in 0..self.rules.partitions {
                let mark = BlockMark { chain: chain.clone(), path: MarkPath::Deposits, block: head, partition };
                let message = Mail::Accounts(AccountsInput::BlockMark(mark));
                self.effects.messages.push(Outbound { partition: Some(partition), message });
            }
            let mark = ChainMark { wallet: self.rules.wallet, chain, block: head };
            let message = Mail::Treasury(TreasuryInput::BlockMark(mark));
            self.effects.messages.push(Outbound { partition: None, message });
        }
        let Some(settled) = self.tree.settled else { return };
        let due =
            self.tree.cursor.is_none_or(|cursor| settled.number >= cursor.number.saturating_add(self.rules.mark_every));
        if due {
            self.tree.cursor = Some(settled);
            self.effects.watch.push(WatchRecord::Cursor { chain: self.tree.chain.clone(), block: settled });
        }
    }

    /// Forgets blocks below the kept depth, but never one that may still have something to say.
    fn prune(&mut self, head: BlockRef) {
        let Some(settled) = self.tree.settled else { return };
        let floor = head.number.saturating_sub(self.rules.kept).min(settled.number);
        self.tree.floor = self.tree.floor.max(floor);
        let Some(highest) = self.tree.floor.checked_sub(1) else { return };
        let chain = &self.tree.chain;
        let from = BlockRef { number: 0, hash: custos_domain::BlockHash([0; 32]) };
        let to = BlockRef { number: highest, hash: custos_domain::BlockHash([0xff; 32]) };
        let below = self.state.keys(Key::Block(chain.clone(), from)..=Key::Block(chain.clone(), to), SWEEP);
        for key in below {
            if let Key::Block(_, at) = &key {
                self.tree.pending.remove(at);
            }
            self.state.remove(&key);
        }
    }
}
