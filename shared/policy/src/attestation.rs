//! The signer's word for an address: nobody between signer and treasury can put another in its place.

use custos_messages::treasury::AddressDerived;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::Policy;

/// Whether `derived` carries the attestation that `policy` asks for. A policy from before attesters were named asks for none.
#[must_use]
pub fn attested(policy: &Policy, derived: &AddressDerived) -> bool {
    let Some(attester) = &policy.attester else { return true };
    let AddressDerived { wallet, branch, index, address, attestation, .. } = derived;
    match (VerifyingKey::from_bytes(attester), Signature::from_slice(attestation)) {
        (Ok(key), Ok(signature)) => {
            key.verify_strict(&AddressDerived::attested_bytes(wallet, *branch, *index, address), &signature).is_ok()
        }
        _ => false,
    }
}
