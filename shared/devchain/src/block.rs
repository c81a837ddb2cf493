//! Blocks: drafted transaction by transaction, then sealed; and how they look over JSON-RPC.
//!
//! Invariant: the hash is the keccak of the RLP header, and every root in the header is computed from the block itself.

use std::{collections::BTreeMap, sync::Arc};

use alloy::{
    consensus::{
        Eip658Value, Header, Receipt, ReceiptEnvelope, Transaction as _, TxEnvelope,
        proofs::{calculate_receipt_root, calculate_transaction_root},
        transaction::Recovered,
    },
    eips::eip2718::Encodable2718,
    primitives::{Address, B256, Bloom, Log, TxHash, U256},
    rpc::types::{
        Block as RpcBlock, BlockTransactions, BlockTransactionsKind, Header as RpcHeader, Log as RpcLog, Transaction,
        TransactionReceipt, trace::geth::CallFrame,
    },
};

use crate::{
    execute::{Mode, Refusal, Surroundings, tx_env},
    pool::Signed,
    world::World,
};

/// A block that was mined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinedBlock {
    /// Height above genesis.
    pub number: u64,
    /// Hash of the header.
    pub hash: B256,
    /// Hash of the parent's header.
    pub parent_hash: B256,
    /// Unix time in seconds.
    pub timestamp: u64,
    /// Base fee in wei per gas.
    pub base_fee: u64,
    /// Transactions in the block.
    pub transactions: usize,
}

/// A transaction inside a block, with what it did.
#[derive(Debug)]
pub(crate) struct Included {
    pub(crate) signed: Signed,
    pub(crate) receipt: ReceiptEnvelope<Log>,
    pub(crate) gas_used: u64,
    pub(crate) created: Option<Address>,
    pub(crate) frame: Option<CallFrame>,
    first_log: u64,
}

/// A sealed block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) included: Vec<Included>,
    size: usize,
}

/// A block being built.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) header: Header,
    pub(crate) world: World,
    chain_number: u64,
    ancestors: Arc<BTreeMap<u64, B256>>,
    included: Vec<Included>,
    logs: u64,
}

impl Draft {
    pub(crate) fn new(chain_number: u64, header: Header, world: World, ancestors: Arc<BTreeMap<u64, B256>>) -> Self {
        Self { header, world, chain_number, ancestors, included: Vec::new(), logs: 0 }
    }

    /// Gas that is still free.
    pub(crate) fn gas_left(&self) -> u64 {
        self.header.gas_limit.saturating_sub(self.header.gas_used)
    }

    /// Executes `signed` as the block's next transaction. A refusal leaves the draft as it was.
    pub(crate) fn push(&mut self, signed: Signed) -> Result<(), Refusal> {
        let surroundings = Surroundings {
            chain_number: self.chain_number,
            header: &self.header,
            ancestors: &self.ancestors,
            mode: Mode::Block,
        };
        let done = surroundings.run(&mut self.world, tx_env(&signed.tx, signed.from))?;
        let gas_used = done.result.tx_gas_used();
        self.header.gas_used = self.header.gas_used.saturating_add(gas_used);
        let created = done.result.created_address();
        let status = Eip658Value::Eip658(done.result.is_success());
        let logs = if done.result.is_success() { done.result.into_logs() } else { Vec::new() };
        let first_log = self.logs;
        self.logs = self.logs.saturating_add(u64::try_from(logs.len()).unwrap_or(u64::MAX));
        let receipt = Receipt { status, cumulative_gas_used: self.header.gas_used, logs };
        let receipt = ReceiptEnvelope::from_typed(signed.tx.tx_type(), receipt);
        self.included.push(Included { signed, receipt, gas_used, created, frame: done.frame, first_log });
        Ok(())
    }

    /// Computes roots, bloom and hash.
    pub(crate) fn seal(self) -> (Block, World) {
        let Self { mut header, mut world, included, .. } = self;
        let txs: Vec<TxEnvelope> = included.iter().map(|one| one.signed.tx.clone()).collect();
        let receipts: Vec<ReceiptEnvelope<Log>> = included.iter().map(|one| one.receipt.clone()).collect();
        header.transactions_root = calculate_transaction_root(&txs);
        header.receipts_root = calculate_receipt_root(&receipts);
        header.logs_bloom = receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom());
        header.state_root = world.root();
        let hash = header.hash_slow();
        // Header of about 600 bytes, and the transactions: what geth reports within a few bytes.
        let size = txs.iter().fold(600_usize, |sum, tx| sum.saturating_add(tx.encode_2718_len()));
        (Block { header, hash, included, size }, world)
    }
}

