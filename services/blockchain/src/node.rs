//! One chain node: JSON-RPC over HTTP, or over a transport of the caller; every request with an end.
//!
//! Invariants: nothing is asked of a node before it has said that it serves the configured chain; an answer that cannot be read
//! is an error; errors never repeat the node's address, which may hold a key. Deliberately absent: retries, which belong to the
//! caller, and batches.

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U64, U256};
use alloy::providers::{Provider, ProviderBuilder, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::sol_types::SolCall;
use alloy::transports::{BoxTransport, RpcError, TransportErrorKind};
use custos_domain::NodeName;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::BlockchainError;
use crate::settings::{ChainConfig, NodeConfig};

alloy::sol! {
    /// The part of ERC-20 that is called.
    interface Erc20 {
        /// A balance in base units.
        function balanceOf(address account) external view returns (uint256);
        /// Pays the caller's tokens.
        function transfer(address to, uint256 amount) external returns (bool);
        /// Emitted by every movement of tokens.
        event Transfer(address indexed from, address indexed to, uint256 value);
    }
}

/// JSON-RPC's code for a method that the node does not have.
const NO_SUCH_METHOD: i64 = -32_601;
/// The code of a call that reverts.
const REVERTED: i64 = 3;

/// A node of one chain.
pub(crate) struct Node {
    name: NodeName,
    expected: u64,
    /// Where it is, if it is reached over HTTP; errors must not repeat it.
    address: Option<String>,
    /// How long a request may take; none if the transport ends each request on its own.
    timeout: Option<Duration>,
    provider: RootProvider,
    verified: OnceCell<()>,
}

/// A block with its transactions.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Block {
    pub(crate) number: U64,
    pub(crate) hash: B256,
    pub(crate) parent_hash: B256,
    pub(crate) timestamp: U64,
    pub(crate) transactions: Vec<Transaction>,
}

/// A block's header.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Header {
    pub(crate) number: U64,
    pub(crate) hash: B256,
    pub(crate) parent_hash: B256,
    #[serde(default)]
    pub(crate) base_fee_per_gas: Option<U256>,
}

/// A mined transaction, of whatever type.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) hash: B256,
    pub(crate) from: Address,
    pub(crate) to: Option<Address>,
    pub(crate) value: U256,
    pub(crate) nonce: U64,
}

/// A receipt.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    pub(crate) transaction_hash: B256,
    pub(crate) block_hash: B256,
    pub(crate) status: U64,
    pub(crate) gas_used: U64,
    pub(crate) effective_gas_price: U256,
    pub(crate) logs: Vec<Log>,
}

/// A log of a receipt.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Log {
    pub(crate) address: Address,
    pub(crate) topics: Vec<B256>,
    pub(crate) data: Bytes,
    pub(crate) log_index: U64,
}

/// What a message call needs.
#[derive(Clone, Debug)]
pub(crate) struct CallRequest {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) value: U256,
    pub(crate) data: Bytes,
}

impl Node {
    /// A node; nothing is asked yet.
    pub(crate) fn new(chain: &ChainConfig, node: &NodeConfig) -> Result<Self, BlockchainError> {
        let url = node.url.parsed().map_err(|problem| BlockchainError::Address { node: node.name.clone(), problem })?;
        Ok(Self {
            name: node.name.clone(),
            expected: chain.number,
            address: Some(url.to_string()),
            timeout: Some(chain.request_timeout),
            provider: ProviderBuilder::new().disable_recommended_fillers().connect_http(url),
            verified: OnceCell::new(),
        })
    }

    /// The node called `name` behind `transport`, which ends each request on its own; nothing is asked yet.
    pub(crate) fn over(chain: &ChainConfig, name: NodeName, transport: BoxTransport) -> Self {
        Self {
            name,
            expected: chain.number,
            address: None,
            timeout: None,
            provider: RootProvider::new(RpcClient::new(transport, true)),
            verified: OnceCell::new(),
        }
    }

    /// Its name in policy.
    pub(crate) const fn name(&self) -> &NodeName {
        &self.name
    }

    /// Asks the node once which chain it serves.
    pub(crate) async fn verify(&self) -> Result<(), BlockchainError> {
        let ask = || async {
            let found: U64 = self.ask_unverified("eth_chainId", json!([])).await?;
            let found: u64 = found.to();
            if found == self.expected {
                Ok(())
            } else {
                Err(BlockchainError::WrongChain { node: self.name.clone(), expected: self.expected, found })
            }
        };
        self.verified.get_or_try_init(ask).await.copied()
    }

