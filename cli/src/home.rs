//! A fresh installation in a folder: keys, keystore, officers, API keys, lists, signed policy and the configuration that names them.
//!
//! What `custos init` makes, and what the demonstration runs on. Every secret is new; nothing that exists is overwritten.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Args;
use custos_domain::{Amount, Asset, AssetId, AssetKind, ChainId, EthAddress, Millis, NodeName, OfficerId, TenantId};
use custos_gateway::{ApiKey, Role};
use custos_policy::{AssetPolicy, ChainPolicy, Policy};
use custos_wallet::{KeyStore, WorkFactor, attestation_key, hot_address};
use secrecy::{ExposeSecret, SecretString};

use crate::policy::write_signed;
use crate::say;
use crate::secrets::{create_keyring, create_signing_key, write_secret};

/// What `custos init` is told.
#[derive(Args, Clone)]
pub struct PlanArgs {
    /// The bank.
    #[arg(long, default_value = "alpha")]
    tenant: String,
    /// EIP-155 chain number.
    #[arg(long, default_value_t = 31_337)]
    chain: u64,
    /// The first block to look at; nothing before it is reported.
    #[arg(long, default_value_t = 0)]
    start_block: u64,
    /// A node, as NAME=URL; one or two.
    #[arg(long = "node", required = true)]
    nodes: Vec<String>,
    /// A listed token, as CODE=0xCONTRACT:DECIMALS.
    #[arg(long = "token")]
    tokens: Vec<String>,
    /// Kafka's brokers; without it, the embedded journal.
    #[arg(long)]
    kafka: Option<String>,
    /// PostgreSQL for read model and guard; without it, SQLite files.
    #[arg(long)]
    postgres: Option<String>,
    /// Shards of each machine; never changes.
    #[arg(long, default_value_t = 2)]
    partitions: u32,
    /// Where REST listens.
    #[arg(long, default_value = "127.0.0.1:7080")]
    gateway: SocketAddr,
    /// Where health and metrics listen.
    #[arg(long, default_value = "127.0.0.1:7081")]
    health: SocketAddr,
    /// Where operators' questions are answered.
    #[arg(long, default_value = "127.0.0.1:7082")]
    ops: SocketAddr,
    /// Blocks until money is final.
    #[arg(long, default_value_t = 12)]
    confirmations: u32,
    /// An address that screening refuses.
    #[arg(long = "refuse")]
    refused: Vec<String>,
    /// The short waits of a demonstration.
    #[arg(long)]
    fast: bool,
}

/// `custos init`.
///
/// # Errors
/// An argument means nothing, or the folder holds an installation.
pub fn init(folder: &Path, args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let home = create(folder, &args.plan()?)?;
    say(&format!("installation in {}", home.folder.display()));
    say(&format!("next: custos topics --config {0} && custos serve all --config {0}", home.config.display()));
    Ok(ExitCode::SUCCESS)
}

impl PlanArgs {
    fn plan(&self) -> anyhow::Result<Plan> {
        let log = match &self.kafka {
            Some(brokers) => format!("kafka = \"{brokers}\""),
            None => "embedded = \"journal\"".to_owned(),
        };
        let pair = |text: &String| -> anyhow::Result<(String, String)> {
            let (name, url) = text.split_once('=').with_context(|| format!("`{text}` is not NAME=URL"))?;
            Ok((name.to_owned(), url.to_owned()))
        };
        Ok(Plan {
            tenant: TenantId::new(&self.tenant)?,
            chain_number: self.chain,
            start_block: self.start_block,
            nodes: self.nodes.iter().map(pair).collect::<anyhow::Result<_>>()?,
            tokens: self.tokens.iter().map(|text| TokenPlan::parse(text)).collect::<anyhow::Result<_>>()?,
            log,
            postgres: self.postgres.clone(),
            partitions: self.partitions,
            pace: Pace { confirmations: self.confirmations, ..if self.fast { Pace::FAST } else { Pace::PRODUCTION } },
            ports: Ports { gateway: self.gateway, health: self.health, ops: self.ops },
            work: if self.fast { WorkFactor::DEMONSTRATION } else { WorkFactor::PRODUCTION },
            refused: self.refused.iter().map(|text| EthAddress::parse(text)).collect::<Result<_, _>>()?,
        })
    }
}

impl TokenPlan {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let wrong = || anyhow!("`{text}` is not CODE=0xCONTRACT:DECIMALS");
        let (code, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (contract, decimals) = rest.rsplit_once(':').ok_or_else(wrong)?;
        Ok(Self { asset: AssetId::new(code)?, contract: EthAddress::parse(contract)?, decimals: decimals.parse()? })
    }
}

impl Pace {
    /// Waits that a person can sit through.
    pub const FAST: Self = Self {
        confirmations: 3,
        poll_ms: 100,
        fee_wait: Millis::seconds(8),
        fee_every: Millis(500),
        resend_every: Millis::seconds(1),
        bump_after: Millis::seconds(3),
    };
    /// Waits to begin with on a real chain.
    pub const PRODUCTION: Self = Self {
        confirmations: 12,
        poll_ms: 1_000,
        fee_wait: Millis::minutes(30),
        fee_every: Millis::seconds(15),
        resend_every: Millis::seconds(30),
        bump_after: Millis::minutes(3),
    };
}

