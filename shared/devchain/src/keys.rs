//! Development keys: public knowledge, derived from their index, rich at genesis. Worthless anywhere else.

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    primitives::{Address, Signature, keccak256},
};
use k256::ecdsa::SigningKey;

use crate::DevChainError;

/// How many development keys have a balance at genesis. Key 0 is the faucet.
pub const DEV_KEYS: u32 = 10;

/// The development key with this index. Same index, same key, on every machine.
#[must_use]
pub fn dev_key(index: u32) -> SigningKey {
    let mut salt: u32 = 0;
    loop {
        let seed = keccak256(format!("custos development key {index} {salt}"));
        // All but about one in 2^128 seeds are keys; the loop is for that one.
        if let Ok(key) = SigningKey::from_slice(seed.as_slice()) {
            return key;
        }
        salt = salt.wrapping_add(1);
    }
}

/// Address of `dev_key(index)`.
#[must_use]
pub fn dev_address(index: u32) -> Address {
    Address::from_private_key(&dev_key(index))
}

/// The key that pays for the faucet, deploys contracts and may mint and pause tokens.
#[must_use]
pub fn faucet_key() -> SigningKey {
    dev_key(0)
}

/// Signs an EIP-1559 transaction.
///
/// # Errors
/// `DevChainError::Sign` when the curve library refuses.
pub fn sign(tx: TxEip1559, key: &SigningKey) -> Result<TxEnvelope, DevChainError> {
    let signature: Signature =
        key.sign_prehash_recoverable(tx.signature_hash().as_slice()).map_err(DevChainError::Sign)?.into();
    Ok(tx.into_signed(signature).into())
}
