//! Officers' decisions: who may decide, and when an intent is approved.

use std::collections::BTreeSet;

use custos_domain::{Intent, IntentDigest};
use custos_messages::accounts::{Decision, Verdict};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::Policy;

/// Why a decision does not count, or an intent is not approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecisionError {
    /// No officer of this policy.
    #[error("the officer is not in the policy")]
    UnknownOfficer,
    /// About another intent.
    #[error("the decision is about another intent")]
    OtherIntent,
    /// Not the officer's signature.
    #[error("the decision is not signed by the officer")]
    Signature,
    /// An officer said no.
    #[error("an officer rejected the intent")]
    Rejected,
    /// Not enough officers said yes.
    #[error("{given} of {needed} officers approved")]
    TooFew {
        /// How many did.
        given: u32,
        /// How many must.
        needed: u32,
    },
}

/// Whether `decision` is an officer's own, about the intent of `digest`.
///
/// # Errors
/// `UnknownOfficer`, `OtherIntent` or `Signature`.
pub fn verify_decision(policy: &Policy, decision: &Decision, digest: &IntentDigest) -> Result<(), DecisionError> {
    let key = policy.officers.get(&decision.officer).ok_or(DecisionError::UnknownOfficer)?;
    if decision.intent != *digest {
        return Err(DecisionError::OtherIntent);
    }
    let key = VerifyingKey::from_bytes(key).map_err(|_| DecisionError::Signature)?;
    let signature = Signature::from_slice(&decision.signature).map_err(|_| DecisionError::Signature)?;
    let signed = Decision::signed_bytes(decision.verdict, digest);
    key.verify_strict(&signed, &signature).map_err(|_| DecisionError::Signature)
}

/// Whether `intent` may be paid under `policy`: its amount is below the asset's limit, or a quorum of different officers said yes and
/// none said no. Decisions that do not count are passed over. Expiry is the caller's question.
///
/// # Errors
/// `Rejected` or `TooFew`.
pub fn approved(policy: &Policy, intent: &Intent, decisions: &[Decision]) -> Result<(), DecisionError> {
    if !policy.needs_approval(&intent.asset, intent.amount) {
        return Ok(());
    }
    let digest = intent.digest();
    let mut officers = BTreeSet::new();
    for decision in decisions.iter().filter(|decision| verify_decision(policy, decision, &digest).is_ok()) {
        match decision.verdict {
            Verdict::Reject => return Err(DecisionError::Rejected),
            Verdict::Approve => officers.insert(&decision.officer),
        };
    }
    let (given, needed) = (u32::try_from(officers.len()).unwrap_or(u32::MAX), policy.quorum);
    // A quorum of nobody is refused by `Policy::check`; here it must not approve either.
    if given >= needed && needed > 0 { Ok(()) } else { Err(DecisionError::TooFew { given, needed }) }
}

/// An officer's signature for a [`Decision`].
#[must_use]
pub fn sign_decision(key: &SigningKey, verdict: Verdict, digest: &IntentDigest) -> Vec<u8> {
    key.sign(&Decision::signed_bytes(verdict, digest)).to_bytes().to_vec()
}
