//! One input: a policy, or a node's report of a block, which is put into the tree, connected, and then acted upon.
//!
//! A block whose parent is unknown waits, within a bound; beyond it the report is dropped, and the node's branch is known again
//! as soon as another report links it to the tree. While a node is silent nothing settles and every block is kept, up to a bound
//! that followers stop short of; a human is called long before. A report of a block below what the node already reported is a
//! repeat: it may add transfers (a scan for a newly watched address), and never moves the node's head back.

use std::sync::Arc;

use custos_domain::{BlockHash, BlockRef, ChainId, NodeName};
use custos_messages::accounts::{AccountsInput, Alarm, AlarmCode};
use custos_messages::chain::{BlockReport, ChainInput, SpendSeen, TransferSeen};
use custos_messages::{Mail, SignedPolicy};
use custos_policy::read_trusted;
use custos_saga::machine::{Cause, Context, Effects, Outbound, View};

use crate::rules::Rules;
use crate::state::{Block, Entity, InForce, Key, NodeView, Said, Spend, Transfer, Tree};

/// Blocks kept above the settled one. Followers stop at half of it beyond the cursor, so that a silent node costs no block: those
/// that wait are asked for when the cursor moves. What is reported beyond it nevertheless is dropped.
const UNSETTLED_MAX: u64 = 16_384;

/// A tree at work: the input is applied to it as a whole, then it is put back.
pub(crate) struct Work<'v, 'a> {
    pub(crate) state: &'v mut View<'a, Key, Entity>,
    pub(crate) rules: Rules,
    pub(crate) tree: Tree,
    pub(crate) partition: u32,
    pub(crate) effects: Effects,
}

/// Applies one input.
pub(crate) fn apply(state: &mut View<'_, Key, Entity>, input: Cause<ChainInput>, context: &Context) -> Effects {
    match input {
        Cause::Timer(_) => dropped("no-such-timer"),
        Cause::Message { message: ChainInput::Policy(signed), .. } => adopt(state, signed),
        Cause::Message { message: ChainInput::Block(report), .. } => {
            let Some(Entity::Policy(held)) = state.get(&Key::Policy) else { return dropped("no-policy") };
            let Some(rules) = Rules::of(&held.policy, &report.chain) else { return dropped("unknown-chain") };
            if !rules.knows(&report.node) {
                return dropped("unknown-node");
            }
            let tree = match state.get(&Key::Tree(report.chain.clone())) {
                Some(Entity::Tree(tree)) => (**tree).clone(),
                _ => Tree::empty(report.chain.clone()),
            };
            Work { state, rules, tree, partition: context.partition, effects: Effects::default() }.hear(&report)
        }
    }
}

fn dropped(code: &'static str) -> Effects {
    Effects { dropped: Some(code), ..Effects::default() }
}

/// Versions only rise.
fn adopt(state: &mut View<'_, Key, Entity>, signed: SignedPolicy) -> Effects {
    let Ok(policy) = read_trusted(&signed) else { return dropped("unreadable-policy") };
    match state.get(&Key::Policy) {
        Some(Entity::Policy(held)) if held.policy.version >= policy.version => dropped("old-policy"),
        _ => {
            state.put(Key::Policy, Entity::Policy(Arc::new(InForce { signed, policy })));
            Effects::default()
        }
    }
}

impl Tree {
    /// A chain that nothing is known of.
    pub(crate) fn empty(chain: ChainId) -> Self {
        Self {
            chain,
            tip: None,
            nodes: std::collections::BTreeMap::new(),
            pending: std::collections::BTreeSet::new(),
            floor: 0,
            settled: None,
            marked: None,
            cursor: None,
            ignored: 0,
            silent: std::collections::BTreeSet::new(),
            again: std::collections::BTreeSet::new(),
        }
    }
}

