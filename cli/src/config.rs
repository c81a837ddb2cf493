//! The configuration file: parsed once into types, every problem reported together, before any port opens.
//!
//! Paths in the file are relative to the folder that holds it. Nothing that guards money has a default. Limits, quorums and finality
//! are not configuration: they are signed policy in the log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use custos_blockchain::{BlockchainConfig, BlockchainSettings};
use custos_domain::TenantId;
use custos_gateway::{CheckedGateway, GatewaySettings};
use custos_journal::Provision;
use custos_runtime::settings::Problems;
use custos_runtime::standby::StandbySettings;
use custos_runtime::telemetry::LogFormat;
use custos_wallet::{WalletConfig, WalletSettings};
use ed25519_dalek::VerifyingKey;
use serde::Deserialize;

/// Environment variables that `custos` knows; any other that begins with `CUSTOS_` is an error.
const VARIABLES: [&str; 3] = ["CUSTOS_CONFIG", "CUSTOS_API_KEY", "CUSTOS_GATEWAY"];

/// The file as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    tenant: String,
    member: String,
    keys: PathBuf,
    policy: PathBuf,
    policy_root: String,
    read_model: Option<String>,
    log: LogSettings,
    process: ProcessSettings,
    telemetry: Option<TelemetrySettings>,
    wallet: Option<WalletSettings>,
    compliance: Option<ComplianceSettings>,
    blockchain: Option<BlockchainSettings>,
    gateway: Option<GatewaySettings>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSettings {
    kafka: Option<String>,
    embedded: Option<PathBuf>,
    partitions: u32,
    gateways: u32,
    replication: u16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProcessSettings {
    health: String,
    ops: String,
    advertise: Option<String>,
    standby: Option<bool>,
    checkpoint_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TelemetrySettings {
    filter: String,
    format: String,
    otlp: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ComplianceSettings {
    lists: Vec<PathBuf>,
}

/// Which log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogChoice {
    /// Apache Kafka at these brokers.
    Kafka(String),
    /// The embedded journal in this folder.
    Embedded(PathBuf),
}

/// Logs and traces.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// Such as `info` or `custos_runtime=debug,info`.
    pub filter: String,
    /// For machines or people.
    pub format: LogFormat,
    /// Where spans go.
    pub otlp: Option<String>,
}

/// A checked configuration.
#[derive(Clone)]
pub struct Config {
    /// The bank.
    pub tenant: TenantId,
    /// This process's name in consumer groups.
    pub member: String,
    /// The folder of the sources' secrets.
    pub keys: PathBuf,
    /// The signed policy.
    pub policy: PathBuf,
    /// Whose signature a policy needs.
    pub policy_root: VerifyingKey,
    /// The SQL read model.
    pub read_model: Option<String>,
    /// Which log.
    pub log: LogChoice,
    /// How its topics are.
    pub provision: Provision,
    /// Health and metrics.
    pub health: SocketAddr,
    /// Operators' questions.
    pub ops: SocketAddr,
    /// How other processes reach `ops`.
    pub advertise: String,
    /// How shards of other processes are followed, and where checkpoints are kept.
    pub standby: StandbySettings,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// The signer.
    pub wallet: Option<WalletConfig>,
    /// The screener's lists.
    pub lists: Option<Vec<PathBuf>>,
    /// The chain adapter.
    pub blockchain: Option<BlockchainConfig>,
    /// The bank's door.
    pub gateway: Option<CheckedGateway>,
    /// Where the gateway listens.
    pub gateway_at: Option<SocketAddr>,
    /// Where balances are read, for `custos books`.
    pub balances_at: Option<String>,
}

impl Config {
    /// Reads and checks the file at `path`, and makes its folder the working folder.
    ///
    /// # Errors
    /// An unreadable file, text that is not such a configuration, or every problem in it, a line each.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("the configuration {} cannot be read", path.display()))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::env::set_current_dir(folder).with_context(|| format!("{} cannot be entered", folder.display()))?;
        Self::parse(&text, std::env::vars().map(|(name, _)| name))
            .with_context(|| format!("the configuration {} is not usable", path.display()))
    }

    /// Checks the text of a configuration.
    ///
    /// # Errors
    /// See [`Self::load`].
    pub fn parse(text: &str, variables: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let settings: Settings = toml::from_str(text)?;
        let mut problems = Problems::default();
        for name in variables.filter(|name| name.starts_with("CUSTOS_") && !VARIABLES.contains(&name.as_str())) {
            problems.add(&name, "is not a variable that custos knows");
        }
        match settings.check(&mut problems) {
            Some(config) if problems.is_empty() => Ok(config),
            _ => bail!("{}", problems.lines().join("\n")),
        }
    }
}

