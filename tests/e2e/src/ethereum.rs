//! The chain of a test: the development chain in process, or a real development node with a recorder before it.
//!
//! Blocks come only when asked for, so a test decides what is final. Coins and tokens come from one faucet key, whose raw
//! transactions are kept so that they can be sent again after a reorganisation.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::consensus::{Transaction, TxEip1559, TxEnvelope, transaction::SignerRecoverable};
use alloy::eips::eip2718::{Decodable2718, Encodable2718};
use alloy::primitives::{Address, B256, Bytes, TxHash, TxKind, U64, U256};
use alloy::sol_types::SolCall;
use anyhow::Context;
use custos_devchain::{
    DevChain, Dropped, Lies, Request, Server, Settings, Token, dev_address, faucet_key, sign, token_code,
};
use custos_parts::{Anvil, PartError, start_anvil};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::recorder::Recorder;
use crate::rpc::Rpc;

/// Wei of one ether.
pub const ETHER: u128 = 1_000_000_000_000_000_000;
/// Wei of a gwei.
pub const GWEI: u128 = 1_000_000_000;

const NUMBER: u64 = 31_337;
const TIP: u128 = GWEI;
/// More than every other transaction's tip: mined before them.
const URGENT: u128 = 40 * GWEI;
const GAS_PLAIN: u64 = 21_000;
const GAS_CALL: u64 = 200_000;
const GAS_CREATE: u64 = 3_000_000;

/// The chain.
#[derive(Debug)]
pub struct Ethereum {
    kind: Kind,
    rpc: Rpc,
    /// When requests began to be counted, in milliseconds since 1970.
    began_ms: u64,
    faucet: Mutex<BTreeMap<TxHash, Bytes>>,
}

enum Kind {
    Dev { chain: DevChain, server: Server },
    Anvil { _anvil: Box<Anvil>, recorder: Recorder },
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dev { .. } => "development chain",
            Self::Anvil { .. } => "anvil",
        })
    }
}

impl Ethereum {
    /// The development chain, in this process.
    ///
    /// # Errors
    /// It does not start.
    pub async fn dev() -> anyhow::Result<Self> {
        let began_ms = host_ms();
        let chain = DevChain::new(Settings { chain_number: NUMBER, ..Settings::default() })?;
        let server = chain.serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let rpc = Rpc::new(&server.url())?;
        Ok(Self { kind: Kind::Dev { chain, server }, rpc, began_ms, faucet: Mutex::default() })
    }

    /// An Ethereum node as a process of its own.
    ///
    /// # Errors
    /// [`PartError`] if it is not on this machine or does not start.
    pub fn start_node() -> Result<Anvil, PartError> {
        let number = NUMBER.to_string();
        start_anvil(&[
            "--chain-id",
            &number,
            "--hardfork",
            "prague",
            "--no-mining",
            "--block-base-fee-per-gas",
            "1000000000",
        ])
    }