/// A token to list.
#[derive(Clone, Debug)]
pub struct TokenPlan {
    /// Its asset code.
    pub asset: AssetId,
    /// Its contract.
    pub contract: EthAddress,
    /// Its decimals.
    pub decimals: u8,
}

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The bank.
    pub tenant: TenantId,
    /// EIP-155 chain number.
    pub chain_number: u64,
    /// The first block to report.
    pub start_block: u64,
    /// The chain's nodes by name.
    pub nodes: Vec<(String, String)>,
    /// Listed tokens.
    pub tokens: Vec<TokenPlan>,
    /// `embedded = "…"` or `kafka = "…"`.
    pub log: String,
    /// The read model's and the guard's databases; SQLite files in the folder when absent.
    pub postgres: Option<String>,
    /// Shards of each machine.
    pub partitions: u32,
    /// Waits and depths.
    pub pace: Pace,
    /// The gateway's, health's and operators' ports.
    pub ports: Ports,
    /// How hard the keystore's passphrase is to guess.
    pub work: WorkFactor,
    /// Addresses that screening refuses.
    pub refused: Vec<EthAddress>,
}

/// Where a process listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// REST.
    pub gateway: SocketAddr,
    /// Health and metrics.
    pub health: SocketAddr,
    /// Operators' questions.
    pub ops: SocketAddr,
}

/// Waits and depths of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Blocks until money is final.
    pub confirmations: u32,
    /// How often nodes are asked for news.
    pub poll_ms: u64,
    /// How long a payment waits for its fee.
    pub fee_wait: Millis,
    /// How often the fee is asked again.
    pub fee_every: Millis,
    /// How often bytes are sent again.
    pub resend_every: Millis,
    /// How long a payment stays out of a block before its fee is raised.
    pub bump_after: Millis,
}

/// A made installation.
#[derive(Clone, Debug)]
pub struct Home {
    /// Its folder.
    pub folder: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// The back office's API key.
    pub api_key: String,
    /// The key that officers' decisions come in with: whoever asks for a payment does not approve it.
    pub officer_api_key: String,
    /// The policy in force.
    pub policy: Policy,
}

/// The officers of a fresh installation; two of them must agree.
pub const OFFICERS: [&str; 3] = ["anna", "bert", "cora"];

/// Makes an installation in `folder`.
///
/// # Errors
/// Something exists already, or cannot be written.
pub fn create(folder: &Path, plan: &Plan) -> anyhow::Result<Home> {
    std::fs::create_dir_all(folder)?;
    let folder = folder.canonicalize()?;
    create_keyring(&folder.join("keys"))?;
    let signer = keystore(&folder, plan)?;
    let root = create_signing_key(&folder.join("policy-root.key"))?;
    std::fs::create_dir_all(folder.join("officers"))?;
    let mut officers = BTreeMap::new();
    for name in OFFICERS {
        let key = create_signing_key(&folder.join("officers").join(format!("{name}.key")))?;
        officers.insert(OfficerId::new(name)?, key.verifying_key().to_bytes());
    }
    let policy = policy(plan, signer, officers)?;
    std::fs::write(folder.join("policy.toml"), policy.to_toml())?;
    write_signed(&policy, &root, &folder.join("policy.signed.json"))?;
    std::fs::write(folder.join("list.toml"), list(plan))?;
    let (api_key, officer_api_key) = api_keys(&folder)?;
    let config = folder.join("custos.toml");
    let text = configuration(&folder, plan, &hex::encode(root.verifying_key().to_bytes()));
    std::fs::write(&config, text).with_context(|| format!("{} cannot be written", config.display()))?;
    write_secret(&folder.join("api-key.txt"), &api_key)?;
    write_secret(&folder.join("officer-api-key.txt"), &officer_api_key)?;
    Ok(Home { folder, config, api_key, officer_api_key, policy })
}

/// What a policy says of the signer: the hot address, and the key that attests addresses.
struct SignerKeys {
    hot: EthAddress,
    attester: [u8; 32],
}

fn keystore(folder: &Path, plan: &Plan) -> anyhow::Result<SignerKeys> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no randomness: {error}"))?;
    let passphrase = SecretString::from(hex::encode(bytes));
    write_secret(&folder.join("passphrase"), passphrase.expose_secret())?;
    let store = KeyStore::create_with(&folder.join("keystore.age"), &passphrase, plan.work)?;
    let hot = hot_address(&store, &ChainId::eip155(plan.chain_number))?;
    Ok(SignerKeys {
        hot: hot.context("the signer has no hot address on this chain")?,
        attester: attestation_key(&store).context("the signer's attestation key")?,
    })
}

