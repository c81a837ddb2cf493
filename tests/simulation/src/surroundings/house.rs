//! What the bank has decided once: its keys, its policy, its lists, its chain. The same in every world, but for what a negative
//! control takes away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use alloy::primitives::Address;
use alloy::transports::BoxTransport;
use custos_blockchain::{BlockchainConfig, ChainConfig, NodeConfig, NodeUrl, Nodes};
use custos_compliance::{Compliance, Lists};
use custos_domain::{AssetKind, EthAddress, Millis, NodeName};
use custos_messages::SignedPolicy;
use custos_policy::Policy;
use custos_testkit::{address, asset, chain, policy, policy_root, tenant};
use custos_wallet::{GuardUrl, KeyStore, Keys, PassphraseSource, WalletConfig, WalletError, WorkFactor};
use secrecy::SecretString;

use crate::surroundings::chain::{NetworkSettings, SharedNetwork, Wire};

/// Confirmations that the bank wants, whatever the policy in force says: what oracles judge by.
pub const CONFIRMATIONS: u32 = 3;
/// The names of the nodes.
pub const NODES: [&str; 2] = ["a", "b"];
/// How long an approval is awaited: short, for the time of a world is dear.
pub const APPROVAL_WAIT: Millis = Millis::hours(1);
/// Blocks from mark to mark: each is an event of every shard, and a world lives for hours.
const MARK_EVERY: u32 = 10;
/// How often a node is asked for news.
const POLL: Duration = Duration::from_secs(4);
/// Most transactions in a block.
const BLOCK_MOST: usize = 40;
const CHAIN_NUMBER: u64 = 31_337;
const BASE_FEE: u128 = 1_000_000_000;
/// An outsider whose money is refused.
pub const SANCTIONED: &str = "sanctioned";

/// A defence of the surroundings. Negative controls take one away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defence {
    /// The signing guard.
    Guard,
    /// Waiting for blocks on top.
    FinalityWait,
    /// Asking every node.
    AllNodesAgree,
}

/// What the bank has decided.
#[derive(Clone)]
pub struct House {
    /// The policy in force.
    pub policy: Policy,
    /// Under the root's signature.
    pub signed: SignedPolicy,
    /// The signer's keys.
    pub keys: Arc<Keys>,
    /// What is taken away, in a negative control.
    pub without: Option<Defence>,
}

/// The keys of all worlds: deriving them takes longer than a world lives.
fn keys() -> Arc<Keys> {
    static KEYS: OnceLock<Arc<Keys>> = OnceLock::new();
    Arc::clone(KEYS.get_or_init(|| Arc::new(derive().expect("the published mnemonic gives keys in a writable folder"))))
}

fn derive() -> Result<Keys, WalletError> {
    let folder = tempfile::tempdir().map_err(|source| WalletError::Checkpoint {
        operation: "make a folder for",
        path: PathBuf::new(),
        source,
    })?;
    let text = |words: &str| SecretString::from(words.to_owned());
    let mnemonic = text("test test test test test test test test test test test junk");
    let store =
        KeyStore::import(&folder.path().join("keys.age"), &text("simulation"), WorkFactor::DEMONSTRATION, &mnemonic)?;
    Keys::derive(&store)
}

impl House {
    /// The bank with `partitions` shards of each machine, without `without`.
    ///
    /// # Panics
    /// The policy of the tests is not fit to be in force.
    #[must_use]
    pub fn new(partitions: u32, without: Option<Defence>) -> Self {
        let keys = keys();
        let mut rules = policy();
        rules.partitions = partitions;
        rules.approval_wait = APPROVAL_WAIT;
        rules.attester = Some(keys.attestation_key().to_bytes());
        let names: &[&str] = if without == Some(Defence::AllNodesAgree) { &["a"] } else { &NODES };
        for entry in rules.chains.values_mut() {
            entry.hot = keys.payer();
            entry.mark_every = MARK_EVERY;
            entry.nodes = names.iter().map(|name| NodeName::new(name).expect("a valid name")).collect();
        }
        for entry in rules.assets.values_mut() {
            entry.confirmations = if without == Some(Defence::FinalityWait) { 1 } else { CONFIRMATIONS };
        }
        let signed = rules.sign(&policy_root()).expect("a policy that is fit to be in force");
        Self { policy: rules, signed, keys, without }
    }