    /// The chain of a node that [`Self::start_node`] has started.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn of(anvil: Anvil) -> anyhow::Result<Self> {
        let rpc = Rpc::new(&anvil.url())?;
        rpc.call("anvil_setBalance", json!([dev_address(0), U256::from(1_000_000 * ETHER)])).await?;
        let began_ms = host_ms();
        let recorder = Recorder::before(anvil.url()).await?;
        let kind = Kind::Anvil { _anvil: Box::new(anvil), recorder };
        Ok(Self { kind, rpc, began_ms, faucet: Mutex::default() })
    }

    /// The development chain itself, for what only it can do.
    #[must_use]
    pub fn in_process(&self) -> Option<&DevChain> {
        match &self.kind {
            Kind::Dev { chain, .. } => Some(chain),
            Kind::Anvil { .. } => None,
        }
    }

    /// Where the product asks.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.kind {
            Kind::Dev { server, .. } => server.url(),
            Kind::Anvil { recorder, .. } => recorder.url().to_owned(),
        }
    }

    /// Mines so many blocks; the first takes what the pool holds.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn mine(&self, blocks: u64) -> anyhow::Result<()> {
        for _ in 0..blocks {
            self.rpc.call("evm_mine", json!([])).await?;
        }
        Ok(())
    }

    /// Number of the newest block.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn head(&self) -> anyhow::Result<u64> {
        number(&self.rpc.call("eth_blockNumber", json!([])).await?)
    }

    /// Replaces the last `depth` blocks by empty ones; what was in them is lost, from the pool too.
    ///
    /// # Errors
    /// The node does not answer, or the chain is shorter.
    pub async fn reorganise(&self, depth: u64) -> anyhow::Result<()> {
        match &self.kind {
            Kind::Dev { chain, .. } => {
                chain.replace(depth, Dropped::Lose, &[])?;
            }
            Kind::Anvil { .. } => {
                self.rpc.call("anvil_reorg", json!([depth, []])).await?;
                self.mine(1).await?;
            }
        }
        Ok(())
    }

    /// Base fee of the next block, in wei per gas.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn set_base_fee(&self, wei: u128) -> anyhow::Result<()> {
        match &self.kind {
            Kind::Dev { chain, .. } => chain.set_base_fee(wei)?,
            Kind::Anvil { .. } => {
                self.rpc.call("anvil_setNextBlockBaseFeePerGas", json!([U256::from(wei)])).await?;
            }
        }
        Ok(())
    }

    /// So many sends from now on are accepted by the node and never answered.
    pub fn accept_and_time_out(&self, sends: u32) {
        match &self.kind {
            Kind::Dev { chain, .. } => chain.set_lies(Lies { accept_and_time_out_sends: sends, ..chain.lies() }),
            Kind::Anvil { recorder, .. } => recorder.mute_sends(sends),
        }
    }

    /// How many transactions of `address` are mined.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn mined_of(&self, address: Address) -> anyhow::Result<u64> {
        number(&self.rpc.call("eth_getTransactionCount", json!([address, "latest"])).await?)
    }

    /// Takes a transaction out of the pool: whether it was there.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn drop_transaction(&self, hash: TxHash) -> anyhow::Result<bool> {
        match &self.kind {
            Kind::Dev { chain, .. } => Ok(chain.drop_transaction(hash)),
            Kind::Anvil { .. } => Ok(!self.rpc.call("anvil_dropTransaction", json!([hash])).await?.is_null()),
        }
    }

    /// Whether the transaction waits in the pool.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn in_pool(&self, hash: TxHash) -> anyhow::Result<bool> {
        let found = self.rpc.call("eth_getTransactionByHash", json!([hash])).await?;
        Ok(!found.is_null() && found.get("blockNumber").is_none_or(Value::is_null))
    }

    /// The receipt of a mined transaction: whether it succeeded, and what it cost in wei.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn receipt(&self, hash: TxHash) -> anyhow::Result<Option<(bool, u128)>> {
        let receipt = self.rpc.call("eth_getTransactionReceipt", json!([hash])).await?;
        if receipt.is_null() {
            return Ok(None);
        }
        let field = |name: &str| number(receipt.get(name).unwrap_or(&Value::Null));
        let cost = u128::from(field("gasUsed")?) * u128::from(field("effectiveGasPrice")?);
        Ok(Some((field("status")? == 1, cost)))
    }

    /// Every raw transaction of `from` that the node was given, oldest first, as often as it was given.
    ///
    /// # Errors
    /// Something was sent that is not a transaction.
    pub fn sends(&self, from: Address) -> anyhow::Result<Vec<(Bytes, TxEnvelope)>> {
        Ok(self.sends_in_time(from)?.into_iter().map(|(_, raw, tx)| (raw, tx)).collect())
    }

    /// When the node was first given each transaction of `from`, in milliseconds since 1970, as far back as its log goes.
    ///
    /// # Errors
    /// Something was sent that is not a transaction.
    pub fn first_sends(&self, from: Address) -> anyhow::Result<BTreeMap<TxHash, u64>> {
        let mut first = BTreeMap::new();
        for (at_ms, _, tx) in self.sends_in_time(from)? {
            first.entry(*tx.tx_hash()).or_insert(at_ms);
        }
        Ok(first)
    }

    fn sends_in_time(&self, from: Address) -> anyhow::Result<Vec<(u64, Bytes, TxEnvelope)>> {
        let asked: Vec<Request> = match &self.kind {
            Kind::Dev { chain, .. } => chain.requests(),
            Kind::Anvil { recorder, .. } => recorder.requests(),
        };
        let mut sends = Vec::new();
        for request in asked.iter().filter(|request| request.method == "eth_sendRawTransaction") {
            let raw = request.params.get(0).and_then(Value::as_str).context("a send of nothing")?;
            let raw = Bytes::from_str(raw).context("a send of no bytes")?;
            let tx = TxEnvelope::decode_2718(&mut raw.as_ref()).context("a send of no transaction")?;
            if tx.recover_signer()? == from {
                sends.push((self.began_ms.saturating_add(request.at_ms), raw, tx));
            }
        }
        Ok(sends)
    }

    /// Every transaction of `from` that is in the chain, in its order, with its place.
    ///
    /// # Errors
    /// The node does not answer, or a block holds something else than transactions.
    pub async fn mined(&self, from: Address) -> anyhow::Result<Vec<Mined>> {
        let mut mined = Vec::new();
        for number in 0..=self.head().await? {
            let block = self.rpc.call("eth_getBlockByNumber", json!([U64::from(number), true])).await?;
            let transactions =
                block.get("transactions").and_then(Value::as_array).context("a block without transactions")?;
            for tx in transactions {
                let field = |name: &str| tx.get(name).and_then(Value::as_str).with_context(|| format!("no {name} in {tx}"));
                if field("from")?.parse::<Address>()? != from {
                    continue;
                }
                let (hash, to, data) = (field("hash")?.parse()?, field("to")?.parse()?, field("input")?.parse::<Bytes>()?);
                let (succeeded, _) = self.receipt(hash).await?.with_context(|| format!("{hash} has no receipt"))?;
                let call = Token::transferCall::abi_decode(&data).ok();
                let paid = match call {
                    Some(call) => Paid::Token { token: to, to: call.to, amount: u128::try_from(call.amount)? },
                    None => Paid::Ether { to, amount: amount(tx.get("value").unwrap_or(&Value::Null))? },
                };
                mined.push(Mined { hash, succeeded, paid });
            }
        }
        Ok(mined)
    }

    /// Wei at the newest block.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn balance(&self, address: Address) -> anyhow::Result<u128> {
        amount(&self.rpc.call("eth_getBalance", json!([address, "latest"])).await?)
    }

    /// Base units of a token at the newest block.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn token_balance(&self, token: Address, of: Address) -> anyhow::Result<u128> {
        let data = Bytes::from(Token::balanceOfCall { account: of }.abi_encode());
        amount(&self.rpc.call("eth_call", json!([{ "to": token, "data": data }, "latest"])).await?)
    }

    /// Gives an address so much ether out of nothing, which only a development node can do.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn set_balance(&self, address: Address, wei: u128) -> anyhow::Result<()> {
        match &self.kind {
            Kind::Dev { chain, .. } => chain.set_balance(address, U256::from(wei)),
            Kind::Anvil { .. } => {
                self.rpc.call("anvil_setBalance", json!([address, U256::from(wei)])).await?;
            }
        }
        Ok(())
    }

    /// Pays ether from the faucet; in the pool until a block is mined.
    ///
    /// # Errors
    /// The node refuses.
    pub async fn pay(&self, to: Address, wei: u128) -> anyhow::Result<TxHash> {
        self.spend(TxKind::Call(to), wei, Bytes::new(), (GAS_PLAIN, TIP)).await
    }

    /// Pays ether from the faucet to a contract.
    ///
    /// # Errors
    /// The node refuses.
    pub async fn pay_contract(&self, to: Address, wei: u128) -> anyhow::Result<TxHash> {
        self.spend(TxKind::Call(to), wei, Bytes::new(), (GAS_CALL, TIP)).await
    }

    /// Pays tokens from the faucet; in the pool until a block is mined.
    ///
    /// # Errors
    /// The node refuses.
    pub async fn pay_token(&self, token: Address, to: Address, amount: u128) -> anyhow::Result<TxHash> {
        let call = Token::transferCall { to, amount: U256::from(amount) };
        self.spend(TxKind::Call(token), 0, call.abi_encode().into(), (GAS_CALL, TIP)).await
    }

    /// Makes every transfer of the token revert, before anything else in the next block.
    ///
    /// # Errors
    /// The node refuses.
    pub async fn pause_token(&self, token: Address) -> anyhow::Result<TxHash> {
        self.spend(TxKind::Call(token), 0, Token::pauseCall {}.abi_encode().into(), (GAS_CALL, URGENT)).await
    }

    /// Ends the pause.
    ///
    /// # Errors
    /// The node refuses.
    pub async fn unpause_token(&self, token: Address) -> anyhow::Result<TxHash> {
        self.spend(TxKind::Call(token), 0, Token::unpauseCall {}.abi_encode().into(), (GAS_CALL, URGENT)).await
    }

    /// A token of 18 decimals, of which the faucet has plenty, and one mined block.
    ///
    /// # Errors
    /// The node refuses.
    pub async fn deploy_token(&self) -> anyhow::Result<Address> {
        let nonce = self.faucet_nonce().await?;
        self.spend(TxKind::Create, 0, token_code("Test Dollar", "TUSD"), (GAS_CREATE, TIP)).await?;
        let token = dev_address(0).create(nonce);
        let mint = Token::mintCall { to: dev_address(0), amount: U256::from(1_000_000_000 * ETHER) };
        self.spend(TxKind::Call(token), 0, mint.abi_encode().into(), (GAS_CALL, TIP)).await?;
        self.mine(1).await?;
        Ok(token)
    }

    /// Sends a transaction of the faucet again, byte for byte.
    ///
    /// # Errors
    /// It is not the faucet's, or the node refuses.
    pub async fn send_again(&self, hash: TxHash) -> anyhow::Result<()> {
        let raw = self.faucet.lock().await.get(&hash).cloned().context("not a transaction of the faucet")?;
        self.rpc.call("eth_sendRawTransaction", json!([raw])).await?;
        Ok(())
    }

    async fn faucet_nonce(&self) -> anyhow::Result<u64> {
        number(&self.rpc.call("eth_getTransactionCount", json!([dev_address(0), "pending"])).await?)
    }

    async fn spend(&self, to: TxKind, wei: u128, input: Bytes, (gas, tip): (u64, u128)) -> anyhow::Result<TxHash> {
        // One at a time: the nonce is asked for and used.
        let mut sent = self.faucet.lock().await;
        let head = self.rpc.call("eth_getBlockByNumber", json!(["latest", false])).await?;
        let base_fee = number(head.get("baseFeePerGas").unwrap_or(&Value::Null))?;
        let tx = TxEip1559 {
            chain_id: NUMBER,
            nonce: self.faucet_nonce().await?,
            gas_limit: gas,
            max_fee_per_gas: u128::from(base_fee) * 2 + tip + GWEI,
            max_priority_fee_per_gas: tip,
            to,
            value: U256::from(wei),
            access_list: Default::default(),
            input,
        };
        let raw = Bytes::from(sign(tx, &faucet_key())?.encoded_2718());
        let hash = self.rpc.call("eth_sendRawTransaction", json!([raw])).await?;
        let hash = hash.as_str().context("a send without a hash")?.parse::<B256>()?;
        sent.insert(hash, raw);
        Ok(hash)
    }
}