impl Work<'_, '_> {
    fn hear(mut self, report: &BlockReport) -> Effects {
        if report.parent == report.block.hash {
            return dropped("malformed-block");
        }
        let known = self.block(report.block).is_some();
        if self.tree.tip.is_none() && report.node == self.rules.first {
            // The first block of the first node is the root: whatever lies below it is taken as it is.
            self.tree.floor = report.block.number;
            self.tree.pending.remove(&report.block);
        }
        if known && self.block(report.block).is_some_and(|block| block.parent != report.parent) {
            self.alarm(AlarmCode::NodesDisagree, report.block);
            self.effects.dropped = Some("parent-contradicts");
            return self.effects;
        }
        if !known && let Err(code) = self.admit(report) {
            self.effects.dropped = Some(code);
            return self.effects;
        }
        let news = self.merge(report);
        if news {
            self.look_again(report.block);
        }
        let moved = self.follow(report);
        if known && !news && !moved {
            self.effects.dropped = Some("repeat");
        }
        self.connect(report.block);
        self.act(report.block);
        self.alarm_silence();
        let key = Key::Tree(self.tree.chain.clone());
        self.state.put(key, Entity::Tree(Box::new(self.tree)));
        self.effects
    }

    /// Takes a new block into the tree, connected or waiting; an error is the code under which the report is dropped.
    fn admit(&mut self, report: &BlockReport) -> Result<(), &'static str> {
        let at = report.block;
        let first = report.node == self.rules.first;
        let beside_floor = self.is_beside_floor(report);
        if let Some(tip) = self.tree.tip.filter(|_| !beside_floor) {
            if at.number <= self.tree.floor {
                if first && at.number == self.tree.floor {
                    self.alarm(AlarmCode::DeepReorg, at);
                }
                return Err("below-floor");
            }
            if at.number > self.settled_height().saturating_add(UNSETTLED_MAX) {
                return Err("too-far-ahead");
            }
            if !self.connected(parent_of(at, report)) {
                self.wait(at, tip.number.saturating_add(self.rules.kept))?;
            }
        } else if self.tree.tip.is_none() && !first {
            self.wait(at, u64::MAX)?;
        }
        let block = Block {
            chain: self.tree.chain.clone(),
            at,
            parent: report.parent,
            time: report.time,
            canonical: false,
            alarmed: false,
            transfers: std::collections::BTreeMap::new(),
            spends: std::collections::BTreeMap::new(),
        };
        self.state.put(Key::Block(self.tree.chain.clone(), at), Entity::Block(Box::new(block)));
        Ok(())
    }

    /// Whether a block stands on the same parent as the lowest block of the branch: then the fork lies right below the tree, and all
    /// that leaves the branch for it is known. So a chain whose very first block is replaced can be followed on.
    fn is_beside_floor(&self, report: &BlockReport) -> bool {
        self.tree.tip.is_some() && report.block.number == self.tree.floor && self.below_floor() == Some(report.parent)
    }

    /// The block on which the lowest block of the branch stands.
    fn below_floor(&self) -> Option<BlockHash> {
        self.canonical_at(self.tree.floor).and_then(|lowest| self.block(lowest)).map(|lowest| lowest.parent)
    }

    /// Takes out of what waits the blocks beside the lowest of the branch: another node may have told of them before the first one told
    /// where the tree begins.
    fn take_beside_floor(&mut self) -> Vec<BlockRef> {
        let floor = self.tree.floor;
        let beside: Vec<BlockRef> = self.tree.pending.iter().filter(|waiting| waiting.number == floor).copied().collect();
        if beside.is_empty() || self.tree.tip.is_none() {
            return Vec::new();
        }
        let below = self.below_floor();
        let stands = |at: &BlockRef| self.block(*at).is_some_and(|block| Some(block.parent) == below);
        let taken: Vec<BlockRef> = beside.into_iter().filter(stands).collect();
        taken.iter().for_each(|at| {
            self.tree.pending.remove(at);
        });
        taken
    }

    /// Lets a block wait for its parent, if it is near enough and there is room.
    fn wait(&mut self, at: BlockRef, highest: u64) -> Result<(), &'static str> {
        let room = u64::try_from(self.tree.pending.len()).is_ok_and(|waiting| waiting < self.rules.kept);
        if at.number > highest || !room {
            return Err("unknown-parent");
        }
        self.tree.pending.insert(at);
        Ok(())
    }

    /// Adds what this report says is in the block. Whether anything was new.
    fn merge(&mut self, report: &BlockReport) -> bool {
        let mut ignored: u64 = 0;
        let mut contradicted = false;
        let mut news = false;
        let (rules, chain) = (&self.rules, self.tree.chain.clone());
        let Some(Entity::Block(block)) = self.state.get_mut(&Key::Block(chain, report.block)) else { return false };
        for seen in &report.transfers {
            let known = block.transfers.contains_key(&(seen.tx, seen.index));
            if seen.amount.is_zero() || !(known || rules.confirmations.contains_key(&seen.asset)) {
                ignored = ignored.saturating_add(1);
                continue;
            }
            match block.transfers.get_mut(&(seen.tx, seen.index)) {
                None => {
                    block.transfers.insert((seen.tx, seen.index), Transfer::new(seen, &report.node));
                    news = true;
                }
                Some(held) if !held.disputed && !held.says(seen) => {
                    held.disputed = held.said != Said::Final;
                    contradicted = true;
                }
                Some(held) if held.says(seen) => news |= held.witnesses.insert(report.node.clone()),
                Some(_) => {}
            }
        }
        for seen in &report.spends {
            if seen.wallet != rules.wallet {
                ignored = ignored.saturating_add(1);
                continue;
            }
            match block.spends.get_mut(&seen.tx) {
                None => {
                    block.spends.insert(seen.tx, Spend::new(seen, &report.node));
                    news = true;
                }
                Some(held) if !held.disputed && !held.says(seen) => {
                    held.disputed = held.said != Said::Final;
                    contradicted = true;
                }
                Some(held) if held.says(seen) => news |= held.witnesses.insert(report.node.clone()),
                Some(_) => {}
            }
        }
        self.tree.ignored = self.tree.ignored.saturating_add(ignored);
        if contradicted {
            self.alarm(AlarmCode::NodesDisagree, report.block);
        }
        news || contradicted
    }

    /// What is new in a block that was settled, and not final yet, is to be looked at again: now, or when the branch is not held any more.
    fn look_again(&mut self, at: BlockRef) {
        let settled = self.tree.settled.is_some_and(|settled| at.number <= settled.number);
        if settled && self.block(at).is_some_and(|block| block.canonical && block.is_open()) {
            self.tree.again.insert(at.number);
        }
    }

    /// Notes what the node said last. Whether its head moved.
    fn follow(&mut self, report: &BlockReport) -> bool {
        let said = self.tree.nodes.get(&report.node).map(|view| view.reported);
        if said.is_some_and(|last| self.descends(last, report.block)) {
            return false;
        }
        let head = self.tree.nodes.get(&report.node).and_then(|view| view.head);
        self.tree.nodes.insert(report.node.clone(), NodeView { reported: report.block, head });
        true
    }

    /// Connects what waited for `from`, if `from` is connected itself, and moves the heads of the nodes to what is connected.
    fn connect(&mut self, from: BlockRef) {
        let mut reached = self.take_beside_floor();
        reached.extend(Some(from).filter(|from| !self.tree.pending.contains(from)));
        while let Some(parent) = reached.pop() {
            let children: Vec<BlockRef> = self
                .tree
                .pending
                .iter()
                .filter(|child| child.number.checked_sub(1) == Some(parent.number))
                .filter(|child| self.block(**child).is_some_and(|block| block.parent == parent.hash))
                .copied()
                .collect();
            for child in children {
                self.tree.pending.remove(&child);
                reached.push(child);
            }
        }
        let nodes = self.tree.nodes.clone();
        for (name, view) in nodes {
            if self.connected(Some(view.reported)) {
                self.tree.nodes.insert(name, NodeView { head: Some(view.reported), ..view });
            }
        }
    }

    /// The record of a block.
    pub(crate) fn block(&self, at: BlockRef) -> Option<&Block> {
        match self.state.get(&Key::Block(self.tree.chain.clone(), at)) {
            Some(Entity::Block(block)) => Some(block),
            _ => None,
        }
    }

    /// The record of a block, to be changed.
    pub(crate) fn block_mut(&mut self, at: BlockRef) -> Option<&mut Block> {
        match self.state.get_mut(&Key::Block(self.tree.chain.clone(), at)) {
            Some(Entity::Block(block)) => Some(block),
            _ => None,
        }
    }

    fn connected(&self, at: Option<BlockRef>) -> bool {
        at.is_some_and(|at| !self.tree.pending.contains(&at) && self.block(at).is_some())
    }

    /// Whether `below` is `from` or lies on the branch under it.
    pub(crate) fn descends(&self, from: BlockRef, below: BlockRef) -> bool {
        let mut at = from;
        while at.number > below.number {
            match self.parent(at) {
                Some(parent) => at = parent,
                None => return false,
            }
        }
        at == below
    }

    /// The block under `at`, as far as the tree knows; the loop over parents ends because heights fall.
    pub(crate) fn parent(&self, at: BlockRef) -> Option<BlockRef> {
        let hash = self.block(at)?.parent;
        Some(BlockRef { number: at.number.checked_sub(1)?, hash })
    }

    /// Up to where every node agrees for good; the root while nothing is settled.
    fn settled_height(&self) -> u64 {
        self.tree.settled.map_or(self.tree.floor, |settled| settled.number)
    }

    /// One alarm for each node that is further behind than the tree keeps blocks, until it has caught up: all that while nothing
    /// becomes final, and blocks pile up.
    fn alarm_silence(&mut self) {
        if self.tree.tip.is_none() {
            return;
        }
        let height = |name: &NodeName| {
            self.tree.nodes.get(name).and_then(|view| view.head).map_or(self.tree.floor, |head| head.number)
        };
        let nodes: Vec<_> = self.rules.nodes().cloned().collect();
        let highest = nodes.iter().map(height).max().unwrap_or_default();
        let behind = |name: &NodeName| highest.saturating_sub(height(name)) > self.rules.kept;
        let silent: std::collections::BTreeSet<NodeName> = nodes.into_iter().filter(behind).collect();
        for name in silent.difference(&self.tree.silent) {
            let subject = format!("{}/{name}", self.tree.chain);
            self.effects.messages.push(call(self.partition, AlarmCode::NodeSilent, subject));
        }
        self.tree.silent = silent;
    }

    /// Calls a human.
    pub(crate) fn alarm(&mut self, code: AlarmCode, about: BlockRef) {
        let subject = format!("{}/{}/{}", self.tree.chain, about.number, about.hash);
        self.effects.messages.push(call(self.partition, code, subject));
    }
}

