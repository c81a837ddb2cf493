//! List files: addresses that must not be paid or taken from, and limits per account and day, each file with a name and a version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use custos_domain::{Amount, AssetId, ChainId, Digest, EthAddress};
use serde::Deserialize;

/// A list file as written, in TOML.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListFile {
    /// What the list is.
    pub name: String,
    /// Which edition. Raised by whoever releases the list.
    pub version: String,
    /// Addresses.
    #[serde(default)]
    pub address: Vec<AddressEntry>,
    /// Limits.
    #[serde(default)]
    pub velocity: Vec<VelocityEntry>,
}

/// An address that must not be dealt with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressEntry {
    /// CAIP-2.
    pub chain: String,
    /// The address, in any case.
    pub address: String,
    /// Why, such as `sanctioned-address`.
    pub code: String,
}

/// The most that an account may send out in 24 hours.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VelocityEntry {
    /// The asset.
    pub asset: String,
    /// In base units.
    pub max_base_units: String,
    /// Payments.
    pub max_count: u32,
}

/// A limit in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The most, in base units, within 24 hours.
    pub amount: Amount,
    /// The most payments within 24 hours.
    pub count: u32,
}

/// All lists in force.
#[derive(Debug, Default)]
pub struct Lists {
    addresses: BTreeMap<(ChainId, EthAddress), BTreeSet<String>>,
    limits: BTreeMap<AssetId, Limit>,
    versions: Vec<String>,
    stamps: Vec<Option<SystemTime>>,
}

/// Why a list is not in force.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// No list is configured.
    #[error("no list is configured: screening by nothing is not screening")]
    None,
    /// The file cannot be read.
    #[error("the list {path} cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a list.
    #[error("the list {path} is malformed")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// An entry means nothing.
    #[error("the list {path}: `{entry}` is not {expected}")]
    Entry {
        /// Which.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl Lists {
    /// Reads all files, whole or not at all.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn read(paths: &[PathBuf]) -> Result<Self, ListError> {
        if paths.is_empty() {
            return Err(ListError::None);
        }
        let mut lists = Self { stamps: stamps(paths)?, ..Self::default() };
        for path in paths {
            let text = std::fs::read_to_string(path).map_err(|source| ListError::Read { path: path.clone(), source })?;
            lists.add(path, &text)?;
        }
        lists.versions.sort();
        Ok(lists)
    }

    /// Adds one list.
    ///
    /// # Errors
    /// A text that is not a list, or an entry that means nothing.
    pub fn add(&mut self, path: &Path, text: &str) -> Result<(), ListError> {
        let malformed = |source| ListError::Malformed { path: path.to_owned(), source: Box::new(source) };
        let file: ListFile = toml::from_str(text).map_err(malformed)?;
        let wrong = |entry: &str, expected| ListError::Entry { path: path.to_owned(), entry: entry.to_owned(), expected };
        if file.name.is_empty() || file.version.is_empty() {
            return Err(wrong(&file.name, "a list with a name and a version"));
        }
        for AddressEntry { chain, address, code } in file.address {
            let chain = ChainId::new(&chain).map_err(|_| wrong(&chain, "a CAIP-2 chain"))?;
            let address = EthAddress::parse(&address).map_err(|_| wrong(&address, "an address"))?;
            self.addresses.entry((chain, address)).or_default().insert(code);
        }
        for VelocityEntry { asset, max_base_units, max_count } in file.velocity {
            let asset = AssetId::new(&asset).map_err(|_| wrong(&asset, "an asset code"))?;
            let amount = Amount::parse(&max_base_units, 0).map_err(|_| wrong(&max_base_units, "an amount in base units"))?;
            let limit = self.limits.entry(asset).or_insert(Limit { amount, count: max_count });
            limit.amount = limit.amount.min(amount);
            limit.count = limit.count.min(max_count);
        }
        let digest = Digest::of(text.as_bytes()).to_string();
        let short: String = digest.chars().take(12).collect();
        self.versions.push(format!("{}@{}+{short}", file.name, file.version));
        Ok(())
    }

    /// Whether a file was changed since it was read.
    ///
    /// # Errors
    /// A file is gone.
    pub fn changed(&self, paths: &[PathBuf]) -> Result<bool, ListError> {
        Ok(stamps(paths)? != self.stamps)
    }

    /// Name, version and digest of every list, sorted.
    #[must_use]
    pub fn versions(&self) -> Vec<String> {
        self.versions.clone()
    }

    /// Why `address` must not be dealt with; empty when nothing is known against it.
    pub fn against(&self, chain: &ChainId, address: &EthAddress) -> impl Iterator<Item = &String> {
        self.addresses.get(&(chain.clone(), *address)).into_iter().flatten()
    }

    /// The limit of `asset`.
    #[must_use]
    pub fn limit(&self, asset: &AssetId) -> Option<Limit> {
        self.limits.get(asset).copied()
    }
}

fn stamps(paths: &[PathBuf]) -> Result<Vec<Option<SystemTime>>, ListError> {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).map_err(|source| ListError::Read { path: path.clone(), source })?;
        Ok(metadata.modified().ok())
    };
    paths.iter().map(stamp).collect()
}
