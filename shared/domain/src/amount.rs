//! Money: an unsigned integer of an asset's smallest unit.
//!
//! Decimals exist only at the edge, where they are parsed and printed digit by digit, never through a float.

use std::fmt;

/// An amount in the smallest unit of some asset (wei, token base unit, cent). All arithmetic is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

/// Why a text or a sum is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The text was empty or had something other than digits and one point.
    #[error("an amount is digits with at most one decimal point, without sign, exponent or separators")]
    Malformed,
    /// More decimals than the asset has.
    #[error("the amount has {given} decimals, the asset has {allowed}")]
    TooManyDecimals {
        /// Decimals in the text.
        given: usize,
        /// Decimals of the asset.
        allowed: u8,
    },
    /// The amount does not fit into 128 bits.
    #[error("the amount is larger than 2^128 - 1 base units")]
    Overflow,
    /// The result would be negative.
    #[error("the amount would be negative")]
    Negative,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of `base_units` of the smallest unit.
    #[must_use]
    pub const fn new(base_units: u128) -> Self {
        Self(base_units)
    }

    /// The number of smallest units.
    #[must_use]
    pub const fn base_units(self) -> u128 {
        self.0
    }

    /// Whether this is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or [`AmountError::Overflow`].
    pub const fn plus(self, other: Self) -> Result<Self, AmountError> {
        match self.0.checked_add(other.0) {
            Some(sum) => Ok(Self(sum)),
            None => Err(AmountError::Overflow),
        }
    }

    /// The difference, or [`AmountError::Negative`].
    pub const fn minus(self, other: Self) -> Result<Self, AmountError> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Ok(Self(rest)),
            None => Err(AmountError::Negative),
        }
    }

    /// The product, or [`AmountError::Overflow`].
    pub const fn times(self, factor: u128) -> Result<Self, AmountError> {
        match self.0.checked_mul(factor) {
            Some(product) => Ok(Self(product)),
            None => Err(AmountError::Overflow),
        }
    }

    /// Sixteen bytes, big endian: the wire form.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The amount of sixteen big-endian bytes.
    #[must_use]
    pub const fn from_be_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Parses a decimal text such as `1`, `0.25` or `12.000001` of an asset with `decimals` decimals.
    ///
    /// # Errors
    /// A sign, an exponent, white space, a lone point, more decimals than the asset has, or a value beyond 128 bits.
    pub fn parse(text: &str, decimals: u8) -> Result<Self, AmountError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(AmountError::Malformed),
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(AmountError::Malformed);
        }
        if fraction.len() > usize::from(decimals) {
            return Err(AmountError::TooManyDecimals { given: fraction.len(), allowed: decimals });
        }
        let padding = usize::from(decimals).saturating_sub(fraction.len());
        whole
            .bytes()
            .chain(fraction.bytes())
            .chain(std::iter::repeat_n(b'0', padding))
            .try_fold(0_u128, |value, digit| value.checked_mul(10)?.checked_add(u128::from(digit.wrapping_sub(b'0'))))
            .map(Self)
            .ok_or(AmountError::Overflow)
    }

    /// The exact decimal text for an asset with `decimals` decimals, without trailing zeros after the point.
    #[must_use]
    pub fn to_decimal(self, decimals: u8) -> String {
        let digits = format!("{:0>width$}", self.0, width = usize::from(decimals).saturating_add(1));
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(usize::from(decimals)));
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_or_refused() {
        use AmountError::{Malformed, Overflow, TooManyDecimals};
        let cases: &[(&str, u8, Result<u128, AmountError>)] = &[
            ("0", 18, Ok(0)),
            ("1", 18, Ok(1_000_000_000_000_000_000)),
            ("0.000000000000000001", 18, Ok(1)),
            ("12.5", 6, Ok(12_500_000)),
            ("007.10", 2, Ok(710)),
            ("340282366920938463463374607431768211455", 0, Ok(u128::MAX)),
            ("340282366920938463463374607431768211456", 0, Err(Overflow)),
            ("340282366920938463464", 18, Err(Overflow)),
            ("1.1234567", 6, Err(TooManyDecimals { given: 7, allowed: 6 })),
            ("", 6, Err(Malformed)),
            (".", 6, Err(Malformed)),
            ("1.", 6, Err(Malformed)),
            (".5", 6, Err(Malformed)),
            ("-1", 6, Err(Malformed)),
            ("+1", 6, Err(Malformed)),
            ("1e3", 6, Err(Malformed)),
            ("1,5", 6, Err(Malformed)),
            (" 1", 6, Err(Malformed)),
            ("1.2.3", 6, Err(Malformed)),
            ("NaN", 6, Err(Malformed)),
            ("0x10", 6, Err(Malformed)),
            ("١", 6, Err(Malformed)),
        ];
        for (text, decimals, expected) in cases {
            assert_eq!(Amount::parse(text, *decimals).map(Amount::base_units), *expected, "{text:?}");
        }
    }

    #[test]
    fn printing_and_parsing_are_inverse() {
        for units in [0, 1, 9, 10, 1_000_000, 123_456_789_012_345_678_901_234_567, u128::MAX] {
            for decimals in [0, 1, 6, 18, 36] {
                let text = Amount::new(units).to_decimal(decimals);
                assert_eq!(Amount::parse(&text, decimals), Ok(Amount::new(units)), "{text}");
            }
        }
    }

    #[test]
    fn sums_never_wrap() {
        assert_eq!(Amount::new(u128::MAX).plus(Amount::new(1)), Err(AmountError::Overflow));
        assert_eq!(Amount::ZERO.minus(Amount::new(1)), Err(AmountError::Negative));
        assert_eq!(Amount::new(u128::MAX).times(2), Err(AmountError::Overflow));
    }
}
