//! A development node of Ethereum, driven over JSON-RPC as whoever owns it may drive it: payments out of its unlocked account, tokens
//! deployed and minted, blocks asked for.
//!
//! What the demonstration and the faucet do on a chain outside of the bank's reach; no part of Custos pays this way. Invariant:
//! nothing is sent before the node has shown that it is one for development: no public network's chain number, no peers, an
//! unlocked account.

use std::time::{Duration, Instant};

use alloy_primitives::{Address, U256};
use anyhow::{Context, anyhow, bail};
use custos_devchain::{mint_data, token_code};
use custos_domain::{Amount, EthAddress};
use reqwest::Client;
use serde_json::{Value, json};

/// How long the node may take for an answer.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a transaction may take into a block.
const MINED: Duration = Duration::from_secs(60);
/// What a node says of a method that it does not have.
const NO_METHOD: i64 = -32_601;
/// geth answers so to what is not enabled, too.
const NO_METHOD_WORDS: &str = "does not exist";

/// Networks on which money, or other people, are. Whatever answers with one of these numbers is left alone, forks in a developer's
/// node included: what is signed for a fork is valid on the network.
const PUBLIC: [(u64, &str); 33] = [
    (1, "Ethereum"),
    (5, "Goerli"),
    (10, "OP Mainnet"),
    (25, "Cronos"),
    (30, "Rootstock"),
    (56, "BNB Smart Chain"),
    (61, "Ethereum Classic"),
    (97, "BNB Smart Chain Testnet"),
    (100, "Gnosis"),
    (130, "Unichain"),
    (137, "Polygon"),
    (146, "Sonic"),
    (250, "Fantom"),
    (324, "ZKsync Era"),
    (480, "World Chain"),
    (1_101, "Polygon zkEVM"),
    (1_284, "Moonbeam"),
    (5_000, "Mantle"),
    (8_453, "Base"),
    (17_000, "Holesky"),
    (42_161, "Arbitrum One"),
    (42_170, "Arbitrum Nova"),
    (42_220, "Celo"),
    (43_114, "Avalanche"),
    (59_144, "Linea"),
    (80_002, "Polygon Amoy"),
    (81_457, "Blast"),
    (84_532, "Base Sepolia"),
    (421_614, "Arbitrum Sepolia"),
    (534_352, "Scroll"),
    (560_048, "Hoodi"),
    (11_155_111, "Sepolia"),
    (11_155_420, "OP Sepolia"),
];

/// A development node.
#[derive(Clone)]
pub struct DevNode {
    client: Client,
    url: String,
    version: String,
    number: u64,
    payer: String,
}

/// A node's no: its code and its words.
struct Refusal {
    code: i64,
    words: String,
}

