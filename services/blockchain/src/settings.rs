//! The adapter's settings, checked together before anything is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use alloy::transports::http::reqwest::Url;
use custos_domain::{AssetId, ChainId, EthAddress, NodeName};
use custos_runtime::settings::Problems;
use serde::Deserialize;

/// Requests must end: nothing waits for a node longer than this.
const LONGEST_REQUEST_MS: u64 = 120_000;
const LONGEST_POLL_MS: u64 = 60_000;

/// The section `blockchain` of a configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockchainSettings {
    /// The chains to talk to.
    pub chains: Vec<ChainSettings>,
}

/// One chain.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSettings {
    /// Its CAIP-2 name, such as `eip155:1`.
    pub chain: String,
    /// Its nodes, by the names that policy gives to them. Transactions go to all; questions to the first that answers.
    pub nodes: Vec<NodeSettings>,
    /// The first block to report when the log names no cursor.
    pub start_block: u64,
    /// How often a node is asked for news.
    pub poll_ms: u64,
    /// How long a node may take to answer.
    pub request_timeout_ms: u64,
    /// The asset code of the chain's own coin.
    pub native: String,
    /// The tokens that are reported.
    #[serde(default)]
    pub tokens: Vec<TokenSettings>,
    /// The least tip to suggest, in wei per gas; at least 1.
    pub tip_floor_wei: u64,
}

/// A node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// Its name.
    pub name: String,
    /// Its JSON-RPC address.
    pub url: NodeUrl,
}

/// A listed token.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// Its asset code.
    pub asset: String,
    /// Its contract.
    pub contract: String,
}

/// A node's address: `http://host:port/path`. TLS ends in a proxy beside this process. May hold a key, so it is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct NodeUrl(String);

/// [`BlockchainSettings`], checked.
#[derive(Clone, Debug)]
pub struct BlockchainConfig {
    /// The chains; each once.
    pub chains: Vec<ChainConfig>,
}

/// [`ChainSettings`], checked.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// Its name.
    pub chain: ChainId,
    /// Its EIP-155 number.
    pub number: u64,
    /// Its nodes; at least one, no name twice.
    pub nodes: Vec<NodeConfig>,
    /// The first block to report when the log names no cursor.
    pub start_block: u64,
    /// How often a node is asked for news.
    pub poll: Duration,
    /// How long a node may take to answer.
    pub request_timeout: Duration,
    /// The chain's own coin.
    pub native: AssetId,
    /// Listed tokens by contract.
    pub tokens: BTreeMap<EthAddress, AssetId>,
    /// The least tip to suggest, in wei per gas.
    pub tip_floor: u128,
}

/// A node's name and address.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub name: NodeName,
    /// Its address.
    pub url: NodeUrl,
}

impl BlockchainSettings {
    /// The typed configuration; whatever is wrong goes to `problems`.
    pub fn check(&self, problems: &mut Problems) -> Option<BlockchainConfig> {
        if self.chains.is_empty() {
            problems.add("blockchain.chains", "at least one chain is needed");
        }
        let chains: Vec<Option<ChainConfig>> = self.chains.iter().map(|chain| chain.check(problems)).collect();
        let chains: Vec<ChainConfig> = chains.into_iter().collect::<Option<_>>()?;
        let names: BTreeSet<&ChainId> = chains.iter().map(|entry| &entry.chain).collect();
        if names.len() != chains.len() {
            problems.add("blockchain.chains", "a chain is named twice");
            return None;
        }
        (!chains.is_empty()).then_some(BlockchainConfig { chains })
    }
}

impl ChainSettings {
    fn check(&self, problems: &mut Problems) -> Option<ChainConfig> {
        let path = |field: &str| format!("blockchain.chains.{}.{field}", self.chain);
        let chain = problems.take(&path("chain"), ethereum(&self.chain));
        let native = problems.take(&path("native"), AssetId::new(&self.native));
        let nodes = self.nodes(&path("nodes"), problems);
        let tokens = self.tokens(&path("tokens"), problems);
        let poll = problems.take(&path("poll_ms"), between(self.poll_ms, LONGEST_POLL_MS));
        let timeout = problems.take(&path("request_timeout_ms"), between(self.request_timeout_ms, LONGEST_REQUEST_MS));
        let tip = if self.tip_floor_wei == 0 { Err("is at least 1") } else { Ok(u128::from(self.tip_floor_wei)) };
        let tip_floor = problems.take(&path("tip_floor_wei"), tip);
        let (chain, number) = chain?;
        Some(ChainConfig {
            chain,
            number,
            nodes: nodes?,
            start_block: self.start_block,
            poll: poll?,
            request_timeout: timeout?,
            native: native?,
            tokens: tokens?,
            tip_floor: tip_floor?,
        })
    }

