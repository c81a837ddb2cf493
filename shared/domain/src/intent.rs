//! An intent: what was asked for, with the most that it may cost; what officers sign and the signing guard remembers.

use crate::{Amount, AssetId, ChainId, Digest, EthAddress, IntentId, Timestamp};

/// The most that may be paid to the chain, and in which asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fee {
    /// The highest fee, in base units of `asset`.
    pub max: Amount,
    /// The asset that pays the fee: the chain's native coin.
    pub asset: AssetId,
}

/// A payment as it was asked for. Immutable: whatever differs from it is another intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Unique for ever.
    pub id: IntentId,
    /// The chain, so that an approval cannot be replayed on another.
    pub chain: ChainId,
    /// The address that pays: the hot wallet's.
    pub from: EthAddress,
    /// The address that is paid.
    pub to: EthAddress,
    /// What is paid.
    pub asset: AssetId,
    /// How much of it.
    pub amount: Amount,
    /// The fee envelope.
    pub fee: Fee,
    /// After this moment no new approval and no first signature is given.
    pub expires: Timestamp,
    /// The policy version under which it was asked.
    pub policy_version: u32,
}

/// Why bytes are not a canonical intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntentError {
    /// Not this encoding, or not this version of it.
    #[error("these bytes are not an intent of encoding version 1")]
    Encoding,
    /// A chain or asset name is not one.
    #[error("the intent holds a name that is not a chain or an asset")]
    Name,
    /// Too few or too many bytes.
    #[error("the intent has too few or too many bytes")]
    Length,
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], IntentError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(IntentError::Length)?;
        self.0 = rest;
        Ok(*head)
    }

    fn text(&mut self) -> Result<&'a str, IntentError> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        let (head, rest) = self.0.split_at_checked(length).ok_or(IntentError::Length)?;
        self.0 = rest;
        std::str::from_utf8(head).map_err(|_| IntentError::Name)
    }
}

/// The digest of an intent's canonical encoding.
pub type IntentDigest = Digest;

impl Intent {
    /// First byte of the encoding; raised whenever a field is added.
    const ENCODING: u8 = 1;

    /// The canonical bytes: `custos-intent`, the encoding's version, then every field in the order of the struct, numbers
    /// big endian, texts prefixed by their length in two bytes. This, and never a wire message, is what is signed.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(224);
        out.extend_from_slice(b"custos-intent");
        out.push(Self::ENCODING);
        out.extend_from_slice(self.id.as_bytes());
        push_text(&mut out, self.chain.as_str());
        out.extend_from_slice(&self.from.0);
        out.extend_from_slice(&self.to.0);
        push_text(&mut out, self.asset.as_str());
        out.extend_from_slice(&self.amount.to_be_bytes());
        out.extend_from_slice(&self.fee.max.to_be_bytes());
        push_text(&mut out, self.fee.asset.as_str());
        out.extend_from_slice(&self.expires.0.to_be_bytes());
        out.extend_from_slice(&self.policy_version.to_be_bytes());
        out
    }

    /// Reads canonical bytes back, so that whoever signs sees what they say and not what somebody says about them.
    ///
    /// # Errors
    /// Another encoding version, a text that is not the name that it should be, or bytes too few or too many.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, IntentError> {
        let mut rest = Rest(bytes);
        if rest.array::<13>()? != *b"custos-intent" || rest.array::<1>()? != [Self::ENCODING] {
            return Err(IntentError::Encoding);
        }
        let intent = Self {
            id: IntentId(rest.array()?),
            chain: ChainId::new(rest.text()?).map_err(|_| IntentError::Name)?,
            from: EthAddress(rest.array()?),
            to: EthAddress(rest.array()?),
            asset: AssetId::new(rest.text()?).map_err(|_| IntentError::Name)?,
            amount: Amount::from_be_bytes(rest.array()?),
            fee: Fee {
                max: Amount::from_be_bytes(rest.array()?),
                asset: AssetId::new(rest.text()?).map_err(|_| IntentError::Name)?,
            },
            expires: Timestamp(u64::from_be_bytes(rest.array()?)),
            policy_version: u32::from_be_bytes(rest.array()?),
        };
        if rest.0.is_empty() { Ok(intent) } else { Err(IntentError::Length) }
    }

    /// The digest of [`Self::canonical`].
    #[must_use]
    pub fn digest(&self) -> IntentDigest {
        Digest::of(&self.canonical())
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    // Names are at most 41 bytes by construction, so the length always fits.
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent() -> Intent {
        Intent {
            id: IntentId([7; 32]),
            chain: ChainId::eip155(31_337),
            from: EthAddress([1; 20]),
            to: EthAddress([2; 20]),
            asset: AssetId::new("TUSD").unwrap(),
            amount: Amount::new(u128::MAX),
            fee: Fee { max: Amount::new(5), asset: AssetId::new("ETH").unwrap() },
            expires: Timestamp(9),
            policy_version: 3,
        }
    }

    #[test]
    fn canonical_bytes_are_read_back_and_nothing_else_is() {
        let bytes = intent().canonical();
        assert_eq!(Intent::from_canonical(&bytes), Ok(intent()));
        for length in 0..bytes.len() {
            assert!(Intent::from_canonical(&bytes[..length]).is_err(), "cut at {length}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Intent::from_canonical(&longer), Err(IntentError::Length));
    }

    #[test]
    fn every_field_is_part_of_the_digest() {
        let original = intent();
        let others = [
            Intent { id: IntentId([8; 32]), ..intent() },
            Intent { chain: ChainId::eip155(1), ..intent() },
            Intent { from: EthAddress([3; 20]), ..intent() },
            Intent { to: EthAddress([3; 20]), ..intent() },
            Intent { asset: AssetId::new("ETH").unwrap(), ..intent() },
            Intent { amount: Amount::new(1), ..intent() },
            Intent { fee: Fee { max: Amount::new(6), asset: AssetId::new("ETH").unwrap() }, ..intent() },
            Intent { fee: Fee { max: Amount::new(5), asset: AssetId::new("TUSD").unwrap() }, ..intent() },
            Intent { expires: Timestamp(10), ..intent() },
            Intent { policy_version: 4, ..intent() },
        ];
        assert!(others.iter().all(|other| other.digest() != original.digest()));
    }
}