impl Settings {
    fn check(&self, problems: &mut Problems) -> Option<Config> {
        let tenant = problems.take("tenant", TenantId::new(&self.tenant));
        let policy_root = problems.take("policy_root", public_key(&self.policy_root));
        let log = problems.take("log", self.log.choice());
        let provision =
            Provision { partitions: self.log.partitions, gateways: self.log.gateways, replication: self.log.replication };
        if provision.partitions == 0 || provision.gateways == 0 || provision.replication == 0 {
            problems.add("log", "partitions, gateways and replication are at least 1");
        }
        if self.member.is_empty() {
            problems.add("member", "a process needs a name");
        }
        let health = problems.take("process.health", self.process.health.parse::<SocketAddr>());
        let ops = problems.take("process.ops", self.process.ops.parse::<SocketAddr>());
        let telemetry = problems.take("telemetry", telemetry(self.telemetry.as_ref()));
        if self.compliance.as_ref().is_some_and(|compliance| compliance.lists.is_empty()) {
            problems.add("compliance.lists", "screening by nothing is not screening");
        }
        let wallet = self.wallet.as_ref().map(|wallet| wallet.check(problems));
        let blockchain = self.blockchain.as_ref().map(|blockchain| blockchain.check(problems));
        let gateway = self.gateway.as_ref().map(|gateway| gateway.check(problems));
        let ops = ops?;
        Some(Config {
            tenant: tenant?,
            member: self.member.clone(),
            keys: self.keys.clone(),
            policy: self.policy.clone(),
            policy_root: policy_root?,
            read_model: self.read_model.clone(),
            log: log?,
            provision,
            health: health?,
            ops,
            advertise: self.process.advertise.clone().unwrap_or_else(|| ops.to_string()),
            standby: StandbySettings {
                follow: self.process.standby.unwrap_or(true),
                checkpoints: self.process.checkpoint_dir.clone(),
                ..StandbySettings::default()
            },
            telemetry: telemetry?,
            wallet: whole(wallet)?,
            lists: self.compliance.as_ref().map(|compliance| compliance.lists.clone()),
            blockchain: whole(blockchain)?,
            gateway: whole(gateway)?,
            gateway_at: self.gateway.as_ref().and_then(|gateway| gateway.listen.parse().ok()),
            balances_at: self.gateway.as_ref().map(|gateway| gateway.blockchain.clone()),
        })
    }
}

/// A section that is absent is fine; one that is present must be whole.
fn whole<T>(section: Option<Option<T>>) -> Option<Option<T>> {
    match section {
        None => Some(None),
        Some(checked) => checked.map(Some),
    }
}

impl LogSettings {
    fn choice(&self) -> Result<LogChoice, &'static str> {
        match (&self.kafka, &self.embedded) {
            (Some(brokers), None) => Ok(LogChoice::Kafka(brokers.clone())),
            (None, Some(folder)) => Ok(LogChoice::Embedded(folder.clone())),
            _ => Err("exactly one of `kafka` and `embedded` is needed"),
        }
    }
}

fn telemetry(settings: Option<&TelemetrySettings>) -> Result<TelemetryConfig, String> {
    let Some(settings) = settings else {
        return Ok(TelemetryConfig { filter: "info".to_owned(), format: LogFormat::Json, otlp: None });
    };
    let format = match settings.format.as_str() {
        "json" => LogFormat::Json,
        "text" => LogFormat::Text,
        other => return Err(format!("`{other}` is not a format: `json` or `text`")),
    };
    Ok(TelemetryConfig { filter: settings.filter.clone(), format, otlp: settings.otlp.clone() })
}

fn public_key(text: &str) -> Result<VerifyingKey, &'static str> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| "64 hexadecimal digits are needed")?;
    VerifyingKey::from_bytes(&bytes).map_err(|_| "not an Ed25519 public key")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../custos.example.toml");

    #[test]
    fn the_example_names_every_section_and_nothing_unknown() {
        let settings: Settings = toml::from_str(EXAMPLE).unwrap();
        assert!(settings.wallet.is_some() && settings.compliance.is_some());
        assert!(settings.blockchain.is_some() && settings.gateway.is_some() && settings.telemetry.is_some());
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        let text = EXAMPLE.replace("member =", "surprise = 1\nmember =");
        assert!(Config::parse(&text, std::iter::empty()).is_err());
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = EXAMPLE
            .replace("tenant = \"alpha\"", "tenant = \"Alpha!\"")
            .replace("kafka = ", "embedded = \"journal\"\nkafka = ")
            .replace("ops = \"127.0.0.1:7082\"", "ops = \"nowhere\"");
        let variables = ["CUSTOS_SURPRISE".to_owned(), "PATH".to_owned()];
        let problems = Config::parse(&text, variables.into_iter()).err().map(|error| error.to_string()).unwrap();
        for part in ["tenant", "exactly one of `kafka` and `embedded`", "process.ops", "CUSTOS_SURPRISE"] {
            assert!(problems.contains(part), "{part} is not in: {problems}");
        }
        assert!(!problems.contains("PATH"), "{problems}");
    }
}
