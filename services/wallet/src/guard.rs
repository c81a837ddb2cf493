//! The signing guard: the durable memory that keeps an intent from being paid twice.
//!
//! Invariants: a signature leaves this process only after its record is durable; an intent is bound to one wallet and nonce, and
//! that nonce to one payment and at most one no-op of the house, for ever, by the database's own constraints; a further attempt at
//! an intent shares its nonce, so that at most one of them can be mined. An order that was refused stays refused, and one that was
//! signed is never refused, whichever signer hears it again: a refusal gives the client the money back. The guard trusts nothing
//! that the rest of the system says.

use std::future::Future;

use custos_domain::{Amount, ChainId, CommandId, Digest, IntentId, Timestamp, WalletId};
use custos_messages::treasury::SignRefusal;

use crate::WalletError;
use crate::checkpoint::Mark;
use crate::transaction::SignedBytes;

mod sql;

pub use sql::SqlGuard;

/// A replacement raises both fee fields to this many hundredths of the highest earlier attempt, rounded up.
const REPLACEMENT_PERCENT: u128 = 110;

/// A request for a signature, after all other checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The order that asks for it.
    pub order: CommandId,
    /// What is paid.
    pub intent: IntentId,
    /// Digest of all that the intent says: another content under the same id is refused.
    pub content: Digest,
    /// The wallet that pays.
    pub wallet: WalletId,
    /// Its chain.
    pub chain: ChainId,
    /// The nonce that the transaction consumes.
    pub nonce: u64,
    /// Digest of intent, content, wallet and the unsigned transaction.
    pub attempt: Digest,
    /// `maxFeePerGas`, in wei.
    pub max_fee_per_gas: Amount,
    /// `maxPriorityFeePerGas`, in wei.
    pub max_priority_fee_per_gas: Amount,
    /// The policy that the checks were made under.
    pub policy_version: u32,
    /// Log time of the order.
    pub at: Timestamp,
    /// What limits a first signature.
    pub first: FirstLimit,
}

/// What a first signature of an intent needs; later ones at the same nonce add no risk and are free of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstLimit {
    /// A client's intent: not after this moment.
    Until(Timestamp),
    /// A house intent: at most so many for the wallet in a day (UTC) of log time.
    PerDay(u32),
}

/// What the guard decided, and where its records then stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The decision.
    pub outcome: Outcome,
    /// The last record.
    pub head: Mark,
}

/// What the guard decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The bytes may leave.
    Granted(Grant, SignedBytes),
    /// They may not, now or later.
    Refused(SignRefusal),
}

/// Why the bytes may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The first signature of the intent.
    Fresh,
    /// Exactly this was signed before; the bytes are those of then.
    Same,
    /// A higher fee at the same nonce.
    Replacement,
}

/// The guard's store. Every method first proves that the store still holds the record that `seen` names.
pub trait Guard: Send + Sync + 'static {
    /// The bytes already signed for exactly this attempt.
    ///
    /// # Errors
    /// The store failed, or was rolled back.
    fn recall(
        &self,
        attempt: &Digest,
        seen: &Mark,
    ) -> impl Future<Output = Result<(Option<SignedBytes>, Mark), WalletError>> + Send;

    /// Remembers that a policy of `version` was shown; gives the highest version ever shown.
    ///
    /// # Errors
    /// The store failed, or was rolled back.
    fn policy_shown(&self, version: u32, seen: &Mark) -> impl Future<Output = Result<u32, WalletError>> + Send;

    /// Makes it durable that `order` is refused, unless it was signed before: then its bytes are given. An order that was refused for
    /// another reason stays refused for that one.
    ///
    /// # Errors
    /// The store failed, or was rolled back; then nothing was recorded.
    fn refuse(
        &self,
        order: &CommandId,
        attempt: &Digest,
        reason: SignRefusal,
        seen: &Mark,
    ) -> impl Future<Output = Result<Verdict, WalletError>> + Send;

    /// Decides about `claim`. If it is granted and new, the record and the bytes of `sign` are made durable, in one
    /// transaction with the decision, before this returns; so is a refusal. `sign` is not called for a refusal.
    ///
    /// # Errors
    /// The store or `sign` failed, or the store was rolled back; then nothing was recorded.
    fn claim<S>(&self, claim: &Claim, seen: &Mark, sign: S) -> impl Future<Output = Result<Verdict, WalletError>> + Send
    where
        S: FnOnce() -> Result<SignedBytes, WalletError> + Send;
}

