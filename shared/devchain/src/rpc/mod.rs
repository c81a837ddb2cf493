//! The JSON-RPC methods: which there are, what their parameters are called in errors, and geth's codes.

mod control;
mod fees;
mod logs;
mod read;
mod simulate;
mod view;

use alloy::primitives::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    DevChain, DevChainError, dev_address,
    lies::SendFate,
    pool::{PoolRefusal, decode},
    rpc::view::View,
};

/// An error as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Option<Bytes>,
}

impl RpcError {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// geth's code for everything that has no code of its own.
    fn server(message: impl Into<String>) -> Self {
        Self::new(-32_000, message)
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(-32_602, message)
    }
}

impl From<PoolRefusal> for RpcError {
    fn from(refusal: PoolRefusal) -> Self {
        Self::server(refusal.to_string())
    }
}

impl From<DevChainError> for RpcError {
    fn from(error: DevChainError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::server(format!("{error}{cause}"))
    }
}

pub(crate) type Answer = Result<Value, RpcError>;

/// Positional parameters.
#[derive(Debug)]
struct Args(Vec<Value>);

impl Args {
    fn new(params: Value) -> Result<Self, RpcError> {
        match params {
            Value::Null => Ok(Self(Vec::new())),
            Value::Array(list) => Ok(Self(list)),
            _ => Err(RpcError::invalid("non-array args")),
        }
    }

    fn required<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        let missing = || RpcError::invalid(format!("missing value for required argument {index}"));
        self.optional(index)?.ok_or_else(missing)
    }

    fn optional<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>, RpcError> {
        let Some(value) = self.0.get(index).filter(|value| !value.is_null()) else { return Ok(None) };
        let invalid = |error| RpcError::invalid(format!("invalid argument {index}: {error}"));
        serde_json::from_value(value.clone()).map(Some).map_err(invalid)
    }
}

fn json<T: Serialize>(value: T) -> Answer {
    serde_json::to_value(value).map_err(|error| RpcError::new(-32_603, format!("encoding the answer: {error}")))
}

/// A quantity: hexadecimal without leading zeros.
fn quantity(number: impl Into<u128>) -> Answer {
    Ok(Value::String(format!("{:#x}", number.into())))
}

pub(crate) fn dispatch(node: &DevChain, method: &str, params: Value, fate: SendFate) -> Answer {
    let args = Args::new(params)?;
    if method.starts_with("dev_") || method.starts_with("evm_") {
        return control::control(node, method, &args);
    }
    if method == "eth_sendRawTransaction" {
        return send(node, &args, fate);
    }
    if method == "eth_sendTransaction" {
        return control::spend(node, &args);
    }
    let stale = node.shared.lies().stale_head;
    let chain = node.shared.chain();
    let view = View::new(&chain, stale);
    match method {
        "web3_clientVersion" => json(concat!("custos-devchain/", env!("CARGO_PKG_VERSION"))),
        "net_version" => json(chain.settings.chain_number.to_string()),
        "net_listening" => json(true),
        "eth_chainId" => quantity(chain.settings.chain_number),
        "eth_syncing" => json(false),
        "eth_accounts" => json([dev_address(0)]),
        "eth_blockNumber" => quantity(view.head().number()),
        "eth_getBlockByNumber" => read::block_by_number(&view, &args),
        "eth_getBlockByHash" => read::block_by_hash(&view, &args),
        "eth_getBlockReceipts" => read::block_receipts(&view, &args),
        "eth_getTransactionByHash" => read::transaction(&view, &args),
        "eth_getTransactionReceipt" => read::receipt(&view, &args),
        "eth_getTransactionCount" => read::nonce(&view, &args),
        "eth_getBalance" => read::balance(&view, &args),
        "eth_getCode" => read::code(&view, &args),
        "eth_getStorageAt" => read::storage(&view, &args),
        "txpool_status" => read::pool_status(&view),
        "eth_getLogs" => logs::logs(&view, &args),
        "eth_gasPrice" => fees::gas_price(&view),
        "eth_maxPriorityFeePerGas" => quantity(fees::suggested_tip(&view)),
        "eth_feeHistory" => fees::history(&view, &args),
        "eth_call" => simulate::call(&view, &args),
        "eth_estimateGas" => simulate::estimate(&view, &args),
        "debug_traceBlockByHash" => simulate::trace_block_by_hash(&view, &args),
        "debug_traceBlockByNumber" => simulate::trace_block_by_number(&view, &args),
        "debug_traceTransaction" => simulate::trace_transaction(&view, &args),
        _ => Err(RpcError::new(-32_601, format!("the method {method} does not exist/is not available"))),
    }
}

fn send(node: &DevChain, args: &Args, fate: SendFate) -> Answer {
    let raw: Bytes = args.required(0)?;
    if fate == SendFate::AnswerAndForget {
        return json(decode(&raw)?.tx_hash());
    }
    let mut chain = node.shared.chain();
    let hash = chain.add_raw(&raw)?;
    node.mine_if_instant(&mut chain);
    json(hash)
}
