//! Messages that change nothing: calls, gas estimates, and the frames of mined transactions.

use alloy::{
    consensus::Header,
    eips::BlockNumberOrTag,
    primitives::{Address, B256, Bytes, TxHash, TxKind, U256},
    rpc::types::{
        TransactionRequest,
        trace::{
            common::TraceResult,
            geth::{CallFrame, GethDebugBuiltInTracerType, GethDebugTracerType, GethDebugTracingOptions},
        },
    },
    sol_types::{Revert, SolError},
};
use revm::{
    context::TxEnv,
    context_interface::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction},
};
use serde_json::Value;

use super::{Answer, Args, RpcError, json, quantity, view::View};
use crate::{
    block::Block,
    execute::{Mode, Refusal, Surroundings},
    pool::GAS_CAP,
    world::World,
};

/// Gas of a plain payment.
const PLAIN_GAS: u64 = 21_000;

struct Scene<'a> {
    view: &'a View<'a>,
    header: &'a Header,
    world: &'a World,
    request: TransactionRequest,
}

impl<'a> Scene<'a> {
    fn new(view: &'a View<'a>, args: &Args) -> Result<Self, RpcError> {
        if args.optional::<Value>(2)?.is_some_and(|overrides| overrides.as_object().is_none_or(|map| !map.is_empty())) {
            return Err(RpcError::invalid("state overrides are not supported"));
        }
        let (block, world) = view.state(args.optional(1)?)?;
        Ok(Self { view, header: &block.header, world, request: args.required(0)? })
    }

    fn from(&self) -> Address {
        self.request.from.unwrap_or_default()
    }

    fn input(&self) -> Bytes {
        self.request.input.input().cloned().unwrap_or_default()
    }

    fn run(&self, gas: u64) -> Result<ExecutionResult, RpcError> {
        let request = &self.request;
        let price = request.max_fee_per_gas.or(request.gas_price).unwrap_or_default();
        let mut tx = TxEnv {
            caller: self.from(),
            gas_limit: gas,
            gas_price: price,
            kind: request.to.unwrap_or(TxKind::Create),
            value: request.value.unwrap_or_default(),
            data: self.input(),
            nonce: request.nonce.unwrap_or_else(|| self.world.nonce(self.from())),
            chain_id: request.chain_id,
            access_list: request.access_list.clone().unwrap_or_default(),
            gas_priority_fee: request.max_priority_fee_per_gas.filter(|_| request.gas_price.is_none()),
            ..TxEnv::default()
        };
        tx.derive_tx_type().map_err(|error| RpcError::invalid(error.to_string()))?;
        let ancestors = self.view.chain.ancestors(self.header.number.saturating_sub(1));
        let chain_number = self.view.chain.settings.chain_number;
        let surroundings = Surroundings { chain_number, header: self.header, ancestors: &ancestors, mode: Mode::Call };
        let done = surroundings.run(&mut self.world.clone(), tx);
        done.map(|done| done.result).map_err(|refusal| self.refused(&refusal, gas))
    }

    fn refused(&self, refusal: &Refusal, gas: u64) -> RpcError {
        let text = match refusal {
            EVMError::Transaction(InvalidTransaction::LackOfFundForMaxFee { fee, balance }) => {
                format!("insufficient funds for gas * price + value: address {} have {balance} want {fee}", self.from())
            }
            EVMError::Transaction(InvalidTransaction::CallGasCostMoreThanGasLimit { initial_gas, gas_limit }) => {
                format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}")
            }
            other => other.to_string(),
        };
        RpcError::server(format!("err: {text} (supplied gas {gas})"))
    }
}

/// The output of a successful message, or the error that geth gives for a failed one.
fn output(result: ExecutionResult) -> Result<Bytes, RpcError> {
    match result {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } => {
            let reason = Revert::abi_decode(&output).map(|revert| format!(": {}", revert.reason)).unwrap_or_default();
            Err(RpcError { code: 3, message: format!("execution reverted{reason}"), data: Some(output) })
        }
        ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. } => Err(RpcError::server("out of gas")),
        ExecutionResult::Halt { reason, .. } => Err(RpcError::server(format!("execution halted: {reason:?}"))),
    }
}

