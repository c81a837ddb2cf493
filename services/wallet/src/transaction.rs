//! EIP-1559 transactions: what is hashed, and the bytes that a node takes (EIP-2718).

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256};
use custos_domain::TxHash;
use custos_messages::wallet::EthTransaction;

use crate::{Keys, WalletError};

/// A signed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBytes {
    /// Its hash.
    pub tx: TxHash,
    /// Its bytes (EIP-2718).
    pub raw: Vec<u8>,
}

fn unsigned(tx: &EthTransaction) -> TxEip1559 {
    TxEip1559 {
        chain_id: tx.chain_number,
        nonce: tx.nonce,
        gas_limit: tx.gas_limit,
        max_fee_per_gas: tx.max_fee_per_gas.base_units(),
        max_priority_fee_per_gas: tx.max_priority_fee_per_gas.base_units(),
        to: TxKind::Call(Address::from(tx.to.0)),
        value: U256::from(tx.value.base_units()),
        access_list: Default::default(),
        input: Bytes::from(tx.data.clone()),
    }
}

/// The digest that a signature over `tx` is made of; covers every field.
pub(crate) fn signing_hash(tx: &EthTransaction) -> [u8; 32] {
    unsigned(tx).signature_hash().0
}

/// Signs `tx` with the hot key. The same transaction always gives the same bytes.
pub(crate) fn sign(keys: &Keys, tx: &EthTransaction) -> Result<SignedBytes, WalletError> {
    let unsigned = unsigned(tx);
    let (signature, parity) = keys.sign(&unsigned.signature_hash().0)?;
    let signed = unsigned.into_signed(Signature::from((signature, parity)));
    Ok(SignedBytes { tx: TxHash(signed.hash().0), raw: signed.encoded_2718() })
}
