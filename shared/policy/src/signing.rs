//! The root's signature over a policy.

use custos_messages::SignedPolicy;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::{Policy, PolicyError};

/// What stands before the bytes that the root signs.
const DOMAIN: &[u8] = b"custos-policy";

impl Policy {
    /// The policy under the root's signature.
    ///
    /// # Errors
    /// It is not fit to be in force.
    pub fn sign(&self, root: &SigningKey) -> Result<SignedPolicy, PolicyError> {
        self.check()?;
        let bytes = self.encode();
        let signature = root.sign(&[DOMAIN, &bytes].concat()).to_bytes().to_vec();
        Ok(SignedPolicy { bytes, signature })
    }
}

/// The policy in `signed`, if `root` signed it and it is fit to be in force.
///
/// # Errors
/// See [`PolicyError`]; nothing is read before the signature holds.
pub fn verify(signed: &SignedPolicy, root: &VerifyingKey) -> Result<Policy, PolicyError> {
    let signature = Signature::from_slice(&signed.signature).map_err(|_| PolicyError::Signature)?;
    root.verify_strict(&[DOMAIN, &signed.bytes].concat(), &signature).map_err(|_| PolicyError::Signature)?;
    read_trusted(signed)
}

/// The policy in `signed`, whose signature is not looked at: for machines, which have it from an authenticated record of their
/// log. The signer uses [`verify`].
///
/// # Errors
/// Not a policy, or not fit to be in force.
pub fn read_trusted(signed: &SignedPolicy) -> Result<Policy, PolicyError> {
    let policy = Policy::decode(&signed.bytes)?;
    policy.check()?;
    Ok(policy)
}
