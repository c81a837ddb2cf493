//! What a node answers: the JSON-RPC methods that the adapter uses, in geth's format and words.

use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, U256, hex};
use alloy::sol_types::{SolCall, SolEvent};
use serde_json::{Value, json};

use super::block::{Block, Coin, Erc20, Mined, Pays, Tx, purpose};
use super::network::Network;
use super::node::Lie;

/// What comes back from a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// A result.
    Result(Value),
    /// An error of the node.
    Error(i64, String),
    /// Nothing, until the caller gives up.
    Silence,
}

const NO_SUCH_METHOD: i64 = -32_601;
const INVALID: i64 = -32_602;
const INTERNAL: i64 = -32_603;
const SERVER: i64 = -32_000;
const REVERTED: i64 = 3;
/// The tip that nodes suggest.
const TIP: u64 = 1_000_000_000;

impl Network {
    /// What `node` answers to a request.
    pub(super) fn answer(&mut self, node: usize, method: &str, params: &Value) -> Answer {
        let lie = self.nodes().get(node).map(|view| view.lie).unwrap_or_default();
        match lie {
            Lie::Silent => return Answer::Silence,
            Lie::Broken => return Answer::Error(INTERNAL, "internal error".to_owned()),
            Lie::None | Lie::AcceptsInSilence | Lie::Forgets | Lie::Missing(_) => {}
        }
        let answered = match method {
            "eth_sendRawTransaction" => self.take(node, lie, params),
            "eth_chainId" => Some(quantity(u128::from(self.chain()))),
            "eth_maxPriorityFeePerGas" => Some(quantity(u128::from(TIP))),
            "eth_getBlockByNumber" => self.block_by_number(node, params),
            "eth_getBlockByHash" => self.block_by_hash(node, params),
            "eth_getBlockReceipts" => self.receipts(node, params),
            "eth_getBalance" => {
                self.at(params).and_then(|(address, block)| Some(quantity(block.state.balance(Coin::Ether, &address?))))
            }
            "eth_getTransactionCount" => {
                self.at(params).and_then(|(address, block)| Some(quantity(u128::from(block.state.nonce(&address?)))))
            }
            "eth_call" => self.balance_of(params),
            "eth_estimateGas" => self.estimate(node, params),
            _ => {
                return Answer::Error(NO_SUCH_METHOD, format!("the method {method} does not exist/is not available"));
            }
        };
        answered.unwrap_or_else(|| Answer::Error(INVALID, "invalid argument".to_owned()))
    }

    fn take(&mut self, node: usize, lie: Lie, params: &Value) -> Option<Answer> {
        let raw: Bytes = argument(params, 0)?;
        let tx = match Tx::read(&raw, self.chain(), self.token()) {
            Ok(tx) => Arc::new(tx),
            Err(words) => return Some(Answer::Error(SERVER, words)),
        };
        let taken = Answer::Result(json!(tx.hash));
        if lie == Lie::Forgets {
            return Some(taken);
        }
        let view = self.node_mut(node)?;
        let state = view.head()?.state.clone();
        if let Err(refused) = view.pool.add(&tx, &state) {
            return Some(Answer::Error(SERVER, refused.0));
        }
        self.gossip(&tx);
        Some(if lie == Lie::AcceptsInSilence { Answer::Silence } else { taken })
    }

    fn block_by_number(&self, node: usize, params: &Value) -> Option<Answer> {
        let view = self.nodes().get(node)?;
        let full = params.get(1).and_then(Value::as_bool).unwrap_or(false);
        let block = match params.get(0)?.as_str()? {
            "latest" => view.head(),
            number => view.at(u64::from_str_radix(number.strip_prefix("0x")?, 16).ok()?),
        };
        let hidden = |block: &&Arc<Block>| view.lie == Lie::Missing(block.number) && full;
        Some(self.shown(node, block.filter(|block| !hidden(block)), full))
    }

    fn block_by_hash(&self, node: usize, params: &Value) -> Option<Answer> {
        let hash: B256 = argument(params, 0)?;
        let full = params.get(1).and_then(Value::as_bool).unwrap_or(false);
        Some(self.shown(node, self.block(&hash), full))
    }