/// What an intent is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Digest of all that the intent says.
    pub content: Digest,
    /// The wallet that pays.
    pub wallet: WalletId,
    /// Its chain.
    pub chain: ChainId,
    /// The nonce.
    pub nonce: u64,
    /// Highest `maxFeePerGas` and `maxPriorityFeePerGas` of the attempts, each for itself.
    pub highest: (Amount, Amount),
}

/// What the store knows about a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The intent's own binding.
    pub binding: Option<Binding>,
    /// Another intent that holds the nonce: the house's, if two do.
    pub holder: Option<Holder>,
    /// First signatures of house intents for the wallet on the claim's day.
    pub house_today: u64,
    /// The highest policy version shown so far.
    pub policy_version: u32,
}

/// What is known of another intent that holds a claim's nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose intent it is.
    pub whose: Whose,
    /// Highest `maxFeePerGas` and `maxPriorityFeePerGas` of its attempts, each for itself.
    pub highest: (Amount, Amount),
}

/// Whose intent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A client's payment.
    Client,
    /// The house's, which pays nobody.
    House,
}

/// The guard's whole decision, for a claim whose exact attempt is not on record; every store of records rules by it.
///
/// # Errors
/// Why the signer refuses.
pub fn rule(claim: &Claim, known: &Known) -> Result<Grant, SignRefusal> {
    if known.policy_version > claim.policy_version {
        return Err(SignRefusal::PolicyRefused);
    }
    if let Some(bound) = &known.binding {
        let same_place = bound.wallet == claim.wallet && bound.chain == claim.chain && bound.nonce == claim.nonce;
        if !same_place || bound.content != claim.content {
            return Err(SignRefusal::IntentTaken);
        }
        let (fee, tip) = bound.highest;
        let raised = enough(claim.max_fee_per_gas, fee) && enough(claim.max_priority_fee_per_gas, tip);
        return if raised { Ok(Grant::Replacement) } else { Err(SignRefusal::WeakReplacement) };
    }
    if let Some(Holder { whose, highest: (fee, tip) }) = known.holder {
        // A no-op may take a client's nonce: it pays nobody, at most one of the two is ever mined, and the payment stays bound to this
        // nonce. Nothing else may stand beside another.
        if whose == Whose::House || matches!(claim.first, FirstLimit::Until(_)) {
            return Err(SignRefusal::NonceTaken);
        }
        if !(enough(claim.max_fee_per_gas, fee) && enough(claim.max_priority_fee_per_gas, tip)) {
            return Err(SignRefusal::WeakReplacement);
        }
    }
    match claim.first {
        FirstLimit::Until(moment) if claim.at > moment => Err(SignRefusal::Expired),
        FirstLimit::PerDay(most) if known.house_today >= u64::from(most) => Err(SignRefusal::HouseRefused),
        FirstLimit::Until(_) | FirstLimit::PerDay(_) => Ok(Grant::Fresh),
    }
}

