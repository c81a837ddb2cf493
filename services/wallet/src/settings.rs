//! The signer's settings, checked together before anything is opened. Nothing here has a default.

use std::fmt;
use std::path::PathBuf;

use custos_domain::{ChainId, TenantId};
use custos_runtime::settings::Problems;
use ed25519_dalek::VerifyingKey;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::WalletError;

/// The section `wallet` of a configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalletSettings {
    /// The encrypted seed.
    pub keystore: PathBuf,
    /// A file that holds the passphrase; this or `passphrase_env`.
    pub passphrase_file: Option<PathBuf>,
    /// An environment variable that holds the passphrase; this or `passphrase_file`.
    pub passphrase_env: Option<String>,
    /// The guard's database: `postgres://…` or `sqlite:///absolute/path`.
    pub guard: GuardUrl,
    /// This process's own checkpoint file, on another disk than the guard's database.
    pub checkpoint: PathBuf,
    /// The Ed25519 public key that policies are signed by: 64 hexadecimal digits.
    pub policy_root: String,
    /// The bank.
    pub tenant: String,
    /// Chains to sign for, such as `eip155:1`.
    pub chains: Vec<String>,
    /// First signatures of house intents in a day, per wallet.
    pub house_intents_per_day: u32,
}

/// [`WalletSettings`], checked.
#[derive(Clone, Debug)]
pub struct WalletConfig {
    /// The encrypted seed.
    pub keystore: PathBuf,
    /// Where its passphrase is.
    pub passphrase: PassphraseSource,
    /// The guard's database.
    pub guard: GuardUrl,
    /// This process's own checkpoint file.
    pub checkpoint: PathBuf,
    /// The key that policies are signed by.
    pub policy_root: VerifyingKey,
    /// The bank.
    pub tenant: TenantId,
    /// Chains to sign for.
    pub chains: Vec<ChainId>,
    /// First signatures of house intents in a day, per wallet.
    pub house_intents_per_day: u32,
}

/// The address of the guard's database: `postgres://…` or `sqlite:///absolute/path`. May hold a password, so it is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct GuardUrl(String);

/// Where a passphrase is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassphraseSource {
    /// In a file; a line break at its end does not count.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

impl WalletSettings {
    /// The typed configuration; whatever is wrong goes to `problems`.
    pub fn check(&self, problems: &mut Problems) -> Option<WalletConfig> {
        let passphrase = match (&self.passphrase_file, &self.passphrase_env) {
            (Some(path), None) => Ok(PassphraseSource::File(path.clone())),
            (None, Some(name)) => Ok(PassphraseSource::Variable(name.clone())),
            _ => Err("exactly one of `passphrase_file` and `passphrase_env` is needed"),
        };
        let passphrase = problems.take("wallet.passphrase", passphrase);
        let guard = problems.take("wallet.guard", self.guard.usable());
        let policy_root = problems.take("wallet.policy_root", public_key(&self.policy_root));
        let tenant = problems.take("wallet.tenant", TenantId::new(&self.tenant));
        if self.chains.is_empty() {
            problems.add("wallet.chains", "at least one chain is needed");
        }
        let chains: Vec<Option<ChainId>> =
            self.chains.iter().map(|name| problems.take("wallet.chains", ethereum(name))).collect();
        Some(WalletConfig {
            keystore: self.keystore.clone(),
            passphrase: passphrase?,
            guard: guard?,
            checkpoint: self.checkpoint.clone(),
            policy_root: policy_root?,
            tenant: tenant?,
            chains: chains.into_iter().collect::<Option<_>>().filter(|known: &Vec<_>| !known.is_empty())?,
            house_intents_per_day: self.house_intents_per_day,
        })
    }
}

impl GuardUrl {
    /// An address; [`WalletSettings::check`] judges it.
    #[must_use]
    pub const fn new(url: String) -> Self {
        Self(url)
    }

    /// The address with its secrets.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    fn usable(&self) -> Result<Self, &'static str> {
        let url = self.expose();
        let postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
        let in_memory = url.contains(":memory:") || url.contains("mode=memory");
        if postgres || (url.starts_with("sqlite:///") && !in_memory) {
            Ok(self.clone())
        } else {
            Err("is postgres://… or sqlite:///absolute/path; a guard in memory guards nothing")
        }
    }
}

impl fmt::Debug for GuardUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split_once(':').map_or("", |(scheme, _)| scheme);
        write!(f, "GuardUrl({scheme}:…)")
    }
}

impl PassphraseSource {
    /// Reads the passphrase.
    ///
    /// # Errors
    /// Unreadable, or empty.
    pub fn read(&self) -> Result<SecretString, WalletError> {
        let text = Zeroizing::new(match self {
            Self::File(path) => {
                std::fs::read_to_string(path).map_err(|source| WalletError::PassphraseFile { path: path.clone(), source })?
            }
            Self::Variable(name) => {
                std::env::var(name).map_err(|source| WalletError::PassphraseVariable { name: name.clone(), source })?
            }
        });
        let passphrase = SecretString::from(text.trim_end_matches(['\r', '\n']).to_owned());
        if passphrase.expose_secret().is_empty() { Err(WalletError::PassphraseEmpty) } else { Ok(passphrase) }
    }
}

fn public_key(digits: &str) -> Result<VerifyingKey, &'static str> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| "is 64 hexadecimal digits")?;
    VerifyingKey::from_bytes(&bytes).map_err(|_| "is not an Ed25519 public key")
}

fn ethereum(name: &str) -> Result<ChainId, String> {
    let chain = ChainId::new(name).map_err(|error| error.to_string())?;
    match chain.eip155_number() {
        // Only the canonical spelling: `eip155:01` would be another wallet of the same chain.
        Some(number) if ChainId::eip155(number) == chain => Ok(chain),
        _ => Err(format!("`{name}` is not eip155: and a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        keystore = "/var/lib/custos/keys.age"
        passphrase_file = "/run/secrets/passphrase"
        guard = "postgres://guard"
        checkpoint = "/var/lib/custos/checkpoint"
        policy_root = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        tenant = "alpha"
        chains = ["eip155:1"]
        house_intents_per_day = 10
    "#;

    #[test]
    fn good_settings_are_typed() {
        let mut problems = Problems::default();
        let config = toml::from_str::<WalletSettings>(GOOD).unwrap().check(&mut problems).unwrap();
        assert!(problems.is_empty());
        assert_eq!(format!("{:?}", config.guard), "GuardUrl(postgres:…)");
        assert_eq!(config.chains, [ChainId::eip155(1)]);
        assert_eq!(config.passphrase, PassphraseSource::File("/run/secrets/passphrase".into()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let bad = GOOD
            .replace("passphrase_file = \"/run/secrets/passphrase\"", "")
            .replace("postgres://guard", "sqlite::memory:")
            .replace("d75a98", "zz5a98")
            .replace("\"alpha\"", "\"Alpha\"")
            .replace("eip155:1", "eip155:01");
        let mut problems = Problems::default();
        assert!(toml::from_str::<WalletSettings>(&bad).unwrap().check(&mut problems).is_none());
        assert_eq!(problems.lines().len(), 5, "{:?}", problems.lines());
    }

    #[test]
    fn an_unknown_setting_and_a_missing_one_are_refused() {
        assert!(toml::from_str::<WalletSettings>(&format!("{GOOD}\nkeystor = 1")).is_err());
        assert!(toml::from_str::<WalletSettings>(&GOOD.replace("house_intents_per_day = 10", "")).is_err());
    }
}
