//! The chain itself: canonical blocks, side blocks, states, and the pool on top.
//!
//! Invariants: `canonical` starts with genesis and each block's parent is the one before it; every canonical block is in
//! `by_hash`; the head's world is always kept. Side blocks stay readable by hash, as geth keeps them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use alloy::{
    consensus::{Header, Transaction, TxEnvelope, constants::EMPTY_WITHDRAWALS},
    eips::{eip1559::BaseFeeParams, eip7685::EMPTY_REQUESTS_HASH},
    primitives::{Address, B64, B256, Bytes, TxHash, U256, keccak256},
};

use crate::{
    DevChainError,
    block::{Block, Draft, MinedBlock},
    pool::{Origin, Pool, PoolRefusal, Signed, Tip, decode},
    settings::{Clock, Settings},
    world::World,
};

/// Hashes that `BLOCKHASH` can reach.
const ANCESTORS: u64 = 256;

/// What becomes of the transactions of dropped blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// They go back to the pool, as geth does.
    Reinject,
    /// They are lost, as anvil does.
    Lose,
}

#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) settings: Settings,
    pub(crate) pool: Pool,
    canonical: Vec<Arc<Block>>,
    by_hash: HashMap<B256, Arc<Block>>,
    places: HashMap<TxHash, (u64, usize)>,
    worlds: BTreeMap<(u64, B256), World>,
    next_base_fee: Option<u64>,
    // Counts reorganisations: it is part of every header, so that a branch never repeats a hash.
    branch: u64,
    genesis: Arc<Block>,
}

