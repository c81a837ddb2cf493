//! The network of truth: every block, the branch that all will agree on, and the pool of the miners.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy::primitives::{Address, B256};

use super::block::{Block, Coin, Mined, Paused, Pays, State, Terms, Tx};
use super::node::{Lie, NodeView};
use super::pool::Pool;

/// How deep a block is counted in what a node shows: more than any rule of finality asks.
const DEPTH_COUNTED: u64 = 16;
/// Gas that outsiders offer.
const OUTSIDE_FEE: u128 = 1 << 60;

/// How a network begins.
#[derive(Clone, Debug)]
pub struct NetworkSettings {
    /// EIP-155 number.
    pub chain: u64,
    /// The token's contract.
    pub token: Address,
    /// The names of its nodes.
    pub nodes: Vec<String>,
    /// Date of the first block, in seconds.
    pub time: u64,
    /// Wei for each gas.
    pub base_fee: u128,
    /// Who has what at the beginning: wei and token base units.
    pub endowed: Vec<(Address, u128, u128)>,
    /// Most transactions in a block.
    pub block_most: usize,
}

/// What becomes of the transactions of blocks that a reorganisation drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are mined again as soon as possible.
    Reinjected,
    /// They wait for whoever sends them again.
    Lost,
}

/// The network.
pub struct Network {
    settings: NetworkSettings,
    blocks: BTreeMap<B256, Arc<Block>>,
    canonical: Vec<Arc<Block>>,
    pool: Pool,
    /// Payments of outsiders, who need no signatures.
    outside: Vec<Arc<Tx>>,
    outside_made: u64,
    branches: u64,
    base_fee: u128,
    paused: Paused,
    nodes: Vec<NodeView>,
    /// How deep each node has shown each block.
    shown: BTreeMap<B256, Vec<u64>>,
    deepest: u64,
}

/// A network that nodes, miner, outsiders and oracles share.
#[derive(Clone)]
pub struct SharedNetwork(Arc<Mutex<Network>>);

impl SharedNetwork {
    /// A network at its first block.
    #[must_use]
    pub fn new(settings: NetworkSettings) -> Self {
        Self(Arc::new(Mutex::new(Network::new(settings))))
    }

    /// The network, for as long as it is held.
    pub fn lock(&self) -> MutexGuard<'_, Network> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network {
    fn new(settings: NetworkSettings) -> Self {
        let mut state = State::default();
        for (address, wei, tokens) in &settings.endowed {
            state.endow(*address, *wei, *tokens);
        }
        let genesis = Arc::new(sealed(None, 0, settings.time, settings.base_fee, (Vec::new(), state)));
        let nodes = settings.nodes.iter().map(|name| NodeView::new(name, &genesis)).collect();
        Self {
            blocks: BTreeMap::from([(genesis.hash, Arc::clone(&genesis))]),
            canonical: vec![genesis],
            pool: Pool::default(),
            outside: Vec::new(),
            outside_made: 0,
            branches: 0,
            base_fee: settings.base_fee,
            paused: Paused::No,
            nodes,
            shown: BTreeMap::new(),
            deepest: 0,
            settings,
        }
    }

    /// EIP-155 number.
    #[must_use]
    pub const fn chain(&self) -> u64 {
        self.settings.chain
    }

    /// The token's contract.
    #[must_use]
    pub const fn token(&self) -> Address {
        self.settings.token
    }

    /// Whether the token refuses transfers now.
    #[must_use]
    pub const fn paused(&self) -> Paused {
        self.paused
    }

    /// Makes the token refuse transfers, or ends that.
    pub const fn pause(&mut self, paused: Paused) {
        self.paused = paused;
    }

    /// Wei for each gas in the next block.
    #[must_use]
    pub const fn base_fee(&self) -> u128 {
        self.base_fee
    }

    /// Sets it.
    pub const fn set_base_fee(&mut self, wei: u128) {
        self.base_fee = wei;
    }

    /// The blocks that all will agree on, from the first.
    #[must_use]
    pub fn canonical(&self) -> &[Arc<Block>] {
        &self.canonical
    }