impl Block {
    pub(crate) fn number(&self) -> u64 {
        self.header.number
    }

    pub(crate) fn base_fee(&self) -> u64 {
        self.header.base_fee_per_gas.unwrap_or_default()
    }

    pub(crate) fn mined(&self) -> MinedBlock {
        MinedBlock {
            number: self.header.number,
            hash: self.hash,
            parent_hash: self.header.parent_hash,
            timestamp: self.header.timestamp,
            base_fee: self.base_fee(),
            transactions: self.included.len(),
        }
    }

    pub(crate) fn hashes(&self) -> Vec<TxHash> {
        self.included.iter().map(|one| one.signed.hash()).collect()
    }

    pub(crate) fn to_rpc(&self, kind: BlockTransactionsKind) -> RpcBlock {
        let transactions = match kind {
            BlockTransactionsKind::Hashes => BlockTransactions::Hashes(self.hashes()),
            BlockTransactionsKind::Full => {
                let each = (0_u64..).zip(&self.included);
                BlockTransactions::Full(each.map(|(index, one)| self.transaction(index, one)).collect())
            }
        };
        RpcBlock {
            header: RpcHeader {
                hash: self.hash,
                inner: self.header.clone(),
                total_difficulty: None,
                size: Some(U256::from(self.size)),
            },
            uncles: Vec::new(),
            transactions,
            withdrawals: Some(Vec::new().into()),
        }
    }

    pub(crate) fn transaction(&self, index: u64, one: &Included) -> Transaction {
        Transaction {
            inner: Recovered::new_unchecked(one.signed.tx.clone(), one.signed.from),
            block_hash: Some(self.hash),
            block_number: Some(self.number()),
            transaction_index: Some(index),
            effective_gas_price: Some(one.signed.tx.effective_gas_price(self.header.base_fee_per_gas)),
            block_timestamp: Some(self.header.timestamp),
        }
    }

    pub(crate) fn receipt(&self, index: u64, one: &Included) -> TransactionReceipt {
        let mut next = one.first_log;
        let inner = one.receipt.clone().map_logs(|log| {
            let number = next;
            next = next.saturating_add(1);
            self.log(index, one, number, log)
        });
        TransactionReceipt {
            inner,
            transaction_hash: one.signed.hash(),
            transaction_index: Some(index),
            block_hash: Some(self.hash),
            block_number: Some(self.number()),
            gas_used: one.gas_used,
            effective_gas_price: one.signed.tx.effective_gas_price(self.header.base_fee_per_gas),
            blob_gas_used: None,
            blob_gas_price: None,
            from: one.signed.from,
            to: one.signed.tx.to(),
            contract_address: one.created.filter(|_| one.signed.tx.is_create()),
        }
    }

    /// Every log of the block with its place in it.
    pub(crate) fn logs(&self) -> impl Iterator<Item = RpcLog> {
        (0_u64..).zip(&self.included).flat_map(move |(index, one)| {
            let logs = (one.first_log..).zip(one.receipt.logs());
            logs.map(move |(number, log)| self.log(index, one, number, log.clone()))
        })
    }

    fn log(&self, index: u64, one: &Included, number: u64, inner: Log) -> RpcLog {
        RpcLog {
            inner,
            block_hash: Some(self.hash),
            block_number: Some(self.number()),
            block_timestamp: Some(self.header.timestamp),
            transaction_hash: Some(one.signed.hash()),
            transaction_index: Some(index),
            log_index: Some(number),
            removed: false,
        }
    }
}

/// A transaction that waits in the pool.
pub(crate) fn waiting(signed: &Signed) -> Transaction {
    Transaction {
        inner: Recovered::new_unchecked(signed.tx.clone(), signed.from),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        effective_gas_price: Some(signed.tx.max_fee_per_gas()),
        block_timestamp: None,
    }
}