fn api_keys(folder: &Path) -> anyhow::Result<(String, String)> {
    let bank = ApiKey::generate("bank", Role::Bank)?;
    let officers = ApiKey::generate("officers", Role::Officer)?;
    write_secret(&folder.join("api-keys.toml"), &format!("{}\n{}", bank.entry.to_toml(), officers.entry.to_toml()))?;
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| anyhow!("no randomness: {error}"))?;
    write_secret(&folder.join("cursor-secret"), &hex::encode(secret))?;
    Ok((bank.text.to_string(), officers.text.to_string()))
}

fn policy(plan: &Plan, signer: SignerKeys, officers: BTreeMap<OfficerId, [u8; 32]>) -> anyhow::Result<Policy> {
    let chain = ChainId::eip155(plan.chain_number);
    let native = AssetId::new("ETH")?;
    let mut assets = BTreeMap::new();
    let mut list = |id: &AssetId, kind: AssetKind, decimals: u8, limit: &str| -> anyhow::Result<()> {
        let asset = Asset { id: id.clone(), chain: chain.clone(), kind, decimals };
        let approval_from = Amount::parse(limit, decimals)?;
        assets.insert(id.clone(), AssetPolicy { asset, confirmations: plan.pace.confirmations, approval_from });
        Ok(())
    };
    list(&native, AssetKind::Native, 18, "5")?;
    for token in &plan.tokens {
        list(&token.asset, AssetKind::Erc20 { contract: token.contract }, token.decimals, "10000")?;
    }
    let nodes = plan.nodes.iter().map(|(name, _)| NodeName::new(name)).collect::<Result<Vec<_>, _>>()?;
    let on_chain = ChainPolicy {
        native,
        hot: signer.hot,
        nodes,
        kept_blocks: 64,
        mark_every: 1,
        fee_max: Amount::parse("0.1", 18)?,
        house_fee_max: Amount::parse("0.05", 18)?,
        fee_wait: plan.pace.fee_wait,
        fee_every: plan.pace.fee_every,
        resend_every: plan.pace.resend_every,
        bump_after: plan.pace.bump_after,
    };
    let policy = Policy {
        version: 1,
        tenant: plan.tenant.clone(),
        partitions: plan.partitions,
        chains: BTreeMap::from([(chain, on_chain)]),
        assets,
        officers,
        quorum: 2,
        approval_wait: Millis::hours(24),
        screening_wait: Millis::minutes(15),
        intent_validity: Millis::hours(48),
        attester: Some(signer.attester),
    };
    policy.check()?;
    Ok(policy)
}

fn list(plan: &Plan) -> String {
    let mut text = "# Addresses that must not be dealt with, and limits for each account and 24 hours.\n\
                    name = \"house-list\"\nversion = \"1\"\n"
        .to_owned();
    for address in &plan.refused {
        let chain = plan.chain_number;
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "\n[[address]]\nchain = \"eip155:{chain}\"\naddress = \"{address}\"\ncode = \"sanctioned-address\"\n"
        );
    }
    text.push_str("\n[[velocity]]\nasset = \"ETH\"\nmax_base_units = \"1000000000000000000000\"\nmax_count = 1000\n");
    text
}

fn configuration(folder: &Path, plan: &Plan, root: &str) -> String {
    let database = |name: &str| match &plan.postgres {
        Some(url) => url.clone(),
        None => format!("sqlite://{}", folder.join(name).display()),
    };
    let mut text = format!(
        r#"# Every setting is explained in custos.example.toml. Paths are relative to this file.
tenant = "{tenant}"
member = "custos-1"
keys = "keys"
policy = "policy.signed.json"
policy_root = "{root}"
read_model = "{read_model}"

[log]
{log}
partitions = {partitions}
gateways = 4
replication = 1

[process]
health = "{health}"
ops = "{ops}"

[telemetry]
filter = "info"
format = "text"

[wallet]
keystore = "keystore.age"
passphrase_file = "passphrase"
guard = "{guard}"
checkpoint = "guard.checkpoint"
policy_root = "{root}"
tenant = "{tenant}"
chains = ["eip155:{chain}"]
house_intents_per_day = 100

[compliance]
lists = ["list.toml"]

[gateway]
listen = "{gateway}"
instance = 0
api_keys = "api-keys.toml"
cursor_secret = "cursor-secret"
blockchain = "{ops}"

[[blockchain.chains]]
chain = "eip155:{chain}"
start_block = {start_block}
poll_ms = {poll}
request_timeout_ms = 10000
native = "ETH"
tip_floor_wei = 1000000000
"#,
        tenant = plan.tenant,
        read_model = database("read-model.sqlite"),
        log = plan.log,
        partitions = plan.partitions,
        health = plan.ports.health,
        ops = plan.ports.ops,
        guard = database("guard.sqlite"),
        chain = plan.chain_number,
        gateway = plan.ports.gateway,
        start_block = plan.start_block,
        poll = plan.pace.poll_ms,
    );
    for (name, url) in &plan.nodes {
        let _ = write!(text, "\n[[blockchain.chains.nodes]]\nname = \"{name}\"\nurl = \"{url}\"\n");
    }
    for token in &plan.tokens {
        let _ =
            write!(text, "\n[[blockchain.chains.tokens]]\nasset = \"{}\"\ncontract = \"{}\"\n", token.asset, token.contract);
    }
    text
}
