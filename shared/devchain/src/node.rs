//! `DevChain`: the handle with which tests and the demo hold and control a chain.
//!
//! Invariant: every public call takes the chain's lock once, so what it does is atomic towards RPC clients.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use alloy::{
    consensus::TxEip1559,
    primitives::{Address, B256, Bytes, TxHash, TxKind, U256},
};
use k256::ecdsa::SigningKey;
use serde_json::Value;

use crate::{
    DevChainError,
    block::MinedBlock,
    chain::{Chain, Dropped},
    contracts,
    keys::{dev_address, faucet_key, sign},
    lies::{Lies, Request, RequestLog},
    pacer::Pacer,
    pool::{Origin, decode},
    settings::Settings,
};

/// Gas that a development transaction may use: enough to deploy the token.
const SPEND_GAS: u64 = 3_000_000;
/// Tip of development transactions, in wei per gas.
const SPEND_TIP: u128 = 1_000_000_000;
/// Tokens that the deployer owns after `deploy_token`, in base units: 10^30.
const FIRST_MINT: u128 = 1_000_000_000_000_000_000_000_000_000_000;

#[derive(Debug)]
pub(crate) struct Shared {
    chain: Mutex<Chain>,
    lies: Mutex<Lies>,
    requests: Mutex<RequestLog>,
    pacer: Arc<Pacer>,
    started: Instant,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pacer.close();
    }
}

impl Shared {
    pub(crate) fn chain(&self) -> MutexGuard<'_, Chain> {
        // Nothing in this crate panics while it holds the lock; a poisoned chain is still the whole chain.
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lies(&self) -> MutexGuard<'_, Lies> {
        self.lies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self) -> MutexGuard<'_, RequestLog> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record(&self, method: &str, params: &Value) {
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.requests().push(Request { method: method.to_owned(), params: params.clone(), at_ms });
    }
}

/// A running development chain. Clones are handles to the same chain; the last one dropped ends it.
#[derive(Debug, Clone)]
pub struct DevChain {
    pub(crate) shared: Arc<Shared>,
}

impl DevChain {
    /// Makes a chain with its genesis block.
    ///
    /// # Errors
    /// `StartMiner` when the system gives no thread.
    pub fn new(settings: Settings) -> Result<Self, DevChainError> {
        let pacer = Arc::new(Pacer::default());
        pacer.set(settings.auto);
        let shared = Arc::new(Shared {
            chain: Mutex::new(Chain::new(settings)),
            lies: Mutex::default(),
            requests: Mutex::default(),
            pacer: Arc::clone(&pacer),
            started: Instant::now(),
        });
        let weak = Arc::downgrade(&shared);
        let tick = move || weak.upgrade().map(|shared| shared.chain().mine()).is_some();
        pacer.start(tick).map_err(DevChainError::StartMiner)?;
        Ok(Self { shared })
    }

    /// EIP-155 chain number.
    #[must_use]
    pub fn chain_number(&self) -> u64 {
        self.shared.chain().settings.chain_number
    }

    /// The head.
    #[must_use]
    pub fn head(&self) -> MinedBlock {
        self.shared.chain().head().mined()
    }

    /// The canonical block with this number.
    #[must_use]
    pub fn block(&self, number: u64) -> Option<MinedBlock> {
        self.shared.chain().by_number(number).map(|block| block.mined())
    }

    /// Mines one block from the pool.
    pub fn mine(&self) -> MinedBlock {
        self.shared.chain().mine()
    }

    /// Mines `count` blocks; the first takes what the pool holds.
    pub fn mine_n(&self, count: u64) -> Vec<MinedBlock> {
        let mut chain = self.shared.chain();
        (0..count).map(|_| chain.mine()).collect()
    }

    /// Mining without being asked: `None` never (the default), zero a block for every accepted transaction, else a block at
    /// every interval.
    pub fn set_auto(&self, every: Option<Duration>) {
        self.shared.pacer.set(every);
    }

    /// Drops the last `depth` blocks and says which transactions were in them. The head is lower until blocks are mined;
    /// they will have other hashes than the dropped ones.
    ///
    /// # Errors
    /// `TooDeep` below genesis or below the kept states.
    pub fn reorg(&self, depth: u64, fate: Dropped) -> Result<Vec<TxHash>, DevChainError> {
        self.shared.chain().drop_blocks(depth, fate)
    }