    /// The newest of them.
    #[must_use]
    pub fn head(&self) -> Option<&Arc<Block>> {
        self.canonical.last()
    }

    /// Any block that ever was.
    #[must_use]
    pub fn block(&self, hash: &B256) -> Option<&Arc<Block>> {
        self.blocks.get(hash)
    }

    /// Every block that ever was.
    pub fn blocks(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.blocks.values()
    }

    /// How deep the deepest reorganisation so far went.
    #[must_use]
    pub const fn deepest(&self) -> u64 {
        self.deepest
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[NodeView] {
        &self.nodes
    }

    /// A node.
    pub fn node_mut(&mut self, node: usize) -> Option<&mut NodeView> {
        self.nodes.get_mut(node)
    }

    /// The depth at which every node has shown `block` at some time; its own block counted.
    #[must_use]
    pub fn shown_by_all(&self, block: &B256) -> u64 {
        self.shown.get(block).and_then(|depths| depths.iter().min().copied()).unwrap_or(0)
    }

    /// Whether every node has shown, at some time, a branch that does not hold `block` although it reaches as high as the fork and more:
    /// one that is merely behind has not.
    #[must_use]
    pub fn left_by_all(&self, block: &B256) -> bool {
        let mut left = vec![false; self.nodes.len()];
        let mut next = self.blocks.get(block);
        for _ in 0..DEPTH_COUNTED {
            let Some(here) = next else { break };
            let beside = self.blocks.values().filter(|other| other.number == here.number && other.hash != here.hash);
            for depths in beside.filter_map(|other| self.shown.get(&other.hash)) {
                for (left, depth) in left.iter_mut().zip(depths) {
                    *left |= *depth > 0;
                }
            }
            next = self.blocks.get(&here.parent);
        }
        left.into_iter().all(|left| left)
    }

    /// The depth of `block` on the canonical branch now, its own block counted; zero if it is not there.
    #[must_use]
    pub fn depth(&self, block: &B256) -> u64 {
        let Some(block) = self.blocks.get(block) else { return 0 };
        let there = usize::try_from(block.number).ok().and_then(|number| self.canonical.get(number));
        let head = self.head().map_or(0, |head| head.number);
        if there.is_some_and(|there| there.hash == block.hash) {
            head.saturating_sub(block.number).saturating_add(1)
        } else {
            0
        }
    }

    /// A payment of somebody outside, who has enough: mined with the next block.
    pub fn pay(&mut self, from: Address, pays: Pays) -> B256 {
        self.outside_made = self.outside_made.saturating_add(1);
        let (to, value) = match pays {
            Pays::Ether { to, wei } => (to, wei),
            Pays::Token { .. } | Pays::Nothing => (self.settings.token, 0),
        };
        let hash = hash(&[b"outside", &self.outside_made.to_be_bytes()]);
        let (gas_limit, max_fee, tip) = (100_000, OUTSIDE_FEE, 1);
        let tx = Tx { hash, from, nonce: self.outside_made, to, value, pays, gas_limit, max_fee, tip };
        self.outside.push(Arc::new(tx));
        hash
    }

    /// Gives the miners a transaction that a node took.
    pub(super) fn gossip(&mut self, tx: &Arc<Tx>) {
        if let Some(head) = self.canonical.last() {
            // The miners keep what they have if it is the better one.
            let _ = self.pool.add(tx, &head.state);
        }
    }

    /// Gives the miners bytes past every node.
    pub fn smuggle(&mut self, raw: &[u8]) {
        if let Ok(tx) = Tx::read(raw, self.chain(), self.token()) {
            self.pool.put(&Arc::new(tx));
        }
    }

    /// Every pool forgets a transaction of ours, the oldest if there are several: `None` if none waits.
    pub fn lose_one(&mut self) -> Option<B256> {
        let hash = self.pool.all().next()?.hash;
        self.pool.drop_one(&hash);
        self.nodes.iter_mut().for_each(|node| node.pool.drop_one(&hash));
        Some(hash)
    }

    /// Whether a transfer of the token by us waits for a block.
    #[must_use]
    pub fn token_waits(&self) -> bool {
        self.pool.all().any(|tx| matches!(tx.pays, Pays::Token { .. }))
    }

    /// Whether one of the newest `blocks` holds a transaction of ours.
    #[must_use]
    pub fn holds_ours(&self, blocks: usize) -> bool {
        let newest = self.canonical.iter().rev().take(blocks);
        newest.flat_map(|block| &block.mined).any(|one| one.tx.max_fee != OUTSIDE_FEE)
    }

    /// Mines a block at `time`; nodes see it when they look.
    pub fn mine(&mut self, time: u64) {
        let Some(parent) = self.canonical.last().cloned() else { return };
        let mut state = parent.state.clone();
        let terms = Terms { base_fee: self.base_fee, paused: self.paused };
        let mut mined: Vec<Mined> = Vec::new();
        for tx in std::mem::take(&mut self.outside) {
            mined.push(outside(&mut state, &tx, terms));
        }
        let mut waiting: Vec<Arc<Tx>> = self.pool.all().cloned().collect();
        // Stable: nonces of one sender stay in order.
        waiting.sort_by_key(|tx| (tx.nonce, tx.from));
        for tx in waiting {
            if mined.len() < self.settings.block_most
                && let Some(done) = state.execute(&tx, terms)
            {
                mined.push(done);
            }
        }
        self.append(&parent, time, mined, state);
    }

    fn append(&mut self, parent: &Arc<Block>, time: u64, mined: Vec<Mined>, state: State) {
        self.pool.settle(&state);
        let block = Arc::new(sealed(Some(parent), self.branches, time, self.base_fee, (mined, state)));
        self.blocks.insert(block.hash, Arc::clone(&block));
        self.canonical.push(block);
    }

    /// Replaces the last `depth` blocks by one more, all empty but for what is waiting: the head only rises.
    pub fn reorganise(&mut self, depth: u64, fate: Fate, time: u64) {
        let depth = depth.min(self.head().map_or(0, |head| head.number));
        let keep = usize::try_from(depth).map_or(1, |depth| self.canonical.len().saturating_sub(depth).max(1));
        let dropped = self.canonical.split_off(keep);
        self.branches = self.branches.saturating_add(1);
        self.deepest = self.deepest.max(depth);
        for one in dropped.iter().flat_map(|block| &block.mined) {
            let from_outside = one.tx.max_fee == OUTSIDE_FEE;
            match fate {
                Fate::Reinjected if from_outside => self.outside.push(Arc::clone(&one.tx)),
                Fate::Reinjected => self.pool.put(&one.tx),
                Fate::Lost => {}
            }
        }
        // The blocks that are gone are not mined in the same order again: the first of the new branch are empty.
        let Some(mut parent) = self.canonical.last().cloned() else { return };
        for _ in 0..depth {
            let state = parent.state.clone();
            self.append(&parent, time, Vec::new(), state);
            parent = self.canonical.last().cloned().unwrap_or(parent);
        }
        self.mine(time);
    }

    /// Gives `node` a block of its own on top of what it shows, with a payment that never happened.
    pub fn private_block(&mut self, node: usize, from: Address, pays: Pays, time: u64) {
        self.branches = self.branches.saturating_add(1);
        self.outside_made = self.outside_made.saturating_add(1);
        let Some(parent) = self.nodes.get(node).and_then(NodeView::head).cloned() else { return };
        let mut state = parent.state.clone();
        let (to, value) = match pays {
            Pays::Ether { to, wei } => (to, wei),
            Pays::Token { .. } | Pays::Nothing => (self.settings.token, 0),
        };
        let hash = hash(&[b"private", &self.outside_made.to_be_bytes()]);
        let tx =
            Tx { hash, from, nonce: self.outside_made, to, value, pays, gas_limit: 100_000, max_fee: OUTSIDE_FEE, tip: 1 };
        let terms = Terms { base_fee: self.base_fee, paused: Paused::No };
        let mined = vec![outside(&mut state, &Arc::new(tx), terms)];
        let block = Arc::new(sealed(Some(&parent), self.branches, time, self.base_fee, (mined, state)));
        self.blocks.insert(block.hash, Arc::clone(&block));
        self.show(node, &block);
    }

    /// Lets `node` see the canonical branch up to `behind` blocks below its head. It tells its peers what waits in its pool, as nodes
    /// that meet do: the miners may have lost what it still holds, and whoever sends it again is told that it is known.
    pub fn sync(&mut self, node: usize, behind: u64) {
        let waiting: Vec<_> = self.nodes.get(node).into_iter().flat_map(|view| view.pool.all()).cloned().collect();
        waiting.iter().for_each(|tx| self.gossip(tx));
        let place =
            usize::try_from(behind).ok().and_then(|behind| self.canonical.len().checked_sub(behind.saturating_add(1)));
        if let Some(head) = place.and_then(|place| self.canonical.get(place)).cloned() {
            self.show(node, &head);
        }
    }

    fn show(&mut self, node: usize, head: &Arc<Block>) {
        let Self { nodes, blocks, shown, .. } = self;
        let count = nodes.len();
        let Some(view) = nodes.get_mut(node) else { return };
        view.follow(head, blocks);
        for (depth, block) in (1_u64..).zip(view.newest_first()) {
            let depths = shown.entry(block.hash).or_insert_with(|| vec![0; count]);
            let Some(known) = depths.get_mut(node) else { return };
            // Below a block that was counted to the end all are: a node may show many new ones at once, so depth alone does not tell.
            if *known >= DEPTH_COUNTED {
                return;
            }
            *known = depth.max(*known);
        }
    }

    /// Ends every lie, and lets every node see the truth.
    pub fn heal(&mut self) {
        self.paused = Paused::No;
        for node in 0..self.nodes.len() {
            if let Some(view) = self.nodes.get_mut(node) {
                view.lie = Lie::None;
                view.ghosts.clear();
            }
            self.sync(node, 0);
        }
    }

    /// What `address` was paid on the canonical branch, each payment for itself: sender, transaction, coin and amount.
    pub fn paid_to(&self, address: Address) -> impl Iterator<Item = (&Mined, Coin, u128)> {
        self.canonical.iter().flat_map(|block| &block.mined).filter_map(move |one| {
            let (to, coin, amount) = match one.tx.pays {
                Pays::Ether { to, wei } => (to, Coin::Ether, wei),
                Pays::Token { to, units } => (to, Coin::Token, units),
                Pays::Nothing => return None,
            };
            (one.succeeded && to == address).then_some((one, coin, amount))
        })
    }
}

/// Executes the payment of somebody outside: it always works, unless the token refuses.
fn outside(state: &mut State, tx: &Arc<Tx>, terms: Terms) -> Mined {
    let (wei, tokens, to) = match tx.pays {
        Pays::Ether { to, wei } => (wei, 0, to),
        Pays::Token { to, units } if terms.paused == Paused::No => (0, units, to),
        Pays::Token { .. } | Pays::Nothing => {
            return Mined { tx: Arc::clone(tx), succeeded: false, gas_used: 30_000, price: terms.base_fee };
        }
    };
    state.endow(to, wei, tokens);
    let gas_used = if tokens == 0 { super::block::PLAIN_GAS } else { super::block::TOKEN_GAS };
    Mined { tx: Arc::clone(tx), succeeded: true, gas_used, price: terms.base_fee }
}

fn hash(parts: &[&[u8]]) -> B256 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    B256::from(*hasher.finalize().as_bytes())
}

fn sealed(parent: Option<&Arc<Block>>, branch: u64, time: u64, base_fee: u128, content: (Vec<Mined>, State)) -> Block {
    let (mined, state) = content;
    let (number, above, before) =
        parent.map_or((0, B256::ZERO, 0), |parent| (parent.number.saturating_add(1), parent.hash, parent.time));
    let time = time.max(before.saturating_add(1));
    let (count, when, side) = (number.to_be_bytes(), time.to_be_bytes(), branch.to_be_bytes());
    let mut parts: Vec<&[u8]> = vec![b"block", above.as_slice(), &count, &when, &side];
    parts.extend(mined.iter().map(|one| one.tx.hash.as_slice()));
    let hash = hash(&parts);
    Block { number, hash, parent: above, time, base_fee, mined, state }
}