    async fn ask<T: DeserializeOwned>(&self, method: &'static str, params: Value) -> Result<T, BlockchainError> {
        self.verify().await?;
        self.ask_unverified(method, params).await
    }

    async fn ask_unverified<T: DeserializeOwned>(&self, method: &'static str, params: Value) -> Result<T, BlockchainError> {
        let raw = self.ask_raw(method, params).await?;
        serde_json::from_str(raw.get()).map_err(|error| self.nonsense(method, error.to_string()))
    }

    async fn ask_raw(&self, method: &'static str, params: Value) -> Result<Box<RawValue>, BlockchainError> {
        let params = to_raw_value(&params).map_err(|error| self.nonsense(method, error.to_string()))?;
        let asked = self.provider.raw_request_dyn(method.into(), &params);
        let Some(within) = self.timeout else { return asked.await.map_err(|error| self.failed(method, &error)) };
        match tokio::time::timeout(within, asked).await {
            Ok(answer) => answer.map_err(|error| self.failed(method, &error)),
            Err(_) => Err(BlockchainError::Late { node: self.name.clone(), method, within_ms: within.as_millis() }),
        }
    }

    fn failed(&self, method: &'static str, error: &RpcError<TransportErrorKind>) -> BlockchainError {
        let node = self.name.clone();
        match error {
            RpcError::ErrorResp(answer) => {
                BlockchainError::Refused { node, method, code: answer.code, message: answer.message.to_string() }
            }
            other => {
                let mut reason = other.to_string();
                if let Some(address) = &self.address {
                    reason = reason.replace(address.trim_end_matches('/'), "its address");
                }
                BlockchainError::Unreachable { node, method, reason }
            }
        }
    }

    pub(crate) fn nonsense(&self, method: &'static str, problem: impl Into<String>) -> BlockchainError {
        BlockchainError::Nonsense { node: self.name.clone(), method, problem: problem.into() }
    }

    /// The newest block's header.
    pub(crate) async fn latest(&self) -> Result<Header, BlockchainError> {
        self.ask("eth_getBlockByNumber", json!(["latest", false])).await
    }

    /// The header of the canonical block at `number`, if the node has one.
    pub(crate) async fn header_at(&self, number: u64) -> Result<Option<Header>, BlockchainError> {
        let header: Option<Header> = self.ask("eth_getBlockByNumber", json!([U64::from(number), false])).await?;
        self.at(number, header, |header| header.number.to())
    }

    /// The header of a block by its hash, canonical or not.
    pub(crate) async fn header_of(&self, hash: B256) -> Result<Option<Header>, BlockchainError> {
        self.ask("eth_getBlockByHash", json!([hash, false])).await
    }

    /// The canonical block at `number`, if the node has one.
    pub(crate) async fn block_at(&self, number: u64) -> Result<Option<Block>, BlockchainError> {
        let block: Option<Block> = self.ask("eth_getBlockByNumber", json!([U64::from(number), true])).await?;
        self.at(number, block, |block| block.number.to())
    }

    fn at<T>(&self, asked: u64, found: Option<T>, number: impl Fn(&T) -> u64) -> Result<Option<T>, BlockchainError> {
        match found {
            Some(found) if number(&found) != asked => {
                Err(self.nonsense("eth_getBlockByNumber", format!("block {} instead of {asked}", number(&found))))
            }
            found => Ok(found),
        }
    }

    /// The receipts of `block`, one for each transaction and in their order.
    pub(crate) async fn receipts(&self, block: &Block) -> Result<Vec<Receipt>, BlockchainError> {
        let method = "eth_getBlockReceipts";
        let receipts: Option<Vec<Receipt>> = self.ask(method, json!([block.hash])).await?;
        let receipts = receipts.ok_or_else(|| self.gone(method, block))?;
        let matches = receipts.len() == block.transactions.len()
            && receipts.iter().zip(&block.transactions).all(|(receipt, tx)| receipt.transaction_hash == tx.hash)
            && receipts.iter().all(|receipt| receipt.block_hash == block.hash);
        if matches { Ok(receipts) } else { Err(self.nonsense(method, format!("not the receipts of {}", block.hash))) }
    }