    /// Replaces the last `depth` blocks by `depth + 1` others, as a node sees a reorganisation: the head only rises. Block i
    /// holds exactly the raw transactions `contents[i]`; blocks without contents are empty. On error the old branch stands.
    ///
    /// # Errors
    /// `TooDeep`, `TooManyBlocks`, `Decode`, or `NotExecutable` for a transaction that cannot stand there.
    pub fn replace(&self, depth: u64, fate: Dropped, contents: &[Vec<Bytes>]) -> Result<Vec<MinedBlock>, DevChainError> {
        self.shared.chain().replace_blocks(depth, fate, contents)
    }

    /// Base fee of the next block, in wei per gas; from there EIP-1559 moves it.
    ///
    /// # Errors
    /// `BaseFee` above 2^64 - 1.
    pub fn set_base_fee(&self, wei: u128) -> Result<(), DevChainError> {
        let fee = u64::try_from(wei).map_err(|_| DevChainError::BaseFee { wei })?;
        self.shared.chain().set_base_fee(fee);
        Ok(())
    }

    /// Empties the pool and says what was in it.
    pub fn drop_pool(&self) -> Vec<TxHash> {
        self.shared.chain().pool.clear()
    }

    /// Takes one transaction out of the pool: true when it was there.
    pub fn drop_transaction(&self, hash: TxHash) -> bool {
        self.shared.chain().pool.remove(&hash).is_some()
    }

    /// Hashes of everything in the pool, pending and queued.
    #[must_use]
    pub fn pool(&self) -> Vec<TxHash> {
        self.shared.chain().pool.hashes()
    }

