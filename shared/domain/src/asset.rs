//! What money is made of: assets, and the chains that they live on.

use std::fmt;

use smol_str::SmolStr;

use crate::EthAddress;

/// A chain by its CAIP-2 name, such as `eip155:1`. At most 41 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(SmolStr);

/// An asset by its code in the bank's registry, such as `ETH`: 1 to 16 of `A-Z`, `0-9`, `-`, `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssetId(SmolStr);

/// How an asset exists on its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssetKind {
    /// The chain's own coin, which also pays its fees.
    Native,
    /// An ERC-20 token at `contract`.
    Erc20 {
        /// The token's contract.
        contract: EthAddress,
    },
}

/// An entry of the asset registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// The code that the bank uses.
    pub id: AssetId,
    /// Where it lives.
    pub chain: ChainId,
    /// What it is there.
    pub kind: AssetKind,
    /// Decimals between the printed number and the smallest unit.
    pub decimals: u8,
}

/// Why a text is not an asset or chain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssetError {
    /// Not an asset code.
    #[error("`{0}` is not an asset code: 1 to 16 of A-Z, 0-9, '-' and '.'")]
    Code(String),
    /// Not a CAIP-2 chain.
    #[error("`{0}` is not a CAIP-2 chain such as `eip155:1`")]
    Chain(String),
}

impl AssetId {
    /// Reads an asset code.
    pub fn new(code: &str) -> Result<Self, AssetError> {
        let allowed = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
        if (1..=16).contains(&code.len()) && code.bytes().all(allowed) {
            Ok(Self(code.into()))
        } else {
            Err(AssetError::Code(code.chars().take(40).collect()))
        }
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ChainId {
    /// Reads a CAIP-2 name: `namespace:reference`. Of `eip155` the reference is a number without leading zeros.
    pub fn new(name: &str) -> Result<Self, AssetError> {
        let refused = || AssetError::Chain(name.chars().take(60).collect());
        let (namespace, reference) = name.split_once(':').ok_or_else(refused)?;
        let namespace_ok = (3..=8).contains(&namespace.len())
            && namespace.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let reference_ok = (1..=32).contains(&reference.len())
            && reference.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        // A chain has one name: `eip155:01` would be another name of `eip155:1`, under which nothing is ever found.
        let one_name = namespace != "eip155" || reference.parse::<u64>().is_ok_and(|number| number.to_string() == reference);
        if namespace_ok && reference_ok && one_name { Ok(Self(name.into())) } else { Err(refused()) }
    }

    /// The chain with the EIP-155 number `number`.
    #[must_use]
    pub fn eip155(number: u64) -> Self {
        Self(smol_str::format_smolstr!("eip155:{number}"))
    }

    /// The EIP-155 number, if this is an Ethereum-like chain.
    #[must_use]
    pub fn eip155_number(&self) -> Option<u64> {
        self.0.strip_prefix("eip155:")?.parse().ok()
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