    fn shown(&self, node: usize, block: Option<&Arc<Block>>, full: bool) -> Answer {
        let (Some(block), Some(view)) = (block, self.nodes().get(node)) else { return Answer::Result(Value::Null) };
        let transactions: Vec<Value> =
            view.content(block).map(|one| if full { transaction(block, one) } else { json!(one.tx.hash) }).collect();
        Answer::Result(json!({
            "number": hexed(block.number.into()), "hash": block.hash, "parentHash": block.parent,
            "timestamp": hexed(block.time.into()), "baseFeePerGas": hexed(block.base_fee), "transactions": transactions,
        }))
    }

    fn receipts(&self, node: usize, params: &Value) -> Option<Answer> {
        let hash: B256 = argument(params, 0)?;
        let (Some(block), Some(view)) = (self.block(&hash), self.nodes().get(node)) else {
            return Some(Answer::Result(Value::Null));
        };
        let mut logs = 0_u64;
        let receipts = view.content(block).map(|one| receipt(block, one, &mut logs, self.token())).collect();
        Some(Answer::Result(Value::Array(receipts)))
    }

    /// The address and the block of a question about a state.
    fn at(&self, params: &Value) -> Option<(Option<Address>, &Arc<Block>)> {
        let hash = params.get(1)?.get("blockHash")?.as_str()?.parse().ok()?;
        Some((argument(params, 0), self.block(&hash)?))
    }

    fn balance_of(&self, params: &Value) -> Option<Answer> {
        let call = params.get(0)?;
        let data: Bytes = serde_json::from_value(call.get("input")?.clone()).ok()?;
        let asked = Erc20::balanceOfCall::abi_decode(&data).ok()?;
        let (_, block) = self.at(params)?;
        let units = U256::from(block.state.balance(Coin::Token, &asked.account));
        Some(Answer::Result(json!(Bytes::from(units.to_be_bytes_vec()))))
    }

    fn estimate(&self, node: usize, params: &Value) -> Option<Answer> {
        let call = params.get(0)?;
        let address = |name: &str| call.get(name).and_then(Value::as_str).and_then(|text| text.parse::<Address>().ok());
        let value: U256 = serde_json::from_value(call.get("value")?.clone()).ok()?;
        let data: Bytes = serde_json::from_value(call.get("input")?.clone()).ok()?;
        let (from, value) = (address("from")?, u128::try_from(value).ok()?);
        let state = &self.nodes().get(node)?.head()?.state;
        if state.balance(Coin::Ether, &from) < value {
            return Some(Answer::Error(SERVER, "insufficient funds for transfer".to_owned()));
        }
        let pays = purpose(address("to")?, value, &data, self.token());
        Some(match state.gas(&from, &pays, self.paused()) {
            Some(gas) => quantity(gas.into()),
            None => Answer::Error(REVERTED, "execution reverted".to_owned()),
        })
    }
}

fn argument<T: serde::de::DeserializeOwned>(params: &Value, place: usize) -> Option<T> {
    serde_json::from_value(params.get(place)?.clone()).ok()
}

fn hexed(number: u128) -> String {
    format!("{number:#x}")
}

fn quantity(number: u128) -> Answer {
    Answer::Result(Value::String(hexed(number)))
}

fn transaction(block: &Block, one: &Mined) -> Value {
    json!({
        "hash": one.tx.hash, "from": one.tx.from, "to": one.tx.to, "value": hexed(one.tx.value),
        "nonce": hexed(one.tx.nonce.into()), "blockHash": block.hash, "blockNumber": hexed(block.number.into()),
    })
}

fn receipt(block: &Block, one: &Mined, next_log: &mut u64, token: Address) -> Value {
    let mut logs = Vec::new();
    if let (Pays::Token { to, units }, true) = (one.tx.pays, one.succeeded) {
        let event = Erc20::Transfer { from: one.tx.from, to, value: U256::from(units) };
        let data = event.encode_log_data();
        logs.push(json!({
            "address": token, "topics": data.topics(), "data": hex::encode_prefixed(&data.data),
            "logIndex": hexed((*next_log).into()), "blockHash": block.hash, "transactionHash": one.tx.hash,
        }));
        *next_log = next_log.saturating_add(1);
    }
    json!({
        "transactionHash": one.tx.hash, "blockHash": block.hash, "status": hexed(u128::from(one.succeeded)),
        "gasUsed": hexed(one.gas_used.into()), "effectiveGasPrice": hexed(one.price), "logs": logs,
    })
}