    /// The calls of every transaction of `block`, as the node's text; `None` when the node does not trace.
    pub(crate) async fn traces(&self, block: &Block) -> Result<Option<Box<RawValue>>, BlockchainError> {
        self.verify().await?;
        match self.ask_raw("debug_traceBlockByHash", json!([block.hash, { "tracer": "callTracer" }])).await {
            Ok(raw) if raw.get() == "null" => Err(self.gone("debug_traceBlockByHash", block)),
            Ok(raw) => Ok(Some(raw)),
            Err(BlockchainError::Refused { code, message, .. }) if no_such_method(code, &message) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn gone(&self, method: &'static str, block: &Block) -> BlockchainError {
        BlockchainError::Gone { node: self.name.clone(), method, number: block.number.to() }
    }

    /// A balance in wei in the state after the block `at`.
    pub(crate) async fn balance(&self, address: Address, at: B256) -> Result<U256, BlockchainError> {
        self.ask("eth_getBalance", json!([address, { "blockHash": at }])).await
    }

    /// An account's next nonce in the state after the block `at`.
    pub(crate) async fn nonce(&self, address: Address, at: B256) -> Result<u64, BlockchainError> {
        let nonce: U64 = self.ask("eth_getTransactionCount", json!([address, { "blockHash": at }])).await?;
        Ok(nonce.to())
    }

    /// A token balance in the state after the block `at`; `None` when the contract does not say one.
    pub(crate) async fn token_balance(
        &self,
        contract: Address,
        address: Address,
        at: B256,
    ) -> Result<Option<U256>, BlockchainError> {
        let data = Bytes::from(Erc20::balanceOfCall { account: address }.abi_encode());
        let call = json!([{ "to": contract, "input": data }, { "blockHash": at }]);
        match self.ask::<Bytes>("eth_call", call).await {
            Ok(word) => Ok((word.len() == 32).then(|| U256::from_be_slice(&word))),
            Err(BlockchainError::Refused { code, message, .. }) if reverts(code, &message) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The gas that a call needs now; `None` when the node says that it would revert.
    pub(crate) async fn gas(&self, call: &CallRequest) -> Result<Option<u64>, BlockchainError> {
        let request = json!([{ "from": call.from, "to": call.to, "value": call.value, "input": call.data }]);
        match self.ask::<U64>("eth_estimateGas", request).await {
            Ok(gas) => Ok(Some(gas.to())),
            Err(BlockchainError::Refused { code, message, .. }) if fails(code, &message) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The tip that the node suggests, in wei per gas; nothing when it does not suggest any.
    pub(crate) async fn tip(&self) -> Result<U256, BlockchainError> {
        match self.ask("eth_maxPriorityFeePerGas", json!([])).await {
            Err(BlockchainError::Refused { code, message, .. }) if no_such_method(code, &message) => Ok(U256::ZERO),
            other => other,
        }
    }

    /// Gives the node a signed transaction; its hash by the node.
    pub(crate) async fn send(&self, raw: &Bytes) -> Result<B256, BlockchainError> {
        self.ask("eth_sendRawTransaction", json!([raw])).await
    }
}

fn reverts(code: i64, message: &str) -> bool {
    code == REVERTED || message.to_ascii_lowercase().contains("execution reverted")
}

/// Whether the node says of a call that it cannot succeed, by whatever it ends: a contract may end a call otherwise than by a revert,
/// and nodes tell each of these in words.
fn fails(code: i64, message: &str) -> bool {
    const WORDS: [&str; 9] = [
        "gas required exceeds",
        "out of gas",
        "outofgas",
        "intrinsic gas",
        "invalid opcode",
        "invalid jump",
        "stack underflow",
        "write protection",
        "always failing transaction",
    ];
    let text = message.to_ascii_lowercase();
    reverts(code, message) || WORDS.iter().any(|words| text.contains(words))
}

fn no_such_method(code: i64, message: &str) -> bool {
    let text = message.to_ascii_lowercase();
    code == NO_SUCH_METHOD || text.contains("does not exist/is not available") || text.contains("method not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_cannot_succeed_is_told_from_a_node_that_cannot_answer() {
        for (code, message, expected) in [
            (3, "anything", true),
            (-32_000, "execution reverted: paused", true),
            (-32_000, "gas required exceeds allowance (30000000)", true),
            (-32_003, "Out of gas: gas required exceeds allowance: 30000000", true),
            (-32_003, "EVM error OutOfGas", true),
            (-32_000, "invalid opcode: INVALID", true),
            (-32_000, "invalid jump destination", true),
            (-32_015, "VM execution error: stack underflow", true),
            (-32_000, "header not found", false),
            (-32_000, "missing trie node", false),
            (-32_005, "request limit exceeded", false),
            (-32_603, "internal error", false),
        ] {
            assert_eq!(fails(code, message), expected, "{code} {message}");
        }
    }
}
