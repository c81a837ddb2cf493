//! What an order must satisfy before the guard is asked: pure, and resting on nothing but the order, the signed policy, and what
//! the signer itself derives.

use custos_domain::{Amount, AssetKind, ChainId, Digest, EthAddress, Intent, IntentId, TenantId, WalletId};
use custos_messages::treasury::SignRefusal;
use custos_messages::wallet::{EthTransaction, Purpose, SignOrder};
use custos_policy::Policy;

use crate::guard::FirstLimit;

/// EIP-7825: no transaction uses more gas.
const GAS_LIMIT_MAX: u64 = 1 << 24;

/// The signer's own view of the wallet that is to sign.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The bank.
    pub tenant: &'a TenantId,
    /// The wallet.
    pub wallet: &'a WalletId,
    /// Its chain.
    pub chain: &'a ChainId,
    /// The hot address, as derived here.
    pub hot: EthAddress,
    /// First signatures of house intents in a day.
    pub house_intents_per_day: u32,
}

/// What a purpose says, as one digest: the canonical intent, or the house intent's id.
#[must_use]
pub fn content(purpose: &Purpose) -> Digest {
    match purpose {
        Purpose::Pay { intent, .. } => intent.digest(),
        Purpose::NoOp { intent, .. } => Digest::of_parts("custos 2026 house intent", &[intent.as_bytes()]),
    }
}

/// Whether `order` may go to the guard under `policy`, and what limits its first signature.
///
/// # Errors
/// The first thing that is wrong.
pub fn admit(place: Place<'_>, order: &SignOrder, policy: &Policy) -> Result<FirstLimit, SignRefusal> {
    let chain = policy.chains.get(place.chain).ok_or(SignRefusal::PolicyRefused)?;
    if policy.tenant != *place.tenant || chain.hot != place.hot {
        return Err(SignRefusal::PolicyRefused);
    }
    // The guard keeps nonces as signed 64-bit numbers.
    let right_chain = place.chain.eip155_number() == Some(order.tx.chain_number);
    if !right_chain || i64::try_from(order.tx.nonce).is_err() {
        return Err(SignRefusal::OutsideIntent);
    }
    match &order.purpose {
        Purpose::Pay { intent, kind, approvals } => {
            payment(place, intent, kind, policy)?;
            pays(&order.tx, intent, kind)?;
            if intent.fee.asset != chain.native {
                return Err(SignRefusal::OutsideEnvelope);
            }
            within(&order.tx, intent.fee.max.min(chain.fee_max))?;
            custos_policy::approved(policy, intent, approvals).map_err(|_| SignRefusal::NotApproved)?;
            Ok(FirstLimit::Until(intent.expires))
        }
        Purpose::NoOp { intent, fee_max } => {
            no_op(place, *intent, &order.tx)?;
            within(&order.tx, (*fee_max).min(chain.house_fee_max))?;
            Ok(FirstLimit::PerDay(place.house_intents_per_day))
        }
    }
}

/// The intent speaks of this wallet, and of an asset as the signed registry has it.
fn payment(place: Place<'_>, intent: &Intent, kind: &AssetKind, policy: &Policy) -> Result<(), SignRefusal> {
    if intent.policy_version > policy.version {
        return Err(SignRefusal::PolicyRefused);
    }
    let registered = policy.assets.get(&intent.asset).ok_or(SignRefusal::OutsideIntent)?;
    let ours = intent.chain == *place.chain && intent.from == place.hot && !intent.amount.is_zero();
    let as_registered = registered.asset.chain == intent.chain && registered.asset.kind == *kind;
    if ours && as_registered { Ok(()) } else { Err(SignRefusal::OutsideIntent) }
}

/// The transaction does exactly what the intent says, and nothing else.
fn pays(tx: &EthTransaction, intent: &Intent, kind: &AssetKind) -> Result<(), SignRefusal> {
    let exact = match kind {
        AssetKind::Native => tx.to == intent.to && tx.value == intent.amount && tx.data.is_empty(),
        AssetKind::Erc20 { contract } => {
            tx.to == *contract && tx.value.is_zero() && tx.data == EthTransaction::erc20_transfer(&intent.to, intent.amount)
        }
    };
    if exact { Ok(()) } else { Err(SignRefusal::OutsideIntent) }
}

/// A no-op moves nothing, from the hot address to itself, under the id that belongs to its nonce.
fn no_op(place: Place<'_>, intent: IntentId, tx: &EthTransaction) -> Result<(), SignRefusal> {
    let harmless = tx.to == place.hot && tx.value.is_zero() && tx.data.is_empty();
    if harmless && intent == IntentId::noop(place.wallet, tx.nonce) { Ok(()) } else { Err(SignRefusal::HouseRefused) }
}

/// The transaction cannot cost more than `fee_max`, in wei, and is one that a chain can include.
fn within(tx: &EthTransaction, fee_max: Amount) -> Result<(), SignRefusal> {
    let affordable = tx.fee_max().is_some_and(|most| most <= fee_max);
    let possible = tx.gas_limit <= GAS_LIMIT_MAX && tx.max_priority_fee_per_gas <= tx.max_fee_per_gas;
    if affordable && possible { Ok(()) } else { Err(SignRefusal::OutsideEnvelope) }
}
