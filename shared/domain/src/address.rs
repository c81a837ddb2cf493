//! Ethereum addresses with their checksum.

use std::fmt;

use sha3::{Digest, Keccak256};

/// A 20-byte Ethereum address. Printed with the mixed-case checksum of EIP-55.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EthAddress(pub [u8; 20]);

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `0x` and 40 hexadecimal digits.
    #[error("an address is 0x and 40 hexadecimal digits")]
    Malformed,
    /// The case of the letters contradicts EIP-55. All-lower and all-upper case carry no checksum and are refused where
    /// money would be sent.
    #[error("the address fails its EIP-55 checksum")]
    Checksum,
}

impl EthAddress {
    /// Reads an address and insists on its EIP-55 checksum: what a person types must prove that it was copied whole.
    pub fn parse_checksummed(text: &str) -> Result<Self, AddressError> {
        let address = Self::parse(text)?;
        if address.to_string() == text { Ok(address) } else { Err(AddressError::Checksum) }
    }

    /// Reads an address in any case: for configuration and machine-made texts.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let digits = text.strip_prefix("0x").ok_or(AddressError::Malformed)?;
        let mut bytes = [0; 20];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| AddressError::Malformed)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for EthAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lower = hex::encode(self.0);
        let hash = hex::encode(Keccak256::digest(lower.as_bytes()));
        f.write_str("0x")?;
        lower.chars().zip(hash.chars()).try_for_each(|(letter, nibble)| {
            let upper = nibble >= '8';
            write!(f, "{}", if upper { letter.to_ascii_uppercase() } else { letter })
        })
    }
}

impl fmt::Debug for EthAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eip_55_vectors_hold_and_every_other_case_is_refused() {
        for text in [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        ] {
            assert_eq!(EthAddress::parse_checksummed(text).map(|a| a.to_string()), Ok(text.to_owned()));
            assert_eq!(EthAddress::parse_checksummed(&text.to_lowercase()), Err(AddressError::Checksum));
            assert_eq!(EthAddress::parse(&text.to_lowercase()), EthAddress::parse(text));
        }
        for text in ["", "0x", "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe"] {
            assert_eq!(EthAddress::parse(text), Err(AddressError::Malformed), "{text:?}");
        }
    }
}
