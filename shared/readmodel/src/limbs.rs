//! Exact sums of 128-bit amounts in databases that count in 64 bits.
//!
//! An amount is four limbs of 32 bits, least first. A database adds each limb's column by itself, which is exact for up to 2^31
//! rows; the carries are settled here.

use custos_domain::{Amount, AmountError};
use custos_messages::events::Side;

/// Debits minus credits, limb by limb, not yet carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limbs(pub(crate) [i64; 4]);

const BASE: i128 = 1 << 32;

/// What remains when debits are set against credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// The larger side; [`Side::Debit`] if both are equal.
    pub side: Side,
    /// By how much.
    pub amount: Amount,
}

impl Net {
    /// Nothing.
    pub const ZERO: Self = Self { side: Side::Debit, amount: Amount::ZERO };

    /// The amount, if it stands on `side` or is nothing.
    ///
    /// # Errors
    /// [`AmountError::Negative`] if it stands on the other side.
    pub fn on(&self, side: Side) -> Result<Amount, AmountError> {
        if self.side == side || self.amount.is_zero() { Ok(self.amount) } else { Err(AmountError::Negative) }
    }
}

impl Limbs {
    /// The limbs of an amount: debits count up, credits down.
    pub(crate) fn of(amount: Amount, side: Side) -> Self {
        let units = amount.base_units();
        let limb = |shift: u32| i64::from(u32::try_from((units >> shift) & u128::from(u32::MAX)).unwrap_or(u32::MAX));
        let limbs = [limb(0), limb(32), limb(64), limb(96)];
        match side {
            Side::Debit => Self(limbs),
            Side::Credit => Self(limbs.map(|limb| -limb)),
        }
    }

    /// The sum, unless a limb leaves 64 bits.
    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.0, other.0);
        Some(Self([a0.checked_add(b0)?, a1.checked_add(b1)?, a2.checked_add(b2)?, a3.checked_add(b3)?]))
    }

    /// The value with all carries settled.
    ///
    /// # Errors
    /// [`AmountError::Overflow`] if it does not fit into 128 bits.
    pub(crate) fn net(self) -> Result<Net, AmountError> {
        match Self::carried(self.0.map(i128::from)) {
            Carried::Fits(units) => Ok(Net { side: Side::Debit, amount: Amount::new(units) }),
            Carried::TooLarge => Err(AmountError::Overflow),
            Carried::Negative => match Self::carried(self.0.map(|limb| -i128::from(limb))) {
                Carried::Fits(units) => Ok(Net { side: Side::Credit, amount: Amount::new(units) }),
                Carried::TooLarge | Carried::Negative => Err(AmountError::Overflow),
            },
        }
    }

    fn carried(limbs: [i128; 4]) -> Carried {
        let mut units = 0_u128;
        let mut carry = 0_i128;
        for (limb, shift) in limbs.into_iter().zip([0_u32, 32, 64, 96]) {
            // |limb| < 2^63 and |carry| < 2^63, so the sum cannot overflow 128 bits.
            let whole = limb + carry;
            let low = if shift == 96 { whole } else { whole.rem_euclid(BASE) };
            carry = if shift == 96 { 0 } else { whole.div_euclid(BASE) };
            match u32::try_from(low) {
                Ok(low) => units |= u128::from(low) << shift,
                Err(_) if low < 0 => return Carried::Negative,
                Err(_) => return Carried::TooLarge,
            }
        }
        Carried::Fits(units)
    }
}

enum Carried {
    Fits(u128),
    Negative,
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case = (&'static [(u128, Side)], Result<Net, AmountError>);

    fn sum(legs: &[(u128, Side)]) -> Result<Net, AmountError> {
        legs.iter()
            .try_fold(Limbs::default(), |all, (units, side)| all.plus(Limbs::of(Amount::new(*units), *side)))
            .expect("few legs fit")
            .net()
    }

    #[test]
    fn sums_are_exact_up_to_the_last_unit_of_128_bits() {
        use Side::{Credit, Debit};
        let net = |side, units| Ok(Net { side, amount: Amount::new(units) });
        let cases: &[Case] = &[
            (&[], net(Debit, 0)),
            (&[(u128::MAX, Debit)], net(Debit, u128::MAX)),
            (&[(u128::MAX, Credit)], net(Credit, u128::MAX)),
            (&[(u128::MAX, Debit), (u128::MAX, Credit)], net(Debit, 0)),
            (&[(u128::MAX, Debit), (u128::MAX, Debit), (u128::MAX, Credit)], net(Debit, u128::MAX)),
            (&[(u128::MAX, Debit), (1, Debit)], Err(AmountError::Overflow)),
            (&[(u128::MAX, Credit), (1, Credit)], Err(AmountError::Overflow)),
            (&[(u128::MAX, Credit), (1, Debit)], net(Credit, u128::MAX - 1)),
            (&[(1 << 32, Debit), (1, Credit)], net(Debit, u128::from(u32::MAX))),
            (&[(1 << 96, Credit), (1, Debit)], net(Credit, (1 << 96) - 1)),
        ];
        for (legs, expected) in cases {
            assert_eq!(sum(legs), *expected, "{legs:?}");
        }
    }

    #[test]
    fn a_net_on_the_wrong_side_is_no_amount() {
        let owed = Net { side: Side::Credit, amount: Amount::new(5) };
        assert_eq!(owed.on(Side::Credit), Ok(Amount::new(5)));
        assert_eq!(owed.on(Side::Debit), Err(AmountError::Negative));
        assert_eq!(Net::ZERO.on(Side::Credit), Ok(Amount::ZERO));
    }
}