    /// What HTTP clients asked so far, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests().all()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.requests().clear();
    }

    /// Says how the node misbehaves from now on.
    pub fn set_lies(&self, lies: Lies) {
        *self.shared.lies() = lies;
    }

    /// The lies still to be told.
    #[must_use]
    pub fn lies(&self) -> Lies {
        self.shared.lies().clone()
    }

    /// A balance at the head, in wei.
    #[must_use]
    pub fn balance(&self, address: Address) -> U256 {
        self.shared.chain().head_world().balance(address)
    }

    /// Sets a balance at the head, outside any transaction.
    pub fn set_balance(&self, address: Address, wei: U256) {
        self.shared.chain().set_balance(address, wei);
    }

    /// Puts a raw signed transaction into the pool, as `eth_sendRawTransaction` does, without lies. Sending the same bytes
    /// again is refused with geth's text.
    ///
    /// # Errors
    /// `Decode` or `Refused`.
    pub fn send_raw(&self, raw: &[u8]) -> Result<TxHash, DevChainError> {
        let tx = decode(raw).map_err(DevChainError::Decode)?;
        let hash = *tx.tx_hash();
        let mut chain = self.shared.chain();
        let origin = Origin::Rpc { fee_cap: chain.settings.fee_cap };
        let sent = chain.add(tx, origin).map_err(|source| DevChainError::Refused { hash, source: Box::new(source) })?;
        self.mine_if_instant(&mut chain);
        Ok(sent)
    }

    pub(crate) fn mine_if_instant(&self, chain: &mut Chain) {
        if self.shared.pacer.is_instant() {
            chain.mine();
        }
    }

    /// Pays `wei` from the faucet by a signed transaction. It is in the pool until a block is mined.
    ///
    /// # Errors
    /// `Sign` or `Refused`.
    pub fn send_ether(&self, to: Address, wei: U256) -> Result<TxHash, DevChainError> {
        self.spend(&faucet_key(), TxKind::Call(to), wei, Bytes::new())
    }

    /// Pays token base units from the faucet's balance (`deploy_token` fills it). In the pool until a block is mined.
    ///
    /// # Errors
    /// `Sign` or `Refused`.
    pub fn send_token(&self, token: Address, to: Address, amount: U256) -> Result<TxHash, DevChainError> {
        self.call(token, contracts::transfer(to, amount))
    }

    /// Creates token base units for `to`. In the pool until a block is mined.
    ///
    /// # Errors
    /// `Sign` or `Refused`.
    pub fn mint_token(&self, token: Address, to: Address, amount: U256) -> Result<TxHash, DevChainError> {
        self.call(token, contracts::mint_data(to, amount))
    }

    /// Makes every transfer of the token revert, once mined.
    ///
    /// # Errors
    /// `Sign` or `Refused`.
    pub fn pause_token(&self, token: Address) -> Result<TxHash, DevChainError> {
        self.call(token, contracts::pause())
    }

    /// Ends a pause, once mined.
    ///
    /// # Errors
    /// `Sign` or `Refused`.
    pub fn unpause_token(&self, token: Address) -> Result<TxHash, DevChainError> {
        self.call(token, contracts::unpause())
    }

    fn call(&self, contract: Address, input: Bytes) -> Result<TxHash, DevChainError> {
        self.spend(&faucet_key(), TxKind::Call(contract), U256::ZERO, input)
    }

    /// Deploys an ERC-20 (18 decimals, the faucet may mint and pause), gives the faucet 10^30 base units, and mines one block.
    ///
    /// # Errors
    /// `Sign` or `Refused`.
    pub fn deploy_token(&self, name: &str, symbol: &str) -> Result<Address, DevChainError> {
        let token = self.create(contracts::token_code(name, symbol))?;
        self.mint_token(token, dev_address(0), U256::from(FIRST_MINT))?;
        self.mine();
        Ok(token)
    }

    /// Deploys a contract that passes received ether on to `target` by an internal call, and mines one block.
    ///
    /// # Errors
    /// `Sign` or `Refused`.
    pub fn deploy_forwarder(&self, target: Address) -> Result<Address, DevChainError> {
        let forwarder = self.create(contracts::forwarder(target))?;
        self.mine();
        Ok(forwarder)
    }

    /// Deploys a contract that reverts whatever it is sent, and mines one block.
    ///
    /// # Errors
    /// `Sign` or `Refused`.
    pub fn deploy_rejecter(&self) -> Result<Address, DevChainError> {
        let rejecter = self.create(contracts::rejecter())?;
        self.mine();
        Ok(rejecter)
    }

    fn create(&self, code: Bytes) -> Result<Address, DevChainError> {
        let (_, nonce) = self.sign_and_send(&faucet_key(), TxKind::Create, U256::ZERO, code)?;
        Ok(dev_address(0).create(nonce))
    }

    /// Signs with `key` at its next nonce and puts the transaction into the pool: fee cap twice the coming base fee plus tip.
    ///
    /// # Errors
    /// `Sign` or `Refused`.
    pub fn spend(&self, key: &SigningKey, to: TxKind, value: U256, input: Bytes) -> Result<TxHash, DevChainError> {
        self.sign_and_send(key, to, value, input).map(|(hash, _)| hash)
    }

    fn sign_and_send(
        &self,
        key: &SigningKey,
        to: TxKind,
        value: U256,
        input: Bytes,
    ) -> Result<(TxHash, u64), DevChainError> {
        let mut chain = self.shared.chain();
        let from = Address::from_private_key(key);
        let plain = input.is_empty() && to.to().is_some_and(|to| chain.head_world().code(*to).is_empty());
        let nonce = chain.pool.next_nonce(from, &chain.head_world());
        let tx = TxEip1559 {
            chain_id: chain.settings.chain_number,
            nonce,
            gas_limit: if plain { 21_000 } else { SPEND_GAS },
            max_fee_per_gas: u128::from(chain.upcoming_base_fee()).saturating_mul(2).saturating_add(SPEND_TIP),
            max_priority_fee_per_gas: SPEND_TIP,
            to,
            value,
            access_list: Default::default(),
            input,
        };
        let signed = sign(tx, key)?;
        let hash = *signed.tx_hash();
        // A development transaction is not held to the RPC's fee cap: spikes of the base fee must stay payable.
        let sent = chain.add(signed, Origin::Rpc { fee_cap: U256::ZERO });
        sent.map_err(|source| DevChainError::Refused { hash, source: Box::new(source) })?;
        self.mine_if_instant(&mut chain);
        Ok((hash, nonce))
    }

    /// True when the block with this hash is on the canonical chain.
    #[must_use]
    pub fn is_canonical(&self, hash: B256) -> bool {
        let chain = self.shared.chain();
        chain.by_hash(hash).is_some_and(|block| chain.is_canonical(block))
    }
}
