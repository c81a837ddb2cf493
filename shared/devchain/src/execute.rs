//! Runs one transaction on a world under Prague's rules.

use std::{collections::BTreeMap, convert::Infallible};

use alloy::{
    consensus::{Header, Transaction, TxEnvelope},
    primitives::{Address, B256, U256},
    rpc::types::trace::geth::CallFrame,
};
use revm::{
    Context, DatabaseCommit, ExecuteEvm, InspectEvm, MainBuilder, MainContext,
    context::{BlockEnv, CfgEnv, Evm, Journal, TxEnv},
    context_interface::{
        either::Either,
        result::{EVMError, ExecutionResult},
    },
    primitives::hardfork::SpecId,
};

use crate::{
    frames::Frames,
    world::{Scratch, World},
};

/// The rules that every block obeys.
pub(crate) const RULES: SpecId = SpecId::PRAGUE;

pub(crate) type Refusal = EVMError<Infallible>;

/// How strictly a message is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A transaction of a block: every check.
    Block,
    /// `eth_call`: no nonce, no limit of the block, contracts may send; the base fee only if a fee is named.
    Call,
}

/// What surrounds a message.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) chain_number: u64,
    pub(crate) header: &'a Header,
    pub(crate) ancestors: &'a BTreeMap<u64, B256>,
    pub(crate) mode: Mode,
}

/// What a message did.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) result: ExecutionResult,
    pub(crate) frame: Option<CallFrame>,
}

impl Surroundings<'_> {
    /// Runs `tx` and writes what it changed to `world`. A refusal leaves `world` as it was.
    pub(crate) fn run(&self, world: &mut World, tx: TxEnv) -> Result<Executed, Refusal> {
        let gas_limit = tx.gas_limit;
        let mut cfg = CfgEnv::new_with_spec(RULES).with_chain_id(self.chain_number);
        if self.mode == Mode::Call {
            cfg.disable_nonce_check = true;
            cfg.disable_block_gas_limit = true;
            cfg.disable_eip3607 = true;
            cfg.disable_base_fee = tx.gas_price == 0;
        }
        let scratch = Scratch { world, ancestors: self.ancestors };
        let context: Context<BlockEnv, TxEnv, CfgEnv, Scratch<'_>, Journal<Scratch<'_>>, ()> =
            Context::mainnet().with_db(scratch).with_cfg(cfg).with_block(block_env(self.header));
        let mut machine = context.build_mainnet_with_inspector(Frames::default());
        let result = machine.inspect_one_tx(tx)?;
        let changes = machine.finalize();
        let Evm { mut ctx, inspector, .. } = machine;
        ctx.journaled_state.database.commit(changes);
        let frame = inspector.into_root(gas_limit, result.tx_gas_used());
        Ok(Executed { result, frame })
    }
}

fn block_env(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        prevrandao: Some(header.mix_hash),
        ..BlockEnv::default()
    }
}

/// A signed transaction as the machine takes it.
pub(crate) fn tx_env(tx: &TxEnvelope, from: Address) -> TxEnv {
    TxEnv {
        tx_type: tx.tx_type().into(),
        caller: from,
        gas_limit: tx.gas_limit(),
        gas_price: tx.max_fee_per_gas(),
        kind: tx.kind(),
        value: tx.value(),
        data: tx.input().clone(),
        nonce: tx.nonce(),
        chain_id: tx.chain_id(),
        access_list: tx.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: tx.max_priority_fee_per_gas(),
        blob_hashes: tx.blob_versioned_hashes().map(<[_]>::to_vec).unwrap_or_default(),
        max_fee_per_blob_gas: tx.max_fee_per_blob_gas().unwrap_or_default(),
        authorization_list: tx.authorization_list().unwrap_or_default().iter().cloned().map(Either::Left).collect(),
    }
}