/// Whether `new` is at least 110 % of `old`, rounded up, and more than it; a product beyond 128 bits is never reached.
fn enough(new: Amount, old: Amount) -> bool {
    old.times(REPLACEMENT_PERCENT).is_ok_and(|least| new > old && new.base_units() >= least.base_units().div_ceil(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim {
        Claim {
            order: CommandId([5; 32]),
            intent: IntentId([1; 32]),
            content: Digest([2; 32]),
            wallet: WalletId([3; 16]),
            chain: ChainId::eip155(1),
            nonce: 7,
            attempt: Digest([4; 32]),
            max_fee_per_gas: Amount::new(111),
            max_priority_fee_per_gas: Amount::new(12),
            policy_version: 1,
            at: Timestamp(1_000),
            first: FirstLimit::Until(Timestamp(1_000)),
        }
    }

    fn bound(change: impl FnOnce(&mut Binding)) -> Known {
        let claim = claim();
        let mut binding = Binding {
            content: claim.content,
            wallet: claim.wallet,
            chain: claim.chain,
            nonce: claim.nonce,
            highest: (Amount::new(100), Amount::new(10)),
        };
        change(&mut binding);
        Known { binding: Some(binding), ..Known::default() }
    }

    #[test]
    fn the_guard_rules_as_the_table_says() {
        use SignRefusal::{Expired, HouseRefused, IntentTaken, NonceTaken, PolicyRefused, WeakReplacement};
        let house = |house_today| Known { house_today, ..Known::default() };
        let held = |whose, fee, tip| {
            let holder = Holder { whose, highest: (Amount::new(fee), Amount::new(tip)) };
            Known { holder: Some(holder), ..Known::default() }
        };
        let no_op = || Claim { first: FirstLimit::PerDay(1), ..claim() };
        let cases: Vec<(&str, Claim, Known, Result<Grant, SignRefusal>)> = vec![
            ("first, at the last moment", claim(), Known::default(), Ok(Grant::Fresh)),
            ("first, too late", Claim { at: Timestamp(1_001), ..claim() }, Known::default(), Err(Expired)),
            ("later ones do not expire", Claim { at: Timestamp(9_999), ..claim() }, bound(|_| ()), Ok(Grant::Replacement)),
            ("other nonce", claim(), bound(|b| b.nonce = 8), Err(IntentTaken)),
            ("other wallet", claim(), bound(|b| b.wallet = WalletId([9; 16])), Err(IntentTaken)),
            ("other chain", claim(), bound(|b| b.chain = ChainId::eip155(2)), Err(IntentTaken)),
            ("other content", claim(), bound(|b| b.content = Digest([9; 32])), Err(IntentTaken)),
            ("nonce of another", claim(), held(Whose::Client, 1, 1), Err(NonceTaken)),
            ("nonce of a no-op", claim(), held(Whose::House, 1, 1), Err(NonceTaken)),
            ("a no-op at a client's nonce", no_op(), held(Whose::Client, 100, 10), Ok(Grant::Fresh)),
            ("a no-op that offers too little", no_op(), held(Whose::Client, 101, 10), Err(WeakReplacement)),
            ("a no-op whose tip is too low", no_op(), held(Whose::Client, 100, 11), Err(WeakReplacement)),
            ("a no-op beside another of the house", no_op(), held(Whose::House, 1, 1), Err(NonceTaken)),
            (
                "replaced beside a no-op",
                claim(),
                Known { holder: held(Whose::House, 500, 500).holder, ..bound(|_| ()) },
                Ok(Grant::Replacement),
            ),
            ("older policy", claim(), Known { policy_version: 2, ..Known::default() }, Err(PolicyRefused)),
            ("house below its cap", Claim { first: FirstLimit::PerDay(2), ..claim() }, house(1), Ok(Grant::Fresh)),
            ("house at its cap", Claim { first: FirstLimit::PerDay(2), ..claim() }, house(2), Err(HouseRefused)),
        ];
        for (name, claim, known, expected) in cases {
            assert_eq!(rule(&claim, &known), expected, "{name}");
        }
    }

    #[test]
    fn a_replacement_raises_both_fields_by_ten_percent_rounded_up() {
        // (highest fee, highest tip) and (new fee, new tip).
        for (old, new, ok) in [
            ((100, 10), (110, 11), true),
            ((100, 10), (109, 11), false),
            ((100, 10), (110, 10), false),
            ((101, 10), (111, 11), false),
            ((101, 10), (112, 11), true),
            ((1, 1), (2, 2), true),
            ((1, 1), (1, 1), false),
            ((0, 0), (0, 0), false),
            ((u128::MAX, 1), (u128::MAX, 2), false),
        ] {
            let known = bound(|b| b.highest = (Amount::new(old.0), Amount::new(old.1)));
            let claim =
                Claim { max_fee_per_gas: Amount::new(new.0), max_priority_fee_per_gas: Amount::new(new.1), ..claim() };
            assert_eq!(rule(&claim, &known).is_ok(), ok, "{old:?} to {new:?}");
        }
    }
}
