//! Keys derived from the seed, one path scheme (BIP32, BIP44).
//!
//! Deposit addresses are `m/44'/60'/0'/0/i`, hot addresses `m/44'/60'/1'/0/i`, and payments are signed with hot index 0. All
//! EVM chains share the keys: the chain number inside a transaction keeps a signature on its chain (EIP-155). Only one private
//! key stays in memory, that of the hot address; other addresses come from public branches.

use alloy_primitives::Address;
use bip32::{ChildNumber, DerivationPath, XPrv, XPub};
use custos_domain::{ChainId, EthAddress, WalletId};
use custos_messages::treasury::AddressDerived;
use ed25519_dalek::{Signer, VerifyingKey as AttestationKey};
use k256::ecdsa::{RecoveryId, Signature, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::{KeyStore, WalletError};

/// Deposits: `m/44'/60'/0'/0`.
pub const DEPOSIT_BRANCH: u32 = 0;
/// Hot addresses: `m/44'/60'/1'/0`.
pub const HOT_BRANCH: u32 = 1;

/// An address with where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivedAddress {
    /// The address.
    pub address: EthAddress,
    /// Its BIP32 path.
    pub path: String,
}

/// The keys of one seed. Has no `Debug`.
pub struct Keys {
    deposits: XPub,
    hot: XPub,
    payer: SigningKey,
    payer_address: EthAddress,
    attester: ed25519_dalek::SigningKey,
}

impl Keys {
    /// Derives what the signer needs; the seed itself is not kept.
    ///
    /// # Errors
    /// BIP32 gives no key at a path (a chance of 1 in 2^127).
    pub fn derive(store: &KeyStore) -> Result<Self, WalletError> {
        let deposits = branch(store, DEPOSIT_BRANCH)?.public_key();
        let hot = branch(store, HOT_BRANCH)?;
        let payer = hot
            .derive_child(ChildNumber(0))
            .map_err(|source| WalletError::Derivation { path: address_path(HOT_BRANCH, 0), source })?;
        let payer = payer.private_key().clone();
        let payer_address = address_of(payer.verifying_key());
        let attester = Zeroizing::new(blake3::derive_key("custos 2026 address attestation", store.seed()));
        let attester = ed25519_dalek::SigningKey::from_bytes(&attester);
        Ok(Self { deposits, hot: hot.public_key(), payer, payer_address, attester })
    }

    /// The address that pays: hot index 0.
    #[must_use]
    pub const fn payer(&self) -> EthAddress {
        self.payer_address
    }

    /// The address at `branch` and `index`; `None` if there is no such branch, or the index is beyond 2^31 - 1.
    ///
    /// # Errors
    /// BIP32 gives no key at the path.
    pub fn address(&self, branch: u32, index: u32) -> Result<Option<DerivedAddress>, WalletError> {
        let parent = match branch {
            DEPOSIT_BRANCH => &self.deposits,
            HOT_BRANCH => &self.hot,
            _ => return Ok(None),
        };
        let Ok(child) = ChildNumber::new(index, false) else { return Ok(None) };
        let path = address_path(branch, index);
        match parent.derive_child(child) {
            Ok(key) => Ok(Some(DerivedAddress { address: address_of(key.public_key()), path })),
            Err(source) => Err(WalletError::Derivation { path, source }),
        }
    }

    /// Signs that `address` is the wallet's at `branch` and `index`: 64 bytes of Ed25519.
    #[must_use]
    pub fn attest(&self, wallet: &WalletId, branch: u32, index: u32, address: &EthAddress) -> Vec<u8> {
        self.attester.sign(&AddressDerived::attested_bytes(wallet, branch, index, address)).to_bytes().to_vec()
    }

    /// The public key that attestations verify under.
    #[must_use]
    pub fn attestation_key(&self) -> AttestationKey {
        self.attester.verifying_key()
    }

    /// Signs a digest with the hot key: RFC 6979, low S (EIP-2), so that the same digest always gives the same signature.
    pub(crate) fn sign(&self, digest: &[u8; 32]) -> Result<(Signature, RecoveryId), WalletError> {
        let (signature, parity) = self.payer.sign_prehash_recoverable(digest).map_err(WalletError::Curve)?;
        let signer = VerifyingKey::recover_from_prehash(digest, &signature, parity).map_err(WalletError::Curve)?;
        let sound = signature.normalize_s().is_none() && address_of(&signer) == self.payer_address;
        if sound { Ok((signature, parity)) } else { Err(WalletError::FaultySignature) }
    }
}

