//! The canonical branch: which blocks leave it, which join it, and what is said about the money in them.

use std::collections::BTreeSet;

use custos_domain::{BlockRef, NodeName};
use custos_messages::Mail;
use custos_messages::accounts::{AccountsInput, AlarmCode, Deposit, DepositFact, DepositNews};
use custos_messages::treasury::{SpendFact, SpendNews, TreasuryInput};
use custos_saga::machine::Outbound;

use crate::hear::Work;
use crate::state::{Block, Said};

impl Work<'_, '_> {
    /// Makes `to` the tip. Whether blocks left the branch for it.
    pub(crate) fn switch(&mut self, to: BlockRef) -> bool {
        let (joining, fork) = self.down_to_canonical(to);
        let leaving = self.leaving(fork);
        let mut undone_final = fork.is_none_or(|fork| self.tree.settled.is_some_and(|settled| fork.number < settled.number))
            && self.tree.settled.is_some();
        for at in &leaving {
            undone_final |= self.leave(*at);
        }
        for at in joining.iter().rev() {
            if let Some(block) = self.block_mut(*at) {
                block.canonical = true;
            }
            self.announce(*at, Said::Seen, u64::MAX);
        }
        if undone_final {
            self.alarm(AlarmCode::DeepReorg, to);
        }
        self.tree.settled = match (self.tree.settled, fork) {
            (Some(settled), Some(fork)) if fork.number >= settled.number => Some(settled),
            (Some(_), fork) => fork,
            (None, _) => None,
        };
        self.tree.again.retain(|height| fork.is_some_and(|fork| *height <= fork.number));
        if self.tree.cursor.is_some_and(|cursor| fork.is_none_or(|fork| fork.number < cursor.number)) {
            self.tree.cursor = None;
        }
        self.tree.tip = Some(to);
        !leaving.is_empty()
    }

    /// Whether making `to` the tip would undo something final that not every node has left. What was final took every node's word, and
    /// it takes every node's word to undo it: each must stand on the very block that `to` shows in the place of what would leave. A
    /// block up to the settled one counts as final with nothing in it.
    pub(crate) fn held_against(&self, to: BlockRef) -> bool {
        if self.tree.tip == Some(to) {
            return false;
        }
        let (joining, fork) = self.down_to_canonical(to);
        let is_final = |at: &BlockRef| {
            let settled = self.tree.settled.is_some_and(|settled| at.number <= settled.number);
            settled || self.block(*at).is_some_and(Block::has_final)
        };
        if !self.leaving(fork).iter().any(is_final) {
            return false;
        }
        // A node that is merely behind shows nothing in its place.
        let Some(instead) = joining.last() else { return true };
        let agrees = |node| {
            let head = self.tree.nodes.get(node).and_then(|view| view.head);
            head.is_some_and(|head| self.descends(head, *instead))
        };
        !self.rules.others.iter().all(agrees)
    }

    /// The blocks from `from` down that are not canonical, and the canonical block that they stand on.
    pub(crate) fn down_to_canonical(&self, from: BlockRef) -> (Vec<BlockRef>, Option<BlockRef>) {
        let mut path = Vec::new();
        let mut next = Some(from);
        while let Some(at) = next {
            match self.block(at) {
                Some(block) if block.canonical => return (path, Some(at)),
                Some(_) => path.push(at),
                None => break,
            }
            next = self.parent(at);
        }
        (path, None)
    }

    /// Canonical blocks above `fork`, the tip first.
    fn leaving(&self, fork: Option<BlockRef>) -> Vec<BlockRef> {
        let mut path = Vec::new();
        let mut next = self.tree.tip;
        while let Some(at) = next.filter(|at| Some(*at) != fork && self.block(*at).is_some()) {
            path.push(at);
            next = self.parent(at);
        }
        path
    }