pub(super) fn call(view: &View<'_>, args: &Args) -> Answer {
    let scene = Scene::new(view, args)?;
    let cap = view.chain.settings.call_gas_cap;
    json(output(scene.run(scene.request.gas.unwrap_or(cap).min(cap))?)?)
}

/// The smallest gas limit with which the message succeeds, by bisection.
pub(super) fn estimate(view: &View<'_>, args: &Args) -> Answer {
    let scene = Scene::new(view, args)?;
    let plain = scene.input().is_empty()
        && matches!(scene.request.to, Some(TxKind::Call(to)) if scene.world.code(to).is_empty())
        && scene.request.access_list.is_none();
    if plain && scene.run(PLAIN_GAS)?.is_success() {
        return quantity(PLAIN_GAS);
    }
    let mut enough = ceiling(&scene);
    let first = scene.run(enough)?;
    let spent = first.gas().total_gas_spent();
    output(first)?;
    let mut short = spent.min(enough).saturating_sub(1);
    while short.saturating_add(1) < enough {
        let middle = short.midpoint(enough);
        // A limit below the intrinsic gas is refused, not executed: it is too short as well.
        if scene.run(middle).is_ok_and(|result| result.is_success()) {
            enough = middle;
        } else {
            short = middle;
        }
    }
    quantity(enough)
}

/// The most gas that may be offered: the request's own, the block's, the protocol's, and what the sender can pay for.
fn ceiling(scene: &Scene<'_>) -> u64 {
    let asked = scene.request.gas.unwrap_or(u64::MAX);
    let mut most = asked.min(scene.header.gas_limit).min(GAS_CAP);
    let price = scene.request.max_fee_per_gas.or(scene.request.gas_price).unwrap_or_default();
    if price > 0 {
        let free = scene.world.balance(scene.from()).saturating_sub(scene.request.value.unwrap_or_default());
        most = most.min((free / U256::from(price)).saturating_to());
    }
    most
}

pub(super) fn trace_block_by_hash(view: &View<'_>, args: &Args) -> Answer {
    let hash: B256 = args.required(0)?;
    check_tracer(args)?;
    let block = view.by_hash(hash).ok_or_else(|| RpcError::server(format!("block {hash} not found")))?;
    trace(block)
}

pub(super) fn trace_block_by_number(view: &View<'_>, args: &Args) -> Answer {
    let tag: BlockNumberOrTag = args.required(0)?;
    check_tracer(args)?;
    let block = view.by_number(tag).ok_or_else(|| RpcError::server(format!("block {tag} not found")))?;
    trace(block)
}

pub(super) fn trace_transaction(view: &View<'_>, args: &Args) -> Answer {
    let hash: TxHash = args.required(0)?;
    check_tracer(args)?;
    let (block, index) = view.place(&hash).ok_or_else(|| RpcError::server("transaction not found"))?;
    json(block.included.get(index).and_then(|one| one.frame.as_ref()))
}

fn trace(block: &Block) -> Answer {
    let one = |one: &crate::block::Included| TraceResult::<CallFrame, String>::Success {
        result: one.frame.clone().unwrap_or_default(),
        tx_hash: Some(one.signed.hash()),
    };
    json(block.included.iter().map(one).collect::<Vec<_>>())
}

fn check_tracer(args: &Args) -> Result<(), RpcError> {
    let options: GethDebugTracingOptions = args.optional(1)?.unwrap_or_default();
    match options.tracer {
        Some(GethDebugTracerType::BuiltInTracer(GethDebugBuiltInTracerType::CallTracer)) => Ok(()),
        _ => Err(RpcError::server("only the callTracer is supported")),
    }
}