/// Milliseconds since 1970.
fn host_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A transaction in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mined {
    /// Which.
    pub hash: TxHash,
    /// Its receipt's status.
    pub succeeded: bool,
    /// What it pays if it succeeded.
    pub paid: Paid,
}

/// What a transaction pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paid {
    /// Coins.
    Ether {
        /// To whom.
        to: Address,
        /// Wei.
        amount: u128,
    },
    /// A token by its `transfer`.
    Token {
        /// The contract.
        token: Address,
        /// To whom.
        to: Address,
        /// Base units.
        amount: u128,
    },
}

/// Both fee fields of a transaction.
#[must_use]
pub fn fees(tx: &TxEnvelope) -> (u128, u128) {
    (tx.max_fee_per_gas(), tx.max_priority_fee_per_gas().unwrap_or_default())
}

fn number(value: &Value) -> anyhow::Result<u64> {
    let text = value.as_str().with_context(|| format!("`{value}` is not a quantity"))?;
    Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)?)
}

fn amount(value: &Value) -> anyhow::Result<u128> {
    let text = value.as_str().with_context(|| format!("`{value}` is not a quantity"))?;
    let digits = text.trim_start_matches("0x").trim_start_matches('0');
    if digits.is_empty() { Ok(0) } else { Ok(u128::from_str_radix(digits, 16)?) }
}