impl Chain {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut world = World::default();
        for (address, wei) in &settings.genesis {
            world.set_balance(*address, *wei);
        }
        let mut header = blank(&settings);
        header.timestamp = settings.genesis_time;
        header.base_fee_per_gas = Some(settings.base_fee);
        let (block, world) = Draft::new(settings.chain_number, header, world, Arc::default()).seal();
        let genesis = Arc::new(block);
        Self {
            settings,
            pool: Pool::default(),
            canonical: vec![Arc::clone(&genesis)],
            by_hash: HashMap::from([(genesis.hash, Arc::clone(&genesis))]),
            places: HashMap::new(),
            worlds: BTreeMap::from([((0, genesis.hash), world)]),
            next_base_fee: None,
            branch: 0,
            genesis,
        }
    }

    pub(crate) fn head(&self) -> &Arc<Block> {
        self.canonical.last().unwrap_or(&self.genesis)
    }

    pub(crate) fn by_number(&self, number: u64) -> Option<&Arc<Block>> {
        self.canonical.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn by_hash(&self, hash: B256) -> Option<&Arc<Block>> {
        self.by_hash.get(&hash)
    }

    /// The canonical block of a transaction, and its index there.
    pub(crate) fn place(&self, hash: &TxHash) -> Option<(&Arc<Block>, usize)> {
        let (number, index) = self.places.get(hash)?;
        Some((self.by_number(*number)?, *index))
    }

    pub(crate) fn world(&self, block: &Block) -> Option<&World> {
        self.worlds.get(&(block.number(), block.hash))
    }

    pub(crate) fn head_world(&self) -> World {
        // The head's world is always kept; an empty one would only be seen if that were broken.
        self.world(self.head()).cloned().unwrap_or_default()
    }

    pub(crate) fn is_canonical(&self, block: &Block) -> bool {
        self.by_number(block.number()).is_some_and(|other| other.hash == block.hash)
    }

    /// Hashes of the blocks up to `number`, as many as `BLOCKHASH` reaches.
    pub(crate) fn ancestors(&self, number: u64) -> Arc<BTreeMap<u64, B256>> {
        let first = number.saturating_add(1).saturating_sub(ANCESTORS);
        let range = first..=number;
        Arc::new(range.filter_map(|number| Some((number, self.by_number(number)?.hash))).collect())
    }

    pub(crate) fn add_raw(&mut self, raw: &[u8]) -> Result<TxHash, PoolRefusal> {
        let tx = decode(raw)?;
        self.add(tx, Origin::Rpc { fee_cap: self.settings.fee_cap })
    }

    pub(crate) fn add(&mut self, tx: TxEnvelope, origin: Origin) -> Result<TxHash, PoolRefusal> {
        let world = self.head_world();
        let tip =
            Tip { chain_number: self.settings.chain_number, block_gas_limit: self.settings.block_gas_limit, world: &world };
        self.pool.add(tx, origin, tip)
    }

    /// Base fee of the block that will be mined next, in wei per gas.
    pub(crate) fn upcoming_base_fee(&self) -> u64 {
        let after = |head: &Header| head.next_block_base_fee(BaseFeeParams::ethereum()).unwrap_or(self.settings.base_fee);
        self.next_base_fee.unwrap_or_else(|| after(&self.head().header))
    }

    pub(crate) fn set_base_fee(&mut self, wei: u64) {
        self.next_base_fee = Some(wei);
    }

    /// Header of the next block, before any transaction.
    pub(crate) fn upcoming(&self) -> Header {
        let parent = &self.head().header;
        let mut header = blank(&self.settings);
        header.parent_hash = self.head().hash;
        header.number = parent.number.saturating_add(1);
        header.timestamp = self.next_time(parent.timestamp);
        header.base_fee_per_gas = Some(self.upcoming_base_fee());
        header.extra_data = Bytes::from(format!("custos-devchain/{}", self.branch).into_bytes());
        header.mix_hash = keccak256(header.extra_data.as_ref());
        header
    }

    fn next_time(&self, parent: u64) -> u64 {
        match self.settings.clock {
            Clock::Stepped(seconds) => parent.saturating_add(seconds.max(1)),
            Clock::Host => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
                now.max(parent.saturating_add(1))
            }
        }
    }

    fn draft(&self) -> Draft {
        let ancestors = self.ancestors(self.head().number());
        Draft::new(self.settings.chain_number, self.upcoming(), self.head_world(), ancestors)
    }

    /// Mines one block from the pool: best tip first, per sender in nonce order, until nothing fits.
    pub(crate) fn mine(&mut self) -> MinedBlock {
        let mut draft = self.draft();
        let base_fee = self.upcoming_base_fee();
        let mut passed: Vec<Address> = Vec::new();
        while let Some(signed) = self.pool.best(&draft.world, base_fee, &passed) {
            let (hash, from) = (signed.hash(), signed.from);
            if signed.tx.gas_limit() > draft.gas_left() {
                passed.push(from);
            } else if let Err(refusal) = draft.push(signed) {
                tracing::debug!(%hash, %refusal, "a pooled transaction cannot be executed: passed over");
                passed.push(from);
            }
        }
        self.append(draft)
    }

    fn append(&mut self, draft: Draft) -> MinedBlock {
        self.next_base_fee = None;
        let (block, world) = draft.seal();
        let block = Arc::new(block);
        for (index, one) in block.included.iter().enumerate() {
            self.places.insert(one.signed.hash(), (block.number(), index));
        }
        self.by_hash.insert(block.hash, Arc::clone(&block));
        self.pool.settle(&world);
        self.worlds.insert((block.number(), block.hash), world);
        let oldest = block.number().saturating_sub(self.settings.state_history);
        self.worlds = self.worlds.split_off(&(oldest, B256::ZERO));
        let mined = block.mined();
        self.canonical.push(block);
        mined
    }

    /// Drops the last `depth` blocks and returns the hashes of their transactions. The head is lower until blocks are mined.
    pub(crate) fn drop_blocks(&mut self, depth: u64, fate: Dropped) -> Result<Vec<TxHash>, DevChainError> {
        let dropped = self.cut(depth)?;
        let hashes = dropped.iter().map(Signed::hash).collect();
        self.reinject(dropped, fate);
        Ok(hashes)
    }

    /// Replaces the last `depth` blocks by `depth + 1` blocks that hold exactly `contents`; what is missing there is empty.
    /// On error the old branch stands.
    pub(crate) fn replace_blocks(
        &mut self,
        depth: u64,
        fate: Dropped,
        contents: &[Vec<Bytes>],
    ) -> Result<Vec<MinedBlock>, DevChainError> {
        let blocks = depth.saturating_add(1);
        if u64::try_from(contents.len()).unwrap_or(u64::MAX) > blocks {
            return Err(DevChainError::TooManyBlocks { given: contents.len(), blocks });
        }
        let old_branch = self.canonical.clone();
        let (old_places, old_fee, old_pool) = (self.places.clone(), self.next_base_fee, self.pool.clone());
        let dropped = self.cut(depth)?;
        let mut mined = Vec::new();
        for index in 0..blocks {
            let content = usize::try_from(index).ok().and_then(|index| contents.get(index));
            match self.fill(content.map(Vec::as_slice).unwrap_or_default()) {
                Ok(draft) => mined.push(self.append(draft)),
                Err(error) => {
                    (self.canonical, self.places) = (old_branch, old_places);
                    (self.pool, self.next_base_fee) = (old_pool, old_fee);
                    return Err(error);
                }
            }
        }
        self.reinject(dropped, fate);
        Ok(mined)
    }

    fn fill(&self, content: &[Bytes]) -> Result<Draft, DevChainError> {
        let mut draft = self.draft();
        for raw in content {
            let tx = decode(raw).map_err(DevChainError::Decode)?;
            let hash = *tx.tx_hash();
            let from = alloy::consensus::transaction::SignerRecoverable::recover_signer(&tx)
                .map_err(|_| DevChainError::Decode(PoolRefusal::InvalidSignature))?;
            let pushed = draft.push(Signed { tx, from });
            pushed.map_err(|refusal| DevChainError::NotExecutable { hash, reason: refusal.to_string() })?;
        }
        Ok(draft)
    }

    fn cut(&mut self, depth: u64) -> Result<Vec<Signed>, DevChainError> {
        let head = self.head().number();
        let too_deep = DevChainError::TooDeep { depth, head };
        let Some(keep) = head.checked_sub(depth) else { return Err(too_deep) };
        if self.by_number(keep).and_then(|block| self.world(block)).is_none() {
            return Err(too_deep);
        }
        let length = usize::try_from(keep.saturating_add(1)).unwrap_or(usize::MAX);
        let gone = self.canonical.split_off(length.min(self.canonical.len()));
        self.branch = self.branch.saturating_add(1);
        self.next_base_fee = None;
        let dropped: Vec<Signed> =
            gone.iter().flat_map(|block| block.included.iter().map(|one| one.signed.clone())).collect();
        for signed in &dropped {
            self.places.remove(&signed.hash());
        }
        Ok(dropped)
    }

    fn reinject(&mut self, dropped: Vec<Signed>, fate: Dropped) {
        if fate == Dropped::Lose {
            return;
        }
        for signed in dropped {
            let hash = signed.hash();
            if self.places.contains_key(&hash) {
                continue;
            }
            if let Err(refusal) = self.add(signed.tx, Origin::DroppedBlock) {
                tracing::debug!(%hash, %refusal, "a dropped transaction does not return to the pool");
            }
        }
    }

    /// Sets a balance in the head's state, outside any transaction. The next block's state root knows it.
    pub(crate) fn set_balance(&mut self, address: Address, wei: U256) {
        let key = (self.head().number(), self.head().hash);
        if let Some(world) = self.worlds.get_mut(&key) {
            world.set_balance(address, wei);
        }
    }
}

fn blank(settings: &Settings) -> Header {
    Header {
        gas_limit: settings.block_gas_limit,
        nonce: B64::ZERO,
        withdrawals_root: Some(EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}