impl DevNode {
    /// Connects to the node at `url` and makes sure that it is one for development.
    ///
    /// # Errors
    /// It does not answer, serves a public network, has peers, or has no unlocked account.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        if !url.starts_with("http://") {
            bail!("a node's address is http://HOST:PORT, not `{url}`");
        }
        let client = Client::builder().timeout(ANSWER).build()?;
        let mut node = Self { client, url: url.to_owned(), version: String::new(), number: 0, payer: String::new() };
        node.number = quantity(&node.call("eth_chainId", json!([])).await?)?;
        private(node.number)?;
        // geth adds where and how it was built.
        let version = word(&node.call("web3_clientVersion", json!([])).await?)?;
        node.version = version.split('/').take(2).collect::<Vec<_>>().join("/");
        // Not every development node knows the word; one that has peers does.
        let peers = node.ask("net_peerCount", json!([])).await?.ok().map(|count| quantity(&count)).transpose()?;
        if let Some(peers) = peers.filter(|peers| *peers > 0) {
            bail!("the node at {url} has {peers} peers: only a development node on its own is used");
        }
        let accounts = node.call("eth_accounts", json!([])).await?;
        let first = accounts.get(0).and_then(Value::as_str).map(ToOwned::to_owned);
        node.payer = first
            .with_context(|| format!("the node at {url} ({}) has no unlocked account to pay deposits from", node.version))?;
        Ok(node)
    }

    /// Its JSON-RPC address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its EIP-155 number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// What it says it is, such as `anvil/v1.7.1`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The newest block's number.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn height(&self) -> anyhow::Result<u64> {
        quantity(&self.call("eth_blockNumber", json!([])).await?)
    }

    /// What an address holds at the newest block, in wei.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn ether_of(&self, address: &EthAddress) -> anyhow::Result<Amount> {
        let wei: U256 = serde_json::from_value(self.call("eth_getBalance", json!([address.to_string(), "latest"])).await?)?;
        u128::try_from(wei).map(Amount::new).map_err(|_| anyhow!("a balance beyond 128 bits"))
    }

    /// Pays ether; gives the transaction's hash, which is in the pool until a block is mined.
    ///
    /// # Errors
    /// The node refuses.
    pub async fn pay_ether(&self, to: &EthAddress, wei: Amount) -> anyhow::Result<String> {
        self.spend(json!({ "to": to.to_string(), "value": U256::from(wei.base_units()) })).await
    }

    /// Creates tokens of a contract that this node's account has deployed; gives the transaction's hash.
    ///
    /// # Errors
    /// The node refuses, as it does for a contract that somebody else has deployed.
    pub async fn mint_token(&self, token: &EthAddress, to: &EthAddress, units: Amount) -> anyhow::Result<String> {
        let data = mint_data(Address::from(to.0), U256::from(units.base_units()));
        self.spend(json!({ "to": token.to_string(), "data": data })).await
    }

    /// Deploys a token of 18 decimals and waits until a block holds it. Blocks must be coming.
    ///
    /// # Errors
    /// The node refuses, or no block comes.
    pub async fn deploy_token(&self, name: &str, symbol: &str) -> anyhow::Result<EthAddress> {
        let tx = self.spend(json!({ "data": token_code(name, symbol) })).await?;
        let until = Instant::now() + MINED;
        loop {
            let receipt = self.call("eth_getTransactionReceipt", json!([tx])).await.unwrap_or_default();
            if let Some(contract) = receipt.get("contractAddress").and_then(Value::as_str) {
                return Ok(EthAddress::parse(contract)?);
            }
            if Instant::now() > until {
                bail!("the token's deployment {tx} is in no block after {} s", MINED.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The number of the block that holds a transaction, if one does.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn block_of(&self, tx: &str) -> anyhow::Result<Option<u64>> {
        let receipt = self.call("eth_getTransactionReceipt", json!([tx])).await?;
        receipt.get("blockNumber").filter(|number| !number.is_null()).map(quantity).transpose()
    }

    /// Asks for one block. `false` if the node does not take such orders.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn mine(&self) -> anyhow::Result<bool> {
        self.obeyed("evm_mine", json!([])).await
    }

    /// Pays nothing to itself: nodes that mine when something is to be mined then do.
    ///
    /// # Errors
    /// The node refuses.
    pub async fn nudge(&self) -> anyhow::Result<()> {
        self.spend(json!({ "to": self.payer, "value": "0x0" })).await.map(drop)
    }

    /// Calls a method that only some nodes have: `false` if this one has not.
    ///
    /// # Errors
    /// The node does not answer, or refuses for another reason.
    pub async fn obeyed(&self, method: &str, params: Value) -> anyhow::Result<bool> {
        match self.ask(method, params).await? {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.code == NO_METHOD || refusal.words.contains(NO_METHOD_WORDS) => Ok(false),
            Err(refusal) => bail!("{method}: {}", refusal.words),
        }
    }

    /// Calls a method.
    ///
    /// # Errors
    /// The node does not answer, or refuses.
    pub async fn call(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.ask(method, params).await?.map_err(|refusal| anyhow!("{method}: {}", refusal.words))
    }

    async fn spend(&self, mut transaction: Value) -> anyhow::Result<String> {
        if let Some(fields) = transaction.as_object_mut() {
            fields.insert("from".to_owned(), json!(self.payer));
        }
        word(&self.call("eth_sendTransaction", json!([transaction])).await?)
    }

    async fn ask(&self, method: &str, params: Value) -> anyhow::Result<Result<Value, Refusal>> {
        let question = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let no_node = || format!("no Ethereum node answers at {}", self.url);
        let answer = self.client.post(&self.url).json(&question).send().await.with_context(no_node)?;
        let mut answer: Value = answer.json().await.with_context(no_node)?;
        Ok(match answer.get("error") {
            Some(error) => Err(Refusal {
                code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
                words: error.get("message").and_then(Value::as_str).unwrap_or("refused without a word").to_owned(),
            }),
            None => Ok(answer.get_mut("result").map(Value::take).unwrap_or_default()),
        })
    }
}

/// # Errors
/// The number is a public network's.
fn private(number: u64) -> anyhow::Result<()> {
    match PUBLIC.iter().find(|(public, _)| *public == number) {
        None => Ok(()),
        Some((_, name)) => bail!("chain {number} is {name}: only a development node's own chain is used, such as 31337"),
    }
}

fn quantity(value: &Value) -> anyhow::Result<u64> {
    let text = value.as_str().with_context(|| format!("`{value}` is not a quantity"))?;
    u64::from_str_radix(text.trim_start_matches("0x"), 16).with_context(|| format!("`{text}` is not a quantity"))
}

fn word(value: &Value) -> anyhow::Result<String> {
    value.as_str().map(ToOwned::to_owned).with_context(|| format!("`{value}` is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_networks_are_refused_by_name_and_development_chains_are_not() {
        for (number, name) in PUBLIC {
            let refused = private(number).map_err(|error| error.to_string());
            assert!(refused.is_err_and(|words| words.contains(name)), "{number}");
        }
        assert!(private(31_337).is_ok() && private(1_337).is_ok());
    }
}
