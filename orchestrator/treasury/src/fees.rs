//! The fee rules of EIP-1559 transactions and of their replacements.
//!
//! Invariants: gas limit times `maxFeePerGas` never exceeds the envelope; a replacement raises *both* fee fields by at least a
//! tenth, rounded up, whatever a node would accept, and keeps the gas limit.

use custos_domain::Amount;
use custos_messages::treasury::FeeQuote;

use crate::state::Fees;

/// The fees of a first signature: the quote's, if they fit into the envelope.
pub(crate) fn first(quote: &FeeQuote, envelope: Amount) -> Option<Fees> {
    let FeeQuote::Quote { gas_limit, max_fee_per_gas, max_priority_fee_per_gas, .. } = quote else { return None };
    let fees = Fees {
        gas_limit: *gas_limit,
        max_fee_per_gas: *max_fee_per_gas,
        max_priority_fee_per_gas: (*max_priority_fee_per_gas).min(*max_fee_per_gas),
    };
    (*gas_limit > 0 && total(&fees)? <= envelope).then_some(fees)
}

/// The fees of a replacement of `old`: a tenth more on both fields and at least the quote's, as far as the envelope allows.
/// None when not even the tenth fits.
pub(crate) fn raised(old: &Fees, quote: &FeeQuote, envelope: Amount) -> Option<Fees> {
    let FeeQuote::Quote { max_fee_per_gas, max_priority_fee_per_gas, .. } = quote else { return None };
    let ceiling = envelope.base_units().checked_div(u128::from(old.gas_limit))?;
    let least_tip = tenth_more(old.max_priority_fee_per_gas)?;
    let least = tenth_more(old.max_fee_per_gas)?.max(least_tip);
    if least.base_units() > ceiling {
        return None;
    }
    let wanted = least.max(*max_fee_per_gas).base_units();
    let max_fee_per_gas = Amount::new(wanted.min(ceiling));
    let max_priority_fee_per_gas = least_tip.max(*max_priority_fee_per_gas).min(max_fee_per_gas);
    Some(Fees { gas_limit: old.gas_limit, max_fee_per_gas, max_priority_fee_per_gas })
}

/// The fees of another transaction that is to take the nonce of one with the fees `other`: a replacement's, with the quote's gas limit.
pub(crate) fn above(other: &Fees, quote: &FeeQuote, envelope: Amount) -> Option<Fees> {
    let own = first(quote, envelope)?;
    raised(&Fees { gas_limit: own.gas_limit, ..*other }, quote, envelope)
}

/// The most that the envelope allows, with all of it as the tip.
pub(crate) fn all(quote: &FeeQuote, envelope: Amount) -> Option<Fees> {
    let own = first(quote, envelope)?;
    let ceiling = Amount::new(envelope.base_units().checked_div(u128::from(own.gas_limit))?);
    Some(Fees { max_fee_per_gas: ceiling, max_priority_fee_per_gas: ceiling, ..own })
}

/// Whether one offers more for a unit of gas than the other. Another estimate of gas alone is no other offer.
pub(crate) const fn offers_more(fees: &Fees, other: &Fees) -> bool {
    fees.max_fee_per_gas.base_units() > other.max_fee_per_gas.base_units()
        || fees.max_priority_fee_per_gas.base_units() > other.max_priority_fee_per_gas.base_units()
}

/// Gas limit times `maxFeePerGas`, in wei; none on overflow.
pub(crate) fn total(fees: &Fees) -> Option<Amount> {
    fees.max_fee_per_gas.times(u128::from(fees.gas_limit)).ok()
}

/// A tenth more, rounded up, and never the same.
fn tenth_more(amount: Amount) -> Option<Amount> {
    let tenth = amount.base_units().div_ceil(10).max(1);
    amount.plus(Amount::new(tenth)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quote(gas_limit: u64, fee: u128, tip: u128) -> FeeQuote {
        FeeQuote::Quote {
            gas_limit,
            max_fee_per_gas: Amount::new(fee),
            max_priority_fee_per_gas: Amount::new(tip),
            native_balance: Amount::ZERO,
            asset_balance: Amount::ZERO,
            next_nonce: 0,
        }
    }

    fn fees(gas_limit: u64, fee: u128, tip: u128) -> Fees {
        Fees { gas_limit, max_fee_per_gas: Amount::new(fee), max_priority_fee_per_gas: Amount::new(tip) }
    }

    #[test]
    fn a_first_fee_fits_its_envelope_to_the_wei_or_is_refused() {
        assert_eq!(first(&quote(100, 10, 1), Amount::new(1_000)), Some(fees(100, 10, 1)));
        assert_eq!(first(&quote(100, 10, 1), Amount::new(999)), None);
        assert_eq!(first(&quote(100, 10, 11), Amount::new(1_000)), Some(fees(100, 10, 10)));
        assert_eq!(first(&quote(0, 10, 1), Amount::new(1_000)), None);
        assert_eq!(first(&quote(2, u128::MAX, 1), Amount::new(u128::MAX)), None);
        assert_eq!(first(&FeeQuote::WouldRevert, Amount::new(1_000)), None);
    }

    #[test]
    fn a_replacement_raises_both_fields_by_a_tenth_rounded_up_within_the_envelope() {
        let old = fees(100, 15, 1);
        assert_eq!(raised(&old, &quote(9, 5, 1), Amount::new(10_000)), Some(fees(100, 17, 2)));
        assert_eq!(raised(&old, &quote(9, 50, 4), Amount::new(10_000)), Some(fees(100, 50, 4)));
        assert_eq!(raised(&old, &quote(9, 500, 4), Amount::new(10_000)), Some(fees(100, 100, 4)), "capped at the envelope");
        assert_eq!(raised(&old, &quote(9, 5, 1), Amount::new(1_699)), None);
        assert_eq!(raised(&fees(1, u128::MAX, 1), &quote(9, 5, 1), Amount::new(u128::MAX)), None);
    }

    #[test]
    fn what_takes_a_nonce_from_another_offers_a_tenth_more_for_its_own_gas() {
        let other = fees(100, 15, 1);
        assert_eq!(above(&other, &quote(9, 5, 1), Amount::new(10_000)), Some(fees(9, 17, 2)));
        assert_eq!(above(&other, &quote(9, 50, 4), Amount::new(10_000)), Some(fees(9, 50, 4)));
        assert_eq!(above(&other, &quote(9, 5, 1), Amount::new(9 * 17 - 1)), None);
        assert_eq!(above(&other, &FeeQuote::WouldRevert, Amount::new(10_000)), None);
    }
}