    fn nodes(&self, path: &str, problems: &mut Problems) -> Option<Vec<NodeConfig>> {
        let mut nodes: Vec<NodeConfig> = Vec::new();
        let mut whole = true;
        for entry in &self.nodes {
            let name = problems.take(path, NodeName::new(&entry.name));
            let url = problems.take(path, entry.url.parsed().map_err(|problem| format!("{}: {problem}", entry.name)));
            match (name, url) {
                (Some(name), Some(_)) if nodes.iter().all(|known| known.name != name) => {
                    nodes.push(NodeConfig { name, url: entry.url.clone() });
                }
                (Some(name), Some(_)) => {
                    problems.add(path, format!("`{}` is named twice", name.as_str()));
                    whole = false;
                }
                _ => whole = false,
            }
        }
        if self.nodes.is_empty() {
            problems.add(path, "at least one node is needed");
            whole = false;
        }
        whole.then_some(nodes)
    }

    fn tokens(&self, path: &str, problems: &mut Problems) -> Option<BTreeMap<EthAddress, AssetId>> {
        let mut tokens = BTreeMap::new();
        let mut whole = true;
        for entry in &self.tokens {
            let asset = problems.take(path, AssetId::new(&entry.asset));
            let contract = problems.take(path, EthAddress::parse(&entry.contract));
            let (Some(asset), Some(contract)) = (asset, contract) else {
                whole = false;
                continue;
            };
            if tokens.values().any(|known| *known == asset) || tokens.insert(contract, asset).is_some() {
                problems.add(path, format!("`{}`: an asset or a contract is listed twice", entry.asset));
                whole = false;
            }
        }
        whole.then_some(tokens)
    }
}

impl NodeUrl {
    /// An address; [`BlockchainSettings::check`] judges it.
    #[must_use]
    pub const fn new(url: String) -> Self {
        Self(url)
    }

    /// The address itself, for whoever connects to it. Not to be printed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The address in its parts.
    ///
    /// # Errors
    /// Not an `http` address. The text does not repeat it.
    pub(crate) fn parsed(&self) -> Result<Url, &'static str> {
        let url = Url::parse(&self.0).map_err(|_| "is not a URL")?;
        if url.scheme() == "http" && url.has_host() {
            Ok(url)
        } else {
            Err("is http://host:port/path; TLS ends in a proxy beside")
        }
    }
}

impl fmt::Debug for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeUrl(…)")
    }
}

fn between(milliseconds: u64, longest: u64) -> Result<Duration, String> {
    if (1..=longest).contains(&milliseconds) {
        Ok(Duration::from_millis(milliseconds))
    } else {
        Err(format!("is from 1 to {longest}"))
    }
}

/// Only the canonical spelling: `eip155:01` would be another chain in the log.
fn ethereum(name: &str) -> Result<(ChainId, u64), String> {
    let chain = ChainId::new(name).map_err(|error| error.to_string())?;
    match chain.eip155_number() {
        Some(number) if ChainId::eip155(number) == chain => Ok((chain, number)),
        _ => Err(format!("`{name}` is not eip155: and a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[chains]]
        chain = "eip155:31337"
        nodes = [{ name = "a", url = "http://127.0.0.1:8545" }, { name = "b", url = "http://127.0.0.1:8546/key" }]
        start_block = 7
        poll_ms = 100
        request_timeout_ms = 10000
        native = "ETH"
        tokens = [{ asset = "TUSD", contract = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" }]
        tip_floor_wei = 1
    "#;

    fn check(text: &str) -> (Option<BlockchainConfig>, Problems) {
        let mut problems = Problems::default();
        let settings: BlockchainSettings = toml::from_str(text).unwrap();
        (settings.check(&mut problems), problems)
    }

    #[test]
    fn good_settings_are_typed_and_print_no_address() {
        let (config, problems) = check(GOOD);
        assert!(problems.is_empty());
        let config = config.unwrap();
        assert_eq!((config.chains[0].number, config.chains[0].start_block), (31_337, 7));
        assert_eq!(config.chains[0].nodes[1].name.as_str(), "b");
        assert!(!format!("{config:?}").contains("8546"));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let bad = GOOD
            .replace("eip155:31337", "eip155:031337")
            .replace("\"b\", url = \"http:", "\"a\", url = \"https:")
            .replace("poll_ms = 100", "poll_ms = 0")
            .replace("\"ETH\"", "\"eth\"")
            .replace("0x5a", "0x")
            .replace("tip_floor_wei = 1", "tip_floor_wei = 0");
        let (config, problems) = check(&bad);
        assert!(config.is_none());
        assert_eq!(problems.lines().len(), 6, "{:?}", problems.lines());
    }

    #[test]
    fn names_stand_once_and_unknown_settings_are_refused() {
        assert_eq!(check(&GOOD.replace("\"b\"", "\"a\"")).1.lines().len(), 1);
        assert_eq!(check(&format!("{GOOD}{GOOD}")).1.lines().len(), 1);
        assert!(toml::from_str::<BlockchainSettings>(&format!("{GOOD}\nretries = 1")).is_err());
        assert!(toml::from_str::<BlockchainSettings>(&GOOD.replace("start_block = 7", "")).is_err());
    }
}