    /// The policy after the one in force: another version of the same.
    ///
    /// # Panics
    /// It is not fit to be in force.
    #[must_use]
    pub fn next_policy(&self) -> SignedPolicy {
        let next = Policy { version: self.policy.version.saturating_add(1), ..self.policy.clone() };
        next.sign(&policy_root()).expect("a policy that is fit to be in force")
    }

    /// The hot address.
    #[must_use]
    pub fn hot(&self) -> EthAddress {
        self.keys.payer()
    }

    /// The token's contract, as the policy has it.
    #[must_use]
    pub fn token(&self) -> EthAddress {
        let kinds = self.policy.assets.values().map(|entry| &entry.asset.kind);
        let mut contracts = kinds.filter_map(|kind| match kind {
            AssetKind::Erc20 { contract } => Some(*contract),
            AssetKind::Native => None,
        });
        contracts.next().unwrap_or_else(|| address("tusd"))
    }

    /// The chain at its beginning, at this date in seconds.
    #[must_use]
    pub fn network(&self, time: u64) -> SharedNetwork {
        SharedNetwork::new(NetworkSettings {
            chain: CHAIN_NUMBER,
            token: Address::from(self.token().0),
            nodes: NODES.map(str::to_owned).to_vec(),
            time,
            base_fee: BASE_FEE,
            endowed: Vec::new(),
            block_most: BLOCK_MOST,
        })
    }

    /// The adapter's nodes, over the network itself.
    #[must_use]
    pub fn nodes(&self, network: &SharedNetwork) -> Nodes {
        let config = BlockchainConfig {
            chains: vec![ChainConfig {
                chain: chain(),
                number: CHAIN_NUMBER,
                nodes: NODES.map(node).to_vec(),
                start_block: 1,
                poll: POLL,
                request_timeout: Duration::from_secs(10),
                native: asset("ETH"),
                tokens: BTreeMap::from([(self.token(), asset("TUSD"))]),
                tip_floor: 1,
            }],
        };
        Nodes::over(&config, |_, name| {
            let place = NODES.iter().position(|known| *known == name.as_str()).unwrap_or_default();
            BoxTransport::new(Wire::new(network.clone(), place))
        })
    }

    /// The screener: one address is refused, and nobody sends more than a limit.
    ///
    /// # Panics
    /// The list of this file is malformed.
    #[must_use]
    pub fn compliance(&self) -> Compliance {
        let list = format!(
            "name = \"house\"\nversion = \"1\"\n[[address]]\nchain = \"{}\"\naddress = \"{}\"\ncode = \"sanctioned-address\"\n",
            chain(),
            address(SANCTIONED),
        );
        let mut lists = Lists::default();
        lists.add(Path::new("house.toml"), &list).expect("a list");
        Compliance::of(lists)
    }

    /// The signer's configuration. Its paths lead nowhere: what is kept there stands in memory.
    #[must_use]
    pub fn wallet(&self) -> WalletConfig {
        WalletConfig {
            keystore: PathBuf::new(),
            passphrase: PassphraseSource::File(PathBuf::new()),
            guard: GuardUrl::new(String::new()),
            checkpoint: PathBuf::new(),
            policy_root: policy_root().verifying_key(),
            tenant: tenant(),
            chains: vec![chain()],
            house_intents_per_day: 1_000,
        }
    }
}

fn node(name: &str) -> NodeConfig {
    NodeConfig { name: NodeName::new(name).expect("a valid name"), url: NodeUrl::new(String::new()) }
}