    /// Takes back what was said about a block that leaves the branch. Whether something final was among it.
    fn leave(&mut self, at: BlockRef) -> bool {
        let Some(block) = self.block_mut(at) else { return false };
        block.canonical = false;
        let mut before = block.clone();
        block.transfers.values_mut().for_each(|transfer| transfer.said = Said::Nothing);
        block.spends.values_mut().for_each(|spend| spend.said = Said::Nothing);
        let was_final = before.has_final();
        before.transfers.retain(|_, transfer| transfer.said > Said::Nothing);
        before.spends.retain(|_, spend| spend.said > Said::Nothing);
        let facts = deposits(&before, DepositNews::Unseen).chain(spends(&before, SpendNews::Unseen));
        self.effects.messages.extend(facts.map(|message| Outbound { partition: None, message }));
        was_final
    }

    /// Says `said` of everything in a canonical block that has not been said so much of. Of `Final`, only what is due in a block
    /// that lies `depth` deep on every node's branch, and what every node says is in it: a block that all share may still be told
    /// differently by one of them. What would be due but for that calls a human, once for each block.
    pub(crate) fn announce(&mut self, at: BlockRef, said: Said, depth: u64) {
        let rules = self.rules.clone();
        let Some(block) = self.block_mut(at) else { return };
        let mut unconfirmed = false;
        let mut due = |needed: u64, held: Said, disputed: bool, witnesses: &BTreeSet<NodeName>| match said {
            Said::Nothing => false,
            Said::Seen => held == Said::Nothing,
            Said::Final if held == Said::Seen && !disputed && depth >= needed => {
                let all = rules.nodes().all(|node| witnesses.contains(node));
                unconfirmed |= !all;
                all
            }
            Said::Final => false,
        };
        let mut told = Block { transfers: Default::default(), spends: Default::default(), ..block.clone() };
        for (id, transfer) in &mut block.transfers {
            // An asset that the policy lists no more: what is known of it still comes to its end, as slowly as anything.
            let needed = rules.confirmations.get(&transfer.asset).copied().unwrap_or(rules.deepest);
            if due(needed, transfer.said, transfer.disputed, &transfer.witnesses) {
                transfer.said = said;
                told.transfers.insert(*id, transfer.clone());
            }
        }
        for (id, spend) in &mut block.spends {
            if due(rules.deepest, spend.said, spend.disputed, &spend.witnesses) {
                spend.said = said;
                told.spends.insert(*id, spend.clone());
            }
        }
        if unconfirmed && !std::mem::replace(&mut block.alarmed, true) {
            self.alarm(AlarmCode::NodesDisagree, at);
        }
        let (deposit_news, spend_news) = match said {
            Said::Nothing | Said::Seen => (DepositNews::Seen, SpendNews::Seen),
            Said::Final => (DepositNews::Final, SpendNews::Final),
        };
        let facts = deposits(&told, deposit_news).chain(spends(&told, spend_news));
        self.effects.messages.extend(facts.map(|message| Outbound { partition: None, message }));
    }
}

impl Block {
    /// Whether something in it is not final and not disputed.
    pub(crate) fn is_open(&self) -> bool {
        self.transfers.values().any(|transfer| transfer.said < Said::Final && !transfer.disputed)
            || self.spends.values().any(|spend| spend.said < Said::Final && !spend.disputed)
    }

    fn has_final(&self) -> bool {
        self.transfers.values().any(|transfer| transfer.said == Said::Final)
            || self.spends.values().any(|spend| spend.said == Said::Final)
    }
}

fn deposits(block: &Block, news: DepositNews) -> impl Iterator<Item = Mail> {
    block.transfers.iter().map(move |((tx, index), transfer)| {
        let deposit = Deposit {
            chain: block.chain.clone(),
            tx: *tx,
            index: *index,
            block: block.at,
            from: transfer.from,
            to: transfer.to,
            asset: transfer.asset.clone(),
            amount: transfer.amount,
        };
        Mail::Accounts(AccountsInput::Deposit(DepositFact { account: transfer.account, deposit, news }))
    })
}

fn spends(block: &Block, news: SpendNews) -> impl Iterator<Item = Mail> {
    block.spends.iter().map(move |(tx, spend)| {
        Mail::Treasury(TreasuryInput::Spend(SpendFact {
            wallet: spend.wallet,
            chain: block.chain.clone(),
            tx: *tx,
            nonce: spend.nonce,
            block: block.at,
            fee: spend.fee,
            succeeded: spend.succeeded,
            news,
        }))
    })
}