fn call(partition: u32, code: AlarmCode, subject: String) -> Outbound {
    let message = Mail::Accounts(AccountsInput::Alarm(Alarm { code, subject }));
    Outbound { partition: Some(partition), message }
}

fn parent_of(at: BlockRef, report: &BlockReport) -> Option<BlockRef> {
    Some(BlockRef { number: at.number.checked_sub(1)?, hash: report.parent })
}

impl Transfer {
    fn new(seen: &TransferSeen, witness: &NodeName) -> Self {
        Self {
            from: seen.from,
            to: seen.to,
            account: seen.account,
            asset: seen.asset.clone(),
            amount: seen.amount,
            said: Said::Nothing,
            disputed: false,
            witnesses: std::iter::once(witness.clone()).collect(),
        }
    }

    fn says(&self, seen: &TransferSeen) -> bool {
        self.from == seen.from
            && self.to == seen.to
            && self.account == seen.account
            && self.asset == seen.asset
            && self.amount == seen.amount
    }
}

impl Spend {
    fn new(seen: &SpendSeen, witness: &NodeName) -> Self {
        Self {
            wallet: seen.wallet,
            nonce: seen.nonce,
            fee: seen.fee,
            succeeded: seen.succeeded,
            said: Said::Nothing,
            disputed: false,
            witnesses: std::iter::once(witness.clone()).collect(),
        }
    }

    fn says(&self, seen: &SpendSeen) -> bool {
        self.nonce == seen.nonce && self.fee == seen.fee && self.succeeded == seen.succeeded
    }
}
