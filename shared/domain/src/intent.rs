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