/// The hot address of `chain` under `store`; `None` for a chain that is not of Ethereum's kind.
///
/// # Errors
/// BIP32 gives no key at the path.
pub fn hot_address(store: &KeyStore, chain: &ChainId) -> Result<Option<EthAddress>, WalletError> {
    match chain.eip155_number() {
        Some(_) => Keys::derive(store).map(|keys| Some(keys.payer())),
        None => Ok(None),
    }
}

/// The public key under which the attestations of `store`'s signer verify: what a policy names as its attester.
///
/// # Errors
/// BIP32 gives no key at a path of the scheme.
pub fn attestation_key(store: &KeyStore) -> Result<[u8; 32], WalletError> {
    Keys::derive(store).map(|keys| keys.attestation_key().to_bytes())
}

fn address_path(branch: u32, index: u32) -> String {
    format!("{}/{index}", branch_path(branch))
}

fn branch_path(branch: u32) -> String {
    format!("m/44'/60'/{branch}'/0")
}

fn branch(store: &KeyStore, branch: u32) -> Result<XPrv, WalletError> {
    let path = branch_path(branch);
    path.parse::<DerivationPath>()
        .and_then(|parsed| XPrv::derive_from_path(store.seed(), &parsed))
        .map_err(|source| WalletError::Derivation { path, source })
}

fn address_of(key: &VerifyingKey) -> EthAddress {
    EthAddress(Address::from_public_key(key).into_array())
}

#[cfg(test)]
mod tests {
    use custos_domain::TenantId;
    use ed25519_dalek::Signature as Attestation;
    use secrecy::SecretString;

    use super::*;
    use crate::keystore::WorkFactor;

    fn keys(mnemonic: &str) -> Keys {
        let folder = tempfile::tempdir().unwrap();
        let store = KeyStore::import(
            &folder.path().join("keys.age"),
            &SecretString::from("p".to_owned()),
            WorkFactor::DEMONSTRATION,
            &SecretString::from(mnemonic.to_owned()),
        );
        Keys::derive(&store.unwrap()).unwrap()
    }

    #[test]
    fn the_published_addresses_of_the_development_mnemonic_come_out() {
        let keys = keys("test test test test test test test test test test test junk");
        for (index, expected) in [
            (0, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
            (1, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
            (2, "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
        ] {
            let derived = keys.address(DEPOSIT_BRANCH, index).unwrap().unwrap();
            assert_eq!(derived.address.to_string(), expected);
            assert_eq!(derived.path, format!("m/44'/60'/0'/0/{index}"));
        }
    }

    #[test]
    fn the_hot_address_is_the_payer_and_unknown_places_have_no_address() {
        let keys = keys("legal winner thank year wave sausage worth useful legal winner thank yellow");
        let hot = keys.address(HOT_BRANCH, 0).unwrap().unwrap();
        assert_eq!((hot.address, hot.path.as_str()), (keys.payer(), "m/44'/60'/1'/0/0"));
        assert_eq!(keys.address(2, 0).unwrap(), None);
        assert_eq!(keys.address(DEPOSIT_BRANCH, 1 << 31).unwrap(), None);
    }

    #[test]
    fn an_attestation_binds_address_wallet_branch_and_index() {
        let keys = keys("test test test test test test test test test test test junk");
        let bank = TenantId::new("alpha").unwrap();
        let wallet = WalletId::omnibus(&bank, &ChainId::eip155(1));
        let other = WalletId::omnibus(&bank, &ChainId::eip155(2));
        let address = keys.address(DEPOSIT_BRANCH, 7).unwrap().unwrap().address;
        let signed = |wallet, branch, index, address: &EthAddress| {
            let signature = Attestation::from_slice(&keys.attest(&wallet, DEPOSIT_BRANCH, 7, address)).unwrap();
            let bytes = AddressDerived::attested_bytes(&wallet, branch, index, address);
            keys.attestation_key().verify_strict(&bytes, &signature).is_ok()
        };
        assert!(signed(wallet, DEPOSIT_BRANCH, 7, &address));
        assert!(!signed(wallet, HOT_BRANCH, 7, &address));
        assert!(!signed(wallet, DEPOSIT_BRANCH, 8, &address));
        let bytes = |wallet, address| AddressDerived::attested_bytes(wallet, DEPOSIT_BRANCH, 7, address);
        assert_ne!(bytes(&wallet, &address), bytes(&other, &address));
        assert_ne!(bytes(&wallet, &address), bytes(&wallet, &keys.payer()));
    }
}
